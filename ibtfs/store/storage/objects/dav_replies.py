"""What WebDAV servers tell of files and folders: XML, from a server that may mean ill."""

from __future__ import annotations

import hashlib
import os
import re
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import unquote_to_bytes
from xml.parsers import expat

from ibtfs.errors import ObjectExists, ObjectMissing, StorageFailed, StorageFull
from ibtfs.store.storage.objects.client import Found, NotReached

QUESTION = (
    b'<?xml version="1.0" encoding="utf-8"?><propfind xmlns="DAV:"><prop><resourcetype/>'
    b"<getcontentlength/><getlastmodified/><getetag/></prop></propfind>"
)
DEPTH_LIMIT = 64
TEXT_LIMIT = 1 << 16
AHEAD_LIMIT = 1 << 21
"""Bytes that one piece of the XML may have, such as a tag."""
ENTRIES_LIMIT = 10_000_000
SIZE_LIMIT = 1 << 62
ELSEWHERE = {301, 302, 303, 307, 308}
"""What is answered by who sends to another place."""
_MISSING = {404, 409, 410}
_BUSY = {408, 423, 425, 429}
_NOT_BUSY = {501, 505}
_DAV = "DAV: "
_HEAD = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/]*")
_PLAIN = {"getcontentlength", "getlastmodified", "getetag"}


class Malformed(Exception):
    """What was answered is not what WebDAV says; the message is for the user."""


def refusal(status: int, to: str, place: str) -> Exception:
    """What an answer that is none of the good ones says of *place*; *to* is where it sends."""
    if status in _MISSING:
        return ObjectMissing(f"{place}: no such file in the repository")
    if status in _BUSY or (status >= 500 and status not in {507, *_NOT_BUSY}):
        return NotReached(f"the server answers {status}")
    if status == 412:
        return ObjectExists(f"{place}: is there already")
    if status == 507:
        return StorageFull(f"No space left in the repository, writing {place!r}: free some room")
    what = f"refuses it: {status}"
    if status in ELSEWHERE:
        what = f"says that it is elsewhere: {to[:200]!r}"
    elif status == 413:
        what = "takes nothing that is as large: 413 (Apache: see its LimitRequestBody)"
    elif status == 403:
        what = "forbids it"
    return StorageFailed(f"{place}: the server {what}")


class Entry(NamedTuple):
    """A file or a folder: the parts of its path, and what is told of it, as it is told."""

    parts: tuple[str, ...]
    is_folder: bool
    size: str
    changed: str
    tag: str

    def found(self) -> Found:
        """What it says of a file.  Raises Malformed."""
        if not (self.size.isascii() and self.size.isdecimal() and len(self.size) < 20):
            raise Malformed("the size of a file is missing")
        size = int(self.size)
        try:
            changed = parsedate_to_datetime(self.changed).timestamp()
        except (TypeError, ValueError, OverflowError) as error:
            raise Malformed("it does not tell when a file was put") from error
        if size > SIZE_LIMIT or not 0 <= changed < 1 << 33:
            raise Malformed("a size or a time that cannot be")
        # Apache calls it a weak one within a second, and the end is what differs
        tag = self.tag.removeprefix("W/").encode("utf-8", "surrogateescape")
        digest = hashlib.blake2b(tag, digest_size=16).hexdigest() if tag else ""
        return Found(size, int(changed) * 1_000_000_000, digest)


def parts_of(path: str) -> tuple[str, ...]:
    """The names that a path of a URL consists of.  Raises Malformed."""
    raw = path.partition("#")[0].partition("?")[0].split("/")
    parts = tuple(os.fsdecode(unquote_to_bytes(part)) for part in raw if part)
    if any(part in {".", ".."} or "/" in part or "\0" in part for part in parts):
        raise Malformed("a name that cannot be")
    return parts


class Entries:
    """Takes the reply to a question for *base*, piece by piece; then :meth:`close`."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._found: list[Entry] = []
        self._open: list[str] = []
        self._text: list[str] = []
        self._length = self._fed = 0
        self._href = self._status = ""
        self._told: dict[str, str] = {}
        self._propstat: dict[str, str] = {}
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        self._parser = parser

    def feed(self, data: bytes, *, is_last: bool = False) -> None:
        """Take the next piece.  Raises Malformed."""
        try:
            self._parser.Parse(data, is_last)
        except expat.ExpatError as error:
            raise Malformed(f"XML that is none: {expat.ErrorString(error.code)}") from error
        self._fed += len(data)
        if not is_last and self._fed - self._parser.CurrentByteIndex > AHEAD_LIMIT:
            raise Malformed("XML without end")

    def close(self) -> list[Entry]:
        """All that was told of.  Raises Malformed."""
        self.feed(b"", is_last=True)
        return self._found

    def _doctype(self, *_: object) -> None:
        raise Malformed("XML with a document type, which no WebDAV server sends")

    def _start(self, name: str, _: object) -> None:
        self._open.append(name.removeprefix(_DAV) if name.startswith(_DAV) else "")
        self._text, self._length = [], 0
        if len(self._open) > DEPTH_LIMIT:
            raise Malformed("XML that is too deep")
        if len(self._open) == 1 and self._open != ["multistatus"]:
            raise Malformed("XML that tells of no files")
        if self._is_at("multistatus", "response"):
            self._href, self._status, self._told = "", "", {}
        elif self._is_at("response", "propstat"):
            self._propstat = {}
        elif self._is_at("prop", "resourcetype", "collection"):
            self._propstat["collection"] = "yes"

    def _is_at(self, *names: str) -> bool:
        return tuple(self._open[-len(names) :]) == names

    def _characters(self, text: str) -> None:
        self._length += len(text)
        if self._length > TEXT_LIMIT:
            raise Malformed("a text that is too long")
        self._text.append(text)

    def _end(self, _: str) -> None:
        text = "".join(self._text).strip()
        name = self._open[-1]
        if self._is_at("response", "href"):
            self._href = self._href or text
        elif self._is_at("response", "status"):
            self._status = text
        elif self._is_at("propstat", "status"):
            self._propstat["status"] = text
        elif self._is_at("prop", name) and name in _PLAIN:
            self._propstat[name] = text
        elif self._is_at("response", "propstat"):
            if _is_fine(self._propstat.get("status", "")):
                self._told.update(self._propstat)
        elif self._is_at("multistatus", "response"):
            self._add()
        self._text, self._length = [], 0
        self._open.pop()

    def _add(self) -> None:
        if not _is_fine(self._status):
            return  # it went away meanwhile
        if len(self._found) >= ENTRIES_LIMIT:
            raise Malformed("a folder without end")
        if not self._href:
            raise Malformed("something without a name")
        path = _HEAD.sub("", self._href, count=1)
        if path == self._href and not path.startswith("/"):
            path = f"{self._base}/{path}"
        told = self._told
        self._found.append(
            Entry(
                parts_of(path),
                "collection" in told,
                told.get("getcontentlength", ""),
                told.get("getlastmodified", ""),
                told.get("getetag", ""),
            )
        )


def _is_fine(status: str) -> bool:
    """Whether *status*, as in ``HTTP/1.1 200 OK``, says so; it does if there is none."""
    words = status.split()
    return not words or (len(words) > 1 and words[1].startswith("2"))

"""Objects that a WebDAV server keeps.

Servers differ in what they do beside the letter: a range may be ignored, a body that was cut off be
kept as if it were whole, and DELETE takes a folder with all that lies in it.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from typing import BinaryIO
from urllib.parse import quote, urlsplit

from ibtfs.errors import ObjectExists, ObjectMissing, StorageFailed
from ibtfs.store.storage.address import DavAddress
from ibtfs.store.storage.base import UNFINISHED
from ibtfs.store.storage.limited import UNLIMITED, Rate
from ibtfs.store.storage.objects.client import Drop, Found, NotReached, Seen
from ibtfs.store.storage.objects.dav_http import HttpServer, Reply
from ibtfs.store.storage.objects.dav_replies import (
    ELSEWHERE,
    QUESTION,
    Entries,
    Entry,
    Malformed,
    parts_of,
    refusal,
)
from ibtfs.store.storage.objects.dav_stream import DavStream
from ibtfs.store.storage.waiting import RETRY_SECONDS

SAID_LIMIT = 1 << 30
"""Bytes of XML that tell of a folder, at most."""
_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")


class DavClient:
    """What lies at *address*, as ObjectClient says.

    Streams wait for the server *retry_seconds*; objects are sent no faster than *up*.
    """

    copies_to_rename = False

    def __init__(
        self, address: DavAddress, retry_seconds: float = RETRY_SECONDS, up: Rate = UNLIMITED.up
    ) -> None:
        self._address, self._retry_seconds = address, retry_seconds
        self._server = HttpServer(address, up)
        self._base = [os.fsdecode(part) for part in address.path.split(b"/") if part]

    # What there is

    def look(self, key: str) -> Found | None:
        """As ObjectClient says."""
        entry = self._entry(self._path(key), key)
        if entry is None or entry.is_folder:
            return None
        try:
            return entry.found()
        except Malformed as error:
            raise self._wrong(key, error) from error

    def has_folder(self, folder: str) -> bool:
        """As ObjectClient says."""
        entry = self._entry(self._path(folder, is_folder=True), folder)
        return entry is not None and entry.is_folder

    def names(self, folder: str) -> dict[str, Found | None]:
        """As ObjectClient says."""
        path = self._path(folder, is_folder=True)
        here, found = parts_of(path), {}
        try:
            for entry in self._told(path, folder, depth=1) or ():
                if entry.parts[:-1] == here and entry.parts:
                    found[entry.parts[-1]] = None if entry.is_folder else entry.found()
                elif entry.parts != here:
                    raise Malformed("it tells of something else than was asked for")
        except Malformed as error:
            raise self._wrong(folder, error) from error
        return found

    def _entry(self, path: str, key: str) -> Entry | None:
        """What *path* is; None if it is not there.  The slash at its end says nothing."""
        found = self._told(path, key, depth=0)
        if found is None:
            return None
        for entry in found:
            if entry.parts == parts_of(path):
                return entry
        raise self._wrong(key, Malformed("it tells of something else than was asked for"))

    def _told(self, path: str, key: str, *, depth: int) -> list[Entry] | None:
        """What a server tells of *path*, and of what lies in it; None if it is not there."""
        headers = {"Depth": str(depth), "Content-Type": "application/xml; charset=utf-8"}
        with self._server.asked(
            "PROPFIND", path, headers=headers, body=QUESTION, size=len(QUESTION)
        ) as reply:
            if reply.status in {404, 410}:
                return None
            if reply.status in ELSEWHERE and not path.endswith("/"):
                to = urlsplit(reply.header("Location")).path
                if to == f"{path}/":
                    return [Entry(parts_of(path), True, "", "", "")]
            if reply.status == 207:
                return self._entries(reply, path, key)
            refusal = self._refusal(reply, key)
        if reply.status == 400 and path.strip("/") and path.endswith("/"):
            # so some say that it is a file
            found = self._told(path.rstrip("/"), key, depth=0)
            if found is None or not any(entry.is_folder for entry in found):
                return None
        raise refusal

    def _entries(self, reply: Reply, path: str, key: str) -> list[Entry]:
        told, left = Entries(path.rstrip("/")), SAID_LIMIT
        try:
            while piece := reply.read(1 << 16):
                left -= len(piece)
                if left < 0:
                    raise Malformed("XML without end")
                told.feed(piece)
            entries = told.close()
        except Malformed as error:
            if not piece and not reply.has_length:
                raise NotReached("the connection ended") from error
            raise self._wrong(key, error) from error
        reply.end()
        return entries

    def read(self, key: str, offset: int, size: int) -> bytes:
        """As ObjectClient says."""
        pieces = bytearray()
        while len(pieces) < size:
            piece, has_more = self._range(key, offset + len(pieces), size - len(pieces))
            pieces += piece
            if not has_more or not piece:
                break
        return bytes(pieces)

    def end(self, key: str, most: int) -> tuple[Found, bytes] | None:
        """As ObjectClient says."""
        found = self.look(key)
        if found is None:
            return None
        first = max(found.size - most, 0)
        return found, self.read(key, first, found.size - first)

    def below(self, folder: str) -> None:
        """As ObjectClient says: servers may refuse it."""

    def _range(self, key: str, offset: int, size: int) -> tuple[bytes, bool]:
        """Bytes from *offset*, and whether the object has more of those that were asked for."""
        headers = {"Range": f"bytes={offset}-{offset + size - 1}"}
        with self._server.asked("GET", self._path(key), headers=headers) as reply:
            if reply.status == 416:
                reply.end()
                return b"", False
            if reply.status not in {200, 206}:
                raise self._refusal(reply, key)
            if reply.header("Content-Encoding").lower() not in {"", "identity"}:
                raise self._wrong(key, Malformed("bytes that are encoded"))
            if reply.status == 200:
                return self._from_whole(reply, key, offset, size), False
            found = _RANGE.fullmatch(reply.header("Content-Range").strip())
            if found is None:
                raise NotReached("it does not tell which range it gives")  # or its head was cut off
            if int(found[1]) != offset or int(found[2]) < offset:
                raise self._wrong(key, Malformed("another range than was asked for"))
            told = int(found[2]) + 1 - offset
            data = reply.read(min(told, size))
            if len(data) < min(told, size):
                raise NotReached("the connection ended")
            if told <= size:
                reply.end()
            ends = found[3] != "*" and int(found[3]) <= offset + len(data)
            return data, not ends

    def _from_whole(self, reply: Reply, key: str, offset: int, size: int) -> bytes:
        """A range of an object that the server gives from its beginning to its end."""
        reply.skip(offset)
        data = reply.read(size)
        if len(data) < size and not reply.has_length:
            raise NotReached("it does not tell where an object ends")  # or its head was cut off
        if reply.header("Content-Length") == str(offset + len(data)):
            reply.end()
        return data

    # What is changed

    def put(self, key: str, data: bytes) -> None:
        """As ObjectClient says."""
        self.put_whole(key, data, len(data))

    def put_whole(self, key: str, body: bytes | BinaryIO, size: int) -> None:
        """Put *size* bytes, and see that they are there.  Raises as put does."""
        headers = {"Content-Type": "application/octet-stream"}
        with self._server.asked(
            "PUT", self._path(key), headers=headers, body=body, size=size
        ) as reply:
            self._require(reply, key, {200, 201, 204})
        if size:
            found = self.look(key)
            if found is None or found.size != size:
                raise NotReached(f"{found.size if found else 0} of {size} bytes have arrived")

    def stream(self, key: str) -> DavStream:
        """As ObjectClient says."""
        return DavStream(self, key, self._address.shown, self._retry_seconds)

    def rename(
        self, key: str, new: str, *, replace: bool, seen: Seen | None = None, drop: Drop = None
    ) -> None:
        """As ObjectClient says."""
        path = self._path(key)
        # some servers remove what has the name before they look for what is to get it
        if replace and self._entry(path, key) is None:
            raise ObjectMissing(f"{key}: no such file in the repository")
        self._move(path, self._path(new), new, replace=replace)

    def _move(self, path: str, new: str, key: str, *, replace: bool = False) -> None:
        headers = {"Destination": self._server.url(new), "Overwrite": "T" if replace else "F"}
        with self._server.asked("MOVE", path, headers=headers) as reply:
            if reply.status in {200, 201, 204}:
                reply.end()
                return
            refusal = self._refusal(reply, key)
        # what is not there may be forbidden, too
        if isinstance(refusal, StorageFailed) and self._entry(path, key) is None:
            raise ObjectMissing(f"{key}: no such file in the repository")
        raise refusal

    def remove(self, key: str) -> None:
        """As ObjectClient says; a folder is left alone."""
        path = self._path(key)
        entry = self._entry(path, key)
        if entry is not None and not entry.is_folder:
            self._delete(path, key)

    def _delete(self, path: str, key: str) -> None:
        with self._server.asked("DELETE", path) as reply:
            self._require(reply, key, {200, 202, 204, 404, 410})

    def make_folder(self, folder: str) -> None:
        """As ObjectClient says."""
        with self._server.asked("MKCOL", self._path(folder, is_folder=True)) as reply:
            if reply.status in {200, 201, 204}:
                reply.end()
                return
            refusal = self._refusal(reply, folder)
        # what is there is not allowed, and forbidden if it was made just now
        if not isinstance(refusal, StorageFailed) or not self.has_folder(folder):
            raise refusal

    def remove_folder(self, folder: str) -> None:
        """As ObjectClient says.

        DELETE would take what was put there a moment ago.  So the folder gets another name first,
        by which nobody puts anything: what lies in it then goes back.
        """
        path = self._path(folder, is_folder=True)
        if (told := self._told(path, folder, depth=1)) is None or len(told) != 1:
            return
        if not told[0].is_folder:
            return
        aside = f"{folder}.{secrets.token_hex(4)}{UNFINISHED}"
        aside_path = self._path(aside, is_folder=True)
        try:
            self._move(path, aside_path, folder)
        except ObjectMissing:
            return
        names = self.names(aside)
        if names:
            self._bring_back(aside, folder, names)
        else:
            self._delete(aside_path, folder)

    def _bring_back(self, aside: str, folder: str, names: Mapping[str, object]) -> None:
        """Undo that a folder was put aside; one may have been made in its place."""
        try:
            self._move(
                self._path(aside, is_folder=True), self._path(folder, is_folder=True), folder
            )
        except ObjectExists:
            for name in names:
                self.rename(f"{aside}/{name}", f"{folder}/{name}", replace=False)

    # Paths, and what goes wrong

    def _path(self, key: str, *, is_folder: bool = False) -> str:
        parts = [*self._base, *(part for part in key.split("/") if part)]
        path = "/".join(["", *(quote(os.fsencode(part), safe="") for part in parts)])
        return f"{path}/" if is_folder or not parts else path

    def _require(self, reply: Reply, key: str, fine: set[int]) -> None:
        if reply.status not in fine:
            raise self._refusal(reply, key)
        reply.end()

    def _wrong(self, key: str, error: Malformed) -> StorageFailed:
        return StorageFailed(f"{key or self._address.shown}: the server answers wrongly: {error}")

    def _refusal(self, reply: Reply, key: str) -> Exception:
        reply.end()
        return refusal(reply.status, reply.header("Location"), key or self._address.shown)

"""Names that say something by themselves, as they are stored in a sealed repository.

An empty object means what its name says, so whoever could make names could lie: behind each stands
a mark that only a key of the repository makes.  Tags are words, and hidden.

A storage can put back a name that was taken away.  So those of tags, and of what was said of a
point, are of a turn: taken away they are used up, and given again they are of the next one.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import NamedTuple, Protocol

from ibtfs.errors import UsageError
from ibtfs.format.point_list import TURNS
from ibtfs.sealing.keys import SealedKeys
from ibtfs.sealing.primitives import NotAuthentic, hide, reveal

TAG_LIMIT = 128
"""Bytes of a tag: what stands for it must fit a file name."""
_PADDING = 16
_TURN = re.compile(r"[1-9][0-9]{0,5}\Z")


class Speaking(NamedTuple):
    """Which names say something.

    *folders* have empty objects that do, in *points* of the points that they are called as; so does
    one called *file* in any folder within *above*; those in any folder within *tags*, one for each
    point, are words.
    """

    folders: tuple[str, ...]
    above: str
    file: str
    tags: str
    points: str

    def is_marked(self, folder: str, base: str) -> bool:
        """Whether an object *base* in *folder* gets a mark."""
        is_file = folder.startswith(f"{self.above}/") and base == self.file
        return folder in self.folders or is_file

    def has_tags(self, folder: str) -> bool:
        """Whether the names in *folder* are words."""
        return folder.startswith(f"{self.tags}/")


class Withdrawn(Protocol):
    """What was taken from points."""

    def turn(self, point_id: str, name: str) -> int:
        """How often *name* was taken from a point: the first turn of it that is not used up."""
        ...


class Told(NamedTuple):
    """What is said of a point by a name: its *base*, and in which *turn*.

    *is_used_up*: it was taken back, and means nothing.
    """

    base: str
    turn: int
    is_used_up: bool


class SealedNames:
    """How the names of the repository with these *keys* that are *speaking* are stored.

    *withdrawn* are those that say nothing any more.  Threads may share it.
    """

    def __init__(
        self, keys: SealedKeys, speaking: Speaking, withdrawn: Withdrawn | None = None
    ) -> None:
        self._keys, self._speaking, self._withdrawn = keys, speaking, withdrawn

    def stored(self, name: str) -> str:
        """*name* as it is stored when it is new.

        Raises UsageError of a tag that is too long, or was given and taken too often.
        """
        return self.all_stored(name)[0]

    def all_stored(self, name: str) -> list[str]:
        """All that may be stored for *name* in this turn, the newest way first."""
        folder, _, base = name.rpartition("/")
        if self._speaking.has_tags(folder):
            return [f"{folder}/{self._hidden(folder, base, self._turn(name))}"]
        if not self._speaking.is_marked(folder, base):
            return [name]
        turn = self._turn(name)
        way, said = _way(name, turn), _dotted(name, turn)
        newest = self._keys.mark(way)
        others = (mark for mark in self._keys.marks(way) if mark != newest)
        return [f"{said}.{mark}" for mark in (newest, *others)]

    def _turn(self, name: str) -> int:
        """The first turn of *name* that is not used up.  Raises UsageError if there is none left.

        Not of what is said of a point: that is said in the last turn.
        """
        folder, _, base = name.rpartition("/")
        is_tag = self._speaking.has_tags(folder)
        if self._withdrawn is None or not (is_tag or folder == self._speaking.points):
            return 0
        turn = self._withdrawn.turn(folder.rpartition("/")[2] if is_tag else base, name)
        if turn >= TURNS and is_tag:
            raise UsageError(f"{base!r} was given to this point and taken from it too often")
        return min(turn, TURNS - 1)

    def meant(self, folder: str, stored: str) -> str:
        """The name that an object stored in *folder* has.

        Empty if nobody with a key made it, or it was taken back.
        """
        speaking = self._speaking
        if speaking.has_tags(folder) or folder == speaking.points:
            told = self.told(folder, stored)
            return told.base if told is not None and not told.is_used_up else ""
        base, _, mark = stored.rpartition(".")
        is_file = folder.startswith(f"{speaking.above}/") and stored.startswith(speaking.file)
        if is_file or folder in speaking.folders:
            is_right = bool(base) and (not is_file or base == speaking.file)
            return base if is_right and self._keys.is_mark(mark, f"{folder}/{base}") else ""
        return stored

    def told(self, folder: str, stored: str) -> Told | None:
        """What somebody with a key said of a point, stored so in *folder*; None if nobody did."""
        found = None
        if self._speaking.has_tags(folder):
            found = self._revealed(folder, stored)
        elif folder == self._speaking.points:
            found = self._marked(folder, stored)
        if found is None:
            return None
        base, turn = found
        try:
            return Told(base, turn, turn < self._turn(f"{folder}/{base}"))
        except UsageError:
            return Told(base, turn, True)

    def _marked(self, folder: str, stored: str) -> tuple[str, int] | None:
        said, _, mark = stored.rpartition(".")
        base, turn = _split(said)
        is_right = bool(base) and self._keys.is_mark(mark, _way(f"{folder}/{base}", turn))
        return (base, turn) if is_right else None

    def _hidden(self, folder: str, tag: str, turn: int) -> str:
        text = tag.encode("utf-8", "surrogateescape")
        if len(text) > TAG_LIMIT:
            raise UsageError(f"{tag!r} is too long: a tag has at most {TAG_LIMIT} bytes here")
        padded = text + b"\0" * (-len(text) % _PADDING)
        hidden = hide(self._keys.names, padded, _way(folder, turn).encode())
        return _dotted(base64.urlsafe_b64encode(hidden).decode().rstrip("="), turn)

    def _revealed(self, folder: str, stored: str) -> tuple[str, int] | None:
        base, turn = _split(stored)
        try:
            hidden = base64.b64decode(base + "=" * (-len(base) % 4), b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        # base64 has several spellings of some bytes
        if base64.urlsafe_b64encode(hidden).decode().rstrip("=") != base:
            return None
        try:
            padded = reveal(self._keys.names, hidden, _way(folder, turn).encode())
        except NotAuthentic:
            return None
        return padded.rstrip(b"\0").decode("utf-8", "surrogateescape"), turn


def _way(name: str, turn: int) -> str:
    """What of a *turn* of *name* is marked, or bound to what is hidden."""
    return f"{name}\0{turn}" if turn else name


def _dotted(text: str, turn: int) -> str:
    return f"{text}.{turn}" if turn else text


def _split(text: str) -> tuple[str, int]:
    """The inverse of :func:`_dotted`."""
    base, _, turn = text.rpartition(".")
    return (base, int(turn)) if base and _TURN.match(turn) else (text, 0)

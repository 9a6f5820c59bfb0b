"""Names that say something by themselves, as they are stored in a sealed repository.

An empty object means what its name says, so whoever could make names could lie: behind each stands
a mark that only a key of the repository makes.  Tags are words, and hidden.

A storage can put back a name that was taken away.  So those of tags, and of what was said of a
point, can be stored in several ways, and each time one is taken back its way is used up.
"""

from __future__ import annotations

import base64
import binascii
from contextlib import suppress
from typing import NamedTuple, Protocol

from ibtfs.errors import UsageError
from ibtfs.sealing.keys import SealedKeys
from ibtfs.sealing.primitives import NotAuthentic, hide, reveal

TAG_LIMIT = 128
"""Bytes of a tag: what stands for it must fit a file name."""
_PADDING = 16
WAYS = 16
"""So often a name may be taken back and be given again."""


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

    def is_withdrawn(self, point_id: str, way: str) -> bool:
        """Whether a name, in this *way* of storing it, was taken from a point."""
        ...


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
        folder, _, base = name.rpartition("/")
        if self._speaking.is_marked(folder, base):
            return f"{name}.{self._keys.mark(self.way(name))}"
        if self._speaking.has_tags(folder):
            return f"{folder}/{self._hidden(folder, base, self._number(name))}"
        return name

    def all_stored(self, name: str) -> list[str]:
        """All that may be stored for *name*, the newest way first."""
        folder, _, base = name.rpartition("/")
        if not self._speaking.is_marked(folder, base):
            return [self.stored(name)]
        newest = self.stored(name)
        others = (f"{name}.{mark}" for mark in self._keys.marks(self.way(name)))
        return [newest, *(other for other in others if other != newest)]

    def way(self, name: str) -> str:
        """What tells the way in which *name* is stored now from those that are used up."""
        return _way(name, self._number(name))

    def _number(self, name: str) -> int:
        """The number of that way.  Raises UsageError if there is none left, of a tag."""
        folder, _, base = name.rpartition("/")
        is_tag = self._speaking.has_tags(folder)
        if self._withdrawn is None or not (is_tag or folder == self._speaking.points):
            return 0
        point_id = folder.rpartition("/")[2] if is_tag else base
        for number in range(WAYS):
            if not self._withdrawn.is_withdrawn(point_id, _way(name, number)):
                return number
        if is_tag:
            raise UsageError(f"{base!r} was given to this point and taken from it too often")
        return WAYS - 1

    def meant(self, folder: str, stored: str) -> str:
        """The name that an object stored in *folder* has.

        Empty if nobody with a key made it, or it was taken back.
        """
        if self._speaking.has_tags(folder):
            return self._revealed(folder, stored)
        base, _, mark = stored.rpartition(".")
        speaking = self._speaking
        if folder in speaking.folders:
            is_right = bool(base) and self._keys.is_mark(mark, self.way(f"{folder}/{base}"))
            return base if is_right else ""
        if folder.startswith(f"{speaking.above}/") and stored.startswith(speaking.file):
            is_right = base == speaking.file and self._keys.is_mark(mark, f"{folder}/{base}")
            return base if is_right else ""
        return stored

    def _hidden(self, folder: str, tag: str, number: int) -> str:
        text = tag.encode("utf-8", "surrogateescape")
        if len(text) > TAG_LIMIT:
            raise UsageError(f"{tag!r} is too long: a tag has at most {TAG_LIMIT} bytes here")
        padded = text + b"\0" * (-len(text) % _PADDING)
        hidden = hide(self._keys.names, padded, _way(folder, number).encode())
        return base64.urlsafe_b64encode(hidden).decode().rstrip("=")

    def is_used_up(self, folder: str, stored: str) -> bool:
        """Whether *stored* in *folder* was made by who has a key, and was taken back since."""
        if self.meant(folder, stored):
            return False
        if self._speaking.has_tags(folder):
            return self._told(folder, stored) is not None
        base, _, mark = stored.rpartition(".")
        name = f"{folder}/{base}"
        is_noted = bool(base) and folder == self._speaking.points
        return is_noted and any(self._keys.is_mark(mark, _way(name, one)) for one in range(WAYS))

    def _revealed(self, folder: str, stored: str) -> str:
        """The tag that is stored so, if that way is in use."""
        told = self._told(folder, stored)
        if told is None:
            return ""
        try:
            return told[0] if self._number(f"{folder}/{told[0]}") == told[1] else ""
        except UsageError:
            return ""

    def _told(self, folder: str, stored: str) -> tuple[str, int] | None:
        """The tag that is stored so, and the number of the way; None if nobody with a key did."""
        try:
            hidden = base64.b64decode(stored + "=" * (-len(stored) % 4), b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        # base64 has several spellings of some bytes
        if base64.urlsafe_b64encode(hidden).decode().rstrip("=") != stored:
            return None
        for number in range(WAYS):
            with suppress(NotAuthentic):
                padded = reveal(self._keys.names, hidden, _way(folder, number).encode())
                return padded.rstrip(b"\0").decode("utf-8", "surrogateescape"), number
        return None


def _way(name: str, number: int) -> str:
    return f"{name}\0{number}" if number else name

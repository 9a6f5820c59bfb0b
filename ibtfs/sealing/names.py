"""Names that say something by themselves, as they are stored in a sealed repository.

An empty object means what its name says, so whoever could make names could lie: behind each stands
a mark that only a key of the repository makes.  Tags are words, and hidden.
"""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple

from ibtfs.errors import UsageError
from ibtfs.sealing.keys import SealedKeys
from ibtfs.sealing.primitives import NotAuthentic, hide, reveal

TAG_LIMIT = 128
"""Bytes of a tag: what stands for it must fit a file name."""
_PADDING = 16


class Speaking(NamedTuple):
    """Which names say something.

    *folders* have empty objects that do; so does one called *file* in any folder within *above*;
    those in any folder within *tags* are words.
    """

    folders: tuple[str, ...]
    above: str
    file: str
    tags: str

    def is_marked(self, folder: str, base: str) -> bool:
        """Whether an object *base* in *folder* gets a mark."""
        is_file = folder.startswith(f"{self.above}/") and base == self.file
        return folder in self.folders or is_file

    def has_tags(self, folder: str) -> bool:
        """Whether the names in *folder* are words."""
        return folder.startswith(f"{self.tags}/")


class SealedNames:
    """How the names of the repository with these *keys* that are *speaking* are stored.

    Threads may share it.
    """

    def __init__(self, keys: SealedKeys, speaking: Speaking) -> None:
        self._keys, self._speaking = keys, speaking

    def stored(self, name: str) -> str:
        """*name* as it is stored when it is new.  Raises UsageError of a tag that is too long."""
        folder, _, base = name.rpartition("/")
        if self._speaking.is_marked(folder, base):
            return f"{name}.{self._keys.mark(name)}"
        if self._speaking.has_tags(folder):
            return f"{folder}/{self._hidden(folder, base)}"
        return name

    def all_stored(self, name: str) -> list[str]:
        """All that may be stored for *name*, the newest way first."""
        folder, _, base = name.rpartition("/")
        if not self._speaking.is_marked(folder, base):
            return [self.stored(name)]
        newest = self.stored(name)
        others = (f"{name}.{mark}" for mark in self._keys.marks(name))
        return [newest, *(other for other in others if other != newest)]

    def meant(self, folder: str, stored: str) -> str:
        """The name that an object stored in *folder* has; empty if nobody with a key made it."""
        if self._speaking.has_tags(folder):
            return self._revealed(folder, stored)
        base, _, mark = stored.rpartition(".")
        speaking = self._speaking
        if folder in speaking.folders:
            is_right = bool(base) and self._keys.is_mark(mark, f"{folder}/{base}")
            return base if is_right else ""
        if folder.startswith(f"{speaking.above}/") and stored.startswith(speaking.file):
            is_right = base == speaking.file and self._keys.is_mark(mark, f"{folder}/{base}")
            return base if is_right else ""
        return stored

    def _hidden(self, folder: str, tag: str) -> str:
        text = tag.encode("utf-8", "surrogateescape")
        if len(text) > TAG_LIMIT:
            raise UsageError(f"{tag!r} is too long: a tag has at most {TAG_LIMIT} bytes here")
        padded = text + b"\0" * (-len(text) % _PADDING)
        hidden = hide(self._keys.names, padded, folder.encode())
        return base64.urlsafe_b64encode(hidden).decode().rstrip("=")

    def _revealed(self, folder: str, stored: str) -> str:
        try:
            hidden = base64.b64decode(stored + "=" * (-len(stored) % 4), b"-_", validate=True)
            padded = reveal(self._keys.names, hidden, folder.encode())
        except (NotAuthentic, binascii.Error, ValueError):
            return ""
        # base64 has several spellings of some bytes
        is_right = base64.urlsafe_b64encode(hidden).decode().rstrip("=") == stored
        return padded.rstrip(b"\0").decode("utf-8", "surrogateescape") if is_right else ""

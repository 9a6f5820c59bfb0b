"""Indexes as they are stored, in a folder of the local cache: what is far away is fetched once.

The name of an index never means another one, but in copies of a repository that went different
ways.  So each is kept with the token that its object had: by another one it is not there.  Frames
have checksums of their own, with the name and the repository in them, and are compared with these
whenever one is read.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from blake3 import blake3

from ibtfs.format.packing import pack
from ibtfs.store.cache_file import CacheFolder, discard_folder

LIMIT = 512 << 20
"""Bytes of all indexes of a repository."""
MARK = 16
_SLASH = "+"
Token = tuple[int, int, int, int]


def discard_indexes(folder: bytes, repository: bytes) -> None:
    """Remove all indexes of a repository from a cache folder.  Raises OSError."""
    discard_folder(_path(folder, repository))


def _path(folder: bytes, repository: bytes) -> str:
    return f"{os.fsdecode(folder)}/{repository.hex()}.indexes"


class IndexCache:
    """The indexes of one repository; *folder* is the cache folder.  Threads may share it."""

    def __init__(self, folder: bytes, repository: bytes, limit: int = LIMIT) -> None:
        self._files = CacheFolder(_path(folder, repository), limit)

    def get(self, name: str, token: Token) -> memoryview | None:
        """The object *name*, if it had that *token* when it was put here."""
        body = self._files.read(_file(name))
        if body is None or body[:MARK] != _mark(name, token):
            return None
        return body[MARK:]

    def has(self, name: str) -> bool:
        """Whether there may be the object *name*."""
        return self._files.has(_file(name))

    def put(self, name: str, token: Token, data: bytes) -> None:
        """Keep the object *name*, which has that *token*; if it can be written."""
        self._files.write(_file(name), _mark(name, token) + data)

    def drop(self, name: str) -> bool:
        """Have it no more; whether it was there."""
        return self._files.remove(_file(name))

    def keep_only(self, is_wanted: Callable[[str], bool]) -> None:
        """Have no more the objects whose names are not wanted."""
        self._files.keep_only(lambda file: is_wanted(_name(file)))


def _name(file: str) -> str:
    """The object that a file is for."""
    return file.replace(_SLASH, "/")


def _file(name: str) -> str:
    """What the file for an object is called: of names in a repository only ``/`` cannot be kept."""
    return name.replace("/", _SLASH)


def _mark(name: str, token: Token) -> bytes:
    return blake3(pack((name, *token))).digest(MARK)

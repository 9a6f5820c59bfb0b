"""Indexes as they are stored, in a folder of the local cache: what is far away is fetched once.

The name of an index never means another one, but in copies of a repository that went different
ways.  So each is kept with the token that its object had, and the address of the repository: by
another one it is not there.  Frames have checksums of their own, with the name and the repository
in them, and are compared with these whenever one is read.  That the stored one rotted since is not
told by a copy; so it is kept, too, when it was fetched.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from blake3 import blake3

from ibtfs.format.packing import pack
from ibtfs.store.cache_file import CacheFolder, discard_folder

LIMIT, ALL_LIMIT = 512 << 20, 2 << 30
"""Bytes of all indexes of a repository; and of all that were ever used here."""
MARK, TIME = 16, 8
NEVER = float("inf")
_SLASH = "+"
Token = tuple[int, int, int, int]


def discard_indexes(folder: bytes, repository: bytes) -> None:
    """Remove all indexes of a repository from a cache folder.  Raises OSError."""
    discard_folder(_path(folder, repository))


def _path(folder: bytes, repository: bytes) -> str:
    return f"{os.fsdecode(folder)}/{repository.hex()}.indexes"


def _folder(folder: bytes, repository: bytes, limit: int) -> CacheFolder:
    return CacheFolder(_path(folder, repository), limit, max(limit, ALL_LIMIT))


class IndexCache:
    """The indexes of one repository; *folder* is the cache folder.  Threads may share it.

    *address* is where it lies, without a password.
    """

    def __init__(
        self, folder: bytes, repository: bytes, limit: int = LIMIT, address: bytes = b""
    ) -> None:
        self._files, self._address = _folder(folder, repository, limit), address

    def get(self, name: str, token: Token, seconds: float = NEVER) -> memoryview | None:
        """The object *name*, if it had that *token* when it was fetched, so long ago at most."""
        body = self._files.read(_file(name))
        if body is None or not self._is_of(body, name, token, seconds):
            return None
        return body[MARK + TIME :]

    def has(self, name: str, token: Token, seconds: float = NEVER) -> bool:
        """Whether there is likely what :meth:`get` gives; it is not read."""
        return self._is_of(self._files.head(_file(name), MARK + TIME), name, token, seconds)

    def _is_of(self, body: bytes | memoryview, name: str, token: Token, seconds: float) -> bool:
        fetched = int.from_bytes(body[MARK : MARK + TIME], "big")
        return body[:MARK] == self._mark(name, token) and abs(time.time() - fetched) <= seconds

    def put(self, name: str, token: Token, data: bytes) -> None:
        """Keep the object *name*, which has that *token*; if it can be written."""
        head = self._mark(name, token) + int(time.time()).to_bytes(TIME, "big")
        self._files.write(_file(name), head + data)

    def _mark(self, name: str, token: Token) -> bytes:
        return blake3(pack((name, *token, self._address))).digest(MARK)

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

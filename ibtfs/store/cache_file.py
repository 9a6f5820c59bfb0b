"""A file of the local cache: a body, and its digest before it.

It may be deleted at any time; one that belongs to somebody else, or is spoilt, is not there.  What
is remembered of repositories has the same form, and must be written.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from contextlib import suppress

from blake3 import blake3

from ibtfs.errors import StorageFailed

DIGEST_SIZE = 32
LIMIT = 1 << 30
"""Bytes, at most."""
PART_SECONDS = 600.0
"""What is written for longer was left by somebody who was killed."""
TRIES = 5
_PART = re.compile(r"\.[0-9a-f]{12}\Z")


def is_there(path: str) -> bool:
    """Whether there is such a file, whatever it has; so it is where the disk does not tell."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def real_path(path: bytes) -> bytes:
    """*path* without links, as far as it is there."""
    return os.path.realpath(path)


def read_body(path: str) -> memoryview | None:
    """What the file has, if it is this user's and as it was written."""
    try:
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
            if found.st_uid != os.geteuid() or found.st_size > LIMIT:
                return None
            data = file.read()
    except OSError:
        return None
    body = memoryview(data)[DIGEST_SIZE:]
    return body if blake3(body).digest() == data[:DIGEST_SIZE] else None


def write_body(path: str, body: bytes) -> None:
    """Put *body* in the place of what is there, all at once; if it can be written and read."""
    if len(body) <= LIMIT - DIGEST_SIZE:
        with suppress(OSError):
            _replace(path, body, durable=False)


def store_body(path: str, body: bytes) -> None:
    """The same, so that it survives a power cut.  Raises StorageFailed if it cannot be done."""
    try:
        _replace(path, body, durable=True)
    except OSError as error:
        raise StorageFailed(f"{path}: {error.strerror or error}") from error


def _replace(path: str, body: bytes, *, durable: bool) -> None:
    part = f"{path}.{os.urandom(6).hex()}"
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:
            file.write(blake3(body).digest() + body)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(part, path)
        if durable:
            _sync_folder(os.path.dirname(path))
    except OSError:
        with suppress(OSError):
            os.unlink(part)
        raise


def _sync_folder(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_part(name: str) -> bool:
    """Whether a file is one that is being written."""
    return _PART.search(name) is not None


def discard(path: str) -> None:
    """Remove the file, and what was left of writing it.  Raises OSError."""
    folder, name = os.path.split(path)
    for other in os.listdir(folder):
        if other.startswith(name):
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(folder, other))


class CacheFolder:
    """Files of the local cache, by name, in a folder of their own; threads may share it.

    When they have more than *limit* bytes together, those that were used longest ago go; so also
    when those of all folders beside it whose names end as its own have more than *all_limit*.
    """

    def __init__(self, path: str, limit: int, all_limit: int) -> None:
        self._path, self._limit, self._all_limit = path, limit, all_limit
        self._added = limit  # the first that is written has all looked at

    def read(self, name: str) -> memoryview | None:
        """What the file *name* has, as :func:`read_body`."""
        path = f"{self._path}/{name}"
        body = read_body(path)
        if body is not None:
            with suppress(OSError):
                os.utime(path)
        return body

    def head(self, name: str, size: int) -> bytes:
        """The first bytes of what the file *name* has, spoilt or not; none if it is not there."""
        try:
            with open(f"{self._path}/{name}", "rb", buffering=0) as file:
                return file.read(DIGEST_SIZE + size)[DIGEST_SIZE:]
        except OSError:
            return b""

    def write(self, name: str, body: bytes) -> None:
        """Put *body* there, as :func:`write_body`."""
        with suppress(OSError):
            os.makedirs(self._path, mode=0o700, exist_ok=True)
        write_body(f"{self._path}/{name}", body)
        self._added += len(body)
        if self._added > self._limit // 8:
            self._added = 0
            self._trim()

    def remove(self, name: str) -> bool:
        """Have no such file; whether there was one."""
        with suppress(OSError):
            os.unlink(f"{self._path}/{name}")
            return True
        return False

    def keep_only(self, is_wanted: Callable[[str], bool]) -> None:
        """Remove the files whose names are not wanted, and what was left of writing any."""
        with suppress(OSError):
            for name in os.listdir(self._path):
                if is_part(name):
                    self._remove_old(f"{self._path}/{name}")
                elif not is_wanted(name):
                    self.remove(name)

    @staticmethod
    def _remove_old(path: str) -> None:
        with suppress(OSError):
            if abs(time.time() - os.stat(path).st_mtime) > PART_SECONDS:
                os.unlink(path)

    def _trim(self) -> None:
        _trim(_files(self._path), self._limit)
        above, name = os.path.split(self._path)
        end, folders = os.path.splitext(name)[1], list[str]()
        with suppress(OSError):
            folders = [f"{above}/{one}" for one in os.listdir(above) if one.endswith(end)]
        _trim([file for folder in folders for file in _files(folder)], self._all_limit)
        for folder in folders:
            with suppress(OSError):
                os.rmdir(folder)  # of which nothing is left


def _files(folder: str) -> list[tuple[int, int, str]]:
    """The files in *folder*: when each was used, its size, its path."""
    found = []
    with suppress(OSError):
        for entry in os.scandir(folder):
            with suppress(FileNotFoundError):
                known = entry.stat(follow_symlinks=False)
                found.append((known.st_mtime_ns, known.st_size, entry.path))
    return found


def _trim(files: list[tuple[int, int, str]], limit: int) -> None:
    """Remove those that were used longest ago, until the others have no more than *limit*."""
    left = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if left <= limit:
            break
        with suppress(OSError):
            os.unlink(path)
        left -= size


def discard_folder(path: str) -> None:
    """Remove a folder of such files, and what was left of removing it.  Raises OSError.

    Somebody who writes there at the same time makes a new one: it goes by another name first.
    """
    above, name = os.path.split(path)
    with suppress(FileNotFoundError):
        os.rename(path, f"{path}.{os.urandom(6).hex()}")
    for turn in range(TRIES):
        try:
            for other in os.listdir(above):
                if other.startswith(f"{name}.") and is_part(other):
                    _remove_folder(f"{above}/{other}")
            return
        except OSError:
            if turn == TRIES - 1:
                raise


def _remove_folder(path: str) -> None:
    with suppress(FileNotFoundError):
        for name in os.listdir(path):
            with suppress(FileNotFoundError):
                os.unlink(f"{path}/{name}")
        os.rmdir(path)

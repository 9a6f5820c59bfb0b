"""A file of the local cache: a body, and its digest before it.

It may be deleted at any time; one that belongs to somebody else, or is spoilt, is not there.  What
is remembered of repositories has the same form, and must be written.
"""

from __future__ import annotations

import os
from contextlib import suppress

from blake3 import blake3

from ibtfs.errors import StorageFailed

DIGEST_SIZE = 32
LIMIT = 1 << 30
"""Bytes, at most."""


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


def discard(path: str) -> None:
    """Remove the file, and what was left of writing it.  Raises OSError."""
    folder, name = os.path.split(path)
    for other in os.listdir(folder):
        if other.startswith(name):
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(folder, other))

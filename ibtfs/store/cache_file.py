"""A file of the local cache: a body, and its digest before it.

It may be deleted at any time; one that belongs to somebody else, or is spoilt, is not there.
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
    """Whether there is such a file, whatever it has."""
    return os.path.exists(path)


def real_path(path: bytes) -> bytes:
    """*path* without links, as far as it is there."""
    return os.path.realpath(path)


def private_folder(above: bytes, name: str) -> bytes:
    """The folder *name* in the folder *above*, made if it is missing, closed to others.

    Raises StorageFailed.
    """
    folder = above + b"/" + os.fsencode(name)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        if os.stat(folder).st_mode & 0o077:
            os.chmod(folder, 0o700)
    except OSError as error:
        raise StorageFailed(f"{os.fsdecode(folder)!r} cannot be made: {error.strerror}") from error
    return folder


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


def write_body(path: str, body: bytes, *, durable: bool = False) -> None:
    """Put *body* in the place of what is there, all at once; if it can be written and read.

    *durable*: it is to survive a power cut.
    """
    if len(body) > LIMIT - DIGEST_SIZE:
        return
    part = f"{path}.{os.urandom(6).hex()}"
    with suppress(OSError):
        try:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "wb") as file:
                file.write(blake3(body).digest() + body)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(part, path)
        except OSError:
            os.unlink(part)


def discard(path: str) -> None:
    """Remove the file, and what was left of writing it.  Raises OSError."""
    folder, name = os.path.split(path)
    for other in os.listdir(folder):
        if other.startswith(name):
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(folder, other))

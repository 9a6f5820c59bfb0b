"""What SFTP says on the wire: version 3, with OpenSSH's extensions.

draft-ietf-secsh-filexfer-02, and OpenSSH's file PROTOCOL.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from ibtfs.store.storage import pipe

VERSION = 3
INIT, VERSION_REPLY = 1, 2
OPEN, CLOSE, READ, WRITE, LSTAT, FSTAT, SETSTAT = 3, 4, 5, 6, 7, 8, 9
OPENDIR, READDIR, REMOVE, MKDIR, RMDIR, REALPATH, STAT, RENAME = 11, 12, 13, 14, 15, 16, 17, 18
STATUS, HANDLE, DATA, NAME, ATTRS, EXTENDED, EXTENDED_REPLY = 101, 102, 103, 104, 105, 200, 201

FLAG_READ, FLAG_WRITE, FLAG_CREATE, FLAG_TRUNCATE, FLAG_NEW = 1, 2, 8, 16, 32
ATTR_SIZE, ATTR_OWNER, ATTR_MODE, ATTR_TIMES, ATTR_EXTENDED = 1, 2, 4, 8, 0x80000000

OK, EOF, NO_SUCH_FILE, PERMISSION_DENIED, UNSUPPORTED = 0, 1, 2, 3, 8

PACKET_LIMIT = 1 << 20
"""A reply is never longer: OpenSSH's are 256 KiB at most."""


class Malformed(pipe.Malformed):
    """The other side does not speak SFTP."""


class Attributes(NamedTuple):
    """What SFTP tells of a file: *size* in bytes, *mode* as stat has it, *mtime* in seconds."""

    size: int = 0
    mode: int = 0
    mtime: int = 0


def string(data: bytes) -> bytes:
    """A string as it is sent."""
    return struct.pack(">I", len(data)) + data


def number(value: int) -> bytes:
    """A number of four bytes as it is sent."""
    return struct.pack(">I", value)


def mode_attributes(mode: int) -> bytes:
    """Attributes that set permissions, and nothing else."""
    return struct.pack(">II", ATTR_MODE, mode)


NO_ATTRIBUTES = struct.pack(">I", 0)


class Fields:
    """The fields of a reply, one behind the other.  Raises Malformed where they end too soon."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def is_at_end(self) -> bool:
        """Whether all was read."""
        return self._at >= len(self._data)

    def number(self) -> int:
        """The next four bytes."""
        return int.from_bytes(self._take(4), "big")

    def long(self) -> int:
        """The next eight bytes."""
        return int.from_bytes(self._take(8), "big")

    def string(self) -> bytes:
        """The next string."""
        return self._take(self.number())

    def attributes(self) -> Attributes:
        """The next attributes."""
        flags = self.number()
        size = self.long() if flags & ATTR_SIZE else 0
        if flags & ATTR_OWNER:
            self._take(8)
        mode = self.number() if flags & ATTR_MODE else 0
        mtime = 0
        if flags & ATTR_TIMES:
            self._take(4)
            mtime = self.number()
        if flags & ATTR_EXTENDED:
            for _ in range(self.number()):
                self.string()
                self.string()
        return Attributes(size, mode, mtime)

    def _take(self, count: int) -> bytes:
        if count > len(self._data) - self._at:
            raise Malformed("a reply that is too short")
        found = self._data[self._at : self._at + count]
        self._at += count
        return found

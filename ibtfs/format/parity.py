"""Sidecars of parity: how the blocks of what they protect belong together, and their head.

The files that a sidecar protects, each filled up with zeros to whole blocks, are one row of blocks.
It is cut into columns of equal length, and one block of each column, those side by side, are a
*row*, which has blocks of parity of its own: so damage of many blocks in a row of the file hits as
many rows, each once.  FORMAT.rst has the bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from blake3 import blake3

from ibtfs.errors import FormatDamaged
from ibtfs.format.erasure import BLOCKS_LIMIT
from ibtfs.format.packing import pack, unpack_map

MAGIC = b"ibtfsp\r\x1a"
BLOCK_DIGEST = 8
COLUMNS = 100
SMALL_BLOCK, LARGE_BLOCK = 512, 4096
SMALL_TOTAL = COLUMNS * SMALL_BLOCK
"""What has no more bytes is cut into small blocks."""
LEAST_CHECKS = 2
HEAD_LIMIT = 64 << 20
_HEAD = struct.Struct("<8sI")  # magic, size of the body
_CHECKSUM = 16


class Protected(NamedTuple):
    """An object that is protected: its name, its size in bytes, and the digest of all of it."""

    name: str
    size: int
    digest: bytes


class Shape(NamedTuple):
    """How blocks of *block* bytes are arranged: each of *rows* has *columns*, and *checks* more."""

    block: int
    columns: int
    rows: int
    checks: int


def blocks_of(size: int, block: int) -> int:
    """How many blocks of *block* bytes an object of *size* bytes takes."""
    return -(-size // block)


def arranged(sizes: Sequence[int], share: int, *, whole: bool) -> Shape:
    """How objects of *sizes* are protected by *share* percent, 1 to 100.

    With *whole* any one of them may be lost, as far as the code allows that.
    """
    block = SMALL_BLOCK if sum(sizes) <= SMALL_TOTAL else LARGE_BLOCK
    if whole:
        block = SMALL_BLOCK
    counts = [blocks_of(size, block) for size in sizes]
    rows = max(blocks_of(sum(counts), COLUMNS), 1)
    columns = max(blocks_of(sum(counts), rows), 1)
    checks = max(-(-columns * share // 100), LEAST_CHECKS)
    if whole:
        checks = max(checks, blocks_of(max(counts, default=0), rows))
    return Shape(block, columns, rows, min(checks, BLOCKS_LIMIT - columns))


@dataclass(frozen=True)
class ParityHead:
    """What a sidecar says of itself.

    *repository* is the id, *name* its own; *files* are protected, by *share* percent, as *shape*
    says; *digests* are those of all blocks of the files, BLOCK_DIGEST bytes each.
    """

    repository: bytes
    name: str
    share: int
    files: tuple[Protected, ...]
    shape: Shape
    digests: bytes

    @property
    def blocks(self) -> int:
        """How many blocks are protected."""
        return len(self.digests) // BLOCK_DIGEST

    @property
    def checks_size(self) -> int:
        """How many bytes all blocks of parity take, with the digest before each."""
        shape = self.shape
        return shape.rows * shape.checks * (BLOCK_DIGEST + shape.block)

    def digest_of(self, number: int) -> bytes:
        """The digest of block *number*."""
        return self.digests[number * BLOCK_DIGEST : (number + 1) * BLOCK_DIGEST]

    def row(self, number: int) -> Iterator[tuple[int, int]]:
        """The columns of row *number*, and the number of the block in each."""
        rows = self.shape.rows
        return ((column, column * rows + number) for column in range(self.shape.columns))

    def encode(self) -> bytes:
        """The head as it is stored."""
        body = pack(
            {
                "repository": self.repository,
                "name": self.name,
                "share": self.share,
                "files": [tuple(file) for file in self.files],
                "shape": tuple(self.shape),
                "digests": self.digests,
            }
        )
        head = _HEAD.pack(MAGIC, len(body)) + body
        return head + blake3(head).digest(_CHECKSUM)


def head_size(data: bytes, where: str) -> int:
    """How many bytes the head that begins with *data* has.  Raises FormatDamaged."""
    if len(data) < _HEAD.size or not data.startswith(MAGIC):
        raise FormatDamaged(f"{where}: no head")
    size: int = _HEAD.unpack_from(data)[1]
    if size > HEAD_LIMIT:
        raise FormatDamaged(f"{where}: a head beyond the limits of the format")
    return _HEAD.size + size + _CHECKSUM


def decode_head(data: bytes, where: str) -> ParityHead:
    """The head in *data*.  Raises FormatDamaged."""
    if blake3(data[:-_CHECKSUM]).digest(_CHECKSUM) != data[-_CHECKSUM:]:
        raise FormatDamaged(f"{where}: the checksum of the head does not match")
    values = unpack_map(data[_HEAD.size : -_CHECKSUM], where)
    try:
        head = ParityHead(
            values["repository"],
            values["name"],
            values["share"],
            tuple(Protected(*file) for file in values["files"]),
            Shape(*values["shape"]),
            values["digests"],
        )
        good = _is_sound(head)
    except (KeyError, TypeError, ValueError) as error:
        raise FormatDamaged(f"{where}: not the head of a sidecar ({error!r})") from error
    if not good:
        raise FormatDamaged(f"{where}: a head that contradicts itself")
    return head


def _is_sound(head: ParityHead) -> bool:
    block, columns, rows, checks = head.shape
    numbers = (head.share, *head.shape, *(file.size for file in head.files))
    if not all(type(number) is int and number > 0 for number in numbers):
        return False
    texts = (head.name, *(file.name for file in head.files))
    held = (head.repository, head.digests, *(file.digest for file in head.files))
    typed = all(type(text) is str for text in texts) and all(type(one) is bytes for one in held)
    if not typed or block > LARGE_BLOCK or columns + checks > BLOCKS_LIMIT:
        return False
    blocks = sum(blocks_of(file.size, block) for file in head.files)
    return blocks <= columns * rows and len(head.digests) == blocks * BLOCK_DIGEST


def block_digest(data: bytes | memoryview) -> bytes:
    """The digest of a block that is protected."""
    return blake3(data).digest(BLOCK_DIGEST)


def check_digest(number: int, data: bytes) -> bytes:
    """The digest before block *number* of parity, counted row by row."""
    return blake3(struct.pack("<Q", number) + data).digest(BLOCK_DIGEST)

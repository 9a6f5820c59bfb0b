"""The SigVault: digests of the slabs of large contents, from which the next deltas are made.

Of the digest of a slab (:mod:`ibtfs.format.digests`) the first 24 bytes are kept, and 24 zero bytes
of that of a whole slab of zeros.  A content with a base lists only the slabs that differ from its
base's at the same place; one without, that is mostly zeros, those that are not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ibtfs.errors import FormatDamaged, ObjectMissing
from ibtfs.format.digests import SLAB, ZERO_SLAB
from ibtfs.format.frames import SLABS
from ibtfs.format.index import DEPTH_LIMIT, ContentRecord, Reference
from ibtfs.format.packing import expect_ints, pack, unpack_tuple
from ibtfs.store import layout
from ibtfs.store.archives.reader import ArchiveReader
from ibtfs.store.contents.holes import hole_end
from ibtfs.store.contents.reader import Contents
from ibtfs.store.repository import Repository

SLAB_DIGEST = 24
ZERO_DIGEST = bytes(SLAB_DIGEST)
SLABS_A_RECORD = 1 << 16
"""A record lists at most so many slabs, to stay below the limit of a frame."""

BLOCK = 4096
"""Slabs of a block: of 256 MiB."""
READ = 1 << 20


def kept_of(digest: bytes) -> bytes:
    """What the vault keeps of the *digest* of a slab."""
    return ZERO_DIGEST if digest == ZERO_SLAB else digest[:SLAB_DIGEST]


def slab_count(size: int) -> int:
    """How many slabs a content of *size* bytes has."""
    return (size + SLAB - 1) // SLAB


def slab_records(size: int) -> int:
    """How many records of the vault a content of *size* bytes has."""
    return (slab_count(size) + SLABS_A_RECORD - 1) // SLABS_A_RECORD


class SlabDigests:
    """The digests of a content's slabs, in blocks; of blocks that are all zeros there are none.

    So a hole takes no memory, whatever its size.
    """

    def __init__(self, data: bytes | bytearray = b"") -> None:
        self._count = 0
        self._blocks: dict[int, bytearray] = {}
        self.put(0, data)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> bytes:
        """The digest of slab *number*; beyond the last, that of zeros."""
        block = self._blocks.get(number // BLOCK)
        if block is None:
            return ZERO_DIGEST
        first = number % BLOCK * SLAB_DIGEST
        return bytes(block[first : first + SLAB_DIGEST]) or ZERO_DIGEST

    @property
    def data(self) -> bytes:
        """All digests, one behind the other."""
        return self.cut(0, self._count)

    @property
    def is_sparse(self) -> bool:
        """Whether most blocks are zeros."""
        return 2 * len(self._blocks) < self._count // BLOCK

    def cut(self, first: int, last: int) -> bytes:
        """The digests of the slabs from *first*, before *last*."""
        pieces = []
        while first < last:
            stop = min(last, (first // BLOCK + 1) * BLOCK)
            begin, size = first % BLOCK * SLAB_DIGEST, (stop - first) * SLAB_DIGEST
            block = self._blocks.get(first // BLOCK, b"")
            pieces.append(bytes(block[begin : begin + size]).ljust(size, b"\0"))
            first = stop
        return b"".join(pieces)

    def append(self, digest: bytes) -> None:
        """Add the whole digest of the next slab."""
        if digest != ZERO_SLAB:
            self._block(self._count)[:] += kept_of(digest)
        self._count += 1

    def add_zeros(self, count: int) -> None:
        """Add so many slabs of zeros."""
        self._count += count

    def put(self, first: int, digests: bytes | bytearray) -> None:
        """Set the digests of the slabs from *first* on."""
        last = first + len(digests) // SLAB_DIGEST
        self._count, at = max(self._count, last), 0
        while first < last:
            stop = min(last, (first // BLOCK + 1) * BLOCK)
            size = (stop - first) * SLAB_DIGEST
            part = digests[at : at + size]
            if first // BLOCK in self._blocks or any(part):
                begin = first % BLOCK * SLAB_DIGEST
                self._block(first)[begin : begin + size] = part
            first, at = stop, at + size

    def _block(self, number: int) -> bytearray:
        """The block that slab *number* is in, filled up to it."""
        block = self._blocks.setdefault(number // BLOCK, bytearray())
        missing = number % BLOCK * SLAB_DIGEST - len(block)
        if missing > 0:
            block += bytes(missing)
        return block

    def resize(self, count: int) -> None:
        """Cut, or extend by slabs of zeros, to *count* slabs."""
        if count < self._count:
            for number in [n for n in self._blocks if n * BLOCK >= count]:
                del self._blocks[number]
            if count // BLOCK in self._blocks:
                del self._blocks[count // BLOCK][count % BLOCK * SLAB_DIGEST :]
        self._count = count

    def leading_zeros(self) -> int:
        """How many slabs of zeros are in front of the others; 0 if there are no others."""
        for number in sorted(self._blocks):
            for slab in range(number * BLOCK, min((number + 1) * BLOCK, self._count)):
                if self[slab] != ZERO_DIGEST:
                    return slab
        return 0

    def differing(self, base: SlabDigests, first: int, last: int) -> list[int]:
        """The slabs from *first*, before *last*, that are others than those of *base*."""
        found: list[int] = []
        for number in range(first // BLOCK, (last + BLOCK - 1) // BLOCK):
            if self._blocks.get(number) != base._blocks.get(number):
                low, high = max(first, number * BLOCK), min(last, (number + 1) * BLOCK)
                found += [slab for slab in range(low, high) if self[slab] != base[slab]]
        return found


def encode_slabs(digests: SlabDigests, base: SlabDigests | None) -> Iterator[bytes]:
    """The record bodies for *digests*: ``(numbers or None for all, digests)`` each.

    Of those with a *base* only what differs; without, an empty one leaves out slabs of zeros.
    """
    for first in range(0, len(digests), SLABS_A_RECORD):
        last = min(first + SLABS_A_RECORD, len(digests))
        if base is None:
            yield pack((None, digests.cut(first, last)))
        else:
            numbers = digests.differing(base, first, last)
            yield pack((numbers, b"".join(map(digests.__getitem__, numbers))))


def load_slabs(repository: Repository, record: ContentRecord, archive_id: str) -> SlabDigests:
    """The slab digests of a content: through its chain, down to a content that lists all of its.

    Raises FormatDamaged, ObjectMissing.
    """
    parts: list[tuple[ContentRecord, list[_Part]]] = []
    while len(parts) <= DEPTH_LIMIT:
        archive = repository.archive(archive_id)
        listed = _listed(archive, record)
        parts.append((record, listed))
        if record.base is None or all(part.numbers is None for part in listed):
            break
        archive_id, number = record.base
        record = repository.archive(archive_id).content(number)
    else:
        raise FormatDamaged(f"{_name_of(archive_id)}: a chain of bases that is too long")
    digests = SlabDigests()
    where = _name_of(archive_id)
    for link, listed in reversed(parts):
        _overlay(digests, link.size, listed, where)
    return digests


def _name_of(archive_id: str) -> str:
    """How messages name the digests of a content."""
    return f"{layout.archive_object(archive_id, layout.SIGS)}: slabs of a content"


class _Part(NamedTuple):
    """One record of the vault: the slabs that it lists (None: all of its range), and digests."""

    numbers: tuple[int, ...] | None
    digests: bytes


def _listed(archive: ArchiveReader, record: ContentRecord) -> list[_Part]:
    """The vault's records of one content."""
    where = _name_of(archive.id)
    if record.slabs < 0:
        raise FormatDamaged(f"{where}: there are none")
    parts = []
    for part in range(slab_records(record.size)):
        numbers, chosen = unpack_tuple(archive.body(SLABS, record.slabs + part), where, 2)[:2]
        if numbers is not None:
            numbers = expect_ints(numbers, where)
        if type(chosen) is not bytes:
            raise FormatDamaged(f"{where}: not digests")
        parts.append(_Part(numbers, chosen))
    return parts


def _overlay(digests: SlabDigests, size: int, parts: list[_Part], where: str) -> None:
    """Turn *digests* of the base into those of a content of *size* bytes."""
    count = slab_count(size)
    digests.resize(count)
    for first, (numbers, chosen) in zip(range(0, count, SLABS_A_RECORD), parts):
        last = min(first + SLABS_A_RECORD, count)
        rows = range(first, last) if numbers is None else numbers
        if len(chosen) != len(rows) * SLAB_DIGEST:
            raise FormatDamaged(f"{where}: as many digests as slabs are expected")
        if rows and not (first <= min(rows) and max(rows) < last):
            raise FormatDamaged(f"{where}: a slab beyond the end")
        if isinstance(rows, range):
            digests.put(first, chosen)
            continue
        for row, slab in enumerate(rows):
            digests.put(slab, chosen[row * SLAB_DIGEST : (row + 1) * SLAB_DIGEST])


def read_slabs(contents: Contents, ref: Reference, size: int) -> SlabDigests:
    """The slab digests of a content that has none in a vault, from its stored bytes.

    Raises IntegrityError.
    """
    digests = SlabDigests()
    for first in range(0, size, READ):
        if hole_end(contents, ref, first) >= first + READ:
            digests.add_zeros(READ // SLAB)
            continue
        data = contents.read(ref, first, READ)
        for offset in range(0, len(data), SLAB):
            digests.append(contents.digests.slab(data[offset : offset + SLAB]))
    return digests


def head_digest(archive: ArchiveReader, record: ContentRecord) -> bytes:
    """The digest of the first slab that is not zeros, if the content's own record has it."""
    where = _name_of(archive.id)
    try:
        body = archive.body(SLABS, record.slabs)
    except ObjectMissing:
        return b""  # lost, and made again when they are needed
    numbers, chosen = unpack_tuple(body, where, 2)[:2]
    if (numbers is not None and record.base is not None) or type(chosen) is not bytes:
        return b""
    for first in range(0, len(chosen), SLAB_DIGEST):
        digest = chosen[first : first + SLAB_DIGEST]
        if digest != ZERO_DIGEST:
            return digest
    return b""

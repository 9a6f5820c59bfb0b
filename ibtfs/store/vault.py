"""The SigVault: digests of the slabs of large contents, from which the next deltas are made.

A slab is 64 KiB of a content at a multiple of 64 KiB; its digest is 24 bytes of BLAKE3, or 24
zero bytes for a slab of zeros.  A content with a base lists only the slabs that differ from its
base's at the same place.
"""

from __future__ import annotations

from blake3 import blake3

from ibtfs.errors import FormatDamaged
from ibtfs.format.frames import SLABS
from ibtfs.format.index import ContentRecord
from ibtfs.format.packing import expect_ints, pack, unpack_tuple
from ibtfs.store.archive import ArchiveReader
from ibtfs.store.repository import Repository

SLAB = 64 << 10
SLAB_DIGEST = 24
ZERO_DIGEST = bytes(SLAB_DIGEST)
SLABS_A_RECORD = 1 << 16
"""A record lists at most so many slabs, to stay below the limit of a frame."""

_ZEROS = bytes(SLAB)


def slab_digest(data: bytes | memoryview) -> bytes:
    """The digest of one slab, which may be cut short by the end of its content."""
    if data == _ZEROS:
        return ZERO_DIGEST
    return blake3(data).digest(SLAB_DIGEST)


def slab_count(size: int) -> int:
    """How many slabs a content of *size* bytes has."""
    return (size + SLAB - 1) // SLAB


class SlabDigests:
    """The digests of a content's slabs, in one buffer."""

    def __init__(self, data: bytes | bytearray = b"") -> None:
        self.data = bytearray(data)

    def __len__(self) -> int:
        return len(self.data) // SLAB_DIGEST

    def __getitem__(self, number: int) -> bytes:
        first = number * SLAB_DIGEST
        return bytes(self.data[first : first + SLAB_DIGEST])

    def append(self, digest: bytes) -> None:
        """Add the next slab's digest."""
        self.data += digest


def encode_slabs(digests: SlabDigests, base: SlabDigests | None) -> list[bytes]:
    """The record bodies for *digests*: ``(numbers or None for all, digests)`` each."""
    bodies = []
    for first in range(0, len(digests), SLABS_A_RECORD):
        last = min(first + SLABS_A_RECORD, len(digests))
        if base is None:
            numbers, chosen = None, bytes(digests.data[first * SLAB_DIGEST : last * SLAB_DIGEST])
        else:
            numbers = [n for n in range(first, last) if n >= len(base) or digests[n] != base[n]]
            chosen = b"".join(map(digests.__getitem__, numbers))
        bodies.append(pack((numbers, chosen)))
    return bodies


def load_slabs(repository: Repository, record: ContentRecord, archive_id: str) -> SlabDigests:
    """The slab digests of a content, through its chain.

    Raises FormatDamaged, ObjectMissing; FormatDamaged too if some base never had any.
    """
    chain = [(archive_id, record)]
    while record.base is not None:
        archive_id = record.base.archive
        record = repository.archive(archive_id).content(record.base.number)
        if record.depth >= chain[-1][1].depth:
            raise FormatDamaged(f"archives/{archive_id}: a chain of bases that does not descend")
        chain.append((archive_id, record))
    digests = SlabDigests()
    for name, link in reversed(chain):
        _overlay(digests, repository.archive(name), link)
    return digests


def _overlay(digests: SlabDigests, archive: ArchiveReader, record: ContentRecord) -> None:
    """Turn *digests* of the base into those of *record*."""
    where = f"{archive.where}/sigs: slabs of a content"
    count = slab_count(record.size)
    if record.slabs < 0:
        raise FormatDamaged(f"{where}: there are none")
    del digests.data[count * SLAB_DIGEST :]
    for part, first in enumerate(range(0, count, SLABS_A_RECORD)):
        last = min(first + SLABS_A_RECORD, count)
        numbers, chosen = unpack_tuple(archive.body(SLABS, record.slabs + part), where, 2)[:2]
        # grown as records are read: a size that is not true costs no memory
        missing = last * SLAB_DIGEST - len(digests.data)
        digests.data.extend(bytes(max(missing, 0)))
        rows = range(first, last) if numbers is None else expect_ints(numbers, where)
        if type(chosen) is not bytes or len(chosen) != len(rows) * SLAB_DIGEST:
            raise FormatDamaged(f"{where}: as many digests as slabs are expected")
        if isinstance(rows, range):
            digests.data[first * SLAB_DIGEST : last * SLAB_DIGEST] = chosen
            continue
        for row, slab in enumerate(rows):
            if not first <= slab < last:
                raise FormatDamaged(f"{where}: a slab beyond the end")
            digest = chosen[row * SLAB_DIGEST : (row + 1) * SLAB_DIGEST]
            digests.data[slab * SLAB_DIGEST : (slab + 1) * SLAB_DIGEST] = digest


def head_digest(archive: ArchiveReader, record: ContentRecord) -> bytes:
    """The digest of the first slab that is not zeros, if the content's own record has it."""
    where = f"{archive.where}/sigs: slabs of a content"
    numbers, chosen = unpack_tuple(archive.body(SLABS, record.slabs), where, 2)[:2]
    if numbers is not None or type(chosen) is not bytes:
        return b""
    for first in range(0, len(chosen), SLAB_DIGEST):
        digest = chosen[first : first + SLAB_DIGEST]
        if digest != ZERO_DIGEST:
            return digest
    return b""

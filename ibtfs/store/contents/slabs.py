"""The SigVault: digests of the slabs of large contents, from which the next deltas are made.

A slab is 64 KiB of a content at a multiple of 64 KiB, the last one cut short; its digest is 24
bytes of BLAKE3, or 24 zero bytes for a whole slab of zeros.  A content with a base lists only the
slabs that differ from its
base's at the same place.
"""

from __future__ import annotations

from typing import NamedTuple

from blake3 import blake3

from ibtfs.errors import FormatDamaged
from ibtfs.format.frames import SLABS
from ibtfs.format.index import DEPTH_LIMIT, ContentRecord, Reference
from ibtfs.format.packing import expect_ints, pack, unpack_tuple
from ibtfs.store import layout
from ibtfs.store.archives.reader import ArchiveReader
from ibtfs.store.contents.reader import Contents
from ibtfs.store.repository import Repository

SLAB = 64 << 10
SLAB_DIGEST = 24
ZERO_DIGEST = bytes(SLAB_DIGEST)
SLABS_A_RECORD = 1 << 16
"""A record lists at most so many slabs, to stay below the limit of a frame."""

READ = 1 << 20
_ZEROS = bytes(SLAB)


def slab_digest(data: bytes | memoryview) -> bytes:
    """The digest of one slab, which may be cut short by the end of its content."""
    # a memoryview would be compared byte by byte
    if len(data) == SLAB and not data[0] and bytes(data) == _ZEROS:
        return ZERO_DIGEST
    return blake3(data).digest(SLAB_DIGEST)


def slab_count(size: int) -> int:
    """How many slabs a content of *size* bytes has."""
    return (size + SLAB - 1) // SLAB


def slab_records(size: int) -> int:
    """How many records of the vault a content of *size* bytes has."""
    return (slab_count(size) + SLABS_A_RECORD - 1) // SLABS_A_RECORD


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
    del digests.data[count * SLAB_DIGEST :]
    for first, (numbers, chosen) in zip(range(0, count, SLABS_A_RECORD), parts):
        last = min(first + SLABS_A_RECORD, count)
        rows = range(first, last) if numbers is None else numbers
        if len(chosen) != len(rows) * SLAB_DIGEST:
            raise FormatDamaged(f"{where}: as many digests as slabs are expected")
        if rows and not (first <= min(rows) and max(rows) < last):
            raise FormatDamaged(f"{where}: a slab beyond the end")
        missing = last * SLAB_DIGEST - len(digests.data)
        digests.data.extend(bytes(max(missing, 0)))
        if isinstance(rows, range):
            digests.data[first * SLAB_DIGEST : last * SLAB_DIGEST] = chosen
            continue
        for row, slab in enumerate(rows):
            digest = chosen[row * SLAB_DIGEST : (row + 1) * SLAB_DIGEST]
            digests.data[slab * SLAB_DIGEST : (slab + 1) * SLAB_DIGEST] = digest


def read_slabs(contents: Contents, ref: Reference, size: int) -> SlabDigests:
    """The slab digests of a content that has none in a vault, from its stored bytes.

    Raises IntegrityError.
    """
    digests = SlabDigests()
    for first in range(0, size, READ):
        data = contents.read(ref, first, READ)
        for offset in range(0, len(data), SLAB):
            digests.append(slab_digest(data[offset : offset + SLAB]))
    return digests


def head_digest(archive: ArchiveReader, record: ContentRecord) -> bytes:
    """The digest of the first slab that is not zeros, if the content's own record has it."""
    where = _name_of(archive.id)
    numbers, chosen = unpack_tuple(archive.body(SLABS, record.slabs), where, 2)[:2]
    if numbers is not None or type(chosen) is not bytes:
        return b""
    for first in range(0, len(chosen), SLAB_DIGEST):
        digest = chosen[first : first + SLAB_DIGEST]
        if digest != ZERO_DIGEST:
            return digest
    return b""

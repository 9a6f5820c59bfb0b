"""One sidecar: written for objects that are whole, and what it knows of them when they are not."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

from blake3 import blake3

from ibtfs.errors import FormatDamaged, IntegrityError, ObjectMissing, StorageFailed
from ibtfs.format.erasure import parity_of, restored
from ibtfs.format.parity import (
    BLOCK_DIGEST,
    MAGIC,
    ParityHead,
    Protected,
    Shape,
    arranged,
    block_digest,
    blocks_of,
    check_digest,
    decode_head,
    head_size,
)
from ibtfs.store.protection.volume import Patched, Volume
from ibtfs.store.storage.base import HealingStorage, Storage, StoredObject, Upload

WINDOW = 16 << 20
"""Bytes of a volume that are held in memory at once."""
PIECE = 1 << 20
HEADS = 64
"""So many places may look like the beginning of a head; each costs reading what it says it is."""


def no_beat() -> None:
    """Keep no lock fresh."""


def write_sidecar(
    storage: Storage,
    repository: bytes,
    name: str,
    files: Sequence[str],
    share: int,
    *,
    whole: bool = False,
    beat: Callable[[], None] = no_beat,
    replace: Callable[[str], Upload] | None = None,
) -> int:
    """Put the sidecar *name* for objects, which are whole; bytes written.

    *share* is in percent; with *whole* any one of the *files* may be lost.  *beat* is called
    often.  Raises LibraryMissing, ObjectExists, ObjectMissing, ObjectUnreadable, StorageFull,
    StorageFailed, LockLost.
    """
    sizes = [_size(storage, file) for file in files]
    shape = arranged(sizes, share, whole=whole)
    with Volume(storage, list(zip(files, sizes)), shape.block) as volume:
        digests, blocks = _digests(storage, list(zip(files, sizes)), shape.block, beat)
        listed = tuple(map(Protected, files, sizes, digests))
        head = ParityHead(repository, name, share, listed, shape, blocks).encode()
        with (replace or storage.put)(name) as upload:
            upload.write(head)
            for number, check in enumerate(_checks(volume, shape, beat)):
                upload.write(check_digest(number, check))
                upload.write(check)
            upload.write(head)
            upload.finish()
            return upload.size


def _size(storage: Storage, name: str) -> int:
    with storage.open(name) as stored:
        return stored.size


def _digests(
    storage: Storage, files: Sequence[tuple[str, int]], block: int, beat: Callable[[], None]
) -> tuple[list[bytes], bytes]:
    """The digest of each file, and those of all blocks.  Raises IntegrityError, StorageFailed."""
    found, blocks = [], bytearray()
    for name, size in files:
        whole = blake3()
        with storage.open(name) as stored:
            for start in range(0, size, PIECE):
                beat()
                data = stored.read(start, min(PIECE, size - start))
                whole.update(data)
                for place in range(0, len(data), block):
                    blocks += block_digest(data[place : place + block].ljust(block, b"\0"))
        found.append(whole.digest())
    return found, bytes(blocks)


def _checks(volume: Volume, shape: Shape, beat: Callable[[], None]) -> Iterator[bytes]:
    """The blocks of parity, row by row."""
    at_once = max(WINDOW // (shape.block * shape.columns), 1)
    for first in range(0, shape.rows, at_once):
        beat()
        rows = min(at_once, shape.rows - first)
        columns = [
            volume.read(column * shape.rows + first, rows) for column in range(shape.columns)
        ]
        made = parity_of(columns, shape.checks)
        for row in range(rows):
            for check in made:
                yield check[row * shape.block : (row + 1) * shape.block]


class Sidecar:
    """A sidecar that can be read, though it may be damaged itself.

    Raises FormatDamaged where neither of its heads can be read, ObjectMissing, ObjectUnreadable,
    StorageFailed.
    """

    def __init__(self, storage: HealingStorage, name: str) -> None:
        self._storage, self.name = storage, name
        self._stored = storage.open(name)
        try:
            self.head, self._checks_at, self._is_first = _found_head(self._stored)
        except BaseException:
            self._stored.close()
            raise
        shape = self.head.shape
        files = [(file.name, file.size) for file in self.head.files]
        self._volume = Volume(storage, files, shape.block)

    def __enter__(self) -> Sidecar:
        return self

    def __exit__(self, *_: object) -> None:
        self._volume.close()
        self._stored.close()

    def is_intact(self) -> bool:
        """Whether it is as it was written."""
        head = self.head.encode()
        size = self.head.checks_size
        if not self._is_first or self._stored.size != 2 * len(head) + size:
            return False
        shape = self.head.shape
        try:
            if self._stored.read(len(head) + size, len(head)) != head:
                return False
            count = shape.rows * shape.checks
            at_once = max(PIECE // (BLOCK_DIGEST + shape.block), 1)
            return all(
                self._are_intact(first, min(at_once, count - first))
                for first in range(0, count, at_once)
            )
        except (IntegrityError, StorageFailed):
            return False

    def _are_intact(self, first: int, count: int) -> bool:
        """Whether *count* blocks of parity from number *first* on are as they were written."""
        size = BLOCK_DIGEST + self.head.shape.block
        data = memoryview(self._stored.read(self._checks_at + first * size, count * size))
        blocks = (data[number * size : (number + 1) * size] for number in range(count))
        return all(
            check_digest(number, bytes(block[BLOCK_DIGEST:])) == block[:BLOCK_DIGEST]
            for number, block in enumerate(blocks, first)
        )

    def _check(self, number: int) -> bytes | None:
        """Block *number* of parity, None if it is damaged."""
        size = BLOCK_DIGEST + self.head.shape.block
        place = self._checks_at + number * size
        if place < 0:
            return None
        try:
            data = self._stored.read(place, size)
        except (IntegrityError, StorageFailed):
            return None
        digest, block = data[:BLOCK_DIGEST], data[BLOCK_DIGEST:]
        return block if check_digest(number, block) == digest else None

    def erased(self) -> list[int]:
        """The numbers of all blocks that are not what they were."""
        block, head = self.head.shape.block, self.head
        at_once = PIECE // block
        found = []
        for first in range(0, head.blocks, at_once):
            count = min(at_once, head.blocks - first)
            data = memoryview(self._volume.read(first, count))
            for number in range(count):
                part = data[number * block : (number + 1) * block]
                if block_digest(part) != head.digest_of(first + number):
                    found.append(first + number)
        return found

    def damaged(self, erased: Sequence[int]) -> list[int]:
        """The places, among the files of the head, of those that are not what they were."""
        firsts, gone = self._volume.firsts, sorted(erased)
        found, place = [], 0
        for row, file in enumerate(self.head.files):
            is_hit = False
            while place < len(gone) and gone[place] < firsts[row + 1]:
                is_hit, place = True, place + 1
            if is_hit or self._has_other_size(file):
                found.append(row)
        return found

    def _has_other_size(self, file: Protected) -> bool:
        try:
            return _size(self._storage, file.name) != file.size
        except (IntegrityError, StorageFailed):
            return True

    def restored(self, erased: Sequence[int]) -> dict[int, bytes]:
        """The bytes of *erased* blocks, as far as parity gives them.  Raises LibraryMissing."""
        rows: defaultdict[int, set[int]] = defaultdict(set)
        for number in erased:
            rows[number % self.head.shape.rows].add(number)
        found: dict[int, bytes] = {}
        for row, gone in rows.items():
            found.update(self._row(row, gone))
        return found

    def _row(self, row: int, gone: set[int]) -> dict[int, bytes]:
        shape = self.head.shape
        numbers = dict(self.head.row(row))
        blocks = {
            column: self._volume.read(number, 1)
            for column, number in numbers.items()
            if number not in gone
        }
        for check in range(shape.checks):
            if len(blocks) >= shape.columns:
                break
            data = self._check(row * shape.checks + check)
            if data is not None:
                blocks[shape.columns + check] = data
        if len(blocks) < shape.columns:
            return {}
        made = restored(blocks, shape.columns, shape.checks)
        return {number: made[column] for column, number in numbers.items() if number in gone}

    def healed(self, place: int, blocks: Mapping[int, bytes]) -> Patched:
        """The file at *place* as it would be with *blocks* that were made again."""
        return Patched(self._volume, place, blocks)

    def heal(self, place: int, blocks: Mapping[int, bytes]) -> bool:
        """Put the file at *place* among those of the head back as it was; whether that worked.

        *blocks* are those that were made again.  Raises LockLost, StorageFull, StorageFailed.
        """
        file, first = self.head.files[place], self._volume.firsts[place]
        block, digest = self.head.shape.block, blake3()
        count = blocks_of(file.size, block)
        with self._storage.replace(file.name) as upload:
            for start in range(0, count, PIECE // block):
                stop = min(start + PIECE // block, count)
                data = bytearray(self._volume.read(first + start, stop - start))
                for number in range(start, stop):
                    made = blocks.get(first + number)
                    if made is not None:
                        data[(number - start) * block : (number - start + 1) * block] = made
                kept = memoryview(data)[: min(len(data), file.size - start * block)]
                digest.update(kept)
                upload.write(kept)
            if digest.digest() != file.digest:
                upload.abort()
                return False
            upload.finish()
        self._volume.close()
        return True


def _found_head(stored: StoredObject) -> tuple[ParityHead, int, bool]:
    """A head of a sidecar, where its parity begins, and whether the head is the first one.

    Raises FormatDamaged, ObjectUnreadable, StorageFailed.
    """
    for place in itertools.islice(_places(stored), HEADS):
        try:
            size = head_size(stored.read(place, 12), stored.name)
            head = decode_head(stored.read(place, size), stored.name)
        except FormatDamaged:
            continue
        if head.name != stored.name:
            raise FormatDamaged(f"{stored.name}: is the sidecar {head.name}")
        is_first = place < head.checks_size
        return head, place + size if is_first else place - head.checks_size, place == 0
    raise FormatDamaged(f"{stored.name}: no head that can be read")


def _places(stored: StoredObject) -> Iterator[int]:
    """Where a head may begin: at the beginning, and wherever the file says so."""
    yield 0
    for start in range(0, stored.size, PIECE):
        data = stored.read(start, PIECE + len(MAGIC) - 1)
        place = data.find(MAGIC)
        while place >= 0:
            if start + place:
                yield start + place
            place = data.find(MAGIC, place + 1)


def opened(storage: HealingStorage, name: str) -> Sidecar | None:
    """The sidecar called *name*, None if it cannot be read."""
    try:
        return Sidecar(storage, name)
    except (IntegrityError, StorageFailed):
        return None


def is_missing(storage: Storage, name: str) -> bool:
    """Whether there is no object called *name*."""
    try:
        storage.open(name).close()
    except ObjectMissing:
        return True
    except (IntegrityError, StorageFailed):
        return False
    return False

"""Bytes that come from elsewhere, compared with the digest of the content that they are to be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial

from blake3 import blake3

from ibtfs.errors import FormatDamaged, IntegrityError
from ibtfs.format.digests import Digests
from ibtfs.format.index import Reference
from ibtfs.store.contents.holes import Stretch, holes
from ibtfs.store.contents.reader import Contents
from ibtfs.store.repository import Repository

CHUNK = 1 << 20
CHUNK_DIGEST = 16


class VerifiedBytes:
    """The bytes of a content, which *read* (offset, size) gives; its digest is compared here.

    They may change afterwards: each chunk is compared again when it is read.  *what* names them.
    Of *holes*, start and length of each in order, whole chunks are not read, however many they are.
    Raises FormatDamaged if they are others, and what *read* raises.
    """

    def __init__(
        self,
        read: Callable[[int, int], bytes],
        size: int,
        digest: bytes,
        what: str,
        beat: Callable[[], None],
        digests: Digests,
        holes: Iterable[tuple[int, int]] = (),
    ) -> None:
        self._read, self.size, self.what = read, size, what
        self._digests: dict[int, bytes] = {}
        self._holes = list(_whole_chunks(holes, size))
        whole = digests.hasher()
        for start, length, is_hole in self.stretches():
            if is_hole:
                whole.add_zeros(length)
                continue
            for offset in range(start, start + length, CHUNK):
                beat()
                data = read(offset, min(CHUNK, size - offset))
                whole.update(data)
                self._digests[offset // CHUNK] = blake3(data).digest(CHUNK_DIGEST)
        if whole.finish() != digest or read(size, 1):
            raise FormatDamaged(f"{what}: is another content by now")

    def stretches(self) -> Iterator[Stretch]:
        """All of it: holes of whole chunks, and what lies between them."""
        position = 0
        for start, length in [*self._holes, (self.size, 0)]:
            if start > position:
                yield Stretch(position, start - position, is_hole=False)
            if length:
                yield Stretch(start, length, is_hole=True)
            position = start + length

    def read(self, offset: int, size: int) -> bytes:
        """*size* bytes from *offset*.  Raises FormatDamaged if they changed meanwhile."""
        first, end = offset // CHUNK, offset + size
        pieces = []
        for number in range(first, -(-end // CHUNK)):
            start = number * CHUNK
            if number not in self._digests:
                pieces.append(bytes(min(CHUNK, self.size - start)))
                continue
            data = self._read(start, min(CHUNK, self.size - start))
            if blake3(data).digest(CHUNK_DIGEST) != self._digests[number]:
                raise FormatDamaged(f"{self.what}: changed while it was read")
            pieces.append(data)
        return b"".join(pieces)[offset - first * CHUNK : end - first * CHUNK]


def _whole_chunks(holes: Iterable[tuple[int, int]], size: int) -> Iterator[tuple[int, int]]:
    """What of *holes* are whole chunks, those that touch made one; start and length."""
    begin = end = 0
    for start, length in [*holes, (size, 0)]:
        if start > end or not length:
            first, last = -(-begin // CHUNK) * CHUNK, min(end, size) // CHUNK * CHUNK
            if last > first:
                yield first, last - first
            begin = start
        end = start + length


def holes_of(contents: Contents, ref: Reference) -> list[tuple[int, int]]:
    """The holes of a content as its maps tell; none if these cannot be read."""
    try:
        return list(holes(contents, ref))
    except IntegrityError:
        return []


def known_from_repository(
    repository: Repository, wanted: Iterable[Reference], beat: Callable[[], None]
) -> dict[Reference, VerifiedBytes]:
    """The *wanted* contents that can be read though not all that they are built on is there.

    Also by another record with the same digest.
    """
    known: dict[Reference, VerifiedBytes] = {}
    contents = Contents(repository)
    for ref in wanted:
        try:
            record = contents.record(ref)
            read = partial(contents.read, ref)
            known[ref] = VerifiedBytes(
                read,
                record.size,
                record.digest,
                "the repository itself",
                beat,
                contents.digests,
                holes_of(contents, ref),
            )
        except IntegrityError:
            continue
    return known


def known_from_other(
    repository: Repository,
    other: Repository,
    wanted: Iterable[Reference],
    beat: Callable[[], None],
) -> dict[Reference, VerifiedBytes]:
    """The *wanted* contents of *repository* that another one has, found by their digests."""
    known: dict[Reference, VerifiedBytes] = {}
    digests: dict[bytes, list[Reference]] = {}
    for ref in wanted:
        with suppress(IntegrityError):
            record = repository.archive(ref.archive).content(ref.number)
            digests.setdefault(record.digest, []).append(ref)
    contents = Contents(other)
    for archive_id in other.archive_ids():
        beat()
        with suppress(IntegrityError):
            for number, record in other.archive(archive_id).contents():
                for ref in digests.get(record.digest, ()):
                    if ref not in known:
                        read = partial(contents.read, Reference(archive_id, number))
                        with suppress(IntegrityError):
                            known[ref] = VerifiedBytes(
                                read,
                                record.size,
                                record.digest,
                                other.path_shown,
                                beat,
                                repository.keys.digests,
                                holes_of(contents, Reference(archive_id, number)),
                            )
    return known

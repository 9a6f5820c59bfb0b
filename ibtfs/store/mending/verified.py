"""Bytes that come from elsewhere, compared with the digest of the content that they are to be."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

from blake3 import blake3

from ibtfs.errors import FormatDamaged, IntegrityError
from ibtfs.format.digests import ContentHasher
from ibtfs.format.index import Reference
from ibtfs.store.contents.reader import Contents
from ibtfs.store.repository import Repository

CHUNK = 1 << 20
CHUNK_DIGEST = 16


class VerifiedBytes:
    """The bytes of a content, which *read* (offset, size) gives; its digest is compared here.

    They may change afterwards: each chunk is compared again when it is read.  *what* names them.
    Raises FormatDamaged if they are others, and what *read* raises.
    """

    def __init__(
        self,
        read: Callable[[int, int], bytes],
        size: int,
        digest: bytes,
        what: str,
        beat: Callable[[], None],
    ) -> None:
        self._read, self.size, self.what = read, size, what
        self._digests: list[bytes] = []
        whole = ContentHasher()
        for offset in range(0, size, CHUNK):
            beat()
            data = read(offset, min(CHUNK, size - offset))
            whole.update(data)
            self._digests.append(blake3(data).digest(CHUNK_DIGEST))
        if whole.finish() != digest or read(size, 1):
            raise FormatDamaged(f"{what}: is another content by now")

    def read(self, offset: int, size: int) -> bytes:
        """*size* bytes from *offset*.  Raises FormatDamaged if they changed meanwhile."""
        first, end = offset // CHUNK, offset + size
        pieces = []
        for number in range(first, -(-end // CHUNK)):
            start = number * CHUNK
            data = self._read(start, min(CHUNK, self.size - start))
            if blake3(data).digest(CHUNK_DIGEST) != self._digests[number]:
                raise FormatDamaged(f"{self.what}: changed while it was read")
            pieces.append(data)
        return b"".join(pieces)[offset - first * CHUNK : end - first * CHUNK]


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
                read, record.size, record.digest, "the repository itself", beat
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
                                read, record.size, record.digest, other.path_shown, beat
                            )
    return known

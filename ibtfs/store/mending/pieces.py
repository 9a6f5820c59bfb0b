"""Which bytes of payloads are known again, from contents whose bytes are."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from ibtfs.errors import IntegrityError
from ibtfs.format.index import ContentRecord, Reference
from ibtfs.store.contents.reader import WINDOW, Contents
from ibtfs.store.mending.verified import VerifiedBytes
from ibtfs.store.repository import Repository

Found = list[tuple[int, bytes]]
"""Addresses, and the bytes from there on; in order, none overlapping."""


class Giver(Protocol):
    """Has bytes of the data streams of one archive."""

    def give(self, stream: int, start: int, end: int) -> Found:
        """What it has of the addresses from *start* to *end*."""
        ...


class _Piece(NamedTuple):
    """Addresses *start* to *end*, whose bytes are those of *content* from *offset* on."""

    start: int
    end: int
    content: Reference
    offset: int


class ContentGiver:
    """Gives what known contents are made of; *pieces* by stream, sorted."""

    def __init__(
        self, pieces: Mapping[int, list[_Piece]], known: Mapping[Reference, VerifiedBytes]
    ) -> None:
        self._pieces, self._known = pieces, known

    def give(self, stream: int, start: int, end: int) -> Found:
        """As Giver says."""
        pieces = self._pieces.get(stream, [])
        place = bisect.bisect_left(pieces, start - WINDOW, key=lambda piece: piece.start)
        found: Found = []
        for piece in pieces[place:]:
            if start >= end or piece.start >= end:
                break
            low, high = max(start, piece.start), min(end, piece.end)
            if low >= high:
                continue
            try:
                offset = piece.offset + low - piece.start
                found.append((low, self._known[piece.content].read(offset, high - low)))
            except IntegrityError:
                continue
            start = high
        return found


def givers(
    repository: Repository, known: Mapping[Reference, VerifiedBytes]
) -> dict[str, ContentGiver]:
    """By archive, what is known again of its payloads: those of bases and donors, too."""
    contents = Contents(repository)
    records: dict[Reference, ContentRecord] = {}
    pieces: dict[str, dict[int, list[_Piece]]] = {}
    for ref, verified in known.items():
        position = 0
        try:
            for owner, offset, length in contents.segments(ref, 0, verified.size):
                if owner is not None:
                    record = records.get(owner) or contents.record(owner)
                    records[owner] = record
                    start = record.start + offset
                    streams = pieces.setdefault(owner.archive, {})
                    piece = _Piece(start, start + length, ref, position)
                    streams.setdefault(record.stream, []).append(piece)
                position += length
        except IntegrityError:
            continue  # its map, or that of a base, is lost: it can be stored anew
    return {
        archive_id: ContentGiver(
            {stream: sorted(found) for stream, found in streams.items()}, known
        )
        for archive_id, streams in pieces.items()
    }


def first_of(givers: Iterable[Giver], stream: int, start: int, end: int) -> Found:
    """What *givers* have of these addresses, those that come first before the others."""
    found: Found = []
    missing = [(start, end)]
    for giver in givers:
        left = []
        for first, high in missing:
            low = first
            for place, data in giver.give(stream, low, high):
                found.append((place, data))
                if low < place:
                    left.append((low, place))
                low = place + len(data)
            if low < high:
                left.append((low, high))
        missing = left
    return sorted(found, key=lambda item: item[0])

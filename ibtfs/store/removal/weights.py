"""What each record weighs on the disk, summed by the points that need it.

A record weighs its share of the stored frame that it lies in: by bytes.  What belongs to no record,
such as frame tables, is needed as long as anything in its archive is.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ibtfs.errors import FormatDamaged, IntegrityError
from ibtfs.format.frames import CONTENTS, DATA_STREAMS, MAPS, SLABS, STATES
from ibtfs.format.index import LOW, ContentRecord, Reference, decode_record
from ibtfs.format.point import Point
from ibtfs.store.contents.whole import kept_ranges
from ibtfs.store.removal.marking import NEVER, ArchiveMarks, Marking
from ibtfs.store.removal.needed import slab_numbers
from ibtfs.store.removal.shares import (
    DataFile,
    Owners,
    content_bodies,
    data_file,
    frame_weights,
)
from ibtfs.store.removal.spans import Spans
from ibtfs.store.repository import Repository

TOLD = frozenset((CONTENTS, STATES, MAPS, SLABS, *DATA_STREAMS))
"""The streams of which each byte is of some record."""


class ArchiveContents:
    """The contents of one archive, in columns by number: what each has, weighs, and is needed by.

    *sizes* and *lengths* (of payloads) are bytes, *records* and *payloads* bytes on the disk.
    *is_damaged*: some could not be read.
    *needed* are spans of what needs a content, *held* of what needs its payload at least.  *maps*
    and *slabs* are rows of (first record, number of records, content).
    """

    def __init__(self, marks: ArchiveMarks) -> None:
        self.marks, count = marks, len(marks.contents)
        self.sizes, self.lengths = array("q", [0]) * count, array("q", [0]) * count
        self.records, self.payloads = array("d", [0]) * count, array("d", [0]) * count
        self.needed, self.held = array("i", marks.contents), array("i")
        self.maps, self.slabs = array("q"), array("q")
        self.is_damaged = False


@dataclass
class Weights:
    """What a repository's archives weigh: *by_span* bytes by number of span.

    *total* is the size of all files that count, *unknown* what cannot be told of those: it is
    damaged.  *contents* are how many contents points have, *content_bytes* their sizes, each once,
    *payload_bytes* what of them is stored, before compression, and *payload_stored* after it.
    *archives* have what was found out of each, in the order of their places; *links* are pairs of
    a content and what it is built on, each the place of an archive << 32 and a number.
    """

    spans: Spans
    by_span: list[float]
    total: int = 0
    unknown: float = 0.0
    contents: int = 0
    content_bytes: int = 0
    payload_bytes: int = 0
    payload_stored: float = 0.0
    damages: list[str] = field(default_factory=list)
    archives: dict[str, ArchiveContents] = field(default_factory=dict)
    links: list[array[int]] = field(default_factory=list)

    @property
    def unneeded(self) -> float:
        """Bytes of what no point needs."""
        return max(self.total - self.unknown - sum(self.by_span), 0.0)


def weigh(repository: Repository, points: Sequence[Point], spans: Spans) -> Weights:
    """What all archives weigh; *spans* know *points*, and their own place among them.

    Raises IntegrityError if the archive that a point begins with cannot be read at all.
    """
    marking = Marking(repository, spans.joined)
    marking.mark(zip((point.state for point in points), spans.points))
    return _Weighing(repository, marking, spans).weighed()


class _Weighing:
    """One weighing."""

    def __init__(self, repository: Repository, marking: Marking, spans: Spans) -> None:
        self._repository, self._marking, self._spans = repository, marking, spans
        self._result = Weights(spans, [])
        self._found = self._result.archives
        self._order: list[ArchiveContents] = []
        self._places: dict[str, int] = {}
        self._bases: list[array[int]] = []
        """By depth: pairs of a content and its base, each the place of its archive, and number."""
        self._donors = array("q")
        self._told = 0.0

    def weighed(self) -> Weights:
        """Read all archives, hand on what needs what, and sum."""
        result = self._result
        for archive_id in self._repository.archive_ids():
            self._read(archive_id)
        self._hand_on()
        result.by_span = [0.0] * len(self._spans.all)
        for contents in self._order:
            self._sum(contents)
        result.damages += self._marking.damages
        result.damages = list(dict.fromkeys(result.damages))
        # what was joined last of all has weighed nothing yet
        result.by_span += [0.0] * (len(self._spans.all) - len(result.by_span))
        return result

    # What is there

    def _place(self, archive_id: str) -> int:
        """The place of an archive.  Raises IntegrityError."""
        place = self._places.get(archive_id)
        if place is None:
            contents = ArchiveContents(self._marking.archive(archive_id))
            place = self._places[archive_id] = len(self._order)
            self._order.append(contents)
            self._found[archive_id] = contents
        return place

    def _read(self, archive_id: str) -> None:
        """Read the content records of an archive."""
        try:
            place = self._place(archive_id)
        except IntegrityError as error:
            self._result.damages.append(str(error))
            return
        contents = self._order[place]
        try:
            data = data_file(contents.marks)
            for number, body, weight in content_bodies(contents.marks):
                where = f"{contents.marks.where}: content {number}"
                if number >= len(contents.records):
                    raise FormatDamaged(f"{where}: beyond those that its header tells of")
                record = decode_record(body, contents.marks.header, where)
                contents.records[number] = weight
                self._note(contents, number, record, data)
                if record.map_parts:
                    self._link(contents, place, number, record)
        except IntegrityError as error:
            self._damaged(contents, error)

    def _damaged(self, contents: ArchiveContents, error: IntegrityError) -> None:
        contents.is_damaged = True
        self._result.damages.append(str(error))

    def _note(
        self, contents: ArchiveContents, number: int, record: ContentRecord, data: DataFile
    ) -> None:
        """Take down what a content has, and what its payload weighs."""
        kept = [(0, record.length)]
        if record.is_shell:
            ref = Reference(contents.marks.id, number)
            kept = kept_ranges(self._repository, ref, record)
        else:
            contents.sizes[number] = record.size
        for start, end in kept:
            contents.lengths[number] += end - start
            contents.payloads[number] += data.weight(
                record.stream, record.start + start, record.start + end
            )
        if record.map_parts:
            contents.maps.extend((record.map_first, record.map_parts, number))
        slabs = slab_numbers(record)
        if slabs:
            contents.slabs.extend((slabs.start, len(slabs), number))

    def _link(
        self, contents: ArchiveContents, place: int, number: int, record: ContentRecord
    ) -> None:
        """Take down what a content is built on."""
        packed = place << 32 | number
        try:
            for donor in record.donors:
                self._donors.extend((packed, self._place(donor.archive) << 32 | donor.number))
            if record.base is not None:
                while len(self._bases) <= record.depth:
                    self._bases.append(array("q"))
                base = self._place(record.base.archive) << 32 | record.base.number
                self._bases[record.depth].extend((packed, base))
        except IntegrityError as error:
            self._damaged(contents, error)

    # What needs what

    def _hand_on(self) -> None:
        """Who needs a content needs its base, and the payloads of its donors."""
        columns = [contents.needed for contents in self._order]
        for links in reversed(self._bases):  # a base is less deep than what is built on it
            self._join(links, columns, columns)
        for contents in self._order:
            contents.held = array("i", contents.needed)
        self._join(self._donors, columns, [contents.held for contents in self._order])
        self._result.links = [*self._bases, self._donors]

    def _join(self, links: array[int], users: list[array[int]], used: list[array[int]]) -> None:
        joined = self._spans.joined
        for place in range(0, len(links), 2):
            user, other = links[place], links[place + 1]
            span, column = users[user >> 32][user & LOW], used[other >> 32]
            number = other & LOW
            if span != NEVER and number < len(column) and column[number] != span:
                column[number] = joined(column[number], span)

    # What it weighs

    def _sum(self, contents: ArchiveContents) -> None:
        """Add what an archive weighs."""
        marks, result = contents.marks, self._result
        of_archive = self._span_of(contents)
        size, self._told = 0, 0.0
        for kind in marks.reader.kinds:
            try:
                file = marks.reader.file(kind)
                size += file.size
                tables = file.tables.items()
                told = sum(sum(table.sizes) for stream, table in tables if stream in TOLD)
                self._add(of_archive, file.size - told)
                for stream, owners in self._owners(contents):
                    for span, weight in frame_weights(file, stream, owners):
                        self._add(span, weight)
            except IntegrityError as error:
                self._damaged(contents, error)
        self._sum_contents(contents)
        result.total += size
        if contents.is_damaged or marks.is_kept:
            result.unknown += max(size - self._told, 0)

    def _sum_contents(self, contents: ArchiveContents) -> None:
        result = self._result
        rows = zip(
            contents.marks.contents, contents.held, contents.sizes, contents.lengths,
            contents.records, contents.payloads,
        )  # fmt: skip
        for mark, held, size, length, record, payload in rows:
            if mark != NEVER and size:
                result.contents += 1
                result.content_bytes += size
            if held != NEVER:
                self._add(held, record + payload)
                result.payload_bytes += length
                result.payload_stored += payload

    def _add(self, span: int, weight: float) -> None:
        if span != NEVER:
            self._result.by_span[span] += weight
            self._told += weight

    def _span_of(self, contents: ArchiveContents) -> int:
        """What needs anything in an archive."""
        span = contents.marks.kept
        for one in {*contents.held, *contents.marks.states}:
            span = self._spans.joined(span, one)
        by_span = self._result.by_span
        by_span += [0.0] * (len(self._spans.all) - len(by_span))
        return span

    def _owners(self, contents: ArchiveContents) -> Iterator[tuple[int, Owners]]:
        """Who needs which numbers of streams of records, but for contents themselves."""
        yield STATES, Owners([(0, len(contents.marks.states), contents.marks.states)])
        for stream, rows in ((MAPS, contents.maps), (SLABS, contents.slabs)):
            owners = []
            for place in range(0, len(rows), 3):
                first, count, number = rows[place : place + 3]
                # of a mere payload, the map says what of it is kept
                span = contents.needed if contents.sizes[number] else contents.held
                owners.append((first, first + count, span[number]))
            yield stream, Owners(sorted(owners, key=lambda owner: owner[0]))

"""What is to become of each record of a repository when only some of its points are kept.

Of contents there are three kinds: those that stay, all of their payload with them; those of which
a payload stays that others take bytes from, or a part of it (*shells*); and those that go.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from ibtfs.errors import FormatDamaged, IntegrityError
from ibtfs.format.index import ContentRecord, Reference, decode_record, is_plain_body
from ibtfs.store.contents.fold import name_of
from ibtfs.store.removal.marking import NEVER, ArchiveMarks, Marking
from ibtfs.store.removal.rebase import Bases, Rebased, bases_of, joined, payload_used, rebased
from ibtfs.store.repository import Repository

Ranges = list[tuple[int, int]]
"""(start, end) each."""


@dataclass
class ArchivePlan:
    """What is to become of one archive.

    *contents* and *states* have a 1 for each number that stays; *shells* are contents that go but
    for these ranges of their payloads; *rebuilt* those that get another base.  *is_fixed*: it stays
    as it is.  *in_use*: something that stays is built on it as things are today.
    """

    id: str
    contents: bytearray
    states: bytearray
    is_fixed: bool = False
    in_use: bool = False
    shells: dict[int, Ranges] = field(default_factory=dict)
    rebuilt: dict[int, Rebased] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether all of it stays as it is."""
        return self.is_fixed or not (self.rebuilt or 0 in self.contents or 0 in self.states)

    @property
    def is_dead(self) -> bool:
        """Whether nothing of it is needed."""
        return not (self.is_fixed or self.shells or any(self.contents) or any(self.states))


@dataclass
class Plan:
    """What is to become of the archives of a repository.

    *damages* were met on the way: what might hang on them is kept.  *unfit* are contents for whose
    maps, without the bases that go, the format has no room; where they may not keep those, they
    have to be written anew.
    """

    archives: dict[str, ArchivePlan]
    damages: list[str]
    unfit: list[Reference] = field(default_factory=list)


def make_plan(
    repository: Repository,
    marking: Marking,
    *,
    frozen: Collection[str] = (),
    extra: Iterable[Reference] = (),
    all_go: bool = False,
) -> Plan:
    """What becomes of all archives that there are, if what is marked stays.

    The records of *frozen* archives are not rebuilt.  *extra* contents stay, though no row refers
    to them.  *all_go*: no base stays for want of room in a map; that is told as *unfit* instead.
    """
    planner = _Planner(repository, marking, frozenset(frozen), all_go=all_go)
    for ref in extra:
        planner.stay(ref)
    planner.settle_contents()
    return Plan(planner.archives(), marking.damages, planner.unfit)


class _Planner:
    """One plan in the making."""

    def __init__(
        self, repository: Repository, marking: Marking, frozen: frozenset[str], *, all_go: bool
    ) -> None:
        self._repository, self._marking, self._frozen = repository, marking, frozen
        self._all_go = all_go
        self.unfit: list[Reference] = []
        self._waiting: list[Reference] = []
        self._depths: dict[Reference, int] = {}
        self._shells: dict[Reference, Ranges] = {}
        self._rebuilt: dict[Reference, Rebased] = {}
        self._in_use: set[str] = set()

    # What stays

    def _stays(self, ref: Reference) -> bool:
        """Whether a content stays.  Raises IntegrityError if there never was one."""
        contents = self._marking.archive(ref.archive).contents
        if ref.number >= len(contents):
            raise FormatDamaged(f"{name_of(ref)}: is referred to, and never was")
        return contents[ref.number] != NEVER

    def stay(self, ref: Reference) -> None:
        """Have a content stay that no row refers to."""
        if not self._stays(ref):
            self._marking.archive(ref.archive).contents[ref.number] = 0
            self._waiting.append(ref)

    def settle_contents(self) -> None:
        """Find out how each content that stays is to be built, and what it takes from others."""
        # those that are built on nothing first, so that the depth of a base is known
        found = sorted(self._mapped(), key=lambda item: item[1].depth)
        for ref, record in found:
            self._try_to_settle(ref, record)
        while self._waiting:
            self._try_to_settle(self._waiting.pop())

    def _mapped(self) -> Iterator[tuple[Reference, ContentRecord]]:
        """The contents that stay and have a map, with their records."""
        for marks in list(self._marking.archives.values()):
            if marks.is_kept or max(marks.contents, default=NEVER) == NEVER:
                continue
            try:
                yield from list(_mapped_in(marks))
            except IntegrityError as error:
                self._keep_all(marks.id, error)

    def _record(self, ref: Reference) -> ContentRecord:
        return self._repository.archive(ref.archive).content(ref.number)

    def _keep_all(self, archive_id: str, error: IntegrityError) -> None:
        """Keep an archive, and all that it names, for something in it cannot be read."""
        self._marking.damages.append(str(error))
        self._marking.keep(self._marking.archive(archive_id))

    def _try_to_settle(self, ref: Reference, record: ContentRecord | None = None) -> None:
        if self._marking.archive(ref.archive).is_kept:
            return  # and so is all that it is built on
        try:
            self._settle(ref, record or self._record(ref))
        except IntegrityError as error:
            self._keep_all(ref.archive, error)

    def _settle(self, ref: Reference, record: ContentRecord) -> None:
        """Have a content built on what stays.  Raises IntegrityError."""
        bases = bases_of(record, self._record, self._stays)
        going = [self._record(base) for base in bases.going]
        self._in_use.update(base.archive for base in bases.going)
        self._in_use.update(donor.archive for one in (record, *going) for donor in one.donors)
        if bases.going:
            depth = 1
            if bases.stays is not None:
                known = self._depths.get(bases.stays)
                depth += self._record(bases.stays).depth if known is None else known
            new = self._rebased(ref, record, bases, depth)
            if new is not None:
                self._rebuilt[ref] = new
                self._depths[ref] = new.record.depth
                self._use(new)
                return
            if ref in self.unfit:
                return
            for base in bases.going:
                self.stay(base)
        if any(not self._stays(donor) for donor in record.donors):
            extents = self._repository.archive(ref.archive).extents(ref.number, record)
            self._use(Rebased(record, extents, ()))

    def _rebased(
        self, ref: Reference, record: ContentRecord, bases: Bases, depth: int
    ) -> Rebased | None:
        """A content without the bases that go; None if it has to stay as it is."""
        if ref.archive in self._frozen:
            return None
        try:
            new = rebased(self._repository, ref, record, bases, depth)
        except IntegrityError as error:
            self._marking.damages.append(str(error))
            return None
        if new is None and self._all_go:
            self.unfit.append(ref)
        return new

    def _use(self, content: Rebased) -> None:
        """Take note of what a content takes from payloads."""
        used: dict[Reference, Ranges] = {}
        for donor, start, end in payload_used(content.record, content.extents):
            used.setdefault(donor, []).append((start, end))
        for donor, ranges in used.items():
            if not self._stays(donor):
                self._shells[donor] = joined(self._shells.get(donor, []) + ranges)

    # What becomes of archives

    def archives(self) -> dict[str, ArchivePlan]:
        """The plans of all archives that there are."""
        plans = {name: self._archive(name) for name in self._repository.archive_ids()}
        for ref, ranges in self._shells.items():
            if not self._stays(ref):
                plans[ref.archive].shells[ref.number] = ranges
        for ref, new in self._rebuilt.items():
            if not plans[ref.archive].is_fixed:
                plans[ref.archive].rebuilt[ref.number] = new
        return plans

    def _archive(self, archive_id: str) -> ArchivePlan:
        try:
            marks = self._marking.archive(archive_id)
        except IntegrityError as error:
            self._marking.damages.append(str(error))
            return ArchivePlan(archive_id, bytearray(), bytearray(), is_fixed=True)
        return ArchivePlan(
            archive_id,
            _flags(marks.contents),
            _flags(marks.states),
            is_fixed=marks.is_kept,
            in_use=archive_id in self._in_use,
        )


def _mapped_in(marks: ArchiveMarks) -> Iterator[tuple[Reference, ContentRecord]]:
    for number, body in marks.reader.content_bodies():
        where = f"{marks.reader.where}/index: content {number}"
        if number >= len(marks.contents):
            raise FormatDamaged(f"{where}: is one more than there are")
        if marks.contents[number] != NEVER and not is_plain_body(body):
            record = decode_record(body, marks.header, where)
            if record.base is not None or record.donors:
                yield Reference(marks.id, number), record


def _flags(marked: Iterable[int]) -> bytearray:
    return bytearray(mark != NEVER for mark in marked)

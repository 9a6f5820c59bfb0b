"""Marking: which directory states, and which contents of their rows, a set of points leads to.

Each state is read once, and of its rows nothing is looked at but what they refer to.  For that,
archives are gone through each after all that refer to it, and in an archive from the last state to
the first, frame by frame: a state refers only to such as were written before it.  (Where that does
not hold, some are read again.)  What cannot be read keeps all that it might lead to: everything in
the archives that its own archive names.
"""

from __future__ import annotations

import contextlib
from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ibtfs.errors import FormatDamaged, IbtfsError, IntegrityError, ObjectMissing
from ibtfs.format.entry import XATTRS_REF
from ibtfs.format.frames import STATES, STREAMS
from ibtfs.format.index import LOW, IndexHeader, Reference
from ibtfs.format.packing import unpack, unpack_bodies
from ibtfs.store import layout
from ibtfs.store.archives.reader import ArchiveReader
from ibtfs.store.removal.order import dependents_first
from ibtfs.store.repository import Repository

_FORMAT, _REGULAR = 0o170000, 0o100000
NEVER = -1
"""The mark of what was not come to."""


class ArchiveMarks:
    """What was marked in one archive: the mark of each state, and of each content.

    *contents* are those that rows refer to; what these are built on is not marked here.  *waiting*
    has a 1 for each state whose mark was not handed on yet.  *kept* is the mark of what cannot be
    read and leads here, so that all of it has to stay as it is.  *where* is how messages name it.
    """

    def __init__(self, repository: Repository, header: IndexHeader) -> None:
        self._repository, self.header = repository, header
        self.where = layout.archive_object(header.archives[0], layout.INDEX)
        self.states = array("i", [NEVER]) * header.states
        self.contents = array("i", [NEVER]) * header.contents
        self.waiting = bytearray(header.states)
        self.table: list[ArchiveMarks | None] | None = None
        self.kept = NEVER

    @property
    def id(self) -> str:
        """The archive's id."""
        return self.header.archives[0]

    @property
    def reader(self) -> ArchiveReader:
        """The archive; not held, for there may be more than can be open at a time."""
        return self._repository.archive(self.id)

    @property
    def is_used(self) -> bool:
        """Whether anything of it was come to."""
        return max(self.states, default=NEVER) > NEVER or max(self.contents, default=NEVER) > NEVER

    @property
    def is_kept(self) -> bool:
        """Whether all of it has to stay as it is, for something that leads here is damaged."""
        return self.kept != NEVER


def first_come(old: int, _: int) -> int:
    """The mark of what two marks come to, if one is as good as the other."""
    return old


class Marking:
    """Marks what points lead to; used by one thread.

    What several marks come to gets the one that *joined* makes of two; it must not matter in which
    order they come.  *untold* are archives that points lead to, or may, and that are there, but do
    not say what they lead to: nothing at all may go then.

    Raises IntegrityError of a point whose archive's header cannot be read: nothing can be told of
    such a repository, unless a machine made it that only writes; StorageFailed where the disk does
    not give something.
    """

    def __init__(
        self, repository: Repository, joined: Callable[[int, int], int] = first_come
    ) -> None:
        self._repository, self._joined = repository, joined
        self.archives: dict[str, ArchiveMarks] = {}
        self.damages: list[str] = []
        self.untold: dict[str, IntegrityError] = {}
        self._unreadable: dict[str, IntegrityError] = {}
        self._machines: set[tuple[str, int]] = set()

    def archive(self, archive_id: str) -> ArchiveMarks:
        """The marks of one archive.  Raises IntegrityError if its header cannot be read."""
        marks = self.archives.get(archive_id)
        if marks is None:
            header = self._repository.archive(archive_id).header
            marks = self.archives[archive_id] = ArchiveMarks(self._repository, header)
        return marks

    def mark(self, roots: Iterable[tuple[Reference, int]]) -> None:
        """Mark directory states, each with its mark, and all that they lead to."""
        for root, mark in roots:
            try:
                marks = self.archive(root.archive)
            except IntegrityError as error:
                if not self.machine(root.archive):
                    raise
                self.keep_machine(self.machine(root.archive), error, mark)
                continue
            if root.number < len(marks.states):
                self._reach(marks, root.number, mark)
            else:
                self._damaged(marks, _gone(marks, root.number), mark)
        order = dependents_first(self._repository, self._repository.archive_ids(), self.damages)
        while self._sweep(order):
            pass

    def _sweep(self, order: Iterable[str]) -> bool:
        """Hand on the marks of all states that wait; whether there were any."""
        found = False
        for archive_id in [*order, *self.archives]:
            marks = self.archives.get(archive_id)
            if marks is not None and 1 in marks.waiting:
                found = True
                for number, body in self._bodies(marks):
                    self._expand(marks, number, body)
        return found

    def _bodies(self, marks: ArchiveMarks) -> Iterator[tuple[int, bytes]]:
        """The states of an archive that wait, the last first; they wait no more then."""
        waiting = marks.waiting
        place = len(waiting)
        try:
            file = marks.reader.file(layout.INDEX)
        except IntegrityError as error:
            self._all_damaged(marks, 0, place, error)
            return
        table = file.table(STATES)
        for row in reversed(range(len(table.starts))):
            start = table.starts[row]
            end = min(start + table.counts[row], len(waiting))
            self._all_damaged(marks, end, place)
            place = min(start, place)
            if waiting.find(1, start, end) < 0:
                continue
            where = f"{file.name}: {STREAMS[STATES]} from {start}"
            try:
                bodies = unpack_bodies(file.frame(STATES, row).raw, table.counts[row], where)
            except IntegrityError as error:
                self._all_damaged(marks, start, end, error)
                continue
            for number in reversed(range(start, end)):
                if waiting[number]:
                    body = bodies[number - start]
                    if body is None:
                        self._all_damaged(marks, number, number + 1)
                    else:
                        waiting[number] = 0
                        yield number, body
        self._all_damaged(marks, 0, place)

    def _all_damaged(
        self, marks: ArchiveMarks, start: int, end: int, error: IntegrityError | None = None
    ) -> None:
        """Some states cannot be read, or are gone: those that are waited for are damage."""
        while (number := marks.waiting.find(1, start, end)) >= 0:
            marks.waiting[number] = 0
            self._damaged(marks, error or _gone(marks, number), marks.states[number])

    def _damaged(self, marks: ArchiveMarks, error: IntegrityError, mark: int) -> None:
        if str(error) not in self.damages[-1:]:
            self.damages.append(str(error))
        self.keep(marks, mark)

    def _reach(self, marks: ArchiveMarks, number: int, mark: int) -> None:
        """Mark a state.  Raises IndexError if its archive has none of that number."""
        old = marks.states[number]
        new = mark if old == NEVER else self._joined(old, mark)
        if new != old:
            marks.states[number] = new
            marks.waiting[number] = 1

    def _expand(self, marks: ArchiveMarks, number: int, body: bytes) -> None:
        """Mark what the rows of one state, or its pages, refer to.

        What is not as it should be is damage: the shape of a state is told by the errors of taking
        it apart, for looking first would take longer than all else here.
        """
        where = f"{marks.where}: state {number}"
        table: Any = marks.table or self._table(marks)
        mark = marks.states[number]
        try:
            value = unpack(body, where)
            if value[0]:
                if value[0] != 1:
                    raise FormatDamaged(f"{where}: of a kind that is not known here")
                for page in value[1]:
                    self._reach(table[page[0] >> 32], page[0] & LOW, mark)
            else:
                self._expand_page(table, value, mark)
        except IntegrityError as error:
            self._damaged(marks, error, mark)
        except (TypeError, IndexError, AttributeError, KeyError) as error:
            what = FormatDamaged(f"{where}: not a state, or refers to nothing ({error})")
            self._damaged(marks, what, mark)

    def _expand_page(self, table: Any, value: Any, mark: int) -> None:
        """Mark what the rows of a page refer to."""
        known = {NEVER: mark, mark: mark}
        for stamp, ref in zip(value[1], value[2]):
            kind = type(ref)
            if kind is int:
                if stamp[1] & _FORMAT == _REGULAR:
                    contents = table[ref >> 32].contents
                    old = contents[ref & LOW]
                    if old != mark:
                        new = known.get(old)
                        contents[ref & LOW] = self._known(known, old, mark) if new is None else new
            elif kind is tuple:
                self._reach(table[ref[0] >> 32], ref[0] & LOW, mark)
        for extras in value[3].values():
            if XATTRS_REF in extras:
                packed = extras[XATTRS_REF]
                contents = table[packed >> 32].contents
                contents[packed & LOW] = self._known(known, contents[packed & LOW], mark)

    def _known(self, known: dict[int, int], old: int, mark: int) -> int:
        """What *old* and *mark* make; of one page, two marks are joined once."""
        if old not in known:
            known[old] = self._joined(old, mark)
        return known[old]

    def _table(self, marks: ArchiveMarks) -> list[ArchiveMarks | None]:
        """The archives that numbers in an index refer to.

        None of those that are needed no more, and of those that cannot be read: whether anything
        that is needed refers there will show.
        """
        marks.table = list(map(self._found, marks.header.archives))
        return marks.table

    def machine(self, archive_id: str) -> str:
        """What tells the machine that only writes and made an archive, if its name tells of one."""
        name = layout.archive_object(archive_id, layout.INDEX)
        author = self._repository.keys.author_of(name)
        return author.tag if author else ""

    def keep_machine(self, tag: str, error: IbtfsError, mark: int = 0) -> None:
        """Keep all that a machine has made that only writes, for something of it cannot be read.

        It leads to nothing else; so what others have made goes all the same.
        """
        if str(error) not in self.damages:
            self.damages.append(str(error))
        if (tag, mark) in self._machines:
            return
        self._machines.add((tag, mark))
        for name in self._repository.archive_ids():
            if self.machine(name) == tag:
                with contextlib.suppress(IntegrityError):  # that stays, and its damage is told
                    self.keep(self.archive(name), mark)

    def _found(self, archive_id: str) -> ArchiveMarks | None:
        try:
            return self.archive(archive_id) if archive_id else None
        except ObjectMissing:
            return None
        except IntegrityError as error:
            self._unreadable[archive_id] = error
            return None

    def keep(self, marks: ArchiveMarks, mark: int = 0) -> None:
        """Keep an archive as it is, and all that anything in it may lead to."""
        waiting = [marks]
        while waiting:
            kept = waiting.pop()
            new = mark if kept.kept == NEVER else self._joined(kept.kept, mark)
            if new == kept.kept:
                continue
            kept.kept = new
            known = {NEVER: mark}
            for marked in (kept.states, kept.contents):
                for number, old in enumerate(marked):
                    marked[number] = self._known(known, old, mark)
            waiting += filter(None, kept.table or self._table(kept))
            for name in kept.header.archives:
                if name in self._unreadable and self.machine(name):
                    self.keep_machine(self.machine(name), self._unreadable[name], mark)
                elif name in self._unreadable:
                    self.untold[name] = self._unreadable[name]


def _gone(marks: ArchiveMarks, number: int) -> ObjectMissing:
    return ObjectMissing(f"{marks.where}: record {number} of the states is gone")


def mark_points(repository: Repository, roots: Iterable[Reference]) -> Marking:
    """The marks of all that directory states lead to: 0."""
    marking = Marking(repository)
    marking.mark((root, 0) for root in roots)
    return marking

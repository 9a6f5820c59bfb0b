"""Marking: which directory states, and which contents of their rows, a set of points leads to.

Each state is read once, and of its rows nothing is looked at but what they refer to.  What cannot
be read keeps all that it might lead to: everything in the archives that its own archive names.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Any

from ibtfs.errors import FormatDamaged, IntegrityError
from ibtfs.format.entry import XATTRS_REF
from ibtfs.format.frames import STATES
from ibtfs.format.index import LOW, IndexHeader, Reference
from ibtfs.format.packing import unpack
from ibtfs.store.archives.reader import ArchiveReader
from ibtfs.store.repository import Repository

_FORMAT, _REGULAR = 0o170000, 0o100000
NEVER = -1
"""The mark of what was not come to."""


class ArchiveMarks:
    """What was marked in one archive: of each state and each content the turn in which it was.

    *contents* are those that rows refer to; what these are built on is not marked here.  *is_kept*
    says that all of it has to stay as it is, for something that leads here cannot be read.
    """

    def __init__(self, reader: ArchiveReader, header: IndexHeader) -> None:
        self.reader, self.header = reader, header
        self.states = array("i", [NEVER]) * header.states
        self.contents = array("i", [NEVER]) * header.contents
        self.table: list[ArchiveMarks | None] | None = None
        self.is_kept = False

    @property
    def id(self) -> str:
        """The archive's id."""
        return self.header.archives[0]


class Marking:
    """Marks what points lead to, turn by turn; used by one thread.

    Raises IntegrityError of a point whose archive's header cannot be read: nothing can be told of
    such a repository; StorageFailed where the disk does not give something.
    """

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self.archives: dict[str, ArchiveMarks] = {}
        self.damages: list[str] = []

    def archive(self, archive_id: str) -> ArchiveMarks:
        """The marks of one archive.  Raises IntegrityError if its header cannot be read."""
        marks = self.archives.get(archive_id)
        if marks is None:
            reader = self._repository.archive(archive_id)
            marks = self.archives[archive_id] = ArchiveMarks(reader, reader.header)
        return marks

    def mark(self, root: Reference, turn: int = 0) -> None:
        """Mark the directory state *root* and all that it leads to, if they are not marked yet.

        Of what is marked, *turn* is kept.
        """
        waiting = [(self.archive(root.archive), root.number)]
        while waiting:
            marks, number = waiting.pop()
            if number < len(marks.states):
                if marks.states[number] != NEVER:
                    continue
                marks.states[number] = turn
            try:
                self._expand(marks, number, turn, waiting)
            except IntegrityError as error:
                self.damages.append(str(error))
                self.keep(marks, turn)

    def _expand(
        self, marks: ArchiveMarks, number: int, turn: int, waiting: list[tuple[ArchiveMarks, int]]
    ) -> None:
        """Mark what the rows of one state, or its pages, refer to.

        What is not as it should be ends in FormatDamaged: the shape of a state is told by the
        errors of taking it apart, for looking first would take longer than all else here.
        """
        where = f"{marks.reader.where}/index: state {number}"
        table: Any = marks.table or self._table(marks)
        value = unpack(marks.reader.body(STATES, number), where)
        try:
            if value[0]:
                if value[0] != 1:
                    raise FormatDamaged(f"{where}: of a kind that is not known here")
                waiting += [(table[page[0] >> 32], page[0] & LOW) for page in value[1]]
                return
            for stamp, ref in zip(value[1], value[2]):
                kind = type(ref)
                if kind is int:
                    if stamp[1] & _FORMAT == _REGULAR:
                        contents = table[ref >> 32].contents
                        if contents[ref & LOW] == NEVER:
                            contents[ref & LOW] = turn
                elif kind is tuple:
                    waiting.append((table[ref[0] >> 32], ref[0] & LOW))
            for extras in value[3].values():
                if XATTRS_REF in extras:
                    packed = extras[XATTRS_REF]
                    contents = table[packed >> 32].contents
                    if contents[packed & LOW] == NEVER:
                        contents[packed & LOW] = turn
        except (TypeError, IndexError, AttributeError, KeyError) as error:
            raise FormatDamaged(f"{where}: not a state, or refers to nothing ({error})") from error

    def _table(self, marks: ArchiveMarks) -> list[ArchiveMarks | None]:
        """The archives that numbers in an index refer to.

        None of those that are needed no more, and of those that cannot be read: whether anything
        that is needed refers there will show.
        """
        marks.table = list(map(self._found, marks.header.archives))
        return marks.table

    def _found(self, archive_id: str) -> ArchiveMarks | None:
        try:
            return self.archive(archive_id) if archive_id else None
        except IntegrityError:
            return None

    def keep(self, marks: ArchiveMarks, turn: int = 0) -> None:
        """Keep an archive as it is, and all that anything in it may lead to."""
        waiting = [marks]
        while waiting:
            kept = waiting.pop()
            if kept.is_kept:
                continue
            kept.is_kept = True
            for marked in (kept.states, kept.contents):
                for number, mark in enumerate(marked):
                    if mark == NEVER:
                        marked[number] = turn
            waiting += filter(None, kept.table or self._table(kept))


def mark_points(repository: Repository, roots: Iterable[Reference]) -> Marking:
    """The marks of all that directory states lead to; the turn is the place in *roots*."""
    marking = Marking(repository)
    for turn, root in enumerate(roots):
        marking.mark(root, turn)
    return marking

"""What a directory ever held, and what of it is gone, read little by little, newest states first.

A reader who has no patience left gets what is known by then; the next one goes on from there.
"""

from __future__ import annotations

import abc
import stat
import threading
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

from ibtfs.errors import EntryNotFound, IntegrityError
from ibtfs.format.acl import ACCESS_ACL
from ibtfs.format.entry import HASH_SIZE, MODE, NAME, XATTRS
from ibtfs.format.point import Point
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import (
    Directory,
    Entry,
    Gap,
    StateRef,
    StoredPage,
    is_missing,
)
from ibtfs.store.trees.patience import Patience


class DatedState(NamedTuple):
    """A directory state, and the newest point that has it at some path."""

    point: Point
    state: StateRef


class Last(NamedTuple):
    """An entry as the newest point that has it shows it."""

    point: Point
    entry: Entry


class Past:
    """What a path was in the points that were added, newest first.

    *mode* are the permissions that it had, as a directory, in all of them: what shows names of
    many points at once may not let in anybody whom one of them kept out.  *uid* is None when it
    had several owners: then none of them may.  *failed* says that in some point it is not known.
    """

    __slots__ = ("_mode", "_private", "failed", "gid", "states", "uid", "was_other")

    def __init__(self) -> None:
        self.states: dict[bytes, DatedState] = {}
        self.was_other = self.failed = False
        self.uid: int | None = 0
        self.gid = 0
        self._mode, self._private = 0o7777, False

    def add(self, point: Point, entry: Entry) -> None:
        """Add what the path is in *point*, which is older than those before."""
        if entry.state is None:
            self.was_other = True
            return
        if not self.states:
            self.uid, self.gid = entry.uid, entry.gid
        digest = entry.state.digest[:HASH_SIZE]
        self.states.setdefault(digest, DatedState(point, entry.state))
        self._mode &= entry.mode
        # whoever is the owner, or is named in a list, was somebody else at another time
        moved = (entry.uid, entry.gid) != (self.uid, self.gid)
        if entry.uid != self.uid:
            self.uid = None
        listed = entry.xattrs_content is not None or ACCESS_ACL in entry.extras.get(XATTRS, ())
        self._private = self._private or moved or listed

    def copy_for_owner(self) -> Past:
        """The same for attributes, closed to everybody else: not all may have been added yet."""
        copy = Past()
        copy.states, copy.was_other, copy.uid, copy.gid = (
            self.states, self.was_other, self.uid, self.gid
        )  # fmt: skip
        copy._mode, copy._private = self._mode, True
        return copy

    @property
    def was_directory(self) -> bool:
        """Whether it ever was one."""
        return bool(self.states)

    @property
    def mode(self) -> int:
        """The permissions of a directory that shows all its states at once."""
        return self._mode & (0o700 if self._private else 0o777)


class _DistinctPages(abc.ABC):
    """Takes in the pages of directory states one by one, equal ones once; threads may share it.

    *failures* are those of states that cannot be read.
    """

    def __init__(self, repository: Repository, states: Sequence[DatedState]) -> None:
        self.repository = repository
        self.failures: list[IntegrityError] = []
        self._lock = threading.Lock()
        self._pages = self._read(states)
        self.is_complete = False

    def _known(self) -> frozenset[bytes]:
        """The digests of pages that tell nothing new.  Raises IntegrityError."""
        return frozenset()

    def _read(self, states: Sequence[DatedState]) -> Iterator[tuple[Point, StoredPage]]:
        try:
            seen = set(self._known())
        except IntegrityError as error:
            self.failures.append(error)
            return
        for point, state in states:
            gaps: list[Gap] = []
            try:
                for page in Directory(self.repository, state.ref).readable(gaps, seen):
                    yield point, page
                    seen.add(page.digest)
            except IntegrityError as error:
                self._fail(point, error)
            for gap in gaps:
                self._fail(point, gap.error)

    def _fail(self, point: Point, error: IntegrityError) -> None:
        """Note what cannot be read, unless it is gone with its *point*."""
        if self.repository.points.has(point.id):
            self.failures.append(error)

    def step(self) -> bool:
        """Take in one more page; False if there was none."""
        with self._lock:
            found = next(self._pages, None)
            if found is None:
                self.is_complete = True
            else:
                self._take(*found)
        return found is not None

    def advance(self, patience: Patience) -> bool:
        """Take in pages while *patience* lasts, at least one; whether that was all."""
        while self.step():
            if patience.is_over:
                return False
        return True

    @abc.abstractmethod
    def _take(self, point: Point, page: StoredPage) -> None:
        """Take in a page that *point* has."""


class Ever(_DistinctPages):
    """The *names* that a directory with these *states*, newest first, ever held.

    What was never a directory has no past of its own.
    """

    def __init__(self, repository: Repository, states: Sequence[DatedState]) -> None:
        super().__init__(repository, states)
        self.names: dict[bytes, Past | None] = {}

    def _take(self, point: Point, page: StoredPage) -> None:
        names = self.names
        for row, stamp in enumerate(page.page.stamps):
            name = stamp[NAME]
            past = names.get(name)
            if stat.S_ISDIR(stamp[MODE]):
                if past is None:
                    past = Past()
                    past.was_other = name in names
                    names[name] = past
                past.add(point, page.entry(row))
            elif past is not None:
                past.was_other = True
            else:
                names[name] = None


class Gone(_DistinctPages):
    """What a directory held in older states, and lacks in the newest.

    *entries* are those that are gone, by name, each as the newest point that had it shows it;
    *still* the directories that are there, and were different before.  Where a directory was
    replaced by something else, what it held is gone, and so it counts as gone.
    """

    def __init__(
        self, repository: Repository, newest: DatedState, older: Sequence[DatedState]
    ) -> None:
        self._newest = newest
        self._lost: list[Gap] = []
        super().__init__(repository, older)
        self.entries: dict[bytes, Last] = {}
        self.still: dict[bytes, Past] = {}

    @cached_property
    def _present(self) -> Directory:
        return Directory.cached(self.repository, self._newest.state.ref)

    def _known(self) -> frozenset[bytes]:
        return self._present.page_digests

    def _take(self, point: Point, page: StoredPage) -> None:
        for row, stamp in enumerate(page.page.stamps):
            name, is_directory = stamp[NAME], stat.S_ISDIR(stamp[MODE])
            if name in self.entries or is_missing(name, self._lost):
                continue
            past = self.still.get(name)
            if past is None:
                try:
                    now = self._present.find(name)
                except EntryNotFound:
                    self.entries[name] = Last(point, page.entry(row))
                    continue
                except IntegrityError as error:
                    self._lose(error)
                    continue
                if not is_directory:
                    continue
                if now.state is None:
                    self.entries[name] = Last(point, page.entry(row))
                    continue
                if now.state.digest[:HASH_SIZE] == page.page.refs[row][1]:
                    continue
                past = self.still[name] = Past()
                past.add(self._newest.point, now)
            if is_directory:
                past.add(point, page.entry(row))

    def _lose(self, error: IntegrityError) -> None:
        """Note what nobody knows of the newest state, since *error* was met there."""
        for _ in self._present.readable(self._lost):
            pass
        for failure in [gap.error for gap in self._lost] or [error]:
            self._fail(self._newest.point, failure)

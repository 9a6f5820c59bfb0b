"""What differs between two stored trees: one algorithm for the mount and for the commands.

Equal states and pages are known by their digests and not read.  A path is *created* where only
the newer tree has it, *deleted* where only the older one has it, and *updated* where both have it
and its contents or metadata differ.  A directory in place of something else, or the other way
round, is one thing deleted and another created.  A directory is updated by its mode, owner and
extended attributes; its times, size and links follow what happens inside of it.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from ibtfs.errors import IbtfsError, IntegrityError
from ibtfs.format.entry import HASH_SIZE, LINKS, MODE, NAME, SIZE, XATTRS, XATTRS_REF
from ibtfs.format.index import Reference
from ibtfs.store.contents.reader import Contents
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import (
    NO_EXTRAS,
    Directory,
    Entry,
    StateRef,
    StoredPage,
    entry_xattrs,
)
from ibtfs.store.trees.patience import Patience

Kind = Literal["created", "updated", "deleted"]
KINDS: tuple[Kind, ...] = ("created", "updated", "deleted")
MOST_DECISIONS: Final = 100_000
ROW_BYTES: Final = 900
_MTIME: Final = 5


class Change(NamedTuple):
    """One entry before and after; *what* names what differs where both are there.

    Directories in both trees that differ only in what they hold have nothing in *what*.
    """

    name: bytes
    old: Entry | None
    new: Entry | None
    what: tuple[str, ...] = ()

    @property
    def kind(self) -> Kind | None:
        """What became of the entry; None if only what is inside of it may have changed."""
        if self.old is None:
            return "created"
        if self.new is None:
            return "deleted"
        return "updated" if self.what else None

    @property
    def inside(self) -> tuple[StateRef, StateRef] | None:
        """The states of a directory that is in both trees and holds something different."""
        old = self.old.state if self.old else None
        new = self.new.state if self.new else None
        return (old, new) if old and new and not same_state(old, new) else None


class PathChange(NamedTuple):
    """A change with the path that it happened at, or what kept it from being known."""

    path: bytes
    change: Change
    error: IbtfsError | None = None


def same_state(one: StateRef | None, other: StateRef | None) -> bool:
    """Whether two directories are known to hold the same, without reading them."""
    if one is None or other is None:
        return one is other
    return one.ref == other.ref or one.digest[:HASH_SIZE] == other.digest[:HASH_SIZE]


class Comparison:
    """Compares directories of one repository, and keeps what it found; threads may share it."""

    def __init__(self, repository: Repository, contents: Contents) -> None:
        self._repository, self._contents = repository, contents
        self._decided: dict[tuple[Kind, Reference | None, Reference | None], bool] = {}

    # One entry

    def what_differs(self, old: Entry, new: Entry) -> tuple[str, ...]:
        """What differs between an entry and a later one at the same path.

        What cannot be read, for it is damaged, counts as different.
        """
        if stat.S_IFMT(old.mode) != stat.S_IFMT(new.mode):
            return ("type",)
        found = [self._difference_of_data(old, new)] if old.state is None else []
        if stat.S_IMODE(old.mode) != stat.S_IMODE(new.mode):
            found.append("mode")
        if (old.uid, old.gid) != (new.uid, new.gid):
            found.append("owner")
        if old.state is None and old.mtime_ns != new.mtime_ns:
            found.append("mtime")
        if self._xattrs_differ(old, new):
            found.append("xattrs")
        if old.state is None and old.links != new.links:
            found.append("links")
        return tuple(filter(None, found))

    def is_same(self, old: Entry, new: Entry) -> bool:
        """Whether nothing differs; a directory is the same if all that it holds is, too."""
        if old.state is not None or new.state is not None:
            return same_state(old.state, new.state) and not self.what_differs(old, new)
        if (*old[1:6], old.links, old.target) != (*new[1:6], new.links, new.target):
            return False  # known without reading a record
        return not self.what_differs(old, new)

    def _difference_of_data(self, old: Entry, new: Entry) -> str:
        if stat.S_ISLNK(old.mode):
            return "target" if old.target != new.target else ""
        if old.rdev != new.rdev:
            return "device"
        if old.size != new.size:
            return "contents"
        return "" if self._same_content(old.content, new.content) else "contents"

    def _same_content(self, one: Reference | None, other: Reference | None) -> bool:
        if one == other:
            return True
        if one is None or other is None:
            return False
        try:
            return self._contents.record(one).digest == self._contents.record(other).digest
        except IntegrityError:
            return False

    def _xattrs_differ(self, old: Entry, new: Entry) -> bool:
        if old.xattrs_content == new.xattrs_content:
            return bool(old.extras.get(XATTRS, {}) != new.extras.get(XATTRS, {}))
        try:
            return entry_xattrs(old, self._contents) != entry_xattrs(new, self._contents)
        except IntegrityError:
            return True

    # One directory

    def changes(self, old: StateRef | None, new: StateRef | None) -> tuple[Change, ...]:
        """The changes among the direct entries of a directory, by name; None is an empty one.

        Raises IntegrityError.
        """
        if same_state(old, new):
            return ()
        return self._repository.cache.get(
            ("changes", old and old.ref, new and new.ref),
            lambda: tuple(self._compared(old, new)),
            lambda found: ROW_BYTES * len(found),
        )

    def _compared(self, old: StateRef | None, new: StateRef | None) -> Iterator[Change]:
        before = Directory(self._repository, old.ref) if old else None
        after = Directory(self._repository, new.ref) if new else None
        shared = before.page_digests & after.page_digests if before and after else frozenset()
        rows = {
            stamp[NAME]: (page, row)
            for page in (before.pages(shared) if before else ())
            for row, stamp in enumerate(page.page.stamps)
        }
        pairs: list[tuple[bytes, _PageRow | None, _PageRow | None]] = []
        for page in after.pages(shared) if after else ():
            for row, stamp in enumerate(page.page.stamps):
                found = rows.pop(stamp[NAME], None)
                if found is None or not _same_row(*found, page, row):
                    pairs.append((stamp[NAME], found, (page, row)))
        pairs += [(name, row, None) for name, row in rows.items()]
        pairs.sort(key=lambda pair: pair[0])
        for name, one, other in pairs:
            was, now = one and one[0].entry(one[1]), other and other[0].entry(other[1])
            yield from self._changes_of(name, was, now)

    def _changes_of(self, name: bytes, old: Entry | None, new: Entry | None) -> Iterator[Change]:
        if old is None or new is None:
            yield Change(name, old, new)
        elif (old.state is None) != (new.state is None):
            yield Change(name, old, None)
            yield Change(name, None, new)
        else:
            change = Change(name, old, new, self.what_differs(old, new))
            if change.what or change.inside:
                yield change

    # Trees

    def holds(
        self, kind: Kind, old: StateRef | None, new: StateRef | None, patience: Patience
    ) -> bool:
        """Whether there is any change of *kind* in a directory or below it.

        Stops at the first.  What cannot be read, or is not known in time, counts as there.
        """
        if same_state(old, new):
            return False
        waiting = [_Visit(self, kind, old, new)]
        while waiting:
            visit = waiting[-1]
            found = self._decided.get(visit.key)
            if found is None:
                try:
                    found, below = visit.step()
                except IntegrityError:
                    return True
                if below is not None:
                    waiting.append(_Visit(self, kind, *below))
                    if patience.is_over:
                        return True
                    continue
            if found:
                for above in waiting:
                    self._decide(above.key, found=True)
                return True
            self._decide(visit.key, found=False)
            waiting.pop()
        return False

    def _decide(self, key: tuple[Kind, Reference | None, Reference | None], *, found: bool) -> None:
        if len(self._decided) >= MOST_DECISIONS:
            self._decided.clear()
        self._decided[key] = found

    def tree_changes(self, old: Entry | None, new: Entry | None) -> Iterator[PathChange]:
        """All changes between two trees, by path; also what is inside of new and gone folders.

        Where something cannot be read the rest goes on, after a PathChange that has the error.
        """
        if old and new and (what := self.what_differs(old, new)):
            yield PathChange(b"", Change(b"", old, new, what))
        waiting = [(b"", iter([Change(b"", old, new)]))]
        while waiting:
            folder, changes = waiting[-1]
            change = next(changes, None)
            if change is None:
                waiting.pop()
                continue
            path = folder + b"/" + change.name if folder else change.name
            if path and change.kind is not None:
                yield PathChange(path, change)
            before = change.old.state if change.old else None
            after = change.new.state if change.new else None
            if same_state(before, after):
                continue
            try:
                waiting.append((path, iter(tuple(self._compared(before, after)))))
            except IntegrityError as error:
                yield PathChange(path, change, error)


class _Visit:
    """A directory that is looked into for changes of one kind."""

    def __init__(
        self, comparison: Comparison, kind: Kind, old: StateRef | None, new: StateRef | None
    ) -> None:
        self.key = (kind, old and old.ref, new and new.ref)
        self._comparison, self._kind, self._old, self._new = comparison, kind, old, new
        self._inside: Iterator[tuple[StateRef, StateRef]] | None = None

    def step(self) -> tuple[bool, tuple[StateRef, StateRef] | None]:
        """Whether it holds one by itself, and else the next directory to look into."""
        if self._inside is None:
            changes = self._comparison.changes(self._old, self._new)
            if any(change.kind == self._kind for change in changes):
                return True, None
            self._inside = iter([change.inside for change in changes if change.inside])
        return False, next(self._inside, None)


_PageRow = tuple[StoredPage, int]


def _same_row(page: StoredPage, row: int, other: StoredPage, other_row: int) -> bool:
    """Whether two rows are seen to be the same as they lie there; False is to be looked at."""
    stamp, stamp2 = page.page.stamps[row], other.page.stamps[other_row]
    if stamp[: _MTIME + 1] != stamp2[: _MTIME + 1] or stamp[LINKS] != stamp2[LINKS]:
        return False
    extras = page.page.extras.get(row, NO_EXTRAS)
    if extras != other.page.extras.get(other_row, NO_EXTRAS) or XATTRS_REF in extras:
        return False
    ref, ref2 = page.page.refs[row], other.page.refs[other_row]
    mode = stamp[MODE]
    if stat.S_ISDIR(mode):
        return bool(ref[1] == ref2[1])
    if stat.S_ISREG(mode) and stamp[SIZE]:
        return page.reference(ref) == other.reference(ref2)
    return bool(ref == ref2)

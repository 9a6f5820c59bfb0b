"""What differs between two stored trees: one algorithm for the mount and for the commands.

Equal states and pages are known by their digests and not read, but for those of machines that only
write, which may say of theirs what they like.  A path is *created* where only
the newer tree has it, *deleted* where only the older one has it, and *updated* where both have it
and its contents or metadata differ.  A directory in place of something else, or the other way
round, is one thing deleted and another created.  A directory is updated by its mode, owner and
extended attributes; its times, size and links follow what happens inside of it.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from typing import Final, Literal, NamedTuple

from ibtfs.errors import IbtfsError, IntegrityError, PartlyDamaged
from ibtfs.format.entry import CTIME, HASH_SIZE, LINKS, MODE, NAME, SIZE, XATTRS_REF
from ibtfs.format.index import Reference
from ibtfs.store.contents.reader import Contents
from ibtfs.store.repository import Repository
from ibtfs.store.trees.differences import StoredFacts, differences
from ibtfs.store.trees.directory import (
    NO_EXTRAS,
    Directory,
    Entry,
    Gap,
    StateRef,
    StoredPage,
    child_path,
    is_missing,
)
from ibtfs.store.trees.patience import Patience
from ibtfs.store.trees.totals import Allowance
from ibtfs.store.trees.trail import DEPTH_LIMIT, Trail

Kind = Literal["created", "updated", "deleted"]
KINDS: tuple[Kind, ...] = ("created", "updated", "deleted")
MOST_DECISIONS: Final = 100_000
ROW_BYTES: Final = 900


class Change(NamedTuple):
    """One entry, old and new; *what* names what differs where both are there.

    Directories in both trees that differ only in what they hold have nothing in *what*.  Where
    there is an *error* some of it is damaged, and counts as different, though nobody knows.
    """

    name: bytes
    old: Entry | None
    new: Entry | None
    what: tuple[str, ...] = ()
    error: IntegrityError | None = None
    doubted: bool = False

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
        is_same = old == new if self.doubted else same_state(old, new)
        return (old, new) if old and new and not is_same else None


class PathChange(NamedTuple):
    """A change with the path that it happened at, or what kept it from being known."""

    path: bytes
    change: Change
    error: IbtfsError | None = None


def same_state(old: StateRef | None, new: StateRef | None) -> bool:
    """Whether two directories are known to hold the same, without reading them."""
    if old is None or new is None:
        return old is new
    return old.ref == new.ref or old.digest[:HASH_SIZE] == new.digest[:HASH_SIZE]


class Comparison:
    """Compares directories of one repository, and keeps what it found; threads may share it."""

    def __init__(self, repository: Repository, contents: Contents) -> None:
        self._repository, self._contents = repository, contents
        self._decided: dict[tuple[Kind, Reference | None, Reference | None], bool] = {}

    def _is_same_state(self, old: StateRef | None, new: StateRef | None) -> bool:
        """As same_state, as far as the digests are believed."""
        return same_state(old, new) and not self._doubts(old, new)

    def _doubts(self, old: StateRef | None, new: StateRef | None) -> bool:
        """Whether one digest of two states may be a lie: who made them only writes."""
        if old is None or new is None or old.ref == new.ref:
            return False
        try:
            return any(self._repository.archive(one.ref.archive).author for one in (old, new))
        except IntegrityError:
            return True  # what cannot be read will show

    # One entry

    def what_differs(self, old: Entry, new: Entry) -> tuple[str, ...]:
        """What differs between an entry and a later one at the same path.

        What cannot be read, for it is damaged, counts as different.
        """
        return self._differing(old, new)[0]

    def _differing(self, old: Entry, new: Entry) -> tuple[tuple[str, ...], IntegrityError | None]:
        """What differs, and why that is not known, if it is not."""
        facts = StoredFacts(self._contents)
        return differences(old, new, facts), facts.error

    def is_same(self, old: Entry, new: Entry) -> bool:
        """Whether nothing differs; a directory is the same if all that it holds is, too.

        Raises IntegrityError where that cannot be told.
        """
        if old.state is not None or new.state is not None:
            if not self._is_same_state(old.state, new.state):
                return False
        elif (*old[1:6], old.links, old.target) != (*new[1:6], new.links, new.target):
            return False  # known without reading a record
        what, error = self._differing(old, new)
        if error is not None:
            raise error
        return not what

    # One directory

    def changes(self, old: StateRef | None, new: StateRef | None) -> tuple[Change, ...]:
        """The changes among the direct entries of a directory, by name; None is an empty one.

        Raises IntegrityError; PartlyDamaged has the changes among what can be read.
        """
        if self._is_same_state(old, new):
            return ()
        return self._repository.cache.get(
            ("changes", old and old.ref, new and new.ref),
            lambda: self._compared(old, new),
            lambda found: ROW_BYTES * len(found),
        )

    def _compared(self, old: StateRef | None, new: StateRef | None) -> tuple[Change, ...]:
        """As :meth:`changes`; nothing is kept."""
        old_gaps: list[Gap] = []
        new_gaps: list[Gap] = []
        changes = tuple(self._among_readable(old, new, old_gaps, new_gaps))
        if old_gaps or new_gaps:
            raise PartlyDamaged.of([gap.error for gap in (*old_gaps, *new_gaps)], changes)
        return changes

    def _among_readable(
        self, old: StateRef | None, new: StateRef | None, old_gaps: list[Gap], new_gaps: list[Gap]
    ) -> Iterator[Change]:
        """The changes among what can be read on both sides; what cannot goes to the gaps."""
        old_folder = Directory(self._repository, old.ref) if old else None
        new_folder = Directory(self._repository, new.ref) if new else None
        shared: frozenset[bytes] = frozenset()
        if old_folder and new_folder and not self._doubts(old, new):
            shared = old_folder.page_digests & new_folder.page_digests
        rows = {
            stamp[NAME]: (page, row)
            for page in (old_folder.readable(old_gaps, shared) if old_folder else ())
            for row, stamp in enumerate(page.page.stamps)
        }
        pairs: list[tuple[bytes, _PageRow | None, _PageRow | None]] = []
        for page in new_folder.readable(new_gaps, shared) if new_folder else ():
            for row, stamp in enumerate(page.page.stamps):
                old_row = rows.pop(stamp[NAME], None)
                if old_row is None or not _same_row(*old_row, page, row):
                    pairs.append((stamp[NAME], old_row, (page, row)))
        pairs += [(name, old_row, None) for name, old_row in rows.items()]
        pairs.sort(key=lambda pair: pair[0])
        for name, old_row, new_row in pairs:
            if is_missing(name, old_gaps) or is_missing(name, new_gaps):
                continue  # what it is on the other side nobody knows
            yield from self._changes_of(name, _entry(old_row), _entry(new_row))

    def _changes_of(self, name: bytes, old: Entry | None, new: Entry | None) -> Iterator[Change]:
        if old is None or new is None:
            yield Change(name, old, new)
        elif (old.state is None) != (new.state is None):
            yield Change(name, old, None)
            yield Change(name, None, new)
        else:
            doubted = same_state(old.state, new.state) and self._doubts(old.state, new.state)
            change = Change(name, old, new, *self._differing(old, new), doubted)
            if change.what or change.inside:
                yield change

    # Trees

    def holds(
        self, kind: Kind, old: StateRef | None, new: StateRef | None, patience: Patience
    ) -> bool:
        """Whether there is any change of *kind* in a directory or below it.

        Stops at the first.  What cannot be read, or is not known in time, counts as there.
        """
        if self._is_same_state(old, new):
            return False
        waiting = [_Search(self, kind, old, new)]
        while waiting:
            search = waiting[-1]
            found = self._decided.get(search.key)
            if found is None:
                if patience.is_over or len(waiting) > DEPTH_LIMIT:
                    return True
                try:
                    found, below = search.step()
                except IntegrityError:
                    return True
                if below is not None:
                    waiting.append(_Search(self, kind, *below))
                    continue
            if found:
                for above in waiting:
                    self._decide(above.key, found=True)
                return True
            self._decide(search.key, found=False)
            waiting.pop()
        return False

    def _decide(self, key: tuple[Kind, Reference | None, Reference | None], *, found: bool) -> None:
        if len(self._decided) >= MOST_DECISIONS:
            self._decided.clear()
        self._decided[key] = found

    def tree_changes(self, old: Entry | None, new: Entry | None) -> Iterator[PathChange]:
        """All changes between two trees, by path; also what is inside of new and gone folders.

        Where something cannot be read the rest goes on, after a PathChange that has the error.
        Raises LimitExceeded where there are more entries than any tree can have.
        """
        top = Change(b"", old, new, *(self._differing(old, new) if old and new else ()))
        if top.what:
            yield PathChange(b"", top, top.error)
        trails = Trail(), Trail()
        allowance = Allowance(self._repository, old and old.state, new and new.state)
        waiting = [(b"", iter([Change(b"", old, new)]))]
        while waiting:
            folder, changes = waiting[-1]
            change = next(changes, None)
            if change is None:
                waiting.pop()
                continue
            path = child_path(folder, change.name)
            if path and change.kind is not None:
                yield PathChange(path, change, change.error)
            old_state = change.old.state if change.old else None
            new_state = change.new.state if change.new else None
            if self._is_same_state(old_state, new_state):
                continue
            found: Sequence[Change] = ()
            try:
                for trail, state in zip(trails, (old_state, new_state), strict=True):
                    if state is not None:
                        trail.enter(len(waiting) - 1, state.ref, path)
                found = self._compared(old_state, new_state)
            except PartlyDamaged as damaged:
                found = damaged.found
                for error in damaged.failures:
                    yield PathChange(path, change, error)
            except IntegrityError as error:
                yield PathChange(path, change, error)
            allowance.spend(len(found))
            waiting.append((path, iter(found)))


class _Search:
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


def _entry(row: _PageRow | None) -> Entry | None:
    return row[0].entry(row[1]) if row else None


def _same_row(old: StoredPage, old_row: int, new: StoredPage, new_row: int) -> bool:
    """Whether two rows are seen to be the same as they lie there; False is to be looked at."""
    old_stamp, new_stamp = old.page.stamps[old_row], new.page.stamps[new_row]
    if old_stamp[:CTIME] != new_stamp[:CTIME] or old_stamp[LINKS] != new_stamp[LINKS]:
        return False
    extras = old.page.extras.get(old_row, NO_EXTRAS)
    if extras != new.page.extras.get(new_row, NO_EXTRAS) or XATTRS_REF in extras:
        return False
    old_ref, new_ref = old.page.refs[old_row], new.page.refs[new_row]
    mode = old_stamp[MODE]
    if stat.S_ISDIR(mode):
        if old_ref[1] != new_ref[1]:
            return False
        is_one = old.reference(old_ref[0]) == new.reference(new_ref[0])
        return is_one or not (old.archive.author or new.archive.author)
    if stat.S_ISREG(mode) and old_stamp[SIZE]:
        return old.reference(old_ref) == new.reference(new_ref)
    return bool(old_ref == new_ref)

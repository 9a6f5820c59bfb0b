"""Copying one tree: walked beside the one copied last, so that what is the same is not read.

The same reference there means the same reference here: of a folder, a page or a content.  What
differs is stored as a backup stores it, as a delta against what the same path holds here.
"""

from __future__ import annotations

from collections.abc import Container

from ibtfs.actions.backup.entry import flagged
from ibtfs.actions.copy.contents import ContentCopier, unreadable
from ibtfs.actions.copy.folder import Folder, Twin, plain
from ibtfs.actions.observer import Tally
from ibtfs.errors import IntegrityError, SourceError
from ibtfs.format.entry import FLAGS, HASH_SIZE, KEPT, NAME, NOT_READ
from ibtfs.format.index import Reference
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import Entry, StateRef, StoredPage
from ibtfs.store.trees.totals import Allowance
from ibtfs.store.trees.trail import Trail
from ibtfs.store.writing.losses import Losses
from ibtfs.store.writing.pages import write_directory
from ibtfs.store.writing.run import RunWriter


class TreeCopy:
    """Copies one tree of *source* with *writer*; used once, by one thread.

    What is *lost* here is not built upon.  *doubtful* are the paths, and the folders above them,
    that may be others here than they were there in the point that was copied last.  *unread* are
    these of this tree.
    """

    def __init__(
        self, source: Repository, writer: RunWriter, contents: ContentCopier, tally: Tally,
        lost: Losses, doubtful: Container[bytes] = (),
    ) -> None:  # fmt: skip
        self._source, self._writer, self._contents = source, writer, contents
        self._tally, self._lost, self._doubtful = tally, lost, doubtful
        self._trail = Trail()
        self.unread: set[bytes] = set()

    def copy(self, root: Entry, twin: Twin | None) -> StateRef:
        """Store the tree of which *root* is the row; its state here.

        Raises SourceError if nothing of it can be read, LimitExceeded where there is more than any
        tree has, IntegrityError if what is here of *twin* is damaged, StorageFull, StorageFailed.
        """
        assert root.state is not None  # a root is a directory
        if twin is not None and self._is_same(root.state, twin, b""):
            return twin.ours
        self._allowance = Allowance(self._source, root.state)
        try:
            stack = [self._enter(root, b"", twin, 0)]
        except IntegrityError as error:
            raise unreadable(error) from error
        while True:
            folder = stack[-1]
            row = next(folder.folders, None)
            if row is not None:
                child = self._child(folder, row, len(stack))
                if child is not None:
                    stack.append(child)
                continue
            state = self._finish(folder)
            stack.pop()
            if not stack:
                return state
            self._take_folder(stack[-1], folder.row, state)

    def _is_same(self, state: StateRef, twin: Twin, path: bytes) -> bool:
        """Whether the directory at *path* is known to be here, with all that is below it."""
        theirs = twin.theirs
        is_same = theirs is not None and theirs.ref == state.ref
        return is_same and not self._lost and path not in self._doubtful

    def _enter(self, row: Entry, path: bytes, twin: Twin | None, depth: int) -> Folder:
        """Open a folder and store what is not a folder in it.

        Raises IntegrityError if it cannot be read.
        """
        assert row.state is not None  # who calls has looked
        self._writer.beat()
        self._trail.enter(depth, row.state.ref, path)
        folder = Folder.opened(self._source, self._writer.repository, row, path, twin)
        is_sure = not self._lost and path not in self._doubtful
        known: Container[Reference] = folder.old_pages() if is_sure else ()
        inside: list[Entry] = []
        for page in folder.pages():
            self._allowance.spend(len(page.page.stamps))
            if page.ref in known:
                folder.stamps += page.page.stamps
                self._tally.observer.progress(len(page.page.stamps), 0)
            else:
                inside += self._page(folder, page)
        for gap in folder.gaps:
            self._problem(path, str(gap.error))
        for name in folder.missed():
            self._keep(folder, folder.is_here(name))
        folder.folders = iter(inside)
        return folder

    def _page(self, folder: Folder, page: StoredPage) -> list[Entry]:
        """Store the files of a page; the folders of it, that are still to be entered."""
        inside = []
        for number in range(len(page.page.stamps)):
            try:
                row = plain(page.entry(number))
            except IntegrityError as error:
                name = page.page.stamps[number][NAME]
                self._problem(folder.below(name), str(unreadable(error)))
                self._keep(folder, folder.is_here(name))
                continue
            assert row is not None  # it was read
            if row.state is not None:
                inside.append(row)
            else:
                self._file(folder, row)
        return inside

    def _file(self, folder: Folder, row: Entry) -> None:
        """Store what is not a folder, unless it is as it was."""
        here, path, was = folder.is_here(row.name), folder.below(row.name), folder.was(row.name)
        is_sound = here is not None and was is not None and self._is_sound(here, path)
        if is_sound and was == row:
            folder.stamps.append(row.stamp)
            self._tally.observer.progress(1, 0)
            return
        try:
            content = row.content
            if content is not None:
                base = here.content if here is not None else None
                is_same = is_sound and was is not None and was.content == content
                content = base if is_same else self._contents.copy(content, row.size, base)
        except SourceError as error:
            self._problem(path, str(error))
            self._keep(folder, here)
        else:
            self._tally.counts["entries"] += 1
            self._tally.observer.file("copied", path)
            folder.take(self._dressed(row._replace(content=content), here, path), here)
        self._tally.observer.progress(1, 0)
        if self._writer.is_due:
            self._writer.close_archive()
        self._writer.beat()

    def _is_sound(self, here: Entry, path: bytes) -> bool:
        """Whether what a row leads to is there still, as far as its record tells."""
        lost = here.content in self._lost or here.xattrs_content in self._lost
        lost = lost or path in self._doubtful
        return not lost and self._writer.knows(here.content, here.xattrs_content)

    def _dressed(self, row: Entry, here: Entry | None, path: bytes) -> Entry:
        """*row* with its extended attributes, where they are a content, stored."""
        if row.xattrs_content is None:
            return row
        try:
            return row._replace(xattrs_content=self._contents.copy(row.xattrs_content, None, None))
        except SourceError as error:
            self._problem(path, f"its extended attributes: {error}")
            return flagged(row._replace(xattrs_content=None), KEPT)

    def _child(self, folder: Folder, row: Entry, depth: int) -> Folder | None:
        """Enter the folder *row* in *folder*; None if there is nothing to be done in it."""
        twin, path = folder.twin_of(row.name), folder.below(row.name)
        assert row.state is not None  # who calls has looked
        if twin is not None and self._is_same(row.state, twin, path):
            self._take_folder(folder, row, twin.ours)
            return None
        try:
            return self._enter(row, path, twin, depth)
        except IntegrityError as error:
            self._problem(path, str(unreadable(error)))
            self._take_unread(folder, row, twin)
            return None

    def _take_unread(self, folder: Folder, row: Entry, twin: Twin | None) -> None:
        """Have a folder that cannot be read hold what it held the last time, or be shown empty."""
        if twin is not None:
            self._take_folder(folder, flagged(row, KEPT), twin.ours)
            return
        empty = write_directory(self._writer, [], {}, None)
        extras = {**row.extras, FLAGS: row.flags | NOT_READ}
        self._take_folder(folder, row._replace(ctime_ns=0, extras=extras), empty)

    def _take_folder(self, folder: Folder, row: Entry, state: StateRef) -> None:
        """Note the *state* of a folder in *folder* that is done."""
        here, path = folder.is_here(row.name), folder.below(row.name)
        new = row._replace(state=StateRef(state.ref, state.digest[:HASH_SIZE]))
        folder.take(self._dressed(new, here, path), here)

    def _finish(self, folder: Folder) -> StateRef:
        """The state of a folder of which all is stored: the one that is here, or a new one."""
        folder.stamps.sort(key=lambda stamp: stamp[NAME])
        if folder.is_as_it_was and folder.ours is not None:
            if not folder.was_moved:
                return folder.ours.state
            # put together there, for its states lay in many archives: so it is here
            return write_directory(self._writer, folder.stamps, folder.all_rows(), None)
        return write_directory(self._writer, folder.stamps, folder.changed, folder.ours)

    def _keep(self, folder: Folder, here: Entry | None) -> None:
        """Keep what was stored the last time of what cannot be read, if there is anything."""
        if here is not None:
            folder.take(flagged(here, KEPT), here)

    def _problem(self, path: bytes, message: str) -> None:
        self._tally.problem(path, message)
        while path not in self.unread:
            self.unread.add(path)
            path = path.rpartition(b"/")[0]

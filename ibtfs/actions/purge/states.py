"""Directory states written anew without what goes."""

from __future__ import annotations

from ibtfs.actions.purge.survey import Cuts, Place
from ibtfs.format.entry import HASH_SIZE, NAME
from ibtfs.store.trees.directory import Entry, StateRef, child_path
from ibtfs.store.trees.old_directory import OldDirectory
from ibtfs.store.writing.pages import write_directory
from ibtfs.store.writing.run import RunWriter


class StateWriter:
    """Writes states by the *cuts* of points of one epoch and one root; used by one thread."""

    def __init__(self, writer: RunWriter, cuts: Cuts) -> None:
        self._writer, self._cuts = writer, cuts
        self._written: dict[Place, StateRef] = {}

    def without(self, root: StateRef) -> StateRef:
        """The state of a source that was *root*; it itself if nothing goes.

        Raises IntegrityError, StorageFull, StorageFailed.
        """
        waiting: list[tuple[StateRef, bytes, bool]] = [(root, b"", False)]
        while waiting:
            state, path, is_ready = waiting.pop()
            cut = self._cuts[(state.ref, path)]
            if cut is None or (state.ref, path) in self._written:
                continue
            if is_ready:
                self._written[(state.ref, path)] = self._write(state, path)
                continue
            waiting.append((state, path, True))
            waiting += [
                (folder.state, child_path(path, folder.name), False)
                for folder in cut.folders
                if folder.state is not None
            ]
        return self._written.get((root.ref, b""), root)

    def _write(self, state: StateRef, path: bytes) -> StateRef:
        """Write one directory; those in it are written."""
        cut = self._cuts[(state.ref, path)]
        assert cut is not None  # looked at by who calls
        gone = {entry.name for entry in cut.gone}
        old = OldDirectory(self._writer.repository, state)
        stamps = [stamp for stamp in old.stamps if stamp[NAME] not in gone]
        changed = {folder.name: self._changed(folder, path) for folder in cut.folders}
        if self._writer.is_due:
            self._writer.close_archive()
        self._writer.beat()
        return write_directory(self._writer, stamps, changed, old)

    def _changed(self, folder: Entry, path: bytes) -> Entry:
        assert folder.state is not None  # only such are in a cut
        new = self._written[(folder.state.ref, child_path(path, folder.name))]
        return folder._replace(state=StateRef(new.ref, new.digest[:HASH_SIZE]))

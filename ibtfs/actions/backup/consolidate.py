"""Writing a tree's directory states anew, together, when they lie in too many archives."""

from __future__ import annotations

from collections.abc import Mapping

from ibtfs.format.entry import HASH_SIZE, NAME, PageEntry, pages_digest
from ibtfs.format.index import Reference
from ibtfs.store.trees.directory import Entry, StateRef
from ibtfs.store.trees.reach import Visit, reach
from ibtfs.store.writing.pages import build_page
from ibtfs.store.writing.run import RunWriter

STATE_ARCHIVES = 32
"""A tree whose states lie in more archives than this is written anew."""


def rewrite_states(writer: RunWriter, root: StateRef) -> StateRef:
    """Copy all states below *root* into the open archive; digests stay as they are.

    The archive that holds *root* must be closed.  Raises IntegrityError.
    """
    rewritten: dict[Reference, StateRef] = {}
    for visit in reach(writer.repository, root, seen=set(), after=True):
        rewritten[visit.state.ref] = _rewritten(writer, visit, rewritten)
    return rewritten[root.ref]


def _rewritten(writer: RunWriter, visit: Visit, inside: Mapping[Reference, StateRef]) -> StateRef:
    """The new state of a directory; those *inside* of it are written already."""
    written: list[tuple[Reference, bytes, int, bytes]] = []
    for old in visit.pages():
        page, digest = build_page(writer, [_moved(entry, inside) for entry in old.entries()])
        last = page.stamps[-1][NAME] if page.stamps else b""
        written.append((writer.add_page(page), digest, len(page.stamps), last))
    if len(written) == 1:
        ref, digest, _, _ = written[0]
        return StateRef(ref, digest)
    listed = [
        PageEntry(writer.packed(ref), digest[:HASH_SIZE], count, last)
        for ref, digest, count, last in written
    ]
    return StateRef(writer.add_pages(listed), pages_digest([page.digest for page in listed]))


def _moved(entry: Entry, inside: Mapping[Reference, StateRef]) -> Entry:
    """*entry*, leading to the state that is written now, if it is a directory."""
    if entry.state is None:
        return entry
    ref, digest = inside[entry.state.ref]
    return entry._replace(state=StateRef(ref, digest[:HASH_SIZE]))

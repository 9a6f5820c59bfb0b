"""Writing a tree's directory states anew, together, when they lie in too many archives.

Not all of them: those of the archives that have most of the tree stay where they are, so that a
large tree of which little changes is not stored again and again.  What is written is what the
small archives have, and the folders above it.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

from ibtfs.format.entry import HASH_SIZE, NAME, PageEntry, pages_digest
from ibtfs.format.index import Reference
from ibtfs.store.trees.directory import Entry, StateRef, StoredPage
from ibtfs.store.trees.reach import Visit, reach
from ibtfs.store.writing.pages import build_page
from ibtfs.store.writing.run import RunWriter

STATE_ARCHIVES = 32
"""A tree whose states lie in more archives than this is put together."""
_Moved = Mapping[Reference, StateRef]


def largest(rows: Mapping[str, int], most: int) -> frozenset[str]:
    """The quarter of *most* archives that have most *rows* of a tree: they are left as they are."""
    names = sorted(rows, key=lambda name: (-rows[name], name))
    return frozenset(names[: most // 4])


def rewrite_states(writer: RunWriter, root: StateRef, kept: Container[str]) -> StateRef:
    """Copy the states below *root* that lie in no archive of *kept* into the open archive.

    So are those above them; digests stay as they are.  The archive that holds *root* must be
    closed.  Raises IntegrityError.
    """
    moved: dict[Reference, StateRef] = {}
    for visit in reach(writer.repository, root, seen=set(), after=True):
        pages = list(visit.pages())
        places = {visit.state.ref.archive, *(page.ref.archive for page in pages)}
        if any(place not in kept for place in places) or any(
            _leads_to(page, moved) for page in pages
        ):
            moved[visit.state.ref] = _rewritten(writer, visit, pages, moved, kept)
    return moved.get(root.ref, root)


def _leads_to(page: StoredPage, moved: _Moved) -> bool:
    return any(entry.state is not None and entry.state.ref in moved for entry in page.folders())


def _rewritten(
    writer: RunWriter, visit: Visit, pages: list[StoredPage], moved: _Moved, kept: Container[str]
) -> StateRef:
    """The new state of a directory; those inside of it that move are written already."""
    written: list[tuple[Reference, bytes, int, bytes]] = []
    is_one = len(pages) == 1
    for old in pages:
        stamps = old.page.stamps
        if is_one or old.ref.archive not in kept or _leads_to(old, moved):
            page, digest = build_page(writer, [_moved(entry, moved) for entry in old.entries()])
            ref = writer.add_page(page)
        else:
            ref, digest = old.ref, old.digest
        written.append((ref, digest, len(stamps), stamps[-1][NAME] if stamps else b""))
    if is_one:
        ref, digest, _, _ = written[0]
        return StateRef(ref, digest)
    listed = [
        PageEntry(writer.packed(ref), digest[:HASH_SIZE], count, last)
        for ref, digest, count, last in written
    ]
    digest = pages_digest([page.digest for page in listed], writer.digests)
    return StateRef(writer.add_pages(listed), digest)


def _moved(entry: Entry, moved: _Moved) -> Entry:
    """*entry*, leading to the state that is written now, if it is a directory that moves."""
    if entry.state is None or entry.state.ref not in moved:
        return entry
    ref, digest = moved[entry.state.ref]
    return entry._replace(state=StateRef(ref, digest[:HASH_SIZE]))

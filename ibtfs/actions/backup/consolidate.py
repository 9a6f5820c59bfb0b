"""Writing a tree's directory states anew, together, when they lie in too many archives."""

from __future__ import annotations

from dataclasses import dataclass, field

from ibtfs.format.entry import HASH_SIZE, NAME, PageEntry, pages_digest
from ibtfs.format.index import Reference
from ibtfs.store.trees.directory import Directory, Entry, StateRef, StoredPage
from ibtfs.store.writing.pages import build_page
from ibtfs.store.writing.run import RunWriter

STATE_ARCHIVES = 32
"""A tree whose states lie in more archives than this is written anew."""


@dataclass
class _Level:
    """A directory being copied: pages done and to do, rows of the page at hand."""

    entry: Entry | None
    pages: list[StoredPage]
    written: list[tuple[Reference, bytes, int, bytes]] = field(default_factory=list)
    rows: list[Entry] = field(default_factory=list)
    next_row: int = 0


def rewrite_states(writer: RunWriter, root: Reference) -> StateRef:
    """Copy all states below *root* into the open archive; digests stay as they are.

    The archive that holds *root* must be closed.  Raises IntegrityError.
    """
    stack = [_level(writer, None, root)]
    while True:
        level = stack[-1]
        if level.next_row < len(level.rows):
            entry = level.rows[level.next_row]
            if entry.state is not None:
                stack.append(_level(writer, entry, entry.state.ref))
            else:
                level.next_row += 1
            continue
        _write_page(writer, level)
        if level.pages:
            _turn(level)
            continue
        written = _finish(writer, level)
        stack.pop()
        if not stack:
            return written
        parent = stack[-1]
        state = StateRef(written.ref, written.digest[:HASH_SIZE])
        parent.rows[parent.next_row] = parent.rows[parent.next_row]._replace(state=state)
        parent.next_row += 1


def _level(writer: RunWriter, entry: Entry | None, ref: Reference) -> _Level:
    level = _Level(entry, list(Directory(writer.repository, ref).pages()))
    _turn(level)
    return level


def _turn(level: _Level) -> None:
    """Go on with the next page."""
    level.rows, level.next_row = list(level.pages.pop(0).entries()), 0


def _write_page(writer: RunWriter, level: _Level) -> None:
    page, digest = build_page(writer, level.rows)
    last = page.stamps[-1][NAME] if page.stamps else b""
    level.written.append((writer.add_page(page), digest, len(page.stamps), last))


def _finish(writer: RunWriter, level: _Level) -> StateRef:
    """The state of a directory all of whose pages are written."""
    if len(level.written) == 1:
        ref, digest, _, _ = level.written[0]
        return StateRef(ref, digest)
    listed = [
        PageEntry(writer.packed(ref), digest[:HASH_SIZE], count, last)
        for ref, digest, count, last in level.written
    ]
    return StateRef(writer.add_pages(listed), pages_digest([page.digest for page in listed]))

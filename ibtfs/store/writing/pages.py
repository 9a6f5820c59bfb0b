"""Rows into pages, pages into directory states; pages that did not change are referred to."""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ibtfs.format.entry import (
    HASH_SIZE,
    NAME,
    XATTRS_REF,
    Page,
    PageEntry,
    Stamp,
    page_digest,
    pages_digest,
    split_rows,
)
from ibtfs.format.index import Reference
from ibtfs.store.trees.directory import Entry, StateRef
from ibtfs.store.trees.old_directory import OldDirectory
from ibtfs.store.writing.run import RunWriter


def write_directory(
    writer: RunWriter,
    stamps: Sequence[Stamp],
    changed: Mapping[bytes, Entry],
    old: OldDirectory | None,
    taken: Counter[str] | None = None,
) -> StateRef:
    """Write the state of a directory with these *stamps*, sorted.

    *changed* has the rows that differ from *old*; all others are taken from there.  *taken* is
    added to: the rows of pages that stay where they are, by their archives.
    """
    slices = list(split_rows(stamps, writer.digests))
    if len(slices) == 1:
        page, digest = build_page(writer, _entries(stamps, changed, old))
        return StateRef(writer.add_page(page), digest)
    listed: list[PageEntry] = []
    for rows in slices:
        part = stamps[rows]
        ref, digest = _page(writer, part, changed, old)
        if taken is not None and not writer.is_open(ref):
            taken[ref.archive] += len(part)
        listed.append(PageEntry(writer.packed(ref), digest, len(part), part[-1][NAME]))
    digest = pages_digest([page.digest for page in listed], writer.digests)
    return StateRef(writer.add_pages(listed), digest)


def _page(
    writer: RunWriter, stamps: Sequence[Stamp], changed: Mapping[bytes, Entry],
    old: OldDirectory | None,
) -> tuple[Reference, bytes]:  # fmt: skip
    """One page of several: the old one if it is the same, else a new one."""
    if old is not None and not any(stamp[NAME] in changed for stamp in stamps):
        same = old.page_ending(stamps[-1][NAME], stamps)
        if same is not None:
            return same.ref, same.digest
    page, digest = build_page(writer, _entries(stamps, changed, old))
    return writer.add_page(page), digest[:HASH_SIZE]


def _entries(
    stamps: Sequence[Stamp], changed: Mapping[bytes, Entry], old: OldDirectory | None
) -> list[Entry]:
    entries = []
    for stamp in stamps:
        entry = changed.get(stamp[NAME])
        if entry is None and old is not None:
            entry = old.find(stamp[NAME])
        if entry is None:
            raise AssertionError(f"No row was made for {stamp[NAME]!r}")
        entries.append(entry)
    return entries


def build_page(writer: RunWriter, entries: Sequence[Entry]) -> tuple[Page, bytes]:
    """The page of *entries*, references packed by the open archive, and its 32-byte digest."""
    packed, digest_of = writer.packed, writer.digest_of
    refs: list[Any] = []
    tokens: list[Any] = []
    extras: dict[int, dict[str, Any]] = {}
    xattrs: dict[int, bytes] = {}
    for row, entry in enumerate(entries):
        content = entry.content
        if content is not None:
            refs.append(packed(content))
            tokens.append(digest_of(content))
        elif entry.state is not None:
            refs.append((packed(entry.state.ref), entry.state.digest))
            tokens.append(entry.state.digest)
        else:
            refs.append(_special(entry))
            tokens.append(refs[-1])
        if entry.extras or entry.xattrs_content is not None:
            extras[row] = dict(entry.extras)
            if entry.xattrs_content is not None:
                extras[row][XATTRS_REF] = packed(entry.xattrs_content)
                xattrs[row] = writer.digest_of(entry.xattrs_content)
    page = Page(tuple([entry[:9] for entry in entries]), tuple(refs), extras)
    return page, page_digest(page, tokens, xattrs, writer.digests)


def _special(entry: Entry) -> bytes | int | None:
    """What a row without content or state leads to."""
    if stat.S_ISLNK(entry.mode):
        return entry.target
    if stat.S_ISCHR(entry.mode) or stat.S_ISBLK(entry.mode):
        return entry.rdev
    return None

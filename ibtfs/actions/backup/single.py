"""Backing up a source that is not a folder: one file, or standard input."""

from __future__ import annotations

import os
import stat
import sys
import time
from typing import NamedTuple

from ibtfs.actions.backup.entry import FileStorer, Place
from ibtfs.actions.backup.large import LargeFile
from ibtfs.actions.backup.tree import TreeOptions
from ibtfs.actions.observer import Tally
from ibtfs.actions.source.chunks import StreamSource
from ibtfs.actions.source.filesystems import FileSystems
from ibtfs.actions.source.opening import open_source, source_error, stamp_of
from ibtfs.errors import IntegrityError, SourceError, UsageError
from ibtfs.format.entry import MODE, SIZE, Stamp
from ibtfs.format.index import Reference
from ibtfs.store.trees.directory import Entry, StateRef
from ibtfs.store.trees.old_directory import load_old, same_stamp
from ibtfs.store.writing.pages import write_directory
from ibtfs.store.writing.run import RunWriter


class Single(NamedTuple):
    """The root made up for a single file, its state of one row, and that row."""

    root: Entry
    state: StateRef
    row: Entry


def backup_file(
    writer: RunWriter,
    tally: Tally,
    path: bytes,
    old: StateRef | None,
    options: TreeOptions,
    damaged: frozenset[Reference],
) -> Single | None:
    """Store the one file at *path*, links followed; None after a dry run.

    What is *damaged* counts as changed.  Raises SourceError.
    """
    real, name = os.path.realpath(path), os.path.basename(path)
    parent, found_parent = open_source(os.path.dirname(real))
    try:
        found = os.lstat(os.path.basename(real), dir_fd=parent)
        stamp = stamp_of(os.path.basename(real), found)
        place = Place(parent, found_parent.st_dev, 0, name)
        return _store_file(writer, tally, stamp, place, old, options, damaged)
    except OSError as error:
        raise SourceError(f"{os.fsdecode(path)}: {source_error(error)}") from error
    finally:
        os.close(parent)


def _store_file(
    writer: RunWriter,
    tally: Tally,
    stamp: Stamp,
    place: Place,
    old: StateRef | None,
    options: TreeOptions,
    damaged: frozenset[Reference],
) -> Single | None:
    """Store the file listed as *stamp* under the name that *place* has as its path."""
    systems, counts, name = FileSystems(), tally.counts, place.path
    before = _before(writer, old, name)
    counts["files"], counts["bytes"] = 1, stamp[SIZE]
    inodes = systems.keeps_inodes(place.device) if options.inodes is None else options.inodes
    shown = (name, *stamp[MODE:])
    is_same = not options.reread and before is not None
    is_same = is_same and before is not None and before.content not in damaged
    if is_same and before and same_stamp(shown, before.stamp, inodes=inodes):
        entry, kind = before, "unchanged"
    elif options.dry_run:
        entry, kind = None, "changed" if before else "new"
    else:
        stored = FileStorer(writer, systems, tally).store(stamp, before, place)
        entry, kind = stored._replace(name=name), "changed" if before else "new"
    counts[kind] += 1
    tally.observer.file(kind, name)
    tally.observer.progress(1, 0)
    return _wrapped(writer, entry, old if entry is before else None) if entry else None


def backup_stream(writer: RunWriter, tally: Tally, name: bytes, old: StateRef | None) -> Single:
    """Store standard input as a file called *name*.  Raises UsageError, SourceError."""
    if not name or b"/" in name or b"\0" in name or name in (b".", b"..") or len(name) > 255:
        raise UsageError(f"{os.fsdecode(name)!r} cannot be the name of a file")
    before = _before(writer, old, name)
    base = before.content if before else None
    try:
        size = writer.contents.record(base).size if base else 0
    except IntegrityError:
        base, size = None, 0
    source = StreamSource(sys.stdin.buffer)
    stored = LargeFile(
        writer, source, size, base, lambda count: tally.observer.progress(0, count)
    ).store()
    tally.counts.update(
        files=1, bytes=stored.size, bytes_read=stored.size, bytes_added=stored.stored
    )
    tally.counts["changed" if before else "new"] += 1
    now = time.time_ns()
    mode = stat.S_IFREG | 0o600
    row = (name, mode, os.getuid(), os.getgid(), stored.size, now, 0, 0, 1)
    return _wrapped(writer, Entry(*row, stored.ref, None, b"", 0, {}, None), None)


def _before(writer: RunWriter, old: StateRef | None, name: bytes) -> Entry | None:
    """What the last point had as *name*, if that can be read."""
    known = load_old(writer.repository, old)
    return known.find(name) if known and known.is_readable else None


def _wrapped(writer: RunWriter, entry: Entry, same: StateRef | None) -> Single:
    """A directory that holds just *entry*; *same* is its state when nothing changed."""
    mode = stat.S_IFDIR | 0o755
    row = (b"", mode, entry.uid, entry.gid, 4096, entry.mtime_ns, 0, 0, 2)
    root = Entry(*row, None, None, b"", 0, {}, None)
    if same is not None:
        return Single(root, same, entry)
    written = write_directory(writer, [entry.stamp], {entry.name: entry}, None)
    return Single(root, written, entry)

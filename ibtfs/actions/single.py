"""Backing up a source that is not a folder: one file, or standard input."""

from __future__ import annotations

import os
import stat
import sys
import time
from typing import NamedTuple

from ibtfs.actions.byte_source import StreamSource
from ibtfs.actions.filesystems import FileSystems
from ibtfs.actions.observer import Tally
from ibtfs.actions.old_directory import load_old, same_stamp
from ibtfs.actions.source_file import open_source, source_error, stamp_of
from ibtfs.actions.store_file import FileStorer, Place
from ibtfs.actions.store_large import LargeFile
from ibtfs.actions.tree_writer import WrittenState, write_directory
from ibtfs.errors import IntegrityError, SourceError, UsageError
from ibtfs.store.run_writer import RunWriter
from ibtfs.store.states import Entry, StateRef


class Single(NamedTuple):
    """The root made up for a single file, and its state of one row."""

    root: Entry
    state: WrittenState


def backup_file(writer: RunWriter, tally: Tally, path: bytes, old: StateRef | None) -> Single:
    """Store the one file at *path*, links followed.  Raises SourceError."""
    real = os.path.realpath(path)
    name = os.path.basename(path)
    parent, found_parent = open_source(os.path.dirname(real))
    try:
        try:
            found = os.lstat(os.path.basename(real), dir_fd=parent)
        except OSError as error:
            raise SourceError(f"{os.fsdecode(path)}: {source_error(error)}") from error
        return _store_file(writer, tally, found, Place(parent, found_parent.st_dev, 0, name), old,
                           os.path.basename(real))  # fmt: skip
    finally:
        os.close(parent)


def _store_file(
    writer: RunWriter, tally: Tally, found: os.stat_result, place: Place, old: StateRef | None,
    real_name: bytes,
) -> Single:  # fmt: skip
    systems = FileSystems()
    known = load_old(writer.repository, old)
    before = known.find(place.path) if known else None
    stamp = stamp_of(real_name, found)
    tally.counts["files"] += 1
    tally.counts["bytes"] += found.st_size
    inodes = systems.keeps_inodes(found.st_dev)
    shown = (place.path, *stamp[1:])
    if before is not None and same_stamp(shown, before[:9], inodes=inodes):
        entry, kind = before, "unchanged"
    else:
        entry = FileStorer(writer, systems, tally).store(stamp, before, place)
        entry, kind = entry._replace(name=place.path), "changed" if before else "new"
    tally.counts[kind] += 1
    tally.observer.file(kind, place.path)
    tally.observer.progress(1, 0)
    return _wrapped(writer, entry, old if entry is before else None)


def backup_stream(writer: RunWriter, tally: Tally, name: bytes, old: StateRef | None) -> Single:
    """Store standard input as a file called *name*.  Raises UsageError, SourceError."""
    if not name or b"/" in name or b"\0" in name or name in (b".", b"..") or len(name) > 255:
        raise UsageError(f"{os.fsdecode(name)!r} cannot be the name of a file")
    known = load_old(writer.repository, old)
    before = known.find(name) if known else None
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


def _wrapped(writer: RunWriter, entry: Entry, same: StateRef | None) -> Single:
    """A directory that holds just *entry*; *same* is its state when nothing changed."""
    mode = stat.S_IFDIR | 0o755
    row = (b"", mode, entry.uid, entry.gid, 4096, entry.mtime_ns, 0, 0, 2)
    root = Entry(*row, None, None, b"", 0, {}, None)
    if same is not None:
        return Single(root, WrittenState(same.ref, same.digest))
    written = write_directory(writer, [entry[:9]], {entry.name: entry}, None)
    return Single(root, written)

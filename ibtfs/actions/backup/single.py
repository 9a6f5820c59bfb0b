"""Backing up a source that is not a folder: one file, or standard input."""

from __future__ import annotations

import os
import stat
import time
from typing import BinaryIO, NamedTuple

from ibtfs.actions.backup.classify import CHANGED, NEW, UNCHANGED, classify
from ibtfs.actions.backup.entry import FileStorer, Place
from ibtfs.actions.backup.large import LargeFile
from ibtfs.actions.backup.tree import TreeOptions
from ibtfs.actions.observer import Tally
from ibtfs.actions.source.chunks import StreamSource
from ibtfs.actions.source.filesystems import FileSystems
from ibtfs.actions.source.opening import open_source, source_error, stamp_of
from ibtfs.errors import IntegrityError, SourceError, UsageError
from ibtfs.format.entry import MODE, SIZE, Stamp
from ibtfs.store.trees.directory import Entry, StateRef
from ibtfs.store.trees.old_directory import load_old
from ibtfs.store.writing.losses import Losses
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
    state: StateRef | None,
    options: TreeOptions,
    damaged: Losses,
) -> Single | None:
    """Store the one file at *path*, links followed; None if it would be stored in a dry run.

    *state* is that of the last backup.  What is *damaged* counts as changed.  Raises SourceError.
    """
    real, name = os.path.realpath(path), os.path.basename(path)
    folder, found_folder = open_source(os.path.dirname(real))
    try:
        found = os.lstat(os.path.basename(real), dir_fd=folder)
        stamp = stamp_of(os.path.basename(real), found)
        place = Place(folder, found_folder.st_dev, 0, name)
        return _store_file(writer, tally, stamp, place, state, options, damaged)
    except OSError as error:
        raise SourceError(f"{os.fsdecode(path)}: {source_error(error)}") from error
    finally:
        os.close(folder)


def _store_file(
    writer: RunWriter,
    tally: Tally,
    stamp: Stamp,
    place: Place,
    state: StateRef | None,
    options: TreeOptions,
    damaged: Losses,
) -> Single | None:
    """Store the file listed as *stamp* under the name that *place* has as its path."""
    systems, name, old = FileSystems(), place.path, _old_row(writer, state, place.path)
    tally.counts.update(files=1, bytes=stamp[SIZE])
    kind = classify(
        (name, *stamp[MODE:]), old.stamp if old else None,
        inodes=options.trusts_inodes(systems, place.device),
        is_suspect=options.reread or (old is not None and old.content in damaged),
    )  # fmt: skip
    entry = old
    if kind != UNCHANGED:
        entry = None
        if not options.dry_run:
            entry = FileStorer(writer, systems, tally).store(stamp, old, place)._replace(name=name)
    tally.file(kind, name)
    tally.observer.progress(1, 0)
    return _wrapped(writer, entry, state if entry is old else None) if entry else None


def backup_stream(
    writer: RunWriter, tally: Tally, stream: BinaryIO, name: bytes, state: StateRef | None
) -> Single:
    """Store *stream* as a file called *name*; *state* is that of the last backup.

    Raises UsageError, SourceError.
    """
    if not name or b"/" in name or b"\0" in name or name in (b".", b"..") or len(name) > 255:
        raise UsageError(f"{os.fsdecode(name)!r} cannot be the name of a file")
    old = _old_row(writer, state, name)
    base = old.content if old else None
    try:
        size = writer.contents.record(base).size if base else 0
    except IntegrityError:
        base, size = None, 0
    stored = LargeFile(
        writer, StreamSource(stream), size, base, lambda count: tally.observer.progress(0, count)
    ).store()
    tally.counts.update(
        files=1, bytes=stored.size, bytes_read=stored.size, bytes_added=stored.added
    )
    tally.counts[CHANGED if old else NEW] += 1
    now = time.time_ns()
    mode = stat.S_IFREG | 0o600
    row = (name, mode, os.getuid(), os.getgid(), stored.size, now, 0, 0, 1)
    return _wrapped(writer, Entry(*row, stored.ref, None, b"", 0, {}, None), None)


def _old_row(writer: RunWriter, state: StateRef | None, name: bytes) -> Entry | None:
    """What the last point had as *name*, if that can be read."""
    old = load_old(writer.repository, state)
    return old.find(name) if old and old.is_readable else None


def _wrapped(writer: RunWriter, entry: Entry, same: StateRef | None) -> Single:
    """A directory that holds just *entry*; *same* is its state when nothing changed."""
    mode = stat.S_IFDIR | 0o755
    row = (b"", mode, entry.uid, entry.gid, 4096, entry.mtime_ns, 0, 0, 2)
    root = Entry(*row, None, None, b"", 0, {}, None)
    if same is not None:
        return Single(root, same, entry)
    written = write_directory(writer, [entry.stamp], {entry.name: entry}, None)
    return Single(root, written, entry)

"""Backing up: one run makes one backup point of one source."""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass, field, replace
from typing import BinaryIO, NamedTuple

from ibtfs.actions.backup.commit import Written, commit, make_point
from ibtfs.actions.backup.consolidate import STATE_ARCHIVES, largest, rewrite_states
from ibtfs.actions.backup.devices import Devices
from ibtfs.actions.backup.plan import Plan, make_plan
from ibtfs.actions.backup.single import backup_file, backup_stream
from ibtfs.actions.backup.tree import TreeBackup, TreeOptions
from ibtfs.actions.observer import Observer, Tally
from ibtfs.actions.source.opening import open_source, source_error
from ibtfs.actions.source.parents import parents_of
from ibtfs.actions.source.scan import EXCLUDE_FILE, exclude_lines
from ibtfs.errors import IbtfsError, IntegrityError, SourceError, UsageError
from ibtfs.format.acl import named_numbers
from ibtfs.format.compression import Codec
from ibtfs.format.entry import XATTRS
from ibtfs.format.patterns import Patterns, check_lines
from ibtfs.format.point import Parent, Point, Source
from ibtfs.store.archives.writer import compression_pool
from ibtfs.store.leftovers import remove_leftovers
from ibtfs.store.lock import SHARED, Lock
from ibtfs.store.protection.keeping import protect_run
from ibtfs.store.repository import Repository
from ibtfs.store.writing.catalog import Catalog
from ibtfs.store.writing.losses import find_losses
from ibtfs.store.writing.run import RunWriter


@dataclass(frozen=True)
class BackupOptions:
    """How a source is backed up.

    *host* and *name* make its identity; *patterns* are lines by git's rules; *cache* is the folder
    of the local catalog (empty: none is kept); *stdin_name* stores *stream* as one file.
    """

    host: str
    name: str = ""
    tags: tuple[str, ...] = ()
    comment: str = ""
    full: bool = False
    patterns: tuple[str | bytes, ...] = ()
    tree: TreeOptions = field(default_factory=TreeOptions)
    cache: bytes = b""
    stdin_name: bytes = b""
    stream: BinaryIO | None = None


class BackupResult(NamedTuple):
    """What a backup did: the new point (None after a dry run), counts, problems."""

    point: Point | None
    tally: Tally
    full: bool
    seconds: float


def backup(
    repository: Repository, source: bytes, options: BackupOptions, observer: Observer
) -> BackupResult:
    """Back up *source*, an absolute path, into *repository*.

    Raises RepositoryLocked, SourceError when the source itself cannot be read, UsageError,
    IbtfsError.
    """
    began = time.monotonic()
    if bool(options.stdin_name) != (options.stream is not None):
        raise UsageError("A stream needs a name to be stored under, and the name a stream")
    repository.require_writable()
    _require_own(repository, options)
    tally = Tally(observer)
    with (
        repository.lock(SHARED) as lock,
        compression_pool() as pool,
        Catalog(repository, options.cache) as catalog,
    ):
        # first: nobody who lost his lock can finish anything behind what is looked at now
        if repository.own is None:
            remove_leftovers(repository, lock, observer.note)
        else:
            repository.points.tidy(observer.note)
        plan = make_plan(repository, Source(options.host, source, options.name), full=options.full)
        if plan.sequence == 1:
            # before the first archive: points/ missing beside archives then means that it was lost
            repository.complete()
        first = plan.parent.state.archive if plan.parent else None
        losses = find_losses(repository, catalog, first, plan.damaged.contents)
        for lost in losses.told:
            observer.note(lost)
        plan = replace(plan, damaged=losses)
        with RunWriter(
            repository, plan.run_id, epoch=plan.epoch, catalog=catalog,
            codec=Codec(repository.config.level), pool=pool, damaged=plan.damaged,
            beat=lock.refresh,
        ) as writer:  # fmt: skip
            written, point = _write(writer, plan, options, tally), None
            if written is None or options.tree.dry_run:
                writer.abort()
            else:
                point = make_point(plan, written, options.comment)
                point = commit(writer, lock, point, options.tags, tally, began=began)
                if repository.own is None:
                    _protect(repository, plan, lock, observer)
    return BackupResult(point, tally, plan.parent is None, time.monotonic() - began)


def _require_own(repository: Repository, options: BackupOptions) -> None:
    """Raise UsageError of what a machine that only writes cannot do."""
    own = repository.own
    if own is not None and options.host != own.host:
        raise UsageError(f"This machine may make backups of the host {own.host!r} only")
    if own is not None and options.tags:
        raise UsageError("This machine only writes, and cannot tag: tag the point elsewhere")


def _protect(repository: Repository, plan: Plan, lock: Lock, observer: Observer) -> None:
    """Write parity for what the run has written, if that is wanted: the point is there already."""
    try:
        failed = protect_run(repository, plan.run_id, lock.refresh)
    except IbtfsError as error:
        failed = [str(error)]
    for message in failed:
        observer.note(f"Backed up, but not protected by parity: {message}")


def _write(writer: RunWriter, plan: Plan, options: BackupOptions, tally: Tally) -> Written | None:
    """Store the source; None if a dry run has nothing to show for it.

    Raises SourceError, IbtfsError.
    """
    path, state = plan.source.path, plan.old_state
    if options.stream is not None:
        if options.tree.dry_run:
            return None
        single = backup_stream(writer, tally, options.stream, options.stdin_name, state)
    elif _is_folder(path):
        return _write_tree(writer, plan, options, tally)
    else:
        stored = backup_file(writer, tally, path, state, options.tree, plan.damaged)
        if stored is None:
            return None
        single = stored
    numbers = named_numbers(single.row.extras.get(XATTRS, {}))
    parents = () if options.stream is not None else _parents_of_file(path)
    return Written(single.root, single.state, (b"",), *numbers, is_single=True, parents=parents)


def _parents_of_file(path: bytes) -> tuple[Parent, ...] | None:
    folder, _ = open_source(os.path.dirname(os.path.realpath(path)))
    try:
        return parents_of(folder, itself=True)
    finally:
        os.close(folder)


def _is_folder(path: bytes) -> bool:
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except OSError as error:
        raise SourceError(f"{os.fsdecode(path)}: {source_error(error)}") from error


def _write_tree(writer: RunWriter, plan: Plan, options: BackupOptions, tally: Tally) -> Written:
    """Store a folder, and all that is in it."""
    parent = plan.parent
    devices = Devices(parent.devices if parent else (b"",))
    root, _ = open_source(plan.source.path)
    try:
        chosen = _tree_options(writer.repository, root, plan.source.path, options, tally)
        tree = TreeBackup(writer, tally, chosen, devices, plan.damaged)
        entry, state = tree.store(root, plan.old_state, parent.time_ns if parent else 0)
        parents = parents_of(root)
    finally:
        os.close(root)
    if not chosen.dry_run and len(tree.state_rows) > STATE_ARCHIVES:
        writer.close_archive()
        try:
            state = rewrite_states(writer, state, largest(tree.state_rows, STATE_ARCHIVES))
        except IntegrityError as error:
            writer.abort()  # what was written of them is of no use
            tally.observer.note(f"Old states stay where they are, one is damaged: {error}")
    return Written(entry, state, devices.paths, tree.users, tree.groups, parents=parents)


def _tree_options(
    repository: Repository, root: int, path: bytes, options: BackupOptions, tally: Tally
) -> TreeOptions:
    """The options with the patterns of the source's own ``.exclude`` file added."""
    try:
        lines = exclude_lines(root)
    except SourceError as error:
        raise SourceError(f"{os.fsdecode(path)}: {error}") from error
    if lines:
        name = os.fsdecode(os.path.join(path, EXCLUDE_FILE))
        check_lines(lines, name)
        tally.observer.note(f"Patterns in {name} are honoured")
    patterns = Patterns.from_lines([*lines, *options.patterns])
    own = filter(None, (repository.local_path, options.cache))
    found = [os.stat(folder) for folder in own if os.path.isdir(folder)]
    exclusions = options.tree.exclusions
    identities = exclusions.identities | {(one.st_dev, one.st_ino) for one in found}
    exclusions = replace(exclusions, patterns=patterns, identities=identities)
    return replace(options.tree, exclusions=exclusions)

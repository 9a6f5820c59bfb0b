"""Backing up: one run makes one backup point of one source."""

from __future__ import annotations

import os
import re
import stat
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import BinaryIO, NamedTuple

from ibtfs.actions.backup.consolidate import STATE_ARCHIVES, rewrite_states
from ibtfs.actions.backup.devices import Devices
from ibtfs.actions.backup.single import backup_file, backup_stream
from ibtfs.actions.backup.tree import TreeBackup, TreeOptions
from ibtfs.actions.observer import Observer, Tally
from ibtfs.actions.owners import group_names, user_names
from ibtfs.actions.source.opening import open_source, source_error
from ibtfs.actions.source.scan import EXCLUDE_FILE, exclude_lines
from ibtfs.errors import IntegrityError, SourceError
from ibtfs.format.acl import named_numbers
from ibtfs.format.compression import Codec
from ibtfs.format.entry import XATTRS
from ibtfs.format.patterns import Patterns, check_lines
from ibtfs.format.point import Point, Source
from ibtfs.store.archives.writer import compression_pool
from ibtfs.store.leftovers import remove_leftovers
from ibtfs.store.lock import SHARED, Lock, machine_name
from ibtfs.store.repository import Repository
from ibtfs.store.storage.durable import StorageFailed
from ibtfs.store.trees.directory import Entry, StateRef
from ibtfs.store.writing.catalog import Catalog
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


class Past(NamedTuple):
    """What the repository holds when a run begins."""

    parent: Point | None
    sequence: int
    epoch: int
    display: str


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

    Raises RepositoryLocked, SourceError when the source itself cannot be read, IbtfsError.
    """
    began = time.monotonic()
    repository.require_writable()
    tally = Tally(observer)
    lock = Lock(
        repository.storage, SHARED, host=machine_name(), process=os.getpid(),
        token=os.urandom(4).hex(),
    )  # fmt: skip
    with lock, compression_pool() as pool, Catalog(repository, options.cache) as catalog:
        past = look_back(repository, Source(options.host, source, options.name), options)
        remove_leftovers(repository, lock)
        run_id = new_id(options.host)
        with RunWriter(
            repository, run_id, epoch=past.epoch, catalog=catalog,
            codec=Codec(repository.config.level), pool=pool, damaged=repository.damage.contents(),
            beat=lock.refresh,
        ) as writer:  # fmt: skip
            run = _Run(repository, source, options, tally, writer, past, lock)
            point = run.run(run_id)
    return BackupResult(point, tally, past.parent is None, time.monotonic() - began)


def look_back(repository: Repository, source: Source, options: BackupOptions) -> Past:
    """The parent, sequence, epoch and display name of a run that begins now.

    Full runs at the same time may get the same epoch: they then share contents with each other,
    but refer to nothing that was there before either of them, which is all that an epoch promises.
    """
    points, damaged = repository.points.all()
    for error in damaged.values():
        if isinstance(error, StorageFailed):
            raise error  # it may be the newest: what comes after it must be told from it
    mine = [point for point in points if point.source.identity == source.identity]
    parent = mine[-1] if mine else None
    sequence = 1 + max((point.sequence for point in points), default=0)
    display = parent.display if parent else _display(source, points)
    if options.full:
        epochs = [point.epoch for point in points] + list(_archive_epochs(repository))
        return Past(None, sequence, 1 + max(epochs, default=0), display)
    return Past(parent, sequence, parent.epoch if parent else 0, display)


def _archive_epochs(repository: Repository) -> Iterator[int]:
    for name in repository.archive_ids():
        try:
            yield repository.archive(name).header.epoch
        except IntegrityError:
            continue  # what is damaged is not referred to


def _display(source: Source, points: list[Point]) -> str:
    """A name for a new source that no other source has."""
    taken = {point.display for point in points}
    base = source.name or os.fsdecode(os.path.basename(source.path)) or "root"
    base = re.sub(r"[/\0]", "_", base.encode("utf-8", "replace").decode())
    if base.startswith((".", "@")):
        base = "_" + base[1:]
    base = "".join(c if ord(c) >= 32 else "_" for c in base)[:60] or "source"
    candidates = [base, f"{base}@{source.host}", *(f"{base}-{n}" for n in range(2, 10_000))]
    return next(name for name in candidates if name not in taken)


def new_id(host: str) -> str:
    """A name for a run and its point: time, host and a random part, no more than that."""
    clean = re.sub(r"[^0-9A-Za-z-]", "-", host)[:40] or "host"
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}_{clean}_{os.urandom(5).hex()}"


@dataclass
class _Run:
    """One run: source, what it knows, and what it writes."""

    repository: Repository
    source: bytes
    options: BackupOptions
    tally: Tally
    writer: RunWriter
    past: Past
    lock: Lock
    time_ns: int = field(default_factory=time.time_ns)
    began: float = field(default_factory=time.monotonic)

    def run(self, run_id: str) -> Point | None:
        """Back up and commit; None after a dry run.  Raises SourceError, IbtfsError."""
        is_single = bool(self.options.stdin_name) or not self._is_folder()
        point = self._single(run_id) if is_single else self._tree(run_id)
        if point is None or self.options.tree.dry_run:
            self.writer.abort()
            return None
        self.writer.close_archive()
        for tag in dict.fromkeys(self.options.tags):
            self.repository.storage.put_new(f"tags/{run_id}/{tag}", b"")
        point = self._counted(point)
        if self.past.sequence == 1:
            self.repository.storage.make_folders()
        self.writer.settle()
        self.lock.verify()
        self.tally.counts["bytes_stored"] += self.repository.points.commit(point)
        return point

    def _counted(self, point: Point) -> Point:
        """*point* with its statistics, in which the manifest itself counts as stored."""
        statistics = self._statistics()
        size = self.repository.points.manifest_size(replace(point, statistics=statistics))
        statistics["bytes_stored"] += size
        return replace(point, statistics=statistics)

    def _is_folder(self) -> bool:
        try:
            return stat.S_ISDIR(os.stat(self.source).st_mode)
        except OSError as error:
            raise SourceError(f"{os.fsdecode(self.source)}: {source_error(error)}") from error

    def _statistics(self) -> dict[str, int]:
        counts = self.tally.counts
        counts["bytes_stored"] += self.writer.stored_bytes
        counts = counts + Counter(unchanged=counts["moved"])  # a reader knows of no others
        keys = ("files", "folders", "bytes", "new", "changed", "unchanged", "gone", "problems")
        return {key: counts[key] for key in (*keys, "bytes_read", "bytes_stored")} | {
            "milliseconds": int((time.monotonic() - self.began) * 1000)
        }

    def _old_state(self) -> StateRef | None:
        parent = self.past.parent
        return StateRef(parent.state, parent.digest) if parent else None

    def _tree(self, run_id: str) -> Point:
        root, _ = open_source(self.source)
        options = self._tree_options(root)
        devices = Devices(self.past.parent.devices if self.past.parent else (b"",))
        damaged = self.repository.damage.contents()
        tree = TreeBackup(self.writer, self.tally, options, devices, damaged)
        since_ns = self.past.parent.time_ns if self.past.parent else 0
        try:
            entry, written = tree.store(root, self._old_state(), since_ns)
        finally:
            os.close(root)
        if not self.options.tree.dry_run and len(tree.state_archives) > STATE_ARCHIVES:
            self.writer.close_archive()
            try:
                written = rewrite_states(self.writer, written)
            except IntegrityError as error:
                self.tally.observer.note(f"Old states stay where they are, one is damaged: {error}")
        return self._point(run_id, entry, written, tree, entry)

    def _tree_options(self, root: int) -> TreeOptions:
        """The options with the patterns of the source's own ``.exclude`` file added."""
        tree = self.options.tree
        lines = exclude_lines(root)
        if lines:
            name = os.fsdecode(os.path.join(self.source, EXCLUDE_FILE))
            check_lines(lines, name)
            self.tally.observer.note(f"Patterns in {name} are honoured")
        patterns = Patterns.from_lines([*lines, *self.options.patterns])
        own = filter(None, (self.repository.path, self.options.cache))
        found = [os.stat(path) for path in own if os.path.isdir(path)]
        identities = tree.exclusions.identities | {(one.st_dev, one.st_ino) for one in found}
        exclusions = replace(tree.exclusions, patterns=patterns, identities=identities)
        return replace(tree, exclusions=exclusions)

    def _single(self, run_id: str) -> Point | None:
        old, options = self._old_state(), self.options
        if options.stdin_name:
            if options.tree.dry_run:
                return None
            stream = sys.stdin.buffer
            single = backup_stream(self.writer, self.tally, stream, options.stdin_name, old)
        else:
            damaged = self.repository.damage.contents()
            stored = backup_file(self.writer, self.tally, self.source, old, options.tree, damaged)
            if stored is None:
                return None
            single = stored
        point = self._point(run_id, single.root, single.state, None, single.row)
        return replace(point, single=True)

    def _point(
        self, run_id: str, root: Entry, written: StateRef, tree: TreeBackup | None, row: Entry
    ) -> Point:
        """The manifest of this run; *row* is the source itself, a folder or a single file."""
        parent = self.past.parent
        users, groups = (
            (tree.users, tree.groups) if tree else named_numbers(row.extras.get(XATTRS, {}))
        )
        users.add(root.uid)
        groups.add(root.gid)
        local = time.localtime(self.time_ns // 1_000_000_000)
        return Point(
            id=run_id,
            sequence=self.past.sequence,
            epoch=self.past.epoch,
            time_ns=self.time_ns,
            utc_offset=local.tm_gmtoff,
            source=Source(self.options.host, self.source, self.options.name),
            display=self.past.display,
            root=root[:9],
            root_extras=root.extras,
            state=written.ref,
            digest=written.digest,
            devices=tree.devices.paths if tree else (b"",),
            users={**(parent.users if parent else {}), **user_names(users)},
            groups={**(parent.groups if parent else {}), **group_names(groups)},
            full=parent is None,
            parent=parent.id if parent else "",
            comment=self.options.comment,
        )

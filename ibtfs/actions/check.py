"""Checking a repository: every manifest, state and record; with their data, every frame and digest.

Each directory state and each content is looked at once, however many points have it.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import NamedTuple

from blake3 import blake3

from ibtfs.actions.damages import Damage, Damages, record_name
from ibtfs.actions.observer import Observer
from ibtfs.errors import (
    FormatDamaged,
    IbtfsError,
    IntegrityError,
    LimitExceeded,
    ObjectMissing,
)
from ibtfs.format.entry import HASH_SIZE, page_digest, pages_digest
from ibtfs.format.frames import DATA_STREAMS
from ibtfs.format.index import Reference
from ibtfs.format.point import Point
from ibtfs.store import layout
from ibtfs.store.absent_points import missing_points, unneeded_archives
from ibtfs.store.archives.reader import ArchiveReader
from ibtfs.store.contents.fold import require_short
from ibtfs.store.contents.holes import stretches, take_zeros
from ibtfs.store.contents.reader import Contents
from ibtfs.store.contents.slabs import load_slabs
from ibtfs.store.contents.whole import require_whole
from ibtfs.store.points import PointList
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import StateRef, StoredPage, child_path, decode_xattrs
from ibtfs.store.trees.reach import Visit, reach
from ibtfs.store.trees.totals import entries_below, require_countable

PIECE = 1 << 20


class CheckResult(NamedTuple):
    """What check found; *counts* of points, archives, states, contents, bytes.

    *missing* tells of points that were there once, a line each: removed, or lost.
    """

    damages: list[Damage]
    counts: Counter[str]
    missing: tuple[str, ...] = ()


def check(repository: Repository, *, read_data: bool, observer: Observer) -> CheckResult:
    """Check the whole repository; with *read_data* every content is read and its digest compared.

    Damaged contents are noted in the repository, if it can be written, so that the next backup
    stores them anew.
    """
    work = _Check(repository, observer, read_data=read_data)
    found = work.points()
    points = found or PointList([], {})
    for point_id, error in points.damaged.items():
        work.damages.add(layout.point(point_id), str(error), point=point_id)
    for point in points.points:
        work.point(point)
    archives = repository.archive_ids()
    for archive_id in archives:
        work.archive(repository.archive(archive_id))
    incomplete = repository.incomplete_archives()
    if incomplete:
        work.counts["incomplete_archives"] = len(incomplete)
    work.contents()
    work.tell_slabs()
    work.damages.name_paths(repository, repository.points.all().points if found else [])
    work.note()
    work.counts["points"] = len(points.points)
    work.counts["archives"] = len(archives)
    if points.points:
        work.counts["unneeded_archives"] = len(unneeded_archives(repository, points))
    missing = missing_points(repository, found) if found else []
    return CheckResult(work.damages.all(), work.counts, tuple(missing))


class _Check:
    """One check: what was seen, and what is wrong."""

    def __init__(self, repository: Repository, observer: Observer, *, read_data: bool) -> None:
        self._repository, self._observer, self._read_data = repository, observer, read_data
        self._contents = Contents(repository)
        self._states: set[Reference] = set()
        self._digests: dict[Reference, bytes] = {}
        self._totals: dict[Reference, int] = {}
        self._ranges: dict[Reference, int] = {}
        self._users: dict[Reference, tuple[str, bytes]] = {}
        self._xattrs: set[Reference] = set()
        self._without_slabs = 0
        self.damages = Damages(observer)
        self.counts: Counter[str] = Counter()

    def points(self) -> PointList | None:
        """The points; None, after it was told, if all of them are lost with their folder."""
        try:
            return self._repository.points.all()
        except ObjectMissing as error:
            self.damages.add(layout.POINTS, str(error))
            return None

    # Directory states

    def point(self, point: Point) -> None:
        """Everything that a manifest leads to."""
        name = layout.point(point.id)
        try:
            epoch = self._repository.archive(point.state.archive).header.epoch
            if epoch < point.epoch:
                raise FormatDamaged(f"{name}: refers to an archive of an older epoch")
        except IntegrityError as error:
            self.damages.add(name, str(error), point=point.id, path=b".")
            return
        root = StateRef(point.state, point.digest)
        for visit in reach(self._repository, root, seen=self._states, after=True):
            self.counts["states"] += 1
            self._observer.progress(1, 0)
            self._state(point, visit)
        try:
            require_countable(self._totals.get(point.state, 0), f"{name}: its tree")
        except LimitExceeded as error:
            self.damages.add(name, str(error), point=point.id, path=b".")
        if self._digests.get(point.state, point.digest) != point.digest:
            message = f"{name}: its tree does not have the digest that it should"
            self.damages.add(name, message, point=point.id)

    def _state(self, point: Point, visit: Visit) -> None:
        """Check one directory; its digest is kept, if it can be known."""
        ref, failures = visit.state.ref, []
        digests: list[bytes] = []
        for page in visit.readable_pages():
            try:
                digests.append(self._page(point, visit.path, page))
            except IntegrityError as error:
                failures.append(error)
        failures += visit.failures
        total = visit.size + entries_below(visit.known_folders(), self._totals)
        self._totals[ref] = max(total, self._totals.get(ref, 0))
        if not failures and all(digests):  # else some contents are damaged, and named
            few = len(digests) == 1
            digest = digests[0] if few else pages_digest([d[:HASH_SIZE] for d in digests])
            if digest[:HASH_SIZE] == visit.state.digest[:HASH_SIZE]:
                self._digests[ref] = digest
            else:
                message = f"{record_name(ref)}: does not have the digest that it should"
                failures.append(FormatDamaged(message))
        for failure in failures:
            self.damages.add_state(ref, str(failure), point.id, visit.path)

    def _page(self, point: Point, folder: bytes, page: StoredPage) -> bytes:
        """Check the rows of a page; its digest, empty if a content's cannot be known."""
        tokens: list[object] = list(page.page.refs)
        digests: list[bytes] = []
        xattrs: dict[int, bytes] = {}
        for row, entry in enumerate(page.entries()):
            path = child_path(folder, entry.name)
            if entry.content is not None:
                tokens[row] = digest = self._content(point, entry.content, path, entry.size)
                digests.append(digest)
            elif entry.state is not None:
                tokens[row] = entry.state.digest
            if entry.xattrs_content is not None:
                self._xattrs.add(entry.xattrs_content)
                xattrs[row] = digest = self._content(point, entry.xattrs_content, path, None)
                digests.append(digest)
        if not all(digests):
            return b""
        digest = page_digest(page.page, tokens, xattrs)
        if page.digest and page.digest != digest[:HASH_SIZE]:
            name = record_name(page.ref)
            raise FormatDamaged(f"{name}: does not have the digest that it should")
        return digest

    def _content(self, point: Point, ref: Reference, path: bytes, size: int | None) -> bytes:
        """The digest of a content that a row refers to, empty if its record cannot be read.

        The content itself is checked later, once.
        """
        self._users.setdefault(ref, (point.id, path))
        try:
            record = self._contents.record(ref)
        except IntegrityError as error:
            self.damages.add_content(ref, str(error), point.id, path)
            return b""
        if size is not None and record.size != size:
            message = f"{record_name(ref)}: is not as long as the row that refers to it"
            self.damages.add(record_name(ref), message, point=point.id, path=path)
        return record.digest

    # Contents

    def contents(self) -> None:
        """Every content that a point refers to: its chain, and its bytes if they are read."""
        for ref, (point_id, path) in self._users.items():
            if ref in self.damages.contents:
                continue
            self.counts["contents"] += 1
            try:
                self._chain(ref)
                if self._read_data:
                    self._read(ref)
            except IntegrityError as error:
                self.damages.add_content(ref, str(error), point_id, path)

    def _chain(self, ref: Reference) -> None:
        """All that a content is made of but its bytes."""
        record = self._contents.record(ref)
        require_whole(self._repository, ref, record)
        self._require_short(ref)
        if record.slabs >= 0:
            try:
                load_slabs(self._repository, record, ref.archive)
            except ObjectMissing:
                self._without_slabs += 1

    def tell_slabs(self) -> None:
        """Tell of slab digests that are gone: only the next delta would have been made from them.

        They are no damage, for whoever needs them makes them again.
        """
        if self._without_slabs:
            self._observer.note(
                f"Digests of slabs are gone of {self._without_slabs} contents: "
                "backups make them again"
            )

    def _require_short(self, ref: Reference) -> None:
        """Decode the maps of a chain, each once, and no more of them than a chain may have."""
        ranges, at = 0, ref
        while True:
            record = self._contents.record(at)
            if at not in self._ranges:
                extents = None if record.is_plain else self._contents.extents(at, record)
                self._ranges[at] = len(extents.ends) if extents is not None else 0
            ranges += self._ranges[at]
            require_short(ref, ranges)
            if record.base is None:
                return
            at = record.base

    def _read(self, ref: Reference) -> None:
        """Read a content and compare its digest."""
        record = self._contents.record(ref)
        hasher = blake3()
        kept: list[bytes] = []
        for start, length, is_hole in stretches(self._contents, ref, PIECE):
            if is_hole:
                take_zeros(hasher.update, length)
                continue
            data = b"".join(self._contents.own_pieces(ref, start, length))
            hasher.update(data)
            if ref in self._xattrs:
                kept.append(data)
            self.counts["bytes"] += len(data)
            self._observer.progress(0, len(data))
        name = record_name(ref)
        if hasher.digest() != record.digest:
            raise FormatDamaged(f"{name}: the bytes do not have the digest of the content")
        if ref in self._xattrs:
            decode_xattrs(b"".join(kept), name)

    def note(self) -> None:
        """Note damaged contents in the repository, where it can be written."""
        found = self.damages.contents.keys()
        try:
            new = found - self._repository.damage.contents() if found else found
            if new:
                self._repository.damage.add(os.urandom(8).hex(), sorted(new))
        except (IbtfsError, OSError) as error:
            self._observer.note(f"The damage could not be noted in the repository: {error}")

    # Archives

    def archive(self, reader: ArchiveReader) -> None:
        """An archive's own files: trailers and tables, every frame, but of data only to be read."""
        try:
            header = reader.header
            self._epochs(reader)
        except IntegrityError as error:
            self.damages.add(reader.where, str(error))
            return
        present = {"data": header.has_data, "sigs": header.has_sigs, "index": True}
        for kind in layout.KINDS:
            if present[kind]:
                self._file(reader, kind)

    def _epochs(self, reader: ArchiveReader) -> None:
        """An archive refers only to archives of its own or a higher epoch."""
        for other in reader.header.archives[1:]:
            try:
                epoch = self._repository.archive(other).header.epoch
            except IntegrityError:
                continue  # what refers there is named where it is met
            if epoch < reader.header.epoch:
                message = f"{reader.where}: refers to {other}, which is of an older epoch"
                self.damages.add(reader.where, message)

    def _file(self, reader: ArchiveReader, kind: str) -> None:
        try:
            opened = reader.file(kind)
        except IntegrityError as error:
            self.damages.add(f"{reader.where}/{kind}", str(error))
            return
        if kind == "data" and not self._read_data:
            return
        for stream, table in opened.tables.items():
            for row in range(len(table.starts)):
                try:
                    opened.frame(stream, row)
                except IntegrityError as error:
                    self.damages.add(opened.name, str(error))
        if kind == "data":
            self.counts["frames"] += sum(len(opened.table(s).starts) for s in DATA_STREAMS)

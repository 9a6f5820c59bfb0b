"""Looking at a repository: every manifest, state and record; with data, every frame and digest.

Each directory state and each content is looked at once, however many points have it.
"""

from __future__ import annotations

from collections import Counter

from ibtfs.actions.checking.suspects import Frame, Suspect, Suspects, points_now
from ibtfs.actions.damages import record_name
from ibtfs.actions.observer import Observer
from ibtfs.errors import (
    FormatDamaged,
    IntegrityError,
    LimitExceeded,
    ObjectMissing,
    PointNotFound,
    StorageFailed,
)
from ibtfs.format.entry import HASH_SIZE, page_digest, pages_digest
from ibtfs.format.frames import DATA_STREAMS
from ibtfs.format.index import Reference
from ibtfs.format.point import Point
from ibtfs.store import layout
from ibtfs.store.archives.file import FrameFileReader
from ibtfs.store.archives.reader import ArchiveReader
from ibtfs.store.contents.fold import require_short
from ibtfs.store.contents.holes import stretches
from ibtfs.store.contents.reader import Contents
from ibtfs.store.contents.slabs import load_slabs
from ibtfs.store.contents.whole import require_whole
from ibtfs.store.points import PointList
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import StateRef, StoredPage, child_path, decode_xattrs
from ibtfs.store.trees.reach import Visit, reach
from ibtfs.store.trees.totals import entries_below, require_countable

PIECE = 1 << 20


class Look:
    """One look at a repository: what was seen, and what seems wrong; used by one thread.

    *suspects* are what is wrong, *counts* of states, contents, frames and bytes.
    """

    def __init__(self, repository: Repository, observer: Observer, *, read_data: bool) -> None:
        self._repository, self._observer, self._read_data = repository, observer, read_data
        self._contents = Contents(repository)
        self._states: set[Reference] = set()
        self._digests: dict[Reference, bytes] = {}
        self._totals: dict[Reference, int] = {}
        self._ranges: dict[Reference, int] = {}
        self._users: dict[Reference, tuple[str, bytes]] = {}
        self._xattrs: set[Reference] = set()
        self._sound: set[Reference] = set()
        self._without_slabs: set[Reference] = set()
        self.suspects = Suspects()
        self.counts: Counter[str] = Counter()

    def again(self) -> Look:
        """A check that has looked once more at what this one found, and at nothing else."""
        work = Look(self._repository, self._observer, read_data=self._read_data)
        bad = self.suspects
        work._states, work._digests = self._states - bad.states, self._digests
        work._totals = self._totals
        work._xattrs, work._without_slabs = self._xattrs, self._without_slabs
        work._sound = self._sound
        work.counts = self.counts
        work.counts["states"] -= len(bad.states)
        for point in points_now(self._repository).points:
            if point.state in bad.states:
                work.point(point)
        for one in bad.found:
            work._look_again(one)
        work.contents()
        return work

    def _look_again(self, one: Suspect) -> None:
        if one.content is not None:
            self._users[one.content] = one.point, one.path
        elif one.state is not None:
            self._walk(one.point, one.state, one.path)
        elif one.frame is not None:
            self._frame_again(one.frame)
        elif one.is_of_point:
            self._point_again(one.point)
        elif one.name == layout.POINTS:
            self.points()
        else:
            self.suspects.found.append(one)  # two records that do not fit each other stay so

    def _point_again(self, point_id: str) -> None:
        try:
            point = self._repository.points.get(point_id)
        except PointNotFound:
            return
        except (IntegrityError, StorageFailed) as error:
            self.suspects.add(layout.point(point_id), str(error), point=point_id)
        else:
            self.point(point)

    def _frame_again(self, frame: Frame) -> None:
        if not self._repository.is_whole(frame.archive):
            return
        reader = self._repository.archive(frame.archive)
        if not frame.kind:
            self.archive(reader)
        elif frame.stream < 0:
            self._file(reader, frame.kind)
        else:
            opened = self._opened(reader, frame.kind)
            row = opened.table(frame.stream).find(frame.start) if opened else -1
            if opened and row >= 0:
                self._frame(opened, frame._replace(start=row))

    def points(self) -> PointList | None:
        """The points; None, after it was noted, if all of them are lost with their folder."""
        try:
            return self._repository.points.all()
        except ObjectMissing as error:
            self.suspects.add(layout.POINTS, str(error))
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
            self.suspects.add(name, str(error), point=point.id, path=b".")
            return
        self._walk(point.id, StateRef(point.state, point.digest), b"")
        try:
            require_countable(self._totals.get(point.state, 0), f"{name}: its tree")
        except LimitExceeded as error:
            self.suspects.add(name, str(error), point=point.id, path=b".")
        if self._digests.get(point.state, point.digest) != point.digest:
            message = f"{name}: its tree does not have the digest that it should"
            self.suspects.add(name, message, point=point.id)

    def _walk(self, point: str, root: StateRef, path: bytes) -> None:
        """The directory *root* of a point, at *path*, and all below it that was not seen yet."""
        for visit in reach(self._repository, root, path, seen=self._states, after=True):
            self.counts["states"] += 1
            self._observer.progress(1, 0)
            self._state(point, visit)

    def _state(self, point: str, visit: Visit) -> None:
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
            cut = [digest[:HASH_SIZE] for digest in digests]
            digest = digests[0] if few else pages_digest(cut, self._contents.digests)
            if digest[:HASH_SIZE] == visit.state.digest[:HASH_SIZE]:
                self._digests[ref] = digest
            else:
                message = f"{record_name(ref)}: does not have the digest that it should"
                failures.append(FormatDamaged(message))
        for failure in failures:
            self.suspects.add_state(visit.state, str(failure), point, visit.path)

    def _page(self, point: str, folder: bytes, page: StoredPage) -> bytes:
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
        digest = page_digest(page.page, tokens, xattrs, self._contents.digests)
        if page.digest and page.digest != digest[:HASH_SIZE]:
            name = record_name(page.ref)
            raise FormatDamaged(f"{name}: does not have the digest that it should")
        return digest

    def _content(self, point: str, ref: Reference, path: bytes, size: int | None) -> bytes:
        """The digest of a content that a row refers to, empty if its record cannot be read.

        The content itself is checked later, once.
        """
        if ref not in self._sound:
            self._users.setdefault(ref, (point, path))
        try:
            record = self._contents.record(ref)
        except IntegrityError as error:
            self.suspects.add_content(ref, str(error), point, path)
            return b""
        if size is not None and record.size != size:
            message = f"{record_name(ref)}: is not as long as the row that refers to it"
            self.suspects.add(record_name(ref), message, point=point, path=path)
        return record.digest

    # Contents

    def contents(self) -> None:
        """Every content that a point refers to: its chain, and its bytes if they are read."""
        for ref, (point_id, path) in self._users.items():
            if ref in self.suspects.contents:
                continue
            try:
                self._chain(ref)
                if self._read_data:
                    self._read(ref)
                self._sound.add(ref)
            except IntegrityError as error:
                self.suspects.add_content(ref, str(error), point_id, path)
        self.counts["contents"] = len(self._sound) + len(self.suspects.contents)

    def _chain(self, ref: Reference) -> None:
        """All that a content is made of but its bytes."""
        record = self._contents.record(ref)
        require_whole(self._repository, ref, record)
        self._require_short(ref)
        if record.slabs >= 0:
            try:
                load_slabs(self._repository, record, ref.archive)
            except ObjectMissing:
                self._without_slabs.add(ref)

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

    def tell_slabs(self) -> None:
        """Tell of slab digests that are gone: only the next delta would have been made from them.

        They are no damage, for whoever needs them makes them again.
        """
        if self._without_slabs:
            self._observer.note(
                f"Digests of slabs are gone of {len(self._without_slabs)} contents: "
                "backups make them again"
            )

    def _read(self, ref: Reference) -> None:
        """Read a content and compare its digest."""
        record = self._contents.record(ref)
        hasher = self._contents.digests.hasher()
        kept: list[bytes] = []
        for start, length, is_hole in stretches(self._contents, ref, PIECE):
            if is_hole:
                hasher.add_zeros(length)
                continue
            data = b"".join(self._contents.own_pieces(ref, start, length))
            hasher.update(data)
            if ref in self._xattrs:
                kept.append(data)
            self.counts["bytes"] += len(data)
            self._observer.progress(0, len(data))
        name = record_name(ref)
        if hasher.finish() != record.digest:
            raise FormatDamaged(f"{name}: the bytes do not have the digest of the content")
        if ref in self._xattrs:
            decode_xattrs(b"".join(kept), name)

    # Archives

    def archive(self, reader: ArchiveReader) -> None:
        """An archive's own files: trailers and tables, every frame, but of data only to be read."""
        try:
            header = reader.header
            self._epochs(reader)
        except IntegrityError as error:
            self.suspects.add_frame(reader.where, str(error), Frame(reader.id))
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
                self.suspects.add_frame(reader.where, message, Frame(reader.id))

    def _opened(self, reader: ArchiveReader, kind: str) -> FrameFileReader | None:
        try:
            return reader.file(kind)
        except IntegrityError as error:
            name = layout.archive_object(reader.id, kind)
            self.suspects.add_frame(name, str(error), Frame(reader.id, kind))
            return None

    def _file(self, reader: ArchiveReader, kind: str) -> None:
        opened = self._opened(reader, kind)
        if opened is not None and opened.behind:
            message = f"{opened.name}: {opened.behind} bytes lie behind its end"
            self.suspects.add_frame(opened.name, message, Frame(reader.id, kind))
        if opened is None or (kind == layout.DATA and not self._read_data):
            return
        for stream, table in opened.tables.items():
            for row in range(len(table.starts)):
                self._frame(opened, Frame(reader.id, kind, stream, row))
        if kind == layout.DATA:
            self.counts["frames"] += sum(len(opened.table(s).starts) for s in DATA_STREAMS)

    def _frame(self, opened: FrameFileReader, frame: Frame) -> None:
        """Read the frame in row *frame.start* of its table."""
        try:
            opened.frame(frame.stream, frame.start)
        except IntegrityError as error:
            start = opened.table(frame.stream).starts[frame.start]
            self.suspects.add_frame(opened.name, str(error), frame._replace(start=start))

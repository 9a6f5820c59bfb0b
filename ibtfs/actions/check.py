"""Checking a repository: every manifest, state and record; with their data, every frame and digest.

Each directory state and each content is looked at once, however many points have it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from blake3 import blake3

from ibtfs.actions.observer import Observer
from ibtfs.errors import FormatDamaged, IbtfsError, IntegrityError
from ibtfs.format.entry import (
    HASH_SIZE,
    page_digest,
    pages_digest,
)
from ibtfs.format.frames import DATA_STREAMS
from ibtfs.format.index import Reference
from ibtfs.format.point import Point
from ibtfs.store.archives.reader import FILES, ArchiveReader, generations
from ibtfs.store.contents.reader import Contents
from ibtfs.store.contents.slabs import load_slabs
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import Directory, Entry, StateRef, StoredPage, decode_xattrs

PIECE = 1 << 20
PATHS_KEPT = 100
_UNKNOWN = object()


@dataclass
class Damage:
    """Something that is not as it was written: where, what, and which points and paths it hit."""

    object: str
    message: str
    points: list[str] = field(default_factory=list)
    paths: list[bytes] = field(default_factory=list)


@dataclass
class CheckResult:
    """What check found; *counts* of points, archives, states, contents, bytes."""

    damages: list[Damage]
    counts: Counter[str]


def check(repository: Repository, *, read_data: bool, observer: Observer) -> CheckResult:
    """Check the whole repository; with *read_data* every content is read and its digest compared.

    Damaged contents are noted in the repository, if it can be written, so that the next backup
    stores them anew.
    """
    work = _Check(repository, observer)
    points = repository.points()
    for point_id, error in points.damaged.items():
        work.damage(f"points/{point_id}", str(error), point=point_id)
    for point in points.points:
        work.point(point)
    archives = repository.archive_ids()
    for archive_id in archives:
        work.archive(archive_id, read_data=read_data)
    work.incomplete(archives)
    work.contents(read_data=read_data)
    work.note()
    work.counts["points"] = len(points.points)
    work.counts["archives"] = len(archives)
    return CheckResult(list(work.damages.values()), work.counts)


class _Check:
    """One check: what was seen, and what is wrong."""

    def __init__(self, repository: Repository, observer: Observer) -> None:
        self._repository, self._observer = repository, observer
        self._contents = Contents(repository)
        self._states: dict[Reference, bytes] = {}
        self._bad_states: dict[Reference, str] = {}
        self._users: dict[Reference, tuple[str, bytes]] = {}
        self._xattrs: set[Reference] = set()
        self._damaged_contents: dict[Reference, str] = {}
        self.damages: dict[tuple[str, str], Damage] = {}
        self.counts: Counter[str] = Counter()

    def damage(self, name: str, message: str, *, point: str = "", path: bytes = b"") -> None:
        """Note a damage of the object *name*; the same one again adds only points and paths."""
        found = self.damages.get((name, message))
        if found is None:
            found = self.damages[name, message] = Damage(name, message)
            self._observer.problem(path, message)
        if point and point not in found.points:
            found.points.append(point)
        if path and path not in found.paths and len(found.paths) < PATHS_KEPT:
            found.paths.append(path)

    def point(self, point: Point) -> None:
        """Everything that a manifest leads to."""
        try:
            epoch = self._repository.archive(point.state.archive).header.epoch
            if epoch < point.epoch:
                raise FormatDamaged(f"points/{point.id}: refers to an archive of an older epoch")
        except IntegrityError as error:
            self.damage(f"points/{point.id}", str(error), point=point.id, path=b".")
            return
        digest = self._tree(point, StateRef(point.state, point.digest))
        if digest is not None and digest != point.digest:
            message = f"points/{point.id}: its tree does not have the digest that it should"
            self.damage(f"points/{point.id}", message, point=point.id)

    def _tree(self, point: Point, root: StateRef) -> bytes | None:
        """Check all states below *root* that were not seen yet; the root's digest."""
        stack: list[tuple[StateRef, bytes]] = [(root, b"")]
        while stack:
            state, path = stack.pop()
            if state.ref in self._bad_states:
                continue  # named for every point that has it when all are known
            if state.ref in self._states:
                continue
            self._states[state.ref] = b""
            try:
                stack.extend(self._state(point, state, path))
            except IntegrityError as error:
                self._bad_states[state.ref] = str(error)
                self.damage(_name(state.ref), str(error), point=point.id, path=path or b".")
        return self._states.get(root.ref) or None

    def _state(
        self, point: Point, state: StateRef, path: bytes
    ) -> Iterator[tuple[StateRef, bytes]]:
        """Check one directory state; the states below it."""
        self.counts["states"] += 1
        digests, below = [], []
        for page in Directory(self._repository, state.ref).pages():
            digest = self._page(point, page, path)
            if digest and page.digest and page.digest != digest[:HASH_SIZE]:
                raise FormatDamaged(f"{_name(page.ref)}: does not have the digest that it should")
            digests.append(digest)
            for entry in page.entries():
                if entry.state is not None:
                    below.append((entry.state, _join(path, entry.name)))
        self._observer.progress(len(below), 0)
        if not all(digests):
            return iter(below)  # some contents are damaged, and named; so the digest is not known
        digest = digests[0] if len(digests) == 1 else pages_digest([d[:HASH_SIZE] for d in digests])
        if digest[:HASH_SIZE] != state.digest[:HASH_SIZE]:
            raise FormatDamaged(f"{_name(state.ref)}: does not have the digest that it should")
        self._states[state.ref] = digest
        return iter(below)

    def _page(self, point: Point, page: StoredPage, path: bytes) -> bytes:
        """Check the rows of a page; its digest, empty if a content's cannot be known."""
        tokens: list[object] = []
        xattrs: dict[int, bytes | None] = {}
        for row, entry in enumerate(page.entries()):
            below = _join(path, entry.name)
            tokens.append(self._token(point, page, entry, row, below))
            if entry.xattrs_content is not None:
                self._xattrs.add(entry.xattrs_content)
                xattrs[row] = self._content(point, entry.xattrs_content, below, None)
        if None in xattrs.values() or any(token is _UNKNOWN for token in tokens):
            return b""
        known = {row: digest for row, digest in xattrs.items() if digest is not None}
        return page_digest(page.page, tokens, known)

    def _token(self, point: Point, page: StoredPage, entry: Entry, row: int, path: bytes) -> object:
        if entry.content is not None:
            digest = self._content(point, entry.content, path, entry.size)
            return _UNKNOWN if digest is None else digest
        if entry.state is not None:
            return entry.state.digest
        return page.page.refs[row]

    def _content(self, point: Point, ref: Reference, path: bytes, size: int | None) -> bytes | None:
        """The digest of a content that a row refers to, None if its record cannot be read.

        The content itself is checked later, once.
        """
        self._users.setdefault(ref, (point.id, path))
        try:
            record = self._contents.record(ref)
        except IntegrityError as error:
            self._damaged_contents[ref] = str(error)
            self.damage(_name(ref), str(error), point=point.id, path=path)
            return None
        if size is not None and record.size != size:
            message = f"{_name(ref)}: is not as long as the row that refers to it"
            self.damage(_name(ref), message, point=point.id, path=path)
        return record.digest

    def archive(self, archive_id: str, *, read_data: bool) -> None:
        """An archive's own files: trailers and tables; with *read_data* every frame."""
        reader = self._repository.archive(archive_id)
        try:
            header = reader.header
            self._epochs(reader)
        except IntegrityError as error:
            self.damage(reader.where, str(error))
            return
        present = {"data": header.has_data, "sigs": header.has_sigs, "index": True}
        for kind in FILES:
            if present[kind]:
                self._file(reader, kind, read_data=read_data)

    def _epochs(self, reader: ArchiveReader) -> None:
        """An archive refers only to archives of its own or a higher epoch."""
        for other in reader.header.archives[1:]:
            try:
                epoch = self._repository.archive(other).header.epoch
            except IntegrityError:
                continue  # what refers there is named where it is met
            if epoch < reader.header.epoch:
                message = f"{reader.where}: refers to {other}, which is of an older epoch"
                self.damage(reader.where, message)

    def _file(self, reader: ArchiveReader, kind: str, *, read_data: bool) -> None:
        try:
            opened = reader.file(kind)
        except IntegrityError as error:
            self.damage(f"{reader.where}/{kind}", str(error))
            return
        if kind == "data" and not read_data:
            return
        for stream, table in opened.tables.items():
            for row in range(len(table.starts)):
                try:
                    opened.frame(stream, row)
                except IntegrityError as error:
                    self.damage(opened.name, str(error))
        if kind == "data":
            self.counts["frames"] += sum(len(opened.table(s).starts) for s in DATA_STREAMS)

    def incomplete(self, archives: list[str]) -> None:
        """Archives without an index are what a run that was cut off left; they harm nothing."""
        for name in self._repository.storage.list("archives"):
            if name not in archives and generations(self._repository.storage, name):
                self.counts["incomplete_archives"] += 1

    def contents(self, *, read_data: bool) -> None:
        """Every content that a point refers to: its chain, and with *read_data* its bytes."""
        for ref, (point, path) in self._users.items():
            if ref in self._damaged_contents:
                continue
            self.counts["contents"] += 1
            try:
                self._check_content(ref, read_data=read_data)
            except IntegrityError as error:
                self._damaged_contents[ref] = str(error)
                self.damage(_name(ref), str(error), point=point, path=path)
        if self._damaged_contents or self._bad_states:
            self._name_paths()

    def _check_content(self, ref: Reference, *, read_data: bool) -> None:
        record = self._contents.record(ref)
        self._contents.require_whole(ref, record)
        if not record.is_plain:
            self._contents.extents(ref, record)
        if record.slabs >= 0:
            load_slabs(self._repository, record, ref.archive)
        if read_data:
            self._read(ref)

    def _read(self, ref: Reference) -> None:
        """Read a content and compare its digest."""
        record = self._contents.record(ref)
        hasher = blake3()
        kept: list[bytes] = []
        for offset in range(0, record.size, PIECE):
            data = b"".join(self._contents.own_pieces(ref, offset, PIECE))
            hasher.update(data)
            if ref in self._xattrs:
                kept.append(data)
            self.counts["bytes"] += len(data)
            self._observer.progress(0, len(data))
        if hasher.digest() != record.digest:
            raise FormatDamaged(f"{_name(ref)}: the bytes do not have the digest of the content")
        if ref in self._xattrs:
            decode_xattrs(b"".join(kept), _name(ref))

    def _name_paths(self) -> None:
        """Find every point and path that damaged contents and states hit."""
        for point in self._repository.points().points:
            stack = [(point.state, b"")]
            while stack:
                ref, path = stack.pop()
                if ref in self._bad_states:
                    message = self._bad_states[ref]
                    self.damage(_name(ref), message, point=point.id, path=path or b".")
                for entry in self._readable(ref):
                    below = _join(path, entry.name)
                    self._name_contents(entry, point, below)
                    if entry.state is not None:
                        stack.append((entry.state.ref, below))

    def _name_contents(self, entry: Entry, point: Point, path: bytes) -> None:
        for ref in (entry.content, entry.xattrs_content):
            message = self._damaged_contents.get(ref) if ref is not None else None
            if ref is not None and message is not None:
                self.damage(_name(ref), message, point=point.id, path=path)

    def _readable(self, state: Reference) -> list[Entry]:
        """The rows of a directory; none if it cannot be read."""
        try:
            return list(Directory(self._repository, state).entries())
        except IntegrityError:
            return []

    def note(self) -> None:
        """Note damaged contents in the repository, where it can be written."""
        new = set(self._damaged_contents)
        if not new:
            return
        try:
            new = new - self._repository.damaged_contents()
            if new:
                self._repository.note_damaged(os.urandom(8).hex(), sorted(new))
        except (IbtfsError, OSError) as error:
            self._observer.note(f"The damage could not be noted in the repository: {error}")


def _name(ref: Reference) -> str:
    return f"archives/{ref.archive}: record {ref.number}"


def _join(path: bytes, name: bytes) -> bytes:
    return path + b"/" + name if path else name

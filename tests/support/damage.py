"""A small repository that has everything, ways to damage it, and what comes of each.

`build` makes the repository with lowered bounds, so that a few dozen KB hold every kind of record.
`Examiner.examine` checks a damaged copy, restores every point and reads everything through the
mounted tree, and tells the outcome: a message that names the file hit, or harmless, or bad.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from ibtfs.actions.backup import entry as store_file
from ibtfs.actions.backup.run import BackupOptions, backup
from ibtfs.actions.check import check
from ibtfs.actions.observer import Observer
from ibtfs.actions.restore.run import RestoreOptions, restore
from ibtfs.actions.source import filesystems
from ibtfs.errors import IbtfsError
from ibtfs.format import entry as entry_format
from ibtfs.format.index import Reference
from ibtfs.format.keys import Keys, PlainKeys
from ibtfs.store.archives import writer as archive_writer
from ibtfs.store.archives.file import FrameFileReader
from ibtfs.store.repository import Repository
from ibtfs.store.unlocking import Unlock, locked
from ibtfs.store.writing import flatten
from ibtfs.store.writing import run as run_writer
from ibtfs.view.entry_node import point_node
from ibtfs.view.tree import RepositoryView

from . import Entry, sealing, snapshot
from .memory import BytesObject
from .trees import Directory, Fifo, File, Hardlink, Sparse, Symlink, make_tree
from .views import Known, Tree, WrongRead, viewed

Files = dict[str, bytes]
KIB = 1 << 10
SECONDS = 60
MEMORY_BYTES = 3 << 30

LOWERED: list[tuple[Any, str, Any]] = [
    (filesystems, "GRANULARITY_NS", 1_000_000), (flatten, "DEPTH_BOUND", 2),
    (flatten, "DONORS_KEPT", 1), (store_file, "MEMORY_LIMIT", 64 * KIB),
    (store_file, "XATTRS_INLINE", 40), (entry_format, "ONE_PAGE", 3),
    (entry_format, "_BOUNDARY", 1), (run_writer, "ARCHIVE_BYTES", 150 * KIB),
    (archive_writer, "INSIDE_INDEX", 100), (archive_writer, "RECORD_FRAME", 600),
    (archive_writer, "FRAME_SIZES", {1: 4 * KIB, 2: 64 * KIB, 3: 4 * KIB}),
]  # fmt: skip


# ---- the repository ------------------------------------------------------------------------


@contextmanager
def lowered() -> Iterator[None]:
    """The bounds of writing are low; what is written can be read without it."""
    before = [(module, name, getattr(module, name)) for module, name, _ in LOWERED]
    try:
        for module, name, value in LOWERED:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


@dataclass
class Sample:
    """A repository as the bytes of its files, and what its points must restore to."""

    files: Files
    expected: dict[str, Tree]
    foreign: Files = field(default_factory=dict)
    unlock: Unlock = locked
    keys: Keys = field(default_factory=lambda: PlainKeys(b"i" * 16))


def build(work: Path, *, sealed: bool = False) -> Sample:
    """Make the repository, and another one of the same sources, below *work*."""
    with lowered():
        sample = _build(work / "own", b"i" * 16, 1, sealed=sealed)
        sample.foreign = _build(work / "foreign", b"j" * 16, 1, sealed=sealed).files
    return sample


def _build(work: Path, repository_id: bytes, seed: int, *, sealed: bool) -> Sample:
    work.mkdir(parents=True)
    path, one, two = os.fsencode(work / "repository"), work / "one", work / "two"
    unlock = sealing.unlock() if sealed else locked
    Repository.create(path, repository_id, sealer=sealing.sealer() if sealed else None)
    rng = random.Random(seed)
    expected: dict[str, Tree] = {}

    def take(source: Path, **options: Any) -> None:
        time.sleep(0.02)
        tree = snapshot(source)
        chosen = BackupOptions(host="testhost", **options)
        result = backup(
            Repository.open(path, unlock=unlock), os.fsencode(source), chosen, Observer()
        )
        if result.point is None or result.tally.problems:
            raise IbtfsError(f"not backed up: {result.tally.problems}")
        expected[result.point.id] = tree

    make_tree(one, _first(rng))
    take(one, tags=("weekly",))
    for generation in range(3):
        _change(one, rng, generation)
        take(one)
    make_tree(two, {"copy of doc": (one / "doc").read_bytes(), "own": b"two's own"})
    take(two, comment="the second source")
    (one / "doc").write_bytes(b"shorter " + (one / "doc").read_bytes()[:1500])
    take(one, full=True)
    keys = Repository.open(path, unlock=unlock).keys
    return Sample(read_files(Path(os.fsdecode(path))), expected, {}, unlock, keys)


def _repeated(rng: random.Random, size: int) -> bytes:
    """Bytes of which a slab differs from the next, and which are small when compressed."""
    return b"".join(rng.randbytes(8) * (8 * KIB) for _ in range(size // (64 * KIB) + 1))[:size]


def _first(rng: random.Random) -> Directory:
    prose = b"".join(b"%x is line %d\n" % (rng.getrandbits(64), n) for n in range(60))
    pages = {f"p{n}": (b"page %d" % n if n % 2 else b"") for n in range(9)}
    return Directory({
        "doc": File(prose, xattrs={"user.a": b"1"}), "same": Hardlink("doc"),
        "big": _repeated(rng, 330 * KIB), "zeros": bytes(70 * KIB),
        "sparse": Sparse(200_000, {100_000: b"in the middle"}), "pages": pages,
        "long": File(b"x", xattrs={"user.long": rng.randbytes(60), "user.b": b""}),
        "folder": Directory({"in": b"inside"}, xattrs={"user.folder": rng.randbytes(50)}),
        "empty": {}, "link": Symlink("doc"), "fifo": Fifo(mode=0o640), b"\xff\n": b"odd",
    }, mode=0o750)  # fmt: skip


def _change(one: Path, rng: random.Random, generation: int) -> None:
    """Edit the text and the large file in place; add and remove a little."""
    with open(one / "doc", "r+b", buffering=0) as file:
        os.pwrite(file.fileno(), b"edit %d" % generation, 300 * generation + 5)
        os.pwrite(file.fileno(), rng.randbytes(20), 1000 + generation)
    with open(one / "big", "r+b", buffering=0) as file:
        os.pwrite(file.fileno(), rng.randbytes(40), 70 * KIB * generation + 11)
        os.pwrite(file.fileno(), rng.randbytes(30), 200 * KIB + generation)
    if generation == 1:
        (one / "pages" / "p4").write_bytes(b"no longer empty")
        (one / "pages" / "p6").unlink()
        os.truncate(one / "big", 329 * KIB)
    elif generation == 2:
        os.rename(one / "folder" / "in", one / "empty" / "moved")


def read_files(repository: Path) -> Files:
    """The bytes of all files, by their path inside."""
    return {str(p.relative_to(repository)): p.read_bytes()
            for p in sorted(repository.rglob("*")) if p.is_file()}  # fmt: skip


def frames_of(sample: Sample, name: str) -> list[tuple[int, int]]:
    """The (offset, size) of each frame of a file, its table and trailer last."""
    data = sample.files[name]
    if not name.startswith("archives/"):
        return [(0, len(data))]
    found = FrameFileReader(sample.keys, name.rpartition(".")[0], BytesObject(data, name))
    rows = sorted((offset, size) for table in found.tables.values()
                  for offset, size in zip(table.offsets, table.sizes))  # fmt: skip
    end = rows[-1][0] + rows[-1][1]
    return [*rows, (end, len(data) - end)]


# ---- damages -------------------------------------------------------------------------------


class Damage(NamedTuple):
    """One change of a repository: new bytes of files (None: the file is gone; a folder: b"/")."""

    kind: str
    hit: tuple[str, ...]
    what: str
    files: dict[str, bytes | None]


FOLDER = b"/"


def flip(files: Files, name: str, position: int, value: int) -> Damage:
    """One byte changed by exclusive or with *value*."""
    data = bytearray(files[name])
    data[position] ^= value
    return Damage(f"byte ^{value}", (name,), f"byte {position} ^{value}", {name: bytes(data)})


def damages_of_kind(sample: Sample, kind: str) -> list[Damage]:
    """Those of :func:`other_damages` of one kind."""
    found = other_damages(sample, large=kind == "longer")
    return [damage for damage in found if damage.kind == kind]


def other_damages(sample: Sample, *, large: bool = True) -> Iterator[Damage]:
    """All damages that are not changes of one byte; without the *large* ones on demand."""
    files = sample.files
    for name, data in files.items():
        yield Damage("deleted", (name,), "deleted", {name: None})
        yield Damage("folder", (name,), "a folder in its place", {name: FOLDER})
        yield Damage("longer", (name,), "a byte more", {name: data + b"\0"})
        if large:
            yield Damage("longer", (name,), "9 MB more", {name: data + bytes(9 << 20)})
        if data:
            yield Damage("zeroed", (name,), "all zeros", {name: bytes(len(data))})
            yield from _cut(sample, name, data)
        foreign = [other for other in sample.foreign if kind_of(other) == kind_of(name)]
        for other in foreign[:2] if name != "ibtfs.json" else foreign:
            if sample.foreign[other] != data:
                yield Damage("foreign", (name,), f"{other} of another repository",
                             {name: sample.foreign[other]})  # fmt: skip
    yield from _swapped(files)


def _cut(sample: Sample, name: str, data: bytes) -> Iterator[Damage]:
    rows = frames_of(sample, name)
    for size in sorted({0, 1, len(data) // 2, len(data) - 1, len(data) - 56,
                        *(offset for offset, _ in rows)}):  # fmt: skip
        if 0 <= size < len(data):
            yield Damage("truncated", (name,), f"cut to {size}", {name: data[:size]})
    for (a, one), (b, two) in itertools.pairwise(rows[:-1]):
        swapped = data[:a] + data[b : b + two] + data[a : a + one] + data[b + two :]
        if swapped != data:
            yield Damage("frames swapped", (name,), f"frames at {a} and {b}", {name: swapped})


def _swapped(files: Files) -> Iterator[Damage]:
    """Two files change places; both are hit."""
    names = [name for name in files if files[name]]
    for position, one in enumerate(names):
        for two in [n for n in names[position + 1 :] if kind_of(n) == kind_of(one)][:3]:
            yield Damage("files swapped", (one, two), f"{one} and {two}",
                         {one: files[two], two: files[one]})  # fmt: skip
    archive = next(name for name in files if name.endswith("/data.1"))
    index = archive.replace("data.1", "index.1")
    yield Damage("files swapped", (archive, index), "data and index",
                 {archive: files[index], index: files[archive]})  # fmt: skip


def kind_of(name: str) -> str:
    """What sort of file it is: index, data, sigs, points, tags, ibtfs.json."""
    top, _, rest = name.partition("/")
    return rest.rpartition("/")[2].partition(".")[0] if top == "archives" else top


# ---- outcomes ------------------------------------------------------------------------------

NAMED, HARMLESS, GONE = "named", "harmless", "point gone"
UNNAMED, UNDETECTED, WRONG = "NOT NAMED", "NOT DETECTED", "WRONG BYTES"
TRACEBACK, HANG = "TRACEBACK", "HANG"
GOOD = (NAMED, HARMLESS, GONE)


class Outcome(NamedTuple):
    """What came of a damage; *detail* says why it is bad."""

    kind: str
    detail: str = ""


class Hang(BaseException):
    """It took too long."""


class _Wrong(Exception):
    """Something was given out that is not what was stored."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise Hang in the main thread when it takes longer."""

    def late(_number: int, _frame: FrameType | None) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Examiner:
    """Has a copy of the sample below *work*, which it damages and mends; one process."""

    def __init__(self, sample: Sample, work: Path) -> None:
        self.sample, self._work = sample, work
        self.root = work / "repository"
        for name, data in sample.files.items():
            self._put(name, data)
        for folder in ("locks", "damaged", "tags"):
            (self.root / folder).mkdir(exist_ok=True)
        self._messages: list[str] = []
        self._incomplete = False
        self._known: Known = {}

    def _put(self, name: str, data: bytes | None) -> None:
        path = self.root / name
        if path.is_dir():
            path.rmdir()
        path.parent.mkdir(parents=True, exist_ok=True)
        if data is None:
            path.unlink(missing_ok=True)
        elif data == FOLDER:
            path.unlink(missing_ok=True)
            path.mkdir()
        else:
            path.write_bytes(data)

    def examine(self, damage: Damage) -> Outcome:
        """Do the damage, look, and undo it."""
        self._messages, self._incomplete, self._known = [], False, {}
        for name, data in damage.files.items():
            self._put(name, data)
        try:
            with time_limit(SECONDS):
                return self._outcome(damage)
        except Hang:
            return Outcome(HANG, f"more than {SECONDS} s")
        except (_Wrong, WrongRead) as error:
            return Outcome(WRONG, str(error))
        except Exception:
            return Outcome(TRACEBACK, traceback.format_exc(limit=-6))
        finally:
            for name in damage.files:
                self._put(name, self.sample.files[name])
            for note in (self.root / "damaged").iterdir():
                note.unlink()
            shutil.rmtree(self._work / "restored", ignore_errors=True)

    def _open(self) -> Repository:
        return Repository.open(os.fsencode(self.root), unlock=self.sample.unlock)

    def _outcome(self, damage: Damage) -> Outcome:
        told = self._check()
        present = self._each_point(self._restored) & self._each_point(self._viewed)
        missing = set(self.sample.expected) - present
        names = [_object(name) for name in damage.hit]
        if told:
            if any(name in text for name in names for text in told):
                return Outcome(NAMED)
            return Outcome(UNNAMED, f"{names}: {told[:3]}")
        if self._incomplete:
            return Outcome(UNDETECTED, f"check is clean, but: {self._messages[:3]}")
        if not missing:
            return Outcome(HARMLESS)
        if all(f"points/{point}" in damage.hit for point in missing):
            return Outcome(GONE)
        return Outcome(WRONG, f"points missing without a word: {missing}")

    def _check(self) -> list[str]:
        """What check tells."""
        try:
            result = check(self._open(), read_data=True, observer=Observer())
        except IbtfsError as error:
            return [_told(error)]
        return [f"{found.object}: {found.message}" for found in result.damages]

    def _failed(self, error: object) -> None:
        self._messages.append(_told(error))
        self._incomplete = True

    def _each_point(self, read: Callable[[Repository, str], None]) -> set[str]:
        """Read every point that there is; which ones could be looked at."""
        try:
            repository = self._open()
            points = repository.points.all().points
        except IbtfsError as error:
            self._failed(error)
            return set()
        for point in points:
            if point.id not in self.sample.expected:
                raise _Wrong(f"a point that never was: {point.id}")
            try:
                read(repository, point.id)
            except IbtfsError as error:
                self._failed(error)
        return {point.id for point in points}

    def _restored(self, repository: Repository, point_id: str) -> None:
        place = self._work / "restored"
        try:
            tally = restore(repository, repository.points.get(point_id), [], os.fsencode(place),
                            RestoreOptions(), Observer())  # fmt: skip
            bad = dict(tally.problems)
            for message in bad.values():
                self._failed(message)
            self._compare(f"restore of {point_id}", point_id, snapshot(place), bad)
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def _viewed(self, repository: Repository, point_id: str) -> None:
        bad: dict[bytes, IbtfsError] = {}
        view = RepositoryView(repository)
        root = point_node(view, b"point", repository.points.get(point_id))
        tree = viewed(root, bad, self._known)
        for error in bad.values():
            self._failed(error)
        self._compare(f"view of {point_id}", point_id, tree, bad)

    def _compare(
        self, where: str, point_id: str, actual: Tree, bad: Mapping[bytes, object]
    ) -> None:
        lines = differing(self.sample.expected[point_id], actual, bad)
        if lines:
            raise _Wrong(f"{where}: {lines[:3]}")


def _object(name: str) -> str:
    """How messages name a file: without its generation."""
    return name.removesuffix(".1") if name.startswith("archives/") else name


def _told(error: object) -> str:
    text = str(error)
    if not text or "\n" in text.strip():
        raise _Wrong(f"a message that is not one line: {error!r}")
    return text


def differing(expected: Tree, actual: Tree, bad: Mapping[bytes, object]) -> list[str]:
    """What differs although nothing was said of it; *bad* are the paths with a message."""
    lost = {path for path in expected if any(above in bad for above in _upwards(path))}
    lines = [f"{path!r} is not expected" for path in actual if path not in expected]
    for path, one in expected.items():
        other = actual.get(path)
        if other is None:
            lines += [] if path in lost else [f"{path!r} is missing"]
        elif path in bad:  # said to be incomplete; but what is there of its bytes is right
            lines += [f"{path!r}: bytes"] if other.sha256 not in (None, one.sha256) else []
        elif _reduced(one, lost) != _reduced(other, lost, one):
            lines.append(f"{path!r}: {_reduced(one, lost)} is {_reduced(other, lost, one)}")
    return lines


def _upwards(path: bytes) -> Iterator[bytes]:
    yield path
    while path:
        path = path.rpartition(b"/")[0]
        yield path


def _reduced(found: Entry, lost: set[bytes], like: Entry | None = None) -> Entry:
    """*found* without what says nothing, or depends on others that were lost."""
    model = like or found
    found = replace(found, blocks=0, links=frozenset(found.links - lost))
    if model.type == "directory":
        return replace(found, size=0, nlink=0 if lost else found.nlink)
    if model.links & lost:
        found = replace(found, nlink=0, links=frozenset())
    return found


def spoil_record(repository: Repository, ref: Reference, stream: int) -> None:
    """Change a byte of the frame that holds a record of an index."""
    archive = Repository.open(repository.path).archive(ref.archive).file("index")
    table = archive.table(stream)
    path = Path(os.fsdecode(repository.path)) / archive.name
    data = bytearray(path.read_bytes())
    data[table.offsets[table.find(ref.number)] + 30] ^= 1
    path.write_bytes(data)

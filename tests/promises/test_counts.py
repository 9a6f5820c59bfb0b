"""What a file costs, in things that can be counted: a guard against slow creep, without a clock.

200 small files in 4 folders are backed up, backed up again unchanged, and restored; what the same
takes for the 4 folders without files is taken off, and the rest divided by 200.  Each count has an
upper bound in BOUNDS, about a tenth above what it was when it was last looked at.

When a bound is broken, look at what changed before raising it:

* system calls: ``IBTFS_TEST_COUNTS=show pytest -s tests/promises/test_counts.py`` prints every
  count, and the calls by name; ``strace -f python -m ibtfs backup SOURCE REPO`` shows them one by
  one.
* frames, bytes hashed: break at ``counting`` below; whoever calls more often than before did it.
* memory: ``tracemalloc.take_snapshot()`` where the peak is read, ``statistics("lineno")``.

When a count went down, lower its bound: ``show`` prints the table as it would be today.
"""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from ibtfs.actions.source.scan import Exclusions, list_folder
from ibtfs.store.archives.file import FrameFileReader, FrameFileWriter
from tests.support import CHECKOUT
from tests.support.repositories import back_up, create, restored

FILES, FOLDERS, SIZE = 200, 4, 2000

BOUNDS = {
    # system calls a file, but for those of memory, threads and clocks
    ("first backup", "calls"): 6.7,
    ("unchanged backup", "calls"): 1.1,
    ("restore", "calls"): 7.8,
    # frames in all
    ("first backup", "frames written"): 4,
    ("first backup", "frames read"): 0,
    ("unchanged backup", "frames written"): 0,
    ("unchanged backup", "frames read"): 2,
    ("restore", "frames written"): 0,
    ("restore", "frames read"): 4,
    # bytes hashed, a file (of 2,000 bytes)
    ("first backup", "bytes hashed"): 2330,
    ("unchanged backup", "bytes hashed"): 15.5,
    ("restore", "bytes hashed"): 2270,
    # the peak of memory, in bytes a file
    ("first backup", "peak bytes"): 3800,
    ("unchanged backup", "peak bytes"): 226,
    ("restore", "peak bytes"): 3000,
    # objects that a listing of a folder holds, an entry
    ("listing", "objects"): 7.8,
}

UNCOUNTED = frozenset({
    "brk", "clock_nanosleep", "clone", "clone3", "exit", "exit_group", "futex", "getrandom",
    "gettid", "madvise", "mmap", "mprotect", "mremap", "munmap", "rseq", "rt_sigaction",
    "rt_sigprocmask", "sched_yield", "set_robust_list", "total",
})  # fmt: skip
SHOW = os.environ.get("IBTFS_TEST_COUNTS") == "show"
VERBS = ("first backup", "unchanged backup", "restore")
Counts = dict[tuple[str, str], float]


def make_source(path: Path, files: int) -> Path:
    for folder in range(FOLDERS):
        (path / str(folder)).mkdir(parents=True)
        for number in range(files // FOLDERS):
            text = f"file {number} of folder {folder} "
            (path / str(folder) / f"{number:03}").write_text((text * SIZE)[:SIZE])
    return path


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    place = tmp_path_factory.mktemp("counts")
    made = {files: make_source(place / str(files), files) for files in (0, FILES)}
    time.sleep(0.2)  # files as young as the file system's clock is coarse are read again
    return made


# System calls


def calls(words: list[str], cache: Path) -> Counter[str]:
    """The system calls of a command, by name."""
    table = cache / "strace"
    environment = {
        **os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONHASHSEED": "0",
        "PYTHONPATH": str(CHECKOUT),
    }  # fmt: skip
    command = ["strace", "-f", "-c", "-U", "calls,name", "-o", str(table)]
    command += [sys.executable, "-m", "ibtfs", *words]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    rows = [line.split() for line in table.read_text().splitlines()]
    return Counter({row[1]: int(row[0]) for row in rows if len(row) == 2 and row[0].isdigit()})


def counted_calls(source: Path, place: Path) -> dict[str, Counter[str]]:
    place.mkdir()
    cache, repository = place / "cache", place / "repository"
    cache.mkdir()
    backup = ["backup", "-q", str(source), str(repository)]
    words = [backup, backup, ["restore", "-q", str(repository), "latest", str(place / "back")]]
    calls(["--version"], cache)  # what is compiled once is compiled now
    return {verb: calls(command, cache) for verb, command in zip(VERBS, words)}


@pytest.fixture(scope="module")
def system_calls(
    sources: dict[int, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Counter[str]]:
    """The calls by name that 200 files take more than none, by verb."""
    assert shutil.which("strace"), "strace is not installed; it is needed here"
    place = tmp_path_factory.mktemp("calls")
    counted_calls(sources[0], place / "warm")
    empty, full = (counted_calls(sources[n], place / str(n)) for n in (0, FILES))
    return {
        verb: Counter({n: full[verb][n] - empty[verb][n] for n in full[verb] if n not in UNCOUNTED})
        for verb in VERBS
    }


@pytest.mark.parametrize("verb", VERBS)
def test_system_calls_of_a_file(verb: str, system_calls: dict[str, Counter[str]]) -> None:
    names = system_calls[verb]
    told = ", ".join(f"{name} {n / FILES:.2f}" for name, n in names.most_common(15))
    judge({(verb, "calls"): names.total() / FILES}, told)


# Within this process


class Hasher:
    """BLAKE3, with what it hashes counted."""

    def __init__(self, sizes: list[int], data: Any = b"", **options: Any) -> None:
        self._sizes, self._hasher = sizes, blake3(data, **options)
        sizes.append(memoryview(data).nbytes)

    def update(self, data: Any, **options: Any) -> Hasher:
        self._sizes.append(memoryview(data).nbytes)
        self._hasher.update(data, **options)
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hasher, name)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """What the library does from now on: one number for each time; threads append to it."""
    events: dict[str, list[int]] = {"frames read": [], "frames written": [], "bytes hashed": []}
    read, written, hashed = events.values()
    frame, add = FrameFileReader.frame, FrameFileWriter.add

    def count_frame(self: FrameFileReader, stream: int, row: int) -> Any:
        read.append(1)
        return frame(self, stream, row)

    def count_add(self: FrameFileWriter, *arguments: Any) -> None:
        written.append(1)
        add(self, *arguments)

    monkeypatch.setattr(FrameFileReader, "frame", count_frame)
    monkeypatch.setattr(FrameFileWriter, "add", count_add)
    replaced = 0
    for name, module in list(sys.modules.items()):
        if name.startswith("ibtfs.") and getattr(module, "blake3", None) is blake3:
            monkeypatch.setattr(module, "blake3", lambda *a, **o: Hasher(hashed, *a, **o))
            replaced += 1
    assert replaced > 5
    return events


class Run:
    """The three verbs within this process; `after` is called after each."""

    def __init__(self, source: Path, place: Path) -> None:
        self.source, self.place = source, place
        place.mkdir()
        self.repository = create(place / "repository")

    def verbs(self) -> Iterator[str]:
        result = back_up(self.repository, self.source)
        yield VERBS[0]
        result = back_up(self.repository, self.source)
        yield VERBS[1]
        assert result.point is not None
        assert result.tally.counts["unchanged"] == result.tally.counts["files"]
        assert restored(self.repository, result.point, self.place / "back").problems == []
        yield VERBS[2]


def test_frames_and_bytes_hashed(
    sources: dict[int, Path], tmp_path: Path, counting: dict[str, list[int]]
) -> None:
    found: dict[int, Counts] = {}
    for files, source in sources.items():
        found[files] = {}
        for values in counting.values():
            values.clear()
        for verb in Run(source, tmp_path / str(files)).verbs():
            for what, values in counting.items():
                found[files][verb, what] = sum(values)
                values.clear()
    counts = {
        key: (value - found[0][key]) / FILES if key[1] == "bytes hashed" else value
        for key, value in found[FILES].items()
    }
    assert counts["first backup", "bytes hashed"] >= SIZE, "not all was hashed, or not counted"
    assert counts["restore", "bytes hashed"] >= SIZE
    judge(counts)


def test_memory_of_a_file(sources: dict[int, Path], tmp_path: Path) -> None:
    list(Run(sources[0], tmp_path / "warm").verbs())
    peaks: dict[int, dict[str, int]] = {}
    for files, source in sources.items():
        peaks[files] = {}
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for verb in Run(source, tmp_path / str(files)).verbs():
                peaks[files][verb] = tracemalloc.get_traced_memory()[1] - before
                gc.collect()
                tracemalloc.reset_peak()
                before = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
    judge({(v, "peak bytes"): (peaks[FILES][v] - peaks[0][v]) / FILES for v in VERBS})


def test_objects_of_a_listing(sources: dict[int, Path]) -> None:
    descriptor = os.open(sources[FILES] / "0", os.O_RDONLY)
    try:
        kept = [list_folder(descriptor, b"0", Exclusions()) for _ in range(3)]
        gc.collect()
        before = sys.getallocatedblocks()
        kept += [list_folder(descriptor, b"0", Exclusions()) for _ in range(20)]
        gc.collect()
        more = sys.getallocatedblocks() - before
    finally:
        os.close(descriptor)
    entries = sum(len(listing.stamps) for listing in kept[3:])
    assert entries == 20 * FILES // FOLDERS
    judge({("listing", "objects"): more / entries})


def judge(counts: Counts, told: str = "") -> None:
    """Fail with everything that is above its bound; show today's table if that is wanted."""
    verbs, kinds = {verb for verb, _ in counts}, {what for _, what in counts}
    assert counts.keys() == {key for key in BOUNDS if key[0] in verbs and key[1] in kinds}
    if SHOW:
        for (verb, what), value in counts.items():
            print(f'\n    ("{verb}", "{what}"): {value * 1.1:.1f},  # {value:.2f} {told}')
    above = [f"{k}: {v:.2f}, not {BOUNDS[k]}" for k, v in counts.items() if v > BOUNDS[k]]
    assert not above, f"{above} {told}; how to look into it: see the docstring of this module"

"""Real backups in processes of their own: traced, killed with SIGKILL, or given errors.

`Scene` has a source, a repository with earlier points of it, and what these points must restore
to; each `Scene.trial` is a backup of a copy of that repository which is cut off, and afterwards
`Trial.verify` says all that is not as it should be.  Kills come from outside after a time, or
from strace at the n-th call of one kind, before that call is carried out.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pytest
from click.testing import CliRunner

import ibtfs
from ibtfs.cli.main import cli
from ibtfs.errors import IbtfsError
from ibtfs.store.repository import Repository

from . import Entry, differences, repositories, snapshot
from .forking import can_be_forked, forking
from .realdata import mixed
from .repositories import restored_tree

PACKAGE = Path(ibtfs.__file__).resolve().parent.parent
"""Where the processes find the same ibtfs as this one."""
CALLS = ("write", "pwrite64", "fsync", "fdatasync", "rename", "renameat", "renameat2", "link",
         "linkat", "unlink", "unlinkat", "rmdir", "mkdir", "mkdirat", "truncate", "ftruncate",
         "openat")  # fmt: skip
SWEPT = (
    "write", "fsync", "rename", "renameat", "link", "linkat", "unlink", "unlinkat", "mkdir",
    "mkdirat",
)  # fmt: skip
"""Calls before each of which a backup is killed, one after the other."""
START, DATA, INDEX, MANIFEST, FINISHED = "start", "data", "index", "manifest", "finished"
PHASES = (DATA, INDEX, MANIFEST)
KIB = 1 << 10


# ---- processes -----------------------------------------------------------------------------


def environment(cache: Path) -> dict[str, str]:
    """What the command runs with: its caches below *cache*, nothing written elsewhere."""
    paths = [os.environ.get("PYTHONPATH", ""), str(PACKAGE)]
    return {
        **os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }  # fmt: skip


def backup_command(source: Path, repository: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "ibtfs", "backup", "--quiet", *options,
            str(source), str(repository)]  # fmt: skip


def run_within(command: Sequence[str], cache: Path) -> tuple[int, str]:
    """As :func:`run`, but within this process, which is much faster."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        result = CliRunner().invoke(cli, command[command.index("ibtfs") + 1 :])
    return result.exit_code, result.stderr


def run(
    command: Sequence[str], cache: Path, tracer: Sequence[str] = (), *, limit: float = 600
) -> tuple[int, str]:
    """Run *command* to its end; its exit code (negative for a signal) and what it complained.

    It is traced by *tracer* if there is one.
    """
    if can_be_forked(command):
        return forking().run(command, cache.parent, environment(cache), tracer, limit=limit)
    assert not tracer, "only what is forked is traced"
    done = subprocess.run(
        command, env=environment(cache), cwd=cache.parent, stdin=subprocess.DEVNULL, check=False,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=limit,
    )  # fmt: skip
    return done.returncode, done.stderr.decode(errors="replace")


def tracing(log: Path, *injected: str, told: int = 0) -> list[str]:
    """How strace is called, which writes *log*; *injected* as in ``fsync:signal=KILL:when=3``.

    Of what is written, *told* bytes are told.
    """
    calls = ",".join(CALLS)
    inject = [f"--inject={what}" for what in injected]
    return ["strace", "-f", "-y", "-s", str(told), "-o", str(log), "-e", f"trace={calls}",
            "-e", "signal=none", *inject]  # fmt: skip


@dataclass(frozen=True)
class Call:
    """A system call: *path* is what it works on, *target* the new name it gives."""

    name: str
    number: int  # of its name, from 1
    path: str
    target: str
    text: str = field(repr=False)
    result: int


_LINE = re.compile(r"(\d+) +(\w+)\((.*?)\) += (-?\d+)(?:<(.*)>)?( E\w+ .*)?$")
_HALF = re.compile(r"(\d+) +(\w+)\((.*?) ?<unfinished \.\.\.>$")
_REST = re.compile(r"(\d+) +<\.\.\. \w+ resumed>(.*)$")
_BELOW = re.compile(r'(?:\d+|AT_FDCWD)<(.*?)>, "((?:[^"\\]|\\.)*)"')
_NAMES = re.compile(r'"((?:[^"\\]|\\.)*)"')


def read_trace(log: Path) -> list[Call]:
    """The calls of the main thread, which alone touches the repository, in their order."""
    calls: list[Call] = []
    counts: dict[str, int] = {}
    halves: dict[str, str] = {}
    main = ""
    for line in log.read_text(errors="surrogateescape").splitlines():
        half, rest = _HALF.match(line), _REST.match(line)
        if half:
            halves[half[1]] = f"{half[1]} {half[2]}({half[3]}"
            continue
        whole = _LINE.match(halves.pop(rest[1], "") + rest[2] if rest else line)
        if whole is None:
            continue
        main = main or whole[1]
        if whole[1] == main:
            counts[whole[2]] = counts.get(whole[2], 0) + 1
            calls.append(_call(whole, counts[whole[2]]))
    return calls


def _call(match: re.Match[str], number: int) -> Call:
    name, text, opened = match[2], match[3], match[5] or ""
    names = _NAMES.findall(text) if name not in ("write", "pwrite64") else []
    on = re.match(r"\d+<(.*?)>", text)
    path = opened if name == "openat" and opened else (names[0] if names else on[1] if on else "")
    target = names[1] if len(names) > 1 else ""
    if name.endswith("at") and name != "openat":  # names are below open folders
        below = [os.path.join(*found) for found in _BELOW.findall(text)]
        path, target = below[0], below[1] if len(below) > 1 else ""
    return Call(name, number, path, target, text, int(match[4]))


def phase_of(call: Call, earlier: Sequence[Call]) -> str:
    """Which part of a backup a kill just before *call* hits; *earlier* are the calls before it."""
    shown = {os.path.basename(c.target) for c in earlier if c.target and c.result == 0}
    if "index.1" in shown:
        return MANIFEST
    if "data.1" in shown:
        return INDEX
    begun = any(c.name == "write" and "/archives/" in c.path for c in earlier)
    return DATA if begun else START


def calls_by_phase(calls: Sequence[Call]) -> dict[str, list[Call]]:
    """The calls before which a kill hits each phase; those that only read are left out."""
    found: dict[str, list[Call]] = {phase: [] for phase in (START, *PHASES)}
    for position, call in enumerate(calls):
        if call.name in SWEPT:
            found[phase_of(call, calls[:position])].append(call)
    return found


def spread(items: Sequence[Call], count: int) -> list[Call]:
    """*count* of *items*, evenly; again from the beginning when there are not so many."""
    if len(items) >= count:
        return [items[n * len(items) // count] for n in range(count)]
    return [*items, *spread(items, count - len(items))] if items else []


# ---- scenes --------------------------------------------------------------------------------


@dataclass
class Problems:
    """What was found wrong, by line."""

    lines: list[str] = field(default_factory=list)

    def add(self, where: str, found: Sequence[object]) -> None:
        self.lines += [f"{where}: {line}" for line in found]


def leftovers(repository: Path) -> list[str]:
    """What a run that was cut off leaves: hidden parts, half archives, locks, tags of no point."""
    found = [str(path.relative_to(repository)) for path in repository.rglob("*.part")]
    for archive in sorted((repository / "archives").glob("*")):
        if not list(archive.glob("index.*")):
            found.append(f"archives/{archive.name} without an index")
    found += [f"locks/{path.name}" for path in (repository / "locks").glob("*")]
    points = {path.name for path in (repository / "points").glob("*")}
    found += [f"tags/{path.name} of no point" for path in (repository / "tags").glob("*")
              if path.name not in points]  # fmt: skip
    return found


def damages(repository: Path) -> list[str]:
    """What check finds with all data."""
    opened = Repository.open(os.fsencode(repository))
    return [f"check: {damage}" for damage in repositories.damages(opened)]


@dataclass
class Scene:
    """A source in its newest state, and a repository that holds earlier ones.

    *expected* are the trees of the earlier points, *newest* is the source now.  Without any
    earlier point the repository does not exist yet.
    """

    work: Path
    expected: dict[str, dict[bytes, Entry]] = field(default_factory=dict)
    newest: dict[bytes, Entry] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    trials: int = 0

    @property
    def source(self) -> Path:
        return self.work / "source"

    @property
    def base(self) -> Path:
        return self.work / "base" / "repository"

    @cached_property
    def calls(self) -> list[Call]:
        """What a backup calls that nothing disturbs."""
        trial = self.trial()
        code, calls = trial.trace()
        if code:
            raise IbtfsError(f"a backup that nothing disturbs: exit {code}: {trial.said}")
        return calls

    def trial(self) -> Trial:
        """A fresh copy of the repository, in which nothing was cut off yet."""
        self.trials += 1
        place = self.work / f"trial-{self.trials}"
        place.mkdir()
        for name in ("repository", "cache"):
            if (self.work / "base" / name).exists():
                shutil.copytree(self.work / "base" / name, place / name, symlinks=True)
        (place / "cache").mkdir(exist_ok=True)
        return Trial(self, place)


def make_scene(work: Path, size: int, seed: int, *, earlier: int = 2, options: tuple[str, ...] = (),
               ) -> Scene:  # fmt: skip
    """A source of about *size* bytes with *earlier* points of its past in the repository."""
    scene = Scene(work, options=options)
    rng = random.Random(seed)
    (work / "base" / "cache").mkdir(parents=True)
    scene.source.mkdir()
    for generation in range(earlier + 1):
        _change(scene.source, rng, size, generation)
        scene.newest = snapshot(scene.source)
        time.sleep(0.15)  # so that no file is racily clean, and every run reads the same
        if generation < earlier:
            known = set(scene.expected)
            command = backup_command(scene.source, scene.base)
            code, said = run_within(command, work / "base" / "cache")
            if code:
                raise IbtfsError(f"a backup that nothing disturbs: exit {code}: {said}")
            (point,) = set(Repository.open(os.fsencode(scene.base)).points.ids()) - known
            scene.expected[point] = scene.newest
    return scene


def _change(source: Path, rng: random.Random, size: int, generation: int) -> None:
    """Fill the source, or change it: a large file in place, small ones edited, added, removed."""
    large, folder = source / "large", source / f"folder {generation}"
    if not generation:
        large.write_bytes(mixed(rng.getrandbits(32), size // 2))
        os.link(large, source / "same")
    for _ in range(0 if not generation else 3 + size // 500_000):
        with open(large, "r+b", buffering=0) as file:
            os.pwrite(file.fileno(), rng.randbytes(200), rng.randrange(size // 2))
    folder.mkdir()
    for number in range(3 + size // 400_000):
        (folder / f"{number}").write_bytes(mixed(rng.getrandbits(32), rng.randrange(1, 20_000)))
    (source / f"new {generation}").write_bytes(mixed(rng.getrandbits(32), size // 3))
    os.symlink("large", folder / "link")
    os.setxattr(folder / "0", "user.long", rng.randbytes(400))
    if generation:
        before = source / f"folder {generation - 1}"
        (before / "1").unlink()
        with open(before / "0", "ab") as file:
            file.write(rng.randbytes(100))


# ---- trials --------------------------------------------------------------------------------


@dataclass
class Trial:
    """One repository in which backups are cut off."""

    scene: Scene
    place: Path
    said: str = ""

    @property
    def repository(self) -> Path:
        return self.place / "repository"

    @property
    def cache(self) -> Path:
        return self.place / "cache"

    @property
    def command(self) -> list[str]:
        return backup_command(self.scene.source, self.repository, *self.scene.options)

    def trace(self, *injected: str) -> tuple[int, list[Call]]:
        """Run the backup under strace; its exit code and its calls."""
        log = self.place / "trace"
        code, self.said = run(self.command, self.cache, tracing(log, *injected))
        return code, read_trace(log)

    def kill_before(self, call: Call | tuple[str, int]) -> bool:
        """Kill the backup before a call; whether it came so far."""
        name, number = call if isinstance(call, tuple) else (call.name, call.number)
        code, _ = self.trace(f"{name}:signal=KILL:when={number}")
        return code in (-signal.SIGKILL, 128 + signal.SIGKILL)

    def kill_after(self, seconds: float) -> bool:
        """Kill the backup after a time; whether it was still running."""
        return self.kill_when(lambda: False, limit=seconds)

    def kill_when(self, reached: Callable[[], bool], *, limit: float = 600) -> bool:
        """Kill the backup as soon as *reached* says so, or after *limit* seconds."""
        process = subprocess.Popen(
            self.command, env=environment(self.cache), cwd=self.place, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + limit
        while process.poll() is None and time.monotonic() < deadline and not reached():
            time.sleep(max(0.0, min(0.005, deadline - time.monotonic())))
        process.send_signal(signal.SIGKILL)
        return process.wait() == -signal.SIGKILL

    def phase(self) -> str:
        """How far the run came that was cut off, by what lies in the repository."""
        base = self.scene.base
        known = {p.name for p in (base / "archives").glob("*")} if base.exists() else set()
        new = [p for p in (self.repository / "archives").glob("*") if p.name not in known]
        points = {p.name for p in (self.repository / "points").glob("*") if p.suffix != ".part"}
        if points - set(self.scene.expected):
            return MANIFEST
        files = {p.name for archive in new for p in archive.iterdir()}
        if "index.1" in files:
            return MANIFEST
        if "data.1" in files:
            return INDEX
        return DATA if files else START

    def stored_bytes(self) -> int:
        """Bytes of all data files, finished or not."""
        total = 0
        for path in (self.repository / "archives").glob("*/data.*"):
            try:
                total += path.stat().st_size
            except FileNotFoundError:
                continue  # it just got its name
        return total

    def points(self) -> Iterator[tuple[str, dict[bytes, Entry]]]:
        """The points that are there, with what they must hold: a new one, the source."""
        if not self.repository.exists() or not (self.repository / "ibtfs.json").exists():
            return
        for point in Repository.open(os.fsencode(self.repository)).points.ids():
            yield point, self.scene.expected.get(point, self.scene.newest)

    def compare(self, found: Problems, when: str) -> int:
        """Restore every point and compare; how many there are."""
        present = dict(self.points())
        gone = sorted(set(self.scene.expected) - set(present))
        found.add(when, [f"the point {point} is gone" for point in gone])
        for point, tree in present.items():
            try:
                opened = Repository.open(os.fsencode(self.repository))
                actual = restored_tree(opened, opened.points.get(point), self.place / "restored")
                found.add(f"{when}: {point}", differences(tree, actual, limit=5))
            except Exception as error:
                found.add(f"{when}: {point}", [repr(error)])
                shutil.rmtree(self.place / "restored", ignore_errors=True)
        return len(present)

    def verify(self) -> list[str]:
        """All that is wrong now, with the next backup, and after it; the trial is removed."""
        found = Problems()
        before = self.compare(found, "after the kill")
        if before:
            found.add("after the kill", damages(self.repository))
        self.again(found, before)
        shutil.rmtree(self.place)
        return found.lines

    def again(self, found: Problems, before: int) -> None:
        """Back up again, undisturbed."""
        code, said = run_within(self.command, self.cache)
        if code or "Traceback" in said:
            found.add("the next backup", [f"exit {code}: {said.strip()[-300:]}"])
            return
        after = self.compare(found, "after the next backup")
        if after != before + 1:
            found.add("after the next backup", [f"{after} points, there were {before}"])
        found.add("after the next backup", damages(self.repository))
        found.add("left over after the next backup", leftovers(self.repository))

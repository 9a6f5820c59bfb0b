"""The set "mount": how fast mounted backups are, and that what is read there is right.

Every mount is a new one in each run, so the kernel knows nothing of its files at first; the files
of repositories are in the page cache. Each copy is compared with the original.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmark import compare
from benchmark.data import Db, Many, Src, Vm
from benchmark.download import Releases
from benchmark.measure import Command, Failure, Figures, Measurer, settle
from benchmark.mounting import Mount, Mounts
from benchmark.results import Record, Results
from benchmark.rounds import Plan
from benchmark.scale import change_small, small_source
from benchmark.targets import MB, Target
from benchmark.tools import SOURCE, TOOLS, Tool

NAME = "mount"
ABOUT = "mounted backups of these sets, read by ls, cp, grep"
MOUNTING = ("ibtfs", "restic", "borg", "bup")
WORDS = ("def get_queryset", "import datetime")
TIMEOUT = 300.0
SPEED = 500e6
FREED_SECONDS = 330
"""For five minutes ext4 looks at each inode that was freed, and gives out another one: after a
large tree was removed, to make 100,000 files takes up to six times as long."""
PRECISION_NS = {"bup": 10**9}
RANDOM_READS = """
import hashlib, os, random, sys, time
path, count = sys.argv[1], int(sys.argv[2])
rng, digest = random.Random(4), hashlib.sha256()
file = os.open(path, os.O_RDONLY)
size, start = os.fstat(file).st_size, time.perf_counter()
for _ in range(count):
    digest.update(os.pread(file, 4096, rng.randrange(size // 4096) * 4096))
print(digest.hexdigest(), time.perf_counter() - start)
"""


def _target(step: str, *bounds: tuple[str, float] | Target) -> tuple[Target, ...]:
    return tuple(
        bound if isinstance(bound, Target) else
        Target(NAME, step, bound[0], bound[1])  # type: ignore[arg-type]
        for bound in bounds
    )  # fmt: skip


def _native(step: str, times: float) -> Target:
    return Target(NAME, step, "faster", 1 / times, among=("native",))


TARGETS: tuple[Target, ...] = (
    *_target("ready, 1 point", ("at most", 0.3)),
    *_target("ready, 1,000 points", ("at most", 0.3),
             Target(NAME, "ready, 1,000 points", "times", 1.2, than="ready, 1 point")),
    *_target("ls -lR first", ("faster", 6)),
    *_target("ls -lR again", ("faster", 20), _native("ls -lR again", 1.5)),
    *_target("cp -a", ("faster", 4), _native("cp -a", 3.5)),
    *_target("cp -a --no-xattrs", _native("cp -a --no-xattrs", 2)),
    *_target("cp database", ("faster", 2), ("at most", 512 * 1.048576e6 / SPEED)),
    *_target("cp image", ("faster", 2), ("at most", 2048 * 1.048576e6 / SPEED)),
    *(Target(NAME, f"cp {what}, 70 points", "times", 1.3, than=f"cp {what}, 1 point")
      for what in ("database", "image")),
    *_target("random database", ("faster", 4)), *_target("random image", ("faster", 3)),
    *_target("grep -r, 12 points", ("faster", 5)),
    *_target(".versions, 1,000 points", ("at most", 0.5)),
    *(Target(NAME, f"memory, {what}", "at most", 200 * MB, "peak_bytes")
      for what in ("many", "big", "src", "70 points", "1,000 points")),
)  # fmt: skip


@dataclass
class MountSet:
    """All of it. What fails is a record that says so."""

    plan: Plan
    quick: bool
    results: Results
    releases: Releases
    run: int = 1
    sources: dict[str, Path] = field(default_factory=dict)
    copies: int = 0
    began: float = field(default_factory=time.monotonic)

    def go(self) -> None:
        """Measure; each part in a folder that goes afterwards. Raises Failure."""
        for part in (self.many, self.big, self.src, self.thousand):
            place = self.plan.work / NAME
            place.mkdir()
            try:
                part(place)
            finally:
                shutil.rmtree(place, ignore_errors=True)

    # ---- the parts ---------------------------------------------------------------------------

    def many(self, place: Path) -> None:
        """Take 100,000 small files through ls and cp -a."""
        data = Many(place, self.quick, self.releases)
        data.prepare()
        settle(self.plan.settle)
        tools = self.backed_up(place, data.source)
        self.wait_for_inodes()
        self.each_run(tools, lambda mount: self.tree(mount, data.source), "many")
        for tool in tools:
            if tool.name == "ibtfs":
                self.each_run([tool], lambda mount: self.copy(
                    mount, data.source, "cp -a --no-xattrs"), "", ("--no-xattrs",))  # fmt: skip
        if "native" in self.plan.tools:
            self.each(lambda: self.tree_natively(place, data.source))

    def wait_for_inodes(self) -> None:
        """Wait until what was removed before this set cannot make the first tool's copies slow."""
        if not self.quick:
            time.sleep(max(self.began + FREED_SECONDS - time.monotonic(), 0))

    def big(self, place: Path) -> None:
        """Read a database and an image of several generations; ibtfs goes on to 70."""
        database, image = (made(place / made.name, self.quick, self.releases) for made in (Db, Vm))
        source = place / "source"
        source.mkdir()
        for data in (database, image):
            data.folder.mkdir()
            data.source = source
            data.prepare()
        settle(self.plan.settle)
        tools = self.backed_up(place, source)
        own = [tool for tool in tools if tool.name == "ibtfs"]
        self.each_run(own, lambda mount: self.copy_big(mount, source, ", 1 point"), "")
        for number in range(1, 5):
            self.next_generation(tools, (database, image), number)
        self.each_run(tools, lambda mount: self.read_big(mount, source), "big")
        if own:
            for number in range(5, 12 if self.quick else 70):
                self.next_generation(own, (database, image), number)
            self.each_run(own, lambda mount: self.copy_big(mount, source, ", 70 points"),
                          "70 points")  # fmt: skip

    def src(self, place: Path) -> None:
        """Search all of twelve releases."""
        data = Src(place, self.quick, self.releases)
        data.prepare()
        data.rewind()
        tools = self.backed_up(place, data.source)
        for number in range(1, data.changes + 1):
            self.next_generation(tools, (data,), number)
        folders = [place / f"release-{number}" for number in range(data.changes + 1)]
        measurer = Measurer(os.environ, place / "found")
        measurer.run([_grep(folders)], expected=(0, 1))
        expected = sorted(measurer.printed().splitlines())
        self.each_run(tools, lambda mount: self.search(mount, data.source, expected), "src")

    def thousand(self, place: Path) -> None:
        """Mount 1,000 points; the last of them is one of 100,000 files, the others are small."""
        if "ibtfs" not in self.plan.tools:
            return
        tool = self.made(place, "ibtfs")
        measurer = self.measurer(tool)
        source = small_source(place)
        for number in range((1000 if not self.quick else 20) - 1):
            change_small(source, number)
            measurer.run(tool.backup(source))
        data = Many(place / "large", self.quick, self.releases)
        data.folder.mkdir()
        data.prepare()
        backup = tool.backup(data.source)[0].words
        measurer.run([Command([*backup, "--name", SOURCE])])
        self.each_run([tool], self.versions, "1,000 points", what="1,000 points")

    # ---- what is done with a mount -----------------------------------------------------------

    def tree(self, mount: Mount, source: Path) -> None:
        """List the newest point, twice, and copy it."""
        top = mount.inside(mount.points()[-1], source)
        expected = compare.shown_entries(source)
        for step in ("ls -lR first", "ls -lR again"):
            figures, printed = self.timed(mount.tool, ["ls", "-lR", f"{top}/"])
            found = sum(line[:1] in "-dlbcps" for line in printed.splitlines() if " " in line)
            wrong = () if found == expected else (f"{found} entries, not {expected}",)
            self.record(step, mount.tool.name, figures, wrong)
        self.copy(mount, source, "cp -a")

    def tree_natively(self, place: Path, source: Path) -> None:
        """Do the same with the source itself."""
        measurer = Measurer(os.environ, place / "printed")
        for step in ("ls -lR first", "ls -lR again"):
            self.record(step, "native", measurer.run([Command(["ls", "-lR", f"{source}/"])]))
        copied = self.fresh(place)
        settle(0)
        figures = measurer.run([Command(["cp", "-a", source, copied])])
        self.record("cp -a", "native", figures)
        self.record("cp -a --no-xattrs", "native", figures)

    def copy(self, mount: Mount, source: Path, step: str) -> None:
        """Copy the newest point, and compare it with the source."""
        top, copied = mount.inside(mount.points()[-1], source), self.fresh(mount.tool.place)
        settle(0)
        figures, _ = self.timed(mount.tool, ["cp", "-a", f"{top}/.", copied])
        precision = PRECISION_NS.get(mount.tool.name, 1)
        self.record(step, mount.tool.name, figures, compare.differences(source, copied, precision))

    def copy_big(self, mount: Mount, source: Path, which: str) -> None:
        """Copy the database and the image."""
        top = mount.inside(mount.points()[-1], source)
        for what, path in self.big_files(source):
            copied = self.fresh(mount.tool.place)
            copied.mkdir()
            settle(0)
            figures, _ = self.timed(mount.tool, ["cp", top / path.name, copied / path.name])
            wrong = () if compare.same(path, copied / path.name) else (f"{path.name} differs",)
            self.record(f"cp {what}{which}", mount.tool.name, figures, wrong)

    def read_big(self, mount: Mount, source: Path) -> None:
        """Read both files at random, while the kernel knows nothing of them; then copy them."""
        top = mount.inside(mount.points()[-1], source)
        for what, path in self.big_files(source):
            words: list[str | Path] = [self.plan.programs.python(), "-c", RANDOM_READS]
            measurer = Measurer(os.environ, mount.tool.place / "expected")
            measurer.run([Command([*words, path, "300"])])
            figures, printed = self.timed(mount.tool, [*words, top / path.name, "300"])
            wrong = () if printed.split()[0] == measurer.printed().split()[0] else ("other bytes",)
            own = Figures(float(printed.split()[1]), figures.cpu_seconds, figures.peak_bytes)
            self.record(f"random {what}", mount.tool.name, own, wrong)
        self.copy_big(mount, source, "")

    def search(self, mount: Mount, source: Path, expected: list[str]) -> None:
        """Search all points, and compare what is found with what is there."""
        folders = [mount.inside(point, source) for point in mount.points()]
        figures, printed = self.timed(mount.tool, _grep(folders).words)
        found = sorted(printed.splitlines())
        more, less = Counter(found) - Counter(expected), Counter(expected) - Counter(found)
        wrong = () if found == expected and expected else (
            f"{len(found)} lines found, not {len(expected)}; too many are {more.total()}, "
            f"such as {more.most_common(2)}; missing are {less.total()}, "
            f"such as {less.most_common(2)}",
        )  # fmt: skip
        self.record("grep -r, 12 points", mount.tool.name, figures, wrong)

    def versions(self, mount: Mount) -> None:
        """List all versions of the file that changed each time, if this ibtfs shows these."""
        folder = mount.path / SOURCE / ".versions" / "7.txt"
        if not folder.parent.is_dir():
            self.plan.say("  This ibtfs shows no .versions: not measured")
            return
        figures, printed = self.timed(mount.tool, ["ls", "-l", f"{folder}/"])
        least = len(mount.points()) - 1
        found = len(printed.splitlines()) - 1
        wrong = () if found >= least else (f"{found} versions, not {least}",)
        self.record(".versions, 1,000 points", mount.tool.name, figures, wrong)

    # ---- how it is done ----------------------------------------------------------------------

    def backed_up(self, place: Path, source: Path) -> list[Tool]:
        """Return the tools that mount, each with one backup of the source."""
        tools = [self.made(place, name) for name in self.plan.tools if name in MOUNTING]
        for tool in tools:
            self.plan.say(f"  {NAME}: {tool.name} backs up {source.parent.name}")
            self.measurer(tool).run(tool.backup(source))
        return tools

    def made(self, place: Path, name: str) -> Tool:
        """Return a tool with a new repository."""
        tool = TOOLS[name](self.plan.programs.path(name), place / "tools" / name)
        tool.place.mkdir(parents=True)
        self.measurer(tool).run(tool.create())
        return tool

    def measurer(self, tool: Tool) -> Measurer:
        """Return what runs the commands of a tool."""
        return Measurer(tool.environment(), tool.place / "printed")

    def next_generation(
        self, tools: Sequence[Tool], data: Sequence[Db | Vm | Src], number: int
    ) -> None:
        """Change the source, and let the tools back it up."""
        for changed in data:
            changed.change(number)
        settle(1.2)  # names of points tell seconds apart, not less
        for tool in tools:
            self.measurer(tool).run(tool.backup(data[0].source))

    def each(self, work: Callable[[], None]) -> None:
        """Do it as many times as was asked for."""
        for number in range(1, self.plan.runs + 1):
            self.run = number
            work()

    def each_run(
        self,
        tools: Sequence[Tool],
        work: Callable[[Mount], None],
        memory: str,
        options: Sequence[str] = (),
        what: str = "1 point",
    ) -> None:
        """Mount each repository in each run, and do the work in it; record readiness and memory.

        *memory* says what the memory of the mount is recorded for: for "many", and for the one of
        1,000 points, also how soon it was ready.
        """

        def one_run() -> None:
            for tool in tools:
                self.one_mount(tool, work, memory, options, what)

        self.each(one_run)

    def one_mount(
        self,
        tool: Tool,
        work: Callable[[Mount], None],
        memory: str,
        options: Sequence[str],
        what: str,
    ) -> None:
        """Mount, work, unmount. What fails is recorded."""
        settle(0)
        try:
            with Mounts(tool.place / "mount").mounted(tool, options) as mount:
                if memory in ("many", "1,000 points"):
                    self.record(f"ready, {what}", tool.name, Figures(mount.seconds))
                work(mount)
                if memory:
                    peak = Figures(mount.seconds, 0, mount.peak_bytes())
                    self.record(f"memory, {memory}", tool.name, peak)
        except (Failure, OSError) as failure:
            self.record(f"mount of {memory or 'it'}", tool.name, Figures(), (str(failure),))

    def fresh(self, place: Path) -> Path:
        """Return a name for a copy. Copies stay till the part ends: after many files were removed,
        making others takes ext4 several times as long for minutes."""
        self.copies += 1
        return place / f"copied-{self.copies}"

    def big_files(self, source: Path) -> list[tuple[str, Path]]:
        """Return the two files by what they are called here."""
        return [("database", source / "items.sqlite"), ("image", source / "disk.img")]

    def timed(self, tool: Tool, words: Sequence[str | Path]) -> tuple[Figures, str]:
        """Run a program on a mount; return its figures and what it printed. Raises Failure."""
        measurer = Measurer(os.environ, tool.place / "printed")
        figures = measurer.run([Command(words, timeout=TIMEOUT)], expected=(0, 1))
        return figures, measurer.printed()

    def record(self, step: str, tool: str, figures: Figures, wrong: Sequence[str] = ()) -> None:
        """Keep a record, and tell of it."""
        self.results.add(Record(NAME, step, tool, self.run, figures.seconds, figures.cpu_seconds,
                                figures.peak_bytes, wrong=tuple(wrong)))  # fmt: skip
        told = f"WRONG: {'; '.join(wrong)}" if wrong else f"{figures.seconds:8.2f} s"
        self.plan.say(f"  {NAME} {self.run}: {step:<24} {tool:<12} {told}")


def _grep(folders: Sequence[Path]) -> Command:
    patterns = [f"-e{word}" for word in WORDS]
    return Command(["grep", "-r", "-h", "-F", *patterns, *folders], timeout=TIMEOUT)

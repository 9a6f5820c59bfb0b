"""Who reads without a lock lives over changes of the keys: what newer ones sealed is read."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import Entry, differences, snapshot
from tests.support.commands import outside, run

SECONDS = 120


class Place:
    """A sealed repository with two key files, and a source of which it has two points."""

    def __init__(self, folder: Path) -> None:
        self.repo, self.source, self.mnt = folder / "repo", folder / "documents", folder / "mnt"
        self.log = folder / "log"
        self.mine, self.other = folder / "mine", folder / "other"
        self.expected: dict[str, dict[bytes, Entry]] = {}
        self.run("init")
        self.run("key", "add", words=("--new-key-file", self.other))
        self.source.mkdir()
        self.mnt.mkdir()
        self._rng = random.Random(7)
        (self.source / "large").write_bytes(self._rng.randbytes(900_000))
        (self.source / "gone").write_bytes(self._rng.randbytes(400_000))
        self.back_up()
        (self.source / "gone").unlink()
        self.back_up()

    def run(self, *verbs: str, words: tuple[object, ...] = (), key: Path | None = None) -> str:
        """Run a command in a process of its own; what it says."""
        done = outside(*verbs, self.repo, *words, "--key-file", key or self.mine)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()

    def back_up(self) -> None:
        """One more point: a file that is changed, one that is new."""
        number = len(self.expected)
        with (self.source / "large").open("r+b") as file:
            file.seek(200_000 * number)
            file.write(self._rng.randbytes(30_000))
        (self.source / f"new{number}").write_bytes(self._rng.randbytes(50_000))
        done = outside("backup", self.source, self.repo, "--key-file", self.mine, "--json")
        assert done.returncode == 0, done.stderr
        self.expected[json.loads(done.stdout)["points"][0]["id"]] = snapshot(self.source)

    def forget_first(self) -> None:
        """Remove the first point."""
        first = next(iter(self.expected))
        self.run("forget", words=(first,))
        del self.expected[first]

    def seal_anew(self) -> None:
        """A new master key seals all that there is, and one more point."""
        self.run("key", "rotate")
        self.forget_first()
        self.run("prune")
        self.back_up()

    @contextmanager
    def mounted(self, key: Path | None = None) -> Iterator[Path]:
        """The repository, mounted by a process of its own."""
        self.run("mount", words=(self.mnt, "--log-file", self.log), key=key)
        try:
            yield self.mnt / "documents"
        finally:
            run("umount", self.mnt)

    def assert_all_is_read(self, top: Path) -> None:
        """Every point, new ones too, as its source was then."""
        seen = [snapshot(top / name) for name in set(os.listdir(top)) - {"latest"}]
        for expected in self.expected.values():  # several may be of one second
            (found,) = [tree for tree in seen if not differences(expected, tree)]
            seen.remove(found)
        assert seen == []


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return Place(tmp_path)


@pytest.mark.parametrize("is_read_before", [False, True])
def test_a_mount_reads_what_a_newer_master_key_sealed(place: Place, is_read_before: bool) -> None:
    with place.mounted() as top:
        if is_read_before:
            place.assert_all_is_read(top)
        for _ in range(2):
            place.seal_anew()
            Path("/proc/sys/vm/drop_caches").write_text("1")
            place.assert_all_is_read(top)
    assert place.log.read_text() == ""


def test_a_mount_shows_points_of_a_machine_that_was_let_in_since(
    place: Place, tmp_path: Path
) -> None:
    with place.mounted():
        held = tmp_path / "laptop.key"
        place.run("key", "add-writer", words=("laptop", "--to", held))
        done = outside("backup", place.source, place.repo, "--key-file", held)
        assert done.returncode == 0, done.stderr
        point = place.mnt / "documents@laptop" / "latest"
        assert differences(snapshot(place.source), snapshot(f"{point}/")) == []


def test_a_mount_says_that_what_it_was_opened_by_was_removed(place: Place) -> None:
    with place.mounted(key=place.other) as top:
        names = sorted(os.listdir(top))
        place.assert_all_is_read(top)
        rows = place.run("key", "list").splitlines()
        (gone,) = [row.split()[0] for row in rows if "(given now)" not in row]
        place.run("key", "remove", words=(gone,))
        place.run("key", "rotate")
        place.back_up()
        # what it has the keys of stays, what it has not is not there, and why is told
        assert sorted(os.listdir(top)) == names
        place.expected.popitem()
        place.assert_all_is_read(top)
        deadline = time.monotonic() + SECONDS
        while not place.log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.1)
    (told,) = place.log.read_text().splitlines()
    assert "what it was opened by was removed" in told
    assert "open it anew" in told

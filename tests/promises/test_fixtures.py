"""Repositories of every released format, kept in tests/data: all that they hold comes back.

Made by scripts/make-fixture, which also wrote expected.json beside each: what every point has to
come back as.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest

from ibtfs.format.frames import FORMAT_VERSION
from ibtfs.store.repository import Repository
from tests.support import differences
from tests.support.fixtures import DATA, FIXTURES, expected_points
from tests.support.repositories import damages, restored_tree
from tests.support.sealing import either
from tests.support.views import Known, viewed_tree

NOBODY = 65534
FACTS = ("id", "display", "sequence", "epoch", "single", "full", "parent", "comment")


def test_every_version_has_a_fixture() -> None:
    names = [f"repo-v{n}" for n in range(1, FORMAT_VERSION + 1)]
    kinds = ("", "-copied", "-pruned", "-sealed", "-writers")
    assert sorted(f"{name}{kind}" for name in names for kind in kinds) == FIXTURES


@pytest.fixture(params=FIXTURES)
def fixture(request: pytest.FixtureRequest) -> Path:
    return DATA / str(request.param)


def opened(fixture: Path) -> Repository:
    return Repository.open(os.fsencode(fixture), unlock=either())


def test_is_small_and_has_no_leftovers(fixture: Path) -> None:
    files = [path for path in fixture.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 200_000
    assert not [path for path in files if path.suffix == ".part" or path.parent.name == "locks"]


def test_check_finds_nothing(fixture: Path, tmp_path: Path) -> None:
    """In a copy: it takes a lock, and others look at the fixture meanwhile."""
    shutil.copytree(fixture, tmp_path / "copy", symlinks=True)
    assert damages(opened(tmp_path / "copy")) == []


def test_points_are_as_they_were_made(fixture: Path) -> None:
    repository = opened(fixture)
    points = repository.points.all()
    assert points.damaged == {}
    expected = expected_points(fixture)
    assert [{name: getattr(point, name) for name in FACTS} for point in points.points] == [
        {name: facts[name] for name in FACTS} for facts, _ in expected
    ]
    assert [repository.points.tags(facts["id"]) for facts, _ in expected] == [
        facts["tags"] for facts, _ in expected
    ]


def test_every_point_restores(fixture: Path, tmp_path: Path) -> None:
    assert _restore_differences(fixture, tmp_path / "restored") == []


def _restore_differences(fixture: Path, scratch: Path) -> list[str]:
    """What differs when every point is restored; owners only as root, who alone can set them."""
    repository = opened(fixture)
    ignore = {"directory_nlink"} | ({"uid", "gid"} if os.geteuid() else set())
    found = []
    for expected in expected_points(fixture):
        point = repository.points.get(expected.facts["id"])
        tree = expected.without_root(restored_tree(repository, point, scratch))
        found += differences(expected.tree, tree, ignore=ignore, also={"blocks"})
    return found


def _view_differences(fixture: Path) -> list[str]:
    repository = opened(fixture)
    known: Known = {}
    found = []
    for expected in expected_points(fixture):
        point = repository.points.get(expected.facts["id"])
        tree = expected.without_root(viewed_tree(repository, point, known))
        found += differences(expected.tree, tree, also={"blocks", "directory_size"})
    return found


def test_every_point_is_viewed_as_it_was(fixture: Path) -> None:
    assert _view_differences(fixture) == []


@pytest.fixture
def public_path() -> Iterator[Path]:
    """A folder that other users may enter, too."""
    path = Path(tempfile.mkdtemp(prefix="ibtfs-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def test_reads_where_nothing_can_be_written(fixture: Path, public_path: Path) -> None:
    copy, scratch = public_path / "copy", public_path / "scratch"
    shutil.copytree(fixture, copy)
    (copy / "locks").mkdir(exist_ok=True)  # git keeps no empty folder
    for path in [copy, *copy.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    scratch.mkdir()
    scratch.chmod(0o777)
    before = _listing(copy)

    def read() -> None:
        assert damages(opened(copy)) == []
        assert _view_differences(copy) == []
        assert _restore_differences(copy, scratch / "restored") == []

    _as_other_user(read)
    assert _listing(copy) == before
    read()  # by root, who can write all the same, and takes a lock to check
    after = _listing(copy)
    assert after.pop(copy / "locks")[0] == before.pop(copy / "locks")[0]
    assert after == before
    for path in [copy, *copy.rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)


def _listing(path: Path) -> dict[Path, tuple[int, int]]:
    return {p: (p.stat().st_size, p.stat().st_mtime_ns) for p in [path, *path.rglob("*")]}


def _as_other_user(work: Callable[[], None]) -> None:
    """Do *work* without any privilege; what it imports must be imported already."""
    if os.geteuid():
        work()
        return
    datetime.strptime("2026", "%Y")  # it imports something
    process = os.fork()
    if not process:
        code = 1
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 0

"""Under ``python -O``, where asserts are not carried out, everything holds as well.

pytest's own asserts would vanish, too; so the work is done by processes of their own with -O, and
what comes of it is judged here.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ibtfs.format.config import encode_config
from ibtfs.format.frames import HEAD_SIZE, HEADER
from ibtfs.store.repository import Repository
from tests.support import CHECKOUT, differences, snapshot
from tests.support.damage import GOOD
from tests.support.trees import Hardlink, Sparse, Symlink, make_tree

ASSERTS = {
    "actions/copy/contents.py": ["stored.ref is not None"],
    "actions/copy/folder.py": ["row.state is not None"],
    "actions/copy/tree.py": [
        "root.state is not None",
        "row.state is not None",
        "row.state is not None",
        "row is not None",
    ],
    "cli/commands/key.py": ["unlock.found is not None"],
    "cli/copy_summary.py": ["self.result is not None"],
    "actions/purge/states.py": ["cut is not None", "folder.state is not None"],
    "actions/restore/entry.py": ["entry.content is not None"],
    "store/archives/file.py": ["upload is not None"],
    "store/archives/rewriter.py": ["self._before is not None"],
    "store/mending/copies.py": ["found is not None"],
    "store/mending/payloads.py": ["self._file is not None", "table is not None"],
    "store/storage/far_archives.py": ["self._far is not None", "self._far is not None"],
    "store/storage/passing.py": ["is_far_place(self._place)"],
    "toolkit/index.py": ["known is not None"],
}
"""All asserts of ibtfs: each tells what the lines before it have settled, nothing that was read."""

EXAMINED = """
import itertools, json, sys, tempfile
from pathlib import Path
from tests.support import damage
assert False, "asserts are carried out"
with tempfile.TemporaryDirectory(dir=sys.argv[1]) as name:
    work = Path(name)
    sample = damage.build(work / "made")
    examiner = damage.Examiner(sample, work)
    places = [(name, place) for name, data in sample.files.items() for place in range(len(data))]
    damages = [damage.flip(sample.files, *place, 255) for place in places[::1201]]
    damages += itertools.islice(damage.other_damages(sample), 0, None, 41)
    found = [(item.hit, item.what, *examiner.examine(item)) for item in damages]
print(json.dumps(found))
"""


def run(*words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """A Python without asserts, run with *words*; it must end with *code*, and without a crash."""
    done = subprocess.run(
        [sys.executable, "-O", *map(str, words)], capture_output=True, text=True, timeout=240,
        check=False, env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def ibtfs(*words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    return run("-m", "ibtfs", *words, code=code)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source, and a repository with two points of it: the second one has deltas."""
    made = tmp_path_factory.mktemp("made")
    source, path = made / "source", made / "repository"
    make_tree(source, {
        "large": os.urandom(5 << 20), "small": b"small", "same": Hardlink("small"),
        "sparse": Sparse(3 << 20, {1 << 20: b"x"}), "link": Symlink("small"),
        "deep": {"empty": b""},
    })  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(made / "cache"))
        ibtfs("backup", source, path)
        with (source / "large").open("r+b") as file:
            file.seek(2 << 20)
            file.write(b"changed")
        (source / "small").write_bytes(b"smaller")
        ibtfs("backup", source, path)
    return made


@pytest.fixture
def source(made: Path) -> Path:
    """What was backed up; no test changes it."""
    return made / "source"


@pytest.fixture
def repository(tmp_path: Path, made: Path) -> Path:
    """A copy of the repository."""
    path = tmp_path / "repository"
    shutil.copytree(made / "repository", path)
    return path


def test_what_was_backed_up_comes_back(repository: Path, source: Path, tmp_path: Path) -> None:
    ibtfs("check", "--read-data", repository)
    ibtfs("restore", repository, "latest", tmp_path / "back")
    assert differences(snapshot(source), snapshot(tmp_path / "back")) == []
    assert ibtfs("cat", repository, "latest~1", "small").stdout == "small"


@pytest.mark.parametrize("kind", ["data", "index"])
def test_each_damaged_file_is_named(repository: Path, kind: str) -> None:
    files = sorted(repository.glob(f"archives/*/{kind}.1"))
    assert files
    for path in files:
        whole = path.read_bytes()
        path.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
        told = ibtfs("check", "--read-data", repository, code=1)
        assert f"archives/{path.parent.name}/{kind}" in told.stdout + told.stderr
        path.write_bytes(whole)


def test_damaged_bytes_are_not_restored(repository: Path, source: Path, tmp_path: Path) -> None:
    largest = max(repository.glob("archives/*/data.1"), key=lambda path: path.stat().st_size)
    whole = largest.read_bytes()
    place = len(whole) // 2
    largest.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    told = ibtfs("restore", repository, "latest", tmp_path / "back", code=3)
    assert "large" in told.stderr
    expected = snapshot(source)
    for path, entry in snapshot(tmp_path / "back").items():
        assert entry.sha256 == expected[path].sha256, path


def test_headers_are_checked(repository: Path, source: Path, tmp_path: Path) -> None:
    """All references of an archive go by its header: without it nothing of it is used again."""
    opened = Repository.open(os.fsencode(repository))
    for archive in opened.archive_ids():
        (start,) = opened.archive(archive).file("index").tables[HEADER].offsets
        index = repository / "archives" / archive / "index.1"
        data = bytearray(index.read_bytes())
        data[start + HEAD_SIZE] ^= 1
        index.write_bytes(data)
    told = ibtfs("check", repository, code=1).stderr
    for archive in opened.archive_ids():
        assert f"archives/{archive}/index" in told
    told = ibtfs("restore", repository, "latest", tmp_path / "back", code=3).stderr
    assert "/index.1: frame at " in told
    assert os.listdir(tmp_path / "back") == []
    ibtfs("backup", source, repository)
    ibtfs("restore", repository, "latest", tmp_path / "anew")
    assert differences(snapshot(source), snapshot(tmp_path / "anew")) == []


def test_what_must_be_refused_is_refused(repository: Path, source: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine").write_bytes(b"mine")
    ibtfs("restore", repository, "latest", tmp_path / "there", code=2)
    assert os.listdir(tmp_path / "there") == ["mine"]
    ibtfs("restore", repository, "latest", repository / "back", code=2)
    ibtfs("cat", repository, "latest", "../small", code=2)
    opened = Repository.open(os.fsencode(repository))
    newer = replace(opened.config, write_requires=("time travel",))
    (repository / "ibtfs.json").write_bytes(encode_config(newer))
    before = snapshot(repository)
    assert "time travel" in ibtfs("backup", source, repository, code=1).stderr
    assert differences(before, snapshot(repository)) == []


def test_damages_of_every_kind(fast_path: Path) -> None:
    """A sample of what `test_damage` does with asserts, which no judge needs there either."""
    found = json.loads(run("-c", EXAMINED, fast_path).stdout)
    assert len(found) > 25
    assert [outcome for outcome in found if outcome[2] not in GOOD] == []


def test_no_assert_is_about_what_was_read() -> None:
    package = CHECKOUT / "ibtfs"
    asserts = {
        str(path.relative_to(package)): [
            ast.unparse(node.test)
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Assert)
        ]
        for path in package.rglob("*.py")
    }
    assert {path: found for path, found in asserts.items() if found} == ASSERTS

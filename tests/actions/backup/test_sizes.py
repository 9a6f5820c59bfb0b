"""Files of every size, and what is done to them: each step comes back, and costs what is new."""

from __future__ import annotations

import hashlib
import random
import shutil
from pathlib import Path

import pytest

from ibtfs.store.repository import Repository
from tests.support import differences, snapshot
from tests.support.realdata import mixed
from tests.support.repositories import Backup, reopened, restored_tree, the_point
from tests.support.trees import make_tree
from tests.support.views import viewed_tree

MIB = 1 << 20


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


SIZES = (0, 1, 2, 4095, 4096, 4097, 65_535, 65_536, 65_537, 131_071, 131_072, 131_073,
         MIB - 1, MIB, MIB + 1, 4 * MIB - 1, 4 * MIB, 4 * MIB + 1, 5 * MIB + 77)  # fmt: skip


def test_files_of_every_size(tmp_path: Path, repository: Repository, backup_of: Backup) -> None:
    source = tmp_path / "source"
    make_tree(source, {f"{size}": mixed(size, size) for size in SIZES})
    made = [(the_point(backup_of(source)), snapshot(source))]
    for change in (flip_middle, append_byte, cut_byte, prepend_byte):
        for size in SIZES:
            change(source / f"{size}")
        made.append((the_point(backup_of(source)), snapshot(source)))
    for point, expected in made:
        seen = viewed_tree(reopened(repository), point)
        assert differences(expected, seen, also=("blocks",)) == []
        assert differences(expected, restored_tree(repository, point, tmp_path / "back")) == []


def flip_middle(path: Path) -> None:
    data = bytearray(path.read_bytes())
    if data:
        data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def append_byte(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"+")


def cut_byte(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


def prepend_byte(path: Path) -> None:
    path.write_bytes(b"-" + path.read_bytes())


Steps = list[bytes]


SIZES_OF_A_LOG = (100_000, 180_000, 300_000, 500_000, 900_000, 1_500_000, 2_500_000, 4_000_000,
                  6_000_000, 9 * MIB)  # fmt: skip


def growing_log() -> Steps:
    log = mixed(1, 9 * MIB)
    return [log[:n] for n in (0, 1, 4096, 65_535, 65_536, 65_537, *SIZES_OF_A_LOG)]


def shrinking() -> Steps:
    return list(reversed(growing_log()))


def pages_rewritten() -> Steps:
    rng, data, steps = random.Random(5), bytearray(mixed(2, 6 * MIB)), []
    for _ in range(6):
        for _ in range(30):
            page = rng.randrange(6 * MIB // 4096) * 4096
            data[page : page + 4096] = rng.randbytes(4096)
        steps.append(bytes(data))
    return steps


def insertions_in_front() -> Steps:
    data = random.Random(6).randbytes(5 * MIB)
    return [mixed(n, n * 77_777) + data for n in range(4)]


def rotated() -> Steps:
    data = random.Random(7).randbytes(6 * MIB)
    return [data[cut:] + data[:cut] for cut in (0, 1_000_000, 4_444_444)]


def zeros() -> Steps:
    data = random.Random(8).randbytes(5 * MIB)
    return [data, data[:MIB] + bytes(3 * MIB) + data[4 * MIB :], bytes(5 * MIB), bytes(10)]


def doubled() -> Steps:
    data = random.Random(9).randbytes(5 * MIB)
    return [data, data + data, data[: 3 * MIB] + data]


# A mebibyte is stored before what has moved is looked for in the whole base.
COSTS = {
    growing_log: 9.1, shrinking: 9.1, pages_rewritten: 6.9, insertions_in_front: 5.6, rotated: 8.2,
    zeros: 5.1, doubled: 7.2,
}  # fmt: skip


@pytest.mark.parametrize("steps", COSTS, ids=lambda steps: steps.__name__)
def test_what_is_done_to_a_file(
    steps: type, tmp_path: Path, repository: Repository, backup_of: Backup
) -> None:
    """Each step comes back, and all together add not much more than what was new in them."""
    source, made, added = tmp_path / "source", [], 0
    source.mkdir()
    for data in steps():
        (source / "file").write_bytes(data)
        result = backup_of(source)
        made.append((the_point(result), digest(data)))
        added += result.tally.counts["bytes_added"]
    for point, expected in made:
        assert viewed_tree(reopened(repository), point)[b"file"].sha256 == expected
        assert restored_tree(repository, point, tmp_path / "back")[b"file"].sha256 == expected
    assert added <= COSTS[steps] * MIB


@pytest.mark.parametrize("size", [4 * MIB - 1000, 5 * MIB])
def test_a_log_that_outgrows_memory(
    size: int, tmp_path: Path, repository: Repository, backup_of: Backup
) -> None:
    """Contents that are read whole and those that are not are bases of each other."""
    source, data = tmp_path / "source", random.Random(12).randbytes(size)
    make_tree(source, {"log": data})
    backup_of(source)
    for number in range(3):
        data += b"%d" % number * 5000
        (source / "log").write_bytes(data)
        assert backup_of(source).tally.counts["bytes_added"] < 50_000
    (source / "log").write_bytes(data[:1_000_000])
    assert backup_of(source).tally.counts["bytes_added"] < 50_000


def test_a_mebibyte_in_front_of_random_data(
    tmp_path: Path, repository: Repository, backup_of: Backup
) -> None:
    rng = random.Random(10)
    source, data = tmp_path / "source", rng.randbytes(8 * MIB)
    make_tree(source, {"file": data})
    backup_of(source)
    new = rng.randbytes(MIB) + data
    (source / "file").write_bytes(new)
    result = backup_of(source)
    assert MIB <= result.tally.counts["bytes_added"] <= 1.1 * MIB
    found = viewed_tree(reopened(repository), the_point(result))
    assert found[b"file"].sha256 == digest(new)


def test_a_file_becomes_a_folder_becomes_a_link_and_back(
    tmp_path: Path, repository: Repository, backup_of: Backup
) -> None:
    source, made = tmp_path / "source", []
    source.mkdir()
    path = source / "x"
    for kind in ("file", "folder", "link", "file", "link", "folder", "file"):
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.exists():
            shutil.rmtree(path)
        if kind == "file":
            path.write_bytes(mixed(1, 70_000))
        elif kind == "folder":
            make_tree(path, {"inside": mixed(1, 70_000), "deep": {"x": b""}})
        else:
            path.symlink_to("elsewhere")
        result = backup_of(source)
        made.append((the_point(result), snapshot(source), result.tally.counts["bytes_added"]))
    for point, expected, _ in made:
        assert differences(expected, viewed_tree(reopened(repository), point)) == []
        assert differences(expected, restored_tree(repository, point, tmp_path / "back")) == []
    assert [added for _, _, added in made[1:]] == [0] * 6

"""Sources that are not folders: a single file, a pipe, standard input."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from ibtfs.errors import SourceError, UsageError
from ibtfs.store.repository import Repository
from tests.support import differences, snapshot
from tests.support.realdata import mixed
from tests.support.repositories import Backup, content, reopened, restored, settle, the_point
from tests.support.views import viewed_tree

MIB = 1 << 20


def test_a_source_that_is_a_single_file(
    tmp_path: Path, repository: Repository, backup_of: Backup
) -> None:
    path = tmp_path / "notes.txt"
    data = mixed(1, 300_000)
    points = []
    for number in range(4):
        path.write_bytes(data + b"%d" % number)
        path.chmod(0o640 + number)
        result = backup_of(path)
        points.append((the_point(result), snapshot(path)[b""]))
        if number:
            assert 0 < result.tally.counts["bytes_added"] < 1000
    settle()
    backup_of(path)
    archives = reopened(repository).archive_ids()
    unchanged = backup_of(path)
    assert (unchanged.tally.counts["unchanged"], unchanged.tally.counts["bytes_read"]) == (1, 0)
    assert reopened(repository).archive_ids() == archives
    for point, expected in points:
        assert (point.single, point.display) == (True, "notes.txt")
        found = viewed_tree(reopened(repository), point)
        assert set(found) == {b"", b"notes.txt"}
        assert differences({b"": expected}, {b"": found[b"notes.txt"]}) == []
        restored(repository, point, tmp_path / "back")
        back = snapshot(tmp_path / "back/notes.txt")
        assert differences({b"": expected}, back) == []
        shutil.rmtree(tmp_path / "back")


def test_a_single_file_behind_a_link(
    tmp_path: Path, repository: Repository, backup_of: Backup
) -> None:
    (tmp_path / "real").write_bytes(b"content")
    (tmp_path / "link").symlink_to("real")
    point = the_point(backup_of(tmp_path / "link"))
    assert content(repository, point, b"link") == b"content"
    (tmp_path / "real").unlink()
    with pytest.raises(SourceError):
        backup_of(tmp_path / "link")


@pytest.mark.timeout(20)
def test_a_source_that_is_a_fifo_does_not_block(
    tmp_path: Path, repository: Repository, backup_of: Backup
) -> None:
    os.mkfifo(tmp_path / "pipe")
    point = the_point(backup_of(tmp_path / "pipe"))
    assert viewed_tree(reopened(repository), point)[b"pipe"].type == "fifo"


def test_standard_input_as_a_file(
    tmp_path: Path, repository: Repository, backup_of: Backup
) -> None:
    made = []
    for number, size in enumerate((0, 1, 100_000, 5 * MIB + 3, 5 * MIB + 1000)):
        data = mixed(9, size)
        stream = io.BytesIO(data)
        result = backup_of(b"/stdin", stdin_name=b"dump.sql", stream=stream, name="dump")
        made.append((the_point(result), data, result.tally.counts["bytes_added"]))
        assert the_point(result).sequence == number + 1
    for point, data, _ in made:
        assert point.single
        assert content(repository, point, b"dump.sql") == data
        restored(repository, point, tmp_path / "back")
        assert (tmp_path / "back/dump.sql").read_bytes() == data
        shutil.rmtree(tmp_path / "back")
    assert made[-1][2] < 100_000


@pytest.mark.parametrize("options", [{"stdin_name": b"dump"}, {"stream": io.BytesIO(b"data")}])
def test_a_stream_and_its_name_go_together(options: dict[str, Any], backup_of: Backup) -> None:
    with pytest.raises(UsageError, match="a name"):
        backup_of(b"/stdin", **options)

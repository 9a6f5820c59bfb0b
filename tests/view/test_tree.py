"""The top of the mounted tree: the sources, beside a manifest that cannot be read."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ibtfs.errors import FormatDamaged
from ibtfs.store.repository import Repository
from ibtfs.store.storage.durable import StorageFailed
from ibtfs.store.storage.local import LocalObject, LocalStorage
from ibtfs.view import tree
from ibtfs.view.entry_node import point_node
from ibtfs.view.tree import RepositoryView
from tests.support.repositories import back_up, reopened, the_point
from tests.support.trees import make_tree


@pytest.mark.damaged
def test_a_mount_goes_on_beside_a_manifest_that_may_not_be_read(
    tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    make_tree(tmp_path / "source", {"a": b"1"})
    for _ in range(2):
        assert back_up(repository, tmp_path / "source", full=True).point
    newest = repository.points.all().points[-1].id
    real, refused = LocalStorage.open, [True]

    def opened(storage: LocalStorage, name: str) -> LocalObject:
        if refused[0] and name == f"points/{newest}":
            raise StorageFailed(f"{name}: Permission denied")
        return real(storage, name)

    monkeypatch.setattr(LocalStorage, "open", opened)
    view = RepositoryView(reopened(repository))
    assert len(view.sources()[b"source"].ordered) == 1
    assert len(view.sources()[b"source"].ordered) == 1
    told = [record.message for record in caplog.records if newest in record.message]
    assert len(told) == 1
    with pytest.raises(StorageFailed):
        back_up(repository, tmp_path / "source")
    refused[0] = False
    monkeypatch.setattr(tree, "AGAIN_SECONDS", 0)
    deadline = time.monotonic() + 60
    while len(view.sources()[b"source"].ordered) == 1 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(view.sources()[b"source"].ordered) == 2


@pytest.mark.parametrize("size", [5, 7, 1 << 20])
def test_a_file_whose_row_says_another_size_is_damaged(
    tmp_path: Path, repository: Repository, size: int
) -> None:
    """Else a part of it, or zeros, would be read as if they were all of it."""
    make_tree(tmp_path / "source", {"a": b"123456"})
    point = the_point(back_up(repository, tmp_path / "source"))
    ((_, node),) = point_node(RepositoryView(reopened(repository)), b"point", point).children()
    assert node.read(0, 4096) == b"123456"
    node.entry = node.entry._replace(size=size)
    with pytest.raises(FormatDamaged, match="is not as long as the row that refers to it"):
        node.read(0, 4096)

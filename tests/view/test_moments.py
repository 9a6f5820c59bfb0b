"""The names with @: a moment in one source, or in all of them."""

from __future__ import annotations

import stat
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from ibtfs.errors import EntryNotFound
from ibtfs.store.repository import Repository
from ibtfs.view.tree import RepositoryView
from tests.support.repositories import Backup, remove, reopened, the_point
from tests.support.views import SECOND, names_in, node_at


@pytest.fixture
def moments(tmp_path: Path, backup_of: Backup, repository: Repository) -> RepositoryView:
    """Two sources: one with points of the 1st to the 3rd of July 2026, noon; one of the 3rd."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    noon = datetime(2026, 7, 1, 12)
    for source, days in (("one", (0, 1, 2)), ("two", (2,))):
        point = the_point(backup_of(tmp_path / source))
        remove(repository, point)
        for day in days:
            time_ns = int((noon + timedelta(days=day)).timestamp()) * SECOND
            name = f"20260701T000000Z_{source}_{day:010}"
            repository.points.commit(
                replace(point, id=name, sequence=day + 1, time_ns=time_ns, parent="")
            )
    return RepositoryView(reopened(repository), clock=lambda _: datetime(2026, 7, 4, 13))


MOMENTS = {
    "@2026-07-02": 2, "@2026-07-02T11:00": 1, "@yesterday": 3, "@3d": 1, "@2d": 2, "@26h": 2,
    "@last-thursday": 2, "@latest": 3, "@latest~2": 1, "@2026-07-02_120000": 2, "@now": 3,
}  # fmt: skip


def test_moments_in_a_source_and_at_the_root(moments: RepositoryView) -> None:
    for name, day in MOMENTS.items():
        link = node_at(moments.root, f"one/{name}")
        assert link.target() == b"2026-07-%02d_120000" % day, name
        assert stat.S_ISLNK(link.attributes().mode)
        assert node_at(moments.root, f"{name}/one").target() == b"../one/" + link.target()


def test_moments_of_samba_are_utc(moments: RepositoryView) -> None:
    second = moments.timeline(b"one").ordered[1]
    exact = datetime.utcfromtimestamp(second.time_ns // SECOND)
    for moment, expected in ((exact, b"02"), (exact - timedelta(seconds=1), b"01")):
        name = moment.strftime("@GMT-%Y.%m.%d-%H.%M.%S")
        assert node_at(moments.root, f"one/{name}").target()[8:10] == expected


def test_moments_without_a_point(moments: RepositoryView) -> None:
    for path in ("one/@2026-06-30", "@2026-06-30", "one/@", "@", "@nonsense", "one/@latest~3",
                 "one/@9999-99-99", "two/@2026-07-02", "@2026-07-02/two"):  # fmt: skip
        with pytest.raises(EntryNotFound):
            node_at(moments.root, path)
    assert names_in(moments.root.lookup(b"@2026-07-02")) == ["one"]
    assert names_in(moments.root.lookup(b"@yesterday")) == ["one", "two"]

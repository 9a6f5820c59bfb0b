"""Names that a mount has shown are given to no other point as long as it stands."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from ibtfs.fuse import MountOptions, serve
from ibtfs.fuse import process as background
from ibtfs.store.repository import Repository
from ibtfs.view.options import ViewOptions
from ibtfs.view.tree import RepositoryView
from tests.support.repositories import Backup, dated, remove, reopened, the_point


def names(view: RepositoryView) -> dict[bytes, str]:
    (timeline,) = view.sources().values()
    return {name: point.id for name, point in timeline.points.items()}


def test_a_name_by_a_template_stays_with_its_point(
    tmp_path: Path, backup_of: Backup, repository: Repository
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    points = [dated(repository, the_point(backup_of(source)), hours) for hours in (0, 1, 2)]
    view = RepositoryView(reopened(repository), ViewOptions(point_format="same"))
    before = names(view)
    assert next(iter(before)) == b"same"
    assert set(before.values()) == {point.id for point in points}
    remove(repository, points[0])
    assert names(view) == {name: i for name, i in before.items() if i != points[0].id}
    latest = dated(repository, the_point(backup_of(source)), 3)
    found = names(view)
    assert found.pop(b"same-" + latest.id[-10:][:6].encode()) == latest.id
    assert found.items() <= before.items()


def held(path: Path) -> str | None:
    """What *path* gives; None if there is no such file."""
    try:
        return path.read_text()
    except OSError:
        return None


def test_a_path_in_a_mount_never_leads_to_another_point(
    tmp_path: Path, backup_of: Backup, repository: Repository
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    points = []
    for number in range(3):
        (source / "file").write_text(str(number))
        points.append(dated(repository, the_point(backup_of(source)), number))
    place = tmp_path / "mnt"
    place.mkdir()

    def run(on_ready: Callable[[], None]) -> None:
        view = RepositoryView(reopened(repository), ViewOptions(point_format="same"))
        serve(view, os.fsencode(place), options=MountOptions(), on_ready=on_ready)

    background.run_in_background(run)
    try:
        top = place / "source"
        contents = {name: (top / name / "file").read_text() for name in set(os.listdir(top))}
        for gone in range(2):
            remove(repository, points[gone])
            deadline = time.monotonic() + 60
            while (text := held(top / "same" / "file")) is not None:  # the kernel keeps a name
                assert text == contents["same"]
                assert time.monotonic() < deadline
            assert set(os.listdir(top)) <= set(contents)
            for name, text in contents.items():
                stays = int(text) > gone
                assert held(top / name / "file") in ({text} if stays else {text, None})
    finally:
        background.unmount(os.fsencode(place), lazy=True)

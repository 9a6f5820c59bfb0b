"""What a repository takes on the disk: every byte of its files, once."""

from __future__ import annotations

import os
from pathlib import Path

from ibtfs.store.removal.footprint import footprint
from ibtfs.store.repository import Repository
from tests.support.repositories import Backup, the_point


def test_every_byte_is_told_once(tmp_path: Path, repository: Repository, backup_of: Backup) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(os.urandom(300_000))
    points = [the_point(backup_of(source))]
    (source / "other").write_bytes(b"x")
    points.append(the_point(backup_of(source)))
    root = Path(os.fsdecode(repository.path))
    cut_off = root / "archives" / points[0].state.archive / "data.2"
    sizes = {
        path.relative_to(root): path.stat().st_size for path in root.rglob("*") if path.is_file()
    }

    def below(folder: str, name: str = "") -> int:
        return sum(size for path, size in sizes.items()
                   if folder in path.parts and path.name.startswith(name))  # fmt: skip

    found = footprint(repository)
    assert found.total == sum(sizes.values())
    assert found.archives == {p.state.archive: below(p.state.archive) for p in points}
    assert found.points == {p.id: sizes[Path("points", p.id)] for p in points}
    assert found.manifests == below("points")
    assert (found.data, found.index, found.sigs) == (
        below("archives", "data."), below("archives", "index."), below("archives", "sigs."),
    )  # fmt: skip
    assert found.other == sizes[Path("ibtfs.json")]
    # what was cut off belongs to nothing
    cut_off.with_name("data.9.part").write_bytes(bytes(7))
    assert footprint(repository).other == found.other + 7
    assert footprint(repository).archives == found.archives
    cut_off.with_name("data.9.part").unlink()
    # nor does what is no manifest, or no file at all
    for name, more in (("points/not one", 5), ("damaged/a", 3)):
        (root / name).write_bytes(bytes(more))
        assert footprint(repository).other == found.other + more
        assert footprint(repository).total == found.total + more
        (root / name).unlink()
    for name in ("locks/folder", "points/folder"):
        (root / name).mkdir()
        assert footprint(repository) == found
        (root / name).rmdir()

"""Files of archives are found in bundles, whoever reads while these come and go, or are damaged."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

from ibtfs.errors import ObjectMissing, RepositoryError
from ibtfs.store import layout
from ibtfs.store.repository import Repository
from tests.support.bundles import (
    NEVER,
    assert_whole,
    bundles,
    folders,
    make_versions,
    put_together,
)
from tests.support.generations import put_generation
from tests.support.removal import forget
from tests.support.repositories import (
    assert_comes_back,
    back_up,
    content,
    create,
    damages,
    on_disk,
    reopened,
    the_point,
)

VERSION = b"version"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return create(tmp_path / "repository")


def open_bundles() -> list[str]:
    """The bundles that this process has open."""
    gc.collect()
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{number}"))
        except FileNotFoundError:
            continue
    return [path for path in found if f"/{layout.BUNDLES}/" in path]


def flip(path: Path, place: int) -> None:
    """Change one byte; from the end if *place* is negative."""
    data = bytearray(path.read_bytes())
    data[place] ^= 0x40
    path.chmod(0o600)
    path.write_bytes(data)


# Reading while they come and go


def test_one_open_file_for_all_that_lie_together(repository: Repository, tmp_path: Path) -> None:
    make_versions(repository, tmp_path / "source", 6)
    put_together(repository)
    opened = reopened(repository)
    readers = [opened.archive(name) for name in opened.archive_ids()]
    assert [reader.header.archives[0] for reader in readers] == opened.archive_ids()
    assert len(open_bundles()) == 1
    for reader in readers:
        reader.close()
    assert open_bundles() == []


def test_who_reads_goes_on_wherever_it_lies(repository: Repository, tmp_path: Path) -> None:
    """From a folder into a bundle, and from that into another one, which frees its room."""
    source = tmp_path / "source"
    make_versions(repository, source, 4)
    opened = reopened(repository)
    ids, era = opened.archive_ids(), opened.era
    half = [opened.archive(name) for name in ids[:2]]
    assert all(reader.header for reader in half)

    put_together(repository)
    assert [opened.archive(name).header.archives[0] for name in ids] == ids
    assert (opened.archive_ids(), opened.is_whole(ids[0]), opened.refresh()) == (ids, True, False)
    assert opened.incomplete_archives() == []
    (old,) = bundles(repository)

    make_versions(repository, source, 3)
    second = reopened(repository)
    kept = second.archive(ids[3])
    number = next(iter(kept.contents()))[0]
    assert str(old) in open_bundles()
    put_together(repository)
    assert bundles(repository) != [old]
    assert kept.content(number).digest
    assert list(kept.contents())
    assert f"{old} (deleted)" in open_bundles()
    assert (second.refresh(), opened.refresh()) == (False, False)
    assert f"{old} (deleted)" not in open_bundles()
    assert [opened.archive(name).header.archives[0] for name in ids] == ids
    assert opened.era == era
    assert_whole(repository)


def test_a_name_in_a_bundle_is_never_put_again(repository: Repository, tmp_path: Path) -> None:
    make_versions(repository, tmp_path / "source", 2)
    put_together(repository)
    (name, _) = reopened(repository).archive_ids()
    storage = reopened(repository).storage
    files = storage.list(layout.archive(name))
    assert files == ["index.1"]
    assert (storage.list_folder(layout.archive(name)), folders(repository)) == ([], [])
    assert name in storage.list(layout.ARCHIVES)
    with storage.open(layout.archive_file(name, layout.INDEX, 1)) as stored:
        assert len(stored.read(0, 1 << 30)) == stored.size
        assert stored.read(stored.size - 2, 100) == stored.read(stored.size - 2, 2)
        assert stored.read(stored.size + 5, 100) == b""
    with pytest.raises(ObjectMissing):
        storage.open(layout.archive_file(name, layout.INDEX, 2))


def test_a_folder_counts_before_a_bundle(repository: Repository, tmp_path: Path) -> None:
    """A later generation in the folder, and an equal one that a crash left there."""
    make_versions(repository, tmp_path / "source", 2)
    (name, _) = reopened(repository).archive_ids()
    index = Path(on_disk(repository.storage, layout.archive_file(name, layout.INDEX, 1)))
    data = index.read_bytes()
    put_together(repository)
    index.parent.mkdir()
    index.write_bytes(data)
    assert reopened(repository).archive(name).file(layout.INDEX).name == str(
        index.relative_to(os.fsdecode(repository.path))
    )
    put_generation(index, 2)
    opened = reopened(repository)
    assert opened.index_generations()[name] == opened.archive(name).file("index").generation == 2
    put_together(repository, NEVER)
    assert os.listdir(index.parent) == ["index.2"]
    put_together(repository)  # the bundle is half dead
    assert folders(repository) == []
    assert reopened(repository).index_generations()[name] == 2
    assert_whole(repository)


# Damage


@pytest.mark.parametrize("place", [3, 30, 50, 100, -3, -30, -50, -70])
def test_either_end_is_enough(repository: Repository, tmp_path: Path, place: int) -> None:
    made = make_versions(repository, tmp_path / "source", 3)
    put_together(repository)
    (bundle,) = bundles(repository)
    flip(bundle, place)
    end = "beginning" if place > 0 else "end"
    (told,) = damages(repository)
    assert told.startswith(f"bundles/{bundle.name}: bundles/{bundle.name}: directory at the {end}")
    for point, expected in made:
        assert_comes_back(repository, point, expected, tmp_path)
    flip(bundle, place)
    assert_whole(repository)


def test_damage_names_the_archive_and_the_bundle(repository: Repository, tmp_path: Path) -> None:
    made = make_versions(repository, tmp_path / "source", 3)
    put_together(repository)
    (bundle,) = bundles(repository)
    data = bundle.read_bytes()
    opened = reopened(repository)
    ids = opened.archive_ids()
    (place,) = opened.storage.bundles.places(ids[1])
    flip(bundle, place.offset + 40)
    told = damages(repository)
    assert any(f"archives/{ids[1]}/index.1 in bundles/{bundle.name}: frame" in one for one in told)
    assert not any(ids[0] in one or ids[2] in one for one in told)
    assert bundle.read_bytes() != data
    lost = ids[1].rpartition(".")[0]
    for point, expected in made:
        if point.id != lost:
            assert_comes_back(repository, point, expected, tmp_path)


def test_of_one_that_was_cut_short_the_rest_is_had(repository: Repository, tmp_path: Path) -> None:
    made = dict.fromkeys(point.id for point, _ in make_versions(repository, tmp_path / "source", 4))
    put_together(repository)
    (bundle,) = bundles(repository)
    os.truncate(bundle, bundle.stat().st_size // 2)
    ids = reopened(repository).archive_ids()
    assert len(ids) == 4
    told = "\n".join(damages(repository))
    assert f"bundles/{bundle.name}: directory at the end" in told
    points = {point.id: point for point in reopened(repository).points.all().points}
    assert points.keys() == made.keys()
    size, storage = bundle.stat().st_size, reopened(repository).storage
    whole = []
    for name in ids:
        (place,) = storage.bundles.places(name)
        point_id = name.rpartition(".")[0]
        if place.offset + place.member.size <= size:
            whole.append(point_id)
        assert (f"['{point_id}']" in told) == (point_id not in whole)
    assert 0 < len(whole) < 4
    assert all(len(content(repository, points[name], VERSION)) == 3000 for name in whole)


def test_a_bundle_without_any_directory(repository: Repository, tmp_path: Path) -> None:
    """It is told with all points that it hit; nothing is removed that may belong to it."""
    source = tmp_path / "source"
    made = make_versions(repository, source, 4)
    put_together(repository)
    (bundle,) = bundles(repository)
    (source / "other").write_bytes(b"other")
    last = the_point(back_up(repository, source, full=True))
    name = sorted(f"{point.id}.0" for point, _ in made)[0]
    beside = Path(on_disk(repository.storage, layout.archive(name)))
    beside.mkdir()
    (beside / "data.2").write_bytes(b"what is left of an archive")
    flip(bundle, 100)
    flip(bundle, -100)

    told = [one for one in damages(repository) if one.startswith(f"bundles/{bundle.name}")]
    assert len(told) == 2
    for one in told:
        assert all(point.id in one for point, _ in made)
        assert last.id not in one
    with pytest.raises(RepositoryError, match=f"bundles/{bundle.name}.*nothing can be removed"):
        put_together(repository)
    again = the_point(back_up(repository, source))
    assert len(content(repository, again, VERSION)) == 3000
    assert (beside / "data.2").exists()
    bundle.unlink()
    forget(repository, [point.id for point, _ in made])
    put_together(repository)
    assert_whole(repository)
    assert len(content(repository, again, VERSION)) == 3000

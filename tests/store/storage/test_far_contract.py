"""The contract of storages that are far away: many things at once; on real servers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ibtfs.errors import ObjectMissing
from ibtfs.store.layout import FOLDERS
from ibtfs.store.storage.base import FolderStorage
from ibtfs.store.storage.far import FarPlace, is_far_place
from ibtfs.store.storage.limited import LimitedStorage, Limits, Rate
from ibtfs.store.storage.local import LocalStorage
from ibtfs.store.storage.opening import storage_at
from tests.support.far import FarStorage
from tests.support.places import FAR

pytestmark = pytest.mark.parametrize("place", [*FAR, "counted", "limited"], indirect=True)


@pytest.fixture
def place(request: pytest.FixtureRequest, folder: Path) -> bytes:
    if request.param in {"counted", "limited"}:
        return os.fsencode(folder)
    from tests.store.storage.conftest import MADE

    return MADE[request.param](request, folder)


@pytest.fixture
def far(place: bytes, request: pytest.FixtureRequest) -> FarPlace:
    made: FolderStorage = storage_at(place)
    if isinstance(made, LocalStorage):
        made = FarStorage(made)
    if request.node.callspec.params["place"] == "limited":
        made = LimitedStorage(made, Limits(Rate(1 << 40), Rate(1 << 40)))
    made.create()
    made.make_folders()
    assert is_far_place(made)
    return made


def test_ends_come_with_their_objects(far: FarPlace) -> None:
    data = os.urandom(3_000_000)
    far.put_new("points/p", data)
    far.put_new("points/small", b"small")
    far.put_new("points/empty", b"")
    for size in (-1, len(data), 7, len(data) + 9):
        for most in (10, 100_000, 2_500_000, len(data), len(data) + 1, 8 << 20):
            stored, end = far.open_end("points/p", most, size)
            with stored:
                assert (stored.name, stored.size) == ("points/p", len(data))
                assert end == data[-most:]
                assert stored.read(5, 10) == data[5:15]
    assert far.open_end("points/small", 100)[1] == b"small"
    for size in (-1, 0):
        stored, end = far.open_end("points/empty", 100, size)
        assert (stored.size, end) == (0, b"")
    for size in (-1, 100):
        with pytest.raises(ObjectMissing):
            far.open_end("points/none", 100, size)


def test_what_lies_in_many_folders_is_told_at_once(far: FarPlace) -> None:
    archives = [f"20260101T0000{n:02}Z_host_0123456789.0" for n in range(12)]
    for number, name in enumerate(archives):
        far.put_new(f"archives/{name}/index.1", b"i" * number)
    far.put_new(f"archives/{archives[3]}/data.2", b"data")
    far.put_new("points/p", b"manifest")
    far.put_new("tags/p/kept", b"")
    far.put_new("bundles/0123456789abcdef", b"bundle")
    upload = far.put(f"archives/{archives[4]}/data.1")
    upload.write(b"d" * 100_000)
    everything = far.survey(["", *FOLDERS, "archives/*", "tags/*"])
    upload.abort()
    tokens = everything["points"]
    assert tokens == {"p": far.token("points/p")}
    assert set(everything["archives"]) == set(archives)
    assert all(token is None for token in everything["archives"].values())
    assert set(everything[""]) >= {"archives", "points", "tags"}
    assert set(everything[f"archives/{archives[3]}"]) == {"index.1", "data.2"}
    assert set(everything["tags/p"]) == {"kept"}
    assert set(everything["bundles"]) == {"0123456789abcdef"}
    for number, name in enumerate(archives):
        token = everything[f"archives/{name}"]["index.1"]
        assert token is not None
        assert token[0] == number
    below = far.survey(["archives/*"])
    assert {name: set(below[f"archives/{name}"]) for name in archives} == {
        name: {"index.1", "data.2"} if name == archives[3] else {"index.1"} for name in archives
    }
    some = far.survey([f"archives/{name}" for name in (archives[5], archives[3], "none")])
    assert set(some[f"archives/{archives[5]}"]) == {"index.1"}
    assert not some.get("archives/none")
    assert set(far.survey(["points", "locks"])["points"]) == {"p"}


def test_a_folder_of_many_names_is_told_whole(far: FarPlace, folder: Path) -> None:
    """More than goes into one reply, where the storage lies in a folder of this machine."""
    if (folder / "forgotten").is_dir():
        names = [f"{number:05}{'x' * 100}" for number in range(6000)]
        for name in names:
            (folder / "forgotten" / name).touch()
    else:
        names = [f"{number:05}" for number in range(40)]
        for name in names:
            far.put_new(f"forgotten/{name}", b"")
    far.put_new("points/p", b"")
    found = far.survey(["forgotten", "points"])
    assert sorted(found["forgotten"]) == names
    assert set(found["points"]) == {"p"}

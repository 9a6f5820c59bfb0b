"""A storage in which some names are stored otherwise holds what the storage below it does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ibtfs.errors import ObjectExists, ObjectMissing
from ibtfs.sealing.names import SealedNames
from ibtfs.store.sealing import SPEAKING
from ibtfs.store.storage.base import FolderStorage, is_unfinished, whole
from ibtfs.store.storage.opening import storage_at
from ibtfs.store.storage.renamed import RenamedStorage
from tests.sealing.test_keys import OLD, keys_of
from tests.support.far import FarStorage

POINT = "20261129T072334Z_b06aa9bae47e14fa1c94"
ARCHIVE = f"archives/{POINT}.0"
NAMES = [f"forgotten/{POINT}", f"copied/{'0' * 32}-{POINT}", f"{ARCHIVE}/removed",
         f"tags/{POINT}/kept Grüße", f"points/{POINT}", f"{ARCHIVE}/data.1"]  # fmt: skip


def split(name: str) -> tuple[str, str]:
    folder, _, base = name.rpartition("/")
    return folder, base


@pytest.fixture
def place(tmp_path: Path) -> FolderStorage:
    made = storage_at(os.fsencode(tmp_path / "repo"))
    made.create()
    made.make_folders()
    return made


@pytest.fixture
def before(place: FolderStorage) -> RenamedStorage:
    """As it was seen when there was one master key."""
    return RenamedStorage(place, SealedNames(keys_of(current=OLD, masters=(OLD,)), SPEAKING))


@pytest.fixture
def storage(place: FolderStorage) -> RenamedStorage:
    return RenamedStorage(place, SealedNames(keys_of(), SPEAKING))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_put_is_there_by_its_name(
    storage: RenamedStorage, place: FolderStorage, name: str
) -> None:
    folder, base = split(name)
    storage.put_new(name, b"x")
    assert storage.list(folder) == [base]
    assert whole(storage, name, 1) == b"x"
    assert (place.list(folder) == [base]) == name.startswith(("points/", ARCHIVE + "/data"))
    assert storage.made(name) > 0
    assert storage.token(name)
    with pytest.raises(ObjectExists):
        storage.put_new(name, b"y")
    storage.delete(name)
    storage.delete(name)
    assert storage.list(folder) == place.list(folder) == []
    with pytest.raises(ObjectMissing):
        storage.open(name)


@pytest.mark.parametrize("name", NAMES)
def test_what_was_put_with_a_former_master_is_there(
    storage: RenamedStorage, before: RenamedStorage, place: FolderStorage, name: str
) -> None:
    folder, base = split(name)
    before.put_new(name, b"x")
    assert storage.list(folder) == [base]
    assert whole(storage, name, 1) == b"x"
    with pytest.raises(ObjectExists):
        storage.put_new(name, b"y")
    storage.delete(name)
    assert place.list(folder) == []


def test_uploads_are_what_they_are(storage: RenamedStorage) -> None:
    with storage.put(f"forgotten/{POINT}") as upload:
        upload.write(b"x")
        assert storage.list("forgotten") == []
        assert len(storage.list("forgotten", unfinished=True)) == 1
        upload.finish()
    assert storage.list("forgotten", unfinished=True) == [POINT]


def test_what_nobody_with_a_key_put_is_not_there(
    storage: RenamedStorage, place: FolderStorage
) -> None:
    for name in NAMES[:4]:
        place.put_new(name, b"")
        place.put_new(f"{name}.{'0' * 32}", b"")
        assert storage.list(split(name)[0]) == []
        with pytest.raises(ObjectMissing):
            storage.open(name)


def test_what_is_asked_for_at_once_has_its_names_far_away(
    place: FolderStorage, before: RenamedStorage
) -> None:
    assert not RenamedStorage(place, SealedNames(keys_of(), SPEAKING)).is_far
    storage = RenamedStorage(FarStorage(place), SealedNames(keys_of(), SPEAKING))
    assert storage.is_far
    for number, name in enumerate(NAMES):
        (before if number % 2 else storage).put_new(name, b"x" * number)
        place.put_new(f"{name}.{'0' * 32}", b"")
    upload = storage.put(f"{ARCHIVE}/index.1")
    found = storage.survey(["points", "forgotten", "copied", "archives/*", "tags/*"])
    upload.abort()
    for number, name in enumerate(NAMES):
        folder, base = split(name)
        names = {one for one in found[folder] if not is_unfinished(one)}
        assert names - {f"{base}.{'0' * 32}"} >= {base}
        if folder in {"forgotten", "copied"}:
            assert names == {base}
        token = found[folder][base]
        assert token is not None
        assert token[0] == number
        stored, end = storage.open_end(name, 100)
        stored.close()
        assert end == b"x" * number
    assert any(map(is_unfinished, found[ARCHIVE]))
    with pytest.raises(ObjectMissing):
        storage.open_end(f"{ARCHIVE}/none", 100)

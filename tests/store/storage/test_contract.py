"""The contract of a storage: what each must do, in a local folder and on a real server."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress

import pytest

from ibtfs.errors import (
    LockLost,
    NotARepository,
    ObjectExists,
    ObjectMissing,
    ObjectUnreadable,
    RepositoryExists,
)
from ibtfs.store.layout import CONFIG, FOLDERS, KEYS, POINTS
from ibtfs.store.storage.base import FolderStorage, is_unfinished, whole
from ibtfs.store.storage.opening import storage_at
from tests.support.places import EVERYWHERE

MIB = 1 << 20
pytestmark = pytest.mark.parametrize("place", EVERYWHERE, indirect=True)


def test_a_place_holds_one_repository(place: bytes) -> None:
    storage = storage_at(place)
    assert not storage.has_repository()
    storage.check_new()
    storage.create()
    storage.require_there()
    storage.put_new(CONFIG, b"{}")
    storage.make_folders()
    again = storage_at(place)
    assert again.has_repository()
    again.require_there()
    with pytest.raises(RepositoryExists, match="is a repository already"):
        again.create()


def test_where_nothing_is_there_is_no_repository(place: bytes) -> None:
    storage = storage_at(place + b"/none")
    assert not storage.has_repository()
    with suppress(NotARepository):  # where there are no folders, none is missing
        storage.require_there()


def test_a_place_with_other_things_becomes_no_repository(storage: FolderStorage) -> None:
    storage.put_new("points/notes", b"")
    storage.put_new("notes", b"")
    with pytest.raises(RepositoryExists, match="not empty and not a repository"):
        storage_at(storage.root).check_new()


def test_keys_that_a_making_left_that_was_cut_off_are_no_hindrance(place: bytes) -> None:
    storage = storage_at(place)
    storage.create()
    storage.put_new(f"{KEYS}/1.0123456789abcdef", b"x")
    again = storage_at(place)
    again.check_new()
    again.create()
    assert storage_at(place).list(KEYS) == ["1.0123456789abcdef"]
    storage.put_new(f"{KEYS}/mine", b"x")
    with pytest.raises(RepositoryExists, match="not empty"):
        storage_at(place).check_new()
    storage.delete(f"{KEYS}/mine")
    storage.put_new(f"{POINTS}/20261129T072334Z_b06aa9bae47e14fa1c94", b"x")
    with pytest.raises(RepositoryExists, match="not empty"):
        storage_at(place).check_new()


def test_what_is_put_is_there_when_it_is_whole_and_not_before(storage: FolderStorage) -> None:
    with storage.put("archives/x/data.1") as upload:
        upload.write(b"ab")
        assert storage.list("archives/x") == []
        with pytest.raises(ObjectMissing):
            storage.open("archives/x/data.1")
        upload.write(memoryview(b"cde"))
        upload.finish()
    assert upload.size == 5
    assert storage.list("archives/x", unfinished=True) == ["data.1"]
    assert whole(storage, "archives/x/data.1", 5) == b"abcde"


def test_what_is_empty_can_be_put(storage: FolderStorage) -> None:
    storage.put_new("forgotten/p", b"")
    with storage.put("archives/x/data.2") as upload:
        upload.finish()
    for name in ("forgotten/p", "archives/x/data.2"):
        assert whole(storage, name, 5) == b""


def test_of_many_who_put_the_same_name_one_is_there(storage: FolderStorage) -> None:
    """Not more than one should believe it; but nothing depends on that: names are random."""
    won: list[bytes] = []

    def put(number: int) -> None:
        data = b"%d" % number * 100
        with suppress(ObjectExists):
            storage.put_new("points/p", data)
            won.append(data)

    threads = [threading.Thread(target=put, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert whole(storage, "points/p", 1000) in won
    assert storage.list("points", unfinished=True) == ["p"]


def test_ranges(storage: FolderStorage) -> None:
    storage.put_new("points/p", bytes(range(100)))
    with storage.open("points/p") as stored:
        assert stored.size == 100
        assert stored.name == "points/p"
        assert stored.read(10, 3) == b"\x0a\x0b\x0c"
        assert stored.read(98, 10) == b"\x62\x63"
        assert stored.read(100, 1) == b""


def test_a_name_is_given_once(storage: FolderStorage) -> None:
    storage.put_new("points/p", b"first")
    with pytest.raises(ObjectExists, match="points/p"):
        storage.put_new("points/p", b"second")
    assert whole(storage, "points/p", 10) == b"first"
    assert storage.list("points", unfinished=True) == ["p"]


def test_an_upload_that_is_left_leaves_nothing(storage: FolderStorage) -> None:
    upload = storage.put("tags/p/t")
    with suppress(RuntimeError), upload:
        upload.write(b"x")
        raise RuntimeError
    assert storage.list("tags/p", unfinished=True) == []
    upload.abort()  # once more is harmless


def test_names_are_sorted_and_of_one_folder(storage: FolderStorage) -> None:
    for name in ("b", "a", "c"):
        storage.put_new(f"tags/p/{name}", b"")
    assert storage.list("tags/p") == ["a", "b", "c"]
    assert storage.list("tags") == ["p"]
    assert storage.list("nowhere") == []
    assert set(storage.list("")) <= set(FOLDERS)


def test_what_is_larger_than_it_may_be_is_not_read(storage: FolderStorage) -> None:
    storage.put_new("points/p", b"12345")
    with pytest.raises(ObjectUnreadable, match="too large"):
        whole(storage, "points/p", 4)


def test_what_is_missing_is_called_missing(storage: FolderStorage) -> None:
    for name in ("points/none", "none/none", "archives/none/index.1"):
        with pytest.raises(ObjectMissing, match=name):
            storage.open(name)


def test_large_objects_come_back(storage: FolderStorage) -> None:
    data = os.urandom(5 * MIB + 7)
    with storage.put("archives/x/data.1") as upload:
        for first in range(0, len(data), 700_001):
            upload.write(data[first : first + 700_001])
        upload.finish()
    assert upload.size == len(data)
    with storage.open("archives/x/data.1") as stored:
        assert stored.size == len(data)
        assert stored.read(0, len(data)) == data
        assert stored.read(1, 3 * MIB) == data[1 : 1 + 3 * MIB]
        assert stored.read(len(data) - 5, 4096) == data[-5:]


def test_threads_read_and_write_at_once(storage: FolderStorage) -> None:
    data = [os.urandom(300_000) for _ in range(6)]
    wrong: list[int] = []

    def work(number: int) -> None:
        storage.put_new(f"archives/x/data.{number}", data[number])
        with storage.open(f"archives/x/data.{number}") as stored:
            for first in range(0, 300_000, 70_000):
                if stored.read(first, 70_000) != data[number][first : first + 70_000]:
                    wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(storage.list("archives/x")) == 6


def test_many_objects_are_open_at_once(storage: FolderStorage) -> None:
    count = 250
    for number in range(count):
        storage.put_new(f"tags/p/{number}", b"%d" % number)
    opened = [storage.open(f"tags/p/{number}") for number in range(count)]
    for number, stored in enumerate(opened):
        assert stored.read(0, 9) == b"%d" % number
    assert len(storage.list("tags/p")) == count
    for stored in opened:
        stored.close()
        stored.close()


def test_who_lost_his_lease_finishes_nothing(storage: FolderStorage) -> None:
    lease = storage.lease("locks/l", "0a1b2c3d")
    upload = storage.put("points/p")
    storage.delete("locks/l")
    assert not lease.is_in_place()
    with suppress(OSError):
        lease.refresh()
    assert storage.list("locks") == []
    with pytest.raises(LockLost), upload:
        upload.finish()
    assert storage.list("points", unfinished=True) == []
    lease.release()


def test_what_is_removed_is_gone_and_missing_is_fine(storage: FolderStorage) -> None:
    storage.put_new("tags/p/a", b"")
    storage.put_new("tags/p/b", b"")
    storage.delete("tags/p/a")
    assert storage.list("tags/p") == ["b"]
    for _ in range(2):
        storage.delete("tags/p/b")
    assert storage.list("tags/p") == []


def test_an_object_is_replaced_by_its_own_bytes(storage: FolderStorage) -> None:
    storage.put_new("archives/x/data.1", b"wrong")
    for _ in range(2):
        with storage.replace("archives/x/data.1") as upload:
            upload.write(b"right")
            upload.finish()
        assert whole(storage, "archives/x/data.1", 5) == b"right"
        storage.delete("archives/x/data.1")  # and where it is gone
    assert storage.list("archives/x", unfinished=True) == []


# Leases


def test_a_lease_is_there_until_it_is_released(storage: FolderStorage) -> None:
    lease = storage.lease("locks/l", "0a1b2c3d")
    assert storage.list("locks") == ["l"]
    assert lease.is_in_place()
    assert storage.is_held("locks/l") is not False
    lease.refresh()
    assert storage.list("locks") == ["l"]
    lease.release()
    assert storage.list("locks", unfinished=True) == []
    assert storage.is_held("locks/l") is False


def test_a_lease_ages_by_the_clock_of_the_storage(storage: FolderStorage) -> None:
    lease = storage.lease("locks/l", "0a1b2c3d")
    time.sleep(1.1)  # some servers tell full seconds
    other = storage.lease("locks/m", "00000000")
    assert 1 <= storage.age("locks/l", "locks/m") < 60
    lease.refresh()
    assert storage.age("locks/l", "locks/m") < 1
    lease.release()
    assert storage.age("locks/l", "locks/m") == float("inf")
    other.release()
    assert storage.age("locks/m", "locks/l") == float("inf")


def test_nothing_of_a_broken_lock_is_finished(storage: FolderStorage) -> None:
    lease = storage.lease("locks/l", "0a1b2c3d")
    upload = storage.put("archives/x/index.2")
    upload.write(os.urandom(3 * MIB))
    storage.delete("locks/l")
    storage.drop_unfinished("0a1b2c3d")
    with pytest.raises(LockLost), upload:
        upload.finish()
    assert [n for n in storage.list("archives/x") if not is_unfinished(n)] == []
    with suppress(OSError):
        lease.refresh()
    assert not lease.is_in_place()
    lease.release()


# The volume


def test_what_is_told_of_folders_and_objects(storage: FolderStorage) -> None:
    storage.put_new("points/p", b"1")
    assert storage.has_folder("points")
    assert abs(storage.made("points/p") - time.time()) < 60
    assert storage.made("points/q") == 0
    token = storage.token("points/p")
    assert storage.token("points/p") == token
    storage.put_new("points/q", b"12")
    assert storage.token("points/q") != token
    with pytest.raises(ObjectMissing):
        storage.token("points/r")
    assert storage.refusal() == ""
    storage.sync(["points"])
    assert storage.space().blocks_available > 0


def test_a_folder_tells_when_its_names_change(storage: FolderStorage) -> None:
    storage.put_new("points/p", b"1")
    before = storage.folder_token("points")
    storage.put_new("points/q", b"1")
    after = storage.folder_token("points")
    assert not after or after != before
    assert storage.changed_ns("points") > 0

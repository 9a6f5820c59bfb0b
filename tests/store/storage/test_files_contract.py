"""The contract of a storage that opens files: what is open stays, and what is begun is seen."""

from __future__ import annotations

import threading
import time

import pytest

from ibtfs.errors import LockLost, ObjectExists, ObjectMissing
from ibtfs.store.storage.base import FolderStorage, is_unfinished, token_of, whole
from tests.support.places import WITH_FILES

pytestmark = pytest.mark.parametrize("place", WITH_FILES, indirect=True)


def test_what_is_put_is_there_and_nothing_before_it_is_whole(storage: FolderStorage) -> None:
    with storage.put("archives/x/data.1") as upload:
        upload.write(b"ab")
        assert storage.list("archives/x") == []
        (name,) = storage.list("archives/x", unfinished=True)
        assert is_unfinished(name)
        with pytest.raises(ObjectMissing):
            storage.open("archives/x/data.1")
        upload.write(memoryview(b"cde"))
        upload.finish()
    assert upload.size == 5
    assert storage.list("archives/x", unfinished=True) == ["data.1"]
    assert whole(storage, "archives/x/data.1", 5) == b"abcde"


def test_what_is_open_is_read_to_its_end_though_it_is_deleted(storage: FolderStorage) -> None:
    storage.put_new("points/p", b"12345")
    with storage.open("points/p") as stored:
        assert not stored.is_removed()
        storage.delete("points/p")
        assert stored.read(0, 9) == b"12345"
        assert stored.is_removed()


def test_only_uploads_of_one_token_are_dropped(storage: FolderStorage) -> None:
    names = []
    for token in ("0a1b2c3d", "00000000"):
        lease = storage.lease("locks/" + token, token)
        for name in ("config", "points/p", "archives/x/data.1"):
            upload = storage.put(name)
            upload.write(b"1")
            names.append((token, upload))
        lease.release()
    folders = ("", "points", "archives/x")
    assert sum(len([n for n in storage.list(f, unfinished=True) if is_unfinished(n)])
               for f in folders) == 6  # fmt: skip
    storage.drop_unfinished("0a1b2c3d")
    left = [n for f in folders for n in storage.list(f, unfinished=True) if is_unfinished(n)]
    assert [token_of(name) for name in left] == ["00000000"] * 3
    for _, upload in names:
        upload.abort()


def test_what_was_begun_under_a_broken_lease_is_not_finished(storage: FolderStorage) -> None:
    lease = storage.lease("locks/l", "0a1b2c3d")
    upload = storage.put("points/p")
    upload.write(b"x")
    while not storage.list("points", unfinished=True):
        time.sleep(0.01)  # what is sent may be on its way
    storage.drop_unfinished("0a1b2c3d")
    with pytest.raises(LockLost), upload:
        upload.finish()
    assert storage.list("points", unfinished=True) == []
    lease.release()


def test_of_many_who_put_the_same_name_one_wins(storage: FolderStorage) -> None:
    won: list[int] = []

    def put(number: int) -> None:
        try:
            storage.put_new("points/p", b"%d" % number)
        except ObjectExists:
            return
        won.append(number)

    threads = [threading.Thread(target=put, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert whole(storage, "points/p", 10) == b"%d" % won[0]

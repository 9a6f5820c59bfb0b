"""What a repository among objects does that a folder does without; on real servers."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest

from ibtfs.errors import LockLost, StorageFailed
from ibtfs.store.storage.base import is_unfinished
from ibtfs.store.storage.objects import storage as storage_module
from ibtfs.store.storage.objects.lease import ObjectLease
from ibtfs.store.storage.objects.storage import ObjectStorage
from tests.support.faking import Patch

MIB = 1 << 20
pytestmark = pytest.mark.parametrize("place", ["s3", "rclone"], indirect=True)


def parts(storage: ObjectStorage, folder: str) -> list[str]:
    return [name for name in storage.list(folder, unfinished=True) if is_unfinished(name)]


def test_what_is_about_to_be_named_is_seen(storage: ObjectStorage) -> None:
    """Of two runs that commit at once at least one has to see the other's manifest."""
    with storage.put("points/p") as upload:
        upload.write(b"manifest")
        (part,) = parts(storage, "points")
        with storage.open(f"points/{part}") as stored:
            assert stored.read(0, 100) == b"manifest"
        upload.finish()
    assert storage.list("points", unfinished=True) == ["p"]


def test_an_archive_comes_into_being_by_a_name_and_not_before(storage: ObjectStorage) -> None:
    """Who lost his lock must not bring an archive to life whose data were swept."""
    lease = storage.lease("locks/l", "0a1b2c3d")
    upload = storage.put("archives/x/index.1")
    upload.write(b"index")
    assert storage.list("archives/x", unfinished=True) == []  # nobody looks for it there
    storage.delete("locks/l")
    with pytest.raises(LockLost), upload:
        upload.finish()
    assert storage.list("archives/x", unfinished=True) == []
    lease.release()


def test_a_part_is_there_before_it_is_looked_whether_the_lock_is(storage: ObjectStorage) -> None:
    """Whoever breaks the lock after that look finds it."""
    seen: list[int] = []

    class Asked(ObjectLease):
        def is_in_place(self) -> bool:
            seen.append(len(parts(storage, "archives/x")))
            return super().is_in_place()

    storage.put_new("locks/l", b"")
    lease = Asked(storage, "locks/l", "0a1b2c3d")
    storage.leases.add(lease)
    with storage.put("archives/x/index.1") as upload:
        upload.write(b"index")
        upload.finish()
    assert seen == [1]
    lease.release()
    assert storage.list("archives/x", unfinished=True) == ["index.1"]
    assert storage.list("locks", unfinished=True) == []


def test_data_of_a_new_archive_are_put_where_they_belong(storage: ObjectStorage) -> None:
    if not storage.asking.client.copies_to_rename:
        with storage.put("archives/x/data.1") as upload:
            upload.write(bytes((1 << 20) + 1))
            assert storage.list("archives/x") == []
        return
    with storage.put("archives/x/data.1") as upload:
        upload.write(b"data")
        assert storage.list("archives/x", unfinished=True) == []
        upload.finish()
    assert storage.list("archives/x", unfinished=True) == ["data.1"]


def test_a_lock_that_is_broken_off_while_it_is_taken_is_not_left(
    storage: ObjectStorage, monkeypatch: Patch
) -> None:
    client = storage.asking.client
    put = client.put

    def interrupted(key: str, data: bytes) -> None:
        put(key, data)
        raise KeyboardInterrupt

    monkeypatch.setattr(client, "put", interrupted)
    with pytest.raises(KeyboardInterrupt):
        storage.lease("locks/l", "0a1b2c3d")
    assert storage.list("locks", unfinished=True) == []


def test_who_breaks_a_lock_waits_for_what_a_server_may_be_copying(
    storage: ObjectStorage, monkeypatch: Patch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(storage_module.time, "sleep", slept.append)
    storage.drop_unfinished("0a1b2c3d")
    assert slept == []
    lease = storage.lease("locks/l", "0a1b2c3d")
    lease.refresh()
    storage.drop_unfinished("0a1b2c3d")  # its beat alone is nothing that is copied
    assert slept == []
    storage.put("points/p").write(b"x")
    storage.drop_unfinished("0a1b2c3d")
    assert len(slept) == 1
    assert slept[0] >= 10
    lease.release()


def test_a_folder_in_which_others_may_put_something_is_left(storage: ObjectStorage) -> None:
    storage.put_new("tags/p/a", b"")
    removed = list[str]()
    client = storage.asking.client
    real = client.remove_folder

    def remove_folder(folder: str) -> None:
        removed.append(folder)
        real(folder)

    client.remove_folder = remove_folder  # type: ignore[method-assign]
    storage.delete("tags/p/a")
    storage.put_new("archives/x/data.1", b"")
    storage.delete("archives/x/data.1")
    storage.delete("points/none")
    assert removed == ["archives/x"]
    storage.delete("tags/p")
    assert removed[-1] == "tags/p"


def test_threads_that_put_have_parts_of_their_own(storage: ObjectStorage) -> None:
    lease = storage.lease("locks/l", "0a1b2c3d")
    wrong: list[Exception] = []

    def put(number: int) -> None:
        try:
            with storage.put(f"archives/x/sigs.{number + 2}") as upload:
                upload.write(bytes([number]) * (MIB + number))
                upload.finish()
        except (LockLost, StorageFailed) as error:
            wrong.append(error)

    threads = [threading.Thread(target=put, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    for number in range(4):
        with storage.open(f"archives/x/sigs.{number + 2}") as stored:
            assert stored.size == MIB + number
            assert stored.read(MIB, 10) == bytes([number]) * number
    with suppress(StorageFailed):
        lease.release()

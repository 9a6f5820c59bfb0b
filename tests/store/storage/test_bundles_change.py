"""Bundles that come and go while somebody looks, or are damaged; by a storage in memory."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from ibtfs.errors import FormatDamaged, ObjectMissing, ObjectUnreadable, StorageFailed
from ibtfs.format.bundle import Directory, Member, encode_ends
from ibtfs.format.compression import Codec
from ibtfs.store.storage.bundle import name_of
from ibtfs.store.storage.bundles import FIRST_BYTES, SETTLES_NS, TRIES, Bundles
from tests.support.memory import BytesObject

REPOSITORY = b"i" * 16
IDS = [f"20260101T00000{n}Z_host_0123456789.0" for n in range(3)]


class Memory:
    """Bundles by their names; *token* tells of changes, *before* is called before each listing."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.token = 0
        self.before: list[Callable[[], object]] = []
        self.opened: list[str] = []
        self.settles: set[int] = set()
        self.removed: set[str] = set()

    def open(self, name: str) -> Any:
        self.opened.append(name)
        if name not in self.files:
            raise ObjectMissing(f"{name}: no such file in the repository")
        memory, stored = self, BytesObject(self.files[name], name)

        class Opened(BytesObject):
            def read(self, offset: int, size: int) -> bytes:
                if name in memory.removed:
                    raise ObjectMissing(f"{name}: no such file in the repository")
                return stored.read(offset, size)

            def is_removed(self) -> bool:
                return name not in memory.files

        return Opened(self.files[name], name)

    def list(self, folder: str, *, unfinished: bool = False) -> list[str]:
        assert (folder, unfinished) == ("bundles", False)
        if self.before:
            self.before.pop(0)()
        return sorted([*(name.rpartition("/")[2] for name in self.files), "no bundle"])

    def folder_token(self, folder: str, settles_ns: int) -> int:
        assert folder == "bundles"
        self.settles.add(settles_ns)
        return self.token

    def put(self, number: int, archives: Sequence[str], made: int = 7, kinds: int = 1) -> str:
        """A bundle of the indexes of *archives*, each of which has its own bytes."""
        name = f"bundles/{number:016x}"
        files = [b"%d of %s, " % (kind, one.encode()) * 40 for one in sorted(archives)
                 for kind in range(3 - kinds, 3)]  # fmt: skip
        members = [
            Member(n // kinds, 3 - kinds + n % kinds, 1, len(data)) for n, data in enumerate(files)
        ]
        directory = Directory(sorted(archives), [made] * len(archives), members, 0)
        first, last = encode_ends(REPOSITORY, name, directory, Codec())
        self.files[name] = first + b"".join(files) + last
        return name


def data_of(archive: str, kind: int = 2) -> bytes:
    return b"%d of %s, " % (kind, archive.encode()) * 40


@pytest.fixture
def memory() -> Memory:
    return Memory()


def test_archives_are_found_by_the_directory(memory: Memory) -> None:
    name, other = memory.put(1, IDS[:2], made=5, kinds=2), memory.put(2, IDS[1:], made=9)
    bundles = Bundles(memory, REPOSITORY)
    assert set(bundles.archives()) == set(IDS)
    assert [bundle.name for bundle in bundles.all()] == [name, other]
    assert bundles.names(IDS[0]) == {"sigs.1", "index.1"}
    assert bundles.names("none") == set()
    assert [bundles.made(one) for one in (*IDS, "none")] == [5, 9, 9, 0]
    assert [name_of(place.member) for place in bundles.places(IDS[1])] == [
        "sigs.1", "index.1", "index.1"
    ]  # fmt: skip
    with bundles.open(f"archives/{IDS[0]}/sigs.1") as stored:
        data = data_of(IDS[0], 1)
        assert (stored.size, stored.shown) == (
            len(data), f"archives/{IDS[0]}/sigs.1 in {name}"
        )  # fmt: skip
        assert stored.read(0, 1000) == data[:1000]
        assert stored.read(3, 5) == data[3:8]
        assert stored.read(len(data) - 2, 5) == data[-2:]
        assert stored.read(len(data), 5) == stored.read(len(data) + 9, 5) == b""
        assert not stored.is_removed()
        memory.files.pop(name)
        assert stored.is_removed()
    assert not stored.is_removed()
    for wrong in ("data.1", "index.2"):
        with pytest.raises(ObjectMissing, match=f"archives/{IDS[0]}/{wrong}: no such file"):
            bundles.open(f"archives/{IDS[0]}/{wrong}")
    assert memory.settles == {SETTLES_NS}


def test_the_folder_is_listed_when_its_time_tells_so(memory: Memory) -> None:
    memory.put(1, IDS[:1])
    memory.token = 5
    bundles = Bundles(memory, REPOSITORY)
    assert set(bundles.archives()) == set(IDS[:1])
    memory.put(2, IDS[1:])
    memory.opened.clear()
    assert set(bundles.archives()) == set(IDS[:1])
    bundles.look_again()
    assert set(bundles.archives()) == set(IDS)
    assert len(memory.opened) == 1  # what was known is not read again
    memory.put(3, IDS)
    memory.token = 6
    assert len(bundles.all()) == 3
    memory.token = 0  # it may be changing
    memory.files.clear()
    assert bundles.all() == []
    memory.put(4, IDS)
    assert len(bundles.all()) == 1


def test_a_listing_that_changes_meanwhile_is_done_again(memory: Memory) -> None:
    memory.put(1, IDS[:1])
    nothing: Callable[[], object] = lambda: None  # noqa: E731
    memory.before = [nothing, lambda: memory.put(2, IDS[1:])]
    bundles = Bundles(memory, REPOSITORY)
    assert set(bundles.archives()) == set(IDS)
    # one that goes between listing and reading
    fresh = Bundles(memory, REPOSITORY)
    real, gone = memory.open, [f"bundles/{1:016x}"]

    def opening(name: str) -> Any:
        if gone and name == gone[0]:
            memory.files.pop(gone.pop())
        return real(name)

    memory.open = opening  # type: ignore[method-assign]
    assert set(fresh.archives()) == set(IDS[1:])
    # one that changes all the time is let be
    memory.open = real  # type: ignore[method-assign]
    endless = Bundles(memory, REPOSITORY)
    listed: list[int] = []

    def change() -> None:
        listed.append(1)
        memory.put(100 + len(listed), IDS)

    memory.before = [change] * 1000
    assert set(endless.archives()) == set()
    assert len(listed) == 2 * TRIES


def test_who_reads_goes_on_where_it_lies_by_then(memory: Memory) -> None:
    name = memory.put(1, IDS[:2])
    bundles = Bundles(memory, REPOSITORY)
    stored = bundles.open(f"archives/{IDS[0]}/index.1")
    assert stored.read(0, 5) == data_of(IDS[0])[:5]
    other = memory.put(2, IDS)
    memory.files.pop(name)
    memory.removed.add(name)  # by another machine: the open file is gone as well
    assert stored.read(2, 5) == data_of(IDS[0])[2:7]
    memory.removed.add(other)
    with pytest.raises(ObjectMissing):
        stored.read(0, 5)
    stored.close()
    memory.files.clear()
    bundles.look_again()
    with pytest.raises(ObjectMissing, match=r"index\.1: no such file in the repository"):
        bundles.open(f"archives/{IDS[0]}/index.1")


def test_what_a_disk_refuses_is_told_and_opened_again(memory: Memory) -> None:
    name = memory.put(1, IDS)
    bundles = Bundles(memory, REPOSITORY)
    one, other = (bundles.open(f"archives/{archive}/index.1") for archive in IDS[:2])
    assert other.read(0, 1) == data_of(IDS[1])[:1]
    for kind in (ObjectUnreadable, StorageFailed):
        opened = one._place[0].stored
        assert opened is not None

        def refusing(*_: int, error: type[Exception] = kind) -> bytes:
            raise error("refused")

        opened.read = refusing  # type: ignore[assignment, method-assign]
        before = len(memory.opened)
        with pytest.raises(kind, match="refused"):
            one.read(0, 5)
        assert other.read(0, 5) == data_of(IDS[1])[:5]
        assert one.read(0, 5) == data_of(IDS[0])[:5]
        assert memory.opened[before:].count(name) == 1


def test_bundles_that_are_let_go_are_not_read_on(memory: Memory) -> None:
    memory.put(1, IDS)
    bundles = Bundles(memory, REPOSITORY)
    stored = bundles.open(f"archives/{IDS[0]}/index.1")
    (bundle,) = bundles.all()
    bundle.let_go()
    bundle.let_go()
    assert not stored.is_removed()
    before = len(memory.opened)
    assert stored.read(0, 3) == data_of(IDS[0])[:3]
    assert len(memory.opened) == before + 1


def spoilt(data: bytes, *places: int) -> bytes:
    changed = bytearray(data)
    for place in places:
        changed[place] ^= 1
    return bytes(changed)


def test_damages_of_both_ends_are_told(memory: Memory) -> None:
    good, name = memory.put(1, IDS[:1]), memory.put(2, IDS[1:])
    data = memory.files[name]
    for changed, told in (
        (data, []), (spoilt(data, 70), ["directory at the beginning"]),
        (spoilt(data, -70), ["directory at the end"]), (data + b"x", ["bytes", "at the end"]),
        (spoilt(data, 70, -70), ["directory at the beginning", "directory at the end"]),
    ):  # fmt: skip
        memory.files[name] = changed
        bundles = Bundles(memory, REPOSITORY)
        found = bundles.damages()
        assert list(found) == ([name] if told else [])
        assert len(found.get(name, [])) == len(told)
        assert all(word in line for word, line in zip(told, found.get(name, [])))
        is_lost = len(told) == 2 and changed != data + b"x"
        assert list(bundles.damaged()) == ([name] if is_lost else [])
        assert [bundle.name for bundle in bundles.all()] == ([good] if is_lost else [good, name])
        memory.files[name] = data
        assert list(bundles.damaged()) == ([name] if is_lost else [])
        bundles.forget()
        assert list(bundles.damaged()) == []
        assert len(bundles.all()) == 2
    memory.before = [lambda: None]
    real = memory.list
    memory.list = lambda *_, **__: [*real("bundles"), f"{9:016x}"]  # type: ignore[method-assign]
    assert Bundles(memory, REPOSITORY).damages() == {}


@pytest.mark.parametrize("count", [3, 2000])
def test_a_directory_is_read_whole_however_large(memory: Memory, count: int) -> None:
    chance = random.Random(count)
    archives = [f"20260101T000000Z_host_{chance.randbytes(20).hex()}.0" for _ in range(count)]
    name = memory.put(1, archives)
    bundles = Bundles(memory, REPOSITORY)
    stored = memory.open(name)
    for read in (bundles.first, bundles.last):
        directory = read(stored)
        assert directory.archives == tuple(sorted(archives))
    first = directory.members(0)[0][1]
    assert (first > FIRST_BYTES) is (count > 1000)
    for size in (0, 10, 56, 100, first - 1):
        with pytest.raises((FormatDamaged, ObjectUnreadable)):
            bundles.first(BytesObject(memory.files[name][:size], name))
        with pytest.raises((FormatDamaged, ObjectUnreadable)):
            bundles.last(BytesObject(memory.files[name][len(memory.files[name]) - size :], name))

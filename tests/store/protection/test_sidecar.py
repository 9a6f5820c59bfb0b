"""A sidecar: blocks that are lost are made again, as many of each row as it has parity for."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from ibtfs.errors import FormatDamaged, ObjectUnreadable
from ibtfs.format.parity import MAGIC, arranged
from ibtfs.store.protection import sidecar as sidecar_module
from ibtfs.store.protection.sidecar import (
    HEADS,
    Sidecar,
    _found_head,
    is_missing,
    opened,
    write_sidecar,
)
from ibtfs.store.protection.volume import Volume
from ibtfs.store.storage.local import LocalObject, LocalStorage
from tests.support.memory import BytesObject

SIZES = {
    "one byte": [1], "less than a block": [511], "two blocks": [1024], "a row": [51_200],
    "large blocks": [51_201], "rows": [4096 * 700 + 5], "files": [1, 512, 513, 9000, 188],
}  # fmt: skip


def stored(path: Path, sizes: list[int], share: int, *, whole: bool = False) -> LocalStorage:
    """Objects of these sizes, called by their places, with a sidecar "parity"."""
    storage = LocalStorage(os.fsencode(path))
    storage.create()
    names = [str(place) for place in range(len(sizes))]
    for name, size in zip(names, sizes):
        storage.put_new(name, os.urandom(size))
    write_sidecar(storage, bytes(16), "parity", names, share, whole=whole)
    return storage


def contents(path: Path, count: int) -> list[bytes]:
    return [(path / str(place)).read_bytes() for place in range(count)]


def heal(storage: LocalStorage) -> list[bool]:
    """Heal what is damaged; whether each could be."""
    with Sidecar(storage, "parity") as sidecar:
        erased = sidecar.erased()
        blocks = sidecar.restored(erased)
        return [sidecar.heal(place, blocks) for place in sidecar.damaged(erased)]


@pytest.mark.parametrize("share", [1, 10, 100])
@pytest.mark.parametrize("name", SIZES)
def test_as_many_blocks_of_each_row_as_there_is_parity(
    fast_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, share: int
) -> None:
    monkeypatch.setattr(sidecar_module, "WINDOW", 4096 * 150)  # more than one window
    path, sizes = fast_path / "r", SIZES[name]
    storage = stored(path, sizes, share)
    before, rng = contents(path, len(sizes)), random.Random(share)
    with Sidecar(storage, "parity") as sidecar:
        shape, blocks = sidecar.head.shape, sidecar.head.blocks
        assert sidecar.is_intact()
        assert sidecar.damaged(sidecar.erased()) == []
    firsts = [0]
    for size in sizes:
        firsts.append(firsts[-1] + -(-size // shape.block))
    for row in range(shape.rows):
        there = list(range(row, blocks, shape.rows))
        for number in rng.sample(there, min(len(there), shape.checks)):
            place = max(p for p in range(len(sizes)) if firsts[p] <= number)
            with (path / str(place)).open("r+b") as file:
                file.seek((number - firsts[place]) * shape.block)
                byte = file.read(1)
                file.seek(-1, os.SEEK_CUR)
                file.write(bytes([byte[0] ^ 1]))
    assert contents(path, len(sizes)) != before
    assert all(heal(storage))
    assert contents(path, len(sizes)) == before


def test_any_file_may_be_lost_where_that_is_asked_for(fast_path: Path) -> None:
    sizes = [188, *(random.Random(4).randrange(400, 3000) for _ in range(150)), 40_000]
    storage = stored(fast_path / "r", sizes, 1, whole=True)
    before = contents(fast_path / "r", len(sizes))
    for place in range(0, len(sizes), 7):
        (fast_path / "r" / str(place)).unlink()
        assert heal(storage) == [True]
        assert contents(fast_path / "r", len(sizes)) == before
    assert arranged(sizes, 1, whole=True).checks == 14


def test_one_head_is_enough(fast_path: Path) -> None:
    storage = stored(fast_path / "r", [100_000], 10)
    before, parity = contents(fast_path / "r", 1), fast_path / "r" / "parity"
    whole = parity.read_bytes()
    second = whole.rindex(MAGIC)
    assert whole[:second].count(MAGIC) == 1
    for damaged in (
        bytes(20) + whole[20:], whole[:second], whole[:-1], whole + b"\n", whole[5:],
        whole[len(whole) - second :],  # the parity is all that is before the second one
    ):  # fmt: skip
        parity.write_bytes(damaged)
        data = bytearray(before[0])
        data[4000:9000] = bytes(5000)  # as many blocks as there are of parity
        (fast_path / "r" / "0").write_bytes(data)
        with Sidecar(storage, "parity") as sidecar:
            assert not sidecar.is_intact()
        assert heal(storage) == [True]
        assert contents(fast_path / "r", 1) == before
    parity.write_bytes(whole[9:-9])
    with pytest.raises(FormatDamaged, match="no head that can be read"):
        Sidecar(storage, "parity")


def test_damaged_parity_is_not_taken_for_good(fast_path: Path) -> None:
    storage = stored(fast_path / "r", [51_200], 2)
    before, parity = contents(fast_path / "r", 1), fast_path / "r" / "parity"
    whole = bytearray(parity.read_bytes())
    middle = len(whole) // 2
    whole[middle - 100] ^= 1  # one of two blocks
    parity.write_bytes(whole)
    for count, healed in ((1, [True]), (2, [False])):
        data = bytearray(before[0])
        for number in range(count):
            data[number * 512] ^= 1
        (fast_path / "r" / "0").write_bytes(data)
        assert heal(storage) == healed
        assert (contents(fast_path / "r", 1) == before) is healed[0]
        assert contents(fast_path / "r", 1)[0] in (before[0], bytes(data))


class Counted(BytesObject):
    """Counts the bytes that are read of it."""

    read_bytes = 0

    def read(self, offset: int, size: int) -> bytes:
        found = super().read(offset, size)
        self.read_bytes += len(found)
        return found


def test_what_only_looks_like_heads_is_not_read_over_and_over() -> None:
    """Each of them says that it is all that follows; reading all for each would take for ever."""
    size = 1 << 20
    heads = [MAGIC + (size - place - 28).to_bytes(4, "little") for place in range(0, size - 28, 12)]
    stored = Counted(b"".join(heads).ljust(size, b"\0"), "parity")
    with pytest.raises(FormatDamaged, match="no head"):
        _found_head(stored)
    assert stored.read_bytes < (HEADS + 2) * size


def refusing(monkeypatch: pytest.MonkeyPatch, name: str, offset: int) -> None:
    """Have the disk not give what lies at *offset* of an object, nor behind it."""
    real = LocalObject.read

    def read(self: LocalObject, start: int, size: int) -> bytes:
        if self.name == name and start + size > offset:
            raise ObjectUnreadable(f"{name}: the disk does not give it")
        return real(self, start, size)

    monkeypatch.setattr(LocalObject, "read", read)


def test_what_a_disk_does_not_give_is_damage(
    fast_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = stored(fast_path / "r", [40_000, 600], 10)
    size = (fast_path / "r" / "parity").stat().st_size
    with monkeypatch.context() as patch, Sidecar(storage, "parity") as sidecar:
        refusing(patch, "parity", size - 5)
        assert not sidecar.is_intact()
        assert sidecar.damaged(sidecar.erased()) == []
    with monkeypatch.context() as patch, Sidecar(storage, "parity") as sidecar:
        refusing(patch, "0", 39_000)
        erased = sidecar.erased()
        assert erased == [76, 77, 78]  # a bad sector costs no more than its own block
        assert sidecar.damaged(erased) == [0]
        assert sidecar.heal(0, sidecar.restored(erased))
    with Sidecar(storage, "parity") as sidecar:
        assert sidecar.is_intact()
        assert sidecar.damaged(sidecar.erased()) == []
        (fast_path / "r" / "1").write_bytes((fast_path / "r" / "1").read_bytes() + b"x")
        assert sidecar.erased() == []
        assert sidecar.damaged([]) == [1]
        (fast_path / "r" / "1").unlink()
        (fast_path / "r" / "1").mkdir()
        assert sidecar.damaged([]) == [1]


def test_a_sidecar_has_its_name(fast_path: Path) -> None:
    storage = stored(fast_path / "r", [1000], 10)
    (fast_path / "r" / "parity").rename(fast_path / "r" / "other")
    with pytest.raises(FormatDamaged, match=r"^other: is the sidecar parity$"):
        Sidecar(storage, "other")
    assert opened(storage, "other") is None
    assert opened(storage, "none") is None
    assert is_missing(storage, "none")
    assert not is_missing(storage, "other")
    (fast_path / "r" / "folder").mkdir()
    assert not is_missing(storage, "folder")  # it cannot be told


def test_objects_are_blocks_one_behind_the_other(fast_path: Path) -> None:
    storage = LocalStorage(os.fsencode(fast_path / "r"))
    storage.create()
    data = [os.urandom(size) for size in (10, 0, 25, 8)]
    for place, one in enumerate(data):
        storage.put_new(str(place), one)
    blocks = b"".join(one.ljust(-(-len(one) // 8) * 8, b"\0") for one in data)
    with Volume(storage, [(str(n), len(one)) for n, one in enumerate(data)], 8) as volume:
        assert volume.firsts == [0, 2, 2, 6, 7]
        for first in range(8):
            for count in range(1, 10):
                part = blocks[first * 8 : (first + count) * 8]
                assert volume.read(first, count) == part.ljust(count * 8, b"\0")
        os.unlink(storage.path("2"))
        volume.close()
        assert volume.read(1, 6) == blocks[8:16] + bytes(32) + blocks[48:]


def test_beats_come_often_and_what_is_written_is_told(fast_path: Path) -> None:
    storage = LocalStorage(os.fsencode(fast_path / "r"))
    storage.create()
    storage.put_new("0", bytes(3 << 20))
    beats: list[None] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sidecar_module, "WINDOW", 4096 * 100)
        size = write_sidecar(
            storage, bytes(16), "parity", ["0"], 5, beat=lambda: beats.append(None)
        )
    assert size == (fast_path / "r" / "parity").stat().st_size
    with Sidecar(storage, "parity") as sidecar:
        shape = sidecar.head.shape
        assert shape == arranged([3 << 20], 5, whole=False)
        assert len(beats) == 3 + shape.rows
        head = sidecar.head.encode()
        assert size == 2 * len(head) + sidecar.head.checks_size

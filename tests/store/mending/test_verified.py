"""Bytes from elsewhere are believed by the digest of the content only, each time they are read."""

from __future__ import annotations

import pytest
from blake3 import blake3

from ibtfs.errors import FormatDamaged
from ibtfs.store.mending import verified
from ibtfs.store.mending.verified import VerifiedBytes
from tests.support.plain import UNKEYED

DATA = bytes(range(10))


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verified, "CHUNK", 4)


class Elsewhere:
    """Bytes that may change."""

    def __init__(self, data: bytes) -> None:
        self.data, self.beats = data, 0

    def read(self, offset: int, size: int) -> bytes:
        return self.data[offset : offset + size]

    def beat(self) -> None:
        self.beats += 1

    def verified(self) -> VerifiedBytes:
        return VerifiedBytes(self.read, 10, blake3(DATA).digest(), "the copy", self.beat, UNKEYED)


@pytest.mark.parametrize("data", [b"", DATA[:-1], DATA + b"\0", b"x" + DATA[1:], DATA[:-1] + b"x"])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(FormatDamaged, match="the copy: is another content"):
        Elsewhere(data).verified()


def test_any_range_is_read() -> None:
    there = Elsewhere(DATA)
    found = there.verified()
    assert there.beats == 3
    for start in range(10):
        for end in range(start + 1, 11):
            assert found.read(start, end - start) == DATA[start:end]


@pytest.mark.parametrize("place", range(10))
def test_bytes_that_changed_afterwards_are_refused(place: int) -> None:
    there = Elsewhere(DATA)
    found = there.verified()
    changed = bytearray(DATA)
    changed[place] ^= 1
    there.data = bytes(changed)
    with pytest.raises(FormatDamaged, match="the copy: changed"):
        found.read(place, 1)
    other = (place + 4) % 8 if place < 8 else 0
    assert found.read(other, 1) == DATA[other : other + 1]

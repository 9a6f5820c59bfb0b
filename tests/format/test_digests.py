"""The digest of a content, beside a plain model of what FORMAT.rst says."""

from __future__ import annotations

import pytest
from blake3 import blake3
from hypothesis import example, given
from hypothesis import strategies as st

from ibtfs.format import digests
from ibtfs.format.digests import SLAB, ZERO_SLAB
from tests.support.independent_reader import derive
from tests.support.independent_reader import digest_of as model
from tests.support.plain import digest, slab_digest
from tests.support.plain import hasher as new_hasher

SIZES = st.sampled_from([0, 1, 5, SLAB - 1, SLAB, SLAB + 1, 2 * SLAB, 4 * SLAB, 16 * SLAB + 3])
PIECES = st.lists(st.tuples(st.booleans(), st.one_of(SIZES, st.integers(0, 5 * SLAB))), max_size=5)


def some(size: int, seed: int = 1) -> bytes:
    return blake3(b"%d" % seed).digest(1 + size % 251) * (size // (1 + size % 251) + 1)


@given(PIECES)
@example([(True, SLAB)])
@example([(True, 2 * SLAB)])
@example([(False, SLAB), (True, SLAB), (False, 7)])
@example([(False, 9), (True, 3 * SLAB), (True, 0)])
def test_it_is_that_of_the_model_however_the_bytes_come(pieces: list[tuple[bool, int]]) -> None:
    slabs: list[bytes] = []
    hasher, given_, data = new_hasher(slabs.append), new_hasher(), b""
    for is_zeros, size in pieces:
        piece = bytes(size) if is_zeros else some(size)[:size]
        hasher.update(piece)
        if is_zeros:
            given_.add_zeros(size)
        else:
            given_.update(memoryview(piece))
        data += piece
        assert hasher.size == given_.size == len(data)
    assert hasher.finish() == given_.finish() == digest(data) == model(data)
    assert slabs == [slab_digest(data[n : n + SLAB]) for n in range(0, len(data), SLAB)]


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups of three: so a few slabs have several levels."""
    monkeypatch.setattr(digests, "GROUP", 3)


def levels(slabs: list[bytes], size: int) -> bytes:
    """The model again, for groups of three."""
    while len(slabs) > 3:
        groups = [b"".join(slabs[first : first + 3]) for first in range(0, len(slabs), 3)]
        slabs = [derive("ibtfs 2026 slabs", group) for group in groups]
    return derive("ibtfs 2026 content", size.to_bytes(8, "little") + b"".join(slabs))


@pytest.mark.usefixtures("small_groups")
def test_levels_of_digests() -> None:
    filled = slab_digest(b"x" * SLAB)
    seen = set()
    for pattern in range(1, 1 << 5):
        for first in (0, 1, 2, 3, 7, 9, 27):
            for behind in (0, 1, 8, 9, 10, 26, 27, 28, 81, 90):
                hasher, slabs = new_hasher(), []
                runs = [
                    (first, True),
                    *((1, not pattern >> n & 1) for n in range(5)),
                    (behind, True),
                ]
                for count, is_zeros in runs:
                    slabs += [ZERO_SLAB if is_zeros else filled] * count
                    if is_zeros:
                        hasher.add_zeros(count * SLAB)
                    else:
                        hasher.add_slab(filled, SLAB)
                found = hasher.finish()
                assert found == levels(slabs, len(slabs) * SLAB)
                seen.add((found, tuple(slabs)))
    assert len({found for found, _ in seen}) == len(seen)


def test_zeros_of_each_size_have_another_digest() -> None:
    sizes = [0, 1, SLAB, *(n * SLAB << 12 * k for k in range(3) for n in (1, 2, 4096)), 1 << 62]
    sizes += [size + 1 for size in sizes[2:]]
    found = set()
    for size in set(sizes):
        hasher = new_hasher()
        hasher.add_zeros(size)  # a TiB at once
        found.add(hasher.finish())
    assert len(found) == len(set(sizes))


@pytest.mark.parametrize("size", [0, 1, SLAB - 1, SLAB])
def test_a_small_content_has_the_plain_one(size: int) -> None:
    for data in (bytes(size), some(size)[:size]):
        assert digest(data) == blake3(data).digest()


def test_a_slab_is_all_that_its_digest_is_of() -> None:
    assert slab_digest(bytes(SLAB)) == ZERO_SLAB
    for data in (b"", bytes(SLAB - 1), bytes(SLAB), bytes(SLAB - 1) + b"x", b"x" + bytes(SLAB - 1),
                 bytes(SLAB // 2) + b"x" + bytes(SLAB // 2 - 1)):  # fmt: skip
        assert slab_digest(data) == slab_digest(memoryview(data)) == blake3(data).digest()


@pytest.mark.parametrize("length", [0, -1, SLAB + 1])
def test_a_slab_of_no_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="Not a slab"):
        new_hasher().add_slab(bytes(32), length)


def test_a_slab_lies_at_its_place() -> None:
    hasher = new_hasher()
    hasher.update(b"x")
    with pytest.raises(ValueError, match="Not a slab"):
        hasher.add_slab(bytes(32), 5)


def test_nothing_follows_the_end() -> None:
    for end in (lambda it: it.add_slab(slab_digest(b"x"), 1), lambda it: it.finish()):
        for more in (lambda it: it.update(b"y"), lambda it: it.add_zeros(1),
                     lambda it: it.add_slab(slab_digest(b"y"), 1)):  # fmt: skip
            hasher = new_hasher()
            end(hasher)
            with pytest.raises(ValueError, match=r"has ended|Not a slab"):
                more(hasher)
            assert hasher.finish() == hasher.finish()

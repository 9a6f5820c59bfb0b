"""Signatures and deltas by librsync: they fit, rdiff takes them, and damage is told."""

from __future__ import annotations

import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ibtfs.errors import FormatDamaged, IbtfsError, LibraryMissing
from ibtfs.format import rsync
from ibtfs.format.rdelta import LITERAL, Match, apply_delta
from ibtfs.format.rsync import Signature, SignatureWriter, fine_matches, make_signature

contents = st.one_of(
    st.binary(max_size=300),
    st.lists(st.sampled_from([b"0123456789abcdef", bytes(64), b"x", b"yz" * 33]), max_size=30).map(
        b"".join
    ),
)
block_sizes = st.sampled_from([1, 16, 64, 100, 128, 2048])


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def rebuild(matches: list[Match], base: bytes, new: bytes) -> bytes:
    expected = 0
    for _, at, size in matches:
        assert at == expected
        assert size > 0
        expected += size
    return b"".join(
        new[at : at + size] if where == LITERAL else base[where : where + size]
        for where, at, size in matches
    )


def literals(matches: list[Match]) -> int:
    return sum(size for where, _, size in matches if where == LITERAL)


def rdiff(tmp_path: Path, *words: str) -> None:
    subprocess.run(["rdiff", "-f", *words], cwd=tmp_path, check=True)


@settings(max_examples=60)
@given(contents, contents, block_sizes)
def test_round_trip(base: bytes, new: bytes, block_size: int) -> None:
    with Signature(make_signature(base, block_size=block_size)) as signature:
        for data in (new, base + new, new + base, base, b""):
            assert rebuild(signature.matches(data), base, data) == data
            assert apply_delta(base, signature.delta(data)) == data


@settings(max_examples=100)
@given(contents, contents, contents, block_sizes)
def test_fine_matches(base: bytes, old: bytes, new: bytes, block_size: int) -> None:
    for a, b in ((base, new), (base + old + base, base + new + base), (base, base), (old, b"")):
        matches = fine_matches(a, b, block_size=block_size)
        assert rebuild(matches, a, b) == b
    assert fine_matches(base, base, block_size=block_size) == ([(0, 0, len(base))] if base else [])


def test_fine_matches_are_exact_where_one_place_changed() -> None:
    base = noise(65536)
    inserted = base[:30000] + b"\0inserted\0" + base[30000:]
    assert literals(fine_matches(base, inserted, block_size=64)) == 10
    removed = memoryview(base[:30000] + base[30007:])
    assert fine_matches(base, removed, block_size=64) == [(0, 0, 30000), (30007, 30000, 35529)]


def test_fine_matches_find_many_changes_and_moves() -> None:
    base = noise(65536)
    new = bytearray(base)
    for at in range(1000, 60000, 7000):
        new[at : at + 20] = b"*" * 20
    assert literals(fine_matches(base, new, block_size=64)) == 9 * 20
    moved = base[40000:] + base[:40000]
    assert literals(fine_matches(base, moved, block_size=64)) == 0
    doubled = base + base
    assert literals(fine_matches(base, doubled, block_size=64)) == 0


def test_zeros_are_one_match() -> None:
    assert fine_matches(bytes(65536), bytes(65535) + b"1", block_size=64) == [
        (0, 0, 65535),
        (LITERAL, 65535, 1),
    ]


@pytest.mark.parametrize("block_size", [16, 64, 1024])
def test_partial_last_block_matches(block_size: int) -> None:
    base = noise(block_size * 5 + 7)
    with Signature(make_signature(base, block_size=block_size)) as signature:
        assert signature.matches(base) == [(0, 0, len(base))]
        assert signature.matches(b"head" + base) == [(LITERAL, 0, 4), (0, 4, len(base))]
        assert signature.matches(base[:3]) == [(LITERAL, 0, 3)]


def test_shorter_than_a_block() -> None:
    with Signature(make_signature(b"short", block_size=4096)) as signature:
        assert signature.matches(b"short") == [(0, 0, 5)]
        assert signature.matches(b"other") == [(LITERAL, 0, 5)]


def test_large_input_in_small_blocks() -> None:
    base = noise(3 << 20)
    new = base[: 1 << 20] + b"new" + base[1 << 20 :] + noise(1 << 18, 2)
    with Signature(make_signature(base, block_size=128)) as signature:
        matches = signature.matches(memoryview(new))
    assert rebuild(matches, base, new) == new
    assert literals(matches) <= 3 + 128 + (1 << 18)


@settings(max_examples=40)
@given(st.lists(st.binary(max_size=200), max_size=12), block_sizes, st.integers(16, 32))
def test_writer_in_pieces(pieces: list[bytes], block_size: int, strong_size: int) -> None:
    with SignatureWriter(block_size, strong_size) as writer:
        streamed = b"".join(writer.update(memoryview(piece)) for piece in pieces) + writer.finish()
    whole = make_signature(b"".join(pieces), block_size=block_size, strong_size=strong_size)
    assert streamed == whole
    assert len(whole) == 12 + (4 + strong_size) * -(-sum(map(len, pieces)) // block_size)
    assert whole[:12] == b"rs\x01\x47" + block_size.to_bytes(4, "big") + bytes(3) + bytes(
        (strong_size,)
    )


def test_writer_is_used_once() -> None:
    writer = SignatureWriter(64)
    writer.finish()
    writer.close()
    with pytest.raises(ValueError, match="before"):
        writer.finish()
    with pytest.raises(ValueError, match="before"):
        writer.update(b"")


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda b: memoryview(bytearray(b))])
def test_kinds_of_buffers(kind: type[bytes]) -> None:
    base, new = noise(5000), noise(5000)[:3000] + noise(100, 2)
    made = make_signature(kind(base), block_size=64)
    assert made == make_signature(base, block_size=64)
    with Signature(kind(made)) as signature:
        assert signature.delta(kind(new)) == signature.delta(new)
    assert fine_matches(kind(base), kind(new), block_size=64) == fine_matches(
        base, new, block_size=64
    )
    assert make_signature(kind(b""), block_size=64) == make_signature(b"", block_size=64)


def test_scattered_memory_is_refused() -> None:
    with pytest.raises(BufferError):
        make_signature(memoryview(bytes(100))[::2], block_size=16)


def test_closed_signature() -> None:
    signature = Signature(make_signature(b"abc", block_size=16))
    signature.close()
    signature.close()
    with pytest.raises(ValueError, match="closed"):
        signature.delta(b"")


def test_one_signature_in_several_threads() -> None:
    base = noise(1 << 18)
    with Signature(make_signature(base, block_size=64)) as signature:
        inputs = [base[i * 1000 :] + noise(500, i) for i in range(16)]
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(signature.delta, inputs))
    assert [apply_delta(base, delta) for delta in results] == inputs


@pytest.mark.parametrize("strong_size", [0, 15, 33])
def test_strong_size_out_of_range(strong_size: int) -> None:
    with pytest.raises(ValueError, match="strong sum"):
        make_signature(b"", block_size=64, strong_size=strong_size)


@pytest.mark.parametrize("block_size", [0, -1, 1 << 31])
def test_block_size_out_of_range(block_size: int) -> None:
    with pytest.raises(ValueError, match="block"):
        make_signature(b"", block_size=block_size)


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"rs\x01",
        b"rs\x01\x47\0\0\0\x40",
        b"rs\x02\x36\0\0\0\x40\0\0\0\x10",
        b"rs\x01\x47\0\0\0\0\0\0\0\x10",
        b"rs\x01\x47\0\0\0\x40\0\0\0\x21",
        b"rs\x01\x47\0\0\0\x40\0\0\0\x10" + bytes(19),
        b"rs\x01\x47\xff\xff\xff\xff\xff\xff\xff\xff",
    ],
)
def test_damaged_signature(damaged: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FormatDamaged, match="librsync"):
        Signature(damaged)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("block_size", [64, 1000, 2048])
def test_rdiff_takes_our_signature_and_delta(tmp_path: Path, block_size: int) -> None:
    base = noise(100_003)
    new = base[:20_000] + noise(300, 2) + base[20_100:90_000] + base[:5000]
    ours = make_signature(base, block_size=block_size)
    for name, data in (("base", base), ("new", new), ("sig", ours)):
        (tmp_path / name).write_bytes(data)
    rdiff(tmp_path, "delta", "sig", "new", "delta")
    theirs = (tmp_path / "delta").read_bytes()
    assert apply_delta(base, theirs) == new
    with Signature(ours) as signature:
        assert signature.delta(new) == theirs
    rdiff(tmp_path, "patch", "base", "delta", "back")
    assert (tmp_path / "back").read_bytes() == new


@pytest.mark.parametrize("options", [[], ["-S", "16"], ["-H", "md4"], ["-R", "rollsum"]])
def test_we_take_rdiff_signatures(tmp_path: Path, options: list[str]) -> None:
    base = noise(50_001)
    new = base[100:30_000] + b"new" + base[30_000:]
    (tmp_path / "base").write_bytes(base)
    rdiff(tmp_path, "-b", "512", *options, "signature", "base", "sig")
    theirs = (tmp_path / "sig").read_bytes()
    if options == ["-S", "16"]:
        assert theirs == make_signature(base, block_size=512)
    with Signature(theirs) as signature:
        (tmp_path / "delta").write_bytes(signature.delta(new))
    rdiff(tmp_path, "patch", "base", "delta", "new")
    assert (tmp_path / "new").read_bytes() == new


def test_library_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "librsync", None)
    with pytest.raises(LibraryMissing, match=r"librsync2.*python-librsync"):
        rsync._Librsync()


def test_nothing_is_loaded_at_import() -> None:
    code = (
        "import sys, ibtfs.format.rsync; "
        "assert not {'ctypes', 'librsync', 'subprocess'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("code", "kind"), [(102, MemoryError), (103, FormatDamaged), (105, FormatDamaged),
                       (108, FormatDamaged), (100, IbtfsError), (107, IbtfsError)],
)  # fmt: skip
def test_only_damage_is_told_as_damage(code: int, kind: type[Exception]) -> None:
    error = rsync._Librsync().failure(code)
    assert type(error) is kind
    assert str(error).startswith("librsync: ")


def test_what_librsync_holds_is_freed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    library, begun, freed = rsync._library(), list[int](), list[int]()
    sums: list[int] = []

    def noting(name: str, found: list[int], *, is_freed: bool = False) -> None:
        real = getattr(library, name)

        def noted(*arguments: Any) -> Any:
            result = real(*arguments)
            one = arguments[0] if is_freed else result
            found.append(getattr(one, "value", one))
            return result

        monkeypatch.setattr(library, name, noted)

    for name in ("sig_begin", "loadsig_begin", "delta_begin"):
        noting(name, begun)
    noting("job_free", freed, is_freed=True)
    noting("free_sumset", sums, is_freed=True)
    base, new = noise(5000), noise(3000, 2) + noise(5000)[1000:]
    made = make_signature(base, block_size=64)
    writer = SignatureWriter(64)
    writer.update(base)
    writer.close()
    writer.close()
    with Signature(made) as signature:
        signature.delta(new)
        signature.matches(new)
    signature.close()
    fine_matches(base, new, block_size=64)
    with pytest.raises(FormatDamaged):
        Signature(made[:-1])
    assert len(begun) == 2 + 3 + 3 + 1
    assert freed == begun
    assert all(freed)
    assert len(sums) in (2, 3)  # of the damaged one there may be some
    assert all(sums)


@pytest.mark.parametrize("block_size", [0, -5])
def test_fine_matches_are_of_blocks_of_some_bytes(block_size: int) -> None:
    with pytest.raises(ValueError, match=f"A block of {block_size} bytes is impossible"):
        fine_matches(b"a", b"b", block_size=block_size)


@pytest.mark.parametrize("size", [*range(1, 12), 40])
def test_ends_that_are_the_same_are_copies_if_they_are_worth_it(size: int) -> None:
    """A copy of fewer than eight bytes costs more than these, unless they are all."""
    same, one, other = b"=" * size, b"-" * 60, b"+" * 60
    copied = size >= 8
    begins = fine_matches(same + one, same + other, block_size=2048)
    assert begins == ([(0, 0, size), (LITERAL, size, 60)] if copied else [(LITERAL, 0, size + 60)])
    ends = fine_matches(one + same, other + same, block_size=2048)
    assert ends == ([(LITERAL, 0, 60), (60, 60, size)] if copied else [(LITERAL, 0, 60 + size)])
    assert fine_matches(same, same, block_size=2048) == [(0, 0, size)]
    assert fine_matches(same + one, same, block_size=2048) == [(0, 0, size)]


@pytest.mark.parametrize(("middle", "found"), [(400, False), (1200, False), (1201, True)])
def test_all_of_a_base_is_looked_at_only_for_much_that_is_new(middle: int, found: bool) -> None:
    """Else what lies between the ends that are the same is."""
    begin, end = noise(5000, 1), noise(5000, 2)
    base = begin + b"-" + noise(598, 3) + b"-" + end
    inside = begin[2000 : 2000 + middle - 20]
    new = begin + b"+" * 10 + inside + b"+" * 10 + end
    matches = fine_matches(base, new, block_size=64)
    assert rebuild(matches, base, new) == new
    assert literals(matches) == (20 if found else middle)

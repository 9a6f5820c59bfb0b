"""The delta format of rdiff: what is encoded is applied, by us and by rdiff; nonsense is not."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibtfs.errors import FormatDamaged
from ibtfs.format.rdelta import (
    LITERAL,
    MAGIC,
    Match,
    apply_delta,
    common_prefix,
    common_suffix,
    delta_pieces,
    encode_delta,
    parse_delta,
    patched,
    refine,
)

few_letters = st.lists(st.sampled_from([b"a", b"b", b"abcdefgh", b"\0" * 70]), max_size=40).map(
    b"".join
)


@st.composite
def edited(draw: st.DrawFn) -> tuple[bytes, bytes, list[Match]]:
    """A base, and a new content with the matches it was put together from."""
    base = draw(st.one_of(few_letters, st.binary(max_size=400)))
    matches: list[Match] = []
    new = b""
    for _ in range(draw(st.integers(0, 8))):
        start = draw(st.integers(0, len(base)))
        piece = base[start : start + draw(st.integers(0, 300))]
        if not piece or draw(st.booleans()):
            start, piece = LITERAL, draw(st.one_of(few_letters, st.binary(max_size=300)))
        if piece:
            matches.append((start, len(new), len(piece)))
            new += piece
    return base, new, matches


def rebuild(matches: list[Match], base: bytes, new: bytes) -> bytes:
    assert [offset for _, offset, _ in matches] == [
        sum(size for _, _, size in matches[:i]) for i in range(len(matches))
    ]
    assert all(size > 0 for _, _, size in matches)
    return b"".join(
        new[at : at + size] if where == LITERAL else base[where : where + size]
        for where, at, size in matches
    )


def literals(matches: list[Match]) -> int:
    return sum(size for where, _, size in matches if where == LITERAL)


def rdiff_patch(tmp_path: Path, base: bytes, delta: bytes) -> bytes:
    (tmp_path / "base").write_bytes(base)
    (tmp_path / "delta").write_bytes(delta)
    command = ["rdiff", "-f", "patch", "base", "delta", "new"]
    subprocess.run(command, cwd=tmp_path, check=True)
    return (tmp_path / "new").read_bytes()


@given(edited())
def test_what_is_encoded_is_applied(case: tuple[bytes, bytes, list[Match]]) -> None:
    base, new, matches = case
    delta = encode_delta(matches, new)
    assert apply_delta(base, delta) == new
    parsed = parse_delta(delta)
    assert rebuild(parsed, base, new) == new
    assert literals(parsed) == literals(matches)
    assert encode_delta(parsed, lambda at, size: new[at : at + size]) == encode_delta(parsed, new)
    assert parse_delta(memoryview(bytearray(delta))) == parsed


@given(edited())
def test_refined_matches_say_the_same_with_fewer_literals(
    case: tuple[bytes, bytes, list[Match]],
) -> None:
    base, new, matches = case
    refined = refine(matches, base, new)
    assert rebuild(refined, base, new) == new
    assert literals(refined) <= literals(matches)
    assert len(refined) <= len(matches)


def test_refining_grows_both_ways_and_joins() -> None:
    base = bytes(range(200))
    new = base[:50] + b"!" + base[50:]
    blocks = [(0, 0, 32), (LITERAL, 32, 33), (64, 65, 136)]
    assert refine(blocks, base, new) == [(0, 0, 50), (LITERAL, 50, 1), (50, 51, 150)]
    assert refine([(0, 0, 9), (LITERAL, 9, 3), (12, 12, 188)], base, base) == [(0, 0, 200)]
    zeros = bytes(1024)
    assert refine([(0, at, 64) for at in range(0, 1024, 64)], zeros, zeros) == [(0, 0, 1024)]


@given(st.binary(max_size=200), st.binary(max_size=200), st.binary(max_size=3000))
def test_common_ends(a: bytes, b: bytes, shared: bytes) -> None:
    prefix = common_prefix(shared + a, shared + b)
    assert prefix >= len(shared)
    assert (shared + a)[:prefix] == (shared + b)[:prefix]
    assert (shared + a)[prefix : prefix + 1] != (shared + b)[prefix : prefix + 1] or a == b
    assert common_suffix(a[::-1] + shared[::-1], b[::-1] + shared[::-1]) == prefix


def test_neighbours_are_joined() -> None:
    delta = encode_delta(
        [(0, 0, 5), (5, 5, 5), (LITERAL, 10, 2), (LITERAL, 12, 3), (0, 15, 1), (0, 16, 1)],
        bytes(17),
    )
    assert parse_delta(delta) == [(0, 0, 10), (LITERAL, 10, 5), (0, 15, 1), (0, 16, 1)]


@pytest.mark.parametrize("where", [0, 0xFF, 0x100, 0xFFFF, 0x10000, 0xFFFFFFFF, 1 << 32, 1 << 62])
@pytest.mark.parametrize("size", [1, 0xFF, 0x100, 0xFFFF, 0x10000, 0xFFFFFFFF, 1 << 32, 1 << 61])
def test_all_widths_of_copies(where: int, size: int) -> None:
    assert parse_delta(encode_delta([(where, 0, size)], b"")) == [(where, 0, size)]


@pytest.mark.parametrize("size", [1, 64, 65, 255, 256, 65535, 65536, (1 << 20) + 1, 3 << 20])
def test_all_widths_of_literals(size: int, tmp_path: Path) -> None:
    new = b"xyz" * (size // 3) + b"!" * (size % 3)
    delta = encode_delta([(LITERAL, 0, size)], new)
    assert parse_delta(delta) == [(LITERAL, 0, size)]
    assert apply_delta(b"", delta) == new
    assert rdiff_patch(tmp_path, b"", delta) == new


def test_wide_parameters_may_hold_small_numbers(tmp_path: Path) -> None:
    base = bytes(range(256))
    for width, code in enumerate("BHIQ"):
        copies = b"".join(
            bytes((69 + 4 * width + i,)) + struct.pack(">" + code + other, 7, 3)
            for i, other in enumerate("BHIQ")
        )
        literal = bytes((65 + width,)) + struct.pack(">" + code, 2) + b"zz"
        delta = MAGIC + copies + literal + b"\0"
        assert parse_delta(delta) == [(7, i * 3, 3) for i in range(4)] + [(LITERAL, 12, 2)]
        assert apply_delta(base, delta) == rdiff_patch(tmp_path, base, delta)


def test_rdiff_patches_with_our_delta(tmp_path: Path) -> None:
    base = bytes(range(256)) * 400
    matches = [(300, 0, 70000), (LITERAL, 70000, 100), (0, 70100, 1), (100000, 70101, 200)]
    new = rebuild(matches, base, bytes(70000) + b"n" * 30000)
    assert rdiff_patch(tmp_path, base, encode_delta(matches, new)) == new


@pytest.mark.parametrize(
    "delta",
    [
        b"",
        b"rs\x02",
        b"rs\x016\0",
        MAGIC,
        MAGIC + b"\0\0",
        MAGIC + b"\x02a",
        MAGIC + b"\x02ab",
        MAGIC + b"\x41",
        MAGIC + b"\x41\0\0",
        MAGIC + b"\x44\0\0\0\0\0\0\0",
        MAGIC + b"\x44" + b"\xff" * 8 + b"abc\0",
        MAGIC + b"\x45\0",
        MAGIC + b"\x45\0\0\0",
        MAGIC + b"\x54" + b"\xff" * 16 + b"\0",
        MAGIC + b"\x54\x7f" + b"\xff" * 7 + b"\0" * 7 + b"\x01\0",
        MAGIC + b"\x55\0",
        MAGIC + b"\xff\0",
    ],
)
def test_nonsense_is_refused(delta: bytes) -> None:
    with pytest.raises(FormatDamaged):
        parse_delta(delta)
    with pytest.raises(FormatDamaged):
        apply_delta(bytes(1000), delta)


@given(st.binary(max_size=60))
def test_any_bytes_parse_or_are_refused(tail: bytes) -> None:
    try:
        matches = parse_delta(MAGIC + tail)
    except FormatDamaged:
        return
    assert tail.endswith(b"\0")
    assert all(size > 0 for _, _, size in matches)


def test_copy_from_outside_the_base() -> None:
    delta = encode_delta([(5, 0, 6)], b"")
    assert apply_delta(bytes(11), delta) == bytes(6)
    with pytest.raises(FormatDamaged, match="offset 5"):
        apply_delta(bytes(10), delta)


@given(edited(), st.integers(1, 9))
def test_a_delta_in_pieces_is_applied_piece_by_piece(
    case: tuple[bytes, bytes, list[Match]], width: int
) -> None:
    base, new, matches = case
    delta = encode_delta(matches, new)
    parts = [delta[at : at + width] for at in range(0, len(delta), width)]
    made = patched(lambda at, size: base[at : at + size], len(base), [b"", *parts, b""])
    assert b"".join(made) == new


def test_a_long_copy_is_read_piece_by_piece() -> None:
    asked = []

    def base(offset: int, size: int) -> bytes:
        asked.append((offset, size))
        return bytes(size)

    made = patched(base, 1 << 40, [encode_delta([(3, 0, 1 << 30)], b"")])
    assert [len(next(made)) for _ in range(2)] == [1 << 20] * 2
    assert asked == [(3, 1 << 20), (3 + (1 << 20), 1 << 20)]


@pytest.mark.parametrize(
    "matches", [[(0, 1, 5)], [(0, 0, 5), (0, 4, 5)], [(0, 0, 0)], [(-2, 0, 5)], [(-1, 0, 9)]]
)
def test_impossible_matches_are_refused(matches: list[Match]) -> None:
    with pytest.raises(ValueError, match=r"contiguous|no offset|shorter"):
        encode_delta(matches, b"12345678")


@pytest.mark.parametrize("differs", [*range(12), 62, 63, 64, 65, 127, 128, 129, 191, 192, 193, 500])
def test_common_ends_are_exact(differs: int) -> None:
    for size in (differs + 1, differs + 2, differs + 63, differs + 64, differs + 500):
        for bit in (1, 128):
            a, b = bytearray(b"x" * size), bytearray(b"x" * size)
            b[differs] ^= bit
            assert common_prefix(bytes(a), bytes(b)) == differs
            assert common_prefix(bytes(b), bytes(a)) == differs
            assert common_suffix(bytes(a[::-1]), bytes(b[::-1])) == differs
            assert common_suffix(b"y" + bytes(a[::-1]), b"yz" + bytes(b[::-1])) == differs
            assert common_prefix(bytes(a) + b"y", bytes(b) + b"zy") == differs
        assert common_prefix(bytes(size), bytes(size)) == size
        assert common_suffix(bytes(size), bytes(size)) == size
        assert common_prefix(bytes(size), bytes(differs)) == differs
        assert common_suffix(bytes(size), bytes(differs)) == differs


def test_numbers_are_written_as_short_as_they_can_be() -> None:
    def delta(where: int, size: int) -> bytes:
        return encode_delta([(where, 0, size)], b"")[4:-1]

    assert delta(0, 1) == b"\x45\0\1"
    assert delta(255, 255) == b"\x45\xff\xff"
    assert delta(256, 1) == b"\x49\1\0\1"
    assert delta(1, 256) == b"\x46\1\1\0"
    assert delta(65_536, 65_536) == b"\x4f" + b"\0\1\0\0" * 2
    assert delta(1 << 32, 1) == b"\x51" + (1 << 32).to_bytes(8, "big") + b"\1"
    most = (1 << 63) - 1
    assert delta(0, most)[:2] == b"\x48\0"
    for where, size in ((most + 1, 1), (0, most + 1)):
        with pytest.raises(ValueError, match="no offset or length"):
            delta(where, size)
    assert encode_delta([(LITERAL, 0, 64)], bytes(64))[4:5] == b"\x40"
    assert encode_delta([(LITERAL, 0, 65)], bytes(65))[4:6] == b"\x41\x41"
    assert encode_delta([(LITERAL, 0, 300)], bytes(300))[4:7] == b"\x42\1\x2c"


@pytest.mark.parametrize(("tail", "at"), [(b"\x55", 4), (b"\x01a\xff", 6), (b"\x45\0\1\x60", 7)])
def test_an_unknown_command_is_told_with_its_place(tail: bytes, at: int) -> None:
    with pytest.raises(FormatDamaged, match=f"unknown command {tail[-1]} at offset {at}"):
        parse_delta(MAGIC + tail)


def test_copies_reach_to_the_last_offset() -> None:
    most = (1 << 63) - 1
    for where, size in ((most - 1, 1), (0, most), (1, most - 1)):
        tail = b"\x54" + struct.pack(">QQ", where, size) + b"\0"
        assert parse_delta(MAGIC + tail) == [(where, 0, size)]
    for where, size in ((most, 1), (1, most), (0, most + 1), (5, 0)):
        tail = b"\x54" + struct.pack(">QQ", where, size) + b"\0"
        with pytest.raises(FormatDamaged, match="impossible copy at offset 4"):
            parse_delta(MAGIC + tail)
        with pytest.raises(FormatDamaged):
            apply_delta(b"", MAGIC + tail)


def test_literals_are_asked_for_a_piece_at_a_time() -> None:
    asked = []

    def new(offset: int, size: int) -> bytes:
        asked.append((offset, size))
        return bytes(size)

    pieces = list(delta_pieces([(0, 0, 5), (LITERAL, 5, (2 << 20) + 1)], new))
    assert asked == [(5, 1 << 20), (5 + (1 << 20), 1 << 20), (5 + (2 << 20), 1)]
    assert max(map(len, pieces)) == 1 << 20
    with pytest.raises(ValueError, match="shorter than its matches say, at offset 5"):
        encode_delta([(0, 0, 5), (LITERAL, 5, 9)], lambda at, size: bytes(size - 1))


def test_what_refining_joins_and_leaves() -> None:
    base = b"abcdefghijkl"
    # literals that follow each other are one; a copy that goes on in the base is one with the next
    assert refine([(LITERAL, 0, 1), (LITERAL, 1, 2)], base, b"xyz") == [(LITERAL, 0, 3)]
    assert refine([(0, 0, 3), (3, 3, 3)], base, b"abcdef") == [(0, 0, 6)]
    assert refine([(0, 0, 3), (5, 3, 3)], base, b"abcfgh") == [(0, 0, 3), (5, 3, 3)]
    # a literal is taken over from either side, or whole
    assert refine([(0, 0, 2), (LITERAL, 2, 2)], base, b"abcX") == [(0, 0, 3), (LITERAL, 3, 1)]
    assert refine([(LITERAL, 0, 2), (4, 2, 2)], base, b"Xdef") == [(LITERAL, 0, 1), (3, 1, 3)]
    assert refine([(LITERAL, 0, 2), (2, 2, 2)], base, b"abcd") == [(0, 0, 4)]
    assert refine([(LITERAL, 0, 3), (1, 3, 2)], base, b"Xaabc"[:5]) == [
        (LITERAL, 0, 2),
        (0, 2, 3),
    ]  # the base begins there
    assert refine([(8, 0, 4), (LITERAL, 4, 2)], base, b"ijklmn") == [(8, 0, 4), (LITERAL, 4, 2)]
    assert refine([(0, 0, 2), (LITERAL, 2, 2), (6, 4, 2)], base, b"abXfgh") == [
        (0, 0, 2),
        (LITERAL, 2, 1),
        (5, 3, 3),
    ]

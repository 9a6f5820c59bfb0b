"""Frame tables and trailers: what they say is believed within the file and the limits only."""

from __future__ import annotations

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from ibtfs.errors import FormatDamaged, IbtfsError, UnsupportedFormat
from ibtfs.format.compression import Codec
from ibtfs.format.frames import (
    FRAME_LIMIT,
    HEAD_SIZE,
    SMALL,
    STATES,
    STREAMS,
    Address,
    decode_frame,
    object_key,
)
from ibtfs.format.keys import PlainFrames
from ibtfs.format.packing import pack
from ibtfs.format.tables import (
    _TRAILER,
    ADDRESS_LIMIT,
    MAGIC,
    TABLE,
    TRAILER_SIZE,
    StreamTable,
    Trailer,
    decode_table,
    decode_trailer,
    encode_end,
    encode_table,
    encode_trailer,
    find_end,
    read_trailer,
)

REPOSITORY = b"i" * 16
KEY = object_key(REPOSITORY, "archives/x/index")
FILE = 1 << 20


def made(*frames: tuple[int, int, int, int]) -> StreamTable:
    table = StreamTable()
    for frame in frames:
        table.add(*frame)
    return table


TABLES = {
    STATES: made((0, 3, 0, 40), (3, 2, 40, 50), (9, 1, 200, 60)),
    SMALL: made((5, FRAME_LIMIT, 90, 110)),
}
TABLES[SMALL].add(FRAME_LIMIT + 5, 9, 260, 30, runs=17, mark=ADDRESS_LIMIT - 1)


def test_a_table_comes_back_as_it_was() -> None:
    for generation in (1, 2, 1 << 40):
        raw = encode_table({**TABLES, 4: StreamTable()}, generation)
        assert decode_table(raw, 290, generation, "here") == TABLES
    assert decode_table(pack({"of a later version": 3, "generation": 1}), 290, 1, "here") == {}


@given(
    st.lists(
        st.tuples(*[st.integers(0, 99)] * 4, st.integers(0, FRAME_LIMIT), st.integers(0, 1 << 62)),
        min_size=1,
    )
)
def test_any_table_comes_back(rows: list[tuple[int, ...]]) -> None:
    table = StreamTable()
    for gap, count, hole, size, runs, mark in rows:
        last = (table.offsets[-1] + table.sizes[-1]) if table.offsets else 0
        table.add(table.end + gap, count + 1, last + hole, size + LEAST, runs=runs, mark=mark)
    raw = encode_table({SMALL: table}, 3)
    assert decode_table(raw, table.offsets[-1] + table.sizes[-1], 3, "here") == {SMALL: table}


def test_a_table_is_that_of_its_generation() -> None:
    raw = encode_table(TABLES, 2)
    for other in (0, 1, 3):
        with pytest.raises(FormatDamaged, match="here: is that of another generation"):
            decode_table(raw, 290, other, "here")
    for missing in ({}, {"generation": None}, {"generation": b"2"}, {"generation": [2]}):
        with pytest.raises(FormatDamaged, match="here: is that of another generation"):
            decode_table(pack(missing), 290, 2, "here")


def test_the_frame_of_a_position_is_found_and_none_in_a_gap() -> None:
    table = TABLES[STATES]
    found = [table.find(position) for position in range(-1, 11)]
    assert found == [-1, 0, 0, 0, 1, 1, -1, -1, -1, -1, 2, -1]
    assert table.end == 10
    assert StreamTable().find(0) == -1
    assert StreamTable().end == 0


def columns(
    gaps: list[int],
    counts: list[int],
    holes: list[int],
    sizes: list[int],
    runs: list[int] | None = None,
    marks: list[int] | None = None,
) -> bytes:
    """A table of one stream; *runs* and *marks* are zeros where they are not told."""
    zeros = [0] * len(gaps)
    rest = [zeros if runs is None else runs, zeros if marks is None else marks]
    return pack({STREAMS[STATES]: [gaps, counts, holes, sizes, *rest], "generation": 1})


LEAST = HEAD_SIZE


@pytest.mark.parametrize(
    "raw",
    [
        columns([0], [1], [0], [LEAST]),
        columns([0], [1], [FILE - LEAST], [LEAST]),
        columns([0], [FRAME_LIMIT], [0], [LEAST]),
        columns([ADDRESS_LIMIT - 2], [1], [0], [LEAST]),
        columns([0, 7], [1, 1], [0, -LEAST], [LEAST, LEAST]),
        columns([0], [1], [0], [LEAST], [FRAME_LIMIT], [ADDRESS_LIMIT - 1]),
    ],
)
def test_what_is_just_within_the_limits_is_taken(raw: bytes) -> None:
    assert len(decode_table(raw, FILE, 1, "here")[STATES].starts) > 0


@pytest.mark.parametrize(
    "raw",
    [
        columns([], [], [], []),
        columns([0, 0], [1], [0], [LEAST]),
        columns([0], [1, 1], [0], [LEAST]),
        columns([0], [1], [0, 0], [LEAST]),
        columns([0], [1], [0], [LEAST, LEAST]),
        columns([-1], [1], [0], [LEAST]),
        columns([0], [0], [0], [LEAST]),
        columns([0], [1], [0], [LEAST - 1]),
        columns([0], [1], [-1], [LEAST]),
        columns([0], [1], [FILE - LEAST + 1], [LEAST]),
        columns([0], [FRAME_LIMIT + 1], [0], [LEAST]),
        columns([ADDRESS_LIMIT - 1], [1], [0], [LEAST]),
        columns([0], [1], [0], [LEAST], [], [0]),
        columns([0], [1], [0], [LEAST], [0], [0, 0]),
        columns([0], [1], [0], [LEAST], [-1]),
        columns([0], [1], [0], [LEAST], [FRAME_LIMIT + 1]),
        columns([0], [1], [0], [LEAST], [0], [-1]),
        columns([0], [1], [0], [LEAST], [0], [ADDRESS_LIMIT]),
        pack({STREAMS[STATES]: [[0], [1], [0], [LEAST]], "generation": 1}),
        pack({STREAMS[STATES]: [[0], [1], [0], [LEAST], [0], [0], [0]], "generation": 1}),
        pack({STREAMS[STATES]: 5, "generation": 1}),
    ],
)
def test_what_is_beyond_the_limits_is_damage(raw: bytes) -> None:
    with pytest.raises(FormatDamaged, match="here"):
        decode_table(raw, FILE, 1, "here")


def test_a_frame_is_no_larger_than_one_may_be() -> None:
    huge = 1 << 40
    largest = FRAME_LIMIT + (1 << 16)
    assert decode_table(columns([0], [1], [0], [largest]), huge, 1, "here")
    with pytest.raises(FormatDamaged, match="here"):
        decode_table(columns([0], [1], [0], [largest + 1]), huge, 1, "here")


def test_the_end_of_a_file_leads_to_its_table() -> None:
    end = encode_end(PlainFrames(KEY), REPOSITORY, TABLES, 290, Codec(1), generation=7)
    size = 290 + len(end)
    trailer = decode_trailer(KEY, REPOSITORY, end[-TRAILER_SIZE:], size, "here")
    assert trailer == (290, len(end) - TRAILER_SIZE, 0)
    frame = decode_frame(KEY, Address(TABLE, 290, 1), end[: trailer.table_size], "here")
    assert decode_table(frame.raw, 290, 7, "here") == TABLES


class Enveloped(PlainFrames):
    """Frames of an object that has an envelope, and comes to a size of whole hundreds."""

    envelope = b"envelope"

    def padding(self, size: int) -> bytes:
        return bytes(-size % 100)


def test_the_envelope_lies_before_the_table_and_what_fills_the_file_before_that() -> None:
    end = encode_end(Enveloped(KEY), REPOSITORY, TABLES, 290, Codec(1), generation=7)
    size = 290 + len(end)
    assert size % 100 == 0
    trailer = decode_trailer(KEY, REPOSITORY, end[-TRAILER_SIZE:], size, "here")
    assert trailer.envelope_size == len(Enveloped.envelope)
    begin = trailer.table_offset - 290
    assert end[:begin] == bytes(begin - 8) + Enveloped.envelope
    address = Address(TABLE, trailer.table_offset, 1)
    frame = decode_frame(KEY, address, end[begin:][: trailer.table_size], "here")
    assert decode_table(frame.raw, 290, 7, "here") == TABLES


def trailer_of(**changed: int) -> bytes:
    """A trailer whose checksum is right, whatever it says."""
    told = {"version": 1, "flags": 0, "size": 50, "offset": 100, "envelope": 0, **changed}
    version, flags, size, offset, envelope = told.values()
    data = _TRAILER.pack(MAGIC, version, flags, size, offset, REPOSITORY, envelope, 0, 0)
    return data + blake3(data, key=KEY).digest()[:16]


def test_an_envelope_is_there_just_where_the_file_is_sealed() -> None:
    size = 150 + TRAILER_SIZE
    assert trailer_of() == encode_trailer(KEY, REPOSITORY, Trailer(100, 50))
    whole = trailer_of(flags=1, envelope=100)
    assert whole == encode_trailer(KEY, REPOSITORY, Trailer(100, 50, 100))
    assert decode_trailer(KEY, REPOSITORY, whole, size, "here") == (100, 50, 100)
    for wrong in ({"envelope": 9}, {"flags": 1}, {"flags": 1, "envelope": 101}):
        with pytest.raises(FormatDamaged, match="here: no envelope where it should be"):
            decode_trailer(KEY, REPOSITORY, trailer_of(**wrong), size, "here")
    for later in ({"version": 2}, {"version": 0}, {"flags": 2}, {"flags": 3, "envelope": 9}):
        with pytest.raises(UnsupportedFormat, match="here: format"):
            decode_trailer(KEY, REPOSITORY, trailer_of(**later), size, "here")


def test_any_byte_of_a_trailer_that_changed_is_noticed() -> None:
    data = encode_trailer(KEY, REPOSITORY, Trailer(100, 50))
    size = 150 + TRAILER_SIZE
    for place in range(TRAILER_SIZE):
        changed = bytearray(data)
        changed[place] ^= 1
        with pytest.raises(FormatDamaged, match="here"):
            read_trailer(KEY, REPOSITORY, bytes(changed), size, "here")
    for cut in (data[:-1], data + b"\0", b""):
        with pytest.raises(FormatDamaged, match="here: cut short"):
            read_trailer(KEY, REPOSITORY, cut, size, "here")
    with pytest.raises(FormatDamaged, match="here"):
        read_trailer(object_key(REPOSITORY, "archives/y/index"), REPOSITORY, data, size, "here")
    with pytest.raises(FormatDamaged, match="belongs to the repository"):
        read_trailer(KEY, b"j" * 16, data, size, "here")
    for wrong in (size - 1, size + 1):
        assert read_trailer(KEY, REPOSITORY, data, wrong, "here") == (100, 50, 0)
        with pytest.raises(FormatDamaged, match=f"here: {wrong} bytes where {size}"):
            decode_trailer(KEY, REPOSITORY, data, wrong, "here")


def test_the_end_is_found_with_bytes_behind_it() -> None:
    data = encode_trailer(KEY, REPOSITORY, Trailer(100, 50))
    size = 150 + TRAILER_SIZE
    for behind in (b"", b"x", bytes(300), data[:20], data):
        tail = b"before" + data + behind
        found = find_end(KEY, REPOSITORY, tail, size + len(behind), "here")
        assert found == ((100, 50, 0), size)
    other: type[IbtfsError]
    for tail, other in ((b"", FormatDamaged), (data[:-1] + b"\0", FormatDamaged)):
        with pytest.raises(other, match="here"):
            find_end(KEY, REPOSITORY, tail, size, "here")


def test_a_later_format_is_told_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    from ibtfs.format import tables

    with monkeypatch.context() as patch:
        patch.setattr(tables, "FORMAT_VERSION", tables.FORMAT_VERSION + 1)
        data = encode_trailer(KEY, REPOSITORY, Trailer(100, 50))
    with pytest.raises(UnsupportedFormat, match="here: format"):
        decode_trailer(KEY, REPOSITORY, data, 150 + TRAILER_SIZE, "here")

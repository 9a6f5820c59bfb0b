"""Frame tables and trailers: what they say is believed within the file and the limits only."""

from __future__ import annotations

import pytest

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
    ADDRESS_LIMIT,
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


def test_a_table_comes_back_as_it_was() -> None:
    assert decode_table(encode_table({**TABLES, 4: StreamTable()}), 260, "here") == TABLES
    assert decode_table(pack({"of a later version": 3}), 260, "here") == {}


def test_the_frame_of_a_position_is_found_and_none_in_a_gap() -> None:
    table = TABLES[STATES]
    found = [table.find(position) for position in range(-1, 11)]
    assert found == [-1, 0, 0, 0, 1, 1, -1, -1, -1, -1, 2, -1]
    assert table.end == 10
    assert StreamTable().find(0) == -1
    assert StreamTable().end == 0


def columns(gaps: list[int], counts: list[int], holes: list[int], sizes: list[int]) -> bytes:
    return pack({STREAMS[STATES]: [gaps, counts, holes, sizes]})


LEAST = HEAD_SIZE


@pytest.mark.parametrize(
    "raw",
    [
        columns([0], [1], [0], [LEAST]),
        columns([0], [1], [FILE - LEAST], [LEAST]),
        columns([0], [FRAME_LIMIT], [0], [LEAST]),
        columns([ADDRESS_LIMIT - 2], [1], [0], [LEAST]),
        columns([0, 7], [1, 1], [0, -LEAST], [LEAST, LEAST]),
    ],
)
def test_what_is_just_within_the_limits_is_taken(raw: bytes) -> None:
    assert len(decode_table(raw, FILE, "here")[STATES].starts) > 0


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
        pack({STREAMS[STATES]: [[0], [1], [0]]}),
        pack({STREAMS[STATES]: 5}),
    ],
)
def test_what_is_beyond_the_limits_is_damage(raw: bytes) -> None:
    with pytest.raises(FormatDamaged, match="here"):
        decode_table(raw, FILE, "here")


def test_a_frame_is_no_larger_than_one_may_be() -> None:
    huge = 1 << 40
    largest = FRAME_LIMIT + (1 << 16)
    assert decode_table(columns([0], [1], [0], [largest]), huge, "here")
    with pytest.raises(FormatDamaged, match="here"):
        decode_table(columns([0], [1], [0], [largest + 1]), huge, "here")


def test_the_end_of_a_file_leads_to_its_table() -> None:
    end = encode_end(PlainFrames(KEY), REPOSITORY, TABLES, 260, Codec(1))
    size = 260 + len(end)
    trailer = decode_trailer(KEY, REPOSITORY, end[-TRAILER_SIZE:], size, "here")
    assert trailer == (260, len(end) - TRAILER_SIZE)
    frame = decode_frame(KEY, Address(TABLE, 260, 1), end[: trailer.table_size], "here")
    assert decode_table(frame.raw, 260, "here") == TABLES


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
        assert read_trailer(KEY, REPOSITORY, data, wrong, "here") == (100, 50)
        with pytest.raises(FormatDamaged, match=f"here: {wrong} bytes where {size}"):
            decode_trailer(KEY, REPOSITORY, data, wrong, "here")


def test_the_end_is_found_with_bytes_behind_it() -> None:
    data = encode_trailer(KEY, REPOSITORY, Trailer(100, 50))
    size = 150 + TRAILER_SIZE
    for behind in (b"", b"x", bytes(300), data[:20], data):
        tail = b"before" + data + behind
        found = find_end(KEY, REPOSITORY, tail, size + len(behind), "here")
        assert found == ((100, 50), size)
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

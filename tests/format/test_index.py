"""Headers and content records of indexes: what is within the limits is taken, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ibtfs.errors import FormatDamaged, LimitExceeded
from ibtfs.format import index
from ibtfs.format.extents import CONTENT_LIMIT
from ibtfs.format.frames import DATA_STREAMS, SMALL, STATES
from ibtfs.format.index import (
    DEPTH_LIMIT,
    DONOR_LIMIT,
    LOW,
    NUMBERS_LIMIT,
    PART_LIMIT,
    SHELL_DIGEST,
    ContentRecord,
    IndexHeader,
    Reference,
    decode_record,
    encode_plain,
    encode_record,
    is_archive_id,
    is_plain_body,
    record_digest,
    shell_of,
)
from ibtfs.format.packing import pack, unpack_map

OWN, OTHER = "20261120T101112Z_host_0a.0", "20261120T101112Z_host_0b.0"
HEADER = IndexHeader((OWN, OTHER, ""), 3, 5, NUMBERS_LIMIT, True, False, {"small": 7})
DIGEST = b"d" * 32
# digest, size, stream, start, length, depth, base, donors, first map, maps, slabs
MAPPED: list[Any] = [DIGEST, 1000, SMALL, 5, 10, 1, 3, [(1 << 32) | 5], 0, 1, -1]


def mapped(**values: Any) -> bytes:
    names = ("digest", "size", "stream", "start", "length", "depth", "base", "donors", "first",
             "parts", "slabs")  # fmt: skip
    return pack([values.get(name, value) for name, value in zip(names, MAPPED)])


def test_records_come_back_as_they_were() -> None:
    assert IndexHeader.decode(HEADER.encode(), "here") == HEADER
    record = ContentRecord(
        DIGEST, 1000, SMALL, 5, 10, 1, Reference(OWN, 3), (Reference(OTHER, 5),), 0, 1, -1
    )
    body = encode_record(record, HEADER.archives.index)
    assert body == mapped()
    assert decode_record(body, HEADER, "here") == record
    assert record_digest(body) == DIGEST
    assert not is_plain_body(body)
    plain = encode_plain(DIGEST, 10, SMALL, 5)
    assert decode_record(plain, HEADER, "here") == ContentRecord(DIGEST, 10, SMALL, 5, 10)
    assert plain == encode_record(decode_record(plain, HEADER, "here"), HEADER.archives.index)
    assert is_plain_body(plain)
    assert record_digest(plain) == DIGEST
    assert record_digest(plain[:34]) is None
    assert record_digest(b"\x95\xc4\x21" + bytes(40)) is None


@pytest.mark.parametrize(
    "good",
    [
        {"depth": DEPTH_LIMIT}, {"donors": [5] * DONOR_LIMIT}, {"parts": PART_LIMIT},
        {"slabs": 0}, {"size": CONTENT_LIMIT}, {"base": None, "depth": 0},
        {"base": (1 << 32) | LOW}, {"start": 0, "length": 0},
        {"base": None, "depth": 0, "donors": [], "parts": 0, "length": 1000},
        {"digest": SHELL_DIGEST, "base": None, "depth": 0, "donors": [], "length": 1000},
    ],
)  # fmt: skip
def test_what_is_just_within_the_limits_is_taken(good: dict[str, Any]) -> None:
    assert decode_record(mapped(**good), HEADER, "here").start in (0, 5)


@pytest.mark.parametrize(
    "bad",
    [
        {"digest": DIGEST[:-1]}, {"digest": "d" * 32}, {"size": 0}, {"size": CONTENT_LIMIT + 1},
        {"size": True}, {"start": -1}, {"length": -1}, {"length": 1.0}, {"stream": STATES},
        {"stream": max(DATA_STREAMS) + 100}, {"depth": DEPTH_LIMIT + 1}, {"depth": -1},
        {"depth": 0}, {"base": None}, {"donors": [5] * (DONOR_LIMIT + 1)}, {"donors": 5},
        {"first": -1}, {"parts": PART_LIMIT + 1}, {"parts": -1}, {"slabs": -2}, {"slabs": None},
        {"parts": 0, "length": 1000}, {"parts": 0, "base": None, "depth": 0},
        {"base": -1}, {"base": 3 << 32}, {"base": 2 << 32}, {"base": "x"}, {"donors": [3 << 32]},
        {"digest": SHELL_DIGEST, "length": 1000},
        {"digest": SHELL_DIGEST, "base": None, "depth": 0, "length": 1000},
        {"digest": SHELL_DIGEST, "base": None, "depth": 0, "donors": []},
        {"digest": SHELL_DIGEST, "base": None, "depth": 0, "donors": [], "length": 1000,
         "slabs": 0},
    ],
)  # fmt: skip
def test_records_that_cannot_be_are_damage(bad: dict[str, Any]) -> None:
    with pytest.raises(FormatDamaged, match="here"):
        decode_record(mapped(**bad), HEADER, "here")


def test_records_cut_short_are_damage() -> None:
    for length in (0, 4, 6, 10):
        with pytest.raises(FormatDamaged, match="here"):
            decode_record(pack(MAPPED[:length]), HEADER, "here")
    with pytest.raises(FormatDamaged, match="not as long as its payload"):
        decode_record(pack([DIGEST, 11, SMALL, 5, 10]), HEADER, "here")


@pytest.mark.parametrize(
    "changed",
    [
        {"donors": (Reference(OWN, 1),) * (DONOR_LIMIT + 1)}, {"depth": DEPTH_LIMIT + 1},
        {"size": CONTENT_LIMIT + 1},
    ],
)  # fmt: skip
def test_what_is_beyond_the_limits_is_not_written(changed: dict[str, Any]) -> None:
    largest = ContentRecord(
        DIGEST, CONTENT_LIMIT, SMALL, 5, 10, DEPTH_LIMIT, Reference(OWN, 3),
        (Reference(OWN, 1),) * DONOR_LIMIT, 0, 1,
    )  # fmt: skip
    assert encode_record(largest, HEADER.archives.index)
    with pytest.raises(LimitExceeded):
        encode_record(largest._replace(**changed), HEADER.archives.index)


@pytest.mark.parametrize(
    "bad",
    [
        {"archives": []}, {"archives": [""]}, {"archives": [OWN, "x"]}, {"archives": OWN},
        {"archives": [OWN, 5]}, {"epoch": -1}, {"epoch": LOW + 1}, {"contents": "5"},
        {"contents": NUMBERS_LIMIT + 1}, {"states": NUMBERS_LIMIT + 1},
        {"states": None}, {"states": True}, {"data": 1}, {"sigs": None}, {"ends": 5},
        {"ends": {"small": -1}}, {"ends": {"small": CONTENT_LIMIT + 1}}, {"ends": {"small": "1"}},
    ],
)  # fmt: skip
def test_headers_that_cannot_be_are_damage(bad: dict[str, Any]) -> None:
    good = {"archives": [OWN, ""], "epoch": 0, "contents": NUMBERS_LIMIT, "states": 0, "data": True,
            "sigs": False, "ends": {"small": CONTENT_LIMIT, "maps": 0}}  # fmt: skip
    assert IndexHeader.decode(pack(good), "here").contents == NUMBERS_LIMIT
    with pytest.raises(FormatDamaged, match="here: not the header"):
        IndexHeader.decode(pack({**good, **bad}), "here")


def test_a_shell_has_the_payload_and_nothing_else() -> None:
    record = ContentRecord(DIGEST, 1000, SMALL, 5, 10, 1, Reference(OWN, 3), (), 0, 1, 4)
    shell = shell_of(record)
    assert shell == ContentRecord(SHELL_DIGEST, 10, SMALL, 5, 10)
    assert shell.is_shell
    assert shell.is_plain
    kept = shell._replace(map_parts=1)
    assert shell_of(kept) is kept
    assert not record.is_shell
    assert not record.is_plain


def test_ids_of_archives() -> None:
    assert is_archive_id(OWN)
    for other in ("", OWN[:-2], f"{OWN}\n", f"-{OWN}", f"../{OWN}", f"{OWN}1234567", b"x", None):
        assert not is_archive_id(other)


def test_a_record_refers_to_archives_by_their_ordinals() -> None:
    for record in (
        ContentRecord(DIGEST, 9, SMALL, 0, 0, 1, Reference(OTHER, LOW), (), 7, 2, 5),
        ContentRecord(
            DIGEST, 9, SMALL, 0, 0, 0, None, (Reference(OTHER, 1), Reference(OWN, 2)), 7, 2
        ),
        ContentRecord(DIGEST, 9, SMALL, 4, 9, 0, None, (), 0, 0, 0),
        ContentRecord(
            DIGEST, 9, SMALL, 4, 9, 64, Reference(OWN, 0), (Reference(OWN, 0),), 0, 64, 0
        ),
    ):
        body = encode_record(record, HEADER.archives.index)
        assert decode_record(body, HEADER, "here") == record
        assert not is_plain_body(body)
    with pytest.raises(FormatDamaged, match=r"here: .* that it said it does not need"):
        HEADER.reference(2 << 32, "here")
    for packed in (-1, 3 << 32, True, None, 1.0, b"1"):
        with pytest.raises(FormatDamaged, match=r"here: .* refers to no archive"):
            HEADER.reference(packed, "here")
    assert HEADER.reference((1 << 32) + 7, "here") == Reference(OTHER, 7)
    assert HEADER.reference(LOW, "here") == Reference(OWN, LOW)


def test_a_record_without_a_map_is_the_short_one() -> None:
    plain = ContentRecord(DIGEST, 10, SMALL, 5, 10)
    assert encode_record(plain, HEADER.archives.index) == pack((DIGEST, 10, SMALL, 5, 10))
    assert (plain.depth, plain.base, plain.donors, plain.slabs) == (0, None, (), -1)
    assert (plain.map_first, plain.map_parts) == (0, 0)
    assert len(decode_record(pack([*MAPPED, "later"]), HEADER, "here").donors) == 1


def test_digests_are_taken_from_where_they_stand() -> None:
    body = encode_plain(DIGEST, 10, SMALL, 5)
    assert record_digest(body[:35]) == DIGEST
    for other in (b"", body[:3], b"\x95\xc5" + body[2:], b"\x95" + body):
        assert record_digest(other) is None
    assert not is_plain_body(b"")


def test_a_header_has_one_archive_at_least_and_no_more_than_it_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alone = IndexHeader((OWN,), 0, 0, 0, False, False)
    assert IndexHeader.decode(alone.encode(), "here") == alone
    assert "ends" not in unpack_map(alone.encode(), "here")
    monkeypatch.setattr(index, "ARCHIVE_LIMIT", 4)
    most = IndexHeader((OWN, "", OTHER, ""), LOW, NUMBERS_LIMIT, NUMBERS_LIMIT, True, True)
    assert IndexHeader.decode(most.encode(), "here") == most
    with pytest.raises(FormatDamaged, match="here: not the header"):
        IndexHeader.decode(replace(most, archives=(*most.archives, "")).encode(), "here")

"""The decoders with values and bytes at random, and with good ones that are changed at random.

Nothing but an error of ours may come out, and soon.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ibtfs.errors import FormatDamaged, ObjectMissing, UnsupportedFormat
from ibtfs.format import (
    bundle,
    compression,
    entry,
    extents,
    frames,
    index,
    objects,
    packing,
    parity,
    point,
    tables,
)
from ibtfs.format.keys import PlainKeys
from ibtfs.store.trees.directory import decode_xattrs
from tests.support.readers.changing import changed

OURS = (FormatDamaged, UnsupportedFormat)


integers = st.one_of(
    st.integers(-3, 70), st.integers(-(1 << 63), (1 << 64) - 1),
    st.sampled_from([1 << 31, 1 << 32, 1 << 40, (1 << 62) - 1, 1 << 62, (1 << 63) - 1, 1 << 63]),
)  # fmt: skip
leaves = st.one_of(
    integers, st.none(), st.booleans(), st.floats(), st.binary(max_size=40), st.text(max_size=10),
    st.sampled_from([b"a", b"b/c", b"..", bytes(24), bytes(32), "20261120T101112Z_host_0a.0"]),
)  # fmt: skip
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=8),
        st.dictionaries(st.one_of(st.text(max_size=8), st.binary(max_size=8), integers), inner,
                        max_size=8),
    ),
    max_leaves=20,
)  # fmt: skip
ARCHIVE = "20261120T101112Z_host_0a.0"
MANIFEST = "points/20261120T101112Z_host_0a"
HEAD = index.IndexHeader((ARCHIVE, "20261120T101112Z_host_0b.0"), 0, 5, 5, True, True)
POINT_ID = "20261120T101112Z_host_0a"


REPOSITORY, KEY = b"i" * 16, frames.object_key(b"i" * 16, "archives/x/index")


def decode_table(data: bytes) -> object:
    decoded = tables.decode_table(data, 1 << 20, 1, "here")
    for table in decoded.values():
        for row in range(min(len(table.starts), 5)):  # what a reader does next
            address = frames.Address(1, table.starts[row], table.counts[row])
            with pytest.raises(FormatDamaged):
                frames.decode_frame(KEY, address, bytes(40), "here")
    return decoded


def decode_frame(data: bytes) -> object:
    """A frame whose checksum is right: somebody made it on purpose."""
    sealed = frames._SEALED.pack(1, 1, 0, 1 << 20, 0, 1 << 20)
    hasher = frames.blake3(sealed, key=KEY)
    hasher.update(data)
    head = frames._HEAD.pack(hasher.digest(16), 1, 1, 0, 1 << 20)
    return frames.decode_frame(KEY, frames.Address(1, 0, 1 << 20), head + data, "here")


def decode_point(data: bytes) -> object:
    keys = PlainKeys(REPOSITORY)
    stored = objects.encode_object(keys, MANIFEST, frames.MANIFEST, data, compression.Codec(1))
    return point.decode_point(stored, MANIFEST, "20261120T101112Z_host_0a", keys)


def decode_map(data: bytes) -> object:
    found = extents.decode_parts([data], 1000, 2, "here")
    assert found.size == 1000
    assert all(item.offset >= 0 and item.length > 0 for item in found.ranges())
    return found


def decode_bundle(data: bytes) -> object:
    key = frames.object_key(REPOSITORY, "bundles/x")
    address = frames.Address(frames.BUNDLE, 0, 1)
    framed = frames.encode_frame(key, address, data, compression.Codec(1))
    found = bundle.Ends(REPOSITORY, "bundles/x", "here").directory(framed)
    places = [place for n in range(len(found.archives)) for _, place in found.members(n)]
    assert places == sorted(places)
    assert found.end > places[-1]
    return found


def decode_parity(data: bytes) -> object:
    """A head whose checksum is right: somebody made it on purpose."""
    head = parity._HEAD.pack(parity.MAGIC, len(data)) + data
    found = parity.decode_head(head + parity.blake3(head).digest(16), "here")
    assert found.blocks <= found.shape.columns * found.shape.rows
    assert found.shape.columns + found.shape.checks <= 256
    return found


DECODERS: dict[str, Callable[[bytes], object]] = {
    "state": lambda data: entry.decode_state(data, "here"),
    "page": lambda data: entry.decode_page(data, "here"),
    "record": lambda data: index.decode_record(data, HEAD, "here"),
    "header": lambda data: index.IndexHeader.decode(data, "here"),
    "map": decode_map,
    "table": decode_table,
    "point": decode_point,
    "bundle": decode_bundle,
    "parity": decode_parity,
    "bodies": lambda data: packing.unpack_bodies(data, 3, "here"),
    "xattrs": lambda data: decode_xattrs(data, "here"),
    "frame": decode_frame,
    "runs": lambda data: frames.decode_runs(data, 1000, "here"),
}


def good_values() -> dict[str, Any]:
    """A valid value for each decoder of msgpack."""
    stamp = (b"a", 0o100644, 0, 0, 5, 1, 1, 1, 1)
    links = [(b"b", 0o40755, 0, 0, 4096, 1, 1, 2, 2), (b"c", 0o120777, 0, 0, 1, 1, 1, 3, 1)]
    refs = [1 << 32, [3, bytes(entry.HASH_SIZE)], b"t"]
    page = [0, [stamp, *links], refs, {0: {"x": {b"user.a": b""}, "g": 1, "b": 8, "f": 0}}]
    listed = [1, [[5, bytes(entry.HASH_SIZE), 3, b"m"], [6, bytes(entry.HASH_SIZE), 3, b"z"]]]
    manifest = point.Point(
        id=POINT_ID, sequence=1, epoch=0, time_ns=1, utc_offset=0,
        source=point.Source("host", b"/x"), display="x", digest=bytes(32),
        root=(b"", 0o40755, 0, 0, 4096, 1, 1, 1, 2), state=index.Reference(ARCHIVE, 3),
        users={0: "root"}, statistics={"files": 3},
    )  # fmt: skip
    keys = PlainKeys(REPOSITORY)
    data = point.encode_point(manifest, MANIFEST, keys, compression.Codec(1))
    raw = objects.decode_object(keys, MANIFEST, frames.MANIFEST, data, "here")
    return {
        "state": page, "page": page, "pages": listed,
        "record": [b"d" * 32, 1000, 3, 5, 10, 1, 3, [4, 5], 0, 1, -1],
        "header": {"archives": [ARCHIVE], "epoch": 0, "contents": 1, "states": 1, "data": True,
                   "sigs": False},
        "map": [0, [400, 600], [3, 2], [7, 0]],
        "table": {"small": [[0, 0], [10, 10], [0, 0], [50, 50], [0, 30], [0, 0]],
                  "new stream": [1], "generation": 1},
        "point": msgpack.unpackb(raw, strict_map_key=False), "bodies": [b"a", None, b"b"],
        "xattrs": {b"user.a": b"b"},
        "bundle": {"archives": [ARCHIVE, ARCHIVE[:-1] + "1"], "made": [0, 1700000000],
                   "files": [[0, 0, 1], [0, 2, 2], [1, 2, 1], [500, 600, 700]]},
        "parity": {"repository": b"i" * 16, "name": "x", "share": 10, "digests": bytes(24),
                   "files": [["a", 1000, bytes(32)], ["b", 512, bytes(32)]],
                   "shape": [512, 3, 1, 2]},
    }  # fmt: skip


def decodes(name: str, data: bytes) -> bool:
    """Whether it decodes; anything but an error of ours is raised."""
    try:
        DECODERS[name](data)
    except (*OURS, ObjectMissing) as error:
        named = "here" in str(error) or "points/" in str(error)
        if not named:
            raise AssertionError(f"{error!r} does not say where") from error
        return False
    return True


fuzz = settings(max_examples=20, deadline=None, derandomize=True, database=None,
                suppress_health_check=[HealthCheck.too_slow])  # fmt: skip


@pytest.mark.parametrize("name", sorted(DECODERS))
@fuzz
@given(value=values)
@example(value=[0, [1000], [3], [(1 << 64) - 1]])
@example(value=[[[[[[[[[[]]]]]]]]]])
def test_decoders_with_any_value(name: str, value: object) -> None:
    decodes(name, msgpack.packb(value))


@pytest.mark.parametrize("name", sorted(DECODERS))
@fuzz
@given(data=st.binary(max_size=200))
@example(data=b"\x91" * 100_000)
@example(data=b"\x81" * 100_000)
@example(data=b"\xdd\xff\xff\xff\xff")
@example(data=b"\xdf\xff\xff\xff\xff")
@example(data=b"\xc6\xff\xff\xff\xff")
@example(data=b"\xd6\xff\x00\x00\x00\x00")
@example(data=b"\xc7\x10\x01" + b"\xff" * 16)
def test_decoders_with_any_bytes(name: str, data: bytes) -> None:
    decodes(name, data)


@pytest.mark.parametrize("name", sorted(good_values()))
def test_decoders_with_good_values(name: str) -> None:
    decoder = "state" if name == "pages" else name
    assert decodes(decoder, msgpack.packb(good_values()[name]))


@pytest.mark.parametrize("name", sorted(good_values()))
@fuzz
@given(seed=st.integers(0, 1 << 32), value=values)
def test_decoders_with_good_values_changed(name: str, seed: int, value: object) -> None:
    whole = changed(good_values()[name], random.Random(seed), lambda _: value)
    decodes("state" if name == "pages" else name, msgpack.packb(whole))

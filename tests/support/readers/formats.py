"""The readers of ``ibtfs.format``: bytes to values."""

from __future__ import annotations

import json
import os
import struct
from datetime import datetime, timezone
from typing import Any

from blake3 import blake3

from ibtfs.errors import FormatDamaged, IbtfsError
from ibtfs.format import (
    acl,
    bundle,
    config,
    entry,
    extents,
    frames,
    index,
    moment,
    objects,
    packing,
    parity,
    point,
    rdelta,
    tables,
)
from ibtfs.format.keys import PlainKeys
from ibtfs.format.patterns import Patterns, check_lines
from ibtfs.format.rsync import Signature
from ibtfs.store.contents.slabs import SLAB, SLAB_DIGEST, head_digest, load_slabs, slab_count
from ibtfs.store.naming import displayed_names
from ibtfs.store.removal.marking import ArchiveMarks, Marking
from ibtfs.store.trees.directory import decode_xattrs
from tests.support.plain import UNKEYED
from tests.support.readers.base import (
    ARCHIVE,
    CODEC,
    OTHER_ARCHIVE,
    POINT_ID,
    REPOSITORY,
    WHERE,
    Reader,
    Shape,
    value_of,
)

ARCHIVES = (ARCHIVE, OTHER_ARCHIVE, *(f"20261120T101112Z_host_0c.{n}" for n in range(6)))
HEADER = index.IndexHeader(ARCHIVES, 0, 5, 5, has_data=True, has_sigs=True)
BASE = bytes(range(256)) * 3
PATHS = (b"a", b"a/b.c", b"src/" + b"ab" * 60, b"x" * 120 + b"/.git", b"\xff\n/[a]", b"**/*")
NOW = datetime(2026, 11, 20, 10, 11, 12, tzinfo=timezone.utc)
TIMES_NS = (0, -(10**18), 1_795_169_702 * 10**9, (1 << 63) - 1)


def read_config(data: bytes) -> None:
    """The configuration, its checksum made right where it is text of a map."""
    try:
        values = json.loads(data)
        values["check"] = config.config_check(values)
        data = json.dumps(values).encode()
    except (ValueError, TypeError, AttributeError, RecursionError):
        pass  # no map
    found = config.decode_config(data, WHERE)
    assert config.decode_config(config.encode_config(found), WHERE) == found


def read_point(data: bytes) -> None:
    """A manifest in its frame; as it is shown, too."""
    value = value_of(data)
    point_id = value.get("id") if isinstance(value, dict) else ""
    if not isinstance(point_id, str) or not point.POINT_ID.match(point_id):
        point_id = POINT_ID
    name = f"points/{point_id}"
    keys = PlainKeys(REPOSITORY)
    stored = objects.encode_object(keys, name, frames.MANIFEST, data, CODEC)
    found = point.decode_point(stored, name, point_id, keys)
    again = point.encode_point(found, name, keys, CODEC)
    assert point.decode_point(again, name, point_id, keys) == found
    row = packing.unpack(packing.pack(point.row_of_point(found)), WHERE)
    assert point.point_of_row(row) == found
    displayed_names([found], timezone.utc)
    acl.named_numbers(found.root_extras.get(entry.XATTRS, {}))


_FRAME = struct.Struct("<BBHI")  # stream, codec, flags, raw size


def read_frame(data: bytes) -> None:
    """A frame of 1,000 addresses whose checksum is right: head and stored bytes."""
    if len(data) < _FRAME.size:
        raise IbtfsError("no head")
    stream, codec, flags, size = _FRAME.unpack_from(data)
    key, address = frames.object_key(REPOSITORY, "x"), frames.Address(stream, 0, 1000)
    sealed = frames._SEALED.pack(stream, codec, flags, size, 0, 1000)
    hasher = blake3(sealed, key=key)
    hasher.update(data[_FRAME.size :])
    frame = frames.decode_frame(key, address, hasher.digest(16) + data, WHERE)
    assert len(frame.raw) == size
    if frame.flags:
        read_runs(frame.raw)


def read_runs(data: bytes) -> None:
    """What is left of a frame of 1,000 bytes."""
    runs = frames.Runs(data, 1000, WHERE)
    pieces = [(start, bytes(runs.cut(start, start + size) or b"")) for start, size, _ in runs.runs]
    assert all(len(piece) == size for (_, piece), (_, size, _) in zip(pieces, runs.runs))
    whole = frames.pack_runs(pieces)
    assert whole == data


def read_table(data: bytes) -> None:
    """The table of a file of a megabyte."""
    found = tables.decode_table(data, 1 << 20, 1, WHERE)
    for table in found.values():
        assert table.find(table.end - 1) == len(table.starts) - 1
        assert all(table.find(start) == row for row, start in enumerate(table.starts))
    assert tables.decode_table(tables.encode_table(found, 1), 1 << 20, 1, WHERE) == found


_TRAILER = struct.Struct("<HHIQH")  # version, flags, table size, its offset, envelope size


def read_end(data: bytes) -> None:
    """The end of a file: a trailer whose checksum is right, and what something put behind it."""
    if len(data) < _TRAILER.size:
        raise IbtfsError("no trailer")
    key = frames.object_key(REPOSITORY, "x")
    body = tables.MAGIC + data[:16] + REPOSITORY + data[16 : _TRAILER.size] + bytes(6)
    tail = body + blake3(body, key=key).digest(16) + data[_TRAILER.size :]
    _, _, size, offset, _ = _TRAILER.unpack_from(data)
    whole = offset + size + len(tail)
    end = tables.find_end(key, REPOSITORY, tail, whole, WHERE)
    assert end.trailer.end + tables.TRAILER_SIZE == end.size <= whole
    assert tables.encode_trailer(key, REPOSITORY, end.trailer) in tail


def read_header(data: bytes) -> None:
    """The header of an index."""
    found = index.IndexHeader.decode(data, WHERE)
    assert index.IndexHeader.decode(found.encode(), WHERE) == found


def read_record(data: bytes) -> None:
    """The record of a content."""
    found = index.decode_record(data, HEADER, WHERE)
    again = index.encode_record(found, HEADER.archives.index)
    assert index.encode_record(
        index.decode_record(again, HEADER, WHERE), HEADER.archives.index
    ) == (again)
    index.shell_of(found)
    index.is_plain_body(data)
    index.record_digest(data)


def read_state(data: bytes) -> None:
    """A directory state, as it is checked, and as what marks and counts takes it: not checked."""
    marks = ArchiveMarks(None, HEADER)  # type: ignore[arg-type]
    other = ArchiveMarks(None, HEADER)  # type: ignore[arg-type]
    other.table = [other]
    marks.table = [marks, *[other] * 7]
    marking = Marking(None)  # type: ignore[arg-type]
    marking._expand(marks, 0, data)
    found = entry.decode_state(data, WHERE)
    if not isinstance(found, entry.Page):
        assert entry.decode_state(entry.encode_pages(found), WHERE) == found
        return
    again = entry.encode_page(found)
    assert entry.decode_page(again, WHERE) == found
    assert entry.is_page_of(again, found.stamps)
    entry.page_digest(found, found.refs, {}, UNKEYED)
    for extra in found.extras.values():
        acl.named_numbers(extra.get(entry.XATTRS, {}))


def read_map(data: bytes) -> None:
    """An extent map in one part or several, of a content that is as long as it says."""
    bodies = value_of(data)
    if not isinstance(bodies, tuple) or not all(isinstance(body, bytes) for body in bodies):
        raise IbtfsError("no parts")
    size = 0
    for body in bodies:
        value = packing.unpack_tuple(body, WHERE, 4)
        size += sum(packing.expect_ints(value[1], WHERE))
    found = extents.decode_parts(bodies, size, 2, WHERE)
    ranges = list(found.ranges())
    assert sum(item.length for item in ranges) == found.size == size
    assert all(item.offset >= 0 and item.length > 0 for item in ranges)
    again = extents.decode_parts(extents.encode_parts(found), size, 2, WHERE)
    assert list(again.ranges()) == ranges


def read_bundle(data: bytes) -> None:
    """The directory of a bundle, in its frame."""
    name = "bundles/x"
    key, address = frames.object_key(REPOSITORY, name), frames.Address(frames.BUNDLE, 0, 1)
    framed = frames.encode_frame(key, address, data, CODEC)
    found = bundle.Ends(REPOSITORY, name, WHERE).directory(framed)
    places = [place for n in range(len(found.archives)) for _, place in found.members(n)]
    assert places == sorted(places)
    assert found.end > places[-1]
    label, _ = bundle.encode_ends(REPOSITORY, name, found, CODEC)
    again = bundle.Ends(REPOSITORY, name, WHERE).directory(label[tables.TRAILER_SIZE :])
    assert (again.archives, again.made, again.all()) == (found.archives, found.made, found.all())


def read_parity(data: bytes) -> None:
    """The head of a sidecar, with its checksum."""
    head = parity._HEAD.pack(parity.MAGIC, len(data)) + data
    whole = head + blake3(head).digest(parity._CHECKSUM)
    assert parity.head_size(whole, WHERE) == len(whole)
    found = parity.decode_head(whole, WHERE)
    assert parity.decode_head(found.encode(), WHERE) == found


class _Vault:
    """An archive, and the repository that it is in, whose vault has one body for every record."""

    id = ARCHIVE

    def __init__(self, body: bytes) -> None:
        self._body = body

    def body(self, stream: int, number: int) -> bytes:
        return self._body

    def content(self, number: int) -> index.ContentRecord:
        """The base: it lists all of its slabs."""
        return index.ContentRecord(bytes(32), 3 * SLAB, 1, 0, 0, slabs=1)

    def archive(self, archive_id: str) -> _Vault:
        digests = bytes(range(3 * SLAB_DIGEST))
        return _Vault(packing.pack((None, digests))) if archive_id == OTHER_ARCHIVE else self


def read_slabs(data: bytes) -> None:
    """The digests of slabs of a content, upon those of a base."""
    base = index.Reference(OTHER_ARCHIVE, 0)
    vault: Any = _Vault(data)
    failed = 0
    sizes = (1, 4 * SLAB - 1, 6 * SLAB)
    for size in sizes:
        record = index.ContentRecord(bytes(32), size, 1, 0, 0, depth=1, base=base, slabs=0)
        head_digest(vault, record)
        try:
            found = load_slabs(vault, record, ARCHIVE)
        except FormatDamaged:
            failed += 1
            continue
        assert len(found) == slab_count(size)
        assert len(found.data) == len(found) * SLAB_DIGEST
    if failed == len(sizes):
        raise FormatDamaged("of no such content")


def read_value(data: bytes) -> None:
    """Any value: what packs again is the same value."""
    found = packing.unpack(data, WHERE)
    try:
        again = packing.pack(found)
    except (TypeError, OverflowError, ValueError):
        return  # times of msgpack's own, which no reader takes
    assert packing.pack(packing.unpack(again, WHERE)) == again


def read_bodies(data: bytes) -> None:
    """Three records in a frame."""
    found = packing.unpack_bodies(data, 3, WHERE)
    assert packing.unpack_bodies(packing.pack_bodies(list(found)), 3, WHERE) == found


def read_xattrs(data: bytes) -> None:
    """Extended attributes that are a content, and the ACLs among them."""
    found = decode_xattrs(data, WHERE)
    assert decode_xattrs(packing.pack(dict(found)), WHERE) == found
    acl.named_numbers(found)


def read_acl(data: bytes) -> None:
    """An ACL, and the same with other numbers."""
    users, groups = acl.named_numbers({acl.ACCESS_ACL: data})
    assert acl.renumbered(data, {}, {}) == data
    changed = acl.renumbered(data, dict.fromkeys(users, 5), dict.fromkeys(groups, 6))
    assert len(changed) == len(data)


def read_delta(data: bytes) -> None:
    """A delta of rdiff's: all that reads it agrees."""
    matches = rdelta.parse_delta(data)
    pieces = (data[at : at + 7] for at in range(0, len(data), 7))
    if any(place + size > len(BASE) for place, _, size in matches if place != rdelta.LITERAL):
        try:
            rdelta.apply_delta(BASE, data)
        except FormatDamaged:
            return
        raise AssertionError("it copied from beyond the base")
    if sum(size for _, _, size in matches) > 1 << 20:
        return  # 256 bytes of the base in three of the delta
    new = rdelta.apply_delta(BASE, data)
    assert new == b"".join(rdelta.patched(lambda at, size: BASE[at : at + size], len(BASE), pieces))
    again = rdelta.encode_delta(matches, new)
    assert rdelta.parse_delta(again) == matches
    assert rdelta.apply_delta(BASE, again) == new


def read_signature(data: bytes) -> None:
    """A signature of rdiff's, by librsync, and a delta made with it."""
    with Signature(data) as loaded:
        assert sum(size for _, _, size in loaded.matches(BASE)) == len(BASE)


def read_patterns(data: bytes) -> None:
    """A file of patterns."""
    lines = data.splitlines(keepends=True)
    check_lines(lines, WHERE)
    found = Patterns.from_lines(lines)
    for path in PATHS:
        assert isinstance(found.match(path, is_dir=False), bool)
        found.match(path, is_dir=True)


def read_moment(data: bytes) -> None:
    """The words of a moment."""
    words = os.fsdecode(data)
    moment.is_one_of_a_second(words)
    assert isinstance(moment.parse_moment(words, NOW), int)
    assert moment.is_moment(words)


def read_template(data: bytes) -> None:
    """A template that makes names of points."""
    template = os.fsdecode(data)
    moment.check_template(template)
    for time_ns in TIMES_NS:
        assert 0 < len(moment.formatted_name(time_ns, timezone.utc, template).encode()) <= 200


FORMATS: dict[str, Reader] = {
    "acl": Reader(read_acl, Shape.BYTES),
    "bodies": Reader(read_bodies),
    "bundle-directory": Reader(read_bundle),
    "configuration": Reader(read_config, Shape.JSON),
    "delta": Reader(read_delta, Shape.BYTES),
    "end-of-file": Reader(read_end, Shape.BYTES),
    "extent-map": Reader(read_map),
    "frame": Reader(read_frame, Shape.BYTES),
    "frame-table": Reader(read_table),
    "index-header": Reader(read_header),
    "manifest": Reader(read_point),
    "moment": Reader(read_moment, Shape.TEXT),
    "name-template": Reader(read_template, Shape.TEXT),
    "parity-head": Reader(read_parity),
    "patterns": Reader(read_patterns, Shape.TEXT),
    "record": Reader(read_record),
    "runs": Reader(read_runs, Shape.BYTES),
    "signature": Reader(read_signature, Shape.BYTES),
    "slabs": Reader(read_slabs),
    "state": Reader(read_state),
    "value": Reader(read_value),
    "xattrs": Reader(read_xattrs),
}

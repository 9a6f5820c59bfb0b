"""FORMAT.rst says what the code does: its tables, numbers, examples, and a reader made from it."""

from __future__ import annotations

import json
import os
import random
import re
import stat
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from blake3 import blake3

from ibtfs.actions.backup import entry as store_file
from ibtfs.actions.backup import small as store_small
from ibtfs.errors import FormatDamaged, UnsupportedFormat
from ibtfs.format import (
    bundle,
    compression,
    config,
    digests,
    entry,
    erasure,
    extents,
    frames,
    index,
    objects,
    parity,
    point,
    point_list,
    tables,
)
from ibtfs.format.bundle import Member
from ibtfs.format.compression import Codec
from ibtfs.format.entry import Page, PageEntry
from ibtfs.format.extents import ExtentMap, Range
from ibtfs.format.frames import Address
from ibtfs.format.index import ContentRecord, IndexHeader, Reference
from ibtfs.format.keys import PlainFrames, PlainKeys
from ibtfs.format.packing import pack, unpack, unpack_map
from ibtfs.format.tables import StreamTable
from ibtfs.sealing import ring
from ibtfs.store import damage_notes, layout, lock, points
from ibtfs.store.archives import writer as archive_writer
from ibtfs.store.archives.file import FrameFileReader
from ibtfs.store.archives.reader import ArchiveReader
from ibtfs.store.cache import ByteCache
from ibtfs.store.contents import fold
from ibtfs.store.contents import reader as content
from ibtfs.store.contents import slabs as vault
from ibtfs.store.removal import bundling
from ibtfs.store.repository import Repository
from ibtfs.store.storage.local import LocalStorage
from ibtfs.store.trees import directory as states
from ibtfs.store.trees import totals, trail
from ibtfs.store.writing import flatten
from ibtfs.store.writing import run as run_writer
from tests.support import independent_reader, sealing
from tests.support.documents import list_tables
from tests.support.fixtures import DATA
from tests.support.independent_reader import IndependentReader
from tests.support.plain import UNKEYED, slab_digest

TEXT = (Path(frames.__file__).parent / "FORMAT.rst").read_text()
FIXTURE = DATA / f"repo-v{frames.FORMAT_VERSION}"
STRUCT_CODES = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q"}
TYPES_OF_KEYS = {
    "int": int, "text": str, "bytes": bytes, "bool": bool, "array": tuple, "map": dict,
}  # fmt: skip


# Reading the document


TABLES = list_tables(TEXT)


def _column(title: str, column: str) -> list[str]:
    return [row[column] for row in TABLES[title]]


def _numbers(title: str, name: str, number: str) -> dict[str, int]:
    return {row[name]: int(row[number]) for row in TABLES[title]}


def _hex(name: str) -> bytes:
    found = re.search(rf":name: {name}\n\n((?:   .*\n)+)", TEXT)
    assert found is not None
    return bytes.fromhex(found[1])


def _literal_after(words: str) -> str:
    """The indented block behind the paragraph that ends with *words*."""
    found = re.search(re.escape(words) + r"\n\n::\n\n((?:    .*\n)+)", TEXT)
    assert found is not None
    return "".join(line[4:] + "\n" for line in found[1].splitlines())


def _structure(title: str) -> str:
    """The rows of a byte table as a struct format; offsets and sizes are checked."""
    made, offset = "<", 0
    for row in TABLES[title]:
        size = re.fullmatch(r"bytes\[(\d+)\]", row["Type"])
        code = f"{size[1]}s" if size else STRUCT_CODES[row["Type"]]
        assert int(row["Offset"]) == offset
        assert int(row["Size"]) == struct.calcsize("<" + code)
        offset += int(row["Size"])
        made += code
    return made


# Tables


def test_names_the_version() -> None:
    assert f"\nFormat version {frames.FORMAT_VERSION}.\n" in TEXT
    assert re.findall(r"^Format (\d+)$", TEXT, re.MULTILINE) == [
        str(n) for n in range(1, frames.FORMAT_VERSION + 1)
    ]


def test_lists_what_lies_in_a_real_repository() -> None:
    listing = _literal_after("A repository, as it lies on a disk\n" + 34 * "=")
    path: list[str] = []
    seen = 0
    for line in listing.splitlines():
        name, *size = line.split()
        path[(len(line) - len(line.lstrip())) // 2 :] = [name.rstrip("/")]
        if size:
            assert FIXTURE.joinpath(*path).stat().st_size == int(size[0]), path
            seen += 1
    assert seen > 10


def test_byte_tables_are_the_structures() -> None:
    assert _structure("Frame head") == frames._HEAD.format
    assert frames._HEAD.size == frames.HEAD_SIZE == 24
    assert _structure("Sealed data") == frames._SEALED.format
    assert _structure("Trailer") == tables._TRAILER.format + "16s"
    assert tables.TRAILER_SIZE == 64
    assert tables.MAGIC.hex(" ") in _column("Trailer", "Field")[0]
    assert _structure("Head of a small object") == objects._HEAD.format + "4s"
    assert objects.HEAD_SIZE == 24
    assert objects.MAGIC.hex(" ") in _column("Head of a small object", "Field")[0]
    assert str(objects.OBJECT_LIMIT) in _column("Head of a small object", "Field")[5]
    for title, sealed in (
        ("Trailer", tables.FLAG_SEALED),
        ("Head of a small object", objects.FLAG_SEALED),
    ):
        assert f"flags: bit {sealed} is sealed; else 0" in _column(title, "Field")
    assert f"``{frames._HEAD.format}``" in TEXT
    assert f"``{frames._SEALED.format}``" in TEXT


def test_numbers_of_codecs_flags_and_streams() -> None:
    assert _numbers("Codecs", "Name", "Number") == {
        "raw": compression.RAW,
        "zstd": compression.ZSTD,
    }
    assert _numbers("Flags of a frame", "Name", "Bit") == {"runs": frames.FLAG_RUNS}
    streams = _numbers("Streams", "Name", "Number")
    assert {number: name for name, number in streams.items()} == frames.STREAMS


@pytest.mark.parametrize("own_files", [False, True])
def test_streams_lie_in_the_files_that_are_told(own_files: bool) -> None:
    storage = LocalStorage(os.fsencode(FIXTURE))
    archive = ArchiveReader(storage, PlainKeys(bytes(16)), "x", ByteCache(0))
    archive._header = IndexHeader(("x",), 0, 0, 0, own_files, own_files)
    for row in TABLES["Streams"]:
        if row["File"] in ("data", "index", "sigs"):
            expected = row["File"] if own_files else "index"
            number = int(row["Number"])
            if number in frames.DATA_STREAMS:
                assert archive._data_kind() == expected
            elif number not in (frames.SLABS, frames.SIGNATURES) or not own_files:
                assert archive._record_kind(number, 0) == expected


def test_names_are_those_that_the_code_takes() -> None:
    patterns = dict(zip(_column("Names", "Name"), _column("Names", "Regular expression")))
    assert {name: pattern + r"\Z" for name, pattern in patterns.items()} == {
        "point": point.POINT_ID.pattern,
        "archive": index.ARCHIVE_ID.pattern,
        "bundle": layout._BUNDLE_ID.pattern,
        "ring, list": layout._RING.pattern,
        "lock": lock._NAME.pattern,
    }


def test_key_derivation_contexts() -> None:
    contexts = _column("Key derivation contexts", "Context")
    source = "".join(path.read_text() for path in Path(frames.__file__).parent.glob("*.py"))
    assert sorted(contexts) == sorted(re.findall(r'"(ibtfs 2026 [^"]*)"', source))
    key = blake3(b"r" * 16 + b"points/n", derive_key_context=contexts[0]).digest()
    assert frames.object_key(b"r" * 16, "points/n") == key


def test_sizes() -> None:
    assert _numbers("Sizes", "What", "Value") == {
        "frame of stream small": archive_writer.FRAME_SIZES[frames.SMALL],
        "frame of stream large": archive_writer.FRAME_SIZES[frames.LARGE],
        "frame of stream literals": archive_writer.FRAME_SIZES[frames.LITERALS],
        "frame of records": archive_writer.RECORD_FRAME,
        "inside the index": archive_writer.INSIDE_INDEX,
        "small content": store_small.SMALL_LIMIT,
        "content in memory": store_file.MEMORY_LIMIT,
        "data of an archive": run_writer.ARCHIVE_BYTES,
        "contents of an archive": run_writer.ARCHIVE_CONTENTS,
        "seconds of an archive": run_writer.ARCHIVE_SECONDS,
        "inline xattrs": store_file.XATTRS_INLINE,
    }


def test_limits() -> None:
    assert _numbers("Limits", "What", "Limit") == {
        "raw bytes of a frame": frames.FRAME_LIMIT,
        "raw bytes of a frame table": frames.TABLE_LIMIT,
        "bytes of a frame in its file": frames.FRAME_LIMIT + (1 << 16),
        "count of a frame": frames.FRAME_LIMIT,
        "addresses of a stream": tables.ADDRESS_LIMIT - 1,
        "archives in a header": index.ARCHIVE_LIMIT,
        "contents, and states, that a header tells": index.NUMBERS_LIMIT,
        "archives in a bundle": bundle.ARCHIVES_LIMIT,
        "depth of a content": index.DEPTH_LIMIT,
        "donors of a content": index.DONOR_LIMIT,
        "parts of a map": index.PART_LIMIT,
        "ranges of a part, as written": extents.PART_RANGES,
        "ranges of a map": extents.RANGE_LIMIT,
        "ranges of a chain, not counting copies in place": fold.CHAIN_LIMIT,
        "size of a content": extents.CONTENT_LIMIT,
        "rows of a page": entry.PAGE_ROWS,
        "directories below a root, one in the other": trail.DEPTH_LIMIT,
        "bytes of a path below a root": trail.PATH_LIMIT,
        "entries of a tree, by path": totals.ENTRIES_LIMIT,
        "bytes of a name": entry.NAME_LIMIT,
        "bytes of a link's target": entry.TARGET_LIMIT,
        "bytes of the name of an extended attribute": entry.XATTR_NAME_LIMIT,
        "bytes of extended attributes as a content": states.XATTRS_LIMIT,
        "bytes of all those names of an entry, one more for each": entry.XATTR_NAMES_LIMIT,
        "bytes of ibtfs.json": config.CONFIG_LIMIT,
        "bytes of a manifest": points.MANIFEST_LIMIT,
        "bytes of a note of damage": damage_notes.NOTE_LIMIT,
        "bytes of a ring": ring.RING_LIMIT,
        "slots of a ring": ring.SLOTS_LIMIT,
        "bytes of a list": point_list.LIST_LIMIT,
        "frames of a list behind the first": point_list.MORE_LIMIT,
        "points of a list": point_list.LISTED_LIMIT,
        "sequence and epoch": point.NUMBER_LIMIT,
        "seconds of utc_offset": point.DAY,
    }
    assert content.WINDOW == 1 << 20


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ("whose base has a depth of {}", flatten.DEPTH_BOUND),
        ("have {:,} ranges and more", flatten.CHAIN_RANGES),
        ("the {} that give it most bytes", flatten.DONORS_KEPT),
        ("up to {} are kept", flatten.LARGE_DONORS_KEPT),
        ("give it {} MiB or more each", flatten.LARGE_DONOR >> 20),
        ("bear with a depth of {}", index.DEPTH_LIMIT),
        ("more than {:,} ranges", extents.RANGE_LIMIT),
        ("taken as {} bytes a range", store_small.OP_BYTES),
        ("fewer than {} bytes", store_small.DELTA_LEAST),
        ("more than {} rows is cut", entry.ONE_PAGE),
        ("that is the {}th of the page", entry.PAGE_ROWS),
        ("in the page reach {}", entry.PAGE_BYTES),
        ("A slab is {} KiB", digests.SLAB >> 10),
        ("groups of {};", digests.GROUP),
        ("the first {} bytes are kept", vault.SLAB_DIGEST),
        ("at most {} of them", vault.SLABS_A_RECORD),
        ("more than {} minutes ago", lock.STALE_SECONDS // 60),
        ("the first {} bytes of its digest", entry.HASH_SIZE),
        ("blocks of {} bytes for up to", parity.SMALL_BLOCK),
        ("for up to {} bytes in all", parity.SMALL_TOTAL),
        ("else of {};", parity.LARGE_BLOCK),
        ("columns at most {}", parity.COLUMNS),
        ("but at least {}. In", parity.LEAST_CHECKS),
        ("columns + checks is at most {}", erasure.BLOCKS_LIMIT),
        ("within the last {} bytes", tables.TRAILER_SIZE + tables.BEHIND_LIMIT),
    ],
)
def test_numbers_in_the_text(words: str, value: int) -> None:
    assert words.format(value) in re.sub(r"\s+", " ", TEXT)


# Keys and values


def test_values_of_a_bundle() -> None:
    files = [b"d" * 70, b"i" * 80, b"j" * 90]
    members = [Member(0, 0, 2, 70), Member(0, 2, 1, 80), Member(1, 2, 3, 90)]
    archives = ["point-00.0", "point-01.0"]
    name = f"bundles/{16 * '0'}"
    made = bundle.Directory(archives, (1, 0), members, 0)
    first, last = bundle.encode_ends(bytes(16), name, made, Codec())
    size = tables.TRAILER_SIZE
    frame = first[size:]
    assert last[:-size] == frame
    key = frames.object_key(bytes(16), name)
    raw = frames.decode_frame(key, Address(frames.BUNDLE, 0, 1), frame, "bundle").raw
    values = unpack_map(raw, "bundle")
    assert list(values) == _column("Keys of the directory of a bundle", "Key")
    assert values == {"archives": tuple(archives), "made": (1, 0), "files": tuple(zip(*members))}
    assert len(TABLES["Columns of the files of a bundle"]) == len(Member._fields)
    told = TABLES["Columns of the files of a bundle"][1]["Meaning"]
    assert told == "the kind: " + ", ".join(f"{n} for {k}" for n, k in enumerate(layout.KINDS))
    whole = first + b"".join(files) + last
    assert f"all together are {2 * size} + 2 d bytes more" in re.sub(r"\s+", " ", TEXT)
    assert len(whole) == 2 * size + 2 * len(frame) + sum(map(len, files))
    for start, ends in ((0, len(frame) + size), (len(whole) - size, len(whole) - size)):
        trailer = tables.read_trailer(key, bytes(16), whole[start:][:size], len(whole), "bundle")
        assert (trailer.end, trailer.envelope_size) == (ends, 0)
    read = bundle.Ends(bytes(16), name, "bundle").directory(frame)
    parts = [(m, whole[at : at + m.size]) for n in range(2) for m, at in read.members(n)]
    assert parts == list(zip(members, files))


def test_bounds_of_bundles() -> None:
    bounds = bundling.BOUNDS
    kib, *rest = (tier >> 10 for tier in bounds.tiers)
    mib, most = (tier >> 10 for tier in rest)
    text = re.sub(r"\s+", " ", TEXT)
    assert f"archives of less than {bounds.archive_size >> 20} MiB, and bundles; " in text
    assert f"when {bounds.least} of them have less than {kib} KiB each" in text
    assert f"likewise {bounds.least} from there to {mib} MiB, and {bounds.least} " in text
    assert f"from there to {most} MiB" in text
    assert (bounds.age, bounds.dead_share) == (86_400, 4)


def test_keys_of_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "repository"
    sealing.create_sealed(path)
    made = json.loads((path / "ibtfs.json").read_text())
    assert list(made) == _column("Keys of ibtfs.json", "Key")
    kinds = {"int": int, "text": str, "bool": bool, "array": list}
    assert [type(value) for value in made.values()] == [
        kinds[kind] for kind in _column("Keys of ibtfs.json", "Type")
    ]
    Repository.create(os.fsencode(tmp_path / "plain"), os.urandom(16))
    plain = json.loads((tmp_path / "plain/ibtfs.json").read_text())
    assert list(plain) == [key for key in made if key != "sealed"]


def test_example_of_the_configuration() -> None:
    example = _literal_after("For the file")
    assert (FIXTURE / "ibtfs.json").read_text() == example
    line = _literal_after("it is made of")
    check = blake3(line.removesuffix("\n").encode()).digest()[:16].hex()
    assert json.loads(example)["check"] == check


def test_keys_of_the_header() -> None:
    made = unpack_map(IndexHeader(("a",), 1, 2, 3, True, False, {"maps": 4}).encode(), "header")
    assert list(made) == _column("Keys of the index header", "Key")
    assert [type(value) for value in made.values()] == [
        TYPES_OF_KEYS[kind] for kind in _column("Keys of the index header", "Type")
    ]


def test_values_of_a_content_record() -> None:
    rows = TABLES["Values of a content record"]
    assert tuple(row["Name"] for row in rows) == ContentRecord._fields
    assert [int(row["Position"]) for row in rows] == list(range(len(rows)))
    shown = {"required": [], "nil": [None], "empty": [()]}
    for row in rows:
        default = ContentRecord._field_defaults.get(row["Name"], "required")
        assert default in shown.get(row["Default"], []) or str(default) == row["Default"]
    plain = ContentRecord(bytes(32), 1, 1, 0, 1)
    full = plain._replace(depth=1, base=Reference("b", 7), donors=(Reference("s", 8),),
                          map_first=3, map_parts=2, slabs=4)  # fmt: skip
    ordinals = {"b": 1, "s": 2}
    assert unpack(index.encode_record(plain, ordinals.get), "record") == plain[:5]
    values = unpack(index.encode_record(full, ordinals.get), "record")
    assert values == (*plain[:5], 1, 1 << 32 | 7, (2 << 32 | 8,), 3, 2, 4)
    for kind, value in zip((row["Type"] for row in rows), values):
        assert type(value) is TYPES_OF_KEYS[kind.removesuffix(" or nil")]


def test_codes_of_ranges() -> None:
    assert _numbers("Codes of ranges", "Name", "Code") == {
        "hole": extents.HOLE, "zeros": extents.ZEROS, "own": extents.OWN, "base": extents.BASE,
        "donor": extents.DONOR,
    }  # fmt: skip


def test_example_of_a_map() -> None:
    rows = [tuple(map(int, row.values())) for row in TABLES["An extent map"]]
    ranges = [Range(*row[:3]) for row in rows]
    columns = ([r.length for r in ranges], [r.code for r in ranges], [r.offset for r in ranges])
    (body,) = extents.encode_parts(ExtentMap(*columns))
    assert body == _hex("hex-map")
    begin, lengths, codes, differences_ = unpack(body, "map")
    assert begin == 0
    assert list(zip(codes, lengths, differences_)) == [(row[0], row[2], row[3]) for row in rows]
    assert len(TABLES["Values of a part of an extent map"]) == 4
    size = sum(lengths)
    assert list(extents.decode_parts([body], size, 1, "map").ranges()) == ranges
    assert independent_reader.decode_map([[begin, lengths, codes, differences_]], size) == ranges


def test_values_of_stamps_and_pages() -> None:
    names = ("name", "mode", "uid", "gid", "size", "mtime", "ctime", "inode", "links")
    places = [getattr(entry, name.upper()) for name in names]
    assert _numbers("Values of a stamp", "Name", "Position") == dict(zip(names, places))
    kinds = tuple(TYPES_OF_KEYS[kind] for kind in _column("Values of a stamp", "Type"))
    assert kinds == entry.STAMP_TYPES
    assert tuple(_column("Values of a page in a list of pages", "Name")) == PageEntry._fields
    body = entry.encode_page(Page((), (), {}))
    assert unpack(body, "page") == (0, (), (), {})
    assert f"``{[0, [], [], {}]}``" in TEXT
    kinds_of_records = TABLES["Kinds of records of states"]
    assert kinds_of_records[0]["Further values"].split(", ") == list(Page._fields)
    listed = PageEntry(5, bytes(24), 2, b"n")
    assert unpack(entry.encode_pages([listed]), "pages") == (1, (tuple(listed),))
    with pytest.raises(UnsupportedFormat):
        entry.decode_state(pack((len(kinds_of_records), ())), "state")


def test_extras_and_flags() -> None:
    good = {"int": 1, "map": {b"n": b"v"}}
    for row in TABLES["Extras"]:
        entry.check_extra({row["Key"]: good[row["Type"]]}, "extra")
        with pytest.raises(FormatDamaged):
            entry.check_extra({row["Key"]: "text"}, "extra")
    known = (entry.XATTRS, entry.XATTRS_REF, entry.GROUP, entry.BLOCKS, entry.FLAGS)
    assert tuple(_column("Extras", "Key")) == known
    assert _numbers("Flags of a row", "Name", "Bit") == {
        "kept": entry.KEPT, "unstable": entry.UNSTABLE, "not read": entry.NOT_READ,
        "left out": entry.LEFT_OUT,
    }  # fmt: skip
    for mode in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO):
        for size in (0, 1, 4096, 4097):
            assert entry.expected_blocks(mode, size) == independent_reader.usual_blocks(mode, size)


def test_pages_end_where_it_is_told() -> None:
    rng = random.Random(4)
    names = sorted({b"%x" % rng.getrandbits(64) for _ in range(9000)})
    stamps = [
        (name, stat.S_IFLNK if n % 5 == 0 else stat.S_IFREG, 0, 0, n, 0, 0, 0, 1)
        for n, name in enumerate(names)
    ]
    ends, rows, weight = [], 0, 0
    for name, mode, _, _, size, *_ in stamps:
        rows += 1
        weight += size if stat.S_ISLNK(mode) else 0
        low = struct.unpack("<H", blake3(name).digest()[:2])[0] & 1023
        if not low or rows == 4096 or weight >= 1048576:
            ends.append(name)
            rows = weight = 0
    if ends[-1] != names[-1]:
        ends.append(names[-1])
    assert [names[part.stop - 1] for part in entry.split_rows(stamps, UNKEYED)] == ends
    assert len(list(entry.split_rows(stamps[:64], UNKEYED))) == 1


def test_values_of_a_slabs_record() -> None:
    assert len(TABLES["Values of a slabs record"]) == 2
    base = vault.SlabDigests(b"".join(bytes([n]) * 24 for n in range(4)))
    new = vault.SlabDigests(base.data[:48] + b"\xff" * 24 + b"\xfe" * 48)
    assert [unpack(body, "slabs") for body in vault.encode_slabs(new, None)] == [
        (None, bytes(new.data))
    ]
    assert [unpack(body, "slabs") for body in vault.encode_slabs(new, base)] == [
        ((2, 3, 4), bytes(new.data[48:]))
    ]
    assert vault.kept_of(slab_digest(bytes(digests.SLAB))) == bytes(24)
    assert vault.kept_of(slab_digest(bytes(5))) == blake3(bytes(5)).digest()[:24]


def test_digests_of_so_many_zero_bytes() -> None:
    rows = TABLES["Digests of so many zero bytes"]
    assert len(rows) == 7
    for size, told in ((int(row["Bytes"]), row["Digest"].strip("`")) for row in rows):
        hasher = UNKEYED.hasher()
        hasher.add_zeros(size)
        assert hasher.finish().hex() == told, size
        if size <= 65537:
            assert independent_reader.digest_of(bytes(size)) == hasher.finish()


def _manifest(stored: point.Point) -> dict[str, object]:
    """The values of the manifest of *stored*, as both readers read it."""
    name, keys = f"points/{stored.id}", PlainKeys(bytes(16))
    data = point.encode_point(stored, name, keys, Codec())
    raw = objects.decode_object(keys, name, frames.MANIFEST, data, "manifest")
    other: dict[str, object] = independent_reader.open_object(
        data, bytes(16), name, frames.MANIFEST
    )
    assert list(unpack_map(raw, "manifest")) == list(other)
    return other


def test_keys_of_a_manifest() -> None:
    rows = TABLES["Keys of a manifest"]
    kinds = {key: kind for key, (kind, _) in point._FIELDS.items()}
    assert {row["Key"]: TYPES_OF_KEYS[row["Type"]] for row in rows} == kinds
    stored = replace(opened_fixture().points.all().points[0], parents=None)
    assert list(_manifest(stored)) == [row["Key"] for row in rows]
    assert list(stored.statistics) == _column("Statistics", "Key")


def test_optional_keys_of_a_manifest() -> None:
    stored = opened_fixture().points.all().points[0]
    known = replace(
        stored,
        parents=(point.Parent(0o755, 0, 0),),
        suffix="0123456789",
        replaces=("another-0",),
        writer="0a0b0c0d",
        origin=point.Origin(bytes(16), "another-0"),
    )
    optional = _column("Optional keys of a manifest", "Key")
    assert [k for k in _manifest(known) if k not in point._FIELDS] == optional
    assert str(point.PARENTS_LIMIT) in TABLES["Optional keys of a manifest"][0]["Meaning"]
    assert "6 to 40" in TABLES["Optional keys of a manifest"][1]["Meaning"]
    assert point.SUFFIX.pattern == r"[0-9a-f]{6,40}\Z"


def test_heads_of_sidecars() -> None:
    shape = parity.arranged([600, 40], 10, whole=False)
    assert shape == (512, 3, 1, 2)
    files = (parity.Protected("a", 600, bytes(32)), parity.Protected("b", 40, bytes(32)))
    head = parity.ParityHead(bytes(16), "s", 10, files, shape, bytes(24))
    data = head.encode()
    assert _structure("Head of a sidecar") == parity._HEAD.format
    assert data.startswith(bytes.fromhex("69 62 74 66 73 70 0d 1a"))
    assert parity.MAGIC.hex(" ") in _column("Head of a sidecar", "Field")[0]
    assert str(parity.HEAD_LIMIT) in _column("Head of a sidecar", "Field")[1]
    body = unpack_map(data[parity._HEAD.size : -16], "head")
    assert list(body) == _column("Keys of the head of a sidecar", "Key")
    assert [type(value) for value in body.values()] == [
        TYPES_OF_KEYS[kind] for kind in _column("Keys of the head of a sidecar", "Type")
    ]
    assert parity.head_size(data[:12], "head") == len(data)
    assert parity.decode_head(data, "head") == head
    with pytest.raises(FormatDamaged):
        parity.decode_head(data[:-1] + bytes([data[-1] ^ 1]), "head")
    with pytest.raises(FormatDamaged, match="contradicts itself"):
        parity.decode_head(replace(head, digests=bytes(16)).encode(), "head")


def test_notes_tags_and_locks() -> None:
    example = re.search(r"``(shared_[^`]*)``", TEXT)
    assert example is not None
    holder = lock.parse_holder(example[1])
    assert holder is not None
    assert holder.process == 4711
    found = opened_fixture().damage.contents()
    assert sorted(map(tuple, found)) == IndependentReader(str(FIXTURE)).damaged()


# Examples


def opened_fixture() -> Repository:
    return Repository.open(os.fsencode(FIXTURE))


def test_example_of_a_file(tmp_path: Path) -> None:
    identity = bytes(range(16))
    name = "archives/20261120T101502Z_example_0123456789.0/data"
    assert f"``{name}.1``" in TEXT
    assert f"``{identity.hex()}``" in TEXT
    key = frames.object_key(identity, name)
    assert f"``{key.hex()}``" in TEXT
    frame = frames.encode_frame(key, Address(frames.SMALL, 0, 6), b"hello\n", Codec())
    table = StreamTable()
    table.add(0, 6, 0, len(frame))
    made = frame + tables.encode_end(
        PlainFrames(key), identity, {frames.SMALL: table}, len(frame), Codec()
    )
    assert made == _hex("hex-file")
    shown = unpack(tables.encode_table({frames.SMALL: table}, 1), "table")
    assert json.dumps(shown) in re.sub(r"\s+", " ", TEXT)
    assert len(TABLES["Columns of a frame table"]) == len(shown["small"])

    path = tmp_path / f"{name}.1"
    path.parent.mkdir(parents=True)
    path.write_bytes(_hex("hex-file"))
    stored = LocalStorage(os.fsencode(tmp_path)).open(f"{name}.1")
    reader = FrameFileReader(PlainKeys(identity), name, stored)
    assert reader.frame(frames.SMALL, 0).raw == b"hello\n"
    other = independent_reader.ArchiveFile(path.read_bytes(), identity, name, 1)
    with pytest.raises(ValueError, match="generation"):
        independent_reader.ArchiveFile(path.read_bytes(), identity, name, 2)
    assert other.bytes(frames.SMALL, 1, 5) == b"ello"


def test_example_of_a_note() -> None:
    identity, name = bytes(range(16)), "damaged/0123456789abcdef-0"
    assert f"``{name}``" in TEXT
    values = {"contents": {"20261120T101502Z_example_0123456789.0": [3]}}
    assert f"``{json.dumps(values)}``" in re.sub(r"\s+", " ", TEXT)
    keys = PlainKeys(identity)
    data = objects.encode_object(keys, name, frames.NOTE, pack(values), Codec())
    assert data == _hex("hex-note")
    frame, raw = objects.split_object(data, "note").frame, pack(values)
    assert f"a frame of {len(frame)} bytes" in TEXT
    assert f"codec 0, flags 0, raw size {len(raw)}, and its raw" in TEXT
    assert frame.endswith(raw)
    assert independent_reader.open_object(data, identity, name, frames.NOTE) == values
    assert [*values, "indexes"] == _column("Keys of a note of damage", "Key")


def test_example_of_runs() -> None:
    raw = frames.encode_runs([(0, 2), (10, 3)], b"abcdefghijklmnop")
    assert raw == _hex("hex-runs")
    for start in range(17):
        for end in range(start + 1, 17):
            found = frames.Runs(raw, 16, "frame").cut(start, end)
            if found is None:
                with pytest.raises(LookupError):
                    independent_reader.survivors(raw, start, end)
            else:
                assert found == b"abcdefghijklmnop"[start:end]
                assert independent_reader.survivors(raw, start, end) == found


def test_gaps_in_a_table_are_read_alike() -> None:
    table = StreamTable()
    for row in ((10, 5, 700, 100), (15, 1, 100, 50), (99, 2, 800, 24)):
        table.add(*row)
    table.add(101, 60, 824, 76, runs=40)
    raw = tables.encode_table({frames.STATES: table}, 3)
    decoded = tables.decode_table(raw, 900, 3, "table")[frames.STATES]
    assert [decoded.find(n) for n in (9, 10, 15, 16, 98, 100)] == [-1, 0, 1, -1, -1, 2]
    reader = object.__new__(independent_reader.ArchiveFile)
    rows = list(reader._rows(unpack(raw, "table")["states"]))
    assert [(r.start, r.count, r.offset, r.size, r.runs) for r in rows] == list(
        zip(table.starts, table.counts, table.offsets, table.sizes, table.runs)
    )

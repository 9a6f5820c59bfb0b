"""Good bytes for every reader, out of real repositories, indexes and diffs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ibtfs.actions.observer import Observer
from ibtfs.actions.protect import protect
from ibtfs.format import parity
from ibtfs.format.acl import _ENTRY, _VERSION
from ibtfs.format.bundle import Ends
from ibtfs.format.entry import XATTRS
from ibtfs.format.frames import (
    BUNDLE,
    CONTENTS,
    HEADER,
    MANIFEST,
    MAPS,
    NOTE,
    SLABS,
    STATES,
    Address,
    decode_frame,
    encode_runs,
    object_key,
)
from ibtfs.format.keys import PlainKeys
from ibtfs.format.objects import decode_object, encode_object
from ibtfs.format.packing import pack, unpack, unpack_bodies
from ibtfs.format.point import FIELDS_VERSION, decode_point, row_of_point
from ibtfs.format.rsync import Signature, make_signature
from ibtfs.format.tables import TRAILER_SIZE, encode_table
from ibtfs.store.archives.file import FrameFileReader
from ibtfs.store.repository import Repository
from ibtfs.store.writing.catalog import Catalog
from ibtfs.toolkit import DiffData, DiffIndex, DirIndex, SigVault
from ibtfs.toolkit.data import KIND as DATA_KIND
from ibtfs.toolkit.vault import KIND as VAULT_KIND
from tests.support import CHECKOUT, damage
from tests.support.bundles import make_points, put_together
from tests.support.memory import BytesObject
from tests.support.readers.base import CODEC, Frames
from tests.support.readers.formats import _TRAILER, BASE
from tests.support.readers.objects import _OBJECT, KEYS, POINT_TOKEN
from tests.support.repositories import back_up, create, settled
from tests.support.trees import Fifo, File, Hardlink, Symlink, make_tree

LARGEST = 16 << 10
"""Of a seed, in bytes: larger ones are no more than many of the same."""
Seed = tuple[str, bytes]
RECORDS = {HEADER: "index-header", CONTENTS: "record", STATES: "state", SLABS: "slabs"}
NOTED = encode_object(KEYS, "x", NOTE, b"what it holds", CODEC)

WORDS = {
    "moment": (
        b"2026-11-20", b"2026-11", b"2026-11-20 10:15:30+02:00", b"2026-11-20_101530-2", b"now",
        b"last-monday", b"3 days ago", b"90s", b"6mo", b"gmt-2026.11.20-10.15.02", b"yesterday",
    ),
    "name-template": (
        b"@GMT-%Y.%m.%d-%H.%M.%S", b"%Y-%m-%d %H:%M:%S %Z%%",
    ),
    "patterns": (
        b"*.o\n!keep.o\n/build/\n# no\n\\#yes\n", b"a/**/b\n**/x\ndir/**\n",
        b"[a-z]?[!0-9]*\n*\\ \n",
        b"src/*a*b*c*\n**/*/**/*a\n", b"[[:alpha:]]\n", b"\\\n", b"[]a]\n[^\\]]\n!/*/\n",
    ),
    "names": (
        b"data.1\nsigs.2\nindex.10\nindex.1.parity.10\npoints.3\nredundancy.10\nremoved",
        b"shared_1795169702_host_123_0123abcd\nindex.1.0123abcd01234567.part\n0123456789abcdef",
    ),
    "note-of-damage": (pack({"contents": {"20261120T101112Z_host_0a.0": [1, 2]}}),),
    "acl": (
        _VERSION + b"".join(_ENTRY.pack(*row) for row in ((1, 6, 0), (2, 7, 1000), (8, 5, 50))),
    ),
    "value": (
        pack({"a": (1, -1, 1 << 80, None, True, 1.5), "b": [b"bytes", "text", {5: "x"}]}),
    ),
    "bodies": (pack([b"one", None, b"three"]),),
    "runs": (encode_runs([(0, 5), (7, 3), (500, 100)], bytes(range(250)) * 4),),
    "frame": (
        b"\x01\x00\x00\x00\x05\x00\x00\x00hello", b"\x01\x01\x01\x00\x00\x04\x00\x00" + bytes(20),
    ),
    "end-of-file": (
        _TRAILER.pack(1, 0, 500, 9000, 0) + b"\n", _TRAILER.pack(1, 1, 500, 9000, 100),
    ),
    "small-object": (NOTED[8:20] + NOTED[24:], _OBJECT.pack(1, 1, 5, 3, 7) + bytes(20)),
    "xattrs": (pack({b"user.a": b"b", b"system.posix_acl_access": _VERSION + bytes(8)}),),
}  # fmt: skip


def seeds(work: Path) -> Iterator[Seed]:
    """Names of readers, and good bytes for each; *work* is an empty folder."""
    for name, texts in WORDS.items():
        yield from ((name, text) for text in texts)
    sample = damage.build(work / "small")
    fixture = damage.read_files(CHECKOUT / "tests" / "data" / "repo-v1")
    yield from _of_repository(sample.files, b"i" * 16)
    yield from _of_repository(fixture, bytes.fromhex(json.loads(fixture["ibtfs.json"])["id"]))
    made = create(work / "bundled")
    make_points(made, work / "source", 4)
    put_together(made)
    protect(made, 10, Observer())
    yield from _of_repository(damage.read_files(work / "bundled"), made.id)
    tiny = _tiny(work / "tiny")
    yield from _of_repository(damage.read_files(work / "tiny" / "repository"), tiny.id)
    yield "catalog", _catalog(made, work / "cache")
    yield from _of_toolkit(work / "toolkit")
    yield from _of_deltas()


def _tiny(work: Path) -> Repository:
    """A repository of three points that is read in no time."""
    work.mkdir()
    made = create(work / "repository")
    text = b"".join(b"line %d\n" % n**3 for n in range(100))
    make_tree(work / "source", {
        "text": File(text, xattrs={"user.a": b"1"}), "folder": {"in": b"inside", "empty": b""},
        "link": Symlink("text"), "again": Hardlink("text"), "fifo": Fifo(),
    })  # fmt: skip
    for edit in (b"", b"more", b"other"):
        (work / "source" / "text").write_bytes(edit + text)
        (work / "source" / "folder" / "in").write_bytes(b"inside" + edit)
        settled(work / "source" / "folder" / "in")
        os.utime(work / "source" / "text", ns=(10**18, 10**18 + len(edit)))
        back_up(made, work / "source")
    return made


def _of_repository(files: dict[str, bytes], repository: bytes) -> Iterator[Seed]:
    """What the files of a repository hold."""
    manifests: list[Any] = []
    indexes: dict[str, Any] = {}
    for name, data in files.items():
        folder, base = name.partition("/")[0], name.rpartition("/")[2]
        if name == "ibtfs.json":
            yield "configuration", data
        elif folder == "points":
            raw = decode_object(PlainKeys(repository), name, MANIFEST, data, name)
            manifests.append(unpack(raw, name))
            yield "manifest", raw
            row = (
                base,
                POINT_TOKEN,
                row_of_point(decode_point(data, name, base, PlainKeys(repository))),
            )
            yield "cached-manifests", pack((FIELDS_VERSION, [row]))
        elif folder == "bundles":
            directory = _directory(repository, name, data)
            yield "bundle-directory", directory
            yield "bundle", directory
        elif ".parity." in base or base.startswith("points."):
            yield from _of_sidecar(data, name)
        elif folder == "archives":
            frames = _frames(repository, name.rpartition(".")[0], data, name)
            yield "frame-table", encode_table(_opened(repository, name, data).tables, 1)
            yield from _of_frames(frames)
            if base.startswith("index"):
                yield "archive", pack(frames)
                indexes[name.split("/")[1]] = frames
    if sum(map(len, files.values())) < LARGEST:
        yield "repository", pack((tuple(manifests), indexes))


def _directory(repository: bytes, name: str, data: bytes) -> bytes:
    """The values of the directory at the beginning of a bundle."""
    ends = Ends(repository, name, name)
    offset, size, _ = ends.trailer(data[:TRAILER_SIZE], len(data), is_label=True)
    key, address = object_key(repository, name), Address(BUNDLE, 0, 1)
    return decode_frame(key, address, data[offset : offset + size], name).raw


def _opened(repository: bytes, name: str, data: bytes) -> FrameFileReader:
    return FrameFileReader(PlainKeys(repository), name.rpartition(".")[0], BytesObject(data, name))


def _frames(repository: bytes, key_name: str, data: bytes, name: str) -> Frames:
    file = FrameFileReader(PlainKeys(repository), key_name, BytesObject(data, name))
    return [
        (stream, table.starts[row], table.counts[row], file.frame(stream, row).raw)
        for stream, table in sorted(file.tables.items())
        for row in range(len(table.starts))
    ]


def _of_frames(frames: Frames) -> Iterator[Seed]:
    parts: list[bytes] = []
    for stream, _, count, raw in frames:
        if stream not in (*RECORDS, MAPS):
            continue
        for body in filter(None, unpack_bodies(raw, count, "")):
            if stream == MAPS:
                parts.append(body)
            else:
                yield RECORDS[stream], body
            for row in _xattrs(body) if stream == STATES else ():
                yield "xattrs", pack(row)
    maps: list[list[bytes]] = []
    for body in parts:
        if unpack(body, "")[0]:
            maps[-1].append(body)  # the next part of the same
        else:
            maps.append([body])
    yield from (("extent-map", pack(bodies)) for bodies in maps)


def _xattrs(body: bytes) -> Iterator[Any]:
    value = unpack(body, "")
    for extra in value[3].values() if value[0] == 0 else ():
        if XATTRS in extra:
            yield extra[XATTRS]


def _of_sidecar(data: bytes, name: str) -> Iterator[Seed]:
    size = parity.head_size(data, name)
    body = data[12 : size - 16]
    yield "parity-head", body
    yield "sidecar", pack((unpack(body, name), data[size:-size], None))


def _catalog(repository: Repository, folder: Path) -> bytes:
    with Catalog(repository, os.fsencode(folder)) as catalog:
        assert list(catalog.contents(bytes(32), 0)) == []
    (file,) = folder.glob("*.sqlite")
    return file.read_bytes()


def _of_toolkit(work: Path) -> Iterator[Seed]:
    """A small tree as blocks.read_application makes it, what it becomes, and all between."""
    source = work / "base"
    make_tree(source, {
        "a": b"old" * 30, "in": {"b": b"", "c": b"stays"}, "up": Symlink("../kept"),
    })  # fmt: skip
    old = DirIndex(source)
    stored = DirIndex.from_bytes(old.to_bytes())
    with SigVault.create(work / "sigs", old) as vault:
        vault.add_all(old.files)
    (source / "a").write_bytes(b"old" * 20 + b"new" * 30)
    shutil.move(source / "in" / "c", source / "moved")
    (source / "in" / "b").unlink()
    (source / "new").mkdir()
    (source / "new" / "file").write_bytes(b"made")
    (source / "up").unlink()
    (source / "up").symlink_to("elsewhere")
    new = DirIndex(source)
    diff = DiffIndex(new, stored)
    with SigVault.open(work / "sigs") as sigs:
        data = DiffData(diff, sigs)
        data.save(work / "data")
        pieces = {path: b"".join(data.pieces(path)) for path in (*data.created, *data.updated)}
    for index in (old, new):
        yield "directory-index", pack(index.data())
        yield "sealed", index.to_bytes()
    values = unpack(unpack(diff.to_bytes(), "")[3], "")
    yield "sealed", diff.to_bytes()
    yield "diff", pack(values)
    yield "applied-diff", pack((values, pieces))
    yield "signature-vault", pack(_frames(bytes(16), VAULT_KIND, _read(work / "sigs"), "x.1"))
    yield "diff-data", pack(_frames(bytes(16), DATA_KIND, _read(work / "data"), "x.1"))


def _read(path: Path) -> bytes:
    return path.read_bytes()


def _of_deltas() -> Iterator[Seed]:
    for block in (16, 100, 1000):
        signature = make_signature(BASE, block_size=block)
        yield "signature", signature
        with Signature(signature) as loaded:
            for new in (BASE, BASE[:300] + b"between" + BASE[200:], b"nothing of it"):
                yield "delta", loaded.delta(new)

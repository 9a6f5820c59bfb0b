"""A second reader of repositories, written from ibtfs/format/FORMAT.rst and nothing else.

It imports nothing of ibtfs and shares no code with it, so that the two agree only if the document
is right. It verifies what can be verified; tests/support/independent_sealed.py has what is sealed.
Damage raises ValueError; what was pruned raises LookupError.
"""

from __future__ import annotations

import json
import os
import re
import stat
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgpack
import zstandard
from blake3 import blake3

from tests.support.independent_sealed import (
    POINT,
    SealedKeys,
    check_header,
    check_ids,
    expect,
    mark_of,
    more_frames,
    newest,
    newest_of,
    open_sealed_frame,
    padded,
    values_of_list,
)

HEAD = struct.Struct("<16sBBHI")
SEALED = struct.Struct("<BBHIQI")
TRAILER = struct.Struct("<8sHHIQ16sHHI16s")
OBJECT = struct.Struct("<8sHHHHI4s")
MAGIC = bytes.fromhex("69627466730d0a1a")
OBJECT_MAGIC = bytes.fromhex("69627466730d0a1b")
STREAMS = {
    "small": 1, "large": 2, "literals": 3, "header": 16, "contents": 17, "states": 18, "maps": 19,
    "slabs": 32, "signatures": 33,
}  # fmt: skip
TABLE, MANIFEST, BUNDLE, NOTE, LIST = 0, 48, 49, 50, 51
HOLE, ZEROS, OWN, BASE, DONOR = range(5)
RUNS = 1
ARCHIVE = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{7,119}\.[0-9]{1,6}")
BUNDLE_ID = re.compile(r"[0-9a-f]{16}")
SLAB = 1 << 16
SHELL = bytes(32)
PASSPHRASE = "correct horse"

Extents = list[tuple[int, int, int]]
Part = tuple[str, int, int]
KINDS = ("data", "sigs", "index")


def unpack(data: bytes) -> Any:
    """One value of msgpack."""

    def big(kind: int, value: bytes) -> int:
        expect(kind == 1 and len(value) == 16, "extension type")
        return int.from_bytes(value, "big", signed=True)

    return msgpack.unpackb(
        data, ext_hook=big, strict_map_key=False, unicode_errors="surrogateescape"
    )


def pack(value: Any) -> bytes:
    """*value* in its shortest form."""

    def big(number: int) -> msgpack.ExtType:
        return msgpack.ExtType(1, number.to_bytes(16, "big", signed=True))

    return msgpack.packb(value, default=big, unicode_errors="surrogateescape")


def derive(context: str, material: bytes) -> bytes:
    """BLAKE3's key derivation."""
    return blake3(material, derive_key_context=context).digest()


def slab_digest(data: bytes, key: bytes = b"") -> bytes:
    """The digest of a slab; *key* is that of the digests of a sealed repository."""
    return blake3(data, key=key or None if data != bytes(SLAB) else None).digest()


def digest_of(data: bytes, key: bytes = b"") -> bytes:
    """The digest of a content."""
    if len(data) <= SLAB:
        return slab_digest(data, key)
    slabs = (data[first : first + SLAB] for first in range(0, len(data), SLAB))
    level = [slab_digest(slab, key) for slab in slabs]
    while len(level) > 4096:
        groups = [b"".join(level[first : first + 4096]) for first in range(0, len(level), 4096)]
        level = [derive("ibtfs 2026 slabs", key + group) for group in groups]
    return derive("ibtfs 2026 content", key + struct.pack("<Q", len(data)) + b"".join(level))


def open_frame(key: bytes, stream: int, start: int, count: int, data: bytes) -> tuple[bytes, int]:
    """The raw bytes of a frame, verified, and its flags."""
    checksum, told, codec, flags, size = HEAD.unpack_from(data)
    expect(told == stream, "stream of a frame")
    stored = data[HEAD.size :]
    sealed = SEALED.pack(stream, codec, flags, size, start, count)
    expect(blake3(sealed + stored, key=key).digest(16) == checksum, "checksum of a frame")
    expect(codec in (0, 1) and flags in (0, RUNS), "codec or flags that are not known")
    raw = stored
    if codec == 1:
        raw = zstandard.ZstdDecompressor().decompress(stored, max_output_size=size)
    expect(len(raw) == size, "raw size of a frame")
    return raw, flags


def read_trailer(data: bytes, repository: bytes, key: bytes) -> tuple[int, int, int]:
    """The size and the offset of the frame that a trailer leads to, and the envelope's size."""
    expect(len(data) == TRAILER.size, "size of a trailer")
    magic, version, flags, size, offset, identity, envelope, *_, checksum = TRAILER.unpack(data)
    expect(magic == MAGIC and version == 1, "trailer")
    expect(flags == (1 if envelope else 0), "flags of a trailer")
    expect(blake3(data[:48], key=key).digest(16) == checksum, "checksum of a trailer")
    expect(identity == repository, "repository of a trailer")
    return size, offset, envelope


def open_object(
    data: bytes, repository: bytes, name: str, stream: int, keys: SealedKeys | None = None
) -> Any:
    """The value in the frame, or frames, of a small object; *keys* are those of a sealed one."""
    magic, version, flags, envelope, signature, size, checksum = OBJECT.unpack_from(data)
    expect(magic == OBJECT_MAGIC and version == 1, "head of an object")
    expect(blake3(data[:20]).digest()[:4] == checksum, "checksum of a head")
    expect(flags == (1 if envelope else 0), "flags of an object")
    expect(bool(envelope) == (keys is not None), "an envelope where it should be")
    begin = OBJECT.size + envelope
    end, frame = begin + size + signature, data[begin : begin + size]
    if keys is None:
        expect(end == len(data) and not signature, "size of an object")
        key = derive("ibtfs 2026 object key", repository + name.encode())
        raw, frame_flags = open_frame(key, stream, 0, 1, frame)
    else:
        made = keys.object_key(name, data[OBJECT.size : begin])
        raw, frame_flags = open_sealed_frame(*made, stream, 0, 1, frame)
        more = unpack(raw).get("more", []) if stream == LIST else []
        expect(padded(end + sum(more)) == len(data), "size of a sealed object")
        signed = end - signature
        keys.check_maker(name, data[OBJECT.size], data[:signed], data[signed:end], unpack(raw))
        raw = b"".join(more_frames(data, end, more, made)) or raw
    expect(frame_flags == 0, "flags of the frame of an object")
    return unpack(raw)


def survivors(raw: bytes, start: int, end: int) -> bytes:
    """Bytes *start* to *end* of a frame that has only runs of its bytes."""
    (count,) = struct.unpack_from("<I", raw)
    place = 4 + 8 * count
    for first, length in struct.iter_unpack("<II", raw[4:place]):
        if first <= start and end <= first + length:
            return raw[place + start - first : place + end - first]
        place += length
    raise LookupError("bytes that were pruned")


def read_part(path: str, offset: int, size: int) -> bytes:
    """*size* bytes of a file."""
    with open(path, "rb") as file:
        file.seek(offset)
        data = file.read(size)
    expect(len(data) == size, "size of a file")
    return data


@dataclass
class Row:
    """A frame in a table."""

    start: int
    count: int
    offset: int
    size: int
    runs: int
    mark: int


class ArchiveFile:
    """One file of frames; *name* is that of the object, and what follows it the generation."""

    def __init__(
        self, data: bytes, repository: bytes, name: str, generation: int,
        keys: SealedKeys | None = None,
    ) -> None:  # fmt: skip
        self.data = data
        self.key = derive("ibtfs 2026 object key", repository + name.encode())
        size, offset, envelope = read_trailer(self.data[-TRAILER.size :], repository, self.key)
        expect(offset + size + TRAILER.size == len(self.data), "place of a frame table")
        expect(bool(envelope) == (keys is not None), "an envelope where it should be")
        self.sealed: tuple[int, bytes] | None = None
        self.mode = data[offset - envelope] if envelope else 0
        if keys is not None:
            self.sealed = keys.object_key(name, data[offset - envelope : offset], generation)
            expect(padded(len(data)) == len(data), "size of a sealed file")
        raw, _ = self._open(TABLE, offset, 1, self.data[offset : offset + size])
        self.rows: dict[int, list[Row]] = {}
        table = unpack(raw)
        expect(table.pop("generation") == generation, "generation of a frame table")
        for stream, columns in table.items():
            if stream in STREAMS:
                self.rows[STREAMS[stream]] = list(self._rows(columns))

    def _open(self, stream: int, start: int, count: int, data: bytes) -> tuple[bytes, int]:
        if self.sealed is not None:
            return open_sealed_frame(*self.sealed, stream, start, count, data)
        return open_frame(self.key, stream, start, count, data)

    def _rows(self, columns: list[list[int]]) -> Iterator[Row]:
        start = offset = 0
        for gap, count, hole, size, runs, mark in zip(*columns, strict=True):
            start, offset = start + gap, offset + hole
            yield Row(start, count, offset, size, runs, mark)
            start, offset = start + count, offset + size

    def find(self, stream: int, address: int) -> Row:
        """The frame that holds *address*."""
        for row in self.rows.get(stream, []):
            if row.start <= address < row.start + row.count:
                return row
        raise LookupError(f"address {address} of stream {stream} was pruned")

    def frame(self, stream: int, row: Row) -> tuple[bytes, int]:
        """The raw bytes and flags of the frame in *row*."""
        data = self.data[row.offset : row.offset + row.size]
        expect(row.mark == (mark_of(data) if self.sealed else 0), "mark of a frame")
        raw, flags = self._open(stream, row.start, row.count, data)
        expect(row.runs == (len(raw) if flags & RUNS else 0), "runs of a frame")
        return raw, flags

    def record(self, stream: int, number: int) -> Any:
        """The value of a record."""
        row = self.find(stream, number)
        bodies = unpack(self.frame(stream, row)[0])
        expect(len(bodies) == row.count, "records of a frame")
        body = bodies[number - row.start]
        if body is None:
            raise LookupError(f"record {number} of stream {stream} was pruned")
        return unpack(body)

    def bytes(self, stream: int, start: int, end: int) -> bytes:
        """The bytes at these addresses of a data stream."""
        pieces = []
        while start < end:
            row = self.find(stream, start)
            stop = min(end, row.start + row.count)
            raw, flags = self.frame(stream, row)
            first, last = start - row.start, stop - row.start
            if flags & RUNS:
                pieces.append(survivors(raw, first, last))
            else:
                expect(len(raw) == row.count, "bytes of a frame")
                pieces.append(raw[first:last])
            start = stop
        return b"".join(pieces)


@dataclass
class Content:
    """A content record."""

    archive: Archive
    digest: bytes
    size: int
    stream: int
    start: int
    length: int
    depth: int = 0
    base_ref: int | None = None
    donor_refs: tuple[int, ...] = ()
    extents: Extents | None = None
    slabs: int = -1

    @cached_property
    def base(self) -> Content | None:
        """What it copies from; gone, perhaps, if nothing of it but its payload is needed."""
        return None if self.base_ref is None else self.archive.referred(self.base_ref)

    @cached_property
    def donors(self) -> tuple[Content, ...]:
        """Those whose payloads it takes bytes from."""
        return tuple(map(self.archive.referred, self.donor_refs))

    def payload(self, start: int, end: int) -> bytes:
        """Bytes of what it added to its archive."""
        expect(0 <= start <= end <= self.length, "bytes beyond a payload")
        file = self.archive.file("data" if self.archive.header["data"] else "index")
        return file.bytes(self.stream, self.start + start, self.start + end)

    def read(self, start: int, end: int) -> bytes:
        """Bytes of the content."""
        expect(0 <= start <= end <= self.size, "bytes beyond a content")
        if self.extents is None:
            return self.payload(start, end)
        pieces, position = [], 0
        for code, offset, length in self.extents:
            first, last = max(start - position, 0), min(end - position, length)
            if first < last:
                pieces.append(self._range(code, offset + first, last - first))
            position += length
        return b"".join(pieces)

    def _range(self, code: int, offset: int, length: int) -> bytes:
        if code in (HOLE, ZEROS):
            return bytes(length)
        if code == OWN:
            return self.payload(offset, offset + length)
        if code == BASE:
            assert self.base is not None
            expect(self.base.digest != SHELL, "a base that is nothing but a payload")
            return self.base.read(offset, offset + length)
        return self.donors[code - DONOR].payload(offset, offset + length)

    def whole(self) -> bytes:
        """All of it, its digest compared."""
        expect(self.digest != SHELL, "a content that is nothing but a payload")
        data = self.read(0, self.size)
        expect(
            digest_of(data, self.archive.repository.digests) == self.digest, "digest of a content"
        )
        return data

    def slab_digests(self) -> list[bytes]:
        """The digests of its slabs, through its chain."""
        expect(self.slabs >= 0, "a content of the chain without slabs")
        count = -(-self.size // SLAB)
        parts = [self.archive.slabs(self.slabs + part) for part in range(-(-count // 65536))]
        is_complete = all(numbers is None for numbers, _ in parts)
        digests = self.base.slab_digests() if self.base and not is_complete else []
        digests = digests[:count] + [bytes(24)] * (count - len(digests))
        for part, (listed, joined) in enumerate(parts):
            whole = range(part * 65536, min(count, (part + 1) * 65536))
            numbers = whole if listed is None else listed
            expect(len(joined) == 24 * len(numbers), "digests of slabs")
            for row, number in enumerate(numbers):
                digests[number] = joined[24 * row : 24 * row + 24]
        return digests


def decode_map(parts: list[Any], size: int) -> Extents:
    """The ranges of a map: (code, offset, length)."""
    ranges: Extents = []
    position = shift = 0
    following: dict[int, int] = {}
    for begin, *columns in parts:
        expect(begin == position, "place of a part")
        for length, code, difference in zip(*columns[:3], strict=True):
            offset = 0
            if code == BASE:
                shift += difference
                offset = position + shift
            elif code > ZEROS:
                offset = following.get(code, 0) + difference
                following[code] = offset + length
            ranges.append((code, offset, length))
            position += length
    expect(position == size, "size of a map")
    return ranges


class Archive:
    """One archive."""

    def __init__(self, repository: IndependentReader, name: str) -> None:
        self.repository, self.id = repository, name
        self._files: dict[str, ArchiveFile] = {}
        self._contents: dict[int, Content] = {}
        self.header = self.file("index").record(STREAMS["header"], 0)
        expect(self.header["archives"][0] == name, "id of an archive")
        check_header(self.file("index").mode, self.header)

    def file(self, kind: str) -> ArchiveFile:
        """The newest generation of one of its files."""
        if kind not in self._files:
            files = self.repository.files(self.id)
            found = [re.fullmatch(rf"{kind}\.(\d+)", name) for name in files]
            numbers = [int(m[1]) for m in found if m and int(m[1]) <= 1000000]

            def read(number: int) -> ArchiveFile:
                data, name = read_part(*files[f"{kind}.{number}"]), f"archives/{self.id}/{kind}"
                return ArchiveFile(data, self.repository.id, name, number, self.repository.keys)

            self._files[kind] = newest(numbers, read, self.repository.keys)
        return self._files[kind]

    def reference(self, packed: int) -> tuple[Archive, int]:
        """The archive and the number that a reference means."""
        archive = self.repository.archive(self.header["archives"][packed >> 32])
        expect(archive.header["epoch"] >= self.header["epoch"], "epoch of what is referred to")
        return archive, packed & 0xFFFFFFFF

    def referred(self, packed: int) -> Content:
        """The content that a reference means."""
        archive, number = self.reference(packed)
        return archive.content(number)

    def content(self, number: int) -> Content:
        """Content *number*."""
        if number not in self._contents:
            values = self.file("index").record(STREAMS["contents"], number)
            content = Content(self, *values[:5])
            if len(values) > 5:
                depth, base, donors, first, parts, slabs = values[5:11]
                content.depth, content.slabs = depth, slabs
                content.base_ref, content.donor_refs = base, tuple(donors)
                if parts:
                    numbers = range(first, first + parts)
                    bodies = [self.file("index").record(STREAMS["maps"], n) for n in numbers]
                    content.extents = decode_map(bodies, content.size)
            expect(content.extents is not None or content.length == content.size, "plain content")
            if content.digest == SHELL:
                alone = content.base_ref is None and not content.donor_refs
                expect(alone and content.slabs < 0, "a shell")
            self._contents[number] = content
        return self._contents[number]

    def slabs(self, number: int) -> Any:
        """The two values of a record of stream slabs: of the index, if that has it."""
        try:
            return self.file("index").record(STREAMS["slabs"], number)[:2]
        except LookupError:
            if not self.header["sigs"]:
                raise
            return self.file("sigs").record(STREAMS["slabs"], number)[:2]

    def state(self, number: int) -> Any:
        """A record of stream states."""
        return self.file("index").record(STREAMS["states"], number)


@dataclass
class Entry:
    """One row with what it leads to."""

    name: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    links: int
    content: Content | None
    directory: Directory | None
    target: bytes | None
    device: int
    xattrs: Mapping[bytes, bytes]
    group: int
    blocks: int
    flags: int

    @property
    def link_key(self) -> tuple[Any, ...] | None:
        """What the links to one file agree in."""
        if self.links < 2 or stat.S_ISDIR(self.mode):
            return None
        digest = self.content.digest if self.content else None
        return (self.group, self.inode, self.mode, self.uid, self.gid, self.size, self.mtime_ns,
                digest, self.target, self.device)  # fmt: skip


class Directory:
    """A directory state, all of it read, its digest known."""

    def __init__(self, archive: Archive, number: int) -> None:
        kind, *values = archive.state(number)
        expect(kind in (0, 1), "kind of a state")
        self.entries: list[Entry] = []
        if kind == 0:
            self.digest = self._page(archive, values)
            return
        digests = []
        for packed, digest, rows, last in values[0]:
            before = len(self.entries)
            other, page = archive.reference(packed)
            page_kind, *columns = other.state(page)
            expect(page_kind == 0, "kind of a page")
            expect(self._page(other, columns)[:24] == digest, "digest of a page")
            expect(len(self.entries) - before == rows, "rows of a page")
            expect(self.entries[-1].name == last, "last name of a page")
            digests.append(digest)
        key = archive.repository.digests
        self.digest = derive("ibtfs 2026 pages", key + b"".join(digests))

    def _page(self, archive: Archive, columns: list[Any]) -> bytes:
        """Add the rows of a page; its digest."""
        stamps, refs, extras = columns[:3]
        rows, portable = [], []
        for number, (stamp, ref) in enumerate(zip(stamps, refs, strict=True)):
            extra = extras.get(number, {})
            moved = archive.referred(extra["X"]) if "X" in extra else None
            entry, token = self._entry(archive, stamp, ref, extra, moved)
            expect(not self.entries or self.entries[-1].name < entry.name, "order of names")
            self.entries.append(entry)
            rows.append([*stamp[:6], stamp[8], token])
            xattrs = [list(item) for item in sorted(extra.get("x", {}).items())]
            if xattrs or moved or "b" in extra:
                digest = moved.digest if moved else None
                portable.append([number, xattrs, digest, extra.get("b")])
        key = archive.repository.digests
        return derive("ibtfs 2026 page", key + pack([rows, portable]))

    def _entry(
        self, archive: Archive, stamp: list[Any], ref: Any, extra: dict[str, Any],
        moved: Content | None,
    ) -> tuple[Entry, Any]:  # fmt: skip
        """A row, and its token."""
        mode, size = stamp[1], stamp[4]
        xattrs = unpack(moved.whole()) if moved else extra.get("x", {})
        entry = Entry(*stamp, None, None, None, 0, xattrs, extra.get("g", 0),
                      extra.get("b", usual_blocks(mode, size)), extra.get("f", 0))  # fmt: skip
        token = ref
        if stat.S_ISREG(mode):
            expect((ref is None) == (size == 0), "ref of a file")
            if ref is not None:
                entry.content = archive.referred(ref)
                expect(entry.content.size == size, "size of a file")
                token = entry.content.digest
        elif stat.S_ISDIR(mode):
            packed, token = ref
            entry.directory = Directory(*archive.reference(packed))
            expect(entry.directory.digest[:24] == token, "digest of a directory")
        elif stat.S_ISLNK(mode):
            entry.target = ref
        elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            entry.device = ref
        else:
            expect(ref is None, "ref of a special file")
        return entry, token


def usual_blocks(mode: int, size: int) -> int:
    """st_blocks where no extra tells it."""
    return (size + 4095) // 4096 * 8 if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else 0


@dataclass
class Point:
    """A backup point: the values of its manifest, and its tags."""

    repository: IndependentReader
    values: Mapping[str, Any]
    tags: list[str]

    def root(self) -> Entry:
        """The row of the source itself."""
        archive, number = self.values["state"]
        directory = Directory(self.repository.archive(archive), number)
        expect(directory.digest == self.values["digest"], "digest of a root")
        epoch = self.repository.archive(archive).header["epoch"]
        expect(epoch >= self.values["epoch"], "epoch of a root")
        extra = self.values["extras"]
        _, mode, _, _, size, *_ = stamp = self.values["root"]
        expect(stat.S_ISDIR(mode), "type of a root")
        return Entry(*stamp, None, directory, None, 0, extra.get("x", {}), extra.get("g", 0),
                     extra.get("b", usual_blocks(mode, size)), extra.get("f", 0))  # fmt: skip

    def entries(self) -> Iterator[tuple[bytes, Entry]]:
        """All entries by their paths, the root first."""
        waiting = [(b"", self.root())]
        while waiting:
            path, entry = waiting.pop()
            yield path, entry
            if entry.directory is not None:
                below = entry.directory.entries
                waiting += [(path + b"/" + e.name if path else e.name, e) for e in below]


class IndependentReader:
    """A repository in a folder; *passphrase* opens it if it is sealed."""

    def __init__(self, path: str, passphrase: str = PASSPHRASE) -> None:
        self.path = path
        stored = Path(path, "ibtfs.json").read_bytes()
        config = json.loads(stored)
        expect(config["format"] == 1 and not config.get("read_requires"), "format")
        values = {key: config[key] for key in config if key != "check"}
        text = json.dumps(values, sort_keys=True, separators=(", ", ": "), ensure_ascii=True)
        expect(blake3(text.encode()).digest()[:16].hex() == config["check"], "check sum")
        self.id = bytes.fromhex(config["id"])
        self.keys: SealedKeys | None = None
        if config.get("sealed", False):
            self.keys = SealedKeys(path, self.id, stored, passphrase)
            self.keys.withdrawn = self.listed().get("withdrawn", {})
        self.digests = self.keys.digests if self.keys else b""
        self._archives: dict[str, Archive] = {}
        self._bundled = self._read_bundles()

    def _read_bundles(self) -> dict[str, dict[str, Part]]:
        """The files in bundles: of each archive by name."""
        found: dict[str, dict[str, Part]] = {}
        folder = f"{self.path}/bundles"
        for name in sorted(os.listdir(folder) if os.path.exists(folder) else []):
            if BUNDLE_ID.fullmatch(name):
                for archive, file, offset, size in self._bundle(name):
                    found.setdefault(archive, {})[file] = (f"{folder}/{name}", offset, size)
        return found

    def _bundle(self, name: str) -> Iterator[tuple[str, str, int, int]]:
        """The files in a bundle: archive, name, offset and size."""
        path = f"{self.path}/bundles/{name}"
        key = derive("ibtfs 2026 object key", self.id + f"bundles/{name}".encode())
        total = os.path.getsize(path)
        frames = []
        for place in (0, total - TRAILER.size):
            label = read_part(path, place, TRAILER.size)
            size, offset, envelope = read_trailer(label, self.id, key)
            expected = place - size if place else TRAILER.size
            expect(offset == expected and not envelope, "place of the directory of a bundle")
            frames.append(read_part(path, offset, size))
        expect(frames[0] == frames[1], "the two directories of a bundle")
        values = unpack(open_frame(key, BUNDLE, 0, 1, frames[0])[0])
        archives, offset = values["archives"], TRAILER.size + len(frames[0])
        expect(archives == sorted(set(archives)), "archives of a bundle")
        expect(len(values["made"]) == len(archives), "times of a bundle")
        last = (-1, -1)
        for ordinal, kind, generation, size in zip(*values["files"], strict=True):
            expect((ordinal, kind) > last, "order of the files of a bundle")
            last = ordinal, kind
            yield archives[ordinal], f"{KINDS[kind]}.{generation}", offset, size
            offset += size
        expect(offset + len(frames[0]) + TRAILER.size == total, "size of a bundle")

    def files(self, archive: str) -> dict[str, Part]:
        """The files of an archive, none of one that was removed: name to path, offset, size."""
        folder = f"{self.path}/archives/{archive}"
        names = self._list(f"archives/{archive}")
        if "removed" in names:
            return {}
        own = {name: (f"{folder}/{name}", 0, os.path.getsize(f"{folder}/{name}")) for name in names}
        return {**self._bundled.get(archive, {}), **own}

    def _list(self, folder: str) -> list[str]:
        """The names in a folder, as they are meant."""
        path = f"{self.path}/{folder}"
        names = os.listdir(path) if os.path.exists(path) else []
        names = [name for name in names if not name.endswith(".part")]
        if self.keys is not None:
            names = [self.keys.meant(f"{folder}/{name}") for name in names]
        return sorted(filter(None, names))

    def archive(self, name: str) -> Archive:
        """The archive called *name*."""
        expect(ARCHIVE.fullmatch(name) is not None, "id of an archive")
        if name not in self._archives:
            self._archives[name] = Archive(self, name)
        return self._archives[name]

    def archives(self) -> list[Archive]:
        """All archives that exist."""
        listed = filter(ARCHIVE.fullmatch, os.listdir(f"{self.path}/archives"))
        names = sorted({*listed, *self._bundled})
        has_index = re.compile(r"index\.\d+").fullmatch
        return [self.archive(name) for name in names if any(map(has_index, self.files(name)))]

    def points(self) -> list[Point]:
        """All points that no other stands in the place of, by sequence and id."""
        points = []
        for name in filter(POINT.fullmatch, os.listdir(f"{self.path}/points")):
            values = self._object(f"points/{name}", MANIFEST)
            check_ids(values, name, self.id)
            points.append(Point(self, values, self._list(f"tags/{name}")))
        hidden = {name for point in points for name in point.values.get("replaces", ())}
        points = [point for point in points if point.values["id"] not in hidden]
        return sorted(points, key=lambda point: (point.values["sequence"], point.values["id"]))

    def listed(self) -> dict[str, Any]:
        """The values of the newest list of points, what is joined cut; empty if there is none."""
        number, name = newest_of(self._list("lists"))
        return values_of_list(self._object(f"lists/{name}", LIST), number) if number else {}

    def _object(self, name: str, stream: int) -> Mapping[str, Any]:
        return open_object(Path(self.path, name).read_bytes(), self.id, name, stream, self.keys)

    def damaged(self) -> list[tuple[str, int]]:
        """The contents that notes call damaged."""
        rows = (row for note in self._notes() for row in note["contents"].items())
        return sorted((archive, number) for archive, numbers in rows for number in numbers)

    def damaged_indexes(self) -> list[str]:
        """The archives of whose index notes say that something is damaged."""
        return sorted({archive for note in self._notes() for archive in note.get("indexes", ())})

    def _notes(self) -> Iterator[Mapping[str, Any]]:
        for name in self._list("damaged"):
            yield self._object(f"damaged/{name}", NOTE)

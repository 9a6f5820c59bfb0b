"""The readers of ``ibtfs.store``: what objects of a repository, and files of the cache, hold."""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import shutil
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blake3 import blake3

from ibtfs.actions.check import check
from ibtfs.actions.observer import Observer
from ibtfs.errors import IbtfsError, IntegrityError
from ibtfs.format import bundle, objects, parity, tables
from ibtfs.format.frames import HEADER, MANIFEST, NOTE, encode_frame, object_key
from ibtfs.format.index import ContentRecord, IndexHeader, is_archive_id
from ibtfs.format.keys import PlainKeys
from ibtfs.format.objects import encode_object
from ibtfs.format.packing import pack, unpack_bodies
from ibtfs.format.point import POINT_ID as POINT_ID_FORM
from ibtfs.format.point import Point
from ibtfs.store import layout
from ibtfs.store.archives.reader import ArchiveReader
from ibtfs.store.cache import ByteCache
from ibtfs.store.contents.slabs import head_digest
from ibtfs.store.damage_notes import DamageNotes
from ibtfs.store.leftovers import FENCED
from ibtfs.store.lock import parse_holder
from ibtfs.store.manifest_copies import ManifestCopies
from ibtfs.store.protection.sidecar import Sidecar
from ibtfs.store.removal.marking import mark_points
from ibtfs.store.repository import Repository
from ibtfs.store.storage.base import is_unfinished, token_of
from ibtfs.store.storage.bundle import name_of
from ibtfs.store.storage.bundles import Bundles
from ibtfs.store.writing.catalog import Catalog
from tests.support.memory import MemoryStorage
from tests.support.readers.base import (
    ARCHIVE,
    CODEC,
    REPOSITORY,
    WHERE,
    Frames,
    Reader,
    Shape,
    framed_file,
    frames_of,
    packed,
    value_of,
)
from tests.support.views import viewed_tree

POINT_TOKEN = (1, 2, 3, 4)
KEYS = PlainKeys(REPOSITORY)


@functools.cache
def scratch() -> Path:
    """A folder, in memory if no other is asked for, for readers of files.

    It goes when the process ends, unless that is ended by libFuzzer.
    """
    in_memory = "TMPDIR" not in os.environ and os.access("/dev/shm", os.W_OK)
    memory = "/dev/shm" if in_memory else None
    folder = Path(tempfile.mkdtemp(prefix="ibtfs-readers-", dir=memory))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def first_of(items: Iterator[Any], count: int) -> list[Any]:
    """The first of *items*; more are alike."""
    return list(itertools.islice(items, count))


def _all_of(archive: ArchiveReader, number: int, record: ContentRecord) -> None:
    """What a record leads to in its own archive."""
    if record.map_parts:
        list(archive.extents(number, record).ranges())
    if record.slabs >= 0:
        head_digest(archive, record)
    if record.length <= 1 << 20:
        pieces = archive.payload(record.stream, record.start, record.length)
        assert sum(map(len, pieces)) == record.length


def _own_id(frames: Frames) -> str:
    """The id of the archive whose index these are, as its header says."""
    for stream, _, count, raw in frames:
        if stream == HEADER and (body := unpack_bodies(raw, count, WHERE)[0]):
            return IndexHeader.decode(body, WHERE).archives[0]
    return ARCHIVE


def read_archive(data: bytes) -> None:
    """An archive whose index is all that it has: frames whose checksums are right."""
    frames = frames_of(value_of(data))
    archive_id = _own_id(frames)
    name = layout.archive_object(archive_id, layout.INDEX)
    file = framed_file(REPOSITORY, name, frames)
    storage: Any = MemoryStorage({f"{name}.1": file})
    archive = ArchiveReader(storage, KEYS, archive_id, ByteCache(1 << 20))
    assert archive.kinds
    failures = []
    for number, record in first_of(archive.contents(), 50):
        try:
            _all_of(archive, number, record)
        except IntegrityError as error:
            failures.append(error)
    for number in range(min(archive.header.states, 50)):
        try:
            archive.state(number)
        except IntegrityError as error:
            failures.append(error)
    if failures:
        raise failures[0]


def _made(folder: Path) -> Path:
    path = folder / "repository"
    if path.exists():
        shutil.rmtree(path)
    Repository.create(os.fsencode(path), REPOSITORY)
    return path


def read_repository(data: bytes) -> None:
    """A repository: manifests as values, and the frames of indexes, with checksums that are right.

    It is checked, marked as prune does, and all points are walked.
    """
    value = value_of(data)
    if not isinstance(value, tuple) or len(value) != 2:
        raise IbtfsError("no repository")
    manifests, indexes = value
    if not isinstance(manifests, tuple) or not isinstance(indexes, dict) or len(indexes) > 20:
        raise IbtfsError("no repository")
    archives: dict[str, Frames] = {}
    for name, frames in indexes.items():
        if is_archive_id(name):
            archives[name] = frames_of(frames)
    path = _made(scratch())
    for name, frames in archives.items():
        if frames:
            (path / layout.archive(name)).mkdir()
            base = layout.archive_object(name, layout.INDEX)
            (path / f"{base}.1").write_bytes(framed_file(REPOSITORY, base, frames))
    for manifest in manifests[:20]:
        _put_manifest(path, manifest)
    repository = Repository.open(os.fsencode(path))
    result = check(repository, read_data=True, observer=Observer())
    points = repository.points.all().points
    failures: list[IbtfsError] = []
    for point in points:
        _look(repository, point, failures)
    if (result.damages or failures) and not result.damages:
        raise AssertionError(f"check finds nothing, and there is {failures[0]}")
    mark_points(repository, [point.state for point in points])


def _put_manifest(path: Path, manifest: Any) -> None:
    point_id = manifest.get("id") if isinstance(manifest, dict) else None
    if isinstance(point_id, str) and POINT_ID_FORM.match(point_id):
        name = layout.point(point_id)
        stored = encode_object(KEYS, name, MANIFEST, packed(manifest), CODEC)
        (path / name).write_bytes(stored)


def _look(repository: Repository, point: Point, failures: list[IbtfsError]) -> None:
    try:
        viewed_tree(repository, point)
    except IbtfsError as error:
        failures.append(error)


def read_bundle(data: bytes) -> None:
    """A bundle with a directory of these values at both its ends."""
    name = layout.bundle("0123456789abcdef")
    key = object_key(REPOSITORY, name)
    frame = encode_frame(key, bundle._ADDRESS, data, CODEC)
    value = value_of(data)
    sizes = value["files"][3] if _has_sizes(value) else ()
    inside = min(sum(size for size in sizes if type(size) is int and size > 0), 1 << 16)
    label = tables.encode_trailer(key, REPOSITORY, tables.Trailer(tables.TRAILER_SIZE, len(frame)))
    offset = len(label) + len(frame) + inside
    trailer = tables.encode_trailer(key, REPOSITORY, tables.Trailer(offset, len(frame)))
    storage = MemoryStorage({name: label + frame + bytes(inside) + frame + trailer})
    bundles = Bundles(storage, REPOSITORY)
    for archive_id in bundles.archives():
        bundles.made(archive_id)
        for place in bundles.places(archive_id):
            file = f"{layout.archive(archive_id)}/{name_of(place.member)}"
            with bundles.open(file) as stored:
                assert len(stored.read(0, 100)) <= 100
    assert bool(bundles.damaged()) != bool(bundles.all())
    bundles.damages()


def _has_sizes(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("files"), tuple):
        return False
    return len(value["files"]) == 4 and isinstance(value["files"][3], tuple)


def read_sidecar(data: bytes) -> None:
    """A sidecar of a head of these values, before and behind blocks of parity, and what it says."""
    value = value_of(data)
    if not isinstance(value, tuple) or len(value) != 3 or type(value[1]) is not bytes:
        raise IbtfsError("no sidecar")
    body, checks, first = packed(value[0]), value[1], value[2]
    head = parity._HEAD.pack(parity.MAGIC, len(body)) + body
    head += blake3(head).digest(16)
    files = value[0].get("files") if isinstance(value[0], dict) else ()
    name = value[0].get("name") if isinstance(value[0], dict) else ""
    if type(name) is not str:
        name = "x"
    begin = first if type(first) is bytes else head
    stored = {name: begin + checks + head}
    for file in files if isinstance(files, tuple) else ():
        if isinstance(file, tuple) and file and type(file[0]) is str and file[0] != name:
            stored[file[0]] = b"some bytes that were not protected"
    storage: Any = MemoryStorage(stored)
    with Sidecar(storage, name) as sidecar:
        sidecar.is_intact()
        erased = sidecar.erased()
        assert sidecar.damaged(erased) is not None
        if sidecar.head.shape.columns * sidecar.head.shape.block <= 1 << 18:
            sidecar.restored(erased[:20])


def read_note(data: bytes) -> None:
    """A note of damage."""
    name = layout.damage_note("0-0")
    note = encode_object(KEYS, name, NOTE, data, CODEC)
    storage: Any = MemoryStorage({name: note})
    notes = DamageNotes(storage, KEYS, CODEC)
    found = notes._read(name)
    assert notes.all() == found


_OBJECT = struct.Struct("<HHHHI")  # version, flags, sizes of envelope, signature and frame


def read_object(data: bytes) -> None:
    """A small object whose head has a checksum that is right: what that says, and what follows."""
    head = objects.MAGIC + data[: _OBJECT.size]
    whole = head + blake3(head).digest(4) + data[_OBJECT.size :]
    envelope, frame, signature = objects.split_object(whole, WHERE)
    assert whole[objects.HEAD_SIZE :].startswith(envelope + frame + signature)
    raw = objects.decode_object(KEYS, "x", NOTE, whole, WHERE)
    again = encode_object(KEYS, "x", NOTE, raw, CODEC)
    assert objects.decode_object(KEYS, "x", NOTE, again, WHERE) == raw


def read_names(data: bytes) -> None:
    """Names as folders list them: what is taken for a name of ours is spelt as ours are."""
    for line in data.split(b"\n"):
        name = os.fsdecode(line[:255])
        file, sidecar = layout.parse_archive_file(name), layout.parse_parity(name)
        base = name.rpartition("/")[2]
        if file is not None:
            assert layout.archive_file("a.0", *file) == f"archives/a.0/{base}"
        if sidecar is not None:
            of = layout.archive_file("a.0", *sidecar.file)
            assert layout.parity(of, sidecar.share) == f"archives/a.0/{base}"
        if generation := layout.parse_points_parity(name):
            assert layout.points_parity(generation) == f"protection/{name}"
        if share := layout.parse_protection_mark(name):
            assert layout.protection_mark(share) == f"protection/{name}"
        holder = parse_holder(name)
        assert holder is None or holder.token == name[-8:]
        if is_unfinished(name):
            assert len(token_of(name)) <= 8
        FENCED.search(name)
        layout.archive_of(name)
        layout.is_bundle_id(name)
        layout.point_of(name)


def read_copies(data: bytes) -> None:
    """Copies of manifests in the cache, whose checksum is right."""
    value = value_of(data)
    folder = scratch() / "copies"
    folder.mkdir(exist_ok=True)
    (folder / f"{REPOSITORY.hex()}.points").write_bytes(blake3(data).digest() + data)
    rows = value[1] if isinstance(value, tuple) and len(value) > 1 else ()
    ids = [row[0] for row in rows if isinstance(row, tuple) and row] if _is_list(rows) else []
    copies = ManifestCopies(os.fsencode(folder), REPOSITORY)
    for point_id in [one for one in ids if type(one) is str] or [""]:
        found = copies.get(point_id, POINT_TOKEN)
        assert found is None or (found.id == point_id and pack(found.display))


def _is_list(value: Any) -> bool:
    return isinstance(value, tuple)


@functools.cache
def _empty_repository() -> Repository:
    folder = scratch() / "catalog"
    folder.mkdir()
    return Repository.open(os.fsencode(_made(folder)))


def read_catalog(data: bytes) -> None:
    """The local catalog: a file of SQLite's."""
    folder = scratch() / "cache"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / f"{REPOSITORY.hex()}.sqlite").write_bytes(data)
    with Catalog(_empty_repository(), os.fsencode(folder)) as catalog:
        found = [*catalog.contents(bytes(32), 0), *catalog.heads(bytes(24), 0)]
        catalog.may_lack()
    assert all(type(ref.number) is int and type(ref.archive) is str for ref in found)


OBJECTS: dict[str, Reader] = {
    "archive": Reader(read_archive),
    "bundle": Reader(read_bundle),
    "cached-manifests": Reader(read_copies),
    "catalog": Reader(read_catalog, Shape.BYTES),
    "names": Reader(read_names, Shape.TEXT),
    "note-of-damage": Reader(read_note),
    "repository": Reader(read_repository),
    "sidecar": Reader(read_sidecar),
    "small-object": Reader(read_object, Shape.BYTES),
}

"""Repositories whose checksums are right, and whose contents no backup would ever have written."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ibtfs.format import frames, tables
from ibtfs.format.compression import Codec
from ibtfs.format.entry import (
    HASH_SIZE,
    XATTRS_REF,
    Page,
    PageEntry,
    page_digest,
    pages_digest,
)
from ibtfs.format.extents import BASE, PART_RANGES
from ibtfs.format.frames import LARGE, LITERALS, MAPS, STATES
from ibtfs.format.index import ContentRecord, Reference
from ibtfs.format.packing import pack, unpack
from ibtfs.format.point import Point, Source
from ibtfs.store.archives.writer import ArchiveWriter, compression_pool
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import StateRef
from tests.support.plain import UNKEYED
from tests.support.plain import digest as digest_of

SECOND = 1_000_000_000
SOURCE = Source("host", b"/source", "source")
FOLDER, FILE = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o644


def archive_id(number: int) -> str:
    return f"20260101T000000Z_host_0000000000.{number}"


@contextmanager
def archive(repository: Repository, number: int) -> Iterator[ArchiveWriter]:
    """An archive to be written by hand; it is there when all is done."""
    with compression_pool() as pool:
        writer = ArchiveWriter(
            repository.storage, repository.keys, archive_id(number),
            epoch=0, codec=Codec(), pool=pool,
        )  # fmt: skip
        yield writer
        writer.finish()


def page_of(writer: ArchiveWriter, rows: Mapping[bytes, StateRef | None]) -> tuple[Page, bytes]:
    """A page of folders, and of empty files where there is None; and its digest."""
    names = sorted(rows)
    states = [rows[name] for name in names]
    stamps = tuple(
        (name, FOLDER if state else FILE, 0, 0, 0, SECOND, SECOND, 1, 1)
        for name, state in zip(names, states, strict=True)
    )
    refs = tuple(s and (writer.packed(s.ref), s.digest[:HASH_SIZE]) for s in states)
    page = Page(stamps, refs, {})
    return page, page_digest(page, [s and s.digest[:HASH_SIZE] for s in states], {}, UNKEYED)


def folder(writer: ArchiveWriter, rows: Mapping[bytes, StateRef | None]) -> StateRef:
    """A directory of one page."""
    page, digest = page_of(writer, rows)
    return StateRef(writer.add_page(page), digest)


def paged_folder(
    writer: ArchiveWriter, pages: Sequence[Mapping[bytes, StateRef | None]]
) -> StateRef:
    """A directory of several pages."""
    entries = []
    for rows in pages:
        page, digest = page_of(writer, rows)
        ref = writer.packed(writer.add_page(page))
        entries.append(PageEntry(ref, digest[:HASH_SIZE], len(rows), max(rows)))
    digest = pages_digest([entry.digest for entry in entries], UNKEYED)
    return StateRef(writer.add_pages(entries), digest)


def commit(repository: Repository, root: StateRef, sequence: int = 1, **fields: Any) -> Point:
    """A backup point of the tree *root*."""
    point = Point(
        id=f"20260101T0000{sequence:02}Z_host_0000000000", sequence=sequence, epoch=0,
        time_ns=sequence * SECOND, utc_offset=0, source=SOURCE, display="source",
        root=(b"", FOLDER, 0, 0, 0, SECOND, SECOND, 1, 1), state=root.ref, digest=root.digest,
        **fields,
    )  # fmt: skip
    repository.points.commit(point)
    return point


def entangled(repository: Repository) -> Point:
    """Two archives whose folders contain each other: ``a/b/a/b``, without an end."""
    first = StateRef(Reference(archive_id(1), 0), bytes(32))
    with archive(repository, 0) as writer:
        one = folder(writer, {b"a": first, b"file": None})
    with archive(repository, 1) as writer:
        folder(writer, {b"b": one, b"file": None})
    return commit(repository, one)


def doubling(
    writer: ArchiveWriter, levels: int, rows: Mapping[bytes, StateRef | None], width: int = 2
) -> StateRef:
    """A folder that has the same one *width* times, and so on, *levels* deep; then *rows*."""
    state = folder(writer, rows)
    for _ in range(levels):
        state = folder(writer, dict.fromkeys([b"%d" % n for n in range(width)], state))
    return state


def boundless(repository: Repository, levels: int = 66) -> Point:
    """A tree of few states and 2^*levels* files."""
    with archive(repository, 0) as writer:
        root = doubling(writer, levels, {b"file": None})
    return commit(repository, root)


def laborious(repository: Repository, folders: int = 3000, pages: int = 20_000) -> None:
    """Two points of a folder ``d`` in which each of many folders takes long to compare.

    All have the same two states; nothing is gone from the older one, and each page of it tells so.
    """
    with archive(repository, 0) as writer:
        states = []
        for digit in (1, 2):
            entries = []
            for number in range(pages):
                page, _ = page_of(writer, {b"%06d" % number: None})
                digest = number.to_bytes(HASH_SIZE, "big")[1:] + b"%d" % digit
                ref = writer.packed(writer.add_page(page))
                entries.append(PageEntry(ref, digest, 1, b"%06d" % number))
            inside = StateRef(writer.add_pages(entries), b"%d" % digit * 32)
            names = [b"%04d" % number for number in range(folders)]
            d = folder(writer, dict.fromkeys(names, inside))
            states.append(folder(writer, {b"d": d}))
    for sequence, root in enumerate(states, 1):
        commit(repository, root, sequence)


def fine_parts(size: int, shift: int) -> Iterator[bytes]:
    """The parts of a map of *size* ranges, each one byte from *shift* further on in the base."""
    for first in range(0, size, PART_RANGES):
        count = min(PART_RANGES, size - first)
        deltas = [0 if first else shift, *[0] * (count - 1)]
        yield pack((first, [1] * count, [BASE] * count, deltas))


def chained(repository: Repository, fine: int, levels: int = 6) -> Point:
    """A file whose chain has *fine* ranges a level, each of a byte."""
    with archive(repository, 0) as writer:
        size = fine + levels
        ref = Reference(writer.id, writer.add_whole(LARGE, digest_of(bytes(size)), bytes(size)))
        for depth in range(1, levels + 1):
            size -= 1
            parts = [writer._records[MAPS].append(body) for body in _lengthened(fine, size - fine)]
            record = ContentRecord(
                digest_of(bytes(size)), size, LITERALS, 0, 0,
                depth=depth, base=ref, map_first=parts[0], map_parts=len(parts),
            )  # fmt: skip
            ref = writer.add_content(record)
        stamp = (b"file", FILE, 0, 0, fine, SECOND, SECOND, 1, 1)
        page = Page((stamp,), (writer.packed(ref),), {})
        root = StateRef(
            writer.add_page(page), page_digest(page, [digest_of(bytes(fine))], {}, UNKEYED)
        )
    return commit(repository, root)


def _lengthened(fine: int, more: int) -> Iterator[bytes]:
    """Parts of a map of *fine* + *more* bytes, the last range of which is the longer one."""
    *parts, last = fine_parts(fine, 1)
    begin, lengths, codes, deltas = unpack(last, "")
    yield from parts
    yield pack((begin, [*lengths[:-1], 1 + more], codes, deltas))


def with_xattrs(repository: Repository, packed: bytes) -> Point:
    """An empty file whose extended attributes are *packed*."""
    with archive(repository, 0) as writer:
        number = writer.add_whole(LARGE, digest_of(packed), packed)
        stamp = (b"file", FILE, 0, 0, 0, SECOND, SECOND, 1, 1)
        page = Page((stamp,), (None,), {0: {XATTRS_REF: number}})
        digest = page_digest(page, [None], {0: digest_of(packed)}, UNKEYED)
        root = StateRef(writer.add_page(page), digest)
    return commit(repository, root)


def with_state(repository: Repository, body: bytes) -> Point:
    """A root whose directory state is *body*."""
    with archive(repository, 0) as writer:
        number = writer._records[STATES].append(body)
    return commit(repository, StateRef(Reference(archive_id(0), number), bytes(32)))


def with_table(repository: Repository, patch: Any, raw: bytes) -> Point:
    """An archive whose frame table is *raw*, be it as long as it may; *patch* as of pytest."""
    with patch.context() as during:
        during.setattr(frames, "TABLE_LIMIT", 64 << 20)
        during.setattr(tables, "encode_table", lambda *_: raw)
        with archive(repository, 0) as writer:
            root = folder(writer, {})
    return commit(repository, root)

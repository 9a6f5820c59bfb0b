"""Archives, read: records by number, payload bytes by logical address.

An archive is three files, ``data``, ``index`` and ``sigs``, each write-once.  A file may be
replaced by a later generation of itself, ``data.2``, that lacks what prune removed; numbers and
addresses stay.  So there is one rule for every read: who misses something lists the archive once
more, and if there are other generations than those at hand, tries once again.
"""

from __future__ import annotations

import bisect
import functools
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from ibtfs.errors import FormatDamaged, ObjectMissing, ObjectUnreadable, StorageFailed
from ibtfs.format.entry import Page, PageEntry, decode_state
from ibtfs.format.extents import ExtentMap, decode_parts
from ibtfs.format.frames import (
    CONTENTS,
    HEADER,
    MAPS,
    SLABS,
    STATES,
    STREAMS,
)
from ibtfs.format.index import (
    SHELL_DIGEST,
    ContentRecord,
    IndexHeader,
    decode_record,
    record_digest,
)
from ibtfs.format.keys import Keys
from ibtfs.format.packing import unpack_bodies
from ibtfs.store import layout
from ibtfs.store.archives.file import FrameFileReader
from ibtfs.store.archives.generations import (
    doubt,
    drops,
    expect,
    generations,
    is_far,
    known_generations,
    look_again,
)
from ibtfs.store.archives.payloads import Payloads
from ibtfs.store.cache import ByteCache
from ibtfs.store.storage.base import Storage

Value = TypeVar("Value")


class ArchiveReader:
    """The records and payloads of one archive; threads may share it.

    A new era of *cache* begins when later generations of its files count.
    """

    def __init__(self, storage: Storage, keys: Keys, archive_id: str, cache: ByteCache) -> None:
        self.id = archive_id
        self._storage, self._keys, self._cache = storage, keys, cache
        self._lock = threading.Lock()
        self._files: dict[str, FrameFileReader] = {}
        self._header: IndexHeader | None = None
        self._era = 0

    @property
    def where(self) -> str:
        """How messages name it."""
        return layout.archive(self.id)

    def _file(self, kind: str) -> FrameFileReader:
        name = layout.archive_object(self.id, kind)
        with self._lock:
            opened = self._files.get(kind)
            if opened is None:
                number = known_generations(self._storage, self.id).get(kind)
                if number is None:
                    number = generations(self._storage, self.id).get(kind)
                if number is None:
                    raise ObjectMissing(f"{name}: no such file in the repository")
                stored = self._storage.open(layout.archive_file(self.id, kind, number))
                try:
                    opened = FrameFileReader(self._keys, name, stored)
                except BaseException:
                    stored.close()
                    raise
                self._files[kind] = opened
            return opened

    def file(self, kind: str) -> FrameFileReader:
        """One of the archive's files, for check.  Raises ObjectMissing, FormatDamaged."""
        return self._again(lambda: self._file(kind))

    def _again(self, read: Callable[[], Value]) -> Value:
        """What *read* gives; on something missing, once more with the newest generations.

        So also on what an open file does not give: its disk may have gone, and have come back as
        another device.  And on damage, if the open file has no name any more: it may have been
        healed, by another one in its place.  Everything that reads goes through this.
        """
        era, before = self._era, drops(self._storage, self.id)
        try:
            return read()
        except (ObjectMissing, ObjectUnreadable, StorageFailed, FormatDamaged) as error:
            if isinstance(error, FormatDamaged):
                if not (doubt(self._storage, self.id, before) or self._has_removed()):
                    raise
            elif isinstance(error, ObjectMissing):
                if era == self._era and self._files and not self.is_outdated():
                    raise
            elif not self._files:
                raise
            self.refresh()
            return read()

    def refresh(self) -> None:
        """Drop open files and what is cached of them, so that newer generations are seen."""
        look_again(self._storage, self.id)
        with self._lock:
            if not self._files:
                return
            self._files, self._header = {}, None  # the last reader of an old one closes it
            self._era += 1
        self._cache.begin_era()
        self._cache.drop(lambda key: isinstance(key, tuple) and key[0] == self.id)

    def is_outdated(self) -> bool:
        """Whether files that are open have later generations now, or are gone."""
        with self._lock:
            opened = dict(self._files)
        if not opened:
            return False
        newest = generations(self._storage, self.id)
        return any(
            newest.get(kind) != file.generation or file.is_gone() for kind, file in opened.items()
        )

    @property
    def is_open(self) -> bool:
        """Whether any of its files is open."""
        return bool(self._files)

    def drop_removed(self) -> None:
        """Let go of files that have no name any more: open, they would keep their room.

        Far away, of those that were replaced when the archive was listed last.
        """
        if self._is_older() if is_far(self._storage) else self._has_removed():
            self.refresh()

    def _is_older(self) -> bool:
        if not self.is_open:
            return False
        newest = known_generations(self._storage, self.id)
        with self._lock:
            return any(newest.get(kind) != file.generation for kind, file in self._files.items())

    def _has_removed(self) -> bool:
        with self._lock:
            return any(file.is_removed for file in self._files.values())

    @property
    def header(self) -> IndexHeader:
        """What the archive says of itself.  Raises ObjectMissing, FormatDamaged."""
        if self._header is None:
            self._header = self._read_header()
        return self._header

    def require_header(self) -> None:
        """Raise ObjectMissing or FormatDamaged unless :attr:`header` can be read."""
        if self._header is None:
            self._header = self._read_header()

    @property
    def generation(self) -> int:
        """That of the index that is read.  Raises ObjectMissing, FormatDamaged."""
        return self.file(layout.INDEX).generation

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of files that the archive has.  Raises ObjectMissing, FormatDamaged."""
        header = self.header
        has = {layout.DATA: header.has_data, layout.SIGS: header.has_sigs, layout.INDEX: True}
        return tuple(kind for kind in layout.KINDS if has[kind])

    def _read_header(self) -> IndexHeader:
        where = f"{layout.archive_object(self.id, layout.INDEX)}: header"
        bodies = self._again(lambda: self._bodies(layout.INDEX, HEADER, 0))[1]
        if bodies[0] is None:
            raise FormatDamaged(f"{where}: missing")
        header = IndexHeader.decode(bodies[0], where)
        if header.archives[0] != self.id:
            raise FormatDamaged(f"{where}: is the index of {header.archives[0]}")
        expect(self._storage, header.archives)
        return header

    def _bodies(self, kind: str, stream: int, number: int) -> tuple[int, tuple[bytes | None, ...]]:
        """The first number, and the bodies, of the frame that holds record *number*."""
        opened = self._file(kind)
        table = opened.table(stream)
        row = table.find(number)
        if row < 0:
            name = STREAMS[stream]
            raise ObjectMissing(f"{opened.name}: holds no record {number} of the {name}")
        start = table.starts[row]

        def load() -> tuple[bytes | None, ...]:
            where = f"{opened.name}: {STREAMS[stream]} from {start}"
            return unpack_bodies(opened.frame(stream, row).raw, table.counts[row], where)

        def weigh(bodies: tuple[bytes | None, ...]) -> int:
            return sum(map(len, filter(None, bodies))) + 50 * len(bodies)

        key = (self.id, stream, start, opened.generation)
        return start, self._cache.get(key, load, weigh)

    def body(self, stream: int, number: int) -> bytes:
        """The body of record *number* of a record stream.  Raises ObjectMissing if it is gone."""

        def read() -> bytes:
            kind = self._record_kind(stream, number)
            start, bodies = self._bodies(kind, stream, number)
            body = bodies[number - start]
            if body is None:
                name = STREAMS[stream]
                raise ObjectMissing(f"{self.where}/{kind}: record {number} of the {name} is gone")
            return body

        return self._again(read)

    def content(self, number: int) -> ContentRecord:
        """Content record *number*.  Raises ObjectMissing, FormatDamaged."""
        where = f"{self.where}/index: content {number}"
        era = -1
        while era != self._era:
            # of one generation: the next may refer to archives that this one does not know
            era = self._era
            body, header = self.body(CONTENTS, number), self.header
        return decode_record(body, header, where)

    def content_digest(self, number: int) -> bytes:
        """The digest of content *number*.  Raises ObjectMissing, FormatDamaged."""
        digest = record_digest(self.body(CONTENTS, number)) or self.content(number).digest
        if digest == SHELL_DIGEST:
            raise ObjectMissing(f"{self.where}/index: content {number} is gone but for its payload")
        return digest

    def contents(self) -> Iterator[tuple[int, ContentRecord]]:
        """All content records that are left, with their numbers, in order."""
        for number, body in self.content_bodies():
            where = f"{self.where}/index: content {number}"
            yield number, decode_record(body, self.header, where)

    def content_bodies(self) -> Iterator[tuple[int, bytes]]:
        """The bodies of all content records that are left; none is lost by a new generation."""
        number = 0
        while found := self._again(functools.partial(self._contents_from, number)):
            start, bodies = found
            for place, body in enumerate(bodies, start):
                if body is not None and place >= number:
                    yield place, body
            number = start + len(bodies)

    def _contents_from(self, number: int) -> tuple[int, tuple[bytes | None, ...]] | None:
        """The frame with content record *number*, or with the next that is left, if any is."""
        table = self._file(layout.INDEX).table(CONTENTS)
        row = table.find(number)
        if row < 0:
            row = bisect.bisect_left(table.starts, number)
        if row == len(table.starts):
            return None
        return self._bodies(layout.INDEX, CONTENTS, table.starts[row])

    def state(self, number: int) -> Page | tuple[PageEntry, ...]:
        """Directory state, or page, *number*.  Raises ObjectMissing, FormatDamaged."""
        return decode_state(self.body(STATES, number), f"{self.where}/index: state {number}")

    def state_bytes(self, number: int) -> int:
        """The packed size of a directory state.  Raises as :meth:`state`."""
        return len(self.body(STATES, number))

    def extents(self, number: int, record: ContentRecord) -> ExtentMap:
        """The extent map of content *number*, which must have one; not kept, for chains are."""
        first = record.map_first
        bodies = (self.body(MAPS, part) for part in range(first, first + record.map_parts))
        where = f"{self.where}/index: extent map of content {number}"
        return decode_parts(bodies, record.size, len(record.donors), where)

    def payload(self, stream: int, start: int, length: int) -> list[memoryview]:
        """The *length* bytes of a data stream from *start*, in pieces.

        Raises ObjectMissing if some of them were pruned, FormatDamaged.
        """
        return self._again(lambda: self._payloads().read(stream, start, length))

    def frame_at(self, stream: int, address: int) -> tuple[int, memoryview] | None:
        """The frame of a data stream that holds *address*: where it begins, and its bytes.

        None of one from which some were pruned.  Raises as :meth:`payload`.
        """
        return self._again(lambda: self._payloads().frame_at(stream, address))

    def _payloads(self) -> Payloads:
        return Payloads(self.id, self._file(self._data_kind()), self._cache)

    def _data_kind(self) -> str:
        """The file that has the payloads: the index, if they are small enough to lie in it."""
        return layout.DATA if self.header.has_data else layout.INDEX

    def _record_kind(self, stream: int, number: int) -> str:
        """The file that has record *number* of *stream*.

        A later generation of the index may have records of the SigVault beside those of sigs.
        """
        if stream < SLABS or not self.header.has_sigs:
            return layout.INDEX
        is_inside = self._file(layout.INDEX).table(stream).find(number) >= 0
        return layout.INDEX if is_inside else layout.SIGS

    def covers(self, stream: int, start: int, length: int) -> bool:
        """Whether the file that should have these payload bytes has frames that hold them.

        Raises ObjectMissing, FormatDamaged.
        """
        return self._again(lambda: self._payloads().covers(stream, start, length))

    def may_hold(self, digest: bytes) -> Iterator[int]:
        """The numbers of the contents with *digest*; reads the index's records and decodes few."""
        return (number for number, body in self.content_bodies() if digest in body)

    def close(self) -> None:
        """Close the archive's files."""
        with self._lock:
            for opened in self._files.values():
                opened.close()
            self._files.clear()

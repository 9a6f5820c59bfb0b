"""Archives, read: records by number, payload bytes by logical address.

An archive is three files, ``data``, ``index`` and ``sigs``, each write-once, that later generations
may replace; numbers and addresses stay.
"""

from __future__ import annotations

import bisect
import functools
from collections.abc import Iterator
from dataclasses import replace

from ibtfs.errors import FormatDamaged, ObjectMissing, UnsupportedFormat
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
from ibtfs.store.archives.generations import expect
from ibtfs.store.archives.open_files import OpenFiles
from ibtfs.store.archives.own_limits import OwnRecords, require_own
from ibtfs.store.archives.payloads import Payloads
from ibtfs.store.cache import ByteCache
from ibtfs.store.listed import Lists
from ibtfs.store.storage.base import Storage


class ArchiveReader(OpenFiles):
    """The records and payloads of one archive; threads may share it."""

    def __init__(
        self, storage: Storage, keys: Keys, archive_id: str, cache: ByteCache,
        lists: Lists | None = None,
    ) -> None:  # fmt: skip
        super().__init__(storage, keys, archive_id, cache, lists)
        self._header: IndexHeader | None = None

    def _forget(self) -> None:
        self._header = None

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
        index = self.file(layout.INDEX)
        require_own(header, index, where)
        expect(self._storage, header.archives)
        if index.frames.author is None:
            return header
        sigs = functools.partial(self.file, layout.SIGS) if header.has_sigs else None
        return replace(header, within=OwnRecords(header, index, sigs))

    @property
    def author(self) -> str:
        """What tells the machine that made it and can read nothing, if one did.

        Raises ObjectMissing, FormatDamaged.
        """
        author = self.file(layout.INDEX).frames.author
        return author.tag if author else ""

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
        where = f"{self.where}/index: state {number}"
        try:
            return decode_state(self.body(STATES, number), where)
        except UnsupportedFormat as error:
            if self.author:  # else a machine that only writes could keep all others from being read
                raise FormatDamaged(str(error)) from error
            raise

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

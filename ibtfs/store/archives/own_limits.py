"""What the archive of a machine that only writes may say of itself: no more than it holds.

Whoever prunes takes room and time by the numbers in it, and must not for what is not there.
"""

from __future__ import annotations

from collections.abc import Callable

from ibtfs.errors import FormatDamaged, IntegrityError
from ibtfs.format.digests import SLAB
from ibtfs.format.frames import CONTENTS, MAPS, SLABS, STATES, STREAMS
from ibtfs.format.index import ContentRecord, IndexHeader
from ibtfs.store.archives.file import FrameFileReader

OWN_EPOCH_LIMIT = 1 << 31
"""For machines that only write: who has all keys can still count on."""
RECORDS_A_BYTE = 8
"""Of a file at most; those that a backup makes are longer than a byte, however they compress."""
SLABS_BYTES = SLAB << 16
"""Of a content: a record of the SigVault is of so many at most."""
_RECORDS = (CONTENTS, STATES, MAPS, SLABS)


def require_few(file: FrameFileReader) -> None:
    """Raise FormatDamaged if *file*, made by such a machine, claims more records than it holds."""
    if file.frames.author is None or file.generation > 1:
        return  # of a later one, who has all keys has looked at the first
    most = max((file.table(stream).end for stream in _RECORDS), default=0)
    if most > RECORDS_A_BYTE * file.size:
        raise FormatDamaged(f"{file.name}: has more records than there is room for")


def require_own(header: IndexHeader, index: FrameFileReader, where: str) -> None:
    """Raise FormatDamaged if the *header* of an *index* says more than its machine may."""
    frames = index.frames
    if not all(frames.may_refer(name) for name in header.archives if name):
        raise FormatDamaged(f"{where}: leads to what others stored, and its machine may not")
    if frames.author is None:
        return
    if header.epoch > OWN_EPOCH_LIMIT:
        raise FormatDamaged(f"{where}: an epoch beyond those that its machine may give")
    if index.generation > 1:
        return
    ends = (index.table(CONTENTS).end, index.table(STATES).end)
    if (header.contents, header.states) != ends or len(header.archives) > index.size or header.ends:
        raise FormatDamaged(f"{where}: says more of the archive than there is")


class OwnRecords:
    """Looks at the content records of the archive of such a machine.

    *file* gives one of its files, by kind; *sigs* are those that may have records of the SigVault.
    """

    def __init__(
        self,
        header: IndexHeader,
        index: FrameFileReader,
        sigs: Callable[[], FrameFileReader] | None,
    ) -> None:
        self._ends, self._index, self._sigs = header.ends, index, sigs
        self._has_data = header.has_data
        self._slabs = -1

    def __call__(self, record: ContentRecord, where: str) -> ContentRecord:
        """The *record*, without digests of slabs if these cannot be told.  Raises FormatDamaged."""
        if record.map_parts and record.map_first + record.map_parts > self._end(MAPS):
            raise FormatDamaged(f"{where}: an extent map that is not there")
        is_here = not self._has_data
        if is_here and record.start + record.length > self._end(record.stream):
            raise FormatDamaged(f"{where}: a payload that is not there")
        if record.slabs >= 0:
            try:
                end = self._end_of_slabs()
            except IntegrityError:
                return record._replace(slabs=-1)
            if record.slabs - (-record.size // SLABS_BYTES) > end:
                raise FormatDamaged(f"{where}: digests of slabs that are not there")
        return record

    def _end(self, stream: int) -> int:
        return max(self._index.table(stream).end, self._ends.get(STREAMS[stream], 0))

    def _end_of_slabs(self) -> int:
        if self._slabs < 0:
            end = self._end(SLABS)
            self._slabs = end if self._sigs is None else max(end, self._sigs().table(SLABS).end)
        return self._slabs

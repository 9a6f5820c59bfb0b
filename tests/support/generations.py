"""Later generations of files of archives that hold what the earlier ones did."""

from __future__ import annotations

from pathlib import Path

from ibtfs.format.compression import Codec
from ibtfs.format.keys import PlainKeys
from ibtfs.format.tables import TRAILER_SIZE, encode_end
from ibtfs.store.archives.file import FrameFileReader
from tests.support.memory import BytesObject

REPOSITORY = slice(24, 40)
"""Where a trailer has the id of its repository."""


def put_generation(path: Path, generation: int) -> Path:
    """Beside the file of an archive at *path* the same frames as another *generation*: its path."""
    data, name = path.read_bytes(), str(path.relative_to(path.parents[2]))
    keys = PlainKeys(data[-TRAILER_SIZE:][REPOSITORY])
    key_name = name.rpartition(".")[0]
    file = FrameFileReader(keys, key_name, BytesObject(data, name))
    ends = [o + s for table in file.tables.values() for o, s in zip(table.offsets, table.sizes)]
    begin = max(ends, default=0)
    end = encode_end(
        file.frames, keys.repository, file.tables, begin, Codec(), generation=generation
    )
    later = path.with_name(f"{path.name.partition('.')[0]}.{generation}")
    later.write_bytes(data[:begin] + end)
    return later

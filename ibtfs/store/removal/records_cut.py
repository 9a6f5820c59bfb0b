"""What is freed of frames of records if only some of the records stay.

A frame that goes counts whole.  One that loses some loses their share of its bytes, as far as that
holds: what is left of the first frames, and of one in four behind them, is compressed again, to see
by how much it is out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ibtfs.format.compression import Codec
from ibtfs.format.frames import STREAMS, Address
from ibtfs.format.packing import pack_bodies, unpack_bodies
from ibtfs.store.archives.file import FrameFileReader
from ibtfs.store.removal.payloads_cut import Loss
from ibtfs.store.removal.shares import HEAD

MEASURED_FIRST, MEASURED_OF = 16, 4
"""Frames of a file that are all compressed; behind them, one of so many."""
Numbers = set[int] | bytearray
"""Numbers of records, or a 1 in the place of each."""


def records_freed(file: FrameFileReader, kept: Mapping[int, Numbers], codec: Codec) -> Loss:
    """What a file loses if only *kept* records stay, by stream; bytes.  Raises FormatDamaged."""
    freed = lost = 0
    for stream, numbers in kept.items():
        loss = _stream_freed(file, stream, numbers, codec)
        freed, lost = freed + loss.freed, lost + loss.lost
    return Loss(freed, lost)


def _stream_freed(file: FrameFileReader, stream: int, kept: Numbers, codec: Codec) -> Loss:
    table = file.table(stream)
    whole = lost = parts = 0
    shares = measured = measured_shares = 0.0
    for row, (start, count) in enumerate(zip(table.starts, table.counts)):
        flags = _flags(kept, start, count)
        if all(flags):
            continue
        if not any(flags):
            whole += table.sizes[row]
            lost += table.sizes[row]
            continue
        where = f"{file.name}: {STREAMS[stream]} from {start}"
        bodies = unpack_bodies(file.frame(stream, row).raw, count, where)
        sizes = [len(body) + HEAD if body is not None else 0 for body in bodies]
        gone = sum(size for size, flag in zip(sizes, flags) if not flag)
        if not gone:
            continue
        lost += gone
        share = table.sizes[row] * gone / sum(sizes)
        shares += share
        if parts < MEASURED_FIRST or parts % MEASURED_OF == 0:
            rest = [body if flag else None for body, flag in zip(bodies, flags)]
            address = Address(stream, start, count)
            size = file.encoded_size(address, pack_bodies(rest), codec)
            measured += table.sizes[row] - size
            measured_shares += share
        parts += 1
    if parts:
        whole += round(shares * measured / measured_shares)
    return Loss(whole, lost)


def _flags(kept: Numbers, start: int, count: int) -> Sequence[int | bool]:
    if isinstance(kept, bytearray):
        return kept[start : start + count]
    return [number in kept for number in range(start, start + count)]

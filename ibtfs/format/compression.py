"""How frames are compressed: the only importer of zstandard."""

from __future__ import annotations

import threading

import zstandard

from ibtfs.errors import FormatDamaged, UnsupportedFormat

RAW, ZSTD = 0, 1
"""Codecs."""
SMALL_FRAME = 128 << 10


class _Compressors(threading.local):
    """The compressors of each thread, by level."""

    def __init__(self) -> None:
        self.by_level: dict[int, zstandard.ZstdCompressor] = {}


class Codec:
    """Compresses frames at zstd's level *level*; one object serves many threads."""

    def __init__(self, level: int = 1) -> None:
        self._level, self._compressors = level, _Compressors()

    def compress(self, raw: bytes | memoryview, least: int = 0) -> tuple[int, bytes | memoryview]:
        """The codec chosen for *raw*, and its stored bytes; at level *least* at the least."""
        level, known = max(self._level, least), self._compressors.by_level
        compressor = known.get(level)
        if compressor is None:
            # no content size inside: the frame's head says it, and a reader trusts only that
            compressor = zstandard.ZstdCompressor(level=level, write_content_size=False)
            known[level] = compressor
        packed: bytes = compressor.compress(raw)
        return (ZSTD, packed) if len(packed) < len(raw) else (RAW, raw)


class _Decompressors(threading.local):
    """A decompressor for each thread: making one takes longer than a small frame does."""

    def __init__(self) -> None:
        self.small = zstandard.ZstdDecompressor().decompress


_DECOMPRESSORS = _Decompressors()


def decompress(codec: int, stored: memoryview, raw_size: int, where: str) -> bytes:
    """The *raw_size* bytes that were *stored*.  Raises FormatDamaged."""
    if codec == RAW:
        raw = bytes(stored)
    elif codec == ZSTD:
        try:
            told = zstandard.frame_content_size(stored)
            if told not in (-1, raw_size):
                raise FormatDamaged(f"{where}: would be {told} bytes, not {raw_size}")
            # one keeps a buffer as large as its largest frame: too much for each of many threads
            small = raw_size <= SMALL_FRAME
            decompress = _DECOMPRESSORS.small if small else zstandard.ZstdDecompressor().decompress
            raw = decompress(stored, max_output_size=raw_size)
        except (zstandard.ZstdError, ValueError) as error:
            raise FormatDamaged(f"{where}: does not decompress ({error})") from error
    else:
        raise UnsupportedFormat(f"{where}: codec {codec} is not known here: upgrade ibtfs")
    if len(raw) != raw_size:
        raise FormatDamaged(f"{where}: {len(raw)} bytes where {raw_size} were expected")
    return raw

"""The delta format of librsync and rdiff, and lists of matches, without the C library.

This module owns the bytes of a delta file as ``rdiff delta`` writes and ``rdiff patch`` reads
them (magic ``rs\\x026``, then commands, each one byte and up to two big-endian numbers), and what
one can do with a list of matches when both contents are at hand.  Making matches from signatures
is ``format/rsync``.

A match is *(base_offset, new_offset, length)*: *length* bytes of the new content that are equal
to the base's at *base_offset*, or that the base has not when *base_offset* is ``LITERAL``.  A list
of them is in order of *new_offset*, without gaps and without empty ones.

Everything here is a pure function, safe from any thread.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator

from ibtfs.errors import FormatDamaged

Match = tuple[int, int, int]
Data = bytes | bytearray | memoryview

LITERAL = -1
"""The *base_offset* of bytes that are not in the base."""

MAGIC = b"rs\x026"
_END = 0
_SHORT_LITERAL = 64  # commands 1 to 64 are literals of that many bytes
_LITERAL_N1 = 65  # 65 to 68: the length in 1, 2, 4, 8 bytes
_COPY_N1_N1 = 69  # 69 to 84: offset, then length, each in 1, 2, 4, 8 bytes
_MAX_NUMBER = (1 << 63) - 1  # librsync's offsets are signed
_MAX_LITERAL = 1 << 20  # longer ones are written as several commands, to bound memory

_NUMBERS = tuple(struct.Struct(">" + code) for code in "BHIQ")
_PAIRS = tuple(struct.Struct(">" + where + size) for where in "BHIQ" for size in "BHIQ")


def parse_delta(delta: Data) -> list[Match]:
    """Return the matches that *delta* says, neighbours joined where they continue each other.

    Raises FormatDamaged for anything that is not exactly one whole delta.
    """
    matches: list[Match] = []
    last_base, last_new, last_size, new_offset = 0, 0, 0, 0
    for base_offset, _, size in _commands(delta):
        if last_size and (
            base_offset == last_base + last_size
            if base_offset >= 0 <= last_base
            else base_offset == last_base
        ):
            last_size += size
        else:
            if last_size:
                matches.append((last_base, last_new, last_size))
            last_base, last_new, last_size = base_offset, new_offset, size
        new_offset += size
    if last_size:
        matches.append((last_base, last_new, last_size))
    return matches


def apply_delta(base: Data, delta: Data) -> bytes:
    """Return the new content that *delta* makes of *base*.

    Raises FormatDamaged if *delta* is no delta, or copies from outside *base*.
    """
    view = memoryview(base)
    return b"".join(patched(lambda at, size: view[at : at + size], len(view), (delta,)))


def patched(
    base: Callable[[int, int], Data], base_size: int, delta: Iterable[Data]
) -> Iterator[Data]:
    """Yield what ``apply_delta`` returns, at most 1 MiB at a time; nothing is whole in memory.

    *base* returns *length* bytes from *offset* of a base of *base_size* bytes; *delta* comes in
    pieces of any size.  Raises FormatDamaged as ``apply_delta`` does, when it comes to that.
    """
    stream = _Stream(delta)
    if stream.take(len(MAGIC)) != MAGIC:
        raise FormatDamaged("Delta does not begin with the magic of a delta")
    while command := stream.take(1)[0]:
        if command < _COPY_N1_N1:
            wide = command > _SHORT_LITERAL
            number = (
                stream.take(_NUMBERS[command - _LITERAL_N1].size) if wide else bytes((command,))
            )
            size = int.from_bytes(number, "big")
            if not size:
                raise FormatDamaged("Delta has an empty literal")
            yield from stream.run(size)
            continue
        pair = _PAIRS[min(command - _COPY_N1_N1, len(_PAIRS) - 1)]
        first, size, _ = _read_copy(stream.take(pair.size), command, 0)
        if first + size > base_size:
            raise FormatDamaged(
                f"Delta copies {size} bytes from offset {first}, but its base has {base_size}"
            )
        for offset in range(first, first + size, _MAX_LITERAL):
            yield base(offset, min(_MAX_LITERAL, first + size - offset))
    if not stream.is_over:
        raise FormatDamaged("Delta goes on after its end")


def encode_delta(matches: Iterable[Match], new: Data | Callable[[int, int], Data]) -> bytes:
    """Return the delta that says *matches*; its literals come from *new*.

    *new* is the whole new content, or a function that returns *length* bytes of it from
    *offset*.  Raises ValueError if *matches* leave a gap or *new* is too short.
    """
    return b"".join(delta_pieces(matches, new))


def delta_pieces(
    matches: Iterable[Match], new: Data | Callable[[int, int], Data]
) -> Iterator[Data]:
    """Yield what ``encode_delta`` returns piece by piece, so that it need never be in memory.

    A literal is asked for at most 1 MiB at a time.
    """
    literal = new if callable(new) else _slicer(new)
    yield MAGIC
    expected = 0
    for base_offset, new_offset, size in matches:
        if new_offset != expected or size <= 0:
            raise ValueError(f"Matches are not contiguous at offset {expected} of the new content")
        if base_offset == LITERAL:
            yield from _literal_pieces(literal, new_offset, size)
        else:
            yield _copy_command(base_offset, size)
        expected += size
    yield bytes((_END,))


def refine(matches: Iterable[Match], base: bytes, new: bytes) -> list[Match]:
    """Return *matches* with fewer and shorter literals and fewer copies, byte by byte.

    A copy is grown forwards and backwards over the literals beside it while the bytes of *base*
    and *new* agree, and goes on over the next copy where the base has those bytes in sequence as
    well (else 64 KiB of zeros are a thousand copies of one block).  The idea is xdelta's; librsync
    itself matches whole blocks only.  Copies are believed, not compared.
    """
    grown: list[Match] = []
    for match in matches:
        (_add_literal if match[0] == LITERAL else _add_copy)(grown, base, new, match)
    return grown


def common_prefix(a: bytes, b: bytes) -> int:
    """Return how many bytes *a* and *b* have in common at their start."""
    low, high = 0, min(len(a), len(b))
    step = 64
    while low + step < high and a[low : low + step] == b[low : low + step]:
        low += step
        step *= 2
    high = min(high, low + step)
    while high - low > 64:
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    differing = int.from_bytes(a[low:high], "little") ^ int.from_bytes(b[low:high], "little")
    return low + ((differing & -differing).bit_length() - 1 >> 3) if differing else high


def common_suffix(a: bytes, b: bytes) -> int:
    """Return how many bytes *a* and *b* have in common at their end."""
    low, high = 0, min(len(a), len(b))
    end_a, end_b = len(a), len(b)
    step = 64
    while low + step < high and (
        a[end_a - low - step : end_a - low] == b[end_b - low - step : end_b - low]
    ):
        low += step
        step *= 2
    high = min(high, low + step)
    while high - low > 64:
        middle = (low + high) // 2
        if a[end_a - middle : end_a - low] == b[end_b - middle : end_b - low]:
            low = middle
        else:
            high = middle
    tail_a, tail_b = a[end_a - high : end_a - low], b[end_b - high : end_b - low]
    differing = int.from_bytes(tail_a, "big") ^ int.from_bytes(tail_b, "big")
    return low + ((differing & -differing).bit_length() - 1 >> 3) if differing else high


class _Stream:
    """Bytes that come in pieces, taken one after the other."""

    def __init__(self, pieces: Iterable[Data]) -> None:
        self._pieces = filter(len, pieces)
        self._data = memoryview(b"")

    def run(self, size: int) -> Iterator[memoryview]:
        """The next *size* bytes, as they came.  Raises FormatDamaged if there are not so many."""
        while size:
            if self.is_over:
                raise FormatDamaged("Delta is cut short")
            part = self._data[:size]
            self._data, size = self._data[len(part) :], size - len(part)
            yield part

    def take(self, size: int) -> bytes:
        """The next *size* bytes.  Raises FormatDamaged if there are not so many."""
        return b"".join(self.run(size))

    @property
    def is_over(self) -> bool:
        """Whether nothing is left."""
        if not self._data:
            self._data = memoryview(next(self._pieces, b""))
        return not self._data


def _commands(delta: Data) -> Iterator[tuple[int, int, int]]:
    """Yield *(base_offset or LITERAL, offset of the literal's bytes in delta, size)*."""
    if bytes(delta[:4]) != MAGIC:
        raise FormatDamaged("Delta does not begin with the magic of a delta")
    at, end = 4, len(delta)
    while at < end:
        command = delta[at]
        at += 1
        if command == _END:
            if at != end:
                raise FormatDamaged(f"Delta goes on for {end - at} bytes after its end")
            return
        if command >= _COPY_N1_N1:
            base_offset, size, at = _read_copy(delta, command, at)
            yield base_offset, at, size
        else:
            size, at = _read_literal(delta, command, at)
            yield LITERAL, at, size
            at += size
    raise FormatDamaged("Delta is cut short")


def _read_copy(delta: Data, command: int, at: int) -> tuple[int, int, int]:
    if command > _COPY_N1_N1 + 15:
        raise FormatDamaged(f"Delta has the unknown command {command} at offset {at - 1}")
    pair = _PAIRS[command - _COPY_N1_N1]
    if at + pair.size > len(delta):
        raise FormatDamaged("Delta is cut short")
    base_offset, size = pair.unpack_from(delta, at)
    if not size or base_offset + size > _MAX_NUMBER:
        raise FormatDamaged(f"Delta has an impossible copy at offset {at - 1}")
    return base_offset, size, at + pair.size


def _read_literal(delta: Data, command: int, at: int) -> tuple[int, int]:
    size = command
    if command > _SHORT_LITERAL:
        number = _NUMBERS[command - _LITERAL_N1]
        if at + number.size > len(delta):
            raise FormatDamaged("Delta is cut short")
        (size,) = number.unpack_from(delta, at)
        at += number.size
    if not size:
        raise FormatDamaged("Delta has an empty literal")
    if at + size > len(delta):
        raise FormatDamaged("Delta is cut short")
    return size, at


def _slicer(new: Data) -> Callable[[int, int], Data]:
    view = memoryview(new)
    return lambda offset, size: view[offset : offset + size]


def _literal_pieces(
    literal: Callable[[int, int], Data], new_offset: int, size: int
) -> Iterator[Data]:
    for offset in range(new_offset, new_offset + size, _MAX_LITERAL):
        length = min(_MAX_LITERAL, new_offset + size - offset)
        data = literal(offset, length)
        if len(data) != length:
            raise ValueError(f"New content is shorter than its matches say, at offset {offset}")
        yield _literal_command(length)
        yield data


def _literal_command(size: int) -> bytes:
    if size <= _SHORT_LITERAL:
        return bytes((size,))
    width = _width(size)
    return bytes((_LITERAL_N1 + width,)) + _NUMBERS[width].pack(size)


def _copy_command(base_offset: int, size: int) -> bytes:
    kind = 4 * _width(base_offset) + _width(size)
    return bytes((_COPY_N1_N1 + kind,)) + _PAIRS[kind].pack(base_offset, size)


def _width(number: int) -> int:
    """Return which of 1, 2, 4, 8 bytes hold *number*, as 0 to 3."""
    if not 0 <= number <= _MAX_NUMBER:
        raise ValueError(f"{number} is no offset or length of a delta")
    return (number > 0xFF) + (number > 0xFFFF) + (number > 0xFFFFFFFF)


def _add_literal(grown: list[Match], base: bytes, new: bytes, literal: Match) -> None:
    """Append *literal*, less what the copy before it can take over at its start."""
    _, new_offset, size = literal
    if grown:
        last_base, last_new, last_size = grown[-1]
        if last_base == LITERAL:
            grown[-1] = (LITERAL, last_new, last_size + size)
            return
        base_end = last_base + last_size
        taken = common_prefix(base[base_end : base_end + size], new[new_offset : new_offset + size])
        if taken:
            grown[-1] = (last_base, last_new, last_size + taken)
            new_offset += taken
            size -= taken
    if size:
        grown.append((LITERAL, new_offset, size))


def _add_copy(grown: list[Match], base: bytes, new: bytes, copy: Match) -> None:
    """Append *copy*, which first takes over what it can of the literal before it."""
    base_offset, new_offset, size = copy
    if grown and grown[-1][0] == LITERAL:
        _, last_new, last_size = grown.pop()
        taken = common_suffix(
            base[max(0, base_offset - last_size) : base_offset], new[last_new:new_offset]
        )
        base_offset, new_offset, size = base_offset - taken, new_offset - taken, size + taken
        if taken < last_size:
            grown.append((LITERAL, last_new, last_size - taken))
            grown.append((base_offset, new_offset, size))
            return
    if grown:
        last_base, last_new, last_size = grown[-1]
        base_end = last_base + last_size
        if base_end == base_offset or (
            base[base_end : base_end + size] == new[new_offset : new_offset + size]
        ):
            grown[-1] = (last_base, last_new, last_size + size)
            return
    grown.append((base_offset, new_offset, size))

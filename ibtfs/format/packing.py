"""Values as msgpack and back: the only importer of msgpack.

Everything decoded comes from a disk and is not trusted: lengths are bounded by the input itself,
and what does not decode raises FormatDamaged.  A value takes at most about 40 times its packed
bytes of memory, those of numbers, and 20 MB for the arrays and maps in it; its time is linear.
"""

from __future__ import annotations

import threading
from typing import Any

import msgpack

from ibtfs.errors import FormatDamaged

BIG_INTEGER = 1
"""The extension type of integers that do not fit 64 bits: big endian, two's complement."""
BIG_INTEGER_BYTES = 16

CONTAINERS = 4 * 4096 + 64
"""Arrays and maps that a value may hold: a row of a page has four at most."""
UNCOUNTED = 256 << 10
"""In a value of fewer bytes they are not counted: it cannot hold many."""
KEYS_BELIEVED = 128 << 10
"""In a value of fewer bytes the keys of maps are not looked at: these cannot be many."""
FEW_KEYS = 100
"""Nor are those of a map that has no more; most are such."""
ROOM = 64 << 20
"""Bytes that the lengths that arrays claim may take, before it is known that these are true."""
_HEADS = bytes([*range(0x80, 0xA0), 0xDC, 0xDD, 0xDE, 0xDF])
"""With what arrays and maps begin; other bytes may look so."""


class _Packers(threading.local):
    """A packer for each thread: making one takes six times as long as packing a record."""

    def __init__(self) -> None:
        self.pack = msgpack.Packer(
            use_bin_type=True, unicode_errors="surrogateescape", default=_pack_big
        ).pack


def pack(value: Any) -> bytes:
    """*value* as msgpack: bytes become ``bin``, str becomes ``str``."""
    packed: bytes = _PACKERS.pack(value)
    return packed


def _pack_big(value: Any) -> msgpack.ExtType:
    """An integer too big for msgpack: the time of a file may be any number of seconds."""
    if type(value) is not int:
        raise TypeError(f"Cannot pack {type(value).__name__}")
    return msgpack.ExtType(BIG_INTEGER, value.to_bytes(BIG_INTEGER_BYTES, "big", signed=True))


_PACKERS = _Packers()


def _unpack_big(code: int, data: bytes) -> Any:
    if code != BIG_INTEGER or len(data) != BIG_INTEGER_BYTES:
        raise ValueError(f"unknown extension type {code}")
    return int.from_bytes(data, "big", signed=True)


class _Counter:
    """Lets so many arrays and maps pass, and then raises ValueError."""

    def __init__(self, most: int) -> None:
        self._left = most

    def count(self, value: Any) -> Any:
        """*value* as it is."""
        self._left -= 1
        if self._left < 0:
            raise ValueError("more arrays and maps than it may hold")
        return value


def _map_of(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """The map of *pairs*.  Raises ValueError of keys that can be chosen to have one hash.

    A map of a megabyte of such would take minutes.  That of text and bytes depends on a secret, and
    few numbers of 64 bits share one.
    """
    if len(pairs) > FEW_KEYS:
        for key, _ in pairs:
            kind = type(key)
            if kind is int:
                if key.bit_length() > 64:
                    raise ValueError("a key that is too big")
            elif kind is not str and kind is not bytes:
                raise ValueError("a key of a wrong type")
    return dict(pairs)


def _hooks(data: bytes, containers: int) -> dict[str, Any]:
    """What bounds the memory and the time that a large value takes; most need nothing.

    Raises ValueError if arrays claim more than there is: room for all that is claimed would be
    taken before that shows, of each array in another one.
    """
    size = len(data)
    if 8 * size * (data.count(b"\xdc") + data.count(b"\xdd")) > ROOM:
        unpacker = msgpack.Unpacker(max_buffer_size=0)
        unpacker.feed(data)
        unpacker.skip()
    if size < KEYS_BELIEVED:
        return {}
    if size < UNCOUNTED or size - len(data.translate(None, _HEADS)) <= containers:
        return {"object_pairs_hook": _map_of}
    counter = _Counter(containers)
    return {
        "object_pairs_hook": lambda pairs: counter.count(_map_of(pairs)),
        "list_hook": counter.count,
    }


def unpack(data: bytes | memoryview, what: str, *, containers: int = CONTAINERS) -> Any:
    """The one value in *data*, arrays as tuples; it may have so many *containers*.

    Raises FormatDamaged, naming *what*, if *data* is not exactly one value.
    """
    try:
        return msgpack.unpackb(
            data,
            raw=False,
            use_list=False,
            strict_map_key=False,
            unicode_errors="surrogateescape",
            ext_hook=_unpack_big,
            **_hooks(bytes(data), containers),
        )
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise FormatDamaged(f"{what}: not a msgpack value ({error})") from error


def unpack_tuple(
    data: bytes | memoryview, what: str, least: int, *, containers: int = CONTAINERS
) -> tuple[Any, ...]:
    """The array of *least* or more values in *data*; otherwise as :func:`unpack`."""
    value = unpack(data, what, containers=containers)
    if type(value) is not tuple or len(value) < least:
        raise FormatDamaged(f"{what}: not an array of at least {least} values")
    return value


def unpack_map(
    data: bytes | memoryview, what: str, *, containers: int = CONTAINERS
) -> dict[str, Any]:
    """The map with text keys in *data*; otherwise as :func:`unpack`."""
    value = unpack(data, what, containers=containers)
    if type(value) is not dict or not all(type(key) is str for key in value):
        raise FormatDamaged(f"{what}: not a map with text keys")
    return value


def pack_bodies(bodies: list[bytes | None]) -> bytes:
    """A run of numbered records as the raw bytes of one frame; None is a record that is gone."""
    return pack(bodies)


def unpack_bodies(data: bytes, count: int, what: str) -> tuple[bytes | None, ...]:
    """The *count* numbered records of a frame.  Raises FormatDamaged."""
    bodies = unpack(data, what, containers=1)
    if (
        type(bodies) is not tuple
        or len(bodies) != count
        or not all(type(b) is bytes or b is None for b in bodies)
    ):
        raise FormatDamaged(f"{what}: not a run of {count} records")
    return bodies


def expect_ints(values: Any, what: str) -> tuple[int, ...]:
    """*values* if it is an array of integers.  Raises FormatDamaged."""
    if type(values) is not tuple or not set(map(type, values)) <= {int}:
        raise FormatDamaged(f"{what}: not an array of integers")
    return values

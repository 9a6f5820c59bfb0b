"""Values changed at random somewhere inside, so that most of them stay what they were."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import msgpack

from ibtfs.errors import IbtfsError
from tests.support.readers.base import Shape, packed, value_of

NUMBERS = (0, 1, -1, 2, 23, 24, 32, 64, 255, 256, 4095, 4096, 65535, 1 << 31, (1 << 32) - 1,
           1 << 32, 1 << 40, 1 << 62, (1 << 63) - 1, (1 << 64) - 1, -(1 << 63))  # fmt: skip
OTHERS: tuple[Any, ...] = (
    None, True, False, 1.5, float("nan"), b"", "", b"/", b"..", b"a", "a", bytes(24), bytes(32),
    (), {}, "20261120T101112Z_host_0a.0", "/etc/\udcff",
)  # fmt: skip
CHANGES = 4
"""At most so many at once."""


def changed(whole: Any, rng: random.Random, other: Callable[[Any], Any]) -> Any:
    """*whole* with something deep inside removed, doubled, or made what *other* makes of it."""
    if not isinstance(whole, (list, tuple, dict)) or not whole or rng.randrange(6) == 0:
        return other(whole)
    items = list(whole.items()) if isinstance(whole, dict) else list(enumerate(whole))
    place = rng.randrange(len(items))
    key, old = items[place]
    action = rng.randrange(12)
    if action == 0:
        del items[place]
    elif action == 1 and not isinstance(whole, dict):
        items.insert(place, (key, old))
    else:
        items[place] = (key, changed(old, rng, other))
    return dict(items) if isinstance(whole, dict) else [item for _, item in items]


class Changer:
    """Changes bytes that are values, also those that are packed inside others; by *seed*."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)

    def made_of(self, data: bytes, shape: Shape, most: int) -> bytes | None:
        """*data* changed, of at most so many bytes; None if it is no value of that *shape*."""
        try:
            value = json.loads(data) if shape is Shape.JSON else value_of(data)
            for _ in range(self._rng.randrange(CHANGES) + 1):
                value = changed(value, self._rng, self._other)
            made = json.dumps(value).encode() if shape is Shape.JSON else packed(value)
        except (IbtfsError, ValueError, TypeError, RecursionError):
            return None
        return made if len(made) <= most else None

    def _other(self, old: Any) -> Any:
        """What stands in the place of *old*: mostly of the same type."""
        rng = self._rng
        if rng.randrange(5) == 0:
            return rng.choice(NUMBERS) if rng.randrange(2) else rng.choice(OTHERS)
        if type(old) is int:
            return rng.choice((old + 1, old - 1, -old, old * 2, old ^ (1 << rng.randrange(64)),
                               old << 32, rng.choice(NUMBERS)))  # fmt: skip
        if isinstance(old, msgpack.ExtType):
            return msgpack.ExtType(old.code, rng.randbytes(16))
        if type(old) is bytes:
            return self._inside(old)
        if type(old) is str:
            return self._spoilt(old.encode("utf-8", "surrogateescape")).decode(errors="replace")
        if isinstance(old, (list, tuple)) and old:
            return self._rearranged(list(old))
        return rng.choice(OTHERS)

    def _inside(self, old: bytes) -> bytes:
        """Bytes that pack a value, with another one; others spoilt."""
        if len(old) > 3 and self._rng.randrange(4):
            try:
                value = value_of(old)
                if isinstance(value, (tuple, dict)):
                    return packed(changed(value, self._rng, self._other))
            except IbtfsError:
                pass
        return self._spoilt(old)

    def _spoilt(self, old: bytes) -> bytes:
        rng, data = self._rng, bytearray(old)
        place = rng.randrange(len(data) + 1)
        action = rng.randrange(4)
        if action == 0 and data:
            data[place % len(data)] ^= 1 << rng.randrange(8)
        elif action == 1:
            del data[place:]
        elif action == 2:
            data[place:place] = rng.randbytes(rng.randrange(1, 9))
        else:
            data += data[place:] * rng.randrange(1, 4)
        return bytes(data)

    def _rearranged(self, old: list[Any]) -> Any:
        rng = self._rng
        action = rng.randrange(5)
        if action == 0:
            rng.shuffle(old)
        elif action == 1:
            return old * rng.randrange(2, 5)
        elif action == 2:
            return old + [rng.choice(old)] * rng.choice((1, 20, 300))
        elif action == 3:
            return old[: rng.randrange(len(old))]
        else:
            old[rng.randrange(len(old))] = rng.choice(old)
        return old

"""A cache bounded in bytes, in which no two threads compute the same value at once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

Value = TypeVar("Value")

ENTRY_BYTES = 250
"""What a key, its slot and its list node weigh, roughly."""
FEW = 100


class ByteCache:
    """Least recently used values go when the sum of their sizes exceeds *limit* bytes.

    All methods are atomic; :meth:`get` computes outside the lock, so that other keys go on, and a
    second thread that asks for the same key waits for the first (single flight).  When computing
    raises, every thread that waits tries for itself.

    *weigh* is for values that grow while they are held: it gives their bytes as they are, and all
    are weighed again whenever a tenth more were added.
    """

    def __init__(self, limit: int, weigh: Callable[[Any], int] | None = None) -> None:
        self._limit, self._weigh = limit, weigh
        self._lock = threading.Lock()
        self._values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._running: dict[Hashable, threading.Lock] = {}
        self.era = 0
        self._size = self._added = 0

    def begin_era(self) -> None:
        """Say that what was found out before may not hold any more; keys may have the *era*."""
        with self._lock:
            self.era += 1

    @property
    def size(self) -> int:
        """Bytes held now."""
        return self._size

    def get(
        self,
        key: Hashable,
        compute: Callable[[], Value],
        size_of: Callable[[Value], int] | None = None,
    ) -> Value:
        """The value of *key*, computed when it is not held; *size_of* gives its bytes.

        Without *size_of*, and where values do not grow, each counts as ENTRY_BYTES.
        """
        lock, values = self._lock, self._values
        while True:
            with lock:
                held = values.get(key)
                if held is not None:
                    values.move_to_end(key)
                    value: Value = held[0]
                    return value
                running = self._running.get(key)
                if running is None:
                    # a lock: making an event takes longer than many a value
                    running = self._running[key] = threading.Lock()
                    running.acquire()
                    break
            with running:
                pass  # the thread that computes holds it until it is done
        try:
            value = compute()
            size_of = size_of or self._weigh
            self._keep(key, value, (size_of(value) if size_of else 0) + ENTRY_BYTES)
        finally:
            with lock:
                self._running.pop(key).release()
        return value

    def _keep(self, key: Hashable, value: Any, size: int) -> None:
        with self._lock:
            self._values[key] = (value, size)
            self._size += size
            if self._weigh is not None:
                self._weigh_again(self._weigh)
            while self._size > self._limit and len(self._values) > 1:
                _, (_, gone) = self._values.popitem(last=False)
                self._size -= gone

    def _weigh_again(self, weigh: Callable[[Any], int]) -> None:
        self._added += 1
        if self._added < max(FEW, len(self._values) // 10):
            return
        self._added = self._size = 0
        for key, (value, _) in self._values.items():
            size = weigh(value) + ENTRY_BYTES
            self._values[key] = (value, size)
            self._size += size

    def drop(self, matches: Callable[[Hashable], bool]) -> None:
        """Forget the values of all keys that *matches* is true of."""
        with self._lock:
            for key in [key for key in self._values if matches(key)]:
                self._size -= self._values.pop(key)[1]

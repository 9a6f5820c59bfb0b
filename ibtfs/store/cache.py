"""A cache bounded in bytes, in which no two threads compute the same value at once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

Value = TypeVar("Value")

ENTRY_BYTES = 250
"""What a key, its slot and its list node weigh, roughly."""


class ByteCache:
    """Least recently used values go when the sum of their sizes exceeds *limit* bytes.

    All methods are atomic; :meth:`get` computes outside the lock, so that other keys go on, and a
    second thread that asks for the same key waits for the first (single flight).  When computing
    raises, every thread that waits tries for itself.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._running: dict[Hashable, threading.Lock] = {}
        self._size = 0

    @property
    def size(self) -> int:
        """Bytes held now."""
        return self._size

    def get(
        self, key: Hashable, compute: Callable[[], Value], size_of: Callable[[Value], int]
    ) -> Value:
        """The value of *key*, computed when it is not held; *size_of* gives its bytes."""
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
            self._keep(key, value, size_of(value) + ENTRY_BYTES)
        finally:
            with lock:
                self._running.pop(key).release()
        return value

    def _keep(self, key: Hashable, value: Any, size: int) -> None:
        with self._lock:
            self._values[key] = (value, size)
            self._size += size
            while self._size > self._limit and len(self._values) > 1:
                _, (_, gone) = self._values.popitem(last=False)
                self._size -= gone

    def drop(self, matches: Callable[[Hashable], bool]) -> None:
        """Forget the values of all keys that *matches* is true of."""
        with self._lock:
            for key in [key for key in self._values if matches(key)]:
                self._size -= self._values.pop(key)[1]

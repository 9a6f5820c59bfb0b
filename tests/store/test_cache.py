"""The one cache: bounded in bytes, each value made once, values that grow weighed again."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ibtfs.store.cache import ENTRY_BYTES, FEW, ByteCache


def keys_of(cache: ByteCache) -> list[object]:
    """The keys that have a value, the one used last at the end."""
    keys: list[object] = []
    cache.drop(lambda key: bool(keys.append(key)))
    return keys


def test_the_values_used_last_stay() -> None:
    cache = ByteCache(3 * (ENTRY_BYTES + 1000))
    for key in (1, 2, 3, 1, 4):
        assert cache.get(key, bytes, lambda _: 1000) == b""
    assert cache.size == 3 * (ENTRY_BYTES + 1000)
    assert keys_of(cache) == [3, 1, 4]


def test_without_sizes_the_number_of_values_is_bounded() -> None:
    cache = ByteCache(5 * ENTRY_BYTES)
    for key in range(20):
        cache.get(key, object)
    assert cache.size == 5 * ENTRY_BYTES
    assert keys_of(cache) == [15, 16, 17, 18, 19]


def test_a_value_larger_than_all_is_kept_alone() -> None:
    cache = ByteCache(1000)
    cache.get("small", bytes)
    assert cache.get("large", bytes, lambda _: 5000) == b""
    assert cache.size == 5000 + ENTRY_BYTES
    cache.drop(lambda key: key == "large")
    assert cache.size == 0


class Growing:
    """A value that takes more and more bytes."""

    def __init__(self) -> None:
        self.size = 0


def test_values_that_grow_are_weighed_again() -> None:
    cache = ByteCache(1000 * ENTRY_BYTES, lambda value: value.size)
    for value in [cache.get(key, Growing) for key in range(500)]:
        value.size = 9 * ENTRY_BYTES  # 5,000 in all
    assert cache.size == 500 * ENTRY_BYTES
    for key in range(500, 500 + FEW):
        cache.get(key, Growing)
    assert cache.size <= 1000 * ENTRY_BYTES
    assert keys_of(cache)[-FEW:] == list(range(500, 500 + FEW))


def test_two_threads_that_want_the_same_get_the_same() -> None:
    cache, made, together = ByteCache(1 << 20), [], threading.Barrier(4)

    def make() -> object:
        made.append(object())
        return made[-1]

    def ask(_: int) -> list[object]:
        together.wait()
        return [cache.get(key, make) for key in range(200)]

    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(ask, range(4))
    assert len(made) == 200
    assert all(a is b for other in others for a, b in zip(first, other))


def test_what_cannot_be_computed_is_tried_again() -> None:
    cache = ByteCache(1 << 20)
    with pytest.raises(ZeroDivisionError):
        cache.get("key", lambda: 1 // 0)
    assert cache.get("key", lambda: 7) == 7


def test_values_of_which_none_is_too_many_stay() -> None:
    cache = ByteCache(2 * ENTRY_BYTES + 100)
    cache.get(1, object, lambda _: 50)
    cache.get(2, object, lambda _: 50)
    assert keys_of(cache) == [1, 2]
    assert cache.size == 2 * ENTRY_BYTES + 100
    cache.get(3, object, lambda _: 0)
    assert keys_of(cache) == [2, 3]
    assert cache.size == 2 * ENTRY_BYTES + 50


def test_values_are_weighed_again_when_a_tenth_was_added() -> None:
    weighed: list[object] = []

    def weigh(value: object) -> int:
        weighed.append(value)
        return 1

    cache = ByteCache(1 << 30, weigh)
    counts = []
    for key in range(1200):
        before = len(weighed)
        cache.get(key, object)
        if len(weighed) - before > 1:
            counts.append(key + 1)
            assert len(weighed) - before == 1 + key + 1
        assert cache.size == (key + 1) * (ENTRY_BYTES + 1)
    assert counts[:9] == [100 * n for n in range(1, 10)]
    assert counts[9:] == [1000, 1111]


def test_eras_are_counted() -> None:
    cache = ByteCache(100)
    assert cache.era == 0
    cache.begin_era()
    cache.begin_era()
    assert cache.era == 2

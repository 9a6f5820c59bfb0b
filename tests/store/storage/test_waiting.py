"""Waiting for a server: longer and longer, each request for itself, told once, and not for ever."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import repeat
from typing import Any, cast

import pytest

from ibtfs.errors import ObjectMissing, StorageFailed
from ibtfs.store.storage import waiting
from ibtfs.store.storage.objects.asking import Asking
from ibtfs.store.storage.objects.client import NotReached
from ibtfs.store.storage.waiting import Waiting


class Clock:
    """Time that goes by only while somebody sleeps."""

    def __init__(self) -> None:
        self.now, self.pauses = 100.0, list[float]()

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(waiting, "time", made)
    return made


def failing(times: int) -> Callable[[], str]:
    """What is not reached so many times, and then is."""

    def tries() -> Iterator[bool]:
        yield from repeat(False, times)
        while True:
            yield True

    found = tries()

    def work() -> str:
        if not next(found):
            raise NotReached("no route")
        return "answer"

    return work


def asking(seconds: float = 900) -> Asking:
    made = Asking(cast(Any, None), "s3://b", seconds)
    assert made.again(failing(0)) == "answer"
    return made


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_pauses_grow_to_half_a_minute(clock: Clock) -> None:
    assert asking().again(failing(12)) == "answer"
    longest = [min(0.5 * 2**number, 30) for number in range(12)]
    assert len(clock.pauses) == 12
    assert all(0.75 * most <= pause <= most for pause, most in zip(clock.pauses, longest))


def test_it_is_told_from_the_third_time_on_and_once(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    asked = asking()
    asked.again(failing(2))
    assert told(caplog) == []
    asked.again(failing(9))
    assert told(caplog) == [
        "s3://b is not reached (no route); it is tried again for 15 minutes",
        "s3://b is reached again",
    ]


def test_what_always_fails_ends_though_others_are_answered(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """One object that a server cannot give must not hold a run, and its lock, for ever."""
    caplog.set_level(logging.WARNING)
    asked, fails = asking(60), failing(10**9)

    def work() -> str:
        asked.again(failing(0), patient=False)  # such as the lock that is kept young
        return fails()

    with pytest.raises(StorageFailed, match="s3://b: not reached: no route"):
        asked.again(work)
    assert 60 < clock.now - 100 < 120
    assert told(caplog) == ["s3://b is not reached (no route); it is tried again for 1 minutes"]


def test_after_it_was_given_up_each_is_tried_once_until_one_succeeds(clock: Clock) -> None:
    asked = asking(60)
    with pytest.raises(StorageFailed):
        asked.again(failing(10**9))
    before = clock.now
    with pytest.raises(StorageFailed):
        asked.again(failing(1))
    assert clock.now == before
    assert asked.again(failing(0)) == "answer"
    assert asked.again(failing(3)) == "answer"
    assert clock.now > before


def test_a_server_that_never_was_there_is_not_waited_for(clock: Clock) -> None:
    made = Asking(cast(Any, None), "s3://b")
    with pytest.raises(StorageFailed):
        made.again(failing(1))
    assert clock.pauses == []


def test_what_is_not_patient_is_tried_twice_and_at_once(clock: Clock) -> None:
    asked = asking()
    assert asked.again(failing(1), patient=False) == "answer"
    with pytest.raises(StorageFailed):
        asked.again(failing(2), patient=False)
    assert clock.pauses == []


def test_a_refusal_is_an_answer_and_breaking_off_is_none(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    shared = Waiting("s3://b")
    for kind, answered in ((ObjectMissing, True), (KeyboardInterrupt, False)):
        caplog.clear()
        with suppress(kind), shared.request() as tries:
            assert all(tries.wait("why") for _ in range(4))
            raise kind
        assert ("s3://b is reached again" in told(caplog)) is answered
        assert told(caplog)[0].startswith("s3://b is not reached (why)")

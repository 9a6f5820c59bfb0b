"""Work that is done beside, by few threads, in whichever process."""

from __future__ import annotations

import functools
import os
import threading
import time

import pytest

from ibtfs.store.storage import background as module
from ibtfs.store.storage.background import Background, at_once


def test_all_is_done_by_few_threads() -> None:
    background, seen = Background(3), set[int]()

    def work(number: int) -> int:
        seen.add(threading.get_ident())
        time.sleep(0.01)
        return number * 2

    futures = background.each(work, range(20))
    assert [future.result() for future in futures] == list(range(0, 40, 2))
    assert 1 < len(seen) <= 3


def test_what_fails_is_told_and_the_rest_is_done() -> None:
    def work(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        return number

    futures = Background(2).each(work, range(6))
    assert [future.exception() is None for future in futures] == [n != 3 for n in range(6)]
    assert Background(2).each(work, []) == []


def test_what_has_not_begun_can_be_taken_back() -> None:
    background, go = Background(1), threading.Event()
    first = background.submit(lambda: go.wait(30))
    second = background.submit(lambda: 2)
    third = background.submit(lambda: 3)
    assert second.cancel()
    go.set()
    assert (first.result(30), third.result(30)) == (True, 3)


def test_who_rests_waits_for_all_that_was_to_be_done() -> None:
    background, done = Background(3), list[int]()
    background.rest()

    def work(number: int) -> None:
        time.sleep(0.005)
        done.append(number)

    for turn in range(1, 5):
        for number in range(10):
            background.submit(functools.partial(work, number))
        background.rest()
        assert len(done) == 10 * turn


def test_threads_end_and_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.01)
    background = Background(4)
    background.each(lambda _: time.sleep(0.005), range(8))
    until = time.monotonic() + 30
    while any(thread.name == "ibtfs-fetch" for thread in threading.enumerate()):
        assert time.monotonic() < until
        time.sleep(0.01)
    assert background.submit(lambda: 7).result(30) == 7


def test_a_process_that_was_forked_begins_anew() -> None:
    forked, go = list[int](), threading.Event()
    background = Background(1, lambda: forked.append(1))
    waiting = background.submit(lambda: go.wait(30))
    child = os.fork()
    if child == 0:
        os._exit(0 if forked == [1] and background.submit(lambda: 5).result(30) == 5 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    go.set()
    assert waiting.result(30)
    assert forked == []


def test_at_once_means_at_the_same_time_and_the_first_failure_is_told() -> None:
    both = threading.Barrier(2)
    at_once(lambda: both.wait(30), lambda: both.wait(30))
    at_once()

    def fail(text: str) -> None:
        raise ValueError(text)

    with pytest.raises(ValueError, match="one"):
        at_once(lambda: None, lambda: fail("one"), lambda: fail("other"))


def test_where_no_thread_can_be_started_the_work_is_done_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    background = Background(3)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        assert background.submit(threading.get_ident).result(0) == threading.get_ident()
        with pytest.raises(ZeroDivisionError):
            background.submit(lambda: 1 // 0).result(0)
    background.rest()
    assert background.submit(threading.get_ident).result(30) != threading.get_ident()
    background.rest()

"""Work that is done beside: by a few threads, each as long as there is something to do."""

from __future__ import annotations

import concurrent.futures
import functools
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, TypeVar

Result = TypeVar("Result")
Item = TypeVar("Item")
IDLE_SECONDS = 2.0


class Background:
    """Does work in *threads* threads at most; threads may share it.

    Nothing is waited for at the end of the process.  A process that is forked begins anew, and
    calls *forked* before anything else: what was under way is done by nobody there.
    """

    def __init__(self, threads: int, forked: Callable[[], None] = lambda: None) -> None:
        self._most, self._forked = threads, forked
        self._begin()
        _ALL.add(self)

    def begin_forked(self) -> None:
        """Begin anew, in a process that was forked."""
        self._begin()
        self._forked()

    def _begin(self) -> None:
        lock = threading.RLock()
        self._change, self._rested = threading.Condition(lock), threading.Condition(lock)
        self._waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._threads = self._idle = 0

    def submit(self, work: Callable[[], Result]) -> Future[Result]:
        """Have *work* done; it may be cancelled as long as it has not begun."""
        future: Future[Result] = Future()
        with self._change:
            self._waiting.append((future, work))
            if self._idle >= len(self._waiting) or self._threads >= self._most:
                self._change.notify()
                return future
            try:
                threading.Thread(target=self._work, name="ibtfs-fetch", daemon=True).start()
                self._threads += 1
            except RuntimeError:  # there are too many already
                if self._threads:
                    return future
                self._waiting.pop()
            else:
                return future
        _do(future, work)
        return future

    def each(self, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Future[Result]]:
        """Have *work* done of each of *items*, at once, and wait for it."""
        futures = [self.submit(functools.partial(work, item)) for item in items]
        concurrent.futures.wait(futures)
        return futures

    def rest(self) -> None:
        """Wait until nothing is to be done, so that the process can be forked."""
        with self._change:
            self._rested.wait_for(lambda: not self._waiting and self._idle == self._threads)

    def _work(self) -> None:
        while True:
            with self._change:
                self._idle += 1
                if self._idle == self._threads:
                    self._rested.notify_all()
                self._change.wait_for(lambda: self._waiting, IDLE_SECONDS)
                self._idle -= 1
                if not self._waiting:
                    self._threads -= 1
                    return
                future, work = self._waiting.popleft()
            _do(future, work)
            del future, work  # what it holds is not to live until the next one comes


def _do(future: Future[Any], work: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = work()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)


_ALL: weakref.WeakSet[Background] = weakref.WeakSet()


def _begin_forked() -> None:
    for background in list(_ALL):
        background.begin_forked()


os.register_at_fork(after_in_child=_begin_forked)


def at_once(*works: Callable[[], object]) -> None:
    """Do *works* at the same time, for each of them is waited for.

    Raises what the first of them raises that does so, in this order, when all have ended.
    """
    background = Background(max(len(works), 1))
    for future in background.each(lambda work: work(), works):
        future.result()

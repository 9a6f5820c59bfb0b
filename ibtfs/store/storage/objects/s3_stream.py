"""An object on its way to S3 in parts, of which nothing is seen before the last one is there."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from types import TracebackType
from typing import Protocol, TypeVar

from ibtfs.errors import StorageFailed
from ibtfs.store.storage.objects.s3_errors import code_of, refusal, status_of

PARTS = 10_000
"""So many parts an object may have."""
ABORT_SECONDS = 30.0
"""So long the server is waited for to drop parts; a rule of the bucket does it as well."""
Result = TypeVar("Result")


class Writer(Protocol):
    """A file that is written in parts; left by an exception, they are dropped."""

    def write(self, data: bytes, /) -> int:
        """Append *data*."""
        ...

    def close(self) -> None:
        """Send the last part, and have the object there."""
        ...

    def __exit__(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None: ...


class S3Stream:
    """What is written to *writer*, as ObjectStream says; *size_there* looks at what is there.

    The writer works in a thread of its own: its waits, which may be long, can be interrupted.
    """

    def __init__(
        self, writer: Writer, shown: str, part_bytes: int, size_there: Callable[[], int | None]
    ) -> None:
        self._writer, self._shown, self._size_there = writer, shown, size_there
        self._limit, self._size = part_bytes * PARTS, 0
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._is_open = True
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()

    def _done(self, work: Callable[[], Result], seconds: float | None = None) -> Result:
        """What *work* gives in the thread of the writer."""
        future: Future[Result] = Future()

        def task() -> None:
            try:
                future.set_result(work())
            except BaseException as error:  # also what the library panics with
                future.set_exception(error)

        self._tasks.put(task)
        return future.result(seconds)

    def write(self, data: bytes) -> None:
        """As ObjectStream says."""
        self._size += len(data)
        if self._size > self._limit:
            raise StorageFailed(
                f"{self._shown}: an object of more than {self._limit >> 30} GiB "
                f"would need more than {PARTS} parts"
            )
        try:
            self._done(lambda: self._writer.write(data))
        except Exception as error:
            raise refusal(error, self._shown) from error

    def finish(self) -> None:
        """As ObjectStream says."""
        try:
            self._done(self._writer.close)
        except Exception as error:
            # whose reply was lost is told by the next try that there are no such parts any more
            is_over = code_of(error) == "NoSuchUpload" or status_of(error) == 404
            if not (is_over and self._size_there() == self._size):
                raise refusal(error, self._shown) from error
        self._end()

    def abort(self) -> None:
        """As ObjectStream says."""
        if self._is_open:
            given_up = StorageFailed("given up")
            with suppress(BaseException):
                self._done(
                    lambda: self._writer.__exit__(StorageFailed, given_up, None), ABORT_SECONDS
                )
            self._end()

    def _end(self) -> None:
        self._is_open = False
        self._tasks.put(None)

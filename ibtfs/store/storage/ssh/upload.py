"""An object being put through a server, without waiting for each reply, by several connections.

What was written is kept until the server has made it durable: a server that starts anew may forget
what it only acknowledged, and then it is sent again.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import NamedTuple, Protocol, TypeVar

from ibtfs.errors import IbtfsError, LockLost, ObjectExists, ObjectMissing, StorageFailed
from ibtfs.store.storage.base import LOST, TOKEN_DIGITS
from ibtfs.store.storage.ssh import wire
from ibtfs.store.storage.ssh.channel import StoreChannel
from ibtfs.store.storage.ssh.client import StoreClient, replied

KEPT = 24 << 20
"""Bytes that are kept, and on their way, at most."""
SYNCED = 8 << 20
"""Whenever so many were written the server is to make them durable."""
COMPARED = 64 << 10
"""Of an object that may be this one, so many bytes are compared, and its size."""
Result = TypeVar("Result")


class UploadStorage(Protocol):
    """What an upload needs of its storage; StoreStorage says what each does."""

    client: StoreClient
    shared: bool

    def upload_token(self) -> str:
        """The token of the lease that is held, or a random one."""
        ...


class _Piece(NamedTuple):
    """*data* that belongs at *offset*."""

    offset: int
    data: bytes


class StoreUpload:
    """An object being put, as Upload says; *in_place* of what has its name, or as a new one.

    Used by one thread.
    """

    def __init__(self, storage: UploadStorage, name: str, *, in_place: bool = False) -> None:
        self._client, self.name, self._in_place = storage.client, name, in_place
        self._number = self._client.new_number()
        suffix = storage.upload_token() + os.urandom(TOKEN_DIGITS // 2).hex()
        self._place = (self._number, storage.shared, name, suffix)
        self.size = self._settled = self._asked = 0
        self._begins = bytearray()
        self._kept: deque[_Piece] = deque()
        self._kept_bytes = 0
        # of one connection: how many of the kept pieces were sent, and what was not answered yet
        self._channel: StoreChannel | None = None
        self._put: Future[wire.Message] | None = None
        self._sent = 0
        self._replies: deque[Future[wire.Message]] = deque()
        self._syncs: deque[tuple[int, Future[wire.Message]]] = deque()
        self._was_begun = self._was_finished = self._is_named = False
        self._is_open = True
        self._do(self._opened)

    def _do(self, work: Callable[[StoreChannel], Result], *, patient: bool = True) -> Result:
        return self._client.does(work, patient=patient)

    def _opened(self, channel: StoreChannel) -> None:
        """Have the part open on *channel*; of what is kept nothing was sent on another one."""
        if self._channel is channel:
            return
        words = (*self._place, self._in_place)
        is_first, self._sent = self._channel is None, 0
        self._replies.clear()
        self._syncs.clear()
        if not is_first:
            try:
                replied(channel.ask("resume", *words, self._settled))
            except ObjectMissing:
                self._is_named = self._was_finished and self._is_this(channel)
                # never made anew if it was there: somebody took its owner for dead
                if self._was_begun and not self._is_named:
                    raise
                is_first = not self._is_named
        self._put = channel.ask("put", *words) if is_first else None
        self._asked = self._settled
        self._channel = channel

    def write(self, data: bytes | memoryview) -> None:
        """As Upload says."""
        data = bytes(data)
        self._begins += data[: max(COMPARED - len(self._begins), 0)]
        for first in range(0, len(data), wire.PIECE):
            piece = _Piece(self.size, data[first : first + wire.PIECE])
            self._kept.append(piece)
            self._kept_bytes += len(piece.data)
            self.size += len(piece.data)
            self._lost_if_missing(self._send)
            while self._kept_bytes > KEPT:
                self._lost_if_missing(self._let_go)

    def _lost_if_missing(self, work: Callable[[StoreChannel], None]) -> None:
        try:
            self._do(work)
        except ObjectMissing as error:
            raise LockLost(LOST) from error

    def _send(self, channel: StoreChannel) -> None:
        """Send what was not sent yet, and look at the replies that are there."""
        self._opened(channel)
        for piece in list(self._kept)[self._sent :]:
            self._replies.append(channel.ask("write", self._number, piece.offset, data=piece.data))
            self._sent += 1
            end = piece.offset + len(piece.data)
            if end - self._asked >= SYNCED:
                self._syncs.append((end, channel.ask("sync", self._number)))
                self._asked = end
        if self._put is not None and self._put.done():
            self._take_put()
        while self._replies and self._replies[0].done():
            self._take_reply()
        while self._syncs and self._syncs[0][1].done():
            self._take_sync()

    def _take_put(self) -> None:
        """See that the part was begun."""
        if self._put is not None:
            try:
                replied(self._put)
            except ObjectMissing as error:  # the repository's own folder
                raise StorageFailed(str(error)) from error
            self._put, self._was_begun = None, True

    def _take_reply(self) -> None:
        replied(self._replies[0])
        self._replies.popleft()

    def _take_sync(self) -> None:
        """Let go of what is durable."""
        end, future = self._syncs[0]
        replied(future)
        self._was_begun = True
        self._syncs.popleft()
        self._settled = end
        while self._kept and self._kept[0].offset + len(self._kept[0].data) <= end:
            self._kept_bytes -= len(self._kept.popleft().data)
            self._sent -= 1

    def _let_go(self, channel: StoreChannel) -> None:
        self._send(channel)
        if self._kept_bytes > KEPT:
            self._take_sync()

    def finish(self) -> None:
        """As Upload says."""
        self._do(self._end)
        self._is_open = False
        self._kept.clear()

    def _end(self, channel: StoreChannel) -> None:
        """Give the part its name; it has it already if the reply that said so was lost."""
        is_again = self._was_finished
        try:
            self._opened(channel)
            if self._is_named:
                return
            self._send(channel)
            self._was_finished = True
            future = channel.ask("finish", self._number, self.size)
            self._take_put()
            while self._replies:
                self._take_reply()
            replied(future)
        except ObjectExists:
            if not (is_again and self._is_this(channel)):
                raise
            replied(channel.ask("abort", *self._place))  # servers name first, and then remove
        except ObjectMissing:
            raise LockLost(LOST) from None

    def _is_this(self, channel: StoreChannel) -> bool:
        """Whether the name is that of what was put here, durably from then on.

        Names are random, but for that of small ones.
        """
        number = self._client.new_number()
        try:
            opened = replied(channel.ask("open", number, self.name))
            size, first = wire.values_of(opened, int, int)
            begins = opened.data
            if first:
                words = (number, self.name, 0, len(self._begins))
                begins = replied(channel.ask("read", *words)).data
        except ObjectMissing:
            return False
        channel.ask("close", number)
        if size != self.size or begins[: len(self._begins)] != self._begins:
            return False
        replied(channel.ask("settle", self.name.rpartition("/")[0]))
        return True

    def abort(self) -> None:
        """As Upload says; a folder of its own goes with it."""
        if not self._is_open:
            return
        self._is_open = False
        self._kept.clear()
        try:
            self._do(lambda channel: replied(channel.ask("abort", *self._place)), patient=False)
        except IbtfsError:
            pass  # the connection is gone: what was begun is found later

    def __enter__(self) -> StoreUpload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self.abort()

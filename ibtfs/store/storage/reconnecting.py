"""Connections that are made anew when they are lost, and what was under way done again."""

from __future__ import annotations

import errno
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from ibtfs.store.storage.pipe import ConnectionLost, Malformed, PipeChannel
from ibtfs.store.storage.waiting import RETRY_SECONDS, Waiting

Result = TypeVar("Result")
Channel = TypeVar("Channel", bound=PipeChannel[Any])


class Reconnecting(Generic[Channel]):
    """What *connect* leads to; threads may share it.

    What goes wrong is raised as OSError, with ENOTCONN if there is no connection.  One that was
    lost is made anew, and :meth:`again` repeats what was under way, for *retry_seconds*; after that
    each is tried once.  That it is waited is told, of what *shown* names.
    """

    def __init__(
        self, connect: Callable[[], Channel], shown: str, retry_seconds: float = RETRY_SECONDS
    ) -> None:
        self._connect, self.shown = connect, shown
        self._waiting = Waiting(shown, retry_seconds)
        self._lock = threading.Lock()
        self._channel: Channel | None = None
        self._was_there = False
        self._close: weakref.finalize[..., Any] | None = None

    def channel(self) -> Channel:
        """The connection, made if there is none.  Raises ConnectionLost."""
        with self._lock:
            channel = self._channel
            if channel is not None and channel.owner != os.getpid():
                channel.leave()
                self._drop(channel)
                channel, self._was_there = None, False
            if channel is None:
                channel = self._connect()
                try:
                    self._settle(channel)
                except BaseException:
                    channel.close()
                    raise
                self._channel = channel
                self._close = weakref.finalize(self, channel.close)
                self._was_there = True
            return channel

    def _settle(self, channel: Channel) -> None:
        """Do what a new connection needs before it is used."""

    def _drop(self, channel: Channel) -> None:
        if self._channel is channel:
            self._channel = None
            if self._close is not None:
                self._close.detach()

    def lost(self, channel: Channel) -> None:
        """Give up a connection that failed."""
        with self._lock:
            if self._channel is channel:
                self._drop(channel)
                channel.close()

    def again(self, work: Callable[[Channel], Result], *, patient: bool = True) -> Result:
        """What *work* gives, with another connection if one is lost; it must bear to be repeated.

        Unless *patient*, that is tried once, and at once.  Raises OSError.
        """
        is_first = True
        with self._waiting.request() as tries:
            while True:
                channel = None
                try:
                    channel = self.channel()
                    return work(channel)
                except Malformed as error:
                    if channel is not None:
                        self.lost(channel)
                    raise OSError(errno.EPROTO, f"the server answers wrongly: {error}") from error
                except ConnectionLost as error:
                    if channel is not None:
                        self.lost(channel)
                    # one that ended since it was used last is no reason to wait
                    retry = self._was_there and patient and tries.wait(str(error.strerror))
                    if not retry and not (self._was_there and is_first and channel is not None):
                        tries.in_vain()
                        raise OSError(errno.ENOTCONN, error.strerror) from error
                    is_first = False

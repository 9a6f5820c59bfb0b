"""Who asks a server, again if need be, and takes up his locks again."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from ibtfs.errors import StorageFailed
from ibtfs.store.storage.pipe import ConnectionLost, Malformed
from ibtfs.store.storage.reconnecting import Reconnecting
from ibtfs.store.storage.ssh import wire
from ibtfs.store.storage.ssh.channel import Connect, StoreChannel
from ibtfs.store.storage.waiting import RETRY_SECONDS

Result = TypeVar("Result")
SECRET_BYTES = 16


def replied(future: Future[wire.Message]) -> wire.Message:
    """The reply to a request.  Raises what went wrong, ConnectionLost, Malformed."""
    return wire.answer(future.result())


class StoreClient(Reconnecting[StoreChannel]):
    """Asks the server that *connect* leads to, which messages call *shown*; threads may share it.

    *leases* are the names of the locks that are held, each with its token and whether its group may
    write: a new connection takes them up first.
    """

    def __init__(self, connect: Connect, shown: str, retry_seconds: float = RETRY_SECONDS) -> None:
        secret = os.urandom(SECRET_BYTES)
        super().__init__(lambda: connect(secret), shown, retry_seconds)
        self.leases: dict[str, tuple[str, bool]] = {}
        self._file_numbers = itertools.count(1)

    def new_number(self) -> int:
        """A number for another object or upload; of several connections, too."""
        return next(self._file_numbers)

    def _settle(self, channel: StoreChannel) -> None:
        futures = [
            channel.ask("lease", shared, name, token, False)
            for name, (token, shared) in list(self.leases.items())
        ]
        for future in futures:
            replied(future)  # what is lost the server knows, and finishes nothing under it

    def does(self, work: Callable[[StoreChannel], Result], *, patient: bool = True) -> Result:
        """What *work* gives, which bears to be repeated.

        Raises what the server says went wrong, StorageFailed.
        """
        try:
            return self.again(work, patient=patient)
        except OSError as error:
            raise StorageFailed(f"{self.shown}: not reached: {error.strerror}") from error

    def ask(self, verb: str, *words: Any, patient: bool = True) -> None:
        """Have something done, which bears to be repeated.  Raises as :meth:`does`."""
        self.does(
            lambda channel: wire.values_of(replied(channel.ask(verb, *words))), patient=patient
        )

    def values(self, types: tuple[type, ...], verb: str, *words: Any) -> tuple[Any, ...]:
        """The values, of these *types*, of the reply to a request.  Raises as :meth:`does`."""
        return self.does(lambda channel: wire.values_of(replied(channel.ask(verb, *words)), *types))

    def ask_for(self, kind: type[Result], verb: str, *words: Any) -> Result:
        """The one value, of *kind*, of the reply to a request.  Raises as :meth:`does`."""
        value: Result = self.values((kind,), verb, *words)[0]
        return value

    def told(self, verb: str, *words: Any) -> None:
        """Send a request whose reply does not matter, if there is a connection."""
        channel = self._channel
        if channel is not None and channel.owner == os.getpid():
            try:
                channel.ask(verb, *words)
            except (ConnectionLost, Malformed):
                return

"""What a client reads: objects, and names."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict, deque
from types import TracebackType

from ibtfs.errors import StorageFailed
from ibtfs.store.storage.pipe import Malformed
from ibtfs.store.storage.ssh import wire
from ibtfs.store.storage.ssh.channel import StoreChannel
from ibtfs.store.storage.ssh.client import StoreClient, replied

AHEAD_BYTES = 16 << 20
"""Of what came with the opening of objects so much is kept, and what came last."""
LIST_LIMIT = 10_000_000


class Ahead:
    """What came with the opening of objects, by their numbers; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, tuple[int, bytes]] = OrderedDict()
        self._bytes = 0

    def keep(self, number: int, first: int, data: bytes) -> None:
        """Keep the bytes from *first* of an object."""
        with self._lock:
            self._kept[number] = (first, data)
            self._bytes += len(data)
            while self._bytes > AHEAD_BYTES:
                _, (_, gone) = self._kept.popitem(last=False)
                self._bytes -= len(gone)

    def read(self, number: int, offset: int, size: int) -> bytes | None:
        """Bytes of an object, if they are all here."""
        with self._lock:
            first, data = self._kept.get(number, (0, b""))
        if first <= offset and offset + size <= first + len(data):
            return data[offset - first : offset - first + size]
        return None

    def drop(self, number: int) -> None:
        """Let go of what came with an object."""
        with self._lock:
            _, gone = self._kept.pop(number, (0, b""))
            self._bytes -= len(gone)


class StoreObject:
    """An object opened for reading at any place, as StoredObject says."""

    def __init__(
        self, client: StoreClient, ahead: Ahead, left: deque[int], name: str, number: int, size: int
    ) -> None:
        self._client, self._ahead, self._number = client, ahead, number
        self.name = self.shown = self._stored_as = name
        self.size = size
        # closed by whoever asks next: what is collected is so anywhere, in the middle of a request
        self._close = weakref.finalize(self, left.append, number)

    def read(self, offset: int, size: int) -> bytes:
        """As StoredObject says."""
        size = min(size, self.size - offset)
        if size <= 0:
            return b""
        found = self._ahead.read(self._number, offset, size)
        if found is not None:
            return found
        return self._client.does(lambda channel: self._read(channel, offset, size))

    def _read(self, channel: StoreChannel, offset: int, size: int) -> bytes:
        places = [
            (at, min(wire.PIECE, offset + size - at))
            for at in range(offset, offset + size, wire.PIECE)
        ]
        futures = [channel.ask("read", self._number, self._stored_as, *place) for place in places]
        pieces = []
        for (_, wanted), future in zip(places, futures):
            piece = replied(future).data
            if len(piece) > wanted:
                raise Malformed("more than was asked for")
            pieces.append(piece)
            if len(piece) < wanted:
                break
        return b"".join(pieces)

    def is_removed(self) -> bool:
        """As StoredObject says."""
        return self._client.ask_for(bool, "removed", self._number, self._stored_as)

    def close(self) -> None:
        """As StoredObject says."""
        self._close()

    def __enter__(self) -> StoreObject:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self.close()


def listed(client: StoreClient, folder: str, unfinished: bool) -> list[str]:
    """The names in *folder*, sorted.  Raises StorageFailed."""
    found: list[str] = []

    def page(channel: StoreChannel) -> tuple[list[str], bool]:
        after = found[-1] if found else ""
        reply = replied(channel.ask("list", folder, unfinished, after))
        (is_last,) = wire.values_of(reply, bool)
        names = [os.fsdecode(name) for name in reply.data.split(b"\0")] if reply.data else []
        wrong = {"", ".", ".."} & set(names) or any("/" in name for name in names)
        if wrong or any(one >= other for one, other in zip([after, *names], names)):
            raise Malformed("names that no folder has")
        return names, is_last

    while True:
        names, is_last = client.does(page)
        found += names
        if is_last or not names:
            return found
        if len(found) > LIST_LIMIT:
            raise StorageFailed(f"{folder}: the server lists it without end")

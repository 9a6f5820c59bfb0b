"""An object on its way to a WebDAV server, which takes it by one request, and wholly or not at all.

So it is kept here until it is there: what was cut off is sent again from the beginning.  It is kept
on the disk, and sent when its size is known, for many servers refuse or lose a body without one.
"""

from __future__ import annotations

import os
import tempfile
from typing import BinaryIO, Protocol, cast

from ibtfs.errors import IbtfsError, ObjectMissing, StorageFailed
from ibtfs.store.storage.objects.client import NotReached
from ibtfs.store.storage.waiting import Waiting

KEPT = 4 << 20
"""Bytes that are kept in memory, and not on the disk."""
LARGE = "/var/tmp"


class Putting(Protocol):
    """What a stream needs of its client."""

    def put_whole(self, key: str, body: bytes | BinaryIO, size: int) -> None:
        """Put an object."""
        ...

    def make_folder(self, folder: str) -> None:
        """Make a folder."""
        ...


class DavStream:
    """Bytes for *key*, as ObjectStream says; the server is waited for *seconds*."""

    def __init__(self, client: Putting, key: str, shown: str, seconds: float) -> None:
        self._client, self._key = client, key
        self._waiting = Waiting(shown, seconds)
        self._size = 0
        self._folder = _spool_folder()
        self._file = tempfile.SpooledTemporaryFile(KEPT, dir=self._folder)  # noqa: SIM115

    def write(self, data: bytes) -> None:
        """As ObjectStream says."""
        try:
            self._file.write(data)
        except OSError as error:
            raise StorageFailed(
                f"{self._key}: cannot be kept in {self._folder} until it is sent: {error.strerror}"
            ) from error
        self._size += len(data)

    def finish(self) -> None:
        """As ObjectStream says."""
        with self._file as file, self._waiting.request() as tries:
            while True:
                try:
                    self._put(cast(BinaryIO, file))
                    return
                except NotReached as error:
                    if not tries.wait(str(error)):
                        tries.in_vain()
                        raise

    def _put(self, file: BinaryIO) -> None:
        try:
            self._client.put_whole(self._key, file, self._size)
        except ObjectMissing:
            # an empty folder may have been swept while this was written
            self._client.make_folder(self._key.rpartition("/")[0])
            self._client.put_whole(self._key, file, self._size)

    def abort(self) -> None:
        """As ObjectStream says."""
        try:
            self._file.close()
        except (OSError, IbtfsError):
            pass  # of what is dropped


def _spool_folder() -> str:
    """Where temporary files lie that may be large: what is chosen, or else not in memory."""
    chosen = tempfile.gettempdir()
    return LARGE if chosen == "/tmp" and os.access(LARGE, os.W_OK) else chosen

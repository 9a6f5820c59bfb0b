"""An object being put: under another name until its owner's leases were seen, then renamed."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol

from ibtfs.errors import IbtfsError, LockLost, ObjectExists, ObjectMissing, StorageFailed
from ibtfs.store.storage.background import at_once
from ibtfs.store.storage.base import LOST
from ibtfs.store.storage.leases import LeaseBook
from ibtfs.store.storage.objects.asking import Asking
from ibtfs.store.storage.objects.client import Found, NotReached, ObjectStream, Seen
from ibtfs.store.storage.objects.lease import ObjectLease

SMALL = 1 << 20
"""Bytes that are put by one request, which can be repeated; what is larger is a stream."""
COMPARED = 64 << 10
"""Of an object that may be this one, so many bytes are compared, and its size."""


class Place(Protocol):
    """What an upload needs of its storage; ObjectStorage says what each does."""

    asking: Asking
    leases: LeaseBook[ObjectLease]

    def look(self, name: str) -> Found | None:
        """What an object is."""
        ...

    def put_whole(self, name: str, data: bytes) -> None:
        """Put what is not much under a name."""
        ...

    def make_folders_above(self, name: str) -> None:
        """Make the folders that an object is to lie in."""
        ...

    def changed(self, name: str) -> None:
        """An object came or went."""
        ...

    def drop_beside(self, name: str) -> None:
        """Remove an object that means nothing any more, beside."""
        ...


class ObjectUpload:
    """An object being put, as Upload says; *in_place* of what has its name, or as a new one.

    *direct*: it may have its name before the leases were seen, for nothing is done by it alone.
    *is_shown*: others see what is about to be named as soon as something is written.  Used by one
    thread.
    """

    def __init__(
        self, storage: Place, name: str, *, in_place: bool = False, direct: bool = False,
        is_shown: bool = True,
    ) -> None:  # fmt: skip
        self._storage, self.name, self._in_place = storage, name, in_place
        self._client, self._asking = storage.asking.client, storage.asking
        self._direct, self._is_shown = direct, is_shown and not direct
        folder, slash, base = name.rpartition("/")
        self._part = name if direct else f"{folder}{slash}{storage.leases.part_name(base)}"
        self.size = 0
        self._begins = bytearray()
        self._held = bytearray()
        self._arrived = -1
        self._stream: ObjectStream | None = None
        self._is_open, self._was_named = True, False
        self._seen: Seen | None = None

    def write(self, data: bytes | memoryview) -> None:
        """As Upload says."""
        self._begins += data[: max(COMPARED - len(self._begins), 0)]
        self.size += len(data)
        self._held += data
        if self._stream is None and self._arrived < 0 and self._is_shown:
            self._put_part()
        if len(self._held) > SMALL:
            if self._stream is None:
                self._storage.make_folders_above(self.name)
                self._stream = self._client.stream(self._part)
            self._send(self._stream)

    def _send(self, stream: ObjectStream) -> None:
        held, self._held = bytes(self._held), bytearray()
        try:
            stream.write(held)
        except NotReached as error:
            raise self._lost(error) from error

    def _lost(self, error: NotReached) -> StorageFailed:
        return StorageFailed(f"{self._asking.shown}: lost while writing {self.name}: {error}")

    def finish(self) -> None:
        """As Upload says."""
        if self._direct:
            self._require_leases()
            if self._seen is not None and self._seen.found is not None:
                self.abort()
                raise ObjectExists(f"{self.name}: is there already")
        self._arrive()
        if not self._direct:
            # whoever breaks a lock removes it first, and then what was begun under it: either the
            # lock is missed here, or the part is found by him, and missed when it is renamed
            self._require_leases()
            self._asking.again(self._name)
        self._is_open = False
        self._storage.changed(self.name)

    def _require_leases(self) -> None:
        """Raise LockLost unless the leases are in place; look what has the name, if need be."""

        def look() -> None:
            self._seen = Seen(self._storage.look(self.name))

        if self._client.copies_to_rename:
            at_once(self._storage.leases.require, look)
        else:
            self._storage.leases.require()

    def _put_part(self) -> None:
        """Put all that was written, which is not much."""
        if len(self._held) <= SMALL:
            self._storage.put_whole(self._part, bytes(self._held))
            self._arrived = self.size

    def _arrive(self) -> None:
        stream = self._stream
        if stream is None:
            if self._arrived != self.size:
                self._put_part()
            return
        self._send(stream)
        try:
            stream.finish()
        except NotReached as error:
            raise self._lost(error) from error

    def _name(self) -> None:
        """Give the part its name; it has it already if the reply that said so was lost."""
        is_again, self._was_named = self._was_named, True
        try:
            self._client.rename(
                self._part, self.name, replace=self._in_place, seen=self._seen,
                drop=self._storage.drop_beside if any(self._storage.leases) else None,
            )  # fmt: skip
        except ObjectExists:
            if not (is_again and self._is_this()):
                raise ObjectExists(f"{self.name}: is there already") from None
            self._client.remove(self._part)
        except ObjectMissing:
            if not (is_again and self._is_this()):
                raise LockLost(LOST) from None
        if not self._client.copies_to_rename:
            self._require_whole()

    def _require_whole(self) -> None:
        """See that nothing that was sent before and given up has changed what has the name now."""
        found = self._client.look(self.name)
        if found is None or found.size != self.size:
            self._client.remove(self.name)
            raise StorageFailed(f"{self.name}: is not as long as what was put: the server erred")

    def _is_this(self) -> bool:
        """Whether what has the name is what was put here."""
        found = self._client.look(self.name)
        if found is None or found.size != self.size:
            return False
        return self._client.read(self.name, 0, len(self._begins)) == self._begins

    def abort(self) -> None:
        """As Upload says."""
        if not self._is_open:
            return
        self._is_open = False
        if self._stream is not None:
            self._stream.abort()
        if self._direct:
            return
        try:
            self._asking.again(lambda: self._client.remove(self._part), patient=False)
        except IbtfsError:
            pass  # the server is not reached: what was begun is found later

    def __enter__(self) -> ObjectUpload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self.abort()

"""A repository among objects that a server keeps: the storage's verbs, and leases.

An object is put under the name of a part and renamed when the leases of its owner were seen, so
that nobody whose lock was broken finishes anything.  Only the files of new archives, which mean
nothing before a manifest names them, are put where they belong at once if renaming costs a copy.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence
from types import TracebackType

from ibtfs.errors import (
    IbtfsError,
    NotARepository,
    ObjectMissing,
    RepositoryExists,
    StorageError,
)
from ibtfs.store import layout
from ibtfs.store.storage.background import Background
from ibtfs.store.storage.base import ObjectToken, Space, is_unfinished, unfinished_of
from ibtfs.store.storage.far import Names
from ibtfs.store.storage.leases import LeaseBook
from ibtfs.store.storage.objects.asking import Asking
from ibtfs.store.storage.objects.client import Found
from ibtfs.store.storage.objects.lease import ObjectLease, ends_as_beat, is_beat
from ibtfs.store.storage.objects.listings import Listings
from ibtfs.store.storage.objects.listings import Names as FoundNames
from ibtfs.store.storage.objects.surveys import Surveys, token_of
from ibtfs.store.storage.objects.upload import ObjectUpload

UNKNOWN = 1 << 40
LEASE = b"\n"
"""What a lease holds: of what is empty some servers do not tell when it was put."""
COPY_SECONDS = 10.0
"""A server that was already copying a small object to its name has done so after this time."""
BESIDE = 4
"""Requests that nobody waits for, at the same time."""
COPY_BYTES = 10_000_000
"""Bytes that a server copies in a second, at least."""


class RemoteObject:
    """An object to be read by ranges, as StoredObject says."""

    def __init__(self, asking: Asking, name: str, size: int) -> None:
        self._asking, self.name, self.size = asking, name, size
        self.shown = name

    def read(self, offset: int, size: int) -> bytes:
        """As StoredObject says."""
        size = min(size, self.size - offset)
        if size <= 0:
            return b""
        return self._asking.again(lambda: self._asking.client.read(self.name, offset, size))

    def is_removed(self) -> bool:
        """As StoredObject says: nothing keeps its room because it is open."""
        return False

    def close(self) -> None:
        """As StoredObject says; there is nothing to release."""

    def __enter__(self) -> RemoteObject:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        pass


class ObjectStorage:
    """A repository's objects, for which *asking* asks; *root* is the place as it was given.

    Threads may share it.
    """

    is_far = True

    def __init__(self, root: bytes, asking: Asking) -> None:
        self.root, self.asking = root, asking
        self.leases: LeaseBook[ObjectLease] = LeaseBook()
        self._listings = Listings(lambda folder: asking.again(lambda: asking.client.names(folder)))
        self._surveys = Surveys(asking, self._listings)
        self._beside = Background(BESIDE)

    def shared_as(self, shared: bool) -> ObjectStorage:
        """As FolderStorage says; who may write, the server decides."""
        return ObjectStorage(self.root, self.asking)

    # The place

    def create(self) -> None:
        """As FolderStorage says."""
        self.check_new()
        client = self.asking.client
        if not self.has_folder(""):
            self.asking.again(lambda: client.make_folder(""))

    def check_new(self) -> None:
        """As FolderStorage says."""
        names, shown = self._listings.fresh(""), self.asking.shown
        if layout.CONFIG in names:
            raise RepositoryExists(f"{shown!r} is a repository already")
        keys = self._listings.fresh(layout.KEYS) if layout.KEYS in names else ()
        if not all(layout.is_left_of_making(name, keys) for name in names):
            raise RepositoryExists(
                f"{shown!r} is not empty and not a repository: name a new folder"
            )

    def has_repository(self) -> bool:
        """As FolderStorage says."""
        return self.look(layout.CONFIG) is not None

    def require_there(self) -> None:
        """As FolderStorage says."""
        if not self.has_folder(""):
            raise NotARepository(f"No such repository: {self.asking.shown!r} does not exist")

    def make_folders(self) -> None:
        """As FolderStorage says."""
        for folder in layout.FOLDERS:
            self._make_folder(folder)

    def _make_folder(self, folder: str) -> None:
        self.asking.again(lambda: self.asking.client.make_folder(folder))

    def make_folders_above(self, name: str) -> None:
        """Make the folders that *name* is to lie in, but the repository's own."""
        parts = name.split("/")[:-1]
        for count in range(1, len(parts) + 1):
            self._make_folder("/".join(parts[:count]))

    # The verbs

    def put(self, name: str) -> ObjectUpload:
        """As Storage says."""
        file = layout.parse_archive_file(name)
        is_new = bool(layout.archive_of(name)) and file is not None and file.generation == 1
        # by its index an archive comes into being: that nobody does who lost his lock
        is_new = is_new and file is not None and file.kind != layout.INDEX
        direct = is_new and self.asking.client.copies_to_rename
        return ObjectUpload(self, name, direct=direct, is_shown=file is None)

    def replace(self, name: str) -> ObjectUpload:
        """As Healing says."""
        return ObjectUpload(self, name, in_place=True)

    def put_new(self, name: str, data: bytes) -> None:
        """As Storage says."""
        with self.put(name) as upload:
            upload.write(data)
            upload.finish()

    def put_whole(self, name: str, data: bytes) -> None:
        """Have *data*, which is not much, under *name*, and the folders above it."""
        for is_last in (False, True):
            try:
                self.asking.again(lambda: self.asking.client.put(name, data))
            except ObjectMissing:
                if is_last:
                    raise
                self.make_folders_above(name)
            else:
                return

    def open(self, name: str) -> RemoteObject:
        """As Storage says."""
        found = self.look(name)
        if found is None:
            raise ObjectMissing(f"{name}: no such file in the repository")
        return RemoteObject(self.asking, name, found.size)

    def open_end(self, name: str, most: int, size: int = -1) -> tuple[RemoteObject, bytes]:
        """As FarPlace says."""
        found = self.asking.again(lambda: self.asking.client.end(name, most))
        if found is None:
            raise ObjectMissing(f"{name}: no such file in the repository")
        return RemoteObject(self.asking, name, found[0].size), found[1]

    def survey(self, folders: Sequence[str]) -> dict[str, Names]:
        """As FarPlace says."""
        return self._surveys.survey(folders)

    def look(self, name: str) -> Found | None:
        """What *name* is; None if it is not there.  Raises StorageFailed."""
        return self.asking.again(lambda: self.asking.client.look(name))

    def list(self, folder: str, *, unfinished: bool = False) -> list[str]:
        """As Storage says."""
        names = self._listings.fresh(folder)
        return sorted(name for name in names if unfinished or not is_unfinished(name))

    def delete(self, name: str) -> None:
        """As Storage says."""
        client = self.asking.client
        self.asking.again(lambda: client.remove(name))
        self.changed(name)
        above = name.rpartition("/")[0]
        if above in layout.NESTED:
            self._drop_folder(name)
        elif above.startswith(f"{layout.ARCHIVES}/"):
            # others may be putting something into any other one: ids of archives never return
            self._drop_folder(above)

    def drop_beside(self, name: str) -> None:
        """Remove *name*, which means nothing any more, if the server can be reached.

        It is waited for when leases are given back.
        """

        def work() -> None:
            with contextlib.suppress(IbtfsError):  # it is found later
                self.asking.again(lambda: self.asking.client.remove(name), patient=False)

        self._beside.submit(work)

    def rest(self) -> None:
        """Wait until nothing is done beside."""
        self._beside.rest()

    def drop(self, name: str) -> None:
        """Remove *name*, without waiting for the server.  Raises StorageFailed."""
        self.asking.again(lambda: self.asking.client.remove(name), patient=False)
        self.changed(name)

    def changed(self, name: str) -> None:
        """*name* came or went by this process."""
        self._listings.forget(name.partition("/")[0])

    def _drop_folder(self, name: str) -> None:
        """Remove the folder *name* if it is empty."""
        with contextlib.suppress(IbtfsError):  # it harms nobody
            self.asking.again(lambda: self.asking.client.remove_folder(name), patient=False)

    # Leases

    def lease(self, name: str, token: str) -> ObjectLease:
        """As Leases says."""
        try:
            self.put_whole(name, LEASE)
            self.changed(name)
            lease = ObjectLease(self, name, token)
            self.leases.add(lease)
        except BaseException:
            with contextlib.suppress(IbtfsError):
                self.drop(name)  # it may be there already, and nobody would refresh it
            raise
        return lease

    def release(self, lease: ObjectLease) -> None:
        """*lease* is given back: what is put does not depend on it any more."""
        self.leases.remove(lease)

    def put_beat(self, name: str) -> None:
        """Put the object *name*, there or not.  Raises StorageFailed."""
        self.asking.again(lambda: self.asking.client.put(name, LEASE), patient=False)

    def drop_unfinished(self, token: str) -> None:
        """As Leases says; what a server may be about to copy is waited for."""
        names = unfinished_of(self, token)
        sizes = [
            found.size
            for name in names
            if not ends_as_beat(name)
            if (found := self.look(name)) is not None
        ]
        for name in names:
            self.delete(name)
        if sizes:  # also where renaming is said to be one step: who knows what lies behind
            time.sleep(COPY_SECONDS + max(sizes) / COPY_BYTES)

    def is_held(self, name: str) -> bool | None:
        """As Leases says: of others it cannot be told, but that what is not there is not held."""
        if any(name == lease.beat for lease in self.leases):
            return True
        return False if self.look(name) is None else None

    def age(self, name: str, now: str) -> float:
        """As Leases says."""
        if self.look(name) is None:
            return float("inf")
        there, here = self._beaten_ns(name), self._beaten_ns(now)
        return (here - there) / 1e9 if here else 0.0

    def _beaten_ns(self, name: str) -> int:
        """When *name*, or its beat, was put last; 0 if it is not there."""
        folder, _, base = name.rpartition("/")
        names = self._listings.fresh(folder)
        return max(_times(names, base), default=0) if base in names else 0

    # The volume

    def space(self) -> Space:
        """As Volume says: as good as endless."""
        return Space(4096, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN)

    def refusal(self) -> str:
        """As Volume says: what the server refuses it says when that is tried."""
        return ""

    def sync(self, folders: Iterable[str]) -> None:
        """As Volume says; what a server has told to be there is."""

    def folder_token(self, folder: str, settles_ns: int = 0) -> int:
        """As Volume says; what others change is seen some seconds later."""
        return self._listings.token(folder)

    def has_folder(self, folder: str) -> bool:
        """As Volume says."""
        return self.asking.again(lambda: self.asking.client.has_folder(folder))

    def changed_ns(self, folder: str) -> int:
        """As Volume says, as far as this process has seen it."""
        try:
            return self._listings.changed_ns(folder)
        except StorageError:
            return 0

    def made(self, name: str) -> int:
        """As Volume says."""
        try:
            found = self.look(name)
        except StorageError:
            return 0
        return found.changed_ns // 1_000_000_000 if found is not None else 0

    def token(self, name: str) -> ObjectToken:
        """As Volume says: size, time, and what the server calls it; as it was listed last."""
        folder, _, base = name.rpartition("/")
        found = self._listings.found(folder, base) or self.look(name)
        if found is None:
            raise ObjectMissing(f"{name}: no such file in the repository")
        return token_of(found)


def _times(names: FoundNames, base: str) -> list[int]:
    return [
        found.changed_ns
        for name, found in names.items()
        if found is not None and (name == base or is_beat(name, base))
    ]

"""What a repository asks of a storage: five verbs; and beside them what only some storages can.

Names are text with ``/`` in it, as :mod:`ibtfs.store.layout` makes them.  Nothing above a storage
knows paths, opens files or calls fsync.  The verbs are put, put_new, open (ranges of an object),
list and delete, and no others: no append, no rename.  Only what heals a damaged object has replace:
the bytes are those that the object had when it was written.

:class:`Leases` are for storages that can tell whether the owner of a lock lives, :class:`Volume`
for those that lie on a file system.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import NamedTuple, Protocol

from ibtfs.errors import ObjectUnreadable
from ibtfs.store.layout import FOLDERS, NESTED

UNFINISHED = ".part"
"""How the names of uploads end: objects that are not whole yet."""
TOKEN_SETTLES_NS = 100_000_000
TOKEN_DIGITS = 8
"""The token of a lease: so many hexadecimal digits; what is put by its owner is begun under it."""
LOST = (
    "The lock of this run was removed or went stale (was the machine asleep?); "
    "nothing is lost, run the command again"
)
ObjectToken = tuple[int, int, int, int]
"""What tells whether an object is the one that was seen before; equal tokens, the same object."""


class StoredObject(Protocol):
    """An object opened for reading at any place; threads may share it.  A context manager.

    *name* is its name, *shown* how messages name it, *size* its size in bytes.
    """

    name: str
    shown: str
    size: int

    def read(self, offset: int, size: int) -> bytes:
        """*size* bytes from *offset*; fewer where the object ends.

        Raises ObjectUnreadable, StorageFailed.
        """
        ...

    def is_removed(self) -> bool:
        """Whether it has no name any more, and keeps its room only because it is open."""
        ...

    def close(self) -> None:
        """Release it; closing twice is harmless."""
        ...

    def __enter__(self) -> StoredObject: ...

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None: ...


class Upload(Protocol):
    """An object being put: write, then finish; dropped without a trace when left otherwise.

    A context manager that drops it after an exception.  *size* is how many bytes were written.
    """

    name: str
    size: int

    def write(self, data: bytes | memoryview) -> None:
        """Append *data*.  Raises StorageFull, StorageFailed."""
        ...

    def finish(self) -> None:
        """Make the object durable, then visible.

        Raises ObjectExists if it is not new, StorageFull, StorageFailed.
        """
        ...

    def abort(self) -> None:
        """Drop what was written; harmless after finish."""
        ...

    def __enter__(self) -> Upload: ...

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None: ...


class Storage(Protocol):
    """Holds the objects of a repository; threads may share it.

    An object is invisible until it is whole and durable, and never changes afterwards.
    """

    def put(self, name: str) -> Upload:
        """Begin to put *name*, which must be new, as a stream.

        Raises StorageFull, StorageFailed.
        """
        ...

    def put_new(self, name: str, data: bytes) -> None:
        """Put *data* at once.

        Raises ObjectExists if *name* is there, StorageFull, StorageFailed.
        """
        ...

    def open(self, name: str) -> StoredObject:
        """Ranges of *name*, for the asking.

        Raises ObjectMissing, ObjectUnreadable (also for what is no file), StorageFailed.
        """
        ...

    def list(self, folder: str, *, unfinished: bool = False) -> list[str]:
        """The names in *folder*, sorted; none if there is no such folder; ``""`` is the top.

        With *unfinished*, the names of uploads too, which were begun and are not finished:
        :func:`is_unfinished` tells them.  Raises StorageFailed.
        """
        ...

    def delete(self, name: str) -> None:
        """Remove *name*, durably, and its folder if that is left empty; those at the top stay.

        *name* may be an empty folder.  What is missing is fine.  Raises StorageFailed.
        """
        ...


class Lease(Protocol):
    """An empty object that its owner holds for as long as he lives."""

    def is_in_place(self) -> bool:
        """Whether the object is still there and still this one."""
        ...

    def refresh(self) -> None:
        """Make it young again.  Raises OSError."""
        ...

    def release(self) -> None:
        """Remove it."""
        ...


class Leases(Protocol):
    """Objects that tell whether their owner lives: what locks are made of."""

    def lease(self, name: str, token: str) -> Lease:
        """Make an empty object that is held as long as its owner lives.

        Until it is released, what is put is begun under *token*, and fails with LockLost when the
        object is not there any more.  Raises StorageFailed.
        """
        ...

    def drop_unfinished(self, token: str) -> None:
        """Remove all uploads that were begun under *token*, so that none of them is finished.

        To be done behind the removal of the object of that lease.  Raises StorageFailed.
        """
        ...

    def is_held(self, name: str) -> bool | None:
        """Whether a lease's owner lives on this machine; None if that cannot be told."""
        ...

    def age(self, name: str, now: str) -> float:
        """Seconds since *name* was made or refreshed, at the time when *now* was.

        Both by the clock of the storage: those of the machines that write to it may differ by
        days.  Endless if *name* is not there, 0 if *now* is not.
        """
        ...


class Healing(Protocol):
    """The one exception from write-once: an object that was damaged gets its bytes back."""

    def replace(self, name: str) -> Upload:
        """Begin to put *name* in the place of what lies there, if anything does.

        What is written must be the bytes that the object had before it was damaged.  It is in its
        place by one step when it is finished; until then the damaged one is.  Raises StorageFull,
        StorageFailed.
        """
        ...


class Space(NamedTuple):
    """How large a file system is, and what of it is free, as statvfs tells."""

    block_size: int
    blocks: int
    blocks_free: int
    blocks_available: int
    files: int
    files_free: int


class Volume(Protocol):
    """What a storage on a file system can tell, and do, beyond the verbs."""

    def space(self) -> Space:
        """The file system that holds the repository.  Raises StorageFailed."""
        ...

    def refusal(self) -> str:
        """Why nothing can be written here; empty if that may be tried."""
        ...

    def sync(self, folders: Iterable[str]) -> None:
        """Make the names in *folders* durable, whoever put them there.  Raises StorageFailed."""
        ...

    def folder_token(self, folder: str, settles_ns: int = TOKEN_SETTLES_NS) -> int:
        """A number that changes when names in *folder* do.

        0 if it is not there, or was changed less than *settles_ns* ago, so that the next change may
        not show.
        """
        ...

    def has_folder(self, folder: str) -> bool:
        """Whether *folder* is there.  Raises StorageFailed if that cannot be told."""
        ...

    def changed_ns(self, folder: str) -> int:
        """When a name in *folder* last came or went, in ns since 1970; 0 if it is not there."""
        ...

    def made(self, name: str) -> int:
        """When *name* was put, in seconds since 1970 by the storage's clock; 0 if not there."""
        ...

    def token(self, name: str) -> ObjectToken:
        """What tells *name* from another object put there later.  Raises ObjectMissing."""
        ...


class HealingStorage(Storage, Healing, Protocol):
    """A storage in which damaged objects get their bytes back."""


class FolderStorage(Storage, Leases, Healing, Volume, Protocol):
    """All that a repository needs of the place that it lies in: a folder, here or elsewhere.

    *root* is that place, as it was given: an absolute path, or an address.
    """

    @property
    def root(self) -> bytes:
        """Where it lies."""
        ...

    @property
    def is_far(self) -> bool:
        """Whether each request is waited for; what is so is a FarPlace."""
        ...

    def shared_as(self, shared: bool) -> FolderStorage:
        """The same place; if *shared*, its group may write to what is made there."""
        ...

    def create(self) -> None:
        """Make the folder of a new repository.  Raises RepositoryExists, RepositoryError."""
        ...

    def check_new(self) -> None:
        """Raise unless a repository may be made here.  Raises RepositoryExists, RepositoryError."""
        ...

    def require_there(self) -> None:
        """Raise NotARepository if there is nothing.  Raises StorageFailed."""
        ...

    def has_repository(self) -> bool:
        """Whether there is a repository.  Raises StorageFailed."""
        ...

    def make_folders(self) -> None:
        """Make the folders of a new repository, durably, and its own name where it lies."""
        ...


class LockableStorage(Storage, Leases, Protocol):
    """A storage in which locks can be taken."""


def is_unfinished(name: str) -> bool:
    """Whether *name*, as a storage lists it, is that of an upload that was not finished."""
    return name.endswith(UNFINISHED)


def token_of(name: str) -> str:
    """The token that an upload, of which *name* tells :func:`is_unfinished`, was begun under."""
    return name[: -len(UNFINISHED)].rpartition(".")[2][:TOKEN_DIGITS]


def whole(storage: Storage, name: str, limit: int) -> bytes:
    """All of *name*, which may not exceed *limit* bytes.

    Raises ObjectMissing, ObjectUnreadable, StorageFailed.
    """
    with storage.open(name) as stored:
        if stored.size > limit:
            raise ObjectUnreadable(f"{name}: {stored.size} bytes, too large for what it is")
        return stored.read(0, stored.size)


def unfinished_of(storage: Storage, token: str) -> list[str]:
    """All uploads of *storage* that were begun under *token*.  Raises StorageFailed."""
    folders = ["", *FOLDERS]
    for folder in NESTED:
        folders += [f"{folder}/{name}" for name in storage.list(folder)]
    return [
        f"{folder}/{name}" if folder else name
        for folder in folders
        for name in storage.list(folder, unfinished=True)
        if is_unfinished(name) and token_of(name) == token
    ]


def drop_unfinished(storage: Storage, token: str) -> None:
    """Remove all uploads of *storage* that were begun under *token*.  Raises StorageFailed."""
    for name in unfinished_of(storage, token):
        storage.delete(name)

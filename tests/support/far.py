"""A storage that seems far away: its requests are counted, and each takes a while.

It lies before any other storage.  What is asked for at the same time counts each, and is waited
for once: ``rounds`` tells how many requests one after the other something took at least, each
begun when the one before it was answered.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

import pytest

from ibtfs.errors import ObjectMissing
from ibtfs.store import repository
from ibtfs.store.storage import bundled, opening
from ibtfs.store.storage.base import (
    TOKEN_SETTLES_NS,
    FolderStorage,
    Lease,
    ObjectToken,
    Space,
    StoredObject,
    Upload,
)
from ibtfs.store.storage.far import BELOW, Names
from ibtfs.store.storage.local import LocalStorage

Result = TypeVar("Result")
ROOT = b"ssh://far.example/repository"


class Request(NamedTuple):
    """One request: what was asked for, of which object or folder, and in which round."""

    kind: str
    name: str
    round: int


class Requests:
    """The requests that were made; each takes *delay* seconds.  Threads may share it.

    All bytes that are read come by one link of *rate* bytes a second, if that is not 0.
    """

    def __init__(self, delay: float = 0.0, rate: float = 0.0) -> None:
        self.delay, self.rate, self.bytes = delay, rate, 0
        self._free = 0.0
        self.made: list[Request] = []
        self._lock = threading.Lock()
        self._answered = self._under_way = 0

    def wait(self, seconds: float = 0.05) -> None:
        """Wait until nothing was asked for some time: some of it is asked for beside."""
        before = -1
        while before != self.count or self._under_way:
            before = self.count
            time.sleep(seconds)

    def clear(self) -> None:
        """Count anew."""
        with self._lock:
            self.made, self._answered = [], 0

    @contextmanager
    def one(self, kind: str, name: str = "") -> Iterator[None]:
        """A request is under way."""
        with self._lock:
            mine = self._answered + 1
            self._under_way += 1
            self.made.append(Request(kind, name, mine))
        if self.delay:
            time.sleep(self.delay)
        try:
            yield
        finally:
            with self._lock:
                self._answered = max(self._answered, mine)
                self._under_way -= 1

    def came(self, data: bytes) -> bytes:
        """*data*, when it has come."""
        with self._lock:
            self.bytes += len(data)
            self._free = max(self._free, time.monotonic()) + len(data) / (self.rate or 1e12)
            wait = self._free - time.monotonic()
        if self.rate and wait > 0:
            time.sleep(wait)
        return data

    def asked(self, kind: str, name: str, work: Callable[[], Result]) -> Result:
        """What *work* gives, by a request."""
        with self.one(kind, name):
            return work()

    @property
    def count(self) -> int:
        """How many there were."""
        return len(self.made)

    @property
    def rounds(self) -> int:
        """How many of them, at least, were made one after the other."""
        return max((request.round for request in self.made), default=0)

    def table(self) -> str:
        """What was asked for, by kind and folder, most often first."""
        counts = Counter(
            f"{r.kind} {r.name.partition('/')[0] or '.'}/{_kind(r.name)}" for r in self.made
        )
        return ", ".join(f"{count} {what}" for what, count in counts.most_common())


def _kind(name: str) -> str:
    parts = name.split("/")
    return parts[2] if len(parts) > 2 and parts[0] == "archives" else ""


class FarObject:
    """An object that is read from afar, as StoredObject says."""

    def __init__(self, stored: StoredObject, requests: Requests) -> None:
        self._stored, self._requests = stored, requests
        self.name, self.shown, self.size = stored.name, stored.shown, stored.size

    def read(self, offset: int, size: int) -> bytes:
        """As StoredObject says."""
        with self._requests.one("read", self.name):
            return self._requests.came(self._stored.read(offset, size))

    def is_removed(self) -> bool:
        """As StoredObject says."""
        return self._requests.asked("is removed", self.name, self._stored.is_removed)

    def close(self) -> None:
        """As StoredObject says."""
        self._stored.close()

    def __enter__(self) -> FarObject:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self.close()


class FarUpload:
    """An object on its way: it is waited for when it is finished."""

    def __init__(self, upload: Upload, requests: Requests) -> None:
        self._upload, self._requests = upload, requests
        self.name = upload.name
        self._ended = False

    @property
    def size(self) -> int:
        """As Upload says."""
        return self._upload.size

    def write(self, data: bytes | memoryview) -> None:
        """As Upload says."""
        self._upload.write(data)

    def finish(self) -> None:
        """As Upload says."""
        self._ended = True
        self._requests.asked("put", self.name, self._upload.finish)

    def abort(self) -> None:
        """As Upload says."""
        if self._ended:
            self._upload.abort()
            return
        self._ended = True
        self._requests.asked("abort", self.name, self._upload.abort)

    def __enter__(self) -> FarUpload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if kind is not None:
            self.abort()


class FarLease:
    """A lease far away."""

    def __init__(self, lease: Lease, name: str, requests: Requests) -> None:
        self._lease, self._name, self._requests = lease, name, requests

    def is_in_place(self) -> bool:
        """As Lease says."""
        return self._requests.asked("in place", self._name, self._lease.is_in_place)

    def refresh(self) -> None:
        """As Lease says."""
        self._requests.asked("refresh", self._name, self._lease.refresh)

    def release(self) -> None:
        """As Lease says."""
        self._requests.asked("release", self._name, self._lease.release)


class FarStorage:
    """The storage *place*, as if it were far away, as FolderStorage says."""

    def __init__(
        self, place: FolderStorage, requests: Requests | None = None, root: bytes = ROOT
    ) -> None:
        self._place, self.root = place, root
        self.requests = requests or Requests()

    @property
    def is_far(self) -> bool:
        """As FolderStorage says."""
        return True

    def _asked(self, kind: str, name: str, work: Callable[[], Result]) -> Result:
        return self.requests.asked(kind, name, work)

    def shared_as(self, shared: bool) -> FarStorage:
        """As FolderStorage says."""
        return FarStorage(self._place.shared_as(shared), self.requests, self.root)

    # The place

    def create(self) -> None:
        """As FolderStorage says."""
        self._asked("create", "", self._place.create)

    def check_new(self) -> None:
        """As FolderStorage says."""
        self._asked("check new", "", self._place.check_new)

    def require_there(self) -> None:
        """As FolderStorage says."""
        self._asked("require there", "", self._place.require_there)

    def has_repository(self) -> bool:
        """As FolderStorage says."""
        return self._asked("has repository", "", self._place.has_repository)

    def make_folders(self) -> None:
        """As FolderStorage says."""
        self._asked("make folders", "", self._place.make_folders)

    # The verbs

    def put(self, name: str) -> FarUpload:
        """As Storage says."""
        return FarUpload(self._place.put(name), self.requests)

    def replace(self, name: str) -> FarUpload:
        """As Healing says."""
        return FarUpload(self._place.replace(name), self.requests)

    def put_new(self, name: str, data: bytes) -> None:
        """As Storage says."""
        self._asked("put", name, lambda: self._place.put_new(name, data))

    def open(self, name: str) -> FarObject:
        """As Storage says."""
        found = self._asked("open", name, lambda: self._place.open(name))
        return FarObject(found, self.requests)

    def list(self, folder: str, *, unfinished: bool = False) -> list[str]:
        """As Storage says."""
        return self._asked("list", folder, lambda: self._place.list(folder, unfinished=unfinished))

    def open_end(self, name: str, most: int, size: int = -1) -> tuple[FarObject, bytes]:
        """As FarPlace says."""
        with self.requests.one("fetch", name):
            stored = self._place.open(name)
            first = max(stored.size - most, 0)
            end = self.requests.came(stored.read(first, stored.size - first))
            return FarObject(stored, self.requests), end

    def survey(self, folders: Sequence[str]) -> dict[str, Names]:
        """As FarPlace says."""
        with self.requests.one("survey", " ".join(folders)):
            found: dict[str, Names] = {}
            for folder in folders:
                if not folder.endswith(BELOW):
                    found[folder] = self._names(folder)
                    continue
                top = folder.removesuffix(BELOW)
                for name in self._place.list(top):
                    found[f"{top}/{name}"] = self._names(f"{top}/{name}")
            return found

    def _names(self, folder: str) -> Names:
        names = self._place.list(folder, unfinished=True)
        return {name: self._token(f"{folder}/{name}" if folder else name) for name in names}

    def _token(self, name: str) -> ObjectToken | None:
        if self._place.has_folder(name):
            return None
        try:
            return _told(self._place.token(name))
        except ObjectMissing:
            return None

    def delete(self, name: str) -> None:
        """As Storage says."""
        self._asked("delete", name, lambda: self._place.delete(name))

    # Leases

    def lease(self, name: str, token: str) -> FarLease:
        """As Leases says."""
        lease = self._asked("lease", name, lambda: self._place.lease(name, token))
        return FarLease(lease, name, self.requests)

    def drop_unfinished(self, token: str) -> None:
        """As Leases says."""
        self._asked("drop unfinished", token, lambda: self._place.drop_unfinished(token))

    def is_held(self, name: str) -> bool | None:
        """As Leases says."""
        return self._asked("is held", name, lambda: self._place.is_held(name))

    def age(self, name: str, now: str) -> float:
        """As Leases says."""
        return self._asked("age", name, lambda: self._place.age(name, now))

    # The volume

    def space(self) -> Space:
        """As Volume says."""
        return self._asked("space", "", self._place.space)

    def refusal(self) -> str:
        """As Volume says."""
        return self._asked("refusal", "", self._place.refusal)

    def sync(self, folders: Iterable[str]) -> None:
        """As Volume says; a request for each."""
        for folder in folders:
            self._asked("sync", folder, lambda: self._place.sync([folder]))

    def folder_token(self, folder: str, settles_ns: int = TOKEN_SETTLES_NS) -> int:
        """As Volume says."""
        return self._asked(
            "folder token", folder, lambda: self._place.folder_token(folder, settles_ns)
        )

    def has_folder(self, folder: str) -> bool:
        """As Volume says."""
        return self._asked("has folder", folder, lambda: self._place.has_folder(folder))

    def changed_ns(self, folder: str) -> int:
        """As Volume says."""
        return self._asked("changed", folder, lambda: self._place.changed_ns(folder))

    def made(self, name: str) -> int:
        """As Volume says."""
        return self._asked("made", name, lambda: self._place.made(name))

    def token(self, name: str) -> ObjectToken:
        """As Volume says."""
        return _told(self._asked("token", name, lambda: self._place.token(name)))


def _told(token: ObjectToken) -> ObjectToken:
    """What most storages tell: the size, and when it was changed."""
    return token[0], token[1], 0, 0


def move_far_away(patch: pytest.MonkeyPatch, cache: bytes) -> None:
    """Have all folders of this machine that hold repositories be far away, with a local *cache*.

    What others did is seen at once.
    """
    real_at, real_open = opening.storage_at, repository.Repository.open

    def storage_at(place: opening.Place) -> FolderStorage:
        found = real_at(place)
        return FarStorage(found, root=found.root) if isinstance(found, LocalStorage) else found

    def opened(place: opening.Place, **options: Any) -> repository.Repository:
        return real_open(place, **{"cache_folder": cache, **options})

    for module in list(sys.modules.values()):
        if getattr(module, "storage_at", None) is real_at:
            patch.setattr(module, "storage_at", storage_at)
    patch.setattr(repository.Repository, "open", opened)
    patch.setattr(bundled, "LOOK_SECONDS", 0.0)

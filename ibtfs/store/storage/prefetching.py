"""Reading what lies far away: ends come with their objects, indexes whole, many at once.

What was listed of an archive is remembered until somebody misses something, or writes there.  What
is remembered only ever says where to look: generations never change, and who finds that one has
gone looks once more.  Listings that others are to be seen in are made anew by who asks for them.
"""

from __future__ import annotations

import functools
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import NamedTuple

from ibtfs.errors import IbtfsError, ObjectMissing
from ibtfs.store import layout
from ibtfs.store.index_cache import IndexCache
from ibtfs.store.storage.background import Background
from ibtfs.store.storage.base import ObjectToken, StoredObject, is_unfinished
from ibtfs.store.storage.far import BELOW, FarPlace, Names
from ibtfs.store.storage.kept import Data, Kept, PartlyKept

IN_FLIGHT = 32
END_BYTES = 64 << 10
"""So much of its end comes with an object: all of a manifest, and where frames of data lie."""
INDEX_BYTES = 8 << 20
"""An index is fetched whole up to this."""
KEPT_BYTES = 32 << 20
EXPECTED_BYTES = 64 << 20
"""Of indexes that are expected so many are fetched before anybody asks for them."""
DOUBT_SECONDS = 5.0
_NONE: Names = {}


class Wanted(NamedTuple):
    """An object that never changes: what lies as *name* has *token* (and so this size).

    *fetch* opens it, and gives all of it, or its end; *reopen* opens it.  Messages call it *shown*.
    """

    name: str
    token: ObjectToken
    fetch: Callable[[], tuple[StoredObject, Data]]
    reopen: Callable[[], StoredObject]
    shown: str = ""


class Prefetching:
    """Reads from *place*; threads may share it.

    *cache*, once it is set, keeps indexes over the end of the process.
    """

    def __init__(self, place: FarPlace) -> None:
        self._place = place
        self.cache: IndexCache | None = None
        self._kept, self._once = Kept(KEPT_BYTES), Kept(KEPT_BYTES)
        self._background = Background(IN_FLIGHT)
        self._lock = threading.Lock()
        self._archives: dict[str, Names] = {}
        self._tops: dict[str, Names] = {}
        self._is_complete, self._unsure = False, set[str]()
        self._under_way: dict[str, Future[None]] = {}
        self._numbers = itertools.count()
        self._doubted: dict[str, float] = {}

    # What lies there

    def survey(self, folders: Sequence[str]) -> dict[str, Names]:
        """What lies in *folders* now, as FarPlace says; it is remembered."""
        if not folders:
            return {}
        found = {**dict.fromkeys(folders, _NONE), **self._place.survey(folders)}
        with self._lock:
            if layout.ARCHIVES + BELOW in folders:
                self._archives, self._is_complete, self._unsure = {}, True, set()
            for folder, names in found.items():
                archive_id = layout.archive_in(folder)
                (self._archives if archive_id else self._tops)[archive_id or folder] = names
                self._unsure.discard(archive_id)
        return found

    def list(self, folder: str, *, unfinished: bool = False) -> list[str]:
        """The names in *folder* now, as Storage says."""
        names = self.survey([folder])[folder]
        return sorted(name for name in names if unfinished or not is_unfinished(name))

    def known(self, archive_id: str) -> Names | None:
        """What lay in the folder of an archive when it was looked at last; None if it was not."""
        is_told = self._is_complete and archive_id not in self._unsure
        return self._archives.get(archive_id, _NONE if is_told else None)

    def forget(self, archive_id: str) -> None:
        """Remember no more what lies in the folder of an archive."""
        with self._lock:
            self._archives.pop(archive_id, None)
            self._unsure.add(archive_id)

    def forget_all(self) -> None:
        """Remember nothing of what was listed."""
        with self._lock:
            self._archives, self._tops, self._is_complete = {}, {}, False
        self._once.drop_all()

    def folder_token(self, folder: str, settles_ns: int) -> int:
        """As Volume says."""
        return self._place.folder_token(folder, settles_ns)

    def token(self, name: str) -> ObjectToken:
        """What tells an object from others, as it was when its folder was listed last."""
        return self.listed(name) or self._place.token(name)

    def listed(self, name: str) -> ObjectToken | None:
        """As :meth:`token`; None if it was not listed."""
        folder, _, base = name.rpartition("/")
        archive_id = layout.archive_of(name)
        names = self.known(archive_id) if archive_id else self._tops.get(folder)
        return names.get(base) if names is not None else None

    # Objects

    def open(self, name: str) -> StoredObject:
        """An object, as Storage says, with its end."""
        came = self._once.drop(name)
        if came is not None:
            return PartlyKept(name, len(came), lambda: came, lambda: self._place.open(name))
        try:
            token = self.listed(name)
            if token is not None and (layout.is_index(name) or layout.is_bundle(name)):
                return self.lasting(self._wanted(name, token))
            size = token[0] if token is not None else -1
            return self._with_end(*self._place.open_end(name, END_BYTES, size))
        except ObjectMissing:
            self.forget(layout.archive_of(name))
            raise

    def _wanted(self, name: str, token: ObjectToken) -> Wanted:
        most = INDEX_BYTES if layout.is_index(name) else END_BYTES
        return Wanted(
            name,
            token,
            lambda: self._place.open_end(name, most, token[0]),
            lambda: self._place.open(name),
        )

    def _with_end(self, stored: StoredObject, end: Data) -> StoredObject:
        key = stored.name, next(self._numbers)
        self._kept.put(key, end)
        return PartlyKept(
            stored.name, stored.size, lambda: self._kept.get(key),
            lambda: self._place.open(stored.name), stored.shown, stored,
        )  # fmt: skip

    def lasting(self, wanted: Wanted) -> StoredObject:
        """An object that never changes, fetched as far as it is, or as it was fetched before."""
        self._wait(wanted.name)
        if self._known_bytes(wanted) is None:
            stored, data = wanted.fetch()
            if stored.size != wanted.token[0]:
                return self._with_end(stored, data)  # it is not what was listed
            stored.close()
            self._keep(wanted, data)
        return PartlyKept(
            wanted.name, wanted.token[0], lambda: self._known_bytes(wanted), wanted.reopen,
            wanted.shown,
        )  # fmt: skip

    def _known_bytes(self, wanted: Wanted) -> Data | None:
        key = wanted.name, wanted.token
        data = self._kept.get(key)
        if data is None and self.cache is not None:
            data = self.cache.get(*key)
            if data is not None:
                self._kept.put(key, data)
        return data

    def _keep(self, wanted: Wanted, data: Data) -> None:
        self._kept.put((wanted.name, wanted.token), data)
        if self.cache is not None:
            self.cache.put(wanted.name, wanted.token, bytes(data))

    def doubt(self, archive_id: str, indexes: Iterable[Wanted]) -> bool:
        """Keep nothing more of an archive that seems damaged; whether anything was kept.

        *indexes* are its own.  It is not asked again and again.
        """
        now = time.monotonic()
        if now - self._doubted.get(archive_id, -DOUBT_SECONDS) < DOUBT_SECONDS:
            return False
        self._doubted[archive_id] = now
        folder = layout.archive(archive_id)
        found = self._kept.drop_all(
            lambda key: isinstance(key, tuple) and str(key[0]).startswith(f"{folder}/")
        )
        for index in indexes:
            found = (self.cache is not None and self.cache.drop(index.name)) or found
        return found

    # Ahead

    def expect(self, wanted: Iterable[Wanted]) -> None:
        """Fetch lasting objects that will be asked for, beside, many at once."""
        self._require_process()
        left = EXPECTED_BYTES
        for one in wanted:
            known = self._kept.get((one.name, one.token)) is not None
            if known or (self.cache is not None and self.cache.has(one.name)):
                continue
            size = min(one.token[0], INDEX_BYTES)
            left -= size
            if left < 0:
                return
            with self._lock:
                if one.name not in self._under_way:
                    self._under_way[one.name] = self._background.submit(
                        functools.partial(self._ahead, one)
                    )

    def wanted(self, name: str) -> Wanted | None:
        """The index, or bundle, *name* as it was listed last; None if it was not."""
        token = self.listed(name)
        return self._wanted(name, token) if token is not None else None

    def _ahead(self, wanted: Wanted) -> None:
        try:
            stored, data = wanted.fetch()
            if stored.size == wanted.token[0]:
                self._keep(wanted, data)
            stored.close()
        except IbtfsError:
            pass  # whoever asks for it is told
        finally:
            with self._lock:
                self._under_way.pop(wanted.name, None)

    def _wait(self, name: str) -> None:
        """Wait for what is under way; what has not begun is not waited for."""
        self._require_process()
        with self._lock:
            future = self._under_way.get(name)
        if future is None:
            return
        if future.cancel():
            with self._lock:
                self._under_way.pop(name, None)
        else:
            future.exception()

    def _require_process(self) -> None:
        if self._background.is_forked():
            self._under_way = {}

    def fetch(self, names: Iterable[str]) -> None:
        """Fetch objects that are opened next, each once, all at the same time; small ones stay."""

        def one(name: str) -> None:
            token = self.listed(name)
            size = token[0] if token is not None else -1
            stored, end = self._place.open_end(name, END_BYTES, size)
            if len(end) == stored.size:
                self._once.put(name, end)
            stored.close()

        self._once.drop_all()
        self._background.each(one, names)

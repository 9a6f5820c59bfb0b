"""Reading what lies far away: ends come with their objects, indexes whole, many at once."""

from __future__ import annotations

import contextlib
import functools
import itertools
import time
from collections import Counter
from collections.abc import Callable, Collection, Container, Iterable, Sequence
from concurrent.futures import Future

from ibtfs.errors import IbtfsError, ObjectMissing
from ibtfs.store import layout
from ibtfs.store.index_cache import IndexCache
from ibtfs.store.storage.background import Background
from ibtfs.store.storage.base import ObjectToken, StoredObject
from ibtfs.store.storage.far import INDEX_BYTES, Data, FarPlace, Names, Wanted
from ibtfs.store.storage.kept import Kept, PartlyKept
from ibtfs.store.storage.read_ahead import ReadAhead, Room
from ibtfs.store.storage.remembered import Remembered

IN_FLIGHT, SMALL_IN_FLIGHT = 32, 64
END_BYTES = 64 << 10
"""So much of its end comes with an object: all of a manifest, and where frames of data lie."""
KEPT_BYTES = 32 << 20
EXPECTED_BYTES = 64 << 20
"""Of indexes that are expected so many are fetched before anybody asks for them."""
DOUBT_SECONDS = 5.0
COPY_SECONDS = 7 * 24 * 3600.0
"""A copy that was fetched longer ago is fetched again: the stored one may have rotted."""


class Prefetching(Remembered):
    """Reads from *place*; threads may share it.

    *cache*, once it is set, keeps indexes over the end of the process, of which *counts* is true
    when they come: what was listed last says that they were neither replaced nor removed.  None is
    used that was fetched longer ago than *copy_seconds*.
    """

    def __init__(self, place: FarPlace) -> None:
        super().__init__(place, IN_FLIGHT)
        self.cache: IndexCache | None = None
        self.copy_seconds = COPY_SECONDS
        self.counts: Callable[[str], bool | None] = lambda _: None
        self._kept, self._once, self._put = (Kept(KEPT_BYTES) for _ in range(3))
        self._reading, self._room = Background(IN_FLIGHT), Room()
        self._under_way: dict[str, Future[None]] = {}
        self._numbers = itertools.count()
        self._doubted: dict[str, float] = {}
        self._drops: Counter[str] = Counter()
        self._distrusted: frozenset[str] = frozenset()

    def survey(self, folders: Sequence[str]) -> dict[str, Names]:
        """As Remembered says; indexes that were put here are kept as what they are listed as."""
        found = super().survey(folders)
        for name in map(str, self._put.all()):
            token, data = self.listed(name), self._put.get(name)
            if token is not None and data is not None:
                self._put.drop(name)
                if len(data) == token[0]:
                    self._keep(self._wanted(name, token), data, self.drops(name))
        return found

    def was_put(self, name: str, data: bytes | None) -> None:
        """*data*, if it is not too much, was put here as the new object *name*."""
        if data is not None:
            self._put.put(name, data)

    def forget_all(self) -> None:
        """Remember nothing of what was listed, and nothing that was fetched to be opened once."""
        super().forget_all()
        self._once.drop_all()

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
            return self._with_end(name, *self._place.open_end(name, END_BYTES, size))
        except ObjectMissing:
            self.forget(layout.archive_of(name))
            raise

    def _wanted(self, name: str, token: ObjectToken) -> Wanted:
        most = INDEX_BYTES if layout.is_index(name) else END_BYTES
        return Wanted(
            name, token, lambda: self._place.open_end(name, most, token[0]),
            lambda: self._in_order(self._place.open(name)),
        )  # fmt: skip

    def _with_end(self, name: str, stored: StoredObject, end: Data) -> StoredObject:
        key = name, next(self._numbers)
        self._kept.put(key, end)
        return PartlyKept(
            name, stored.size, lambda: self._kept.get(key), lambda: self._place.open(name),
            stored.shown, self._in_order(stored),
        )  # fmt: skip

    def _in_order(self, stored: StoredObject) -> StoredObject:
        """*stored*, read ahead of who reads it in order."""
        return ReadAhead(stored, self._reading, self._room)

    def lasting(self, wanted: Wanted) -> StoredObject:
        """An object that never changes, fetched as far as it is, or as it was fetched before."""
        self._wait(wanted.name)
        if self._known_bytes(wanted) is None:
            before = self.drops(wanted.name)
            stored, data = wanted.fetch()
            if stored.size != wanted.token[0]:
                return self._with_end(wanted.name, stored, data)  # it is not what was listed
            stored.close()
            self._keep(wanted, data, before)
        return PartlyKept(
            wanted.name, wanted.token[0], lambda: self._known_bytes(wanted), wanted.reopen,
            wanted.shown,
        )  # fmt: skip

    def _known_bytes(self, wanted: Wanted) -> Data | None:
        key = wanted.name, wanted.token
        data = self._kept.get(key)
        cache = self._cache_of(wanted.name)
        if data is None and cache is not None:
            before = self.drops(wanted.name)
            data = cache.get(*key, self.copy_seconds)
            if data is not None and not self._put_kept(wanted, data, before):
                return None
        return data

    def drops(self, name: str) -> int:
        """How often what was kept of an archive, or of an object in it, was dropped."""
        return self._drops[layout.archive_of(name) or name]

    def _put_kept(self, wanted: Wanted, data: Data, before: int) -> bool:
        """Keep *data*, if since *before* nothing was dropped; whether it is so."""
        with self._lock:
            is_good = self.drops(wanted.name) == before
            if is_good:
                self._kept.put((wanted.name, wanted.token), data)
            return is_good

    def _cache_of(self, name: str) -> IndexCache | None:
        """What may keep the object *name* over the end of the process."""
        return None if layout.archive_of(name) in self._distrusted else self.cache

    def _keep(self, wanted: Wanted, data: Data, before: int) -> None:
        """Keep what was fetched, unless it was asked for *before* something was dropped."""
        cache = self._cache_of(wanted.name)
        if not self._put_kept(wanted, data, before):
            return
        if cache is not None and self.counts(wanted.name):
            cache.put(wanted.name, wanted.token, bytes(data))
            if self.drops(wanted.name) != before:
                cache.drop(wanted.name)

    def doubt(self, archive_id: str, indexes: Iterable[Wanted], before: int) -> bool:
        """Keep nothing more of an archive that seems damaged; whether it is worth another try.

        *indexes* are its own.  It was read *before* so many drops: others may have dropped since
        what it was read from.  It is not dropped again and again.
        """
        now = time.monotonic()
        with self._lock:
            if self.drops(layout.archive_object(archive_id, layout.INDEX)) != before:
                return True
            if now - self._doubted.get(archive_id, -DOUBT_SECONDS) < DOUBT_SECONDS:
                return False
            self._doubted[archive_id] = now
            return self._drop_copies(archive_id, indexes)

    def drop_copies(self, archive_id: str, indexes: Iterable[Wanted]) -> None:
        """Keep nothing more of an archive of which something else lies there now."""
        with self._lock:
            self._drop_copies(archive_id, indexes)

    def _drop_copies(self, archive_id: str, indexes: Iterable[Wanted]) -> bool:
        found = self._drop_kept({archive_id})
        for index in indexes:
            found = (self.cache is not None and self.cache.drop(index.name)) or found
        self._drops[archive_id] += 1
        return found

    def _drop_kept(self, archive_ids: Container[str]) -> bool:
        return self._kept.drop_all(
            lambda key: isinstance(key, tuple) and layout.archive_of(str(key[0])) in archive_ids
        )

    def distrust(self, archive_ids: Collection[str]) -> None:
        """Use nothing of these archives that was kept by others, or before."""
        new = set(archive_ids) - self._distrusted
        if new:
            with self._lock:
                self._distrusted |= new
                self._drop_kept(new)
                self._drops.update(new)

    # Ahead

    def expect(self, wanted: Iterable[Wanted]) -> None:
        """Fetch lasting objects that will be asked for, beside, many at once."""
        # what no cache takes has to stay until it is asked for
        left = KEPT_BYTES if self.cache is None else EXPECTED_BYTES
        for one in wanted:
            size = min(one.token[0], INDEX_BYTES)
            with self._lock:
                # what was under way is kept first, then it is not under way any more
                if one.name in self._under_way:
                    left -= size
                    continue
                known = self._kept.get((one.name, one.token)) is not None
                cache = self._cache_of(one.name)
                if known and cache is None:
                    left -= size
                is_cached = cache is not None and cache.has(one.name, one.token, self.copy_seconds)
                if known or is_cached:
                    continue
                left -= size
                if left < 0:
                    return
                self._under_way[one.name] = self._background.submit(
                    functools.partial(self._ahead, one)
                )

    def wanted(self, name: str) -> Wanted | None:
        """The index, or bundle, *name* as it was listed last; None if it was not."""
        token = self.listed(name)
        return self._wanted(name, token) if token is not None else None

    def _ahead(self, wanted: Wanted) -> None:
        try:
            before = self.drops(wanted.name)
            stored, data = wanted.fetch()
            if stored.size == wanted.token[0]:
                self._keep(wanted, data, before)
            stored.close()
        except IbtfsError:
            pass  # whoever asks for it is told
        finally:
            with self._lock:
                self._under_way.pop(wanted.name, None)

    def _wait(self, name: str) -> None:
        """Wait for what is under way; what has not begun is not waited for."""
        with self._lock:
            future = self._under_way.get(name)
        if future is None:
            return
        if future.cancel():
            with self._lock:
                self._under_way.pop(name, None)
        else:
            future.exception()

    def beside(self, work: Callable[[], None]) -> None:
        """Have *work* done beside; whoever needs what it did not do is told why."""

        def done() -> None:
            with contextlib.suppress(IbtfsError):
                work()

        self._background.submit(done)

    def rest(self) -> None:
        """Wait until nothing is under way, so that the process can be forked."""
        self._background.rest()
        self._reading.rest()

    def _begin_forked(self) -> None:
        super()._begin_forked()
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
        Background(SMALL_IN_FLIGHT).each(one, names)

"""A repository as a whole: made, opened, its archives handed out, its locks taken."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Container, Iterable, Mapping
from functools import partial

from ibtfs.errors import (
    IbtfsError,
    NotARepository,
    ObjectExists,
    ObjectMissing,
    RepositoryError,
    RepositoryExists,
    UnsupportedFormat,
)
from ibtfs.format.compression import Codec
from ibtfs.format.config import CONFIG_LIMIT, LEVEL, Config, decode_config, encode_config
from ibtfs.format.keys import Keys, PlainKeys
from ibtfs.store import layout
from ibtfs.store.archive_lists import ArchiveLists
from ibtfs.store.archives.generations import generations
from ibtfs.store.archives.reader import ArchiveReader
from ibtfs.store.archives.readers import Readers
from ibtfs.store.cache import ByteCache
from ibtfs.store.damage_notes import DamageNotes
from ibtfs.store.index_cache import IndexCache
from ibtfs.store.lock import Lock, may_remove
from ibtfs.store.own_runs import points_of, reader_of
from ibtfs.store.settling import settle
from ibtfs.store.storage.address import is_remote, without_password
from ibtfs.store.storage.base import TOKEN_DIGITS, FolderStorage, Space, whole
from ibtfs.store.storage.bundled import BundledStorage
from ibtfs.store.storage.machine import machine_name
from ibtfs.store.storage.opening import Place, config_text, raise_if_untold, storage_at
from ibtfs.store.storage.renamed import RenamedStorage
from ibtfs.store.unlocking import Sealer, Unlock, UnlockedKeys, locked

CACHE_BYTES = 48 << 20


class Repository(ArchiveLists):
    """A repository; threads may share it.  Reading needs no lock and no write access.

    *id* are its 16 bytes, *config* is what it says of itself, *points* are its backup points,
    *damage* the notes of what is damaged, *cache* holds what was read, within *cache_bytes*.
    *storage* and *keys* are for the rooms of this layer; it lies at the *place* given.  *own* is
    all that a machine which only writes knows of it.
    """

    def __init__(
        self,
        place: FolderStorage,
        config: Config,
        unlocked: UnlockedKeys | None = None,
        *,
        cache_bytes: int = CACHE_BYTES,
        cache_folder: bytes = b"",
    ) -> None:
        self.unlocked = unlocked or UnlockedKeys(PlainKeys(config.id))
        self.keys: Keys = self.unlocked.keys
        if self.unlocked.names is not None:
            place = RenamedStorage(place, self.unlocked.names)
        storage, self.own = BundledStorage(place, config.id), self.unlocked.own
        super().__init__(storage, self.own)
        self.config, self.id = config, config.id
        self.cache = ByteCache(cache_bytes)
        keys, lists, own = self.keys, self.unlocked.lists, self.own
        self.points = points_of(storage, config, keys, own, cache_folder, lists)
        self.damage = DamageNotes(storage, self.keys, Codec(config.level))
        if cache_folder and own is None:
            address = without_password(place.root)
            storage.keep_in(IndexCache(cache_folder, config.id, address=address))
        self._readers = Readers(storage, partial(reader_of, storage, keys, own, self.cache, lists))
        self._worked_ns, self._notes = 0, frozenset[str]()

    @classmethod
    def create(
        cls, path: Place, repository_id: bytes, *, shared: bool = False, level: int = LEVEL,
        sealer: Sealer | None = None,
    ) -> Repository:  # fmt: skip
        """Make a repository at *path*, which may be an empty folder but not anything else.

        *repository_id* is 16 random bytes; *sealer* makes its keys if it is to be sealed.  Raises
        RepositoryExists, RepositoryError, UsageError if *path* is an address of nothing that there
        is.
        """
        config = Config(repository_id, shared, level, is_sealed=sealer is not None)
        place = storage_at(path).shared_as(shared)
        place.create()
        text = encode_config(config)
        left = place.list(layout.KEYS, unfinished=True)
        unlocked = None if sealer is None else sealer(place, repository_id, text)
        try:
            place.put_new(layout.CONFIG, text)  # from here on it is there, and has its keys
        except ObjectExists:
            raise RepositoryExists(f"{os.fsdecode(place.root)!r} is a repository already") from None
        for name in left:  # by a making that was cut off
            place.delete(f"{layout.KEYS}/{name}")
        place.make_folders()
        return cls(place, config, unlocked)

    @classmethod
    def open(
        cls, path: Place, *, cache_bytes: int = CACHE_BYTES, cache_folder: bytes = b"",
        unlock: Unlock = locked,
    ) -> Repository:  # fmt: skip
        """The repository at *path*.

        Raises NotARepository, UnsupportedFormat, ObjectUnreadable if its disk fails, UsageError if
        *path* is an address of nothing that there is, WrongKey.
        In *cache_folder* are copies of manifests, and of indexes that are far away.
        *unlock* gives the keys if it is sealed, or None if it is not and may be so."""
        shown = os.fsdecode((place := storage_at(path)).root)
        try:
            text = config_text(place)
        except NotARepository:
            raise
        except IbtfsError as error:
            raise_if_untold(place.root, error)
            raise NotARepository(f"{shown!r} is not an ibtfs repository: {error}") from error
        config = decode_config(text, f"{shown}/{layout.CONFIG}")
        place = place.shared_as(config.shared)
        unlocked = unlock(place, config, text)
        return cls(place, config, unlocked, cache_bytes=cache_bytes, cache_folder=cache_folder)

    @property
    def path(self) -> bytes:
        """Where it lies: an absolute path, or the address of another machine."""
        return self.storage.root

    @property
    def local_path(self) -> bytes | None:
        """The folder of this machine that it lies in; None if it lies on another one."""
        return None if is_remote(self.path) else self.path

    @property
    def is_far(self) -> bool:
        """Whether each request to where it lies is waited for."""
        return self.storage.is_far

    @property
    def path_shown(self) -> str:
        """Where it lies, as text."""
        return os.fsdecode(self.path)

    def require_writable(self) -> None:
        """Raise UnsupportedFormat if only a newer ibtfs may write here, RepositoryError if none."""
        if self.config.write_requires:
            needs = ", ".join(self.config.write_requires)
            raise UnsupportedFormat(f"The repository may be written by a newer ibtfs only: {needs}")
        reason = self.unlocked.refusal or self.storage.refusal()
        if reason:
            raise RepositoryError(f"The repository {self.path_shown!r} is not writable: {reason}")

    def refuse_writing(self, reason: str) -> None:
        """Have :meth:`require_writable` raise, for this *reason*."""
        self.unlocked = self.unlocked._replace(refusal=reason)

    def is_there(self) -> bool:
        """Whether the repository can still be found: its disk may have been unplugged."""
        try:
            self.require_there()
        except IbtfsError:
            return False
        return True

    def require_there(self) -> None:
        """Raise unless what is at its path is this repository.

        Raises ObjectMissing if nothing is, RepositoryError if another one is, StorageFailed.
        """
        try:
            text = whole(self.storage, layout.CONFIG, CONFIG_LIMIT)
        except ObjectMissing:
            gone = f"The repository {self.path_shown!r} is gone (a disk unplugged?)"
            raise ObjectMissing(gone) from None
        if decode_config(text, f"{self.path_shown}/{layout.CONFIG}").id != self.id:
            raise RepositoryError(
                f"{self.path_shown!r} is another repository by now (another disk in its place?): "
                "put back the first one, or mount this one anew"
            )

    def complete(self) -> None:
        """Make what folders are missing, durably, and the name of the repository itself."""
        self.storage.make_folders()

    def space(self) -> Space:
        """The file system that holds it.  Raises StorageFailed."""
        return self.storage.space()

    def lock(self, kind: str, beside: Collection[str] = (), *, changes_keys: bool = False) -> Lock:
        """A lock of *kind*, SHARED or EXCLUSIVE, of this process.  Raises RepositoryLocked.

        All that was read before is forgotten: others may have removed some of it.  *beside* are the
        names of locks that the caller has already.  Raises RepositoryError if the keys, but of who
        *changes_keys*, are not the newest any more.
        """
        token = os.urandom(TOKEN_DIGITS // 2).hex()
        # who comes by a path could not tell that it is held
        host = self.keys.host(("sftp-" if self.local_path is None else "") + machine_name())
        lock = Lock(
            self.storage, kind, host=host, process=os.getpid(), token=token, beside=beside,
            is_far=self.is_far,
        )  # fmt: skip
        self.forget_read()
        with contextlib.ExitStack() as until_good:
            until_good.callback(lock.release)
            if self.config.is_sealed and self.own is None and not changes_keys:
                self._require_newest_keys()
            until_good.pop_all()
        return lock

    def _require_newest_keys(self) -> None:
        """Who changes keys is alone: by older ones what was said by newer ones is not understood,
        such as that an archive was removed."""
        for name in self.storage.list(layout.KEYS):
            known = f"{layout.KEYS}/{name}" in self.unlocked.damaged
            if layout.parse_numbered(name) > self.unlocked.number and not known:
                raise RepositoryError(
                    "The keys of the repository were changed a moment ago: run the command again"
                )

    def locks(self) -> list[str]:
        """The names of the locks that are there."""
        return self.storage.list(layout.LOCKS)

    @property
    def era(self) -> int:
        """Goes up when what was found out before may not hold any more."""
        return self.cache.era

    # Archives

    def archive(self, archive_id: str) -> ArchiveReader:
        """The reader of an archive; nothing is opened before it is asked for something."""
        return self._readers.get(archive_id)

    def refresh(self) -> bool:
        """Look for later generations of the archives in use; whether there were any.

        If so, what was read of those is forgotten, and all that was found out by it.
        """
        return self._readers.refresh()

    def drop_replaced(self) -> None:
        """Let go of files of archives that were removed or replaced, to be called now and then.

        As long as nobody has worked here since the last time it costs one look at a folder; far
        away also while only backups do, which replace nothing.
        """
        worked_ns = self.storage.changed_ns(layout.LOCKS)
        if worked_ns == self._worked_ns:
            return
        at_work = self.storage.list(layout.LOCKS)
        if self.is_far:
            at_work = list(filter(may_remove, at_work))
        self._readers.drop_removed()
        self._worked_ns = 0 if at_work else worked_ns

    def look_around(self) -> None:
        """See, far away, which points there are; trust no copy of what is noted as damaged by now.

        To be called now and then beside what reads, which then waits for neither.
        """
        if not self.is_far:
            return
        self.storage.look_at([layout.POINTS, layout.DAMAGED])
        names = frozenset(self.storage.recent(layout.DAMAGED))
        if names != self._notes:
            self._readers.refresh_those(self.damage.all(recent=True).archives)
            self._notes = names

    def only_look(self) -> None:
        """Say that nothing is built on what is read: far away, old copies of it will do."""
        self.storage.use_old_copies()

    def look_ahead(self) -> None:
        """Begin to look, far away, which archives there are: who is to read needs to know it."""
        self.storage.look_ahead()

    def rest(self) -> None:
        """Wait until nothing is done beside any more, so that the process can be forked."""
        self.storage.rest()

    def forget_read(self) -> None:
        """Forget all that was read: whoever has just got a lock sees what others did before."""
        self._readers.clear()
        if self.unlocked.lists is not None:
            self.unlocked.lists.forget_read()
        self.storage.forget()
        self.points.forget_read()
        self.cache.begin_era()

    def age(self, archive_id: str, lock: Lock) -> float:
        """Seconds since an archive was made, by the storage's clock, when *lock* was refreshed."""
        oldest = layout.archive_file(archive_id, layout.INDEX, 1)
        return self.storage.age(oldest, layout.lock(lock.name))

    def missing_files(self, archive_id: str, kinds: Collection[str] | None = None) -> list[str]:
        """The files of *kinds* that an archive lacks; by default of those that contents need.

        Raises ObjectMissing, FormatDamaged if its header is asked and cannot be read.
        """
        return self._missing(archive_id, generations(self.storage, archive_id), kinds)

    def _missing(
        self, archive_id: str, present: Container[str], kinds: Collection[str] | None
    ) -> list[str]:
        if kinds is None and layout.INDEX in present:
            # digests of slabs that are lost are made again
            kinds = [kind for kind in self.archive(archive_id).kinds if kind != layout.SIGS]
        wanted = kinds or (layout.INDEX,)
        return [layout.archive_object(archive_id, kind) for kind in wanted if kind not in present]

    def _read_anew(self, archive_id: str) -> int:
        return self.archive(archive_id).read_anew()

    def settle_changes(self) -> None:
        """Make durable what runs that were killed removed, or put in another's place, just before.

        Else a power cut could take it back, and not what is removed because of it.  Raises
        StorageFailed.
        """
        later = (name for name, last in self.index_generations().items() if last > 1)
        self.points.settle()
        for folder in (layout.BUNDLES, *map(layout.archive, later)):
            with contextlib.suppress(ObjectMissing):
                self.storage.sync([folder])

    def settle(
        self,
        adopted: Iterable[str],
        written: Mapping[str, Collection[str]],
        read: Mapping[str, int],
    ) -> None:
        """Make durable what others may have put into *adopted* archives just now.

        And see that these, and those that were *written*, with the kinds of their files, have all
        their files; and that indexes are still of the generations that were *read*, for later ones
        may lack what was found there.  Raises ObjectMissing unless all is so, StorageFailed.
        """
        settle(self.storage, adopted, written, read, self._missing, self._read_anew)

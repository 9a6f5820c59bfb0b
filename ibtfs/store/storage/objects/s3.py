"""Objects in a bucket that is spoken to by S3; the home of obstore."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, TypeVar

from ibtfs.errors import IbtfsError, LibraryMissing, ObjectExists, ObjectMissing, StorageFailed
from ibtfs.store.storage.address import S3Address
from ibtfs.store.storage.objects.aws import Settings, settings_of
from ibtfs.store.storage.objects.client import Drop, Found, Seen
from ibtfs.store.storage.objects.s3_errors import code_of, refusal, status_of
from ibtfs.store.storage.objects.s3_stream import S3Stream

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Store

PART_BYTES = 32 << 20
"""Parts of what is streamed: an object may have 10,000, and they are held in memory."""
PARTS_AT_ONCE = 2
ANSWER_SECONDS, CONNECT_SECONDS = 30, 10
SLOW_SECONDS = 10 * 60
"""So long a part, or a copy, may take."""
FIRST_PAUSE, FIRST_PATIENT_PAUSE = 0.1, 0.5
"""How long a request, or a part, waits before it is tried again; then it is twice as long."""
PATIENT_SECONDS = 14 * 60
"""So long a part is tried again: less than the 15 minutes for which a signature holds."""
_MISSING = "S3 needs the Python library obstore: pip install 'ibtfs[s3]'"
_NEVER = 1 << 30
TRIES = 3
Result = TypeVar("Result")


class _Copied:
    """That a copy is there already under the new name."""


_State = Found | _Copied | None
"""What had a new name before an object was copied to it; or that it was copied."""
COPIED = _Copied()


class S3Client:
    """The objects at *address*, which messages call *shown*, as ObjectClient says.

    Nothing is looked at before the first request, not even for the library.
    """

    copies_to_rename = True

    def __init__(self, address: S3Address, shown: str, *, part_bytes: int = PART_BYTES) -> None:
        self._address, self._shown, self._part_bytes = address, shown, part_bytes
        self._lock = threading.Lock()
        self._settings: Settings | None = None
        self._stores: dict[tuple[bool, bool], S3Store] = {}
        self._renaming: dict[tuple[str, str], _State] = {}
        self._has_bucket = False

    # The way there

    def _store(self, *, slow: bool = False, patient: bool = False) -> S3Store:
        """The bucket: for short requests, or *slow* ones, and those that are tried for long."""
        with self._lock:
            found = self._stores.get((slow, patient))
            if found is None:
                self._settings = self._settings or settings_of(self._address)
                found = self._made(self._settings, slow, patient)
                self._stores[slow, patient] = found
            return found

    def _made(self, settings: Settings, slow: bool, patient: bool) -> S3Store:
        try:
            from obstore.store import S3Store
        except ImportError as error:
            raise LibraryMissing(_MISSING) from error
        config: dict[str, Any] = {"bucket": self._address.bucket, "disable_bulk_delete": "true"}
        if settings.region:
            config["region"] = settings.region
        if settings.endpoint:  # under both names, or the environment would come first
            config["endpoint"] = config["aws_endpoint_url_s3"] = settings.endpoint
        client: ClientConfig = {
            "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
            "timeout": timedelta(seconds=SLOW_SECONDS),
            "allow_http": settings.endpoint.startswith("http://"),
        }
        if not slow:
            client["read_timeout"] = timedelta(seconds=ANSWER_SECONDS)
        retry: RetryConfig = {
            "max_retries": _NEVER if patient else 0 if slow else 2,
            "retry_timeout": timedelta(seconds=PATIENT_SECONDS if patient else 5),
            "backoff": {
                "init_backoff": timedelta(seconds=FIRST_PATIENT_PAUSE if patient else FIRST_PAUSE),
                "max_backoff": timedelta(seconds=30 if patient else 1),
                "base": 2,
            },
        }
        keys = settings.keys
        if keys is not None:
            config["credential_provider"] = lambda: {
                "access_key_id": keys.access, "secret_access_key": keys.secret,
                "token": keys.token or None, "expires_at": None,
            }  # fmt: skip
        return self._asked(lambda: S3Store(client_options=client, retry_config=retry, **config))

    def _key(self, key: str) -> str:
        return "/".join(part for part in (self._address.prefix, key) if part)

    def _asked(self, work: Callable[[], Result]) -> Result:
        """What *work* gives; FileNotFoundError is left to who asks."""
        try:
            result = work()
        except FileNotFoundError as error:
            if code_of(error) == "NoSuchBucket":
                raise refusal(error, self._shown) from error
            raise
        except Exception as error:
            raise refusal(error, self._shown) from error
        return result

    # Requests

    def look(self, key: str) -> Found | None:
        """As ObjectClient says."""
        store, path = self._store(), self._key(key)
        import obstore

        try:
            found = self._asked(lambda: obstore.head(store, path))
        except FileNotFoundError:
            if not self._has_bucket:  # which the answer does not tell
                self.names("")
            return None
        self._has_bucket = True
        return _found(found["size"], found["last_modified"], found["e_tag"])

    def read(self, key: str, offset: int, size: int) -> bytes:
        """As ObjectClient says."""
        if size <= 0:
            return b""
        store, path = self._store(), self._key(key)
        import obstore

        def work() -> bytes:
            try:
                return obstore.get_range(store, path, start=offset, length=size).to_bytes()
            except Exception as error:
                if status_of(error) == 416:  # it ends before
                    return b""
                raise

        try:
            return self._asked(work)
        except FileNotFoundError as error:
            raise ObjectMissing(f"{key}: no such file in the repository") from error

    def end(self, key: str, most: int) -> tuple[Found, bytes] | None:
        """As ObjectClient says."""
        for _ in range(TRIES):
            found = self._end(key, most)
            if found is not None or self.look(key) is None:
                return found
        raise StorageFailed(f"{key}: {self._shown} lists it, and says that it is not there")

    def _end(self, key: str, most: int) -> tuple[Found, bytes] | None:
        store, path = self._store(), self._key(key)
        import obstore

        def work() -> tuple[Found, bytes]:
            got = obstore.get(store, path, options={"range": {"suffix": most}})
            meta, data = got.meta, got.bytes().to_bytes()
            return _found(meta["size"], meta["last_modified"], meta["e_tag"]), data

        try:
            found, data = self._asked(work)
        except FileNotFoundError:
            return None
        except StorageFailed:
            there = self.look(key)
            if there is None or there.size:
                raise
            return there, b""  # of what is empty there is no range
        self._has_bucket = True
        return found, data

    def below(self, folder: str) -> dict[str, dict[str, Found | None]]:
        """As ObjectClient says."""
        store, path = self._store(), self._key(folder)
        import obstore

        found: dict[str, dict[str, Found | None]] = {folder: {}}
        prefix = f"{path}/" if path else ""
        listed = self._asked(lambda: obstore.list(store, path or None, chunk_size=1000).collect())
        self._has_bucket = True
        for one in listed:
            if not one["path"].startswith(prefix):
                continue  # what some tools put to have a folder
            *folders, base = one["path"].removeprefix(prefix).split("/")
            above = folder
            for name in folders:
                found.setdefault(above, {})[name] = None
                above = f"{above}/{name}" if above else name
            told = _found(one["size"], one["last_modified"], one["e_tag"])
            found.setdefault(above, {}).setdefault(base, told)
        return found

    def names(self, folder: str) -> dict[str, Found | None]:
        """As ObjectClient says."""
        store, path = self._store(), self._key(folder)
        import obstore

        listed = self._asked(lambda: obstore.list_with_delimiter(store, path or None))
        self._has_bucket = True
        names: dict[str, Found | None] = {
            name.rpartition("/")[2]: None for name in listed["common_prefixes"]
        }
        for one in listed["objects"]:
            if one["path"] != path:  # what some tools put to have a folder
                found = _found(one["size"], one["last_modified"], one["e_tag"])
                names[one["path"].rpartition("/")[2]] = found
        return names

    def put(self, key: str, data: bytes) -> None:
        """As ObjectClient says."""
        store, path = self._store(), self._key(key)
        import obstore

        self._written(lambda: obstore.put(store, path, data, use_multipart=False))

    def _written(self, work: Callable[[], object]) -> None:
        try:
            self._asked(work)
        except FileNotFoundError as error:
            raise refusal(error, self._shown) from error

    def stream(self, key: str) -> S3Stream:
        """As ObjectClient says; what is begun is tried for 14 minutes."""
        store, path = self._store(slow=True, patient=True), self._key(key)
        import obstore

        writer = obstore.open_writer(
            store, path, buffer_size=self._part_bytes, max_concurrency=PARTS_AT_ONCE
        )

        def size_there() -> int | None:
            found = self.look(key)
            return found.size if found is not None else None

        return S3Stream(writer, self._shown, self._part_bytes, size_there)

    def rename(
        self, key: str, new: str, *, replace: bool, seen: Seen | None = None, drop: Drop = None
    ) -> None:
        """As ObjectClient says: it is copied, and then removed.

        What was done of it before a reply was lost is remembered until it is repeated.
        """
        step = (key, new)
        try:
            if self._renaming.get(step) is not COPIED:
                self._copy(key, new, replace, seen)
                self._renaming[step] = COPIED
            with contextlib.suppress(StorageFailed):  # who may not remove leaves what means nothing
                (drop or self.remove)(key)
        except IbtfsError:
            self._renaming.pop(step, None)
            raise
        del self._renaming[step]

    def _copy(self, key: str, new: str, replace: bool, seen: Seen | None) -> None:
        """Have a copy of an object, unless an earlier try made it."""
        step = (key, new)
        is_again = step in self._renaming
        there = seen.found if seen is not None and not is_again else self.look(new)
        if there is not None and not replace:
            if is_again:
                return
            raise ObjectExists(f"{new}: is there already")
        if not is_again:
            self._renaming[step] = there
        if not self._copied(key, new, self._renaming[step]):
            raise ObjectMissing(f"{key}: no such file in the repository")

    def _copied(self, key: str, new: str, before: _State) -> bool:
        """Copy an object; False if it is not there, and was not copied by an earlier try."""
        store, old_path, new_path = self._store(slow=True), self._key(key), self._key(new)
        import obstore

        try:
            self._asked(lambda: obstore.copy(store, old_path, new_path))
        except FileNotFoundError:
            there = self.look(new)
            return there is not None and there != before
        return True

    def remove(self, key: str) -> None:
        """As ObjectClient says."""
        store, path = self._store(), self._key(key)
        import obstore

        try:
            self._asked(lambda: obstore.delete(store, path))
        except FileNotFoundError:
            pass

    # There are no folders

    def has_folder(self, folder: str) -> bool:
        """As ObjectClient says."""
        return True

    def make_folder(self, folder: str) -> None:
        """As ObjectClient says."""

    def remove_folder(self, folder: str) -> None:
        """As ObjectClient says."""


def _found(size: int, changed: datetime, tag: str | None) -> Found:
    """What is told of an object: in full seconds, for only listings tell more."""
    seconds = int(changed.astimezone(timezone.utc).timestamp())
    return Found(size, seconds * 1_000_000_000, (tag or "").strip('"'))

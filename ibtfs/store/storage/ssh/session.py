"""What a client of a server may ask for, and who does it: the folder of the repository."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from ibtfs.errors import IbtfsError, ObjectExists, ObjectMissing, StorageFailed
from ibtfs.store import layout
from ibtfs.store.storage.base import Upload, drop_unfinished, is_unfinished
from ibtfs.store.storage.durable import failed
from ibtfs.store.storage.ssh import guard, wire
from ibtfs.store.storage.ssh.facts import DiskFacts, shared_of
from ibtfs.store.storage.ssh.files import MOST_OPEN, Files
from ibtfs.store.storage.ssh.parts import ServedStorage, ServedUpload, is_suffix, mark_of, part_name
from ibtfs.store.storage.ssh.surveying import answered

log = logging.getLogger(__name__)

LEASES = 8
Answer = tuple[tuple[Any, ...], bytes]
"""The values of a reply, and its data."""
NOTHING: Answer = ((), b"")


class Verb(NamedTuple):
    """A verb: the types of its arguments, which of them are names, and what does it."""

    types: tuple[type, ...]
    names: tuple[int, ...]
    work: Callable[..., Answer]


class Session:
    """One client, who knows *secret*, of the repository in the folder *root*; threads may share it.

    Of each upload one request at a time is to be done, in order.
    """

    def __init__(self, root: bytes, secret: bytes, modes: guard.Modes) -> None:
        self._modes, self._mark = modes, mark_of(secret)
        self._storages = [ServedStorage(root, self._mark, shared=s) for s in (False, True)]
        self._storage = self._storages[0]
        self._facts = DiskFacts(self._storage)
        self._files = Files(self._storage)
        self._uploads: dict[int, ServedUpload] = {}
        self._failed: dict[int, IbtfsError] = {}
        # one book of leases: what is put depends on them whatever permissions it gets
        self._storages[1].held, self._storages[1].lost = self._storage.held, self._storage.lost
        self._verbs = self._table()

    def _table(self) -> dict[str, Verb]:
        s, number, text, flag = self._storage, int, str, bool
        part = (number, flag, text, text)

        def told(ask: Callable[..., Any]) -> Callable[..., Answer]:
            return lambda *words: ((ask(*words),), b"")

        def done(do: Callable[[], None]) -> Callable[..., Answer]:
            def work() -> Answer:
                do()
                return NOTHING

            return work

        return {
            wire.PING: Verb((), (), lambda: NOTHING),
            "open": Verb((number, text), (1,), self._open),
            "end": Verb((number, text, number), (1,), self._end_of),
            "survey": Verb((text, number, text, text), (), lambda *words: answered(s, *words)),
            "read": Verb((number, text, number, number), (1,), self._read),
            "close": Verb((number,), (), self._close),
            "removed": Verb((number, text), (1,), told(self._is_removed)),
            "put": Verb((*part, flag), (2,), self._put),
            "resume": Verb((*part, flag, number), (2,), self._resume),
            "sync": Verb((number,), (), self._sync),
            "finish": Verb((number, number), (), self._finish),
            "abort": Verb(part, (2,), self._abort),
            "list": Verb((text, flag, text), (0,), self._list),
            "delete": Verb((text,), (0,), self._delete),
            "lease": Verb((flag, text, text, flag), (1,), told(self._lease)),
            "in place": Verb((text,), (0,), told(self._is_in_place)),
            "refresh": Verb((text,), (0,), self._refresh),
            "release": Verb((text,), (0,), self._release),
            "drop": Verb((text,), (), self._drop),
            "held": Verb((text,), (0,), told(lambda name: bool(s.is_held(name)))),
            "age": Verb((text, text), (0, 1), told(s.age)),
            "space": Verb((), (), lambda: (tuple(s.space()), b"")),
            "refusal": Verb((), (), told(s.refusal)),
            "settle": Verb((text,), (0,), self._settle),
            "changes": Verb((text, number), (0,), told(s.folder_token)),
            "has folder": Verb((text,), (0,), told(s.has_folder)),
            "changed": Verb((text,), (0,), told(s.changed_ns)),
            "made": Verb((text,), (0,), told(s.made)),
            "token": Verb((text,), (0,), lambda name: (tuple(s.token(name)), b"")),
            "create": Verb((flag,), (), self._create),
            "check new": Verb((), (), done(s.check_new)),
            "has": Verb((), (), told(s.has_repository)),
            "require there": Verb((), (), done(s.require_there)),
            "make folders": Verb((flag,), (), self._make_folders),
        }  # fmt: skip

    def line_of(self, request: wire.Message) -> int | None:
        """The upload that a request belongs to: those are done in order."""
        verb, words = request.head[1], request.head[2:]
        if verb in ("put", "resume", "write", "sync", "finish", "abort") and words:
            return words[0] if type(words[0]) is int else None
        return None

    def is_behind_uploads(self, request: wire.Message) -> bool:
        """Whether a request is to see what was asked before of all uploads, as listings of them."""
        return request.head[1:2] == ("list",) and request.head[3:4] == (True,)

    def answer(self, request: wire.Message) -> Answer:
        """Do what is asked.  Raises IbtfsError, Busy."""
        verb, words = request.head[1], request.head[2:]
        if verb == "write" and tuple(map(type, words)) == (int, int):
            number, offset = words
            return self._write(number, offset, request.data)
        found = self._verbs.get(verb)
        if found is None or tuple(map(type, words)) != found.types or request.data:
            raise StorageFailed(f"The server does not know this request: {verb[:40]!r}")
        for at in found.names:
            if words[at] and not guard.is_name(words[at]):
                raise StorageFailed(f"{words[at][:200]!r} cannot be the name of an object")
        if any(type(word) is int and not -1 <= word < 1 << 62 for word in words):
            raise StorageFailed("The server does not know such numbers")
        return found.work(*words)

    def end(self) -> None:
        """Close what is open: parts and locks stay, for a client that comes back."""
        for upload in list(self._uploads.values()):
            upload.leave()
        for lease in list(self._storage.held.values()):
            lease.leave()

    def _unless(self, name: str, reason: str) -> None:
        if reason:
            log.warning("refused %r: %s", name, reason)
            raise StorageFailed(f"{name}: refused: {reason}")

    # Objects

    def _may_read(self, name: str) -> None:
        self._unless(name, guard.may_read(name) if self._modes.write_only else "")

    def _open(self, number: int, name: str) -> Answer:
        self._may_read(name)
        self._files.close(number)
        stored = self._files.opened(number, name)
        if stored.size <= wire.FIRST_BYTES:
            return (stored.size, 0), stored.read(0, stored.size)
        first = stored.size - wire.LAST_BYTES
        return (stored.size, first), stored.read(first, wire.LAST_BYTES)

    def _end_of(self, number: int, name: str, most: int) -> Answer:
        self._may_read(name)
        if not 0 <= most <= wire.DATA_LIMIT:
            raise StorageFailed("The server reads no such piece")
        self._files.close(number)
        stored = self._files.opened(number, name)
        first = max(stored.size - most, 0)
        return (stored.size,), stored.read(first, stored.size - first)

    def _read(self, number: int, name: str, offset: int, size: int) -> Answer:
        self._may_read(name)
        if not 0 <= size <= wire.DATA_LIMIT or offset < 0:
            raise StorageFailed("The server reads no such piece")
        return (), self._files.opened(number, name).read(offset, size)

    def _close(self, number: int) -> Answer:
        self._files.close(number)
        return NOTHING

    def _is_removed(self, number: int, name: str) -> bool:
        found = self._files.known(number)
        if found is not None:
            return found.is_removed()
        try:
            self._storage.token(name)
        except ObjectMissing:
            return True
        return False

    def _list(self, folder: str, unfinished: bool, after: str) -> Answer:
        names = self._storage.list(folder, unfinished=unfinished)
        found: list[bytes] = []
        size = 0
        for name in names:
            if name <= after:
                continue
            found.append(os.fsencode(name))
            size += len(found[-1]) + 1
            if size > wire.PAGE_BYTES:
                return (False,), b"\0".join(found)
        return (True,), b"\0".join(found)

    def _delete(self, name: str) -> Answer:
        if self._modes.append_only:
            self._unless(name, guard.may_delete(name, self._mark))
        self._storage.delete(name)
        return NOTHING

    # Uploads

    def _may_put(self, name: str, in_place: bool) -> None:
        if not self._modes.append_only:
            return
        reason = f"{guard.APPENDS}, and replaces nothing" if in_place else ""
        reason = reason or guard.may_put(name, self._facts, time.time())
        folder, _, base = name.rpartition("/")
        if reason and not in_place and base in self._facts.names(folder):
            raise ObjectExists(f"{name}: is there already")
        self._unless(name, reason)

    def _put(self, number: int, shared: bool, name: str, suffix: str, in_place: bool) -> Answer:
        return self._begin(number, shared, name, suffix, in_place, -1)

    def _resume(
        self, number: int, shared: bool, name: str, suffix: str, in_place: bool, at: int
    ) -> Answer:
        return self._begin(number, shared, name, suffix, in_place, max(at, 0))

    def _begin(
        self, number: int, shared: bool, name: str, suffix: str, in_place: bool, at: int
    ) -> Answer:
        try:
            self._may_put(name, in_place)
            if not is_suffix(suffix) or is_unfinished(name) or not name:
                raise StorageFailed(f"{name!r} cannot be put")
            if number in self._uploads or len(self._uploads) >= MOST_OPEN:
                raise StorageFailed("Too many uploads at once")
            storage = self._storage_of(shared)
            upload = storage.upload(name, suffix, in_place=in_place, resumed_at=at)
        except IbtfsError as error:
            if len(self._failed) < MOST_OPEN:
                self._failed[number] = error
            raise
        self._failed.pop(number, None)
        self._uploads[number] = upload
        return NOTHING

    def _storage_of(self, shared: bool) -> ServedStorage:
        if self._modes.append_only and self._storage.has_repository():
            shared = shared_of(self._storage)
        return self._storages[shared]

    def _upload(self, number: int) -> ServedUpload:
        error = self._failed.get(number)
        if error is not None:
            raise error
        found = self._uploads.get(number)
        if found is None:
            raise StorageFailed("The server does not know this upload")
        return found

    def _write(self, number: int, offset: int, data: bytes) -> Answer:
        upload = self._upload(number)
        if offset != upload.size:
            raise StorageFailed(f"{upload.name}: {upload.size} bytes are there, not {offset}")
        try:
            upload.write(data)
        except IbtfsError as error:
            self._failed[number] = error
            raise
        return NOTHING

    def _sync(self, number: int) -> Answer:
        upload = self._upload(number)
        upload.sync()
        return (upload.size,), b""

    def _finish(self, number: int, size: int) -> Answer:
        upload = self._upload(number)
        if size != upload.size:
            raise StorageFailed(f"{upload.name}: {upload.size} bytes are there, not {size}")
        if self._modes.append_only:
            self._may_put(upload.name, in_place=False)
            if upload.name.startswith(f"{layout.POINTS}/"):
                self._may_commit(upload)
        upload.finish()
        del self._uploads[number]
        return NOTHING

    def _may_commit(self, upload: ServedUpload) -> None:
        data, repository = upload.written(guard.MANIFEST_LIMIT), self._facts.repository_id()
        reason = guard.may_commit(data, upload.name, repository, self._modes, time.time())
        self._unless(upload.name, reason)

    def _abort(self, number: int, shared: bool, name: str, suffix: str) -> Answer:
        self._failed.pop(number, None)
        upload: Upload | None = self._uploads.pop(number, None)
        if upload is not None:
            upload.abort()
        elif is_suffix(suffix):
            self._storage.delete(part_name(name, self._mark, suffix))
        return NOTHING

    # Leases

    def _lease(self, shared: bool, name: str, token: str, anew: bool) -> bool:
        if self._modes.append_only:
            self._unless(name, guard.may_lease(name, token))
        if name not in self._storage.held and len(self._storage.held) >= LEASES:
            raise StorageFailed("Too many locks at once")
        return self._storages[shared].take_lease(name, token, anew=anew)

    def _is_in_place(self, name: str) -> bool:
        lease = self._storage.held.get(name)
        return lease is not None and lease.is_in_place()

    def _refresh(self, name: str) -> Answer:
        lease = self._storage.held.get(name)
        if lease is None:
            raise ObjectMissing(f"{name}: is not held")
        try:
            lease.refresh()
        except OSError as error:
            raise failed(error, name) from error
        return NOTHING

    def _release(self, name: str) -> Answer:
        self._storage.release(name)
        return NOTHING

    def _drop(self, token: str) -> Answer:
        if self._modes.append_only:
            self._unless(f"uploads under {token[:20]!r}", guard.may_delete("", self._mark))
        drop_unfinished(self._storage, token)
        return NOTHING

    # The place

    def _settle(self, folder: str) -> Answer:
        self._storage.sync([folder])
        return NOTHING

    def _create(self, shared: bool) -> Answer:
        self._storage_of(shared).create()
        return NOTHING

    def _make_folders(self, shared: bool) -> Answer:
        self._storage_of(shared).make_folders()
        return NOTHING

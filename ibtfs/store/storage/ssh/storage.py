"""A repository that an ibtfs on another machine serves: the storage's verbs, and leases."""

from __future__ import annotations

import functools
import os
from collections import deque
from collections.abc import Iterable, Sequence

from ibtfs.errors import IbtfsError, ObjectMissing, RepositoryError, StorageFailed
from ibtfs.store.storage.address import SshAddress
from ibtfs.store.storage.base import TOKEN_DIGITS, TOKEN_SETTLES_NS, ObjectToken, Space
from ibtfs.store.storage.far import Names
from ibtfs.store.storage.pipe import Malformed
from ibtfs.store.storage.ssh import wire
from ibtfs.store.storage.ssh.channel import StoreChannel
from ibtfs.store.storage.ssh.client import StoreClient, replied
from ibtfs.store.storage.ssh.reading import Ahead, StoreObject, listed
from ibtfs.store.storage.ssh.surveying import SEPARATOR, After, take
from ibtfs.store.storage.ssh.upload import StoreUpload

SURVEYED = 100
"""So many folders are asked for at once."""


def _surveyed(
    channel: StoreChannel, asked: Sequence[str], after: After, found: dict[str, Names]
) -> tuple[bool, After]:
    reply = replied(channel.ask("survey", SEPARATOR.join(asked), *after))
    (is_last,) = wire.values_of(reply, bool)
    last = take(reply.data, asked, found)
    if not is_last and last <= after:
        raise Malformed("a survey without end")
    return is_last, last


class StoreLease:
    """An object whose owner is known to live by the server's process, as Lease says."""

    def __init__(self, client: StoreClient, name: str) -> None:
        self._client, self._name = client, name

    def is_in_place(self) -> bool:
        """As Lease says.  Raises StorageFailed."""
        return self._client.ask_for(bool, "in place", self._name)

    def refresh(self) -> None:
        """As Lease says."""
        try:
            self._client.ask("refresh", self._name, patient=False)
        except IbtfsError as error:
            raise OSError(str(error)) from error

    def release(self) -> None:
        """As Lease says."""
        self._client.leases.pop(self._name, None)
        try:
            self._client.ask("release", self._name, patient=False)
        except IbtfsError:
            pass  # the connection is gone: it will be found too old


class StoreStorage:
    """A repository's objects at *address*; *root* is that as it was given, threads may share it.

    FolderStorage says what its methods do.
    """

    is_far = True

    def __init__(
        self, root: bytes, address: SshAddress, client: StoreClient, *, shared: bool = False
    ) -> None:
        self.root, self.address, self.client, self.shared = root, address, client, shared
        self._ahead, self._left = Ahead(), deque[int]()

    def shared_as(self, shared: bool) -> StoreStorage:
        """As FolderStorage says; by the same connection."""
        return StoreStorage(self.root, self.address, self.client, shared=shared)

    # The place

    def create(self) -> None:
        """As FolderStorage says."""
        self._of_place("create", self.shared)

    def check_new(self) -> None:
        """As FolderStorage says."""
        self._of_place("check new")

    def require_there(self) -> None:
        """As FolderStorage says."""
        self._of_place("require there")

    def _of_place(self, verb: str, *words: bool) -> None:
        """Ask for something that is told by the address, and not by the path that it is there."""
        try:
            self.client.ask(verb, *words)
        except RepositoryError as error:
            here, there = self.root, self.address.path
            text = str(error).replace(os.fsdecode(there), os.fsdecode(here))
            raise type(error)(text) from error

    def has_repository(self) -> bool:
        """As FolderStorage says."""
        return self.client.ask_for(bool, "has")

    def make_folders(self) -> None:
        """As FolderStorage says."""
        self.client.ask("make folders", self.shared)

    # The verbs

    def put(self, name: str) -> StoreUpload:
        """As Storage says."""
        return StoreUpload(self, name)

    def replace(self, name: str) -> StoreUpload:
        """As Healing says."""
        return StoreUpload(self, name, in_place=True)

    def put_new(self, name: str, data: bytes) -> None:
        """As Storage says."""
        with StoreUpload(self, name) as upload:
            upload.write(data)
            upload.finish()

    def open(self, name: str) -> StoreObject:
        """As Storage says."""
        self._close_left()
        number = self.client.new_number()

        def work(channel: StoreChannel) -> tuple[int, int, bytes]:
            reply = replied(channel.ask("open", number, name))
            size, first = wire.values_of(reply, int, int)
            if size < 0 or first < 0 or first + len(reply.data) != size:
                raise Malformed("an object of no size")
            return size, first, reply.data

        size, first, data = self.client.does(work)
        self._ahead.keep(number, first, data)
        return StoreObject(self.client, self._ahead, self._left, name, number, size)

    def open_end(self, name: str, most: int, size: int = -1) -> tuple[StoreObject, bytes]:
        """As FarPlace says."""
        self._close_left()
        number = self.client.new_number()

        def work(channel: StoreChannel) -> tuple[int, bytes]:
            asked = min(most, wire.DATA_LIMIT)
            reply = replied(channel.ask("end", number, name, asked))
            (found,) = wire.values_of(reply, int)
            if found < 0 or len(reply.data) != min(found, asked):
                raise Malformed("an object of no size")
            return found, reply.data

        found, end = self.client.does(work)
        stored = StoreObject(self.client, self._ahead, self._left, name, number, found)
        more = min(found, most) - len(end)
        return stored, (stored.read(found - len(end) - more, more) + end if more > 0 else end)

    def survey(self, folders: Sequence[str]) -> dict[str, Names]:
        """As FarPlace says."""
        found: dict[str, Names] = {}
        for first in range(0, len(folders), SURVEYED):
            asked = folders[first : first + SURVEYED]
            after, is_last = After(), False
            while not is_last:
                work = functools.partial(_surveyed, asked=asked, after=after, found=found)
                is_last, after = self.client.does(work)
        return found

    def _close_left(self) -> None:
        while self._left:
            try:
                number = self._left.popleft()
            except IndexError:
                return
            self._ahead.drop(number)
            self.client.told("close", number)

    def list(self, folder: str, *, unfinished: bool = False) -> list[str]:
        """As Storage says."""
        return listed(self.client, folder, unfinished)

    def delete(self, name: str) -> None:
        """As Storage says."""
        self.client.ask("delete", name)

    # Leases

    def lease(self, name: str, token: str) -> StoreLease:
        """As Leases says."""
        self.client.ask_for(bool, "lease", self.shared, name, token, True)
        self.client.leases[name] = (token, self.shared)
        return StoreLease(self.client, name)

    def upload_token(self) -> str:
        """What an upload is begun under."""
        held = list(self.client.leases.values())
        return held[-1][0] if held else os.urandom(TOKEN_DIGITS // 2).hex()

    def drop_unfinished(self, token: str) -> None:
        """As Leases says."""
        self.client.ask("drop", token)

    def is_held(self, name: str) -> bool | None:
        """As Leases says: who has lost his connection may come back, and is not dead yet."""
        try:
            if self.client.ask_for(bool, "held", name):
                return True
            self.token(name)
        except ObjectMissing:
            return False
        return None

    def age(self, name: str, now: str) -> float:
        """As Leases says."""
        return self.client.ask_for(float, "age", name, now)

    # The volume

    def space(self) -> Space:
        """As Volume says."""
        return Space(*self.client.values((int,) * len(Space._fields), "space"))

    def refusal(self) -> str:
        """As Volume says."""
        return self.client.ask_for(str, "refusal")

    def sync(self, folders: Iterable[str]) -> None:
        """As Volume says."""
        for folder in folders:
            self.client.ask("settle", folder)

    def folder_token(self, folder: str, settles_ns: int = TOKEN_SETTLES_NS) -> int:
        """As Volume says."""
        return self.client.ask_for(int, "changes", folder, settles_ns)

    def has_folder(self, folder: str) -> bool:
        """As Volume says."""
        return self.client.ask_for(bool, "has folder", folder)

    def changed_ns(self, folder: str) -> int:
        """As Volume says."""
        try:
            return self.client.ask_for(int, "changed", folder)
        except StorageFailed:
            return 0

    def made(self, name: str) -> int:
        """As Volume says."""
        try:
            return self.client.ask_for(int, "made", name)
        except StorageFailed:
            return 0

    def token(self, name: str) -> ObjectToken:
        """As Volume says."""
        size, modified, changed, inode = self.client.values((int,) * 4, "token", name)
        return size, modified, changed, inode

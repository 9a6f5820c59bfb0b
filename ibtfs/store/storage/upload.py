"""An object being put into a folder of a file system: written beside its place, then named."""

from __future__ import annotations

import os
from contextlib import suppress
from types import TracebackType
from typing import Protocol

from ibtfs.errors import LockLost, ObjectExists
from ibtfs.store.storage.base import LOST
from ibtfs.store.storage.durable import failed, rename_new, rename_over, sync_names


class Folders(Protocol):
    """What an upload needs of its storage; LocalStorage says what each does."""

    def part_name(self, base: str) -> str:
        """The name under which an upload of *base* is begun."""
        ...

    def require_leases(self) -> None:
        """Raise LockLost unless the owner's leases are in place."""
        ...

    def opened_folder(self, name: str, *, make: bool) -> int:
        """The descriptor of a folder."""
        ...

    def create_file(self, folder: int, name: str) -> int:
        """The descriptor of a new file."""
        ...

    def drop_folder(self, name: str) -> None:
        """Remove a folder if it is empty."""
        ...


class LocalUpload:
    """A file being put, as Upload says; *in_place* of what has its name, or as a new one."""

    def __init__(self, storage: Folders, name: str, *, in_place: bool = False) -> None:
        self._storage, self.name, self._in_place = storage, name, in_place
        self._place, _, self._base = name.rpartition("/")
        self._part = storage.part_name(self._base)
        self.size = 0
        self._folder = storage.opened_folder(self._place, make=True)
        try:
            self._descriptor = storage.create_file(self._folder, self._part)
        except OSError as error:
            os.close(self._folder)
            raise failed(error, name) from error
        self._is_open = True

    def write(self, data: bytes | memoryview) -> None:
        """As Upload says."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            raise failed(error, self.name) from error
        self.size += len(data)

    def finish(self) -> None:
        """As Upload says."""
        try:
            os.fsync(self._descriptor)
            self._close_file()  # may fail as well, and is to do so before it has its name
            # whoever breaks a lock removes it first, and then what was begun under it: either the
            # lock is missed here, or the link finds nothing
            self._storage.require_leases()
            if self._in_place:
                rename_over(self._folder, self._part, self._base)
            else:
                rename_new(self._folder, self._part, self._base)
            sync_names(self._folder)
        except FileNotFoundError as error:
            raise LockLost(LOST) from error
        except FileExistsError as error:
            raise ObjectExists(f"{self.name}: is there already") from error
        except OSError as error:
            raise failed(error, self.name) from error
        self._close()

    def abort(self) -> None:
        """As Upload says; a folder of its own goes with it."""
        if not self._is_open:
            return
        try:
            os.unlink(self._part, dir_fd=self._folder)
        except OSError:
            pass  # moved into place, or the disk is gone: nothing to drop
        self._close()
        self._storage.drop_folder(self._place)

    def _close_file(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _close(self) -> None:
        self._is_open = False
        with suppress(OSError):  # of what is dropped, or was synced
            self._close_file()
        os.close(self._folder)

    def __enter__(self) -> LocalUpload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if kind is not None:
            self.abort()

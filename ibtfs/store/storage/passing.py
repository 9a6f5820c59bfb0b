"""A storage on top of another: what passes all on, for those that change a little of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ibtfs.store.storage.base import (
    TOKEN_SETTLES_NS,
    FolderStorage,
    Lease,
    ObjectToken,
    Space,
    StoredObject,
)
from ibtfs.store.storage.far import FarPlace, Names, is_far_place


class PassingStorage:
    """Passes on to *place* what FolderStorage says, but for objects and copies of itself."""

    def __init__(self, place: FolderStorage) -> None:
        self._place = place

    @property
    def root(self) -> bytes:
        """As FolderStorage says."""
        return self._place.root

    @property
    def is_far(self) -> bool:
        """As FolderStorage says."""
        return self._place.is_far

    @property
    def _far(self) -> FarPlace:
        assert is_far_place(self._place), "asked for what only is done far away"
        return self._place

    def create(self) -> None:
        """As FolderStorage says."""
        self._place.create()

    def check_new(self) -> None:
        """As FolderStorage says."""
        self._place.check_new()

    def require_there(self) -> None:
        """As FolderStorage says."""
        self._place.require_there()

    def has_repository(self) -> bool:
        """As FolderStorage says."""
        return self._place.has_repository()

    def make_folders(self) -> None:
        """As FolderStorage says."""
        self._place.make_folders()

    def list(self, folder: str, *, unfinished: bool = False) -> list[str]:
        """As Storage says."""
        return self._place.list(folder, unfinished=unfinished)

    def open_end(self, name: str, most: int, size: int = -1) -> tuple[StoredObject, bytes]:
        """As FarPlace says."""
        return self._far.open_end(name, most, size)

    def survey(self, folders: Sequence[str]) -> dict[str, Names]:
        """As FarPlace says."""
        return self._far.survey(folders)

    def delete(self, name: str) -> None:
        """As Storage says."""
        self._place.delete(name)

    def lease(self, name: str, token: str) -> Lease:
        """As Leases says."""
        return self._place.lease(name, token)

    def drop_unfinished(self, token: str) -> None:
        """As Leases says."""
        self._place.drop_unfinished(token)

    def is_held(self, name: str) -> bool | None:
        """As Leases says."""
        return self._place.is_held(name)

    def age(self, name: str, now: str) -> float:
        """As Leases says."""
        return self._place.age(name, now)

    def space(self) -> Space:
        """As Volume says."""
        return self._place.space()

    def refusal(self) -> str:
        """As Volume says."""
        return self._place.refusal()

    def sync(self, folders: Iterable[str]) -> None:
        """As Volume says."""
        self._place.sync(folders)

    def folder_token(self, folder: str, settles_ns: int = TOKEN_SETTLES_NS) -> int:
        """As Volume says."""
        return self._place.folder_token(folder, settles_ns)

    def has_folder(self, folder: str) -> bool:
        """As Volume says."""
        return self._place.has_folder(folder)

    def changed_ns(self, folder: str) -> int:
        """As Volume says."""
        return self._place.changed_ns(folder)

    def made(self, name: str) -> int:
        """As Volume says."""
        return self._place.made(name)

    def token(self, name: str) -> ObjectToken:
        """As Volume says."""
        return self._place.token(name)

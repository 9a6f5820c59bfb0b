"""Options of every command that takes a repository: the line to it, and what opens it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click

from ibtfs.cli.command import option_field, options_of
from ibtfs.cli.output import shown
from ibtfs.cli.secrets import (
    asked_secrets,
    checked,
    given_secrets,
    is_secret_in_environment,
    new_key_file,
    new_passphrase,
)
from ibtfs.cli.words import LocalPath, Speed
from ibtfs.errors import UsageError

if TYPE_CHECKING:
    from ibtfs.format.config import Config
    from ibtfs.store.keyring import Secret
    from ibtfs.store.repository import Repository
    from ibtfs.store.sealing import SecretUnlock
    from ibtfs.store.storage.base import FolderStorage
    from ibtfs.store.storage.opening import Place
    from ibtfs.store.unlocking import Sealer, UnlockedKeys


@dataclass(frozen=True)
class Line:
    """The options that say how a repository is reached, how fast, and what opens it."""

    limit_upload: int = option_field(
        "--limit-upload", metavar="RATE", type=Speed(), default=0,
        help="Write no more than RATE a second: 500K, 2M; a mere number is KiB.",
    )  # fmt: skip
    limit_download: int = option_field(
        "--limit-download", metavar="RATE", type=Speed(), default=0,
        help="Read no more than RATE a second.",
    )  # fmt: skip

    key_file: tuple[bytes, ...] = option_field(
        "--key-file", metavar="FILE", type=LocalPath(), multiple=True,
        help="What opens a sealed repository; repeated, each is tried.",
    )  # fmt: skip
    passphrase_fd: tuple[int, ...] = option_field(
        "--passphrase-fd", metavar="N", type=click.IntRange(0), multiple=True,
        help="Read a passphrase from this file descriptor.",
    )  # fmt: skip

    def open(self, given: bytes, **how: Any) -> Repository:
        """The repository at *given*, opened as *how* says.

        Raises WrongKey, and as Repository.open.
        """
        return self.open_at(self.place(given), **how)

    def open_at(self, place: Place, *, may_be_unsealed: bool = False, **how: Any) -> Repository:
        """The repository at *place*; if a key was given it is to be sealed, or may be otherwise."""
        from ibtfs.store.repository import Repository

        def unlock(storage: FolderStorage, config: Config, text: bytes) -> UnlockedKeys | None:
            if not config.is_sealed and (may_be_unsealed or not self._has_key):
                return None
            found = self._unlocked.get((storage.root, text))
            if found is None:
                found = self.unlock(storage.root)(storage, config, text)
                self._unlocked[storage.root, text] = found
            return found

        return Repository.open(place, unlock=unlock, **how)

    def unlock(self, root: bytes) -> SecretUnlock:
        """What opens the sealed repository at *root*: what was given, or what a person says."""
        from ibtfs.store.sealing import SecretUnlock

        secrets = self._given or asked_secrets(shown(root))
        return SecretUnlock(secrets, is_expected=bool(self._given))

    def sealer(self, root: bytes, *, seal: bool | None) -> Sealer | None:
        """What makes the keys of the new repository at *root*; None if it is not to be sealed.

        Without a word on that it is if a key was given.  Raises UsageError.
        """
        if seal is False and self._has_key:
            raise UsageError("A key was given, and the repository is not to be sealed: say which")
        if not (seal or self._has_key):
            return None
        from ibtfs.store.sealing import SecretSealer

        made = [new_key_file(path) for path in self.key_file[:1]]
        found = made or self._given or [new_passphrase(f"New passphrase of {shown(root)}")]
        return SecretSealer(checked(found[0]), "")

    @property
    def is_asking(self) -> bool:
        """Whether a person may have to be asked for what opens a repository."""
        return not self._has_key and sys.stdin.isatty()

    @property
    def _has_key(self) -> bool:
        """Whether anything but a person says what opens repositories."""
        return bool(self.key_file or self.passphrase_fd or is_secret_in_environment())

    @cached_property
    def _unlocked(self) -> dict[tuple[bytes, bytes], UnlockedKeys | None]:
        """What was unlocked before: a passphrase is asked for once, and takes a second."""
        return {}

    @cached_property
    def _given(self) -> list[Secret]:
        """Read once: what a file descriptor gives is gone then."""
        return given_secrets(self.key_file, self.passphrase_fd)

    def place(self, given: bytes) -> Place:
        """What the repository at *given* is opened by."""
        return self.places(given)[0]

    def places(self, *given: bytes) -> list[Place]:
        """The same for several that one command works on; they share the limits."""
        if not (self.limit_upload or self.limit_download):
            return [*given]
        from ibtfs.store.storage.limited import Limits, Rate
        from ibtfs.store.storage.opening import storage_at

        limits = Limits(Rate(self.limit_upload), Rate(self.limit_download))
        return [storage_at(place, limits) for place in given]


line_options = options_of(Line, "line", section="Repository")

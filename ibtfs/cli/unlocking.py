"""What opens the repositories of one command, and what seals those that it makes."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from ibtfs.cli.output import shown
from ibtfs.cli.secrets import (
    asked_secrets,
    checked,
    given_secrets,
    is_of_writer,
    is_secret_in_environment,
    new_key_file,
    new_passphrase,
    remembered_secret,
)
from ibtfs.cli.state_folder import state_folder
from ibtfs.cli.watching import known_slot
from ibtfs.errors import UsageError, WrongKey

if TYPE_CHECKING:
    from ibtfs.format.config import Config
    from ibtfs.store.keyring import Secret
    from ibtfs.store.sealing import SecretUnlock
    from ibtfs.store.storage.base import FolderStorage
    from ibtfs.store.unlocking import Sealer, UnlockedKeys


class Unlocking:
    """Secrets of one command: those that *key_files* and *descriptors* give, or others say.

    Files of machines that only write are among them.
    """

    def __init__(self, key_files: Sequence[bytes], descriptors: Sequence[int]) -> None:
        self._key_files, self._descriptors = key_files, descriptors
        self._unlocked: dict[tuple[bytes, bytes], UnlockedKeys | None] = {}

    def unlock(self, place: FolderStorage, config: Config, text: bytes) -> UnlockedKeys | None:
        """As Unlock says; if a key was given, only what is sealed is opened."""
        if not config.is_sealed and not self._has_key:
            return None
        # a passphrase is asked for once, and takes a second
        if (place.root, text) not in self._unlocked:
            found = self.unlock_by(place.root, config.id)(place, config, text)
            self._unlocked[place.root, text] = found
        return self._unlocked[place.root, text]

    def unlock_to_back_up(
        self, place: FolderStorage, config: Config, text: bytes
    ) -> UnlockedKeys | None:
        """As Unlock says; a machine that only writes may do that."""
        files = [secret.data for secret in self._given if is_of_writer(secret)]
        if not files or len(files) < len(self._given):
            return self.unlock(place, config, text)
        from ibtfs.store.sealing import WriterUnlock

        return WriterUnlock(files, state_folder(make=True))(place, config, text)

    def _readers(self) -> list[Secret]:
        """What was given and opens a repository.  Raises WrongKey if nothing of it does."""
        found = [secret for secret in self._given if not is_of_writer(secret)]
        if not found:
            raise WrongKey(
                "The key file is that of a machine that only writes: it makes backups, and can do "
                "nothing else"
            )
        return found

    def unlock_unsealed_too(
        self, place: FolderStorage, config: Config, text: bytes
    ) -> UnlockedKeys | None:
        """As Unlock says; a key that was given may be for another repository."""
        return self.unlock(place, config, text) if config.is_sealed else None

    def unlock_by(self, root: bytes, repository: bytes) -> SecretUnlock:
        """What opens the sealed repository at *root*: what was given, or what a person says."""
        from ibtfs.store.sealing import SecretUnlock

        known = known_slot(repository)
        if self._given:
            return SecretUnlock(self._readers(), is_expected=True, known=known)
        secrets = itertools.chain(_remembered(repository), asked_secrets(shown(root)))
        return SecretUnlock(secrets, is_expected=False, known=known)

    def sealer(
        self, root: bytes, *, seal: bool | None,
        let_in: Mapping[str, Callable[[bytes], None]] | None = None,
    ) -> Sealer | None:  # fmt: skip
        """What makes the keys of the new repository at *root*; None if it is not to be sealed.

        Without a word on that it is if a key was given.  *let_in* are machines that only write, as
        SecretSealer has them.  Raises UsageError.
        """
        if seal is False and self._has_key:
            raise UsageError("A key was given, and the repository is not to be sealed: say which")
        if not (seal or self._has_key):
            return None
        if len(self._key_files) + len(self._descriptors) > 1:
            raise UsageError(
                "Of several keys it cannot be told which is to open the new repository: make it "
                "with one by `ibtfs init`, and add others by `ibtfs key add`"
            )
        from ibtfs.store.sealing import SecretSealer

        made = [new_key_file(path) for path in self._key_files]
        found = made or self._given or [new_passphrase(f"New passphrase of {shown(root)}")]
        if is_of_writer(found[0]):
            raise UsageError("The key file is for another repository, which was made already")
        return SecretSealer(checked(found[0]), "", let_in=let_in)

    @property
    def is_asking(self) -> bool:
        """Whether a person may have to be asked."""
        return not self._has_key and sys.stdin.isatty()

    @property
    def _has_key(self) -> bool:
        """Whether anything but a person says what opens repositories."""
        return bool(self._key_files or self._descriptors or is_secret_in_environment())

    @cached_property
    def _given(self) -> list[Secret]:
        """Read once: what a file descriptor gives is gone then."""
        return given_secrets(self._key_files, self._descriptors)


def _remembered(repository: bytes) -> Iterator[Secret]:
    """What the desktop's keyring knows; it is asked when it is needed."""
    found = remembered_secret(repository)
    if found is not None:
        yield found

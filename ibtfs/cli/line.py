"""Options of every command that takes a repository: the line to it, and what opens it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click

from ibtfs.cli.command import option_field, options_of
from ibtfs.cli.unlocking import Unlocking
from ibtfs.cli.watching import watch_over
from ibtfs.cli.words import LocalPath, Speed
from ibtfs.errors import UsageError

if TYPE_CHECKING:
    from ibtfs.store.repository import Repository
    from ibtfs.store.storage.opening import Place
    from ibtfs.store.unlocking import Unlock


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
    endpoint: str = option_field(
        "--endpoint", metavar="URL", default="",
        help="The server of an address s3://BUCKET that names none itself.",
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
        unlock = self.keys.unlock_unsealed_too if may_be_unsealed else self.keys.unlock
        return self._opened(place, unlock, **how)

    def open_to_back_up(self, place: Place, **how: Any) -> Repository:
        """The repository at *place*, also for a machine that can do nothing but that."""
        return self._opened(place, self.keys.unlock_to_back_up, **how)

    def _opened(self, place: Place, unlock: Unlock, **how: Any) -> Repository:
        from ibtfs.store.repository import Repository

        repository = Repository.open(place, unlock=unlock, **how)
        watch_over(repository)
        return repository

    @cached_property
    def keys(self) -> Unlocking:
        """What opens the repositories of this command."""
        return Unlocking(self.key_file, self.passphrase_fd)

    def place(self, given: bytes) -> Place:
        """What the repository at *given* is opened by.  Raises UsageError."""
        return self.places(given)[0]

    def places(self, *given: bytes) -> list[Place]:
        """The same for several that one command works on; they share the limits."""
        found = self._at_endpoint(given) if self.endpoint else given
        if not (self.limit_upload or self.limit_download):
            return [*found]
        from ibtfs.store.storage.limited import Limits, Rate
        from ibtfs.store.storage.opening import storage_at

        limits = Limits(Rate(self.limit_upload), Rate(self.limit_download))
        return [storage_at(place, limits) for place in found]

    def _at_endpoint(self, given: Sequence[bytes]) -> Sequence[bytes]:
        """Those of *given* that are of S3 with the endpoint, if they name none; and the others."""
        from ibtfs.store.storage.address import at_endpoint

        found = [at_endpoint(place, self.endpoint) for place in given]
        if found == [*given]:
            raise UsageError("--endpoint is for an address s3://BUCKET that names none itself")
        return found


line_options = options_of(Line, "line", section="Access")

"""The leases of one owner: what he puts is begun and finished under them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from ibtfs.errors import LockLost
from ibtfs.store.storage.base import LOST, TOKEN_DIGITS, UNFINISHED


class TokenLease(Protocol):
    """A lease with the token that it was taken under."""

    token: str

    def is_in_place(self) -> bool:
        """As Lease says."""
        ...


Held = TypeVar("Held", bound=TokenLease)


class LeaseBook(Generic[Held]):
    """The leases that an owner has; threads may share it."""

    def __init__(self) -> None:
        self._leases: list[Held] = []

    def __iter__(self) -> Iterator[Held]:
        return iter(list(self._leases))

    def add(self, lease: Held) -> None:
        """*lease* was taken."""
        self._leases.append(lease)

    def remove(self, lease: Held) -> None:
        """*lease* is given back: what is put does not depend on it any more."""
        self._leases.remove(lease)

    def part_name(self, base: str) -> str:
        """What an upload of *base* is called before it is finished."""
        token = self._leases[-1].token if self._leases else os.urandom(TOKEN_DIGITS // 2).hex()
        return f"{base}.{token}{os.urandom(4).hex()}{UNFINISHED}"

    def require(self) -> None:
        """Raise LockLost unless all leases that were taken are in place."""
        for lease in self:
            if not lease.is_in_place():
                raise LockLost(LOST)

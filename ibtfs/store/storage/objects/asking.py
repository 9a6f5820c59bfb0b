"""Requests that are repeated until the server answers, and what then goes wrong in our words."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ibtfs.errors import StorageFailed
from ibtfs.store.storage.objects.client import NotReached, ObjectClient
from ibtfs.store.storage.waiting import RETRY_SECONDS, Waiting

Result = TypeVar("Result")


class Asking:
    """Asks *client*, which messages call *shown*; threads may share it."""

    def __init__(self, client: ObjectClient, shown: str, seconds: float = RETRY_SECONDS) -> None:
        self.client, self.shown = client, shown
        self._waiting = Waiting(shown, seconds)
        self._was_reached = False

    def again(self, work: Callable[[], Result], *, patient: bool = True) -> Result:
        """What *work* gives, which bears to be repeated.

        Unless *patient* it is repeated once, and at once; not at all before the server was ever
        reached.  Raises StorageFailed if it is not reached, and whatever else *work* raises.
        """
        is_first = True
        with self._waiting.request() as tries:
            while True:
                try:
                    result = work()
                except NotReached as error:
                    retry = tries.wait(str(error)) if self._was_reached and patient else is_first
                    if not (self._was_reached and retry):
                        tries.in_vain()
                        raise StorageFailed(f"{self.shown}: not reached: {error}") from error
                    is_first = False
                else:
                    self._was_reached = True
                    return result

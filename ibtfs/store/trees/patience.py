"""How long a view may think: what is not known by then is shown, and may turn out empty."""

from __future__ import annotations

import time
from collections.abc import Callable


class Patience:
    """Runs out after some seconds, which begin when it is made; used by one thread."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + seconds

    @property
    def is_over(self) -> bool:
        """Whether it has run out."""
        return self._clock() >= self._end

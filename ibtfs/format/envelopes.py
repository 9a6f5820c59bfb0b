"""Envelopes of sealed objects: the modes that there are, and how long each is.

Who has no key knows this much of them, and no more.
"""

from __future__ import annotations

from typing import Final

SECRET_MODE, PUBLIC_MODE, LATER_MODE = 1, 2, 3
SUITES: Final = (1, 2)
ENVELOPE_SIZE = 10
"""Mode, suite, and 8 bytes that tell the master key."""
WRAPPED_SIZE = 1168
SIZES: Final = {
    SECRET_MODE: ENVELOPE_SIZE,
    PUBLIC_MODE: ENVELOPE_SIZE + WRAPPED_SIZE,
    LATER_MODE: ENVELOPE_SIZE + 24 + 32 + 16,
}


def is_known(envelope: bytes) -> bool:
    """Whether *envelope* is of a mode and a suite that there are, and as long as that."""
    return len(envelope) > 1 and len(envelope) == SIZES.get(envelope[0]) and envelope[1] in SUITES

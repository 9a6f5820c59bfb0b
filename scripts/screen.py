"""What the long programs here tell while they work."""

from __future__ import annotations

import sys


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()

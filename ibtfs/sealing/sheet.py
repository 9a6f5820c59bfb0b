"""The recovery sheet: 256 random bits that a person can print, keep, and type in again."""

from __future__ import annotations

import base64

from blake3 import blake3

from ibtfs.errors import UsageError

SECRET_SIZE = 32
_CHECK_SIZE = 3
_GROUP, _ROW = 4, 8
_LOOK_ALIKE = str.maketrans("018", "OIB")


def encode_sheet(secret: bytes) -> str:
    """The text of a sheet for 32 bytes: rows of groups of capital letters and the digits 2 to 7."""
    text = base64.b32encode(secret + _check(secret)).decode().rstrip("=")
    groups = [text[first : first + _GROUP] for first in range(0, len(text), _GROUP)]
    rows = [" ".join(groups[first : first + _ROW]) for first in range(0, len(groups), _ROW)]
    return "\n".join(rows)


def decode_sheet(text: str) -> bytes:
    """The secret of a sheet that was typed in, whatever its case and spaces.  Raises UsageError.

    Of the letters and digits that look alike only one is ever printed.
    """
    letters = "".join(text.split()).replace("-", "").upper().translate(_LOOK_ALIKE)
    try:
        data = base64.b32decode(letters + "=" * (-len(letters) % 8))
    except ValueError:
        raise UsageError("That is no recovery sheet: letters and the digits 2 to 7") from None
    secret, check = data[:SECRET_SIZE], data[SECRET_SIZE:]
    if len(data) != SECRET_SIZE + _CHECK_SIZE or check != _check(secret):
        raise UsageError("The recovery sheet was not typed as it is printed: some letter is wrong")
    return secret


def _check(secret: bytes) -> bytes:
    found: bytes = blake3(secret, derive_key_context="ibtfs 2026 sheet").digest(_CHECK_SIZE)
    return found

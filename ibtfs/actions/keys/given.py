"""Secrets that are given: in a key file, or said, such as a passphrase or a recovery sheet."""

from __future__ import annotations

import os
import re

from ibtfs.errors import UsageError
from ibtfs.sealing.sheet import decode_sheet
from ibtfs.sealing.slots import FILE, PASSPHRASE, SHEET, passphrase_bytes
from ibtfs.store.keyring import Secret

LEAST_KEY_BYTES, KEY_FILE_LIMIT = 16, 1 << 20
PASSPHRASE_LIMIT = 64 << 10
_LIKE_A_SHEET = re.compile("[A-Z2-7]{56}")


def key_file_secret(path: bytes) -> Secret:
    """What the file *path* has in it.  Raises UsageError."""
    shown = os.fsdecode(path)
    try:
        with open(path, "rb") as file:
            data = file.read(KEY_FILE_LIMIT + 1)
    except OSError as error:
        raise UsageError(f"The key file {shown!r} cannot be read: {error.strerror}") from error
    if not LEAST_KEY_BYTES <= len(data) <= KEY_FILE_LIMIT:
        raise UsageError(f"{shown!r} is no key file: {len(data)} bytes")
    return Secret(FILE, data)


def said_secret(data: bytes) -> Secret:
    """What was said: a passphrase, or what a recovery sheet has printed on it.

    Raises UsageError.
    """
    if len(data) >= PASSPHRASE_LIMIT:
        raise UsageError(f"A passphrase of {PASSPHRASE_LIMIT} bytes or more: what is it really?")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise UsageError("The passphrase is not text in UTF-8") from None
    try:
        return Secret(SHEET, decode_sheet(text))
    except UsageError:
        if _LIKE_A_SHEET.fullmatch("".join(text.split())):
            raise
        return Secret(PASSPHRASE, passphrase_bytes(text))


def checked(secret: Secret) -> Secret:
    """*secret*, which is to open a repository from now on.  Raises UsageError if it is empty."""
    if not secret.data:
        raise UsageError("An empty passphrase protects nothing")
    return secret

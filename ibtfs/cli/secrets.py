"""What opens a sealed repository: a passphrase or a key file, wherever a person keeps it.

A passphrase is never a word of the command line, for all on the machine can see those.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from ibtfs.errors import LibraryMissing, UsageError

if TYPE_CHECKING:
    from ibtfs.store.keyring import Secret

COMMAND = "IBTFS_PASSPHRASE_COMMAND"
KEY_FILE = "IBTFS_KEY_FILE"
PASSPHRASE_LIMIT = 64 << 10
TRIES = 3
SERVICE = "ibtfs"
NEW_KEY_BYTES = 32


def given_secrets(key_files: Sequence[bytes], descriptors: Sequence[int]) -> list[Secret]:
    """Those that the options and the environment name, read at once.  Raises UsageError."""
    found = [key_file_secret(path) for path in key_files]
    found += [read_descriptor(number) for number in descriptors]
    if not found and os.environ.get(KEY_FILE):
        found.append(key_file_secret(os.fsencode(os.environ[KEY_FILE])))
    if not found and os.environ.get(COMMAND):
        found.append(_told_by(os.environ[COMMAND]))
    return found


def is_secret_in_environment() -> bool:
    """Whether the environment names a key file, or what tells a passphrase."""
    return bool(os.environ.get(KEY_FILE) or os.environ.get(COMMAND))


def asked_secrets(repository: str) -> Iterator[Secret]:
    """What a person types in, asked a few times; nothing without a terminal."""
    if not sys.stdin.isatty():
        return
    for _ in range(TRIES):
        text = click.prompt(f"Passphrase of {repository}", hide_input=True, err=True)
        yield _passphrase(text.encode("utf-8", "surrogateescape"))
        click.echo("That does not open it.", err=True)


def remembered_secret(repository: bytes) -> Secret | None:
    """What the desktop's keyring has for the repository with this id, if there is such a keyring.

    That it is locked, or asks nobody, counts as nothing.
    """
    library = _desktop()
    if library is None:
        return None
    try:
        text = library.get_password(SERVICE, repository.hex())
    except library.errors.KeyringError:
        return None
    return None if text is None else _passphrase(text.encode())


def remember_secret(repository: bytes, secret: Secret | None) -> None:
    """Have the desktop's keyring know *secret*, a passphrase; None: no more.

    Raises LibraryMissing, UsageError.
    """
    library = _desktop()
    if library is None:
        raise LibraryMissing("For the desktop's keyring install: pip install 'ibtfs[keyring]'")
    try:
        if secret is not None:
            library.set_password(SERVICE, repository.hex(), secret.data.decode())
        elif library.get_password(SERVICE, repository.hex()) is not None:
            library.delete_password(SERVICE, repository.hex())
    except library.errors.KeyringError as error:
        raise UsageError(f"The desktop's keyring cannot be used: {error}") from error


def _desktop() -> Any:
    """The library of the desktop's keyring; None if it is not installed."""
    try:
        import keyring
        import keyring.errors
    except ImportError:
        return None
    return keyring


def new_passphrase(what: str) -> Secret:
    """A passphrase that a person types in twice.  Raises UsageError without a terminal."""
    if not sys.stdin.isatty():
        raise UsageError(
            f"{what}: nobody can be asked for a passphrase here; say --key-file, --passphrase-fd, "
            f"or set {COMMAND}"
        )
    text = click.prompt(what, hide_input=True, confirmation_prompt="Once more", err=True)
    return checked(_passphrase(text.encode("utf-8", "surrogateescape")))


def checked(secret: Secret) -> Secret:
    """*secret*, which is to open a repository from now on.  Raises UsageError if it is empty."""
    from ibtfs.actions.keys import given

    return given.checked(secret)


def key_file_secret(path: bytes) -> Secret:
    """What the file *path* has in it.  Raises UsageError."""
    from ibtfs.actions.keys import given

    return given.key_file_secret(path)


def new_key_file(path: bytes) -> Secret:
    """What the key file *path* has in it; one that is not there yet is made.  Raises UsageError."""
    if not os.path.lexists(path):
        try:
            _write_key_file(path, os.urandom(NEW_KEY_BYTES).hex().encode() + b"\n")
        except OSError as error:
            shown = os.fsdecode(path)
            raise UsageError(
                f"The key file {shown!r} cannot be made: {error.strerror}"
            ) from error  # fmt: skip
    return key_file_secret(path)


def _write_key_file(path: bytes, data: bytes) -> None:
    """Have *data* at *path*, durably: all of it or nothing.  Raises OSError."""
    folder = os.path.dirname(path) or b"."
    part = path + b".%s.part" % os.urandom(6).hex().encode()
    try:
        number = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(number, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(part, path)  # never over one that somebody has made meanwhile
        except FileExistsError:
            return
        except OSError:
            os.rename(part, path)  # there are file systems without links
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(part)


def read_descriptor(number: int) -> Secret:
    """The passphrase that file descriptor *number* gives.  Raises UsageError."""
    try:
        if number == 0:
            data = sys.stdin.buffer.read(PASSPHRASE_LIMIT)
        else:
            with open(number, "rb", closefd=number > 2) as file:
                data = file.read(PASSPHRASE_LIMIT)
    except OSError as error:
        raise UsageError(
            f"--passphrase-fd {number}: cannot be read: {error.strerror}"
        ) from error  # fmt: skip
    return _passphrase(data)


def _told_by(command: str) -> Secret:
    """The passphrase that *command* prints.  Raises UsageError."""
    import shlex
    import subprocess  # most commands do without

    try:
        done = subprocess.run(shlex.split(command), stdout=subprocess.PIPE, check=True)
    except (OSError, ValueError) as error:
        raise UsageError(f"{COMMAND} cannot be run: {error}") from error
    except subprocess.CalledProcessError as error:
        raise UsageError(f"{COMMAND} failed, with exit code {error.returncode}") from error
    return _passphrase(done.stdout[:PASSPHRASE_LIMIT])


def _passphrase(data: bytes) -> Secret:
    """What was said: a passphrase, or what a recovery sheet has printed on it."""
    from ibtfs.actions.keys.given import said_secret

    return said_secret(data)

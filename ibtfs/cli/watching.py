"""Sealed repositories compared with what this user saw of them before."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

import click

from ibtfs.cli.cache_folder import is_private
from ibtfs.cli.exit_codes import ALARMED
from ibtfs.cli.output import complain, shown
from ibtfs.errors import StorageFailed

if TYPE_CHECKING:
    from ibtfs.store.pins import Watch
    from ibtfs.store.repository import Repository

NOT_REMEMBERED = (
    "What is seen of repositories cannot be remembered here, so what is taken away later, or put "
    "back as it was, may not be told"
)


def watch_over(repository: Repository) -> None:
    """Tell what is not as it was seen before; nothing may be written then, and it ends with 1.

    What is there is remembered, also what the command adds.  Raises WrongKey if a sealed repository
    was to be there.
    """
    folder = state_folder(make=repository.config.is_sealed)
    if not folder:
        _tell_no_folder(is_sealed=repository.config.is_sealed)
        return
    from ibtfs.store.pins import Pins, Watch

    pins = Pins(folder)
    if not repository.config.is_sealed:
        pins.require_unsealed(repository.path, repository.id)
        return
    watch = Watch(pins, repository, repository.unlocked.number)
    alarms = watch.alarms()
    context = click.get_current_context()
    if not alarms:
        repository.refuse_writing("")  # if that was accepted
        _remember(context, watch, is_told=bool(context.params.get("as_json")))
        context.call_on_close(partial(_remember, context, watch))
        return
    if not context.params.get("as_json"):  # which has them in its one object
        for alarm in alarms:
            complain(alarm)
        complain("Nothing is written until `ibtfs key accept` takes the repository as it is")
    context.meta[ALARMED] = "; ".join(alarms)
    repository.refuse_writing(alarms[0])


def _remember(context: click.Context, watch: Watch, *, is_told: bool = False) -> None:
    """Remember what is there; that it cannot be done is told, once, and the command ends with 1.

    *is_told*: its JSON will say so.
    """
    try:
        watch.remember()
    except StorageFailed as error:
        told = f"{NOT_REMEMBERED}: {error}"
        if context.meta.get(ALARMED) != told and not is_told:
            complain(told)
        context.meta[ALARMED] = told


def _tell_no_folder(*, is_sealed: bool) -> None:
    """Tell that nothing can be remembered, or that others could have changed it."""
    path = _state_path()
    if is_sealed or os.path.lexists(path):
        complain(f"{NOT_REMEMBERED}: {shown(path)} is not, and cannot be made, yours alone")


def require_unsealed(root: bytes) -> None:
    """Raise WrongKey if a sealed repository was at *root*, where one is made that is not."""
    folder = state_folder(make=False)
    if not folder:
        _tell_no_folder(is_sealed=False)
        return
    from ibtfs.store.pins import Pins

    Pins(folder).require_unsealed(root)


def known_slot(repository: bytes) -> bytes:
    """The digest of the slot that opened the repository with this id the last time, or nothing."""
    folder = state_folder(make=False)
    if not folder:
        return b""
    from ibtfs.store.pins import Pins

    return Pins(folder).read(repository).slot


def accept(repository: Repository) -> list[str]:
    """Take *repository* as it is from now on; what was amiss."""
    folder = state_folder(make=True)
    if not folder:
        return []
    from ibtfs.store.pins import Pins, Watch

    watch = Watch(Pins(folder), repository, repository.unlocked.number)
    told = watch.alarms()
    watch.accept()
    return told


def accept_unsealed(root: bytes) -> None:
    """Take a repository at *root* that is not sealed, where a sealed one was before."""
    from ibtfs.store.pins import Pins

    folder = state_folder(make=False)
    if folder:
        Pins(folder).drop_place(root)


def state_folder(*, make: bool) -> bytes:
    """The folder of what is remembered of repositories; empty if there can be none."""
    folder = os.path.realpath(_state_path())
    base = os.path.dirname(_state_path())
    home = os.path.expanduser(b"~")
    if make and os.path.isabs(base) and (os.path.isdir(base) or os.path.isdir(home)):
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
        except OSError:
            return b""
    return folder if is_private(folder) else b""


def _state_path() -> bytes:
    base = os.fsencode(os.environ.get("XDG_STATE_HOME", ""))
    if not os.path.isabs(base):  # as its specification says
        base = os.path.expanduser(b"~/.local/state")
    return os.path.join(base, b"ibtfs")

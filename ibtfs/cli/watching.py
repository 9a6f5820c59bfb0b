"""Sealed repositories compared with what this user saw of them before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ibtfs.cli.exit_codes import ALARMED
from ibtfs.cli.output import complain
from ibtfs.cli.state_folder import state_folder

if TYPE_CHECKING:
    from ibtfs.store.repository import Repository


def watch_over(repository: Repository) -> None:
    """Tell what is not as it was seen before; nothing may be written then, and it ends with 1.

    What is there is remembered, also what the command adds.  Raises WrongKey if a sealed repository
    was to be there.
    """
    folder = state_folder(make=repository.config.is_sealed)
    if not folder or repository.own is not None:
        return  # who can read nothing cannot compare it
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
        watch.remember()
        context.call_on_close(watch.remember)
        return
    if not context.params.get("as_json"):  # which has them in its one object
        for alarm in alarms:
            complain(alarm)
        complain("Nothing is written until `ibtfs key accept` takes the repository as it is")
    context.meta[ALARMED] = "; ".join(alarms)
    repository.refuse_writing(alarms[0])


def require_unsealed(root: bytes) -> None:
    """Raise WrongKey if a sealed repository was at *root*, where one is made that is not."""
    folder = state_folder(make=False)
    if folder:
        from ibtfs.store.pins import Pins

        Pins(folder).require_unsealed(root)


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

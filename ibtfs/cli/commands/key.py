"""``ibtfs key``."""

from __future__ import annotations

import os
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from ibtfs.cli.command import Command, json_option, option, quiet_option, repository_argument
from ibtfs.cli.line import Line, line_options
from ibtfs.cli.output import counted, emit_json, printable, say, shown
from ibtfs.cli.secrets import (
    checked,
    new_key_file,
    new_passphrase,
    new_secret_file,
    read_descriptor,
    remember_secret,
)
from ibtfs.cli.watching import accept, accept_unsealed, watch_over
from ibtfs.cli.words import LocalPath, Name
from ibtfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ibtfs.actions.keys.run import Identity, KeyChanges, KeySlot, WriterRow
    from ibtfs.format.config import Config
    from ibtfs.store.keyring import Secret
    from ibtfs.store.repository import Repository
    from ibtfs.store.storage.base import FolderStorage

EXAMPLES = """
    ibtfs key list /media/disk/backups
    ibtfs key add /media/disk/backups --label "me, at work"
    ibtfs key add /media/disk/backups --new-key-file ~/.config/ibtfs/key
    ibtfs key recovery-sheet /media/disk/backups > sheet.txt
    ibtfs key remove /media/disk/backups 3f09
    ibtfs key add-writer sftp://me@example.org/backups laptop --to laptop.key
"""
VERBS = ("list", "add", "add-writer", "change", "remove", "recovery-sheet", "rotate", "show",
         "accept", "remember", "forget")  # fmt: skip
ASKED_FOR = ("list", "recovery-sheet", "show")
"""What is printed with --quiet, too."""
NEW = "New key"


@click.command("key", cls=Command, examples=EXAMPLES)
@click.argument("verb", metavar="|".join(VERBS), type=click.Choice(VERBS))
@repository_argument
@click.argument("slot", metavar="[KEY|NAME]", required=False)
@option("--new-key-file", type=LocalPath(), metavar="FILE", section=NEW,
        help="Add this key file, which is made if it is not there; by default a passphrase.",
        )  # fmt: skip
@option("--new-passphrase-fd", type=click.IntRange(0), metavar="N", section=NEW,
        help="Read the new passphrase from this file descriptor; by default it is asked for.",
        )  # fmt: skip
@option("--to", "target", type=LocalPath(), metavar="FILE", section=NEW,
        help="Write what the new machine is to hold to FILE, which is made.")  # fmt: skip
@option("--host", type=Name(), metavar="NAME", section=NEW,
        help="Whose backups the new machine makes; by default of the host NAME.")  # fmt: skip
@option("--until", metavar="WHEN", section="Machines that only write",
        help="With remove: what the machine made later does not count; `none`: nothing of it.",
        )  # fmt: skip
@option("--label", default="", metavar="TEXT", section=NEW,
        help="Whose it is, or where: `list` shows it.")  # fmt: skip
@line_options
@quiet_option
@json_option
def command(
    *, verb: str, repository: bytes, slot: str | None, new_key_file: bytes | None,
    new_passphrase_fd: int | None, target: bytes | None, host: str | None, until: str | None,
    label: str, line: Line, quiet: bool, as_json: bool,
) -> int:  # fmt: skip
    """Change what opens a sealed repository.

    Any passphrase, key file or recovery sheet of a repository opens all of it. `add` adds one,
    `change` has a new one in the place of the one that was given now, `remove` removes KEY, an id
    of `list` or the beginning of one. `recovery-sheet` adds and prints one, to be kept on paper.
    `rotate` seals by another master key what is written from now on. `show` prints what tells the
    repository from one that somebody else put in its place. `accept` takes a repository as it is,
    after what was seen before was missing there. `remember` gives the passphrase to the
    desktop's keyring, `forget` takes it from there.

    `add-writer` lets a machine called NAME make backups, and read nothing, not even its own: it
    needs FILE and no other key (`ibtfs backup --key-file FILE`). `remove` takes that back, too:
    what it made until then stays, or until the time of `--until`, if somebody took it over.

    A key that was removed opens what somebody copied before: see `ibtfs help sealing`.
    """
    if (slot is None) == (verb in ("remove", "add-writer")):
        raise click.UsageError("remove needs a KEY, add-writer a NAME, and nothing else takes one")
    if (target is None) == (verb == "add-writer") or (host and verb != "add-writer"):
        raise click.UsageError("add-writer needs --to, and nothing else takes it, or --host")
    if (new_key_file or new_passphrase_fd is not None) and verb not in ("add", "change"):
        raise click.UsageError("A new key is for add and change")
    if until is not None and verb != "remove":
        raise click.UsageError("--until is for remove")
    place, config = _configured(line, repository)
    if not config.is_sealed:
        return _unsealed(place, verb, as_json=as_json)
    keys = _Keys(line, place, config, verb)
    work: dict[str, Callable[[], dict[str, Any]]] = {
        "list": lambda: _listed(keys.changes.slots(), keys.changes.writers()),
        "add-writer": lambda: _let_in(keys.changes, slot or "", host or slot or "", target or b""),
        "add": lambda: _added(keys.changes.add(keys.new(new_key_file, new_passphrase_fd), label)),
        "change": lambda: _added(keys.changes.exchange(keys.new(new_key_file, new_passphrase_fd))),
        "remove": lambda: _removed(keys.changes, slot or "", until),
        "recovery-sheet": lambda: _sheet(keys, label),
        "rotate": lambda: _rotated(keys.changes.rotate()),
        "show": lambda: _shown(keys.changes.identity()),
        "accept": lambda: _accepted(keys.repository),
        "remember": lambda: keys.remember(forget=False),
        "forget": lambda: keys.remember(forget=True),
    }
    return _tell(work[verb](), verb, quiet=quiet, as_json=as_json)


def _tell(told: dict[str, Any], verb: str, *, quiet: bool, as_json: bool) -> int:
    text = told.pop("text")
    if as_json:
        emit_json({**told, "exit_code": 0})
    elif not quiet or verb in ASKED_FOR:
        say(text)
    return 0


def _configured(line: Line, path: bytes) -> tuple[FolderStorage, Config]:
    """The storage at *path*, and its configuration.  Raises as Repository.open."""
    from ibtfs.format.config import CONFIG_LIMIT, decode_config
    from ibtfs.store import layout
    from ibtfs.store.storage.base import whole
    from ibtfs.store.storage.opening import storage_at

    place = storage_at(line.place(path))
    place.require_there()
    return place, decode_config(whole(place, layout.CONFIG, CONFIG_LIMIT), layout.CONFIG)


def _unsealed(place: FolderStorage, verb: str, *, as_json: bool) -> int:
    """What can be done to a repository that has no keys: it may be accepted as that."""
    if verb != "accept":
        raise UsageError(
            f"{shown(place.root)} is not sealed and has no keys; `ibtfs copy --seal` makes a "
            "sealed one of it"
        )
    accept_unsealed(place.root)
    if as_json:
        emit_json({"accepted": [], "exit_code": 0})
    return 0


class _Keys:
    """The keys of the repository at *place*, opened by *line*; *changes* are made to them."""

    def __init__(self, line: Line, place: FolderStorage, config: Config, verb: str) -> None:
        from ibtfs.actions.keys.run import KeyChanges
        from ibtfs.store.repository import Repository

        unlock = line.keys.unlock_by(place.root, config.id)
        self.repository = Repository.open(place, unlock=unlock)
        if verb != "accept":
            watch_over(self.repository)
        assert unlock.found is not None  # or it was not opened
        self._found = unlock.found
        self.changes = KeyChanges(self.repository, self._found)

    def new(self, key_file: bytes | None, descriptor: int | None) -> Secret:
        """What is to open it, too."""
        if key_file is not None and descriptor is not None:
            raise click.UsageError("Either a new key file or a new passphrase")
        if key_file is not None:
            return new_key_file(key_file)
        if descriptor is not None:
            return checked(read_descriptor(descriptor))
        return new_passphrase(f"New passphrase of {shown(self.repository.path)}")

    def remember(self, *, forget: bool) -> dict[str, Any]:
        """Have the desktop's keyring know the passphrase that was given now, or no more."""
        used = None if forget else self._found.secret
        if used is not None and used.kind == "file":
            raise UsageError("The desktop's keyring is for passphrases, and a key file was given")
        remember_secret(self.repository.id, used)
        knows = "does not know the passphrase" if forget else "knows the passphrase now"
        return {"remembered": not forget, "text": f"The desktop's keyring {knows}"}


def _listed(slots: Sequence[KeySlot], writers: Sequence[WriterRow]) -> dict[str, Any]:
    rows = [
        f"{one.id}  {one.kind:10}  {printable(one.label)}{' (given now)' * one.is_in_use}".rstrip()
        for one in slots
    ]
    rows += [
        f"{one.id:16}  {'only writes':10}  {printable(one.name)}, of the host {printable(one.host)}"
        + ", not any more" * one.is_revoked
        for one in writers
    ]
    return {
        "keys": [one._asdict() for one in slots],
        "writers": [one._asdict() for one in writers],
        "text": "\n".join(rows),
    }


def _let_in(changes: KeyChanges, name: str, host: str, target: bytes) -> dict[str, Any]:
    """Let a machine write; the file is made first, so that no key is lost."""
    with new_secret_file(target) as write:
        row, data = changes.add_writer(name, host)
        write(data)
    text = f"{printable(name)} makes backups of the host {printable(host)} with {shown(target)}"
    if changes.has_points_of(host):
        text += (
            f"\nThere are points of {printable(host)} that you made: the machine goes on with its "
            "own, and its first backup stores all anew"
        )
    return {"writer": row._asdict(), "text": text}


def _added(slot: KeySlot) -> dict[str, Any]:
    return {"key": slot._asdict(), "text": f"Added the {slot.kind} {slot.id}"}


def _removed(changes: KeyChanges, words: str, until: str | None) -> dict[str, Any]:
    if changes.is_writer(words):
        row = changes.revoke(words, None if until is None else _moment(until))
        text = f"{printable(row.name)} can make no more backups; those that it made stay"
        if changes.late:
            text += (
                f", also {len(changes.late)} that say they are older, and that the storage was "
                "given later (or the repository was copied since): forget what you do not know: "
                + ", ".join(changes.late)
            )
        return {"writer": row._asdict(), "late": changes.late, "text": text}
    if until is not None:
        raise UsageError("--until is for machines that only write")
    slot = changes.remove(words)
    return {"key": slot._asdict(), "text": f"Removed the {slot.kind} {slot.id}"}


def _moment(words: str) -> int:
    """The time that *words* say, in ns since 1970; 0 for none at all."""
    from ibtfs.format.moment import parse_moment

    return 0 if words == "none" else parse_moment(words, datetime.now().astimezone())


def _rotated(count: int) -> dict[str, Any]:
    return {"masters": count, "text": f"What is written now is sealed by master key {count}"}


def _accepted(repository: Repository) -> dict[str, Any]:
    told = accept(repository)
    rows = "\n".join(("Taken as it is from now on:", *told)) if told else "Nothing was amiss"
    return {"accepted": told, "text": rows}


def _shown(found: Identity) -> dict[str, Any]:
    groups = " ".join(found.owner[first : first + 4] for first in range(0, len(found.owner), 4))
    text = (
        f"Repository   {found.repository}\nOwner        {groups}\nKeys         state "
        f"{found.number}, {counted(found.masters, 'master key')}"
    )
    return {**found._asdict(), "text": text}


def _sheet(keys: _Keys, label: str) -> dict[str, Any]:
    """Add a recovery sheet, and what is to be printed of it."""
    from ibtfs.sealing.sheet import SECRET_SIZE, encode_sheet
    from ibtfs.sealing.slots import SHEET
    from ibtfs.store.keyring import Secret

    secret = os.urandom(SECRET_SIZE)
    slot = keys.changes.add(Secret(SHEET, secret), label or "recovery sheet")
    code, found = encode_sheet(secret), keys.changes.identity()
    text = "\n".join((
        "IBTFS RECOVERY SHEET", "",
        "Whoever has this sheet can read the whole repository. Keep it where you keep your",
        "papers, and not with the backups.", "",
        f"Repository   {shown(keys.repository.path)}",
        f"Id           {found.repository}",
        f"Owner        {found.owner}",
        f"Key          {slot.id}",
        f"Made         {time.strftime('%Y-%m-%d')}", "",
        *(f"    {row}" for row in code.splitlines()), "",
        "To use it, type these letters and digits, with or without spaces, wherever ibtfs asks",
        "for the passphrase; or put them into a file, and: --passphrase-fd 3 3< FILE.",
    ))  # fmt: skip
    return {"key": slot._asdict(), "sheet": code, "text": text}

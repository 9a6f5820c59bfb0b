"""``mount.ibtfs``: what mount(8), fstab and systemd run for a file system of the type ``ibtfs``.

Makes their words into those of ``ibtfs mount``, and its exit codes into theirs.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import NoReturn

from ibtfs.cli.exit_codes import INTERRUPTED, USAGE
from ibtfs.cli.output import complain
from ibtfs.errors import UsageError

USAGE_LINE = "Usage: mount.ibtfs REPO MOUNTPOINT [-sfnv] [-o OPTION,...]"
# Exit codes of mount(8)
WRONG_CALL, USER_INTERRUPT, MOUNT_FAILURE = 1, 8, 32
# What is for others, or is so in any case: a mount is read-only, without devices or set-user-id.
IGNORED = frozenset(
    (
        *("ro", "rw", "defaults", "auto", "noauto", "fail", "nofail", "_netdev", "comment"),
        *("user", "users", "nouser", "owner", "group", "exec", "suid", "nosuid", "dev", "nodev"),
        *("atime", "noatime", "relatime", "norelatime", "strictatime", "nostrictatime"),
        *("diratime", "nodiratime", "lazytime", "nolazytime", "async", "sync", "dirsync"),
        "default_permissions",
    )
)
PRIVATE = ("x-", "X-")
NOT_IN_FSTAB = ("foreground", "quiet", "as_json")
"""Whoever mounts file systems waits until it is mounted, and has a flag of its own for talking."""
ALONE, WITH_VALUE = "sfnvrwh", "otN"


def main() -> NoReturn:
    """The entry point of the ``mount.ibtfs`` command."""
    try:
        words = mount_words(sys.argv[1:])
    except UsageError as error:
        complain(str(error))
        sys.exit(WRONG_CALL)
    if not words:
        sys.exit(0)
    from ibtfs.cli.main import main as ibtfs

    sys.argv[1:] = words
    try:
        ibtfs()
    except SystemExit as end:
        sys.exit(
            {0: 0, USAGE: WRONG_CALL, INTERRUPTED: USER_INTERRUPT}.get(_code(end), MOUNT_FAILURE)
        )


def _code(end: SystemExit) -> int:
    return end.code if isinstance(end.code, int) else int(end.code is not None)


def mount_words(arguments: Sequence[str]) -> list[str]:
    """The arguments of ``ibtfs`` that do what those of a mount helper say; none: nothing to do.

    Raises UsageError.
    """
    places: list[str] = []
    flags, given = set(), ""
    waiting = iter(arguments)
    for word in waiting:
        if not re.match(r"-.", word):
            places.append(word)
            continue
        letters, letter = word[1:-1], word[-1]
        if word[1] == "o" and len(word) > 2:  # -oOPTIONS
            letters, letter, value = "", "o", word[2:]
        elif letter in WITH_VALUE:
            value = next(waiting, "")
        if set(letters + letter) - set(ALONE + WITH_VALUE):
            raise UsageError(f"mount.ibtfs does not know {word}. {USAGE_LINE}")
        flags |= set(letters + letter)
        given += f",{value}" if letter == "o" else ""
    if len(places) != 2 or "h" in flags:
        raise UsageError(USAGE_LINE)
    chosen = _options(given, lenient="s" in flags)
    if "f" in flags:  # a rehearsal
        return []
    return ["mount", *([] if "v" in flags else ["--quiet"]), *chosen, "--", *places]


def _options(given: str, *, lenient: bool) -> list[str]:
    """The options of ``ibtfs mount`` for *given*, options of mount(8) with commas between them."""
    known = _known()
    chosen: dict[str, None] = {}
    for part in re.findall(r'(?:[^,"]|"[^"]*"|")+', given):
        name, equals, value = part.replace('"', "").partition("=")
        long = "--" + name.replace("_", "-")
        if name == "exec":
            chosen.pop("--noexec", None)
        if known.get(name) == bool(equals):
            chosen[f"{long}={value}" if equals else long] = None
        elif not (name in IGNORED or name.startswith(PRIVATE) or lenient):
            raise UsageError(f"mount.ibtfs does not know the option {part!r}")
    return list(chosen)


def _known() -> dict[str, bool]:
    """The options of ``ibtfs mount`` as fstab spells them, each with whether it has a value."""
    from ibtfs.cli.command import Option
    from ibtfs.cli.commands.mount import command

    options = [one for one in command.params if isinstance(one, Option)]
    return {
        one.opts[-1].removeprefix("--").replace("-", "_"): not one.is_flag
        for one in options
        if one.name not in NOT_IN_FSTAB
    }

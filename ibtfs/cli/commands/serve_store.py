"""``ibtfs serve-store``."""

from __future__ import annotations

import logging
import os

import click

from ibtfs.cli.command import Command, option
from ibtfs.cli.words import LocalPath

EXAMPLES = """
    ibtfs serve-store /srv/backups
    ibtfs serve-store --append-only --host laptop /srv/backups
"""
SYSLOG = "/dev/log"


@click.command("serve-store", cls=Command, examples=EXAMPLES)
@click.argument("path", metavar="PATH", type=LocalPath())
@option("--append-only", is_flag=True, section="What the client may do",
        help="Take new backup points only: nothing is removed, replaced or hidden.")  # fmt: skip
@option("--write-only", is_flag=True, section="What the client may do",
        help="Give no contents of files; backups are full ones then.")  # fmt: skip
@option("--host", metavar="NAME", default="", section="What the client may do",
        help="With --append-only: take backup points of the host NAME only.")  # fmt: skip
def command(*, path: bytes, append_only: bool, write_only: bool, host: str) -> int:
    """Serve the repository at PATH to an ibtfs on another machine, which started this by SSH.

    The client names it ssh://USER@HOST/PATH. It speaks with it on standard input and output. With
    options it is to be the forced command of a key: command="ibtfs serve-store --append-only PATH".
    """
    from ibtfs.errors import UsageError
    from ibtfs.store.storage.ssh.guard import Modes
    from ibtfs.store.storage.ssh.server import Server

    if os.isatty(0) or os.isatty(1):
        raise UsageError("An ibtfs on another machine starts this by SSH; it is nothing to type to")
    if host and not append_only:
        raise UsageError("--host goes with --append-only")
    _log_to_system()
    Server(path, Modes(append_only, write_only, host), 0, 1).serve()
    os._exit(0)  # whatever hangs, on a disk, say: locks must not be held for a client that is gone


def _log_to_system() -> None:
    """Have what is refused told to the system's log, too, where there is one."""
    from logging.handlers import SysLogHandler

    if os.path.exists(SYSLOG):
        handler = SysLogHandler(SYSLOG, facility=SysLogHandler.LOG_AUTH)
        client = os.environ.get("SSH_CONNECTION", "").partition(" ")[0]
        handler.setFormatter(logging.Formatter(f"ibtfs serve-store ({client}): %(message)s"))
        logging.getLogger().addHandler(handler)

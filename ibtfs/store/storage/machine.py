"""Which machine this is: locks name it."""

from __future__ import annotations

import contextlib
import os
import pwd
import re

from blake3 import blake3


def machine_name() -> str:
    """This machine's name and a token of its own: names alone are not unique.

    Neither is a machine-id, which copies of a virtual machine share; but each was booted by itself.
    So after a reboot it is another machine, whose locks are told by their age.
    """
    token = b""
    for path in ("/etc/machine-id", "/proc/sys/kernel/random/boot_id"):
        with contextlib.suppress(OSError), open(path, "rb") as file:
            token += file.read(64).strip()
    host = re.sub(r"[^0-9A-Za-z.-]", "-", os.uname().nodename)[:50] or "-"
    return f"{host}-{blake3(token).hexdigest(4)}" if token else host


def login_name() -> str:
    """The name of this user, as which ssh logs in where no other is named; empty: there is none."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return ""

"""Which machine this is: locks name it."""

from __future__ import annotations

import os
import re

from blake3 import blake3


def machine_name() -> str:
    """This machine's name and a token of its own: names alone are not unique."""
    token = b""
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id", "/proc/sys/kernel/random/boot_id"):
        try:
            with open(path, "rb") as file:
                token = file.read(64).strip()
        except OSError:
            continue
        if token:
            break
    host = re.sub(r"[^0-9A-Za-z.-]", "-", os.uname().nodename)[:50] or "-"
    return f"{host}-{blake3(token).hexdigest(4)}" if token else host

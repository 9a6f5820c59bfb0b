"""Where a repository lies: in a folder of this machine, or on another one."""

from __future__ import annotations

import os
import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from ibtfs.errors import UsageError

SFTP, SSH = b"sftp://", b"ssh://"
_SCHEME = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*)://")
_HOST = re.compile(r"[0-9A-Za-z_](?:[0-9A-Za-z_.-]*[0-9A-Za-z_.])?|\[[0-9A-Fa-f:.%a-z]+\]")
_USER = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_.@$-]*")
_SHORT = re.compile(rb"([^/:]+)@([^/:\[]+|\[[^/\]]+\]):(.*)", re.DOTALL)


class SshAddress(NamedTuple):
    """A folder that SSH leads to; *user* may be empty, *port* 0: what ssh has for them.

    A *path* that does not begin with a slash lies in the home directory of the user.
    """

    user: str
    host: str
    port: int
    path: bytes


def is_remote(place: bytes) -> bool:
    """Whether *place* names another machine, and not a path of this one."""
    return _SCHEME.match(place) is not None or _SHORT.fullmatch(place) is not None


def is_served(place: bytes) -> bool:
    """Whether *place* is served by an ibtfs there, and not by SFTP."""
    return place[: len(SSH)].lower() == SSH


def ssh_address(place: bytes) -> SshAddress:
    """What ``sftp://user@host:port/path`` or ``user@host:path`` says, or the same by ``ssh://``.

    Raises UsageError.
    """
    shown = os.fsdecode(place)
    scheme = _SCHEME.match(place)
    if scheme and place[: scheme.end()].lower() not in (SFTP, SSH):
        raise UsageError(f"{shown!r}: no storage is called {scheme[0].decode()}; sftp:// is one")
    if scheme is None:
        return _short_address(place, shown)
    server, slash, path = place[scheme.end() :].partition(b"/")
    user, _, rest = server.decode("ascii", "replace").rpartition("@")
    host, _, port = rest.partition("]:") if rest.startswith("[") else rest.partition(":")
    host = f"{host}]" if rest.startswith("[") and "]:" in rest else host
    if port and not (port.isascii() and port.isdecimal() and 0 < int(port[:6]) < 65536):
        raise UsageError(f"{shown!r}: {port!r} is not the number of a port")
    path = unquote_to_bytes(path)
    home = path == b"~" or path.startswith(b"~/")
    return _checked(
        SshAddress(user, host, int(port or 0), path[2:] if home else slash + path), shown
    )


def _short_address(place: bytes, shown: str) -> SshAddress:
    found = _SHORT.fullmatch(place)
    if found is None:
        raise UsageError(f"{shown!r} does not name another machine")
    user, host = (part.decode("ascii", "replace") for part in found.groups()[:2])
    path = found[3][2:] if found[3].startswith(b"~/") else found[3]
    return _checked(SshAddress(user, host, 0, path), shown)


def _checked(address: SshAddress, shown: str) -> SshAddress:
    """*address*, unless it is none: what begins with a dash would be an option of ssh."""
    if not _HOST.fullmatch(address.host):
        raise UsageError(f"{shown!r}: {address.host!r} cannot be the name of a machine")
    if address.user and not _USER.fullmatch(address.user):
        raise UsageError(f"{shown!r}: {address.user!r} cannot be the name of a user")
    if not address.path.strip(b"/"):
        raise UsageError(f"{shown!r}: the path of a folder is missing")
    if b"\0" in address.path:
        raise UsageError(f"{shown!r}: a path cannot hold a zero byte")
    return address._replace(path=address.path.rstrip(b"/"))

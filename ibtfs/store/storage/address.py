"""Where a repository lies: in a folder of this machine, or on another one."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import unquote, unquote_to_bytes

from ibtfs.errors import UsageError

SFTP = b"sftp://"
DAV, DAVS = b"dav://", b"davs://"
_SCHEME = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*)://")
_HOST = re.compile(r"[0-9A-Za-z_](?:[0-9A-Za-z_.-]*[0-9A-Za-z_.])?|\[[0-9A-Fa-f:.%a-z]+\]")
_USER = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_.@$-]*")
_PASSWORD = re.compile(rb"([^:]*://[^/:@]*):[^/]*@")
_SHORT = re.compile(rb"([^/:]+)@([^/:\[]+|\[[^/\]]+\]):(.*)", re.DOTALL)


class SftpAddress(NamedTuple):
    """A folder that SFTP leads to; *user* may be empty, *port* 0: what ssh has for them.

    A *path* that does not begin with a slash lies in the home directory of the user.
    """

    user: str
    host: str
    port: int
    path: bytes


@dataclass(frozen=True)
class DavAddress:
    """A folder that WebDAV leads to, by TLS if *is_secure*; *path* is absolute.

    *user* and *password* may be empty, *port* 0.  *shown* is all of it but the password.
    """

    is_secure: bool
    user: str
    password: str = field(repr=False)
    host: str
    port: int
    path: bytes
    shown: str


def is_remote(place: bytes) -> bool:
    """Whether *place* names another machine, and not a path of this one."""
    return _SCHEME.match(place) is not None or _SHORT.fullmatch(place) is not None


def without_password(place: bytes) -> bytes:
    """*place* as it may be shown."""
    return _PASSWORD.sub(rb"\1@", place, count=1) if _SCHEME.match(place) else place


def dav_address(place: bytes) -> DavAddress:
    """What ``davs://user:password@host:port/path`` says.  Raises UsageError."""
    shown = os.fsdecode(without_password(place))
    server, slash, path = place.partition(b"://")[2].partition(b"/")
    login, _, rest = server.decode("ascii", "replace").rpartition("@")
    host, port = _host_and_port(rest, shown)
    user, _, password = login.partition(":")
    folder = slash + unquote_to_bytes(path)
    if not _HOST.fullmatch(host):
        raise UsageError(f"{shown!r}: {host!r} cannot be the name of a machine")
    if not folder or b"\0" in folder or {b".", b".."} & set(folder.split(b"/")):
        raise UsageError(f"{shown!r}: the path of a folder is missing, or cannot be one")
    return DavAddress(
        is_secure=place.lower().startswith(DAVS), user=unquote(user), password=unquote(password),
        host=host, port=port, path=folder.rstrip(b"/"), shown=shown,
    )  # fmt: skip


def _host_and_port(text: str, shown: str) -> tuple[str, int]:
    """What ``host:port`` says; the port is 0 if there is none.  Raises UsageError."""
    host, _, port = text.partition("]:") if text.startswith("[") else text.partition(":")
    host = f"{host}]" if text.startswith("[") and "]:" in text else host
    if port and not (port.isascii() and port.isdecimal() and 0 < int(port[:6]) < 65536):
        raise UsageError(f"{shown!r}: {port!r} is not the number of a port")
    return host, int(port or 0)


def address_of(place: bytes) -> SftpAddress | DavAddress:
    """What the address of another machine says.  Raises UsageError."""
    scheme = _SCHEME.match(place)
    start = scheme[0].lower() if scheme else SFTP
    if start in {DAV, DAVS}:
        return dav_address(place)
    if start != SFTP:
        raise UsageError(f"no storage is called {start.decode()}; sftp:// and davs:// are some")
    return sftp_address(place)


def sftp_address(place: bytes) -> SftpAddress:
    """What ``sftp://user@host:port/path`` or ``user@host:path`` says.  Raises UsageError."""
    shown = os.fsdecode(without_password(place))
    if _SCHEME.match(place) is None:
        return _short_address(place, shown)
    server, slash, path = place[len(SFTP) :].partition(b"/")
    user, _, rest = server.decode("ascii", "replace").rpartition("@")
    host, port = _host_and_port(rest, shown)
    path = unquote_to_bytes(path)
    home = path == b"~" or path.startswith(b"~/")
    return _checked(SftpAddress(user, host, port, path[2:] if home else slash + path), shown)


def _short_address(place: bytes, shown: str) -> SftpAddress:
    found = _SHORT.fullmatch(place)
    if found is None:
        raise UsageError(f"{shown!r} does not name another machine")
    user, host = (part.decode("ascii", "replace") for part in found.groups()[:2])
    path = found[3][2:] if found[3].startswith(b"~/") else found[3]
    return _checked(SftpAddress(user, host, 0, path), shown)


def _checked(address: SftpAddress, shown: str) -> SftpAddress:
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

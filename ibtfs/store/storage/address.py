"""Where a repository lies: in a folder of this machine, or on another one."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote, unquote_to_bytes, urlsplit

from ibtfs.errors import UsageError

SFTP, SSH = b"sftp://", b"ssh://"
S3 = b"s3://"
_SCHEME = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*)://")
_HOST = re.compile(r"[0-9A-Za-z_](?:[0-9A-Za-z_.-]*[0-9A-Za-z_.])?|\[[0-9A-Fa-f:.%a-z]+\]")
_USER = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_.@$-]*")
_BUCKET = re.compile(r"[0-9A-Za-z](?:[0-9A-Za-z_-]|\.(?!\.)){1,61}[0-9A-Za-z]")
_NOT_IN_PREFIX = re.compile(r"[\x00-\x1f\x7f\\]|(?:^|/)\.{0,2}(?:/|$)")
PREFIX_BYTES = 800
"""Of 1024 that a key may have; the rest is for the names in a repository."""
DAV, DAVS = b"dav://", b"davs://"
_AWS = re.compile(r"(?:^|\.)amazonaws\.com(?:\.cn)?$")
_PORTS = {"http": 80, "https": 443}
_PASSWORD = re.compile(rb"([^:]*://[^/:@]*):[^/]*@")
_SHORT = re.compile(rb"([^/:]+)@([^/:\[]+|\[[^/\]]+\]):(.*)", re.DOTALL)


class SshAddress(NamedTuple):
    """A folder that SSH leads to; *user* may be empty, *port* 0: what ssh has for them.

    A *path* that does not begin with a slash lies in the home directory of the user.
    """

    user: str
    host: str
    port: int
    path: bytes


class S3Address(NamedTuple):
    """The objects of *bucket* whose keys begin with *prefix*, which may be empty, and a slash.

    *endpoint*, *region* and *profile* may be empty: what AWS's tools have for them.
    """

    bucket: str
    prefix: str
    endpoint: str = ""
    region: str = ""
    profile: str = ""


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


def address_of(place: bytes) -> SshAddress | S3Address | DavAddress:
    """What the address of another machine says.  Raises UsageError."""
    scheme = _SCHEME.match(place)
    start = scheme[0].lower() if scheme else SFTP
    if start == S3:
        return s3_address(place)
    if start in {DAV, DAVS}:
        return dav_address(place)
    if start not in {SFTP, SSH}:
        known = "sftp://, ssh://, s3:// and davs:// are some"
        raise UsageError(f"no storage is called {start.decode()}; {known}")
    return ssh_address(place)


def canonical(place: bytes, login: str) -> bytes:
    """One spelling for all by which *place* may name the same folder of another machine.

    *login* is the user that ssh has where none is named.  Names that only others can resolve, such
    as those of ssh's configuration, stay apart.  Raises UsageError.
    """
    address = address_of(place)
    if isinstance(address, S3Address):
        url = urlsplit(address.endpoint)
        host = (url.hostname or "").rstrip(".")
        server = "" if _AWS.search(host) else f"{host}:{url.port or _PORTS.get(url.scheme, 0)}"
        parts = ("s3", server if host else "", address.bucket, address.prefix)
        return "\0".join(parts).encode()
    is_dav = isinstance(address, DavAddress)
    user = address.user or ("" if is_dav else login)
    host = address.host.lower().strip("[]").rstrip(".")
    port = 0 if address.port in ((80, 443) if is_dav else (22,)) else address.port
    head = "\0".join(("dav" if is_dav else "ssh", user, host, str(port)))
    return head.encode() + b"\0" + os.path.normpath(address.path).replace(b"//", b"/")


def is_served(place: bytes) -> bool:
    """Whether *place* is served by an ibtfs there, and not by SFTP."""
    return place[: len(SSH)].lower() == SSH


def ssh_address(place: bytes) -> SshAddress:
    """What ``sftp://user@host:port/path`` or ``user@host:path`` says, or the same by ``ssh://``.

    Raises UsageError.
    """
    shown = os.fsdecode(without_password(place))
    scheme = _SCHEME.match(place)
    if scheme is None:
        return _short_address(place, shown)
    server, slash, path = place[scheme.end() :].partition(b"/")
    user, _, rest = server.decode("ascii", "replace").rpartition("@")
    host, port = _host_and_port(rest, shown)
    path = unquote_to_bytes(path)
    home = path == b"~" or path.startswith(b"~/")
    return _checked(SshAddress(user, host, port, path[2:] if home else slash + path), shown)


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


def s3_address(place: bytes) -> S3Address:
    """What ``s3://bucket/prefix?endpoint=URL&region=NAME&profile=NAME`` says.

    Raises UsageError, which never shows what may be a secret.
    """
    text, _, query = place[len(S3) :].partition(b"?")
    name, _, path = text.partition(b"/")
    bucket = name.decode("ascii", "replace")
    if "@" in bucket or ":" in bucket:
        raise UsageError("s3://: keys do not belong into an address; see `ibtfs help remote`")
    shown = f"s3://{bucket}"
    if not _BUCKET.fullmatch(bucket):
        raise UsageError(f"{shown!r}: {bucket!r} cannot be the name of a bucket")
    try:
        prefix = unquote_to_bytes(path).decode().strip("/")
    except UnicodeDecodeError as error:
        raise UsageError(f"{shown!r}: what follows is not text in UTF-8") from error
    if (prefix and _NOT_IN_PREFIX.search(prefix)) or len(prefix.encode()) > PREFIX_BYTES:
        raise UsageError(f"{shown!r}: {prefix!r} cannot be what keys begin with")
    options = _options(query.decode("utf-8", "replace"), shown)
    endpoint = options.get("endpoint", "").rstrip("/")
    if endpoint:
        check_endpoint(endpoint, shown)
    return S3Address(
        bucket, prefix, endpoint, options.get("region", ""), options.get("profile", "")
    )


def at_endpoint(place: bytes, endpoint: str) -> bytes:
    """*place*, at *endpoint* if it is an address of S3 that names none.  Raises UsageError."""
    if place[: len(S3)].lower() != S3 or s3_address(place).endpoint:
        return place
    check_endpoint(endpoint, os.fsdecode(place))
    sign = b"&" if b"?" in place else b"?"
    return place + sign + b"endpoint=" + os.fsencode(quote(endpoint, safe=":/"))


def _options(query: str, shown: str) -> dict[str, str]:
    """The options behind the question mark of an address."""
    found: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in {"endpoint", "region", "profile"} or name in found or not value:
            raise UsageError(
                f"{shown!r}: {name!r} is not understood; "
                "endpoint=URL, region=NAME and profile=NAME are, once each"
            )
        found[name] = value
    if query and not found:
        raise UsageError(f"{shown!r}: what follows the question mark is not understood")
    return found


def check_endpoint(endpoint: str, shown: str) -> None:
    """Raise UsageError unless *endpoint*, of *shown*, may be the URL of a server."""
    try:
        url = urlsplit(endpoint)
        is_fine = (
            url.scheme in {"http", "https"}
            and "@" not in endpoint  # a password would be shown, and is not used
            and not url.query
            and not url.fragment
            and url.port != 0
            and _HOST.fullmatch(url.netloc.rpartition(":")[0] if url.port else url.netloc)
        )
    except ValueError:
        is_fine = False
    if not is_fine:
        raise UsageError(f"{shown!r}: its endpoint is not like https://HOST or http://HOST:PORT")

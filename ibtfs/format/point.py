"""The manifest of a backup point.

A map with text keys in one frame.  Unknown keys are ignored; FORMAT.rst lists them all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ibtfs.errors import FormatDamaged
from ibtfs.format.entry import Extras, Stamp, check_extra, check_root
from ibtfs.format.frames import MANIFEST, Address, Codec, decode_frame, encode_frame, object_key
from ibtfs.format.index import Reference, is_archive_id
from ibtfs.format.packing import pack, unpack_map

NUMBER_LIMIT = 1 << 40
TIME_LIMIT = 1 << 63
DAY = 86_400
POINT_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{7,119}\Z")


@dataclass(frozen=True)
class Source:
    """What is backed up: identity is (host, name) where it has a name, else (host, path)."""

    host: str
    path: bytes
    name: str = ""

    @property
    def identity(self) -> tuple[str, str | bytes]:
        """Points with the same identity follow each other."""
        return (self.host, self.name or self.path)


@dataclass(frozen=True)
class Point:
    """One run's result for one source.

    *time_ns* is when the run began, *utc_offset* the local time zone then, in seconds.
    *root* is the stamp of the source's root, *root_extras* its extras, *state* its directory state
    and *digest* that state's 32 bytes.  *devices* are the paths, relative to the source, at which
    devices begin: ordinal 0 is the root's, and other empty ones are free.  *users* and *groups*
    give the names of numbers.
    *single* says that the source was one file, shown as the only row of the root.
    """

    id: str
    sequence: int
    epoch: int
    time_ns: int
    utc_offset: int
    source: Source
    display: str
    root: Stamp
    state: Reference
    digest: bytes
    root_extras: Extras = field(default_factory=dict)
    devices: tuple[bytes, ...] = (b"",)
    users: Mapping[int, str] = field(default_factory=dict)
    groups: Mapping[int, str] = field(default_factory=dict)
    statistics: Mapping[str, int] = field(default_factory=dict)
    single: bool = False
    full: bool = False
    parent: str = ""
    comment: str = ""

    @property
    def order(self) -> tuple[int, str]:
        """Sort key within a source: sequence, then id; recorded times order nothing."""
        return (self.sequence, self.id)

    @property
    def root_path(self) -> bytes:
        """The path that the root had: of a single file, that of the folder it lay in."""
        path = self.source.path
        return (path.rpartition(b"/")[0] or b"/") if self.single else path


FIELDS_VERSION = 1
"""Of the rows below, which only copies outside of repositories have; goes up when they change."""
PointRow = tuple[Any, ...]


def row_of_point(point: Point) -> PointRow:
    """All that *point* says, as one value that packs; for copies that are trusted."""
    source = point.source
    return (
        point.id, point.sequence, point.epoch, point.time_ns, point.utc_offset,
        (source.host, source.path, source.name), point.display, point.root, tuple(point.state),
        point.digest, point.root_extras, point.devices, dict(point.users), dict(point.groups),
        dict(point.statistics), point.single, point.full, point.parent, point.comment,
    )  # fmt: skip


def point_of_row(row: PointRow) -> Point:
    """The inverse of :func:`row_of_point`; nothing is checked."""
    before, source, display, root, state, *after = row[:5], *row[5:]
    values = (*before, Source(*source), display, root, Reference(*state), *after)
    return Point(*values)


def encode_point(point: Point, name: str, repository: bytes, codec: Codec) -> bytes:
    """The bytes of the manifest that is stored as the object *name*."""
    values = {
        "id": point.id,
        "sequence": point.sequence,
        "epoch": point.epoch,
        "time": point.time_ns,
        "utc_offset": point.utc_offset,
        "host": point.source.host,
        "path": point.source.path,
        "name": point.source.name,
        "display": point.display,
        "root": point.root,
        "extras": point.root_extras,
        "state": tuple(point.state),
        "digest": point.digest,
        "devices": point.devices,
        "users": dict(point.users),
        "groups": dict(point.groups),
        "statistics": dict(point.statistics),
        "single": point.single,
        "full": point.full,
        "parent": point.parent,
        "comment": point.comment,
    }
    key = object_key(repository, name)
    return encode_frame(key, Address(MANIFEST, 0, 1), pack(values), codec)


_TYPES: dict[str, type] = {
    "id": str, "sequence": int, "epoch": int, "time": int, "utc_offset": int, "host": str,
    "path": bytes, "name": str, "display": str, "root": tuple, "extras": dict, "state": tuple,
    "digest": bytes, "devices": tuple, "users": dict, "groups": dict, "statistics": dict,
    "single": bool, "full": bool, "parent": str, "comment": str,
}  # fmt: skip


def decode_point(data: bytes, where: str, point_id: str, repository: bytes) -> Point:
    """The manifest of *point_id*, stored as the object *where*.  Raises FormatDamaged."""
    key = object_key(repository, where)
    raw = decode_frame(key, Address(MANIFEST, 0, 1), data, where).raw
    values = unpack_map(raw, where)
    for key_name, expected in _TYPES.items():
        if type(values.get(key_name)) is not expected:
            raise FormatDamaged(f"{where}: {key_name!r} is missing or of a wrong type")
    if values["id"] != point_id:
        raise FormatDamaged(f"{where}: is the manifest of {values['id']!r}")
    _check_details(values, where)
    return Point(
        id=point_id,
        time_ns=values["time"],
        source=Source(values["host"], values["path"], values["name"]),
        root_extras=values["extras"],
        state=Reference(*values["state"]),
        **{name: values[name] for name in _SAME},
    )


_SAME = (
    "sequence", "epoch", "utc_offset", "display", "root", "digest", "devices", "users", "groups",
    "statistics", "single", "full", "parent", "comment",
)  # fmt: skip


def _check_details(values: Mapping[str, Any], where: str) -> None:
    state, root = values["state"], values["root"]
    good = len(state) == 2 and is_archive_id(state[0]) and type(state[1]) is int and state[1] >= 0
    good = good and len(values["digest"]) == 32
    good = good and all(type(path) is bytes for path in values["devices"])
    good = good and 0 < values["sequence"] <= NUMBER_LIMIT and 0 <= values["epoch"] <= NUMBER_LIMIT
    good = good and abs(values["time"]) <= TIME_LIMIT and abs(values["utc_offset"]) <= DAY
    good = good and is_display_name(values["display"])
    good = good and (not values["parent"] or POINT_ID.match(values["parent"]) is not None)
    for key in ("users", "groups"):
        good = good and all(type(n) is int and type(s) is str for n, s in values[key].items())
    numbers = values["statistics"].items()
    good = good and all(type(name) is str and type(n) is int for name, n in numbers)
    if not good:
        raise FormatDamaged(f"{where}: not a manifest")
    check_root(root, where)
    check_extra(values["extras"], where)


def is_display_name(name: str) -> bool:
    """Whether a source may be shown under *name*: a file name without control characters."""
    encoded = name.encode("utf-8", "surrogateescape")
    return (
        0 < len(encoded) <= 255
        and name not in (".", "..")
        and "/" not in name
        and not any(ord(character) < 32 for character in name)
    )

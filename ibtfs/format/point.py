"""The manifest of a backup point.

A map with text keys in one frame.  Unknown keys are ignored; FORMAT.rst lists them all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, NamedTuple

from blake3 import blake3

from ibtfs.errors import FormatDamaged
from ibtfs.format.compression import Codec
from ibtfs.format.entry import Extras, Stamp, check_extra, check_root
from ibtfs.format.frames import MANIFEST
from ibtfs.format.index import Reference
from ibtfs.format.keys import Keys
from ibtfs.format.manifest_values import are_counts, are_names, are_parents, is_state
from ibtfs.format.objects import Said, encode_object, read_object
from ibtfs.format.packing import pack, unpack_map

NUMBER_LIMIT = 1 << 40
SEQUENCE_NS = 10_000_000  # machines that only write, and see nothing of others, count in these
OWN_SIZE_LIMIT, OWN_RATIO = 256 << 10, 16
"""Bytes of a manifest of theirs, or so many times those that are stored."""
TIME_LIMIT = 1 << 63
DAY = 86_400
PARENTS_LIMIT = 4096
POINT_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{7,119}\Z")
SUFFIX_DIGITS = 6
SUFFIX = re.compile(r"[0-9a-f]{6,40}\Z")
_DIGITS = re.compile(r"[0-9a-f]{10,40}\Z")


class Parent(NamedTuple):
    """A folder above a source: its permissions, as far as others than its owner had them by its
    mode alone, its owner and its group."""

    mode: int
    uid: int
    gid: int


class Origin(NamedTuple):
    """A point where it was first made: the id of that repository, 16 bytes, and its id there."""

    repository: bytes
    id: str


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
    *single* says that the source was one file, shown as the only row of the root.  *parents* are
    the folders above the source, nearest first; None if they are not known.
    *suffix* tells the point from others of its source that were made in the same second, by digits
    of its own id; it is empty where there was no other.
    *replaces* are the ids of points in whose place it stands: they are hidden, if they are there.
    *writer* tells the machine that made it and can read nothing, if one did.
    *origin* tells the point of which it is a copy; None if it is none.
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
    replaces: tuple[str, ...] = ()
    parents: tuple[Parent, ...] | None = None
    suffix: str = ""
    writer: str = ""
    origin: Origin | None = None

    def origin_in(self, repository: bytes) -> Origin:
        """Which point it is, if it lies in *repository*: the same for all copies, and no others."""
        return self.origin or Origin(repository, self.id)

    @property
    def order(self) -> tuple[int, str]:
        """Sort key within a source: sequence, then id; recorded times order nothing."""
        return (self.sequence, self.id)

    @property
    def root_path(self) -> bytes:
        """The path that the root had: of a single file, that of the folder it lay in."""
        path = self.source.path
        return (path.rpartition(b"/")[0] or b"/") if self.single else path


FIELDS_VERSION = 7
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
        point.replaces, point.parents, point.suffix, point.writer,
        point.origin,
    )  # fmt: skip


def point_of_row(row: PointRow) -> Point:
    """The inverse of :func:`row_of_point`; nothing is checked."""
    before, source, display, root, state, *after = row[:5], *row[5:]
    *after, parents, suffix, writer, origin = after
    known = None if parents is None else tuple(Parent(*parent) for parent in parents)
    last = (known, suffix, writer, None if origin is None else Origin(*origin))
    return Point(*(*before, Source(*source), display, root, Reference(*state), *after, *last))


def encode_point(point: Point, name: str, keys: Keys, codec: Codec) -> bytes:
    """The manifest's bytes; *name* is that of the object they are stored as."""
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
        **({} if point.parents is None else {"parents": tuple(map(tuple, point.parents))}),
        **({"suffix": point.suffix} if point.suffix else {}),
        **({"replaces": point.replaces} if point.replaces else {}),
        **({"writer": point.writer} if point.writer else {}),
        **({} if point.origin is None else {"origin": tuple(point.origin)}),
    }
    return encode_object(keys, name, MANIFEST, pack(values), codec)


def decode_point(data: bytes, name: str, point_id: str, keys: Keys) -> Point:
    """The manifest of *point_id*, stored as the object *name*.

    Raises FormatDamaged, UnsupportedFormat.
    """
    said = read_object(keys, name, MANIFEST, data, name)
    if said.author is not None and len(said.raw) > max(OWN_SIZE_LIMIT, OWN_RATIO * len(data)):
        raise FormatDamaged(f"{name}: is larger than its machine may make it")
    values = unpack_map(said.raw, name)
    for field_name, (kind, is_good) in _FIELDS.items():
        value = values.get(field_name)
        if type(value) is not kind:
            raise FormatDamaged(f"{name}: {field_name!r} is missing or of a wrong type")
        if not is_good(value):
            raise FormatDamaged(f"{name}: {field_name!r} is not what it may be")
    if type(values.get("writer", "")) is not str:
        raise FormatDamaged(f"{name}: 'writer' is not what it may be")
    if not is_suffix(values.get("suffix", "")):
        raise FormatDamaged(f"{name}: 'suffix' is not what it may be")
    if not _are_others(values.get("replaces", ()), point_id):
        raise FormatDamaged(f"{name}: 'replaces' is not what it may be")
    if "origin" in values and not _is_origin(values["origin"], (keys.repository, point_id)):
        raise FormatDamaged(f"{name}: 'origin' is not what it may be")
    if values["id"] != point_id:
        raise FormatDamaged(f"{name}: is the manifest of {values['id']!r}")
    check_root(values["root"], f"{name}: 'root'")
    check_extra(values["extras"], f"{name}: 'extras'")
    parents = values.get("parents")
    if not are_parents(parents, PARENTS_LIMIT):
        raise FormatDamaged(f"{name}: 'parents' is not what it may be")
    _require_own(said, values, name)
    return Point(
        id=point_id,
        time_ns=values["time"],
        source=Source(values["host"], values["path"], values["name"]),
        root_extras=values["extras"],
        state=Reference(*values["state"]),
        parents=None if parents is None else tuple(Parent(*parent[:3]) for parent in parents),
        suffix=values.get("suffix") or _suffix_by_parent(values),
        replaces=values.get("replaces", ()),
        writer=said.author.tag if said.author else values.get("writer", ""),
        origin=Origin(*values["origin"]) if "origin" in values else None,
        **{field_name: values[field_name] for field_name in _SAME},
    )


def _require_own(said: Said, values: Mapping[str, Any], name: str) -> None:
    """Raise FormatDamaged if a machine that only writes says more than it may: of its own host, of
    what its own runs have stored, and in the place of nothing."""
    if said.author is None:
        return
    if values["host"] != said.author.host:
        raise FormatDamaged(
            f"{name}: is of the host {values['host']!r}, and who made it may only make points of "
            f"{said.author.host!r}"
        )
    is_copy = "origin" in values  # of another point, that would then be held to be here
    if not said.may_refer(values["state"][0]) or values.get("replaces") or is_copy:
        raise FormatDamaged(f"{name}: leads to what its machine may not make points of")
    second = made_seconds(values["id"])
    if second is None or values["time"] // 1_000_000_000 != second:
        raise FormatDamaged(f"{name}: is of another time than its id says")
    if values["epoch"] > second + DAY or values["sequence"] > most_sequence(second):
        raise FormatDamaged(f"{name}: a number beyond those that its machine may give")


def most_sequence(second: int) -> int:
    """The highest sequence that a machine that only writes may give in a *second* since 1970."""
    return (second + DAY) * 1_000_000_000 // SEQUENCE_NS


_SAME = (
    "sequence", "epoch", "utc_offset", "display", "root", "digest", "devices", "users", "groups",
    "statistics", "single", "full", "parent", "comment",
)  # fmt: skip


def _suffix_by_parent(values: Mapping[str, Any]) -> str:
    """The suffix of a point that follows one of the same second and was written without any."""
    made = made_seconds(values["parent"])
    is_second = made is not None and made == values["time"] // 1_000_000_000
    return id_digits(values["id"])[:SUFFIX_DIGITS] if is_second else ""


def is_suffix(suffix: Any) -> bool:
    """Whether a point may have this *suffix*; it may have none."""
    return type(suffix) is str and (not suffix or SUFFIX.match(suffix) is not None)


def id_digits(point_id: str) -> str:
    """At least ten hexadecimal digits that are this id's own: those it ends with, if it does."""
    digits = point_id.rpartition("_")[2]
    return digits if _DIGITS.match(digits) else blake3(point_id.encode()).hexdigest()[:40]


def made_seconds(point_id: str) -> int | None:
    """When a point was made, in seconds since 1970, if its id tells."""
    try:
        made = datetime.strptime(point_id.partition("_")[0], "%Y%m%dT%H%M%SZ")
    except ValueError:
        return None
    return int(made.replace(tzinfo=timezone.utc).timestamp())


def _any(_: Any) -> bool:
    return True


def _are_others(ids: Any, point_id: str) -> bool:
    """Whether *ids* are those of points, and *point_id* is none of them."""
    return type(ids) is tuple and all(
        type(other) is str and other != point_id and POINT_ID.match(other) for other in ids
    )


def _is_origin(origin: Any, itself: tuple[bytes, str]) -> bool:
    """Whether *origin* is another point than the one that says so, which is *itself*."""
    return (
        type(origin) is tuple
        and list(map(type, origin)) == [bytes, str]
        and len(origin[0]) == len(itself[0])
        and POINT_ID.match(origin[1]) is not None
        and origin != itself
    )


def is_display_name(name: str) -> bool:
    """Whether a source may be shown under *name*: a file name without control characters."""
    encoded = name.encode("utf-8", "surrogateescape")
    return (
        0 < len(encoded) <= 255
        and name not in (".", "..")
        and "/" not in name
        and not any(ord(character) < 32 for character in name)
    )


_FIELDS: dict[str, tuple[type, Callable[[Any], bool]]] = {
    "id": (str, _any),
    "sequence": (int, lambda number: 0 < number <= NUMBER_LIMIT),
    "epoch": (int, lambda number: 0 <= number <= NUMBER_LIMIT),
    "time": (int, lambda ns: abs(ns) <= TIME_LIMIT),
    "utc_offset": (int, lambda seconds: abs(seconds) <= DAY),
    "host": (str, _any),
    "path": (bytes, _any),
    "name": (str, _any),
    "display": (str, is_display_name),
    "root": (tuple, _any),
    "extras": (dict, _any),
    "state": (tuple, is_state),
    "digest": (bytes, lambda digest: len(digest) == 32),
    "devices": (tuple, lambda paths: all(type(path) is bytes for path in paths)),
    "users": (dict, are_names),
    "groups": (dict, are_names),
    "statistics": (dict, are_counts),
    "single": (bool, _any),
    "full": (bool, _any),
    "parent": (str, lambda point_id: not point_id or POINT_ID.match(point_id) is not None),
    "comment": (str, _any),
}
"""The keys that a manifest must have: the type of each, and what its value must be."""

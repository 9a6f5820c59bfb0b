"""What a server that only appends lets a client do: pure, and all of it on this page.

The client may be anybody who got hold of the key of a machine that makes backups here.  Of the
objects of a repository it may put those that a backup makes, under names that nothing has, and
nothing else: it replaces nothing, renames nothing and deletes nothing, but what itself began and
did not finish, and its own lock.  Each function gives why something is refused, or nothing.

Refused are above all: sidecars of parity, for who writes them may change what they heal; later
generations, notes of removal and of damage, bundles and marks of protection, which say something
of what others wrote; and locks that keep backups or ``forget`` away.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple, Protocol

from ibtfs.errors import FormatDamaged, UnsupportedFormat
from ibtfs.format.envelopes import PUBLIC_MODE, is_known
from ibtfs.format.index import is_archive_id
from ibtfs.format.keys import PlainKeys
from ibtfs.format.objects import split_object
from ibtfs.format.point import POINT_ID, Point, decode_point, made_seconds
from ibtfs.store import layout
from ibtfs.store.storage.base import is_unfinished

APPENDS = "this server only appends"
WRITES = "this server gives no contents"
PAST_SECONDS, FUTURE_SECONDS = 30 * 86400, 86400
"""So long ago a run may have begun by the server's clock, and so far its own may be ahead."""
BEGUN_SECONDS = 2 * 86400
"""So long ago one of a machine that only writes, when it puts something for the first time: else
who took it over could make points of the days before, and rules by time would keep those."""
NUMBERS_LIMIT = 1 << 40
"""Sequences and epochs are counted: who claims one near the end leaves none to others."""
TAG_BYTES = 200
MANIFEST_LIMIT = 8 << 20
_LOCK = re.compile(r"shared_\d{1,12}_[0-9A-Za-z.-]{1,64}_\d{1,10}_([0-9a-f]{8})\Z")
_CONTENTS = (layout.DATA, layout.SIGS)
_OF_MACHINE = re.compile(r"\d{8}T\d{6}Z_[0-9a-f]{40}\Z")
"""The id of a run of a machine that only writes: no other has so many digits."""


class Modes(NamedTuple):
    """How a server was started; *host* is whose points may be put, if not everybody's."""

    append_only: bool = False
    write_only: bool = False
    host: str = ""


class Facts(Protocol):
    """What there is, looked at when it is asked."""

    def names(self, folder: str) -> Collection[str]:
        """The names in a folder, without uploads."""
        ...

    def is_bundled(self, archive_id: str) -> bool:
        """Whether files of an archive lie in a bundle, or that cannot be told."""
        ...

    def is_claimed(self, run_id: str, *, may_begin: bool) -> bool:
        """Whether a run is this client's: nothing of it was there when its lock first named it.

        It is named now, if it *may_begin*.
        """
        ...


def may_put(name: str, facts: Facts, now: float) -> str:
    """Why *name*, which is new, may not be put at the time *now*.

    To be asked again just before it gets its name.
    """
    top, _, rest = name.partition("/")
    owner, _, base = rest.partition("/")
    if name == layout.CONFIG:
        folders = (layout.ARCHIVES, layout.BUNDLES, layout.POINTS)
        is_used = layout.CONFIG in facts.names("") or any(map(facts.names, folders))
        return f"{APPENDS}, and there is a repository" if is_used else ""
    if top == layout.POINTS and POINT_ID.match(owner) and not base:
        return _may_come(owner, facts, now)
    if top == layout.TAGS and POINT_ID.match(owner) and _is_tag(base):
        return _may_come(owner, facts, now)
    if top == layout.ARCHIVES and is_archive_id(owner) and base in _FILES:
        run_id = layout.run_of(owner)
        return _may_come(run_id, facts, now) or _may_fill(owner, facts)
    return f"{APPENDS} what a backup makes"


_FILES = frozenset(layout.archive_file("", kind, 1).rpartition("/")[2] for kind in layout.KINDS)


def _is_tag(base: str) -> bool:
    size = len(base.encode("utf-8", "surrogateescape"))
    is_name = 0 < size <= TAG_BYTES and base.isprintable() and "/" not in base
    return is_name and not base.startswith(".") and not is_unfinished(base)


def _may_come(run_id: str, facts: Facts, now: float) -> str:
    """Why the run *run_id* may not put anything (any more)."""
    made = made_seconds(run_id)
    if made is None or not now - PAST_SECONDS < made < now + FUTURE_SECONDS:
        return f"{APPENDS}, and by its clock the run {run_id} is not one of now"
    if run_id in facts.names(layout.POINTS) or run_id in facts.names(layout.FORGOTTEN):
        return f"{APPENDS}, and the run {run_id} has ended"
    is_recent = made > now - BEGUN_SECONDS or _OF_MACHINE.match(run_id) is None
    if not facts.is_claimed(run_id, may_begin=is_recent):
        if not is_recent:
            return f"{APPENDS}, and by its clock the run {run_id} did not begin just now"
        return f"{APPENDS}, and the run {run_id} is not this client's, or holds no lock"
    return ""


def _may_fill(archive_id: str, facts: Facts) -> str:
    """Why nothing may be added to an archive.

    The order matters: files leave the folder of an archive when they are in a bundle already.
    """
    for name in facts.names(layout.archive(archive_id)):
        file = layout.parse_archive_file(name)
        if name == layout.REMOVED or (file is not None and file.kind == layout.INDEX):
            return f"{APPENDS}, and the archive {archive_id} is whole, or was removed"
    if facts.is_bundled(archive_id):
        return f"{APPENDS}, and the archive {archive_id} lies in a bundle"
    return ""


def may_commit(data: bytes, name: str, repository: bytes, modes: Modes, now: float) -> str:
    """Why the manifest *data* may not become the point *name*.

    One could hide the points that it claims to replace, pass for the one that it claims to be a
    copy of, or come before all others for ever.
    """
    point_id = layout.point_of(name.rpartition("/")[2])
    try:
        envelope = split_object(data, name).envelope
        point = None if envelope else decode_point(data, name, point_id, PlainKeys(repository))
    except (FormatDamaged, UnsupportedFormat) as error:
        return f"{APPENDS}, and {error}"
    if point is None:
        return _may_commit_sealed(point_id, envelope, modes, now)
    return _may_commit(point, modes, now)


def _may_commit(point: Point, modes: Modes, now: float) -> str:
    if point.replaces:
        return f"{APPENDS}, and the point {point.id} would hide others"
    if point.origin is not None:
        return f"{APPENDS}, and the point {point.id} would pass for another"
    if not 0 <= point.sequence < NUMBERS_LIMIT or not 0 <= point.epoch < NUMBERS_LIMIT:
        return f"{APPENDS}, and the point {point.id} would be the last for ever"
    if not now - PAST_SECONDS < point.time_ns / 1e9 < now + FUTURE_SECONDS:
        return f"{APPENDS}, and by its clock the point {point.id} is not one of now"
    if modes.host and point.source.host != modes.host:
        return f"{APPENDS} points of the host {modes.host!r}"
    return ""


def _may_commit_sealed(point_id: str, envelope: bytes, modes: Modes, now: float) -> str:
    """Why a sealed manifest may not become this point: nobody here can read what it says.

    It can hide nothing either: readers take it for one of those who have a key.  Who only writes
    can make points of its own host alone; who has all keys, those of any.
    """
    if not is_known(envelope):
        return f"{APPENDS}, and the point {point_id} is sealed in a way that is not known here"
    made = made_seconds(point_id)
    if made is None or not now - PAST_SECONDS < made < now + FUTURE_SECONDS:
        return f"{APPENDS}, and by its name the point {point_id} is not one of now"
    if modes.host and envelope[0] != PUBLIC_MODE:
        return f"{APPENDS} points of the host {modes.host!r}: of a sealed one that is not seen"
    return ""


def may_lease(name: str, token: str) -> str:
    """Why the lock *name* may not be taken: only those of backups."""
    top, _, base = name.partition("/")
    found = _LOCK.match(base)
    if top != layout.LOCKS or found is None or found[1] != token:
        return f"{APPENDS}, and takes no locks but those of backups"
    return ""


def may_delete(name: str, mark: str) -> str:
    """Why *name* may not be removed by who marks his uploads by *mark*."""
    is_own = is_unfinished(name) and f".{mark}." in name.rpartition("/")[2]
    return "" if is_own else f"{APPENDS}: nothing is removed, but by who looks after it there"


def may_read(name: str) -> str:
    """Why *name* may not be read from a server that gives no contents."""
    top, _, rest = name.partition("/")
    base = rest.rpartition("/")[2]
    if top == layout.BUNDLES or (top == layout.ARCHIVES and base.startswith(_CONTENTS)):
        return WRITES
    return ""


def is_name(name: str) -> bool:
    """Whether *name* can be that of an object or a folder, and leads nowhere else."""
    parts = name.split("/")
    encoded = name.encode("utf-8", "surrogateescape")
    is_short = len(parts) <= 3 and all(len(part.encode("utf-8", "surrogateescape")) <= 255
                                       for part in parts)  # fmt: skip
    return is_short and b"\0" not in encoded and not {"", ".", ".."} & set(parts)

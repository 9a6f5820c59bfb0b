"""Where everything lies in a repository: the only module that spells names of objects.

Names are text with ``/`` between folder and name.  FORMAT.rst says what the objects are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

CONFIG: Final = "ibtfs.json"
ARCHIVES: Final = "archives"
BUNDLES: Final = "bundles"
POINTS: Final = "points"
TAGS: Final = "tags"
LOCKS: Final = "locks"
DAMAGED: Final = "damaged"
FORGOTTEN: Final = "forgotten"
COPIED: Final = "copied"
PROTECTION: Final = "protection"
KEYS: Final = "keys"
LISTS: Final = "lists"
FOLDERS: Final = (
    ARCHIVES, BUNDLES, COPIED, DAMAGED, FORGOTTEN, KEYS, LISTS, LOCKS, POINTS, PROTECTION, TAGS,
)  # fmt: skip
"""The folders that every repository has."""
NESTED: Final = (ARCHIVES, TAGS)
"""Those that have folders in them."""

DATA, SIGS, INDEX = "data", "sigs", "index"
KINDS: Final = (DATA, SIGS, INDEX)
"""The kinds of files of an archive, in the order in which they become durable."""
GENERATIONS_LIMIT = 1_000_000
"""More than one file will ever have: a higher number is nothing that was written here."""
PARITY, _MARK = "parity", "redundancy."
REMOVED: Final = "removed"
"""What lies in the folder of an archive that does not exist any more, until all else is gone."""


_BUNDLE_ID = re.compile(r"[0-9a-f]{16}\Z")
_COPIED = re.compile(r"([0-9a-f]{32})-([0-9A-Za-z][0-9A-Za-z_-]{7,119})\Z")
_REVOKED = re.compile(r"revoked\.([0-9a-f]{32})\Z")
_RING = re.compile(r"([1-9][0-9]{0,8})\.[0-9a-f]{16}\Z")
_NUMBER = re.compile(r"[1-9][0-9]{0,17}\Z")


def _number(text: str) -> int:
    """The number that *text* spells as names do, in one way only; 0 if it does not."""
    return int(text) if _NUMBER.match(text) else 0


def archive(archive_id: str) -> str:
    """The folder of an archive."""
    return f"{ARCHIVES}/{archive_id}"


def run_of(archive_id: str) -> str:
    """The run that wrote an archive: the id of its point, if it came to that."""
    return archive_id.rpartition(".")[0]


def run_of_object(name: str) -> str:
    """The run that made the object *name*: a manifest, or in an archive; empty if it is neither."""
    archive_id = archive_of(name)
    if archive_id:
        return run_of(archive_id)
    top, _, point_id = name.partition("/")
    return point_id if top == POINTS else ""


def archive_of(name: str) -> str:
    """The archive in whose folder the object *name* lies; empty if it lies in none."""
    top, _, rest = name.partition("/")
    archive_id, _, file = rest.partition("/")
    return archive_id if top == ARCHIVES and file and "/" not in file else ""


def archive_in(folder: str) -> str:
    """The archive whose folder *folder* is; empty if it is none."""
    return archive_of(f"{folder}/{INDEX}")


def is_index(name: str) -> bool:
    """Whether the object *name* is the index of an archive."""
    found = parse_archive_file(name) if archive_of(name) else None
    return found is not None and found.kind == INDEX


def archive_object(archive_id: str, kind: str) -> str:
    """A file of an archive, whatever its generation: what the keys of its checksums depend on."""
    return f"{ARCHIVES}/{archive_id}/{kind}"


def archive_file(archive_id: str, kind: str, generation: int) -> str:
    """A file of an archive in one of its generations."""
    return f"{archive_object(archive_id, kind)}.{generation}"


def removed(archive_id: str) -> str:
    """What says that an archive does not exist any more."""
    return f"{ARCHIVES}/{archive_id}/{REMOVED}"


class ArchiveFile(NamedTuple):
    """What the name of an archive's file says."""

    kind: str
    generation: int


def parse_archive_file(name: str) -> ArchiveFile | None:
    """What *name*, as an archive's folder lists it, says; None if it is no file of an archive."""
    kind, _, number = name.rpartition("/")[2].partition(".")
    generation = _number(number)
    is_one = kind in KINDS and 0 < generation <= GENERATIONS_LIMIT
    return ArchiveFile(kind, generation) if is_one else None


def own_sums(archive_id: str, number: int) -> str:
    """The signature of a content, where a machine that only writes keeps what it knows."""
    return f"{ARCHIVES}/{archive_id}/sums-{number}"


def bundle(bundle_id: str) -> str:
    """A bundle: the files of many archives."""
    return f"{BUNDLES}/{bundle_id}"


def is_bundle(name: str) -> bool:
    """Whether the object *name* is a bundle."""
    top, _, base = name.partition("/")
    return top == BUNDLES and is_bundle_id(base)


def is_bundle_id(name: str) -> bool:
    """Whether *name* may be that of a bundle."""
    return _BUNDLE_ID.match(name) is not None


def parity(name: str, share: int) -> str:
    """The sidecar of a file of an archive, of *share* percent."""
    return f"{name}.{PARITY}.{share}"


class ParityFile(NamedTuple):
    """What the name of the sidecar of an archive's file says."""

    file: ArchiveFile
    share: int


def parse_parity(name: str) -> ParityFile | None:
    """What *name*, as an archive's folder lists it, says; None if it is no sidecar there."""
    file, _, share = name.rpartition(".")
    found = parse_archive_file(file.removesuffix(f".{PARITY}"))
    if found is None or not file.endswith(f".{PARITY}") or not _number(share):
        return None
    return ParityFile(found, _number(share))


def protection_mark(share: int) -> str:
    """What says that all that is written is to be protected, by *share* percent."""
    return f"{PROTECTION}/{_MARK}{share}"


def parse_protection_mark(name: str) -> int:
    """The share that *name*, in the folder of protection, says; 0 if it says none."""
    share = name.removeprefix(_MARK)
    return _number(share) if name.startswith(_MARK) and len(share) <= 3 else 0


def points_parity(generation: int) -> str:
    """The sidecar of the configuration and the manifests, in one of its generations."""
    return f"{PROTECTION}/{POINTS}.{generation}"


def parse_points_parity(name: str) -> int:
    """The generation that *name*, in the folder of protection, says; 0 if it is no sidecar."""
    kind, _, number = name.partition(".")
    return _number(number) if kind == POINTS and len(number) <= 9 else 0


def point(point_id: str) -> str:
    """The manifest of a backup point."""
    return f"{POINTS}/{point_id}"


def point_of(name: str) -> str:
    """The id of the point whose manifest is, or is to become, *name* as the folder lists it."""
    return name.partition(".")[0]


def tags(point_id: str) -> str:
    """The folder of the tags of a backup point."""
    return f"{TAGS}/{point_id}"


def tag(point_id: str, name: str) -> str:
    """A tag of a backup point."""
    return f"{TAGS}/{point_id}/{name}"


def lock(name: str) -> str:
    """A lock."""
    return f"{LOCKS}/{name}"


def forgotten(point_id: str) -> str:
    """What says that a backup point was removed on purpose."""
    return f"{FORGOTTEN}/{point_id}"


def copied(repository: str, point_id: str) -> str:
    """What says that a backup point was copied here from another repository, 32 digits."""
    return f"{COPIED}/{repository}-{point_id}"


def parse_copied(name: str) -> tuple[str, str] | None:
    """The repository and the point that *name*, as the folder lists it, says; None if none."""
    found = _COPIED.match(name)
    return (found[1], found[2]) if found else None


def ring(number: int, digits: str) -> str:
    """All keys of a sealed repository, in their state of this *number*; *digits* are random."""
    return f"{KEYS}/{number}.{digits}"


def point_list(number: int, digits: str) -> str:
    """The list of all points of a sealed repository, of this *number*; *digits* are random."""
    return f"{LISTS}/{number}.{digits}"


def parse_numbered(name: str) -> int:
    """The number that *name*, in the folder of keys or of lists, says; 0 if it says none."""
    found = _RING.match(name)
    return int(found[1]) if found else 0


def revoked(digits: str) -> str:
    """What tells a machine that only writes that it makes no more points, by 32 *digits*."""
    return f"{KEYS}/revoked.{digits}"


def parse_revoked(name: str) -> str:
    """The digits that *name*, in the folder of keys, tells such a machine; empty if it is none."""
    found = _REVOKED.match(name)
    return found[1] if found else ""


def is_left_of_making(name: str, keys: Iterable[str]) -> bool:
    """Whether the making of a repository that was cut off may have left *name* at the top.

    *keys* are the names in the folder of keys, without uploads.
    """
    return name == KEYS and all(map(parse_numbered, keys))


def key_owner(name: str) -> str:
    """What the keys of the object *name* belong to: its archive, or it alone."""
    archive_id = archive_of(name)
    return archive(archive_id) if archive_id else name


def damage_note(name: str) -> str:
    """A note of damage."""
    return f"{DAMAGED}/{name}"

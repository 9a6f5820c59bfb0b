"""A repository as a whole: made, opened, its points listed and its archives handed out."""

from __future__ import annotations

import json
import logging
import os
import resource
import threading
from collections import OrderedDict
from collections.abc import Container, Iterable
from dataclasses import replace
from typing import Any, NamedTuple

from ibtfs.errors import (
    FormatDamaged,
    IbtfsError,
    IntegrityError,
    NotARepository,
    ObjectMissing,
    PointNotFound,
    RepositoryError,
    RepositoryExists,
    UnsupportedFormat,
)
from ibtfs.format.frames import FORMAT_VERSION, Codec, digest
from ibtfs.format.index import Reference, is_archive_id
from ibtfs.format.point import POINT_ID, Point, decode_point, encode_point
from ibtfs.store.archives.reader import ArchiveReader, generations
from ibtfs.store.cache import ByteCache
from ibtfs.store.manifests import KnownPoints
from ibtfs.store.naming import shown_sources
from ibtfs.store.storage.durable import PART, StorageFailed
from ibtfs.store.storage.local import LocalStorage

log = logging.getLogger(__name__)

CONFIG = "ibtfs.json"
CONFIG_LIMIT = 1 << 20
MANIFEST_LIMIT = 8 << 20
CACHE_BYTES = 48 << 20
ARCHIVES_OPEN = 1024
"""At most; of a process that may not open many files, an eighth of those."""
NOTE_CONTENTS = 100_000
LEVEL = 1


class Points(NamedTuple):
    """The points of a repository, in order within each source, and manifests that are damaged."""

    points: list[Point]
    damaged: dict[str, IbtfsError]


class Repository:
    """A repository on a disk; threads may share it.

    Reading needs no lock and no write access.
    """

    def __init__(
        self,
        storage: LocalStorage,
        config: dict[str, Any],
        *,
        cache_bytes: int = CACHE_BYTES,
        cache_folder: bytes = b"",
    ) -> None:
        self.storage = storage
        self.id = bytes.fromhex(config["id"])
        self.cache = ByteCache(cache_bytes)
        self.shared = bool(config.get("shared"))
        self.level = int(config.get("compression", LEVEL))
        self._lock = threading.Lock()
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._most_open = ARCHIVES_OPEN if files < 0 else min(ARCHIVES_OPEN, max(files // 8, 16))
        self._write_requires = list(config.get("write_requires", []))
        self._archives: OrderedDict[str, ArchiveReader] = OrderedDict()
        self._points: dict[str, Point] = {}
        self._known = KnownPoints(cache_folder, self.id) if cache_folder else None

    @classmethod
    def create(
        cls, path: bytes, repository_id: bytes, *, shared: bool = False, level: int = LEVEL
    ) -> Repository:
        """Make a repository at *path*, which may be an empty folder but not anything else.

        *repository_id* is 16 random bytes.  Raises RepositoryExists, RepositoryError.
        """
        shown = os.fsdecode(path)
        check_place(path)
        mode = 0o2770 if shared else 0o700
        try:
            os.makedirs(path, mode=mode, exist_ok=True)
            os.chmod(path, mode)
        except OSError as error:
            raise RepositoryError(f"Cannot make {shown!r}: {error.strerror}") from error
        config = {
            "format": FORMAT_VERSION,
            "id": repository_id.hex(),
            "shared": shared,
            "compression": level,
            "read_requires": [],
            "write_requires": [],
        }
        config["check"] = _config_check(config)
        storage = LocalStorage(path, shared=shared)
        try:
            storage.put_new(CONFIG, (json.dumps(config, indent=1) + "\n").encode())
        except FileExistsError:
            raise RepositoryExists(f"{shown!r} is a repository already") from None
        storage.make_folders()
        return cls(storage, config)

    @classmethod
    def open(
        cls, path: bytes, *, cache_bytes: int = CACHE_BYTES, cache_folder: bytes = b""
    ) -> Repository:
        """The repository at *path*, absolute.  Raises NotARepository, UnsupportedFormat.

        In *cache_folder* is a copy of manifests, to start faster where there are many points.
        """
        shown = os.fsdecode(path)
        if not os.path.lexists(path):
            raise NotARepository(f"No such repository: {shown!r} does not exist")
        try:
            text = LocalStorage(path).get(CONFIG, CONFIG_LIMIT)
        except IbtfsError as error:
            raise NotARepository(f"{shown!r} is not an ibtfs repository: {error}") from error
        config = _decode_config(text, shown)
        storage = LocalStorage(path, shared=bool(config.get("shared")))
        return cls(storage, config, cache_bytes=cache_bytes, cache_folder=cache_folder)

    def require_writable(self) -> None:
        """Raise UnsupportedFormat if only a newer ibtfs may write here, RepositoryError if none."""
        if self._write_requires:
            needs = ", ".join(map(str, self._write_requires))
            raise UnsupportedFormat(f"The repository may be written by a newer ibtfs only: {needs}")
        reason = self.storage.refusal()
        if reason:
            raise RepositoryError(f"The repository {self.path_shown!r} is not writable: {reason}")

    @property
    def path(self) -> bytes:
        """Where it lies, absolute."""
        return self.storage.root

    @property
    def path_shown(self) -> str:
        """Where it lies, as text."""
        return os.fsdecode(self.path)

    def archive(self, archive_id: str) -> ArchiveReader:
        """The reader of an archive; nothing is opened before it is asked for something."""
        with self._lock:
            reader = self._archives.get(archive_id)
            if reader is None:
                reader = ArchiveReader(self.storage, self.id, archive_id, self.cache)
                self._archives[archive_id] = reader
                if len(self._archives) > self._most_open:
                    self._archives.popitem(last=False)
            else:
                self._archives.move_to_end(archive_id)
            return reader

    def archive_ids(self) -> list[str]:
        """The archives that are whole, oldest first by name."""
        return list(self.index_generations())

    def has_archives(self) -> bool:
        """Whether any archive is there, whole or not; reads one folder."""
        return any(map(is_archive_id, self.storage.list("archives")))

    def is_whole(self, archive_id: str) -> bool:
        """Whether an archive has its index now."""
        return "index" in generations(self.storage, archive_id)

    def index_generations(self, known: Container[str] = ()) -> dict[str, int]:
        """The archives that are whole, oldest first by name, each with its index's generation.

        Those that are *known* are left out, and their folders are not looked into.
        """
        names = filter(is_archive_id, self.storage.list("archives"))
        found = (
            (name, generations(self.storage, name).get("index"))
            for name in names
            if name not in known
        )
        return {name: number for name, number in found if number is not None}

    def point_ids(self) -> list[str]:
        """The ids of all points; reads one folder and no manifest."""
        return [name for name in self.storage.list("points") if POINT_ID.match(name)]

    def point(self, point_id: str) -> Point:
        """The point called *point_id*.  Raises PointNotFound, FormatDamaged."""
        point = self._points.get(point_id)
        if point is None:
            try:
                point = self._points[point_id] = self._read_point(point_id)
            except ObjectMissing as error:
                raise PointNotFound(f"No backup point {point_id!r}") from error
        return point

    def _read_point(self, point_id: str) -> Point:
        name = f"points/{point_id}"
        if self._known is None:
            return decode_point(self.storage.get(name, MANIFEST_LIMIT), point_id, self.id)
        # looked at before it is read: what changes afterwards has another stamp
        stamp = self.storage.stamp(name)
        point = self._known.get(point_id, stamp)
        if point is None:
            point = decode_point(self.storage.get(name, MANIFEST_LIMIT), point_id, self.id)
            self._known.add(stamp, point)
        return point

    def remember_points(self) -> None:
        """Keep a copy of the manifests that were read, where there is a folder for it."""
        if self._known is not None:
            self._known.keep()

    def points(self) -> Points:
        """All points, by sequence within their sources; manifests that cannot be read apart.

        Raises StorageFailed if the disk gives none of them.
        """
        points: list[Point] = []
        damaged: dict[str, IbtfsError] = {}
        present = self.point_ids()
        for point_id in present:
            try:
                points.append(self.point(point_id))
            except (IntegrityError, StorageFailed) as error:
                damaged[point_id] = error
            except PointNotFound:
                continue  # removed since the folder was listed
        if not points:
            for refused in damaged.values():
                if isinstance(refused, StorageFailed):
                    raise refused
        for gone in set(self._points).difference(present):
            self._points.pop(gone, None)
        points.sort(key=lambda point: point.order)
        shown = shown_sources(points)
        points = [
            point if shown[point.id] == point.display else replace(point, display=shown[point.id])
            for point in points
        ]
        return Points(points, damaged)

    def is_there(self) -> bool:
        """Whether the repository can still be found: its disk may have been unplugged."""
        return is_repository(self.path)

    def require_there(self) -> None:
        """Raise ObjectMissing unless :meth:`is_there`."""
        if not self.is_there():
            shown = os.fsdecode(self.path)
            raise ObjectMissing(f"The repository {shown!r} is gone (a disk unplugged?)")

    def has_point(self, point_id: str) -> bool:
        """Whether the manifest is still there."""
        return os.path.lexists(self.storage.path(f"points/{point_id}"))

    def manifest_size(self, point: Point) -> int:
        """How many bytes the manifest of *point* has."""
        return len(encode_point(point, self.id, Codec(self.level)))

    def commit(self, point: Point) -> int:
        """Make *point* visible: THE COMMIT POINT of a backup; bytes stored."""
        data = encode_point(point, self.id, Codec(self.level))
        self.storage.put_new(f"points/{point.id}", data)
        return len(data)

    def tags(self, point_id: str) -> list[str]:
        """The tags of a point."""
        return self.storage.list(f"tags/{point_id}")

    def damaged_contents(self) -> frozenset[Reference]:
        """The contents that check found damaged, and noted."""
        found: set[Reference] = set()
        for name in self.storage.list("damaged"):
            try:
                text = self.storage.get(f"damaged/{name}", MANIFEST_LIMIT)
                found.update(_decode_note(text, name))
            except IntegrityError as error:
                log.warning("A note of damage cannot be read: %s", error)
        return frozenset(found)

    def note_damaged(self, note_id: str, contents: Iterable[Reference]) -> None:
        """Note that *contents* are damaged, so that the next backup stores them anew."""
        ordered = sorted(contents)
        for part, first in enumerate(range(0, len(ordered), NOTE_CONTENTS)):
            rows: dict[str, list[int]] = {}
            for archive, number in ordered[first : first + NOTE_CONTENTS]:
                rows.setdefault(archive, []).append(number)
            text = json.dumps({"contents": rows}) + "\n"
            self.storage.put_new(f"damaged/{note_id}-{part}", text.encode())

    def add_tag(self, point_id: str, tag: str) -> None:
        """Tag a point, which may have no manifest yet."""
        self.storage.put_new(f"tags/{point_id}/{tag}", b"")

    def complete(self) -> None:
        """Make the folders that are missing, durably."""
        self.storage.make_folders()


def _config_check(config: dict[str, Any]) -> str:
    """The check sum of a configuration's other values."""
    values = {key: value for key, value in config.items() if key != "check"}
    return digest(json.dumps(values, sort_keys=True).encode()).hex()[:32]


def check_place(path: bytes) -> None:
    """Raise unless a repository may be made at *path*.

    A folder that holds something is refused, and so is one whose parent does not exist: a disk
    that is not plugged in must not become a repository on the wrong one.
    """
    shown, parent = os.fsdecode(path), os.path.dirname(path)
    if not os.path.isdir(parent):
        text = os.fsdecode(parent)
        raise RepositoryError(f"Cannot make {shown!r}: {text!r} does not exist (a disk unplugged?)")
    if os.path.isdir(path):
        if CONFIG.encode() in os.listdir(path):
            raise RepositoryExists(f"{shown!r} is a repository already")
        if any(not name.endswith(PART.encode()) for name in os.listdir(path)):
            raise RepositoryExists(
                f"{shown!r} is not empty and not a repository: name a new folder"
            )
    elif os.path.lexists(path):
        raise RepositoryExists(f"{shown!r} is not a folder")


def is_repository(path: bytes) -> bool:
    """Whether there is a repository at *path*."""
    return os.path.isfile(os.path.join(path, CONFIG.encode()))


def _decode_config(text: bytes, shown: str) -> dict[str, Any]:
    try:
        config = json.loads(text)
        version, repository_id = config["format"], bytes.fromhex(config["id"])
        needed = config.get("read_requires", [])
        shared, level = config.get("shared", False), config.get("compression", LEVEL)
        check = config.get("check")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FormatDamaged(f"{shown}/{CONFIG}: not readable ({error!r})") from error
    if version == FORMAT_VERSION and check != _config_check(config):
        raise FormatDamaged(
            f"{shown}/{CONFIG}: its values do not have the check sum that they should; the "
            "repository's id also stands in clear near the end of every archive file"
        )
    if type(version) is not int or type(needed) is not list or type(level) is not int:
        raise FormatDamaged(f"{shown}/{CONFIG}: a value is of a wrong type")
    if len(repository_id) != 16 or type(shared) is not bool:
        raise FormatDamaged(f"{shown}/{CONFIG}: a value is of a wrong type")
    if version < 1:
        raise FormatDamaged(f"{shown}/{CONFIG}: there is no format {version}")
    if version > FORMAT_VERSION:
        raise UnsupportedFormat(
            f"{shown}/{CONFIG} says format {version}, and this ibtfs reads up to "
            f"{FORMAT_VERSION}: upgrade ibtfs (or, if no newer one wrote here, it is damaged)"
        )
    if needed:
        features = ", ".join(map(str, needed))
        raise UnsupportedFormat(f"{shown}/{CONFIG} asks for what is unknown here: {features}")
    return dict(config)


def _decode_note(text: bytes, name: str) -> list[Reference]:
    try:
        rows = json.loads(text)["contents"].items()
        noted = [Reference(archive, number) for archive, numbers in rows for number in numbers]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FormatDamaged(f"damaged/{name}: not readable ({error!r})") from error
    if not all(is_archive_id(ref.archive) and type(ref.number) is int for ref in noted):
        raise FormatDamaged(f"damaged/{name}: does not name contents")
    return noted

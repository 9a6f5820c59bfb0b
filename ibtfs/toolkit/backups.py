"""Whole backups in one call each: the actions of ibtfs with the names of the ancestors."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

from ibtfs.actions.backup.run import BackupOptions, BackupResult, backup
from ibtfs.actions.forget import tags as tagging
from ibtfs.actions.forget.choice import DEFAULT_GROUP, Choice
from ibtfs.actions.forget.policy import Policy
from ibtfs.actions.forget.run import (
    Forgotten,
    Rules,
    Way,
    forget_by_rules,
    forget_named,
    undo,
)
from ibtfs.actions.forget.tags import Tagged
from ibtfs.actions.observer import Observer, Tally
from ibtfs.actions.restore.run import Overwrite, RestoreOptions, restore
from ibtfs.actions.stats.gather import Statistics, statistics
from ibtfs.errors import UsageError
from ibtfs.format.point import Point
from ibtfs.store.naming import (
    at_moment,
    by_source,
    displayed_names,
    of_source,
    relative_path,
    require_certain,
    select_among,
)
from ibtfs.store.repository import Repository
from ibtfs.toolkit.dirs import AnyPath
from ibtfs.toolkit.opening import Passphrase, open_or_create, open_repository

log = logging.getLogger(__name__)

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)


class BackupPoint(NamedTuple):
    """A backup point as people see it.

    *source* is the name that its source is shown under, *name* its own there (local time);
    *files* and *bytes* count what it holds.  *point* is the manifest, with all the rest.
    """

    source: str
    name: str
    time: datetime
    full: bool
    files: int
    bytes: int
    point: Point


class Restored(NamedTuple):
    """What was restored: from which point, counts by name, and problems as (path, message)."""

    point: Point
    tally: Tally


def full_backup(
    path: AnyPath, repository: AnyPath | Repository, *, name: str = "", host: str = "",
    patterns: Iterable[str | bytes] = (), tags: Sequence[str] = (), comment: str = "",
    cache: AnyPath = b"", observer: Observer | None = None,
    key_file: AnyPath | None = None, passphrase: Passphrase | None = None,
) -> BackupResult:  # fmt: skip
    """Back up *path* without a reference to what earlier backups stored.

    *repository* is one, or where it lies; it is made if nothing is there yet, and sealed then if
    *key_file* or *passphrase* is given, which open it as open_repository says.  *name* and *host*
    (this machine by default) tell which source it is, *patterns* what to leave out by git's
    rules, *cache* is a folder for the catalog that makes the next backup start faster.  Of the
    result ``point.id`` names the new point; ``tally.counts`` has numbers of files and of bytes,
    ``tally.problems`` what could not be stored.

    Raises SourceError when *path* cannot be read, RepositoryLocked, RepositoryError, IbtfsError.
    """
    options = _options(name, host, patterns, tags, comment, cache, full=True)
    opened = _made(path, repository, key_file, passphrase)
    return backup(opened, _absolute(path), options, observer or Observer())


def incremental_backup(
    path: AnyPath, repository: AnyPath | Repository, *, name: str = "", host: str = "",
    patterns: Iterable[str | bytes] = (), tags: Sequence[str] = (), comment: str = "",
    cache: AnyPath = b"", observer: Observer | None = None,
    key_file: AnyPath | None = None, passphrase: Passphrase | None = None,
) -> BackupResult:  # fmt: skip
    """Back up what changed in *path* since its last backup; all of it if there is none.

    Arguments, result and errors are those of full_backup; ``full`` of the result tells whether
    there was an earlier one.
    """
    options = _options(name, host, patterns, tags, comment, cache, full=False)
    opened = _made(path, repository, key_file, passphrase)
    return backup(opened, _absolute(path), options, observer or Observer())


def restore_backup(
    repository: AnyPath | Repository, name: str, destination: AnyPath,
    at: str | datetime | None = None, *, paths: Iterable[str | bytes] = (),
    overwrite: str = Overwrite.REFUSE, observer: Observer | None = None,
    key_file: AnyPath | None = None, passphrase: Passphrase | None = None,
) -> Restored:  # fmt: skip
    """Restore the source shown as *name* to the folder *destination*.

    *at* is what the command line takes (a point's id or name, ``latest~2``, ``3d``,
    ``yesterday``, a tag), or a time; the newest point by default.  *paths* chooses parts, relative
    to the source.  *overwrite* is ``refuse``, ``always``, ``if-changed`` or ``never``.
    ``tally.problems`` of the result tells what could not be restored.

    Raises NotARepository, PointNotFound, EntryNotFound, UsageError rather than overwrite unasked,
    PointDamaged if a point that cannot be read may have been meant, IbtfsError.
    """
    opened = _opened(repository, key_file, passphrase)
    points, words = _points(opened), at.isoformat() if isinstance(at, datetime) else at or "latest"
    point = _select(opened, points, name, at)
    damaged, tagged = opened.points.all().damaged, opened.points.tagged
    require_certain(point, words, points, damaged, datetime.now(), tagged)
    wanted = [relative_path(point, os.fsencode(path)) for path in paths]
    options = RestoreOptions(overwrite=overwrite)
    where = _absolute(destination)
    tally = restore(opened, point, wanted, where, options, observer or Observer())
    return Restored(point, tally)


def list_points(
    repository: AnyPath | Repository, name: str | None = None, *,
    key_file: AnyPath | None = None, passphrase: Passphrase | None = None,
) -> list[BackupPoint]:  # fmt: skip
    """The backup points, by source and then oldest first; with *name* of that source only.

    Damaged manifests are left out, and told to the log.  Raises NotARepository, IbtfsError, and
    PointNotFound if there is no source of that name.
    """
    points = _points(_opened(repository, key_file, passphrase))
    names = displayed_names(points)
    mine = of_source(points, name) if name is not None else points
    sources = sorted(by_source(mine).items())
    return [_shown(point, names[point.id]) for _, listed in sources for point in listed]


def forget_points(
    repository: AnyPath | Repository, points: Iterable[str] = (), *, keep_last: int = 0,
    keep_hourly: int = 0, keep_daily: int = 0, keep_weekly: int = 0, keep_monthly: int = 0,
    keep_yearly: int = 0, keep_within: str = "", keep_tags: Iterable[str] = (),
    choice: Choice | None = None, group_by: Sequence[str] = DEFAULT_GROUP,
    allow_none: bool = False, dry_run: bool = False,
    key_file: AnyPath | None = None, passphrase: Passphrase | None = None,
) -> Forgotten:  # fmt: skip
    """Remove backup points: *points*, in the words of the command line, or those no rule keeps.

    Rules are those of ``ibtfs forget``: numbers of points, *keep_within* an age such as ``2w``,
    *keep_tags*.  They concern the points of *choice* (hosts, sources, tags), all by default, and
    count for each group by itself.  *allow_none* lets a source lose its last point; *dry_run*
    removes nothing.  Of the result ``gone`` are the ids, ``refused`` those that could not be
    removed, ``groups`` the reasons of those that stay.

    Raises UsageError if neither or both are given, or a source would have no point left;
    PointNotFound, PointDamaged, RepositoryLocked, IbtfsError.
    """
    opened = _opened(repository, key_file, passphrase)
    way, words = Way(allow_none, dry_run), list(points)
    policy = Policy(
        keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_yearly,
        within=keep_within, tags=frozenset(keep_tags),
    )  # fmt: skip
    if not words:
        rules = Rules(policy, choice or Choice(), group_by)
        return forget_by_rules(opened, rules, time.time_ns(), way)
    if not policy.keeps_nothing or choice:
        raise UsageError("Either points are named, or rules say which stay; not both")
    return forget_named(opened, words, datetime.now(), way)


def undo_backup(
    repository: AnyPath | Repository, name: str = "", *, allow_none: bool = False,
    dry_run: bool = False, key_file: AnyPath | None = None,
    passphrase: Passphrase | None = None,
) -> Forgotten:  # fmt: skip
    """Take back the last backup of the source shown as *name*; of the only one by default.

    Result and errors are those of forget_points.
    """
    opened = _opened(repository, key_file, passphrase)
    return undo(opened, name, datetime.now(), Way(allow_none, dry_run))


def tag_points(
    repository: AnyPath | Repository, tag: str, points: Iterable[str], *,
    key_file: AnyPath | None = None, passphrase: Passphrase | None = None,
) -> Tagged:  # fmt: skip
    """Give *tag*, a file name without a dot at its beginning, to *points*.

    The result tells which have it now, and which had it ``already``.  Raises UsageError,
    PointNotFound, PointDamaged, RepositoryLocked, IbtfsError.
    """
    opened = _opened(repository, key_file, passphrase)
    return tagging.tag_points(opened, tag, list(points), datetime.now())


def untag_points(
    repository: AnyPath | Repository, tag: str, points: Iterable[str], *,
    key_file: AnyPath | None = None, passphrase: Passphrase | None = None,
) -> Tagged:  # fmt: skip
    """Take *tag* from *points*; else as tag_points."""
    opened = _opened(repository, key_file, passphrase)
    return tagging.untag_points(opened, tag, list(points), datetime.now())


def repository_statistics(
    repository: AnyPath | Repository, *,
    key_file: AnyPath | None = None, passphrase: Passphrase | None = None,
) -> Statistics:  # fmt: skip
    """What *repository* takes on the disk, and what removing points of it would free; bytes.

    ``sources`` of the result have the costs of each point; ``ranges_of(source)`` and
    ``ranges_by_time()`` tell of each range of points, ``damages`` of what could not be read.

    Raises NotARepository, IbtfsError.
    """
    return statistics(_opened(repository, key_file, passphrase))


def _shown(point: Point, name: str) -> BackupPoint:
    count = point.statistics.get
    time = (_EPOCH + point.time_ns // 1000 * _MICROSECOND).astimezone()
    return BackupPoint(
        point.display, name, time, point.full, count("files", 0), count("bytes", 0), point
    )


def _options(
    name: str, host: str, patterns: Iterable[str | bytes], tags: Sequence[str], comment: str,
    cache: AnyPath, *, full: bool,
) -> BackupOptions:  # fmt: skip
    return BackupOptions(
        host=host or os.uname().nodename or "localhost", name=name, tags=tuple(tags),
        comment=comment, full=full, patterns=tuple(patterns), cache=os.fsencode(cache),
    )  # fmt: skip


def _absolute(path: AnyPath) -> bytes:
    return os.path.abspath(os.fsencode(path))


def _opened(
    repository: AnyPath | Repository, key_file: AnyPath | None, passphrase: Passphrase | None
) -> Repository:
    return open_repository(repository, key_file=key_file, passphrase=passphrase)


def _made(
    path: AnyPath, repository: AnyPath | Repository, key_file: AnyPath | None,
    passphrase: Passphrase | None,
) -> Repository:  # fmt: skip
    """The repository, which is made if there is none yet and the source exists."""
    exists = os.path.exists(_absolute(path))
    return open_or_create(repository, create=exists, key_file=key_file, passphrase=passphrase)


def _points(repository: Repository) -> list[Point]:
    points, damaged = repository.points.all()
    for point_id, error in damaged.items():
        log.warning("Point %s cannot be read: %s", point_id, error)
    return points


def _select(
    repository: Repository, points: Sequence[Point], name: str, at: str | datetime | None
) -> Point:
    mine = of_source(points, name)
    if isinstance(at, datetime):
        moment = (at.astimezone() - _EPOCH) // _MICROSECOND
        return at_moment(mine, moment * 1000 + 999, str(at))  # to its end, as words mean it
    return select_among(mine, at or "latest", datetime.now(), tagged=repository.points.tagged)

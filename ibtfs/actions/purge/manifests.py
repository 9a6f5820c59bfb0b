"""What manifests tell beside the state, without what goes: devices, names, comment, counts."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from ibtfs.actions.purge.survey import Survey
from ibtfs.format.acl import named_numbers
from ibtfs.format.entry import GID, UID, XATTRS
from ibtfs.format.point import Point
from ibtfs.store.contents.reader import Contents
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import Entry, entry_xattrs


@dataclass
class Traces:
    """What may be left in manifests of what goes: *names*, numbers of *users* and *groups*."""

    names: set[bytes] = field(default_factory=set)
    users: set[int] = field(default_factory=set)
    groups: set[int] = field(default_factory=set)

    def speaks(self, text: str) -> bool:
        """Whether *text* has one of the names as a word."""
        words = set(re.findall(rb"[^\s/\\'\"]+", os.fsencode(text)))
        stripped = {word.strip(b".,;:!?()[]{}<>") for word in words}
        if not self.names.isdisjoint(words | stripped | {os.fsencode(text)}):
            return True
        return any(b" " in name and name in os.fsencode(text) for name in self.names)


class Manifests:
    """Makes the manifests of points in which nothing that goes is told; used by one thread."""

    def __init__(self, repository: Repository, survey: Survey) -> None:
        self._survey = survey
        self._contents = Contents(repository)

    def traces(self, gone: Iterable[tuple[bytes, Entry]]) -> Traces:
        """What entries that go may have left in manifests.  Raises IntegrityError."""
        traces = Traces()
        for _, entry in gone:
            users, groups = self._numbers(entry)
            traces.names.add(entry.name)
            traces.users |= users
            traces.groups |= groups
        return traces

    def _numbers(self, entry: Entry) -> tuple[set[int], set[int]]:
        """The users and the groups that an entry names.  Raises IntegrityError."""
        users, groups = {entry.uid}, {entry.gid}
        if entry.extras:
            more = named_numbers(entry_xattrs(entry, self._contents))
            users, groups = users | more[0], groups | more[1]
        return users, groups

    def without(self, point: Point, traces: Traces) -> Point:
        """*point* without what goes, but for its state.  Raises IntegrityError."""
        gone = list(self._survey.gone(point))
        users, groups = self._names(point, traces)
        return replace(
            point,
            users=users,
            groups=groups,
            devices=self._devices(point),
            statistics=_statistics(point.statistics, gone),
            comment="" if traces.speaks(point.comment) else point.comment,
        )

    def _devices(self, point: Point) -> tuple[bytes, ...]:
        """The numbers stay; those that begin in what goes are in use no more."""
        matcher = self._survey.matcher(point)
        return tuple(b"" if path and matcher.match_any(path) else path for path in point.devices)

    def _names(self, point: Point, traces: Traces) -> tuple[dict[int, str], dict[int, str]]:
        """Users and groups without those that only what goes had."""
        users = traces.users.intersection(point.users)
        groups = traces.groups.intersection(point.groups)
        users -= {point.root[UID], *(folder.uid for folder in point.parents or ())}
        groups -= {point.root[GID], *(folder.gid for folder in point.parents or ())}
        found = named_numbers(point.root_extras.get(XATTRS, {}))
        users, groups = users - found[0], groups - found[1]
        for entry in self._rows(point) if users or groups else ():
            mine = self._numbers(entry)
            users, groups = users - mine[0], groups - mine[1]
            if not users and not groups:
                break
        return (
            {number: name for number, name in point.users.items() if number not in users},
            {number: name for number, name in point.groups.items() if number not in groups},
        )

    def _rows(self, point: Point) -> Iterable[Entry]:
        for _, page, cut in self._survey.staying(point, set()):
            gone = {entry.name for entry in cut.gone}
            yield from (entry for entry in page.entries() if entry.name not in gone)


def _statistics(
    statistics: Mapping[str, int], gone: Iterable[tuple[bytes, Entry]]
) -> Mapping[str, int]:
    """The counts of what a point holds, without those of what goes."""
    counts = dict(statistics)
    for _, entry in gone:
        kind = "folders" if stat.S_ISDIR(entry.mode) else "files"
        counts[kind] = max(counts.get(kind, 0) - 1, 0)
        if stat.S_ISREG(entry.mode):
            counts["bytes"] = max(counts.get("bytes", 0) - entry.size, 0)
    return counts

"""The manifest of a run, and the one order in which a run becomes visible."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from ibtfs.actions.backup.plan import Plan
from ibtfs.actions.observer import Tally
from ibtfs.actions.owners import group_names, user_names
from ibtfs.format.point import Parent, Point
from ibtfs.store.lock import Lock
from ibtfs.store.storage.background import at_once
from ibtfs.store.trees.directory import Entry, StateRef
from ibtfs.store.writing.run import RunWriter


class Written(NamedTuple):
    """A source that was stored: its root's row and state, and what a manifest says beside them.

    *users* and *groups* are the numbers that are to be told by name, *parents* as of a Point.
    """

    root: Entry
    state: StateRef
    devices: tuple[bytes, ...]
    users: set[int]
    groups: set[int]
    is_single: bool = False
    parents: tuple[Parent, ...] | None = ()


def make_point(plan: Plan, written: Written, comment: str) -> Point:
    """The manifest of a run, without its statistics yet."""
    parent, root = plan.parent, written.root
    users, groups = {*written.users, root.uid}, {*written.groups, root.gid}
    return Point(
        id=plan.run_id,
        sequence=plan.sequence,
        epoch=plan.epoch,
        time_ns=plan.time_ns,
        utc_offset=time.localtime(plan.time_ns // 1_000_000_000).tm_gmtoff,
        source=plan.source,
        display=plan.display,
        root=root[:9],
        root_extras=root.extras,
        state=written.state.ref,
        digest=written.state.digest,
        devices=written.devices,
        users={**(parent.users if parent else {}), **user_names(users)},
        groups={**(parent.groups if parent else {}), **group_names(groups)},
        single=written.is_single,
        full=parent is None,
        parent=parent.id if parent else "",
        comment=comment,
        parents=written.parents,
    )


def commit(
    writer: RunWriter, lock: Lock, point: Point, tags: Iterable[str], tally: Tally, *, began: float
) -> Point:
    """Make *point* visible: the commit point of a backup; the point with its statistics.

    All that it leads to is durable before, and the lock was held all the time.  *began* is when the
    run did, by the monotonic clock.  Raises LockLost, ObjectMissing, StorageFull, StorageFailed.
    """
    repository = writer.repository
    writer.close_archive()
    for tag in dict.fromkeys(tags):
        repository.points.add_tag(point.id, tag)
    writer.settle()
    tally.counts["bytes_stored"] += writer.stored_bytes
    statistics = _statistics(tally, time.monotonic() - began)
    size = repository.points.manifest_size(replace(point, statistics=statistics))
    statistics["bytes_stored"] += size  # the manifest counts as stored
    point = replace(point, statistics=statistics)
    # it, and not another one in its place by now
    checks = (repository.require_there, lock.verify)
    if repository.is_far:
        at_once(*checks)
        lock.refresh()  # asks again if one of the answers took long
    else:
        for check in checks:
            check()
    point = repository.points.commit(point)
    tally.counts["bytes_stored"] += repository.points.manifest_size(point)
    return point


def _statistics(tally: Tally, seconds: float) -> dict[str, int]:
    counts = tally.counts + Counter(unchanged=tally.counts["moved"])  # a reader knows of no others
    keys = ("files", "folders", "bytes", "new", "changed", "unchanged", "gone", "problems")
    return {key: counts[key] for key in (*keys, "bytes_read", "bytes_stored")} | {
        "milliseconds": int(seconds * 1000)
    }

"""What a run will be: decided once, when it begins, from what the repository holds then."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ibtfs.errors import IntegrityError, StorageFailed
from ibtfs.format.point import Point, Source
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import StateRef
from ibtfs.store.writing.losses import Losses


@dataclass(frozen=True)
class Plan:
    """A run of *source* that is about to begin, and the *parent* that it is compared with.

    *run_id*, *sequence*, *epoch* and *display* are those of the new point.  *damaged* contents were
    noted by check, or have lost their files: they are stored anew.
    """

    run_id: str
    time_ns: int
    source: Source
    display: str
    parent: Point | None
    sequence: int
    epoch: int
    damaged: Losses

    @property
    def old_state(self) -> StateRef | None:
        """What the source was at the last backup."""
        return StateRef(self.parent.state, self.parent.digest) if self.parent else None


def make_plan(repository: Repository, source: Source, *, full: bool) -> Plan:
    """The plan of a run of *source* that begins now.

    *full* runs at the same time may get the same epoch: they then share contents with each other,
    but refer to nothing that was there before either of them, which is all that an epoch promises.
    Raises StorageFailed, IbtfsError.
    """
    points, damaged = repository.points.all(recent=True)  # read since the lock was taken
    for error in damaged.values():
        if isinstance(error, StorageFailed):
            raise error  # it may be the newest: what comes after it must be told from it
    mine = [point for point in points if point.source.identity == source.identity]
    last = mine[-1] if mine else None
    epoch = last.epoch if last else 0
    if full:
        epochs = [point.epoch for point in points] + list(_archive_epochs(repository))
        epoch = 1 + max(epochs, default=0)
    time_ns = time.time_ns()
    return Plan(
        run_id=new_id(repository, source.host, time_ns),
        time_ns=time_ns,
        source=source,
        display=last.display if last else _display(source, points),
        parent=None if full else last,
        sequence=1 + max((point.sequence for point in points), default=0),
        epoch=epoch,
        damaged=Losses(repository.damage.contents(recent=True)),
    )


def _archive_epochs(repository: Repository) -> Iterator[int]:
    for name in repository.archive_ids():
        try:
            yield repository.archive(name).header.epoch
        except IntegrityError:
            continue  # what is damaged is not referred to


def _display(source: Source, points: Iterable[Point]) -> str:
    """A name for a new source that no other source has."""
    taken = {point.display for point in points}
    base = source.name or os.fsdecode(os.path.basename(source.path)) or "root"
    base = re.sub(r"[/\0]", "_", base.encode("utf-8", "replace").decode())
    if base.startswith((".", "@")):
        base = "_" + base[1:]
    base = "".join(c if ord(c) >= 32 else "_" for c in base)[:60] or "source"
    candidates = [base, f"{base}@{source.host}", *(f"{base}-{n}" for n in range(2, 10_000))]
    return next(name for name in candidates if name not in taken)


def new_id(repository: Repository, host: str, time_ns: int) -> str:
    """A name for a run and its point: the second when it began, host and a random part.

    In a sealed repository, where the host is not to be seen, more of it is random.
    """
    second = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time_ns // 1_000_000_000))
    if repository.config.is_sealed:
        return f"{second}_{os.urandom(10).hex()}"
    clean = re.sub(r"[^0-9A-Za-z-]", "-", host)[:40] or "host"
    return f"{second}_{clean}_{os.urandom(5).hex()}"

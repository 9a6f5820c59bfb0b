"""What a run does last before its commit: what it refers to is made durable, and looked for."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Collection, Iterable, Mapping

from ibtfs.errors import ObjectMissing
from ibtfs.store import layout
from ibtfs.store.archives.generations import newest_of
from ibtfs.store.storage.background import at_once
from ibtfs.store.storage.bundled import BundledStorage

Missing = Callable[[str, Mapping[str, int], Collection[str] | None], list[str]]
"""The files that an archive lacks, by those that it has: of some kinds, or that contents need."""


def settle(
    storage: BundledStorage,
    adopted: Iterable[str],
    written: Mapping[str, Collection[str]],
    read: Mapping[str, int],
    missing_of: Missing,
) -> None:
    """As :meth:`ibtfs.store.repository.Repository.settle`."""
    others: dict[str, Collection[str] | None] = dict.fromkeys(sorted(adopted))
    folders = [layout.ARCHIVES, *map(layout.archive, others)] if others else []

    def sync(folder: str) -> None:
        with contextlib.suppress(ObjectMissing):  # what lies in a bundle was durable before
            storage.sync([folder])

    works = [functools.partial(sync, folder) for folder in folders]
    if storage.is_far:
        at_once(*works)
    else:
        for work in works:
            work()
    wanted = {**others, **written}
    for name, present in newest_of(storage, wanted):
        missing = missing_of(name, present, wanted[name])
        if missing:
            raise ObjectMissing(f"{missing[0]} is gone, it was removed meanwhile: back up again")
        number = present.get(layout.INDEX)
        if number != read.get(name, number):
            raise ObjectMissing(
                f"{layout.archive_object(name, layout.INDEX)} was replaced meanwhile, what "
                "was found in it may be gone: back up again"
            )

"""The small files of new folders, restored by threads.

Most of what a small file costs is the kernel's work (create, write, owner, mode, times), which
lets the interpreter go; two threads that do the same work overlap well.  One thread that reads
and one that writes do not: each waits for the interpreter at every call of the other.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import NamedTuple

from ibtfs.actions.restore.entry import WHOLE_PIECE, EntryWriter, failed, is_sparse
from ibtfs.errors import IntegrityError, RestoreFailed
from ibtfs.store.trees.directory import Entry

BATCH = 64
"""Files that a thread takes at a time."""
THREADS = 2

Failures = dict[bytes, RestoreFailed | IntegrityError]


class Batch(NamedTuple):
    """Files on their way to one folder, and what failed of them, by name."""

    entries: Sequence[Entry]
    failures: Future[Failures]


@dataclass
class Target:
    """A folder being restored; it is made when something is to be put in it.

    *fresh*: it was made by this restore, so nothing is in it that could be in the way.
    """

    entry: Entry
    path: bytes
    name: bytes
    parent: Target | None
    chosen: bool
    waiting: Iterator[Entry]
    descriptor: int = -1
    fresh: bool = False
    batches: list[Batch] = field(default_factory=list)

    def close(self) -> None:
        """Release the descriptor."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def is_quick(entry: Entry) -> bool:
    """Whether *entry* may be made in any order: a small file, not sparse, with one link."""
    small = stat.S_ISREG(entry.mode) and entry.size <= WHOLE_PIECE
    return small and entry.links == 1 and not is_sparse(entry)


def start(
    pool: Executor, writer: EntryWriter, entries: Sequence[Entry], parent: int
) -> Iterator[Batch]:
    """Have *entries* made in the new, open folder *parent*, which stays open until all are."""
    for first in range(0, len(entries), BATCH):
        part = entries[first : first + BATCH]
        yield Batch(part, pool.submit(_make, writer, part, parent))


def _make(writer: EntryWriter, entries: Sequence[Entry], parent: int) -> Failures:
    """Make *entries*; what failed.  Raises DestinationFull."""
    failures: Failures = {}
    for entry in entries:
        try:
            writer.file(entry, parent, entry.name)
        except (RestoreFailed, IntegrityError) as error:
            failures[entry.name] = error
        except OSError as error:
            failures[entry.name] = failed(error)
    return failures

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
from ibtfs.actions.restore.territory import NOT_OPEN, Held
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

    *held* is it once it is open.
    """

    entry: Entry
    path: bytes
    parent: Target | None
    chosen: bool
    waiting: Iterator[Entry]
    held: Held = NOT_OPEN
    batches: list[Batch] = field(default_factory=list)

    def below(self, name: bytes) -> bytes:
        """The path of what is called *name* in it."""
        return self.path + b"/" + name if self.path else name

    @property
    def descriptor(self) -> int:
        """The open folder; -1 as long as it is not."""
        return self.held.descriptor

    def close(self) -> None:
        """Release the descriptor."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.held = NOT_OPEN


def is_quick(entry: Entry) -> bool:
    """Whether *entry* may be made in any order: a small file, not sparse, with one link."""
    small = stat.S_ISREG(entry.mode) and entry.size <= WHOLE_PIECE
    return small and entry.links == 1 and not is_sparse(entry)


def start(
    pool: Executor, writer: EntryWriter, entries: Sequence[Entry], folder: Target
) -> Iterator[Batch]:
    """Have *entries* made in the new, open *folder*, which stays open until all are."""
    for first in range(0, len(entries), BATCH):
        part = entries[first : first + BATCH]
        yield Batch(part, pool.submit(_make, writer, part, folder))


def _make(writer: EntryWriter, entries: Sequence[Entry], folder: Target) -> Failures:
    """Make *entries*; what failed.  Raises DestinationFull."""
    failures: Failures = {}
    for entry in entries:
        try:
            writer.file(entry, folder.descriptor, entry.name, folder.below(entry.name))
        except (RestoreFailed, IntegrityError) as error:
            failures[entry.name] = error
        except OSError as error:
            failures[entry.name] = failed(error)
    return failures

"""What a run must not build upon: contents that were noted as damaged, and those whose files are
gone.

A row that is kept, and a folder that is kept whole, lead to contents at which the run never looks.
So the archives that the last point needs are looked at once, as names in folders: a file that is
missing costs all that lies in it, and every delta upon that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ibtfs.errors import IntegrityError
from ibtfs.format.index import ContentRecord, Reference
from ibtfs.store import layout
from ibtfs.store.repository import Repository
from ibtfs.store.writing.catalog import Catalog


@dataclass(frozen=True)
class Losses:
    """*contents* that cannot be read, all of *archives* among them; *told* is a line for each file
    that is missing."""

    contents: frozenset[Reference] = frozenset()
    archives: frozenset[str] = frozenset()
    told: tuple[str, ...] = ()

    def __contains__(self, ref: object) -> bool:
        return ref in self.contents or (isinstance(ref, Reference) and ref.archive in self.archives)

    def __bool__(self) -> bool:
        return bool(self.contents or self.archives)


def find_losses(
    repository: Repository, catalog: Catalog, first: str | None, noted: frozenset[Reference]
) -> Losses:
    """What is lost of what the archive *first* leads to, and the contents that were *noted*.

    Costs the header of each archive only where *catalog* does not know that all files are there.
    """
    if first is None or not catalog.may_lack():
        return Losses(noted)
    needed, gone, without_data = _looked_at(repository, first)
    if not gone and not without_data:
        return Losses(noted)
    lost = _unreadable(repository, needed, gone, without_data)
    told = [
        f"{layout.archive_object(name, kind)} is missing: what lay in it is stored anew, where it "
        "is still there; older backup points have lost it"
        for kind, names in ((layout.INDEX, gone), (layout.DATA, without_data))
        for name in sorted(names)
    ]
    return Losses(noted | lost, frozenset(gone), tuple(told))


def _looked_at(repository: Repository, first: str) -> tuple[list[str], set[str], set[str]]:
    """The archives that *first* leads to; those that are gone, and those whose data is.

    Those that another has written anew, in later generations, need what a machine that only writes
    cannot know: what its last point leads to was kept.
    """
    gone, without_data = set[str](), set[str]()
    seen, rewritten, waiting = {first}, set[str](), [first]
    while waiting:
        name = waiting.pop()
        if repository.own is not None and max(repository.files_of(name).values(), default=1) > 1:
            seen.discard(name)
            rewritten.add(name)
            continue
        try:
            header = repository.archive(name).header
            if header.has_data and layout.DATA not in repository.files_of(name):
                without_data.add(name)
        except IntegrityError:
            if layout.INDEX not in repository.files_of(name):
                gone.add(name)  # one that is damaged tells so itself, where it is read
            continue
        found = {other for other in header.archives if other} - seen - rewritten
        seen |= found
        waiting += found
    return sorted(seen - gone), gone, without_data


def _unreadable(
    repository: Repository, needed: list[str], gone: set[str], without_data: set[str]
) -> set[Reference]:
    """The contents of *needed* archives that are built upon what is lost."""
    lost: set[Reference] = set()
    deltas: dict[Reference, Reference] = {}
    for ref, record in _records(repository, needed):
        is_lost = ref.archive in without_data and record.length > 0
        if is_lost or any(d.archive in gone or d.archive in without_data for d in record.donors):
            lost.add(ref)
        elif record.base is not None:
            deltas[ref] = record.base
    while found := {r for r, base in deltas.items() if base in lost or base.archive in gone} - lost:
        lost |= found
    return lost


def _records(
    repository: Repository, archives: list[str]
) -> Iterator[tuple[Reference, ContentRecord]]:
    for name in archives:
        try:
            for number, record in repository.archive(name).contents():
                yield Reference(name, number), record
        except IntegrityError:
            continue  # damaged: its records tell so themselves

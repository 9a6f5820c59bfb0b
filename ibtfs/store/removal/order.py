"""In which order archives may lose something: who refers to another comes before it."""

from __future__ import annotations

from collections.abc import Iterable, MutableSequence

from ibtfs.errors import FormatDamaged, IntegrityError
from ibtfs.store.repository import Repository


def dependents_first(
    repository: Repository, archives: Iterable[str], damages: MutableSequence[str] | None = None
) -> list[str]:
    """*archives*, each before all that it refers to, by the tables of their headers.

    An archive refers only to such as were whole before it, so there are no circles.  A machine that
    only writes can make one of its own, which concerns nobody else: that is one of the *damages*.
    Raises FormatDamaged of any other.
    """
    present = set(archives)
    table = {name: _named(repository, name, present) for name in sorted(present)}
    found: list[str] = []
    done: dict[str, bool] = {}
    for first, named in table.items():
        if first in done:
            continue
        waiting = [(first, iter(named))]
        done[first] = False
        while waiting:
            name, others = waiting[-1]
            other = next(others, None)
            if other is None:
                waiting.pop()
                done[name] = True
                found.append(name)
            elif other not in done:
                done[other] = False
                waiting.append((other, iter(table[other])))
            elif not done[other]:
                told = f"The archives {name} and {other} refer to each other"
                if not (repository.archive(name).author and repository.archive(other).author):
                    raise FormatDamaged(told)
                if damages is not None:
                    damages.append(told)
    return found[::-1]


def _named(repository: Repository, archive_id: str, present: set[str]) -> list[str]:
    """The archives that the header of another names, and that are there."""
    try:
        names = repository.archive(archive_id).header.archives[1:]
    except IntegrityError:
        return []  # stays as it is, and so does what it may need
    return [name for name in names if name in present]

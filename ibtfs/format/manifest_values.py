"""What values of a manifest may be, one by one: of each whether it can be what it is called."""

from __future__ import annotations

from typing import Any

from ibtfs.format.index import is_archive_id


def is_state(ref: tuple[Any, ...]) -> bool:
    """Whether *ref* is where a directory state may lie."""
    return len(ref) == 2 and is_archive_id(ref[0]) and type(ref[1]) is int and ref[1] >= 0


def are_names(names: dict[Any, Any]) -> bool:
    """Whether *names* are those of users, or of groups, by their numbers."""
    return all(
        type(number) is int and type(name) is str and "\0" not in name
        for number, name in names.items()
    )


def are_counts(counts: dict[Any, Any]) -> bool:
    """Whether *counts* are those of a run."""
    return all(type(name) is str and type(number) is int for name, number in counts.items())


def are_parents(parents: Any, most: int) -> bool:
    """Whether *parents* are those of a source, or unknown; *most* is how many it may have."""
    if parents is None:
        return True
    return (
        type(parents) is tuple
        and len(parents) <= most
        and all(
            type(parent) is tuple
            and len(parent) >= 3
            and set(map(type, parent[:3])) == {int}
            and 0 <= parent[0] <= 0o777
            and min(parent[1:3]) >= 0
            and max(parent[1:3]) < 1 << 32
            for parent in parents
        )
    )

"""What lies in many folders, where each has to be asked for: all at the same time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ibtfs.store import layout
from ibtfs.store.storage.background import Background
from ibtfs.store.storage.far import BELOW, Names


def surveyed(
    folders: Sequence[str], names_of: Callable[[str], Names], background: Background
) -> dict[str, Names]:
    """What lies in *folders*, as FarPlace says; *names_of* asks for one, in *background*.

    Raises what that raises.
    """
    found: dict[str, Names] = {}

    def ask(wanted: Sequence[str]) -> None:
        futures = background.each(names_of, wanted)
        found.update(zip(wanted, [future.result() for future in futures]))

    tops = [folder.removesuffix(BELOW) for folder in folders if folder.endswith(BELOW)]
    plain = [folder for folder in folders if not folder.endswith(BELOW)]
    ask([f for f in dict.fromkeys([*plain, *tops]) if f != layout.BUNDLES])
    nested = [f"{top}/{name}" for top in tops for name, token in found[top].items() if not token]
    ask(nested)
    if layout.BUNDLES in plain:  # what was put together is there before it leaves its folder
        ask([layout.BUNDLES])
    return {name: names for name, names in found.items() if name in plain or name in set(nested)}

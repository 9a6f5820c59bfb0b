"""What bundles hold: which of the files in them count, and which are dead."""

from __future__ import annotations

from typing import NamedTuple

from ibtfs.store import layout
from ibtfs.store.archives.generations import all_generations
from ibtfs.store.storage.bundle import Bundle
from ibtfs.store.storage.bundled import BundledStorage


class Unit(NamedTuple):
    """Archives that lie together: in the *bundle*, or one in its folder; *size* in bytes."""

    archives: tuple[str, ...]
    size: int
    bundle: str = ""


class Held(NamedTuple):
    """A bundle: how many *archives* it was made of, and the *live* ones, of which files count.

    *size* and *dead* are bytes, of all its files and of those that do not count; *folders* is of
    how many of its archives there is a folder beside it.
    """

    name: str
    archives: int
    live: tuple[str, ...]
    size: int
    dead: int
    folders: int

    @property
    def unit(self) -> Unit:
        """What of it is to be kept."""
        return Unit(self.live, self.size - self.dead, self.name)


def held_in_bundles(storage: BundledStorage) -> list[Held]:
    """What each bundle that can be read holds, in order of name.

    A file counts if it is of the newest generation, and its archive was not removed.  Of files that
    lie in two bundles one counts, that in the bundle that was made last: whoever made it goes on to
    remove the other one, perhaps much later, so that nobody may take the new one for dead.
    """
    bundles = storage.bundles.all()
    folders = set(storage.list_folder(layout.ARCHIVES))
    ranks = {
        bundle.name: (storage.made(bundle.name), len(bundle.directory.archives), bundle.name)
        for bundle in bundles
    }
    newest = dict(all_generations(storage, storage.bundles.archives()))

    def counts(bundle: Bundle, archive_id: str, kind: int, generation: int) -> bool:
        if newest.get(archive_id, {}).get(layout.KINDS[kind]) != generation:
            return False
        return all(
            ranks.get(place.bundle.name, (0, 0, "")) <= ranks[bundle.name]
            for place in storage.bundles.places(archive_id)
            if (place.member.kind, place.member.generation) == (kind, generation)
        )

    def held(bundle: Bundle) -> Held:
        live, size, dead = [], 0, 0
        for ordinal, archive_id in enumerate(bundle.directory.archives):
            members = [member for member, _ in bundle.directory.members(ordinal)]
            kept = [m for m in members if counts(bundle, archive_id, m.kind, m.generation)]
            size += sum(member.size for member in members)
            dead += sum(member.size for member in members) - sum(member.size for member in kept)
            if kept:
                live.append(archive_id)
        beside = len(folders.intersection(bundle.directory.archives))
        return Held(bundle.name, len(bundle.directory.archives), tuple(live), size, dead, beside)

    return list(map(held, bundles))

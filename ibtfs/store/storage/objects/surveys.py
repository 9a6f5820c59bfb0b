"""What lies in many folders among objects: by one listing of all that is below, if there is one."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ibtfs.store import layout
from ibtfs.store.storage import surveying
from ibtfs.store.storage.background import Background
from ibtfs.store.storage.base import ObjectToken
from ibtfs.store.storage.far import BELOW
from ibtfs.store.storage.far import Names as Tokens
from ibtfs.store.storage.objects.asking import Asking
from ibtfs.store.storage.objects.client import Found
from ibtfs.store.storage.objects.listings import Listings, Names

IN_FLIGHT = 32


class Surveys:
    """Surveys of what *asking* asks for; what lies at the top is told to *listings*."""

    def __init__(self, asking: Asking, listings: Listings) -> None:
        self._asking, self._listings = asking, listings
        self._background = Background(IN_FLIGHT)
        self._can_ask_below = True

    def survey(self, folders: Sequence[str]) -> dict[str, Tokens]:
        """As FarPlace says."""
        wanted = set(folders)
        is_one = "" in wanted or len(wanted) == 1
        if is_one and self._can_ask_below and any(folder.endswith(BELOW) for folder in wanted):
            found = self._below("" if "" in wanted else folders[0].removesuffix(BELOW))
            if found is not None:
                return {
                    folder: _tokens(names)
                    for folder, names in found.items()
                    if folder in wanted or folder.rpartition("/")[0] + BELOW in wanted
                }
        return surveying.surveyed(folders, self._one, self._background)

    def _one(self, folder: str) -> Tokens:
        return _tokens(self._listings.fresh(folder))

    def _below(self, folder: str) -> dict[str, Names] | None:
        asked = time.monotonic()
        found = self._asking.again(lambda: self._asking.client.below(folder))
        if found is None:
            self._can_ask_below = False
            return None
        for top in layout.FOLDERS if not folder else ():
            self._listings.take(top, found.get(top, {}), asked)
        return dict(found)


def _tokens(names: Names) -> Tokens:
    return {name: None if found is None else token_of(found) for name, found in names.items()}


def token_of(found: Found) -> ObjectToken:
    """What tells an object from others: size, time, and what the server calls it."""
    tag = found.tag.encode("utf-8", "surrogateescape")
    first, second = (int.from_bytes(tag[at : at + 7], "big") for at in (0, 7))
    return found.size, found.changed_ns, first, second

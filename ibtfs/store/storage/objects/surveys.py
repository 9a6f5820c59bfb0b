"""What lies in many folders among objects: by one listing of all that is below, if there is one."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence

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
MANY = 16
"""Of so many folders in one all that lies there is asked for: an answer tells of 1,000 objects."""


class Surveys:
    """Surveys of what *asking* asks for; what lies at the top is told to *listings*."""

    def __init__(self, asking: Asking, listings: Listings) -> None:
        self._asking, self._listings = asking, listings
        self._background = Background(IN_FLIGHT)
        self._can_ask_below = True

    def survey(self, folders: Sequence[str]) -> dict[str, Tokens]:
        """As FarPlace says."""
        wanted = set(folders)
        found: dict[str, Names] = {}
        for below in self._background.each(self._below, _tops(folders)):
            if self._can_ask_below:
                found.update(below.result() or {})
        if not self._can_ask_below:
            return surveying.surveyed(folders, self._one, self._background)
        told = {
            folder: _tokens(names)
            for folder, names in found.items()
            if folder in wanted or folder.rpartition("/")[0] + BELOW in wanted
        }
        left = [f for f in folders if not f.endswith(BELOW) and not _is_told(f, found)]
        return {**told, **surveying.surveyed(left, self._one, self._background)}

    def _one(self, folder: str) -> Tokens:
        return _tokens(self._listings.fresh(folder))

    def _below(self, folder: str) -> dict[str, Names] | None:
        if not self._can_ask_below:
            return None
        asked = time.monotonic()
        found = self._asking.again(lambda: self._asking.client.below(folder))
        if found is None:
            self._can_ask_below = False
            return None
        for top in layout.FOLDERS if not folder else ():
            self._listings.take(top, found.get(top, {}), asked)
        return dict(found)


def _tops(folders: Sequence[str]) -> list[str]:
    """The folders of which all that is below is to be asked for."""
    tops = [folder.removesuffix(BELOW) for folder in folders if folder.endswith(BELOW)]
    if tops and "" in folders:
        return [""]
    above = Counter(folder.rpartition("/")[0] for folder in folders if "/" in folder)
    many = [top for top, count in above.items() if count >= MANY]
    return list(dict.fromkeys([*tops, *many]))


def _is_told(folder: str, found: Mapping[str, Names]) -> bool:
    """Whether *found* has *folder*, or one that it would be below."""
    return folder in found or "" in found or folder.rpartition("/")[0] in found


def _tokens(names: Names) -> Tokens:
    return {name: None if found is None else token_of(found) for name, found in names.items()}


def token_of(found: Found) -> ObjectToken:
    """What tells an object from others: size, time, and what the server calls it."""
    tag = found.tag.encode("utf-8", "surrogateescape")
    first, second = (int.from_bytes(tag[at : at + 7], "big") for at in (0, 7))
    return found.size, found.changed_ns, first, second

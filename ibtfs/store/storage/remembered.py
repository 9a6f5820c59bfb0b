"""What was listed far away, remembered: where to look, and what the names in a folder were.

What is remembered of archives only ever says where to look: generations never change, and who finds
that one has gone looks once more.  Listings that others are to be seen in are made anew.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import NamedTuple

from blake3 import blake3

from ibtfs.errors import IbtfsError
from ibtfs.store import layout
from ibtfs.store.storage.background import Background
from ibtfs.store.storage.base import ObjectToken, is_unfinished
from ibtfs.store.storage.far import BELOW, RECENT_SECONDS, FarPlace, Names

FEW = 256
_NONE: Names = {}


class _Listed(NamedTuple):
    """The names in a folder, when they were asked for, and when they were seen to have changed.

    *token* is a number that is another one for other names.
    """

    names: Names
    asked: float
    changed_ns: int
    token: int


class Remembered:
    """The names in *place*; threads may share it.  What can wait is done by *threads* beside."""

    def __init__(self, place: FarPlace, threads: int) -> None:
        self._place, self._background = place, Background(threads, self._begin_forked)
        self._lock = threading.Lock()
        self._archives: dict[str, Names] = {}
        self._tops: dict[str, _Listed] = {}
        self._looking: Future[None] | None = None
        self._complete, self._unsure = 0.0, set[str]()
        # when all archives were asked for; those of which is not known what lies in them by now
        self._asked: dict[str, float] = {}
        self._forgotten = 0.0  # when each archive was asked for, or forgotten; and all was

    def _begin_forked(self) -> None:
        """Begin anew in a process that was forked: what was under way is nobody's."""
        self._looking = None

    def survey(self, folders: Sequence[str]) -> dict[str, Names]:
        """What lies in *folders* now, as FarPlace says; it is remembered."""
        if not folders:
            return {}
        asked = time.monotonic()
        found = {**dict.fromkeys(folders, _NONE), **self._place.survey(folders)}
        with self._lock:
            if asked >= self._forgotten:
                self._take(found, asked, are_all=layout.ARCHIVES + BELOW in folders)
        return found

    def _take(self, found: dict[str, Names], asked: float, *, are_all: bool) -> None:
        """Remember what was *found*, where nothing is known that was asked for later."""
        if are_all and asked >= self._complete:
            later = {name for name, when in self._asked.items() if when > asked}
            self._archives = {n: names for n, names in self._archives.items() if n in later}
            self._asked = {name: self._asked[name] for name in later}
            self._unsure &= later
            self._complete = asked
        for folder, names in found.items():
            archive_id = layout.archive_in(folder)
            if not archive_id:
                self._remember(folder, names, asked)
            elif asked >= max(self._asked.get(archive_id, 0.0), self._complete):
                self._archives[archive_id], self._asked[archive_id] = names, asked
                self._unsure.discard(archive_id)

    def _remember(self, folder: str, names: Names, asked: float) -> None:
        before = self._tops.get(folder)
        if before is not None and before.asked > asked:
            return
        if before is not None and before.names.keys() == names.keys():
            self._tops[folder] = before._replace(names=names, asked=asked)
            return
        last = max((token[1] for token in names.values() if token is not None), default=0)
        changed_ns = last if before is None else time.time_ns()
        text = "\0".join(sorted(names)).encode("utf-8", "surrogateescape")
        token = int.from_bytes(blake3(text).digest(7), "big") + 1
        self._tops[folder] = _Listed(names, asked, changed_ns, token)

    def recent(self, folder: str, seconds: float) -> Names:
        """What lies in *folder*, at the top, as it was listed so long ago at most.

        What is older than RECENT_SECONDS is listed anew beside.
        """
        known, now = self._tops.get(folder), time.monotonic()
        if known is None or now - known.asked > seconds:
            return self.survey([folder])[folder]
        looking = self._looking
        if now - known.asked > RECENT_SECONDS and (looking is None or looking.done()):
            self._looking = self._background.submit(functools.partial(self._look, folder))
        return known.names

    def _look(self, folder: str) -> None:
        with contextlib.suppress(IbtfsError):  # whoever asks next is told
            self.survey([folder])

    def seen_token(self, folder: str, seconds: float) -> int:
        """A number that changes when names in *folder* do, as :meth:`recent` tells."""
        self.recent(folder, seconds)
        known = self._tops.get(folder)
        return known.token if known is not None else 0

    def seen_ns(self, folder: str, seconds: float) -> int:
        """When names in *folder* were seen to have changed, in ns since 1970."""
        self.recent(folder, seconds)
        known = self._tops.get(folder)
        return known.changed_ns if known is not None else 0

    def list(self, folder: str, *, unfinished: bool = False) -> list[str]:
        """The names in *folder* now, as Storage says."""
        names = self.survey([folder])[folder]
        return sorted(name for name in names if unfinished or not is_unfinished(name))

    def known(self, archive_id: str) -> Names | None:
        """What lay in the folder of an archive when it was looked at last; None if it was not."""
        is_told = bool(self._complete) and archive_id not in self._unsure
        return self._archives.get(archive_id, _NONE if is_told else None)

    def known_archives(self) -> set[str] | None:
        """The archives that have a folder, if all were listed some seconds ago at most."""
        with self._lock:
            if not self._complete or time.monotonic() - self._complete > RECENT_SECONDS:
                return None
            return {*self._archives, *self._unsure}

    @property
    def are_few(self) -> bool:
        """Whether all archives can be listed in place of some: there are few points."""
        points = self._tops.get(layout.POINTS)
        return points is not None and len(points.names) <= FEW

    def forget(self, archive_id: str) -> None:
        """Remember no more what lies in the folder of an archive."""
        with self._lock:
            self._archives.pop(archive_id, None)
            if archive_id:
                self._unsure.add(archive_id)
                self._asked[archive_id] = time.monotonic()

    def forget_all(self) -> None:
        """Remember nothing of what was listed."""
        with self._lock:
            self._archives, self._tops, self._complete = {}, {}, 0.0
            self._asked, self._unsure, self._forgotten = {}, set(), time.monotonic()

    def folder_token(self, folder: str, settles_ns: int) -> int:
        """As Volume says."""
        return self._place.folder_token(folder, settles_ns)

    def token(self, name: str) -> ObjectToken:
        """What tells an object from others, as it was when its folder was listed last."""
        return self.listed(name) or self._place.token(name)

    def is_listed(self, name: str) -> bool | None:
        """Whether *name*, in a folder at the top, was there when that was listed last; or None."""
        folder, _, base = name.rpartition("/")
        known = self._tops.get(folder)
        return base in known.names if known is not None else None

    def listed(self, name: str) -> ObjectToken | None:
        """As :meth:`token`; None if it was not listed."""
        folder, _, base = name.rpartition("/")
        archive_id = layout.archive_of(name)
        if archive_id:
            return (self.known(archive_id) or _NONE).get(base)
        known = self._tops.get(folder)
        return known.names.get(base) if known is not None else None

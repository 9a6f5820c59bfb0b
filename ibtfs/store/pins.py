"""What this user has seen of sealed repositories: a storage that shows less now is told.

A pin lies in the folder of the state of programs, one file for each repository, and one for each
place that a sealed repository lay at.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from blake3 import blake3

from ibtfs.errors import FormatDamaged, StorageFailed, WrongKey
from ibtfs.format.packing import pack, unpack_tuple
from ibtfs.store import layout
from ibtfs.store.cache_file import discard, is_there, read_body, real_path, store_body
from ibtfs.store.listed import NOTHING, Accepted, Lists
from ibtfs.store.point_lists import authentic, newest_list, verified
from ibtfs.store.repository import Repository
from ibtfs.store.storage.address import canonical, is_remote
from ibtfs.store.storage.machine import login_name

VERSION, EARLIER = 4, 3
LOOKS = 5
"""So often it is looked again if others write lists meanwhile."""


@dataclass(frozen=True)
class Pin:
    """What was seen: the number of the *keys*, that of the list, its *marks*, and ids of points.

    *missed* are those that are missing, and were accepted as that; so were the *refusals*, reasons
    why nothing may be written, and what else was *accepted*.  *slot* is the digest of what opened
    the keys.  *is_spoilt*: there was a pin, and it cannot be read any more.
    """

    keys: int = 0
    list_number: int = 0
    marks: frozenset[bytes] = frozenset()
    points: frozenset[str] = frozenset()
    missed: frozenset[str] = frozenset()
    refusals: frozenset[str] = frozenset()
    slot: bytes = b""
    accepted: Accepted = NOTHING
    is_spoilt: bool = False


class Pins:
    """The pins in *folder*, which exists; used by one thread."""

    def __init__(self, folder: bytes) -> None:
        self._folder = os.fsdecode(folder)

    def require_unsealed(self, root: bytes, repository: bytes = b"") -> None:
        """Raise WrongKey if a sealed repository lay at *root*, where one that is not lies now.

        Or if the *repository* that lies there was sealed before, wherever it lay.
        """
        if is_there(self._place(root)) or (repository and is_there(self._path(repository))):
            raise WrongKey(
                f"{os.fsdecode(root)!r} is not sealed, and a sealed repository lay there before: "
                "nothing was read or stored. If it was made anew by yourself: "
                "`ibtfs key accept REPO`"
            )

    def note_place(self, root: bytes) -> None:
        """Note that a sealed repository lies at *root*.  Raises StorageFailed."""
        if not is_there(self._place(root)):
            store_body(self._place(root), root)

    def drop_place(self, root: bytes) -> None:
        """Forget what lay at *root*."""
        discard(self._place(root))

    def _place(self, root: bytes) -> str:
        # it may be reached by links, and its address be spelt in more than one way
        root = canonical(root, login_name()) if is_remote(root) else real_path(root)
        return f"{self._folder}/{blake3(root).hexdigest(16)}.place"

    def read(self, repository: bytes) -> Pin:
        """The pin of a repository: an empty one if it was never seen, a spoilt one if torn."""
        path = self._path(repository)
        body = read_body(path)
        if body is None:
            return Pin(is_spoilt=is_there(path))
        try:
            values = unpack_tuple(body, path, 8)
            return _earlier_pin(*values) if values[0] == EARLIER else _pin(*values)
        except (FormatDamaged, ValueError, TypeError, AttributeError):
            return Pin(is_spoilt=True)

    def write(self, repository: bytes, pin: Pin) -> None:
        """Put *pin* in the place of the one that is there.  Raises StorageFailed."""
        values: tuple[Any, ...] = (
            VERSION, pin.keys, pin.list_number, tuple(sorted(pin.marks)), tuple(sorted(pin.points)),
            tuple(sorted(pin.missed)), tuple(sorted(pin.refusals)), pin.slot,
            tuple(sorted(pin.accepted.damaged)), tuple(sorted(pin.accepted.returned)),
            pin.accepted.generations,
        )  # fmt: skip
        store_body(self._path(repository), pack(values))

    def told(self, repository: bytes) -> str:
        """Where what was seen of a repository lies."""
        return self._path(repository)

    def _path(self, repository: bytes) -> str:
        return f"{self._folder}/{repository.hex()}.pin"


def _pin(
    version: int, keys: int, number: int, marks: Any, points: Any, missed: Any, refusals: Any,
    slot: bytes, damaged: Any, returned: Any, generations: Any, *_: Any,
) -> Pin:  # fmt: skip
    """The pin of these values.  Raises ValueError, TypeError, AttributeError."""
    if version != VERSION or {type(keys), type(number)} != {int}:
        raise ValueError
    accepted = Accepted(
        frozenset(damaged), frozenset(returned),
        {name: (int(there), int(listed)) for name, (there, listed) in generations.items()},
    )  # fmt: skip
    sets = (frozenset(points), frozenset(missed), frozenset(refusals))
    return Pin(keys, number, frozenset(marks), *sets, slot, accepted)


def _earlier_pin(
    _: int, keys: int, number: int, mark: bytes, points: Any, missed: Any, refusals: Any,
    slot: bytes, *__: Any,
) -> Pin:  # fmt: skip
    """One as an earlier version wrote it."""
    marks = (mark,) if mark else ()
    return _pin(VERSION, keys, number, marks, points, missed, refusals, slot, (), (), {})


class Watch:
    """Compares *repository*, whose keys have this *number*, with what was seen before."""

    def __init__(self, pins: Pins, repository: Repository, number: int) -> None:
        self._pins, self._repository, self._number = pins, repository, number
        self._pin = pins.read(repository.id)
        lists = repository.unlocked.lists
        self._lists = Lists(repository.storage, repository.keys) if lists is None else lists
        self._lists.accepted = self._pin.accepted
        self._look()
        for _ in range(LOOKS):
            before = self._listed.marks
            if not (self._missing() or self._returned()):
                break
            self._look()  # somebody may have removed points, or copied them here, in between
            if self._listed.marks == before:
                break

    def _look(self) -> None:
        self._listed = newest_list(self._repository)
        self._present = frozenset(self._repository.points.ids())

    def alarms(self) -> list[str]:
        """What is not as it was seen before, or as it must be; a line each."""
        found, pin = self._listed.found, self._pin
        told = [self.refusal] if self.refusal else []
        if pin.is_spoilt:
            told.append(
                f"{self._pins.told(self._repository.id)} cannot be read: what this machine has "
                "seen of the repository is not known any more"
            )
        if self._number < pin.keys:
            told.append(
                f"{layout.KEYS}/: state {self._number} of the keys, and this machine has seen "
                f"state {pin.keys}: older ones were put back"
            )
        for name, message in self._listed.damaged.items():
            if name not in pin.accepted.damaged:
                told.append(f"{message}: what was removed since may come back untold")
        if not self._is_followed(pin):
            told.append(
                f"{layout.LISTS}/: list {found.number} of the points does not follow list "
                f"{pin.list_number}, which this machine has seen: an older state was put back"
            )
        missing = self._missing()
        if missing:
            told.append(
                f"{layout.POINTS}/: {len(missing)} backup points are missing that nobody removed: "
                f"{', '.join(sorted(missing)[:3])}{' ...' * (len(missing) > 3)}"
            )
        back = sorted(self._returned() - pin.accepted.returned)
        if back:
            told.append(
                f"{layout.POINTS}/: {len(back)} backup points that were removed are there again: "
                f"{', '.join(back[:3])}{' ...' * (len(back) > 3)}"
            )
        return told

    @property
    def refusal(self) -> str:
        """Why nothing may be written by the keys, if that was not accepted."""
        refusal = self._repository.unlocked.refusal
        return "" if refusal in self._pin.refusals else refusal

    def _missing(self) -> set[str]:
        """Points that were seen, or listed, are not there, and were not removed by anybody."""
        absent = (self._pin.points | self._listed.found.points) - self._present - self._pin.missed
        awaited = self._listed.found.is_awaited
        absent = frozenset(one for one in absent if not self._is_gone(one) and not awaited(one))
        return set(absent.difference(self._repository.points.forgotten()) if absent else ())

    def _returned(self) -> set[str]:
        """Points that were removed, and are there; those of writing machines do not count."""
        author_of = self._repository.keys.author_of
        return {
            one for one in self._present - self._listed.found.points
            if self._is_gone(one) and author_of(layout.point(one)) is None
        }  # fmt: skip

    def _is_gone(self, point_id: str) -> bool:
        return self._listed.found.is_gone(point_id, self._lists.mark(point_id))

    def _is_followed(self, pin: Pin) -> bool:
        """Whether the newest list is the one that was seen, or follows it."""
        found, marks, _ = self._listed
        return found.number >= pin.list_number and pin.marks.issubset({*found.earlier, *marks})

    def remember(self) -> None:
        """Pin what is there now, and what this process has added since.

        Others may have pinned more meanwhile: that stays.  Raises StorageFailed.
        """
        now = self._pins.read(self._repository.id)
        if now.is_spoilt:
            raise StorageFailed(f"{self._pins.told(self._repository.id)}: cannot be read")
        self._listed = self._lists.newest  # this process may have written it
        number, marks = self._listed.found.number, frozenset(self._listed.marks)
        if not self._is_followed(now):
            number, marks = now.list_number, now.marks
        known = self._present & self._pin.points
        new = verified(self._repository.points, self._present - known)
        points = known | new | frozenset(self._repository.points.committed)
        if now != self._pin:
            points |= now.points
        points -= frozenset(self._repository.points.removed)
        self._pins.note_place(self._repository.path)
        self._lists.accepted = self._accepted_still(now.accepted)
        pin = Pin(
            max(self._number, now.keys), number, marks, points, now.missed - self._present,
            now.refusals, self._repository.unlocked.slot, self._lists.accepted,
        )  # fmt: skip
        if pin != now:
            self._pins.write(self._repository.id, pin)
        self._pin = pin

    def _accepted_still(self, accepted: Accepted) -> Accepted:
        """What was accepted and is not as the list has it: of the rest it is as of anything."""
        returned = accepted.returned & self._returned() - {*self._repository.points.removed}
        listed = self._listed.found.generations
        generations = {
            name: both for name, both in accepted.generations.items() if listed.get(name) == both[1]
        }
        return accepted._replace(returned=frozenset(returned), generations=generations)

    def accept(self) -> None:
        """Take all as it is now, with what is missing, what has come back, and broken keys.

        Raises StorageFailed.
        """
        refusal = self._repository.unlocked.refusal
        refusals = self._pin.refusals | ({refusal} if refusal else frozenset())
        accepted = Accepted(
            frozenset(self._listed.damaged), frozenset(self._returned()), self._earlier_files()
        )
        pin = Pin(
            self._number, self._listed.found.number, frozenset(self._listed.marks), self._present,
            self._pin.missed | self._missing(), refusals, self._repository.unlocked.slot, accepted,
        )  # fmt: skip
        self._pins.note_place(self._repository.path)
        self._pins.write(self._repository.id, pin)
        self._pin = pin
        self._lists.accepted = accepted

    def _earlier_files(self) -> dict[str, tuple[int, int]]:
        """The files of archives that are of an earlier generation than is listed, and these."""
        files, found = self._repository.archive_files(), dict[str, tuple[int, int]]()
        for name, listed in self._listed.found.generations.items():
            kind = name.rpartition("/")[2]
            archive_id = layout.archive_of(name)
            number = files.get(archive_id, {}).get(kind, listed)
            if number != listed:
                there = authentic(self._repository, archive_id, kind)
                if there < listed:
                    found[name] = there, listed
        return found

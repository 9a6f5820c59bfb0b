"""What a look at a repository found damaged, before it is told: what others removed is not."""

from __future__ import annotations

from typing import NamedTuple

from ibtfs.actions.damages import Damages, record_name
from ibtfs.actions.observer import Observer
from ibtfs.errors import ObjectMissing
from ibtfs.format.index import Reference
from ibtfs.store import layout
from ibtfs.store.points import PointList
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import StateRef


class Frame(NamedTuple):
    """A part of an archive: a frame of a file; with stream -1 the whole file of this *kind*.

    Without a kind, what its header says.
    """

    archive: str
    kind: str = ""
    stream: int = -1
    start: int = 0


class Suspect(NamedTuple):
    """Something that seems damaged: the object's *name*, why, and where it was met first.

    It is a *content*, the *state* of a folder, a *frame* of an archive, or else something about the
    *point*.
    """

    name: str
    message: str
    point: str = ""
    path: bytes = b""
    content: Reference | None = None
    state: StateRef | None = None
    frame: Frame | None = None

    @property
    def is_of_point(self) -> bool:
        """Whether it is said of the manifest of a point, or of where that leads to."""
        return bool(self.point) and self.name == layout.point(self.point)


class Suspects:
    """What one look found, in order; a content once, and each failure of a state."""

    def __init__(self) -> None:
        self.found: list[Suspect] = []
        self._told: set[tuple[Reference, str]] = set()
        self.contents: set[Reference] = set()
        self.states: set[Reference] = set()

    def add(self, name: str, message: str, *, point: str = "", path: bytes = b"") -> None:
        """Take note of something about a point."""
        self.found.append(Suspect(name, message, point, path))

    def add_frame(self, name: str, message: str, frame: Frame) -> None:
        """Take note of a part of an archive."""
        self.found.append(Suspect(name, message, frame=frame))

    def add_content(self, ref: Reference, message: str, point: str, path: bytes) -> None:
        """Take note of a content that cannot be given back as it was."""
        if ref not in self.contents:
            self.contents.add(ref)
            self.found.append(Suspect(record_name(ref), message, point, path, content=ref))

    def add_state(self, state: StateRef, message: str, point: str, path: bytes) -> None:
        """Take note of a directory that is not as it was written."""
        if (state.ref, message) not in self._told:
            self._told.add((state.ref, message))
            self.states.add(state.ref)
            self.found.append(Suspect(record_name(state.ref), message, point, path, state=state))


def points_now(repository: Repository) -> PointList:
    """The points that are there; none if all are lost with their folder."""
    try:
        return repository.points.all()
    except ObjectMissing:
        return PointList([], {})


def damages_of(repository: Repository, suspects: Suspects, observer: Observer) -> Damages:
    """The damages among *suspects*, each with all points and paths that it hits.

    What no point has that is there now is none: it was removed while it was looked at.
    """
    points, damages = points_now(repository), Damages(observer)
    there = {point.id for point in points.points}.union(points.damaged)
    for one in suspects.found:
        if one.content is not None:
            damages.contents[one.content] = one.message
        elif one.state is not None:
            damages.states[one.state.ref] = one.message
    for one in suspects.found:
        if one.point and one.point not in there:
            continue
        if one.content is not None:
            damages.add_content(one.content, one.message, one.point, one.path)
        elif one.state is not None:
            damages.add_state(one.state.ref, one.message, one.point, one.path)
            damages.indexes.add(one.state.ref.archive)
        else:
            if one.frame is not None and one.frame.kind in {"", layout.INDEX}:
                damages.indexes.add(one.frame.archive)
            damages.add(one.name, one.message, point=one.point, path=one.path)
    damages.name_paths(repository, points.points)
    damages.drop_unused()
    return damages

"""What a prune is to do: which archives go, which are written anew, and what that frees."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from ibtfs.errors import IbtfsError, IntegrityError, RepositoryError
from ibtfs.format.index import Reference
from ibtfs.format.point import Point
from ibtfs.store import layout
from ibtfs.store.contents.whole import is_whole
from ibtfs.store.copied_points import CopiedPoints
from ibtfs.store.lock import Lock
from ibtfs.store.removal.known_marks import mark_on
from ibtfs.store.removal.marking import NEVER, Marking, mark_points
from ibtfs.store.removal.order import dependents_first
from ibtfs.store.removal.plan import ArchivePlan, Plan, make_plan
from ibtfs.store.removal.sizes import ArchiveSizes, archive_sizes
from ibtfs.store.repository import Repository

YOUNG_SECONDS = 48 * 3600
"""Archives of runs that left no point stay so long: the next run goes on with them."""
Seen = tuple[tuple[str, ...], dict[str, int]]


@dataclass
class Decision:
    """What is to be done, to archives in *order*: each is before all that it refers to.

    *sizes* has what each archive has and would lose; *removed* archives go, and *rewritten* ones
    get another index; *young* ones stay for the run that they belong to.  *frozen* ones are not to
    be written anew, *unfit* ones cannot be, for they are damaged.  *seen* is what was there.
    """

    plan: Plan
    sizes: dict[str, ArchiveSizes]
    order: list[str]
    removed: frozenset[str]
    rewritten: frozenset[str]
    young: frozenset[str]
    seen: Seen
    frozen: frozenset[str]
    unfit: frozenset[str]

    @property
    def freed(self) -> int:
        """Bytes that will be free afterwards."""
        return sum(self.sizes[name].freed for name in self.removed | self.rewritten)

    @property
    def written(self) -> int:
        """Bytes that have to be written for it."""
        return sum(
            one.size - one.freed
            for name in self.rewritten
            for one in self.sizes[name].files.values()
            if one.freed
        )

    @property
    def room(self) -> int:
        """Bytes of free room that are needed meanwhile: all indexes, and the largest other file."""
        indexes = largest = 0
        for name in self.rewritten:
            for kind, one in self.sizes[name].files.items():
                if kind == layout.INDEX:
                    indexes += one.size
                elif one.freed:
                    largest = max(largest, one.size - one.freed)
        return indexes + largest

    @property
    def rebuilt(self) -> int:
        """How many contents get another base."""
        return sum(len(self.plan.archives[name].rebuilt) for name in self.rewritten)


def seen_now(repository: Repository) -> Seen:
    """What a decision hangs on: the points that there are, and the generations of indexes."""
    return tuple(repository.points.ids()), repository.index_generations()


def decide(
    repository: Repository,
    *,
    without: Collection[str] = (),
    lock: Lock | None = None,
    max_rewrite: int | None = None,
    all_of_it: bool = False,
    change_plan: Callable[[Plan], object] | None = None,
    cache: bytes = b"",
    allow_none: bool = False,
) -> Decision:
    """What pruning would do if the points *without* were gone too.

    *lock* tells the age of archives; without it, all of runs that left no point count as young.  At
    most *max_rewrite* bytes
    are written, for what frees most by them.  *all_of_it*: whatever frees anything is written anew.
    *change_plan* may change what is to become of records, and then no base of them is kept for want
    of room in a map, and no archive for being young.  *cache* is the folder of the local cache,
    which knows what earlier points lead to.  *allow_none*: there may be no point at all.
    Raises RepositoryError where it cannot be told what is needed, IntegrityError.
    """
    seen = seen_now(repository)
    points, refused = _points(repository, without, allow_none=allow_none or bool(without))
    roots = [point.state for point in points]
    # what it is without some would not hold as long as they are there
    marking = _kept(repository, mark_on(repository, roots, b"" if without else cache), refused)
    young: frozenset[str] = frozenset()
    if change_plan is None:
        young = _young(repository, marking, points, lock, without)
    copies = list(_good_copies(repository, marking))
    work = _Work(repository, seen, young, copies, all_of_it=all_of_it, change_plan=change_plan)
    decision = work.decided(marking, frozenset())
    frozen = _beyond(decision, max_rewrite) | decision.unfit
    while not frozen <= decision.frozen:
        # what these are built on stays then, which only shows when all is planned anew
        frozen |= decision.frozen
        told = decision.plan.damages
        marking = _kept(repository, mark_points(repository, roots), refused)
        decision = work.decided(marking, frozen)
        decision.plan.damages[:0] = told
        # what would have gone as a whole may be one of those that are written anew now
        frozen |= decision.unfit | _beyond(decision, max_rewrite)
    return decision


class _Work:
    """What is the same in each round of a decision."""

    def __init__(
        self,
        repository: Repository,
        seen: Seen,
        young: frozenset[str],
        copies: list[Reference],
        *,
        all_of_it: bool,
        change_plan: Callable[[Plan], object] | None,
    ) -> None:
        self._repository, self._seen, self._young = repository, seen, young
        self._copies, self._all, self._change = copies, all_of_it, change_plan

    def decided(self, marking: Marking, frozen: frozenset[str]) -> Decision:
        """The decision, if *frozen* archives are not to be written anew."""
        all_go = self._change is not None
        plan = make_plan(
            self._repository, marking, frozen=frozen, extra=self._copies, all_go=all_go
        )
        if self._change is not None:
            self._change(plan)
        for name in self._young:
            plan.archives[name].is_fixed = True
        if marking.untold:
            name, error = next(iter(marking.untold.items()))
            raise RepositoryError(
                f"Nothing can be removed that the archive {name} may need, for what it says of "
                f"itself cannot be read: give its index back from a copy of the repository (ibtfs "
                f"check --repair, ibtfs repair --from), or forget what needs it: {error}"
            )
        sizes: dict[str, ArchiveSizes] = {}
        rewritten, unfit = [], set()
        for name, archive in plan.archives.items():
            found = self._sizes(archive, plan)
            if found is None:
                unfit.add(name)
                continue
            sizes[name] = found
            if name not in frozen and not archive.is_dead and self._is_worth_it(found):
                if self._is_sound(archive, plan):
                    rewritten.append(name)
                else:
                    unfit.add(name)
        removed = frozenset(name for name in sizes if plan.archives[name].is_dead)
        order = dependents_first(self._repository, plan.archives, plan.damages)
        return Decision(
            plan, sizes, order, removed, frozenset(rewritten), self._young, self._seen, frozen,
            frozenset(unfit),
        )  # fmt: skip

    def _sizes(self, archive: ArchivePlan, plan: Plan) -> ArchiveSizes | None:
        """What an archive has and would lose; None of one that cannot be read, and so stays."""
        try:
            return archive_sizes(self._repository, archive, all_of_it=self._all)
        except IntegrityError as error:
            plan.damages.append(str(error))
            archive.is_fixed = True
            return None

    def _is_sound(self, archive: ArchivePlan, plan: Plan) -> bool:
        """Whether an index can be written anew: beside a damaged one may lie what heals it."""
        try:
            self._repository.archive(archive.id).file(layout.INDEX).verify()
        except IntegrityError as error:
            plan.damages.append(str(error))
            return False
        return True

    def _is_worth_it(self, found: ArchiveSizes) -> bool:
        worth = (one.is_worth_it(all_of_it=self._all) for one in found.files.values())
        return found.changes or any(worth)


def _kept(repository: Repository, marking: Marking, refused: Mapping[str, IbtfsError]) -> Marking:
    """*marking*, in which all stays that *refused* points may need."""
    for point_id, error in refused.items():
        author = repository.keys.author_of(layout.point(point_id))
        if author is not None:
            marking.keep_machine(author.tag, error)
    return marking


def _points(
    repository: Repository, without: Collection[str], *, allow_none: bool
) -> tuple[list[Point], dict[str, IbtfsError]]:
    """The points that stay, and those of machines that only write that cannot be read.

    Raises RepositoryError where others may be missing.
    """
    unreadable = repository.unreadable_bundles()
    if unreadable:
        raise RepositoryError(
            f"{min(unreadable.values())}; so nothing can be removed that archives in it may need: "
            "give it back from a copy of the repository, or, if there is none, delete it and "
            "forget the points that ibtfs check names"
        )
    listed = repository.points.all()
    damaged = [point_id for point_id in listed.damaged if point_id not in without]
    # those that were copied here may need anything
    keys, copied = repository.keys, CopiedPoints(repository).from_others()
    refused = {
        name: listed.damaged[name]
        for name in damaged
        if keys.author_of(layout.point(name)) and name not in copied
    }
    damaged = [name for name in damaged if name not in refused]
    if damaged:
        raise RepositoryError(
            f"The manifest of {damaged[0]} cannot be read, so nothing can be removed that it may "
            "need: give it back from a copy of the repository, or forget it by this id"
        )
    points = [point for point in listed.points if point.id not in without]
    if not points:
        known = {*repository.points.forgotten(), *without}
        lost = [name for name in repository.archive_ids() if run_of(name) not in known]
        if lost:
            raise RepositoryError(
                f"There is no backup point, but there are archives of some, such as {lost[0]}: "
                "were all manifests lost? Nothing is removed"
            )
        if not allow_none and repository.archive_ids():
            # a run of an unchanged source leaves nothing but its manifest, which may be lost, too
            raise RepositoryError(
                "There is no backup point, so that everything would be removed: --allow-none says "
                "that this is meant"
            )
    return points, refused


def run_of(archive_id: str) -> str:
    """The id of the run that made an archive, and of its point."""
    return archive_id.rpartition(".")[0]


def _young(
    repository: Repository,
    marking: Marking,
    points: Iterable[Point],
    lock: Lock | None,
    without: Collection[str],
) -> frozenset[str]:
    """The archives of runs that left no point, and may be gone on with."""
    runs = {point.id for point in points} | {*repository.points.forgotten(), *without}
    if lock is not None:
        lock.verify()  # ages are told by its time
    return frozenset(
        name
        for name in repository.archive_ids()
        if run_of(name) not in runs
        and _is_unused(marking, name)
        and (lock is None or repository.age(name, lock) < YOUNG_SECONDS)
    )


def _is_unused(marking: Marking, archive_id: str) -> bool:
    marks = marking.archives.get(archive_id)
    return marks is None or not marks.is_used


def _good_copies(repository: Repository, marking: Marking) -> Iterator[Reference]:
    """For each content that is needed and noted as damaged, another with the same bytes."""
    for ref in sorted(repository.damage.contents()):
        marks = marking.archives.get(ref.archive)
        if marks is None or not 0 <= ref.number < len(marks.contents):
            continue
        if marks.contents[ref.number] != NEVER:
            yield from _copies(repository, ref)


def _copies(repository: Repository, ref: Reference) -> Iterator[Reference]:
    noted = repository.damage.contents()
    try:
        wanted = repository.archive(ref.archive).content(ref.number)
        author = repository.archive(ref.archive).author
    except IntegrityError:
        return
    for name in reversed(repository.archive_ids()):
        archive = repository.archive(name)
        try:
            if archive.author != author:
                continue  # what a machine says of its contents need not be so
            for number in archive.may_hold(wanted.digest):
                other, record = Reference(name, number), archive.content(number)
                same = (record.digest, record.size) == (wanted.digest, wanted.size)
                if same and other not in noted and is_whole(repository, other, record):
                    yield other
                    return
        except IntegrityError:
            continue


def _beyond(decision: Decision, max_rewrite: int | None) -> frozenset[str]:
    """The archives for which what may be written is not enough: those that free least by it."""
    if max_rewrite is None:
        return frozenset()
    left = max_rewrite

    def cost(name: str) -> int:
        return decision.sizes[name].size - decision.sizes[name].freed

    def gain(name: str) -> float:
        return decision.sizes[name].freed / max(cost(name), 1)

    beyond = []
    for name in sorted(decision.rewritten, key=gain, reverse=True):
        if cost(name) <= left:
            left -= cost(name)
        else:
            beyond.append(name)
    return frozenset(beyond)

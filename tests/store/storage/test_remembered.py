"""What was listed, and fetched, far away: late answers, looks beside, what is there no more."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest

from ibtfs.errors import ObjectMissing
from ibtfs.store import layout
from ibtfs.store.index_cache import IndexCache
from ibtfs.store.lock import PRUNE
from ibtfs.store.repository import Repository
from ibtfs.store.storage import remembered
from ibtfs.store.storage.base import ObjectToken
from ibtfs.store.storage.bundled import BundledStorage
from ibtfs.store.storage.far import Names
from ibtfs.store.storage.local import LocalStorage
from ibtfs.store.storage.prefetching import KEPT_BYTES, Prefetching
from tests.support.bundles import bundles, make_versions, put_together
from tests.support.far import FarObject, FarStorage
from tests.support.repositories import create

ARCHIVES = [f"20260101T0000{number:02}Z_host_0123456789.0" for number in range(16)]
FOLDERS = [layout.archive(name) for name in ARCHIVES]


class Slow(FarStorage):
    """A storage far away; a survey by the thread ``slow`` is answered when *gate* is open."""

    def __init__(self, place: LocalStorage) -> None:
        super().__init__(place)
        self.gate, self.asked = threading.Event(), threading.Event()

    def survey(self, folders: Sequence[str]) -> dict[str, Names]:
        found = super().survey(folders)
        if threading.current_thread().name == "slow":
            self.asked.set()
            self.gate.wait()
        return found


@pytest.fixture
def place(fast_path: Path) -> Slow:
    local = LocalStorage(os.fsencode(fast_path / "place"))
    local.create()
    local.make_folders()
    local.put_new(f"{FOLDERS[0]}/index.1", b"index")
    local.put_new("points/old", b"")
    return Slow(local)


@pytest.fixture
def far(place: Slow) -> Prefetching:
    return Prefetching(place)


def answered_late(
    place: Slow, far: Prefetching, folders: list[str], work: Callable[[], object]
) -> None:
    """Survey *folders*; the answer comes when *work* is done, and tells what was before."""
    thread = threading.Thread(target=far.survey, args=(folders,), name="slow")
    thread.start()
    place.asked.wait()
    work()
    place.gate.set()
    thread.join()


@pytest.mark.parametrize("late", [[FOLDERS[0]], ["archives/*"]])
@pytest.mark.parametrize("early", [[FOLDERS[0]], ["archives/*"]])
def test_a_late_answer_replaces_no_newer_one(
    place: Slow, far: Prefetching, late: list[str], early: list[str]
) -> None:
    def work() -> None:
        place.put_new(f"{FOLDERS[0]}/removed", b"")
        far.survey(early)

    answered_late(place, far, late, work)
    assert set(far.known(ARCHIVES[0]) or ()) == {"index.1", "removed"}


def test_a_late_answer_says_nothing_of_what_was_changed_here(place: Slow, far: Prefetching) -> None:
    def work() -> None:
        place.put_new(f"{FOLDERS[0]}/index.2", b"")
        far.forget(ARCHIVES[0])

    answered_late(place, far, ["archives/*"], work)
    assert far.known(ARCHIVES[0]) is None
    assert far.known(ARCHIVES[1]) == {}


def test_what_was_asked_before_all_was_forgotten_is_not_remembered(
    place: Slow, far: Prefetching
) -> None:
    def work() -> None:
        far.forget_all()
        place.put_new("points/new", b"")

    answered_late(place, far, ["points", *FOLDERS[:1]], work)
    assert set(far.recent("points", 60.0)) == {"old", "new"}
    assert far.known(ARCHIVES[0]) is None


def test_it_goes_on_to_look_beside(far: Prefetching, monkeypatch: pytest.MonkeyPatch) -> None:
    """However fast a look ends."""
    monkeypatch.setattr(remembered, "RECENT_SECONDS", -1.0)
    looks = []

    def submit(work: Callable[[], None]) -> Future[None]:
        looks.append(work())
        future: Future[None] = Future()
        future.set_result(None)
        return future

    monkeypatch.setattr(far._background, "submit", submit)
    for _ in range(4):
        far.recent("points", 60.0)
    assert len(looks) == 3  # the first is waited for


def test_what_was_fetched_and_not_opened_does_not_stay(place: Slow, far: Prefetching) -> None:
    far.fetch(["points/old"])
    place.delete("points/old")
    far.fetch(())
    with pytest.raises(ObjectMissing):
        far.open("points/old")


def test_points_keep_nothing_that_was_fetched(
    fast_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = create(fast_path / "made")
    make_versions(made, fast_path / "source", 2)
    fetched: list[list[str]] = []
    real = BundledStorage.fetch

    def fetch(self: BundledStorage, names: Iterable[str]) -> None:
        fetched.append(list(names))
        real(self, fetched[-1])

    monkeypatch.setattr(BundledStorage, "fetch", fetch)
    opened = Repository.open(FarStorage(LocalStorage(made.path)))
    assert len(opened.points.all().points) == 2
    assert list(map(len, fetched)) == [2, 0]


class Sized(FarStorage):
    """A storage far away of indexes of 4 MiB, each of which is counted when it comes."""

    SIZE = 4 << 20

    def __init__(self, place: LocalStorage) -> None:
        super().__init__(place)
        self.came: Counter[str] = Counter()

    def open_end(self, name: str, most: int, size: int = -1) -> tuple[FarObject, bytes]:
        self.came[name] += 1
        return super().open_end(name, most, size)


def test_no_more_is_expected_than_is_kept(fast_path: Path) -> None:
    """Without a cache: else it would come twice."""
    local = LocalStorage(os.fsencode(fast_path / "place"))
    local.create()
    for folder in FOLDERS:
        local.put_new(f"{folder}/index.1", bytes(Sized.SIZE))
    place = Sized(local)
    far = Prefetching(place)
    far.survey(FOLDERS)
    for _ in range(2):
        far.expect(filter(None, (far.wanted(f"{folder}/index.1") for folder in FOLDERS)))
        far.rest()
    assert sum(place.came.values()) == KEPT_BYTES // Sized.SIZE
    for folder in FOLDERS:
        assert len(far.open(f"{folder}/index.1").read(0, 100)) == 100
    assert set(place.came.values()) == {1}


class Waits(IndexCache):
    """A cache of which nobody who asks hears before what is under way has come."""

    def __init__(self, folder: bytes, far: Prefetching, gate: threading.Event) -> None:
        super().__init__(folder, bytes(16))
        self._far, self._gate = far, gate

    def has(self, name: str, token: ObjectToken, seconds: float = 0.0) -> bool:
        if self._gate.is_set():
            return super().has(name, token, seconds)
        self._gate.set()
        self._far.rest()
        return False


def test_what_comes_while_it_is_looked_for_comes_once(fast_path: Path) -> None:
    local = LocalStorage(os.fsencode(fast_path / "place"))
    local.create()
    local.put_new(f"{FOLDERS[0]}/index.1", b"index")
    gate, began, came = threading.Event(), threading.Event(), Counter[str]()

    class Gated(FarStorage):
        def open_end(self, name: str, most: int, size: int = -1) -> tuple[FarObject, bytes]:
            came[name] += 1
            began.set()
            gate.wait()
            return super().open_end(name, most, size)

    far = Prefetching(Gated(local))
    far.survey(FOLDERS[:1])
    wanted = [one for one in [far.wanted(f"{FOLDERS[0]}/index.1")] if one is not None]
    far.expect(wanted)
    began.wait()
    (fast_path / "cache").mkdir()
    far.cache = Waits(os.fsencode(fast_path / "cache"), far, gate)
    far.expect(wanted)
    gate.set()
    far.rest()
    assert list(came.values()) == [1]


class Missing(FarStorage):
    """A storage far away of which the next listing of bundles misses what is there."""

    misses = False

    def shared_as(self, shared: bool) -> Missing:
        return self

    def survey(self, folders: Sequence[str]) -> dict[str, Names]:
        found = super().survey(folders)
        if self.misses and layout.BUNDLES in folders:
            self.misses = False
            found[layout.BUNDLES] = {}
        return found


def test_a_listing_that_misses_a_bundle_is_made_again(fast_path: Path) -> None:
    made = create(fast_path / "made")
    points = make_versions(made, fast_path / "source", 4)
    put_together(made)
    assert bundles(made)
    place = Missing(LocalStorage(made.path))
    opened = Repository.open(place)
    assert len(opened.archive_ids()) == len(points)
    with opened.lock(PRUNE):
        place.misses = True
        assert len(opened.archive_ids()) == len(points)
        assert not place.misses

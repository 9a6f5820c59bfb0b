"""Protection of a whole repository: which sidecars there are to be, and which there are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from ibtfs.errors import IntegrityError, ObjectExists, ObjectMissing
from ibtfs.format.config import CONFIG_LIMIT, decode_config
from ibtfs.format.erasure import require_codes
from ibtfs.format.point import decode_point
from ibtfs.store import layout
from ibtfs.store.archives.file import FrameFileReader
from ibtfs.store.archives.newest import counting
from ibtfs.store.points import MANIFEST_LIMIT
from ibtfs.store.protection.sidecar import is_missing, no_beat, opened, write_sidecar
from ibtfs.store.repository import Repository
from ibtfs.store.storage.base import whole

ATTEMPTS = 5
"""Of those who write the sidecar of the manifests at once, each but one has to do it again."""


@dataclass
class Kept:
    """What was protected: how many *files*, how many bytes were *written*; *failed* says why not.

    What is damaged is not protected as it is.
    """

    files: int = 0
    written: int = 0
    failed: list[str] = field(default_factory=list)


class Protection:
    """The parity of a repository; used by one thread.  *beat* is called often."""

    def __init__(self, repository: Repository, beat: Callable[[], None] = no_beat) -> None:
        self._repository, self._beat = repository, beat
        self._storage = repository.storage
        self.kept = Kept()

    @property
    def share(self) -> int:
        """By how many percent all that is written is to be protected; 0: not at all."""
        marks = map(layout.parse_protection_mark, self._storage.list(layout.PROTECTION))
        return max(marks, default=0)

    def set_share(self, share: int) -> None:
        """Say so; it counts for all runs that end from now on.

        Raises LibraryMissing, LockLost, StorageFull, StorageFailed.
        """
        if share:
            require_codes()
            with suppress(ObjectExists):
                self._storage.put_new(layout.protection_mark(share), b"")
        for name in self._storage.list(layout.PROTECTION):
            other = layout.parse_protection_mark(name)
            if other and other != share:
                self._storage.delete(layout.protection_mark(other))

    def complete(self, archive_ids: Iterable[str] | None = None) -> Kept:
        """Write what sidecars are missing; by default those of all archives; what was done.

        Raises LibraryMissing, LockLost, StorageFull, StorageFailed.
        """
        share = self.share
        if share:
            require_codes()
            names = self._repository.archive_ids() if archive_ids is None else archive_ids
            for archive_id in names:
                self.complete_archive(archive_id)
            self._points(share)
        return self.kept

    def take_away(self) -> int:
        """Remove all sidecars; how many."""
        names = [name for name, _ in self.sidecars()]
        for name in names:
            self._storage.delete(name)
        return len(names)

    # Archives

    def complete_archive(self, archive_id: str) -> None:
        """Protect the files of an archive that count; sidecars of another share go.

        Raises as :meth:`complete`.
        """
        share = self.share
        for kind, generation in self._counting(archive_id).items():
            name = layout.archive_file(archive_id, kind, generation)
            sidecar = layout.parity(name, share)
            if is_missing(self._storage, sidecar):
                try:
                    self._require_sound(layout.archive_object(archive_id, kind), name)
                    self._write(sidecar, [name], share)
                except IntegrityError as error:
                    self.kept.failed.append(str(error))
                    continue  # an older sidecar of it may heal it
            for other in self._storage.list(layout.archive(archive_id)):
                found = layout.parse_parity(other)
                if found is not None and found.file == (kind, generation) and found.share != share:
                    self._storage.delete(f"{layout.archive(archive_id)}/{other}")

    def _counting(self, archive_id: str) -> dict[str, int]:
        return counting(self._storage, self._repository.keys, archive_id)

    def _write(
        self, sidecar: str, names: list[str], share: int, *, is_points: bool = False
    ) -> None:
        self.kept.written += write_sidecar(
            self._storage, self._repository.id, sidecar, names, share,
            whole=is_points, beat=self._beat,
        )  # fmt: skip
        self.kept.files += len(names)

    def _require_sound(self, object_name: str, name: str) -> None:
        """Raise unless all frames of a file verify: what is damaged must not be kept so."""
        with self._storage.open(name) as stored:
            FrameFileReader(self._repository.keys, object_name, stored).verify(self._beat)

    # Manifests and the configuration

    def _points(self, share: int) -> None:
        """Protect the configuration and all manifests that there are now."""
        for _ in range(ATTEMPTS):
            # before they are listed: who writes the next generation meanwhile has seen fewer
            before = self._generations()
            names = self._sound()
            if before and self._covers(before[-1], names, share):
                before.pop()
            else:
                generation = before[-1] + 1 if before else 1
                try:
                    self._write(layout.points_parity(generation), names, share, is_points=True)
                except (ObjectExists, ObjectMissing):
                    continue  # others committed, or removed, a point
            for earlier in before:  # some may be left of a run that was cut off
                if not self._is_needed(layout.points_parity(earlier), names):
                    self._storage.delete(layout.points_parity(earlier))
            return
        self.kept.failed.append("The manifests change all the time: they are not protected yet")

    def _generations(self) -> list[int]:
        found = map(layout.parse_points_parity, self._storage.list(layout.PROTECTION))
        return sorted(filter(None, found))

    def _sound(self) -> list[str]:
        """The configuration and the manifests that are as they were written."""
        names = []
        repository, storage = self._repository, self._storage
        try:
            decode_config(whole(storage, layout.CONFIG, CONFIG_LIMIT), layout.CONFIG)
            names.append(layout.CONFIG)
        except IntegrityError as error:
            self.kept.failed.append(str(error))
        for point_id in repository.points.ids():
            name = layout.point(point_id)
            try:
                decode_point(whole(storage, name, MANIFEST_LIMIT), name, point_id, repository.keys)
                names.append(name)
            except ObjectMissing:
                continue
            except IntegrityError as error:
                self.kept.failed.append(str(error))
        return names

    def _covers(self, generation: int, names: list[str], share: int) -> bool:
        sidecar = opened(self._storage, layout.points_parity(generation))
        if sidecar is None:
            return False
        with sidecar:
            head = sidecar.head
            return head.share == share and [file.name for file in head.files] == names

    def _is_needed(self, name: str, covered: list[str]) -> bool:
        """Whether a sidecar of manifests may heal some that no later one covers."""
        sidecar = opened(self._storage, name)
        if sidecar is None:
            return False
        with sidecar:
            forgotten = {layout.point(one) for one in self._repository.points.forgotten()}
            names = {file.name for file in sidecar.head.files}
            return bool(names - forgotten - set(covered))

    # What there is

    def sidecars(self) -> Iterator[tuple[str, str]]:
        """The names of all sidecars, each with what it protects: a file, or nothing if several."""
        for archive_id in self._storage.list(layout.ARCHIVES):
            folder = layout.archive(archive_id)
            for name in self._storage.list(folder):
                found = layout.parse_parity(name)
                if found is not None:
                    yield f"{folder}/{name}", layout.archive_file(archive_id, *found.file)
        for generation in self._generations():
            yield layout.points_parity(generation), ""


def protect_run(repository: Repository, run_id: str, beat: Callable[[], None]) -> list[str]:
    """Protect what a run has written, where that is wanted; why some of it could not be.

    Raises LibraryMissing, LockLost, StorageFull, StorageFailed.
    """
    protection = Protection(repository, beat)
    if not protection.share:
        return []
    names = repository.storage.list(layout.ARCHIVES)
    return protection.complete([n for n in names if n.rpartition(".")[0] == run_id]).failed

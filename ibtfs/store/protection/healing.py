"""Healing by parity: damaged objects get back the bytes that they had."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from ibtfs.errors import IntegrityError, LibraryMissing, StorageFailed
from ibtfs.store import layout
from ibtfs.store.archives.newest import counting
from ibtfs.store.protection.authentic import is_authentic, protects
from ibtfs.store.protection.keeping import Protection
from ibtfs.store.protection.sidecar import (
    Sidecar,
    is_missing,
    no_beat,
    opened,
    write_sidecar,
)
from ibtfs.store.repository import Repository
from ibtfs.store.storage.opening import Place, storage_at


class Hurt(NamedTuple):
    """A sidecar of which something is not what it was: *files* that it protects, or itself."""

    sidecar: str
    files: tuple[str, ...]
    is_intact: bool


@dataclass
class Healed:
    """What became of what was hurt: names of objects, and why those are *lost* that are."""

    healed: list[str] = field(default_factory=list)
    lost: dict[str, str] = field(default_factory=dict)


class Healer:
    """Heals a repository by its parity; used by one thread.  *beat* is called often."""

    def __init__(self, repository: Repository, beat: Callable[[], None] = no_beat) -> None:
        self._repository, self._storage, self._beat = repository, repository.storage, beat

    def find(self) -> list[Hurt]:
        """Read all that is protected, and all parity; what is not as it was written.

        Raises StorageFailed.
        """
        found = []
        for name, _ in Protection(self._repository).sidecars():
            self._beat()
            sidecar = opened(self._storage, name)
            if sidecar is None:
                if not is_missing(self._storage, name):
                    found.append(Hurt(name, (), is_intact=False))
                continue
            with sidecar:
                erased = sidecar.erased()
                damaged = self._damaged(sidecar, erased)
                files = [sidecar.head.files[row].name for row in damaged]
                is_intact = sidecar.is_intact() and not self._lies(sidecar, erased)
            if files or not is_intact:
                found.append(Hurt(name, tuple(files), is_intact))
        return found

    def _damaged(self, sidecar: Sidecar, erased: list[int]) -> list[int]:
        """The places of the files of a sidecar that are damaged, and still are to be there."""
        names = [file.name for file in sidecar.head.files]
        damaged = [row for row in sidecar.damaged(erased) if protects(sidecar.name, names[row])]
        return [row for row in damaged if self.counts(names[row]) and not self._is_good(names[row])]

    def _is_good(self, name: str) -> bool:
        """Whether an object is known to be right, whatever parity says: where it is sealed."""
        keys = self._repository.keys
        if not keys.is_sealed:
            return False
        try:
            with self._storage.open(name) as stored:
                return is_authentic(keys, name, stored, self._beat)
        except (IntegrityError, StorageFailed):
            return False

    def _lies(self, sidecar: Sidecar, erased: list[int]) -> bool:
        """Whether a sidecar says that something else was there than what is right."""
        files = sidecar.head.files
        return any(
            not protects(sidecar.name, files[row].name) or self._is_good(files[row].name)
            for row in sidecar.damaged(erased)
        )

    def counts(self, name: str) -> bool:
        """Whether the object *name* is to be there: it was not removed, nor written anew."""
        folder, _, base = name.rpartition("/")
        if not is_missing(self._storage, name):
            return True
        if folder == layout.POINTS:
            return base not in self._repository.points.forgotten()
        found = layout.parse_archive_file(base)
        if found is None:
            return True
        if layout.REMOVED in self._storage.list(folder):
            return False
        newest = counting(self._storage, self._repository.keys, folder.rpartition("/")[2])
        return found.generation > newest.get(found.kind, 0)

    def heal(self, hurt: list[Hurt]) -> Healed:
        """Put back what parity gives; what became of it.  For who is alone in the repository.

        What is beyond the share stays as it is.  Raises LockLost, StorageFull, StorageFailed.
        """
        result = Healed()
        for one in hurt:
            self._beat()
            try:
                self._heal(one, result)
            except (IntegrityError, LibraryMissing) as error:
                for name in one.files or (one.sidecar,):
                    result.lost[name] = str(error)
        return result

    def _heal(self, hurt: Hurt, result: Healed) -> None:
        sidecar = opened(self._storage, hurt.sidecar)
        if sidecar is not None:
            with sidecar:
                erased = sidecar.erased()
                is_lie = self._lies(sidecar, erased)
                self._heal_files(sidecar, erased, result)
                files = [file.name for file in sidecar.head.files]
                is_whole = not sidecar.damaged(sidecar.erased())
                share = sidecar.head.share
            if hurt.is_intact:
                return
            if is_whole:
                write_sidecar(
                    self._storage, self._repository.id, hurt.sidecar, files, share,
                    whole=layout.CONFIG in files, beat=self._beat, replace=self._storage.replace,
                )  # fmt: skip
                result.healed.append(hurt.sidecar)
                return
        if sidecar is None or is_lie:
            # it is of no use, and in the way of another
            self._storage.delete(hurt.sidecar)
            result.healed.append(hurt.sidecar)

    def _heal_files(self, sidecar: Sidecar, erased: list[int], result: Healed) -> None:
        damaged = self._damaged(sidecar, erased)
        if not damaged:
            return
        blocks = sidecar.restored(erased)
        for row in damaged:
            name, keys = sidecar.head.files[row].name, self._repository.keys
            if keys.is_sealed and not is_authentic(keys, name, sidecar.healed(row, blocks)):
                result.lost[name] = f"{name}: parity does not give what was sealed there"
            elif sidecar.heal(row, blocks):
                result.healed.append(name)
            else:
                share = sidecar.head.share
                result.lost[name] = f"{name}: more of it is damaged than parity of {share} % heals"


def missing_manifests(repository: Repository) -> list[str]:
    """Manifests that parity knows, and that are gone though nobody removed them."""
    healer, found = Healer(repository), []
    for name, of in Protection(repository).sidecars():
        sidecar = None if of else opened(repository.storage, name)
        if sidecar is not None:
            with sidecar:
                names = [file.name for file in sidecar.head.files]
            found += [
                one for one in names if is_missing(repository.storage, one) and healer.counts(one)
            ]
    return list(dict.fromkeys(found))


def is_mark_missing(repository: Repository) -> bool:
    """Whether parity is there, and nothing says that it is to be kept up.

    So it is too where taking all parity away was cut off.
    """
    protection = Protection(repository)
    return not protection.share and any(protection.sidecars())


def damaged_sidecars(repository: Repository) -> list[str]:
    """The names of sidecars that are not as they were written."""
    found = []
    for name, _ in Protection(repository).sidecars():
        sidecar = opened(repository.storage, name)
        if sidecar is None:
            found += [] if is_missing(repository.storage, name) else [name]
            continue
        with sidecar:
            if not sidecar.is_intact():
                found.append(name)
    return found


def heal_configuration(place: Place) -> bool:
    """Put back the configuration of the repository at *place*, without which it cannot be opened.

    Whether there was parity that gave it.  Raises StorageFull, StorageFailed.
    """
    storage = storage_at(place)
    numbers = map(layout.parse_points_parity, storage.list(layout.PROTECTION))
    for generation in sorted(filter(None, numbers), reverse=True):
        sidecar = opened(storage, layout.points_parity(generation))
        if sidecar is None:
            continue
        with sidecar:
            places = [n for n, file in enumerate(sidecar.head.files) if file.name == layout.CONFIG]
            erased = sidecar.erased()
            if places and sidecar.heal(places[0], sidecar.restored(erased)):
                return True
    return False

"""What a machine that only writes has made is trusted with its own, whoever writes it anew."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from ibtfs.actions.backup.run import BackupOptions, backup
from ibtfs.actions.copy.run import CopyOptions, copy
from ibtfs.actions.forget.run import Way, forget_refused
from ibtfs.actions.observer import Observer
from ibtfs.actions.prune.decide import _copies
from ibtfs.actions.purge.run import PurgeOptions, purge
from ibtfs.errors import IbtfsError, PointRefused, RepositoryError
from ibtfs.format.compression import Codec
from ibtfs.format.entry import Page
from ibtfs.format.frames import CONTENTS, SMALL
from ibtfs.format.index import Reference, encode_plain
from ibtfs.store.archives.writer import ArchiveWriter, compression_pool
from ibtfs.store.pins import Pins, Watch
from ibtfs.store.point_lists import newest_list
from ibtfs.store.storage.local import LocalStorage
from tests.promises.test_forgeries import begun, machine, owners, place, pruned, put_point, source
from tests.support.repositories import damages, restored, the_point
from tests.support.sealing import create_sealed, open_sealed
from tests.support.writers import Machine, changes_of

__all__ = ["machine", "place", "source"]


def test_what_purge_puts_in_the_place_of_a_machines_point_stays_its(
    place: Path, source: Path, machine: Machine
) -> None:
    """Nobody else builds upon what it says, though the owner has written the manifest."""
    (source / "gone").write_bytes(b"purge me please")
    the_point(machine.back_up(source))
    purge(open_sealed(place), [os.fsencode(source / "gone")], PurgeOptions(), Observer())
    (point,) = open_sealed(place).points.all().points
    assert point.replaces
    assert point.writer == machine.secrets.tag
    (source / "gone").unlink()
    made = backup(open_sealed(place), os.fsencode(source), BackupOptions(host="laptop"), Observer())
    assert made.full
    archives = open_sealed(place).archive(the_point(made).state.archive).header.archives
    assert not any(machine.secrets.tag in name for name in archives)
    the_point(machine.back_up(source))
    assert not damages(open_sealed(place))


def test_junk_is_neither_listed_nor_pinned(
    place: Path, source: Path, machine: Machine, tmp_path: Path
) -> None:
    """Else nobody could clear it away without an alarm."""
    kept = owners(place, source)
    (tmp_path / "pins").mkdir()
    pins = Pins(os.fsencode(tmp_path / "pins"))
    _, junk = begun(machine)
    for name in (junk, f"{kept.id[:-6]}012345"):
        (place / "points" / name).write_bytes(b"junk")
    watch = Watch(pins, open_sealed(place), 1)
    assert watch.alarms() == []
    watch.remember()
    (place / "points" / f"{kept.id[:-6]}012345").unlink()
    pruned(place)
    assert newest_list(open_sealed(place)).found.points == {kept.id}
    (place / "points" / junk).unlink()
    assert Watch(pins, open_sealed(place), 1).alarms() == []
    (place / "points" / kept.id).unlink()
    assert len(Watch(pins, open_sealed(place), 1).alarms()) == 1


def test_guesses_of_what_others_have_are_not_answered(
    place: Path, source: Path, machine: Machine, tmp_path: Path
) -> None:
    """A damaged content with a digest is not healed from what others have with the same."""
    (source / "pin").write_bytes(b"PIN=4711\n")
    owners(place, source)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine").write_bytes(b"w" * 9)
    pattern = the_point(machine.back_up(tmp_path / "own"))
    page = open_sealed(place).archive(pattern.state.archive).state(pattern.state.number)
    assert isinstance(page, Page)
    keys, run = begun(machine)
    with compression_pool() as pool:
        writer = ArchiveWriter(
            LocalStorage(os.fsencode(place)), keys, f"{run}.0", epoch=0, codec=Codec(1), pool=pool
        )
        record = encode_plain(keys.digests.content(b"PIN=4711\n"), 9, SMALL, 0)
        writer.append(SMALL, b"something")
        number = writer._records[CONTENTS].append(record)
        state = writer.add_page(page._replace(refs=(number,)))
        writer.finish()
    made = put_point(place, keys, run, pattern, state=state, sequence=pattern.sequence + 1)
    repository = open_sealed(place)
    point = next(one for one in repository.points.all().points if one.id == made)
    with contextlib.suppress(IbtfsError, AssertionError):
        restored(repository, point, tmp_path / "back")
    assert all(b"4711" not in path.read_bytes() for path in (tmp_path / "back").glob("*"))
    copies = list(_copies(repository, Reference(f"{run}.0", number)))
    assert all(copy.archive.startswith(run) for copy in copies)


def test_what_a_revoked_machine_goes_on_to_write_goes_at_one_word(
    place: Path, source: Path, machine: Machine
) -> None:
    kept = the_point(machine.back_up(source))
    changes_of(place).revoke("laptop")
    machine.turn_deaf()
    late = [the_point(machine.back_up(source)).id for _ in range(2)]
    gone = forget_refused(open_sealed(place), Way())
    assert sorted(gone.gone) == sorted(late)
    found = open_sealed(place).points.all()
    assert ([point.id for point in found.points], found.damaged) == ([kept.id], {})
    assert not pruned(place).failed
    restored(open_sealed(place), kept, place.parent / "back")


def test_secrets_are_told_by_no_traceback(machine: Machine) -> None:
    keys, _ = begun(machine)
    assert keys._run is not None
    for secret in (machine.secrets, keys._run):
        assert keys._run.key.hex() not in repr(secret)
        assert repr(keys._run.key) not in repr(secret)
        assert repr(machine.secrets.seed) not in repr(secret)


def test_a_copy_of_a_machines_point_may_need_anything_that_is_there(
    place: Path, source: Path, machine: Machine, tmp_path: Path
) -> None:
    """Its contents are in archives of who copied it, and others refer to these."""
    the_point(machine.back_up(source))
    target = create_sealed(tmp_path / "target")
    copy(open_sealed(place), target, CopyOptions(), Observer())
    (made,) = open_sealed(tmp_path / "target").points.all().points
    assert made.writer == machine.secrets.tag
    assert machine.secrets.tag not in made.id
    owners(tmp_path / "target", source)
    (tmp_path / "target" / "points" / made.id).write_bytes(b"rotten")
    with pytest.raises(RepositoryError, match="cannot be read, so nothing can be removed"):
        pruned(tmp_path / "target")
    assert not isinstance(
        open_sealed(tmp_path / "target").points.all().damaged[made.id], PointRefused
    )

"""Archives in which a machine that only writes lies: they cost it its own points, nobody time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ibtfs.errors import FormatDamaged
from ibtfs.format.compression import Codec
from ibtfs.format.entry import SIZE, Page, encode_page
from ibtfs.format.frames import CONTENTS, HEADER, SMALL, STATES
from ibtfs.format.index import ContentRecord, IndexHeader, Reference, encode_plain, encode_record
from ibtfs.format.packing import pack_bodies
from ibtfs.format.point import Point
from ibtfs.sealing.writers import WriterKeys
from ibtfs.store.archives.file import FrameFileWriter
from ibtfs.store.archives.writer import ArchiveWriter, compression_pool
from ibtfs.store.contents.reader import Contents
from ibtfs.store.storage.local import LocalStorage
from ibtfs.store.trees.compare import Comparison
from ibtfs.store.trees.paths import root_entry
from ibtfs.store.trees.patience import Patience
from tests.promises.test_forgeries import begun, machine, owners, place, pruned, put_point, source
from tests.support.repositories import damages, restored, the_point
from tests.support.sealing import open_sealed
from tests.support.writers import Machine

__all__ = ["machine", "place", "source"]

Lie = Callable[[ArchiveWriter], Reference]


def put_header(place: Path, keys: WriterKeys, header: IndexHeader) -> None:
    """An index that has its *header*, and nothing else."""
    storage, name = LocalStorage(os.fsencode(place)), f"archives/{header.archives[0]}/index"
    with compression_pool() as pool:
        writer = FrameFileWriter(storage, keys, name, Codec(1), pool)
        writer.add(HEADER, 0, 1, pack_bodies([header.encode()]))
        writer.finish()


@pytest.mark.parametrize("size", [1, 2, 3])
def test_archives_that_lead_to_each_other(
    place: Path, source: Path, machine: Machine, size: int
) -> None:
    """Nothing is put in order by them, and the rest is pruned."""
    gone, kept = owners(place, source), the_point(machine.back_up(source))
    runs = [begun(machine) for _ in range(size)]
    for number, (keys, run) in enumerate(runs):
        other = runs[(number + 1) % size][1]
        header = IndexHeader((f"{run}.0", f"{other}.0"), 0, 0, 0, False, False)
        put_header(place, keys, header)
        if not number:
            state = kept.state._replace(archive=f"{run}.0")
            put_point(place, keys, run, kept, sequence=kept.sequence + 1, state=state)
    open_sealed(place).points.remove(gone.id)
    result = pruned(place)
    assert not result.failed
    assert any("refer to each other" in told for told in result.damages)
    assert not (place / "archives" / gone.state.archive).exists()
    restored(open_sealed(place), kept, place.parent / "back")
    assert damages(open_sealed(place))


def lying(place: Path, machine: Machine, pattern: Point, lie: Lie) -> str:
    """A run of the machine whose archive has what *lie* puts there, and a point; the archive."""
    keys, run = begun(machine)
    with compression_pool() as pool:
        writer = ArchiveWriter(
            LocalStorage(os.fsencode(place)), keys, f"{run}.0", epoch=0, codec=Codec(1), pool=pool
        )
        state = lie(writer)
        writer.finish()
    put_point(place, keys, run, pattern, state=state, sequence=pattern.sequence + 1)
    return f"{run}.0"


def page_of(pattern: Page, number: int, size: int) -> Page:
    """A page with one file, which has content *number*."""
    stamp = list(next(stamp for stamp in pattern.stamps if stamp[0] == b"a"))
    stamp[SIZE] = size
    return Page((tuple(stamp),), (number,), {})


def require_bounded(place: Path, archive: str) -> None:
    """That prune and check come through with little room, and tell of the archive."""
    code = f"""
import resource, sys
sys.path.insert(0, {os.getcwd()!r})
from pathlib import Path
from ibtfs.actions.observer import Observer
from ibtfs.actions.prune.run import PruneOptions, prune
from tests.support.repositories import damages
from tests.support.sealing import open_sealed
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
repository = open_sealed(Path({str(place)!r}))
told = [*prune(repository, PruneOptions(), Observer()).damages, *damages(repository)]
assert any({archive!r} in one for one in told), told
assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10
assert resource.getrusage(resource.RUSAGE_SELF).ru_utime < 30
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr


def test_digests_of_folders_that_are_lies(place: Path, source: Path, machine: Machine) -> None:
    """A tree that has the digests of another is not taken for the same."""
    (source / "below").mkdir()
    (source / "below/inside").write_bytes(b"what was there")
    kept = the_point(machine.back_up(source))
    pattern = open_sealed(place).archive(kept.state.archive).state(kept.state.number)
    assert isinstance(pattern, Page)

    def lie(writer: ArchiveWriter) -> Reference:
        content = writer.add_whole(SMALL, os.urandom(32), b"lies")
        number = writer.add_page(page_of(pattern, content, 4)).number
        rows = [
            (stamp, ref) for stamp, ref in zip(pattern.stamps, pattern.refs) if type(ref) is tuple
        ]
        stamps, refs = zip(*((stamp, (number, ref[1])) for stamp, ref in rows))
        return writer.add_page(Page(stamps, refs, {}))

    archive = lying(place, machine, kept, lie)
    repository = open_sealed(place)
    points = {point.state.archive: point for point in repository.points.all().points}
    comparison = Comparison(repository, Contents(repository))
    old, new = root_entry(kept), root_entry(points[archive])
    assert old.state is not None
    assert new.state is not None
    assert old.state.digest == new.state.digest
    told = {change.path: change.change.kind for change in comparison.tree_changes(old, new)}
    assert told == {b"a": "deleted", b"below/a": "created", b"below/inside": "deleted",
                    b"large": "deleted"}  # fmt: skip
    assert not comparison.is_same(old, new)
    assert comparison.holds("created", old.state, new.state, Patience(60))
    below = [one for one in comparison.changes(old.state, new.state) if one.name == b"below"]
    assert below[0].inside is not None
    assert [told for told in damages(repository) if archive in told]


BOMBS = {
    "size": ContentRecord(b"d" * 32, 1 << 62, SMALL, 0, 1 << 62, slabs=0),
    "slabs": ContentRecord(b"d" * 32, 5000, SMALL, 0, 5000, slabs=1 << 40),
    "maps": ContentRecord(b"d" * 32, 5000, SMALL, 0, 5000, map_first=1 << 36, map_parts=1),
    "payload": ContentRecord(b"d" * 32, 1 << 50, SMALL, 0, 1 << 50),
}


@pytest.mark.parametrize("kind", sorted(BOMBS))
def test_records_that_say_more_than_there_is(
    place: Path, source: Path, machine: Machine, kind: str
) -> None:
    kept, record = the_point(machine.back_up(source)), BOMBS[kind]
    pattern = open_sealed(place).archive(kept.state.archive).state(kept.state.number)
    assert isinstance(pattern, Page)

    def lie(writer: ArchiveWriter) -> Reference:
        writer.append(SMALL, os.urandom(5000))
        records = writer._records[CONTENTS]
        number = records.append(encode_record(record, writer.ordinal))
        for _ in range(300):
            records.append(encode_plain(os.urandom(32), 10, SMALL, 0))
        return writer.add_page(page_of(pattern, number, record.size))

    require_bounded(place, lying(place, machine, kept, lie))


def test_headers_that_say_more_than_there_is(
    place: Path, source: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, encode = the_point(machine.back_up(source)), IndexHeader.encode
    changes: list[dict[str, Any]] = [
        {"contents": 1 << 26, "states": 1 << 26}, {"states": 0}, {"contents": 1},
        {"ends": {"maps": 1 << 40}}, {"archives": ("",) * 100_000},
    ]  # fmt: skip
    for change in changes:

        def encoded(header: IndexHeader, change: dict[str, Any] = change) -> bytes:
            archives = header.archives + change.get("archives", ())
            return encode(replace(header, **{**change, "archives": archives}))

        with monkeypatch.context() as patch:
            patch.setattr(IndexHeader, "encode", encoded)
            archive = lying(place, machine, kept, lambda writer: writer.add_page(Page((), (), {})))
        with pytest.raises(FormatDamaged, match="says more of the archive than there is"):
            open_sealed(place).archive(archive).require_header()
    require_bounded(place, archive)


def test_frames_of_records_that_are_none(place: Path, source: Path, machine: Machine) -> None:
    """Millions of them in a few bytes."""
    kept, count = the_point(machine.back_up(source)), 4_000_000
    keys, run = begun(machine)
    storage, name = LocalStorage(os.fsencode(place)), f"archives/{run}.0/index"
    with compression_pool() as pool:
        writer = FrameFileWriter(storage, keys, name, Codec(1), pool)
        writer.add(STATES, 0, 1, pack_bodies([encode_page(Page((), (), {}))]))
        for first in range(0, 3 * count, count):
            writer.add(CONTENTS, first, count, b"\xdd" + count.to_bytes(4, "big") + b"\xc0" * count)
        header = IndexHeader((f"{run}.0",), 0, 3 * count, 1, False, False)
        writer.add(HEADER, 0, 1, pack_bodies([header.encode()]))
        writer.finish()
    put_point(place, keys, run, kept, state=Reference(f"{run}.0", 0), sequence=kept.sequence + 1)
    require_bounded(place, f"{run}.0")


def test_manifests_that_are_large_from_little(place: Path, source: Path, machine: Machine) -> None:
    kept = the_point(machine.back_up(source))
    keys, run = begun(machine)
    made = put_point(place, keys, run, kept, comment="a" * 2_300_000)
    assert "is larger than its machine may" in str(open_sealed(place).points.all().damaged[made])
    keys, run = begun(machine)
    users = {number: os.urandom(200).hex() for number in range(3000)}
    made = put_point(place, keys, run, kept, users=users)
    assert made in {point.id for point in open_sealed(place).points.all().points}


def test_what_is_right_and_small_is_not_refused(place: Path, tmp_path: Path) -> None:
    """Folders that are all alike, and a file that is nearly all hole."""
    machine, source = Machine(place, tmp_path / "own", "tower"), tmp_path / "many"
    for number in range(3000):
        (source / f"{number}").mkdir(parents=True)
    with (source / "sparse").open("wb") as file:
        file.truncate(1 << 40)
        file.write(b"begin")
    point = the_point(machine.back_up(source))
    repository = open_sealed(place)
    assert point.id in {one.id for one in repository.points.all().points}
    for archive_id in repository.archive_ids():
        archive = repository.archive(archive_id)
        archive.require_header()
        assert list(archive.contents())
    assert not pruned(place).failed

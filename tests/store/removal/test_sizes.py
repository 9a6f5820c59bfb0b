"""What a plan would free of an archive's files, before anything is done."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ibtfs.errors import IntegrityError
from ibtfs.format.compression import Codec
from ibtfs.format.extents import OWN, MapBuilder
from ibtfs.format.frames import CONTENTS, LARGE, SMALL
from ibtfs.format.index import ContentRecord, Reference
from ibtfs.store.removal.indexes import planned_contents
from ibtfs.store.removal.needed import Kept, kept_in, needed_by, slab_numbers
from ibtfs.store.removal.payloads_cut import payloads_freed
from ibtfs.store.removal.plan import ArchivePlan
from ibtfs.store.removal.rebase import Rebased
from ibtfs.store.removal.sizes import ArchiveSizes, Freed, archive_sizes
from ibtfs.store.removal.spans import Spans
from ibtfs.store.removal.weights import weigh
from ibtfs.store.repository import Repository
from tests.support.repositories import back_up, create, reopened, the_point

SIZES = [30_000, 300, 50_000, 20_000]


@pytest.fixture
def repository(fast_path: Path) -> Repository:
    return create(fast_path / "repository")


@pytest.fixture
def archive(repository: Repository, fast_path: Path) -> str:
    """An archive of four contents that cannot be compressed, one behind the other."""
    source = fast_path / "source"
    source.mkdir()
    for number, size in enumerate(SIZES):
        (source / f"{number}").write_bytes(os.urandom(size))
    return the_point(back_up(repository, source)).state.archive


def plan(repository: Repository, archive: str, *contents: int, states: int = 1) -> ArchivePlan:
    count = repository.archive(archive).header.states
    flags = bytearray(number in contents for number in range(len(SIZES)))
    return ArchivePlan(archive, flags, bytearray([states]) * count)


def sizes_of(repository: Repository, made: ArchivePlan, **options: bool) -> ArchiveSizes:
    return archive_sizes(reopened(repository), made, **options)


def test_what_stays_whole_or_goes_whole_frees_nothing_or_all(
    repository: Repository, archive: str
) -> None:
    folder = Path(os.fsdecode(repository.path), "archives", archive)
    sizes = {kind: (folder / f"{kind}.1").stat().st_size for kind in ("data", "index")}
    for fixed in (True, False):
        made = plan(repository, archive, *(range(4) if not fixed else ()))
        made.is_fixed = fixed
        found = sizes_of(repository, made)
        assert found.files == {kind: Freed(size, 0) for kind, size in sizes.items()}
        assert (found.size, found.freed, found.changes) == (sum(sizes.values()), 0, False)
    found = sizes_of(repository, plan(repository, archive, states=0))
    assert found.files == {kind: Freed(size, size) for kind, size in sizes.items()}
    assert (found.freed, found.changes) == (found.size, False)


def test_nothing_is_freed_of_a_file_that_is_not_worth_it(
    repository: Repository, archive: str
) -> None:
    found = sizes_of(repository, plan(repository, archive, 0, 2, 3)).files["data"]
    assert (found.freed, found.loses) == (0, True)
    exact = sizes_of(repository, plan(repository, archive, 0, 2, 3), all_of_it=True).files["data"]
    assert 200 < exact.freed < 400
    assert exact.loses
    large = sizes_of(repository, plan(repository, archive, 0, 1, 2))
    assert large.files["data"].freed == pytest.approx(20_000, abs=300)
    assert large.files["index"].loses
    assert large.freed == sum(one.freed for one in large.files.values())
    assert not large.changes


def test_what_is_kept_as_a_payload_is_a_change(repository: Repository, archive: str) -> None:
    made = plan(repository, archive, 0, 1, 3)
    made.shells[2] = [(1000, 21_000)]
    found = sizes_of(repository, made)
    assert found.changes
    assert found.files["data"].freed == pytest.approx(30_000, abs=300)
    reader = reopened(repository).archive(archive)
    contents = planned_contents(reopened(repository), reader, made)
    assert list(contents.kept) == [0, 1, 2, 3]
    assert list(contents.changed) == [2]
    assert contents.kept[2].ranges == [(1000, 21_000)]
    assert contents.kept[2].record.is_shell
    assert list(contents.changed[2].extents.ranges()) == [
        (0, 0, 1000), (OWN, 1000, 20_000), (0, 0, 29_000)
    ]  # fmt: skip
    assert contents.kept[0].ranges == [(0, reader.content(0).length)]


def test_what_is_rebuilt_adds_to_the_index(repository: Repository, archive: str) -> None:
    before = sizes_of(repository, plan(repository, archive, 0, 1, 2)).files["index"]
    made, builder = plan(repository, archive, 0, 1, 2), MapBuilder()
    for number in range(3000):
        builder.add(OWN, number * 37 % 1000, 1)
    record = reopened(repository).archive(archive).content(0)
    made.rebuilt[0] = Rebased(record._replace(slabs=-1), builder.finish(), (os.urandom(2000),))
    found = sizes_of(repository, made)
    assert found.changes
    assert before.freed - found.files["index"].freed > 2000


@pytest.mark.damaged
def test_files_that_cannot_be_read_free_nothing(repository: Repository, archive: str) -> None:
    Path(os.fsdecode(repository.path), "archives", archive, "data.1").unlink()
    found = sizes_of(repository, plan(repository, archive, 0))
    assert list(found.files) == ["index"]
    shorter = plan(repository, archive, 0)
    shorter.contents = bytearray(b"\1\1\0")
    with pytest.raises(IntegrityError, match="has more contents than it says"):
        sizes_of(repository, shorter)


def test_what_records_need_is_told_by_them_alone(repository: Repository, archive: str) -> None:
    opened = reopened(repository)
    reader = opened.archive(archive)
    needed = needed_by(kept_in(opened, reader))
    assert needed.payloads == {SMALL: [(0, sum(SIZES))]}
    assert needed.slabs == set()
    record = ContentRecord(bytes(32), 200_000, LARGE, 50, 100, slabs=7)
    assert slab_numbers(record) == range(7, 8)
    assert slab_numbers(record._replace(slabs=0)) == range(1)
    assert slab_numbers(record._replace(slabs=-1)) == range(0)
    found = needed_by([
        Kept(record, [(0, 10), (20, 30)]), Kept(record._replace(start=60, slabs=3), [(0, 5)]),
        Kept(record._replace(length=0, stream=SMALL, slabs=-1), [(0, 0)]),
    ])  # fmt: skip
    assert found.payloads == {LARGE: [(50, 65), (70, 80)]}
    assert found.slabs == {7, 3}
    assert reader.file("index").table(CONTENTS).end == 4
    assert Reference(archive, 0).number == 0


def test_all_bytes_are_weighed_once(repository: Repository, archive: str) -> None:
    opened = reopened(repository)
    points, spans = opened.points.all().points, Spans([range(1)])
    found = weigh(opened, points, spans)
    folder = Path(os.fsdecode(repository.path), "archives", archive)
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert found.total == sum(sizes.values())
    assert found.by_span == [pytest.approx(found.total, abs=1e-6)]
    assert (found.unneeded, found.unknown) == (pytest.approx(0, abs=1e-6), 0)
    assert (found.contents, found.content_bytes, found.payload_bytes) == (4, 100_300, 100_300)
    reader = opened.archive(archive)
    data = reader.file("data").table(SMALL)
    assert found.payload_stored == pytest.approx(sum(data.sizes), abs=1e-6)
    contents = found.archives[archive]
    order = [number for number, _ in sorted(enumerate(contents.lengths), key=lambda one: one[1])]
    assert [contents.lengths[number] for number in order] == sorted(SIZES)
    assert list(contents.sizes) == list(contents.lengths)
    assert sum(contents.payloads) == pytest.approx(sum(data.sizes), abs=1e-6)
    assert sum(contents.records) == pytest.approx(
        sum(reader.file("index").table(CONTENTS).sizes), abs=1e-6
    )
    assert (found.damages, [list(links) for links in found.links]) == ([], [[]])


def test_an_index_may_lose_payloads_and_records(repository: Repository, fast_path: Path) -> None:
    """What is small lies in it: then both count."""
    source = fast_path / "source"
    source.mkdir()
    for number in range(60):
        (source / f"{number:02}").write_bytes(os.urandom(700))
    archive = the_point(back_up(repository, source)).state.archive
    opened = reopened(repository)
    header = opened.archive(archive).header
    assert (header.has_data, header.contents) == (False, 60)
    kept = bytearray(number < 20 for number in range(60))
    made = ArchivePlan(archive, kept, bytearray(b"\1" * header.states))
    found = sizes_of(repository, made).files["index"]
    file = opened.archive(archive).file("index")
    first = opened.archive(archive).content(0)
    assert (first.start, first.length) == (0, 700)
    payloads = payloads_freed(file, {SMALL: [(0, 14_000)]}, Codec(opened.config.level))
    assert payloads.freed == pytest.approx(28_000, abs=300)
    assert 40 * 32 < found.freed - payloads.freed < 40 * 60  # a digest, and some numbers
    assert found.size == file.size

"""Reading contents through a repository: long chains, small caches, and where a content ends."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ibtfs.errors import FormatDamaged
from ibtfs.format.digests import SLAB
from ibtfs.format.extents import HOLE
from ibtfs.format.index import Reference
from ibtfs.store.contents.fold import Level
from ibtfs.store.contents.reader import Contents
from ibtfs.store.contents.slabs import SlabDigests
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import Directory
from ibtfs.store.writing.draft import Draft
from tests.store.writing.test_draft import writing
from tests.support.plain import digest, slab_digest
from tests.support.repositories import back_up, create, reopened, the_point


def test_small_changes_all_over_generation_after_generation(
    repository: Repository, tmp_path: Path
) -> None:
    """Each cuts what the last one left: a window comes to have more pieces than any one map."""
    source, versions = tmp_path / "source", []
    source.mkdir()
    data = bytearray(random.Random(1).randbytes(1 << 20))
    for generation in range(18):
        for first in range(12 * generation % 256, len(data), 256):
            data[first] ^= 1
        (source / "records").write_bytes(data)
        versions.append((the_point(back_up(repository, source)), digest(data)))
    contents = Contents(repository)
    for point, expected in versions:  # that their bytes have these digests is seen by check
        (entry,) = Directory(repository, point.state).entries()
        assert entry.content is not None
        assert contents.record(entry.content).digest == expected
    assert contents.record(entry.content).depth == len(versions) - 1
    assert len(list(contents.segments(entry.content, 0, entry.size))) > 131_072
    assert contents.whole(entry.content, entry.size) == data


def test_nothing_lies_beyond_the_end_of_a_content(repository: Repository, tmp_path: Path) -> None:
    """A row may promise more than there is: that is damage, and no endless search for a hole."""
    source = tmp_path / "source"
    source.mkdir()
    with (source / "sparse").open("wb") as file:
        file.write(b"data" * 1000)
        file.truncate(3 << 20)
    point = the_point(back_up(repository, source))
    (entry,) = Directory(repository, point.state).entries()
    assert entry.content is not None
    contents = Contents(repository)
    assert (
        sum(segment.length for segment in contents.segments(entry.content, 0, 3 << 20)) == 3 << 20
    )
    for start, end in ((0, (3 << 20) + 1), (3 << 20, 4 << 20), (5 << 20, 6 << 20)):
        with pytest.raises(FormatDamaged, match="more are expected"):
            list(contents.segments(entry.content, start, end))


@pytest.mark.parametrize("versions", [1, 2])
def test_a_chain_is_loaded_once_however_small_the_cache(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, versions: int
) -> None:
    """Also where two versions of a file are read side by side, as cmp does."""
    source, points = tmp_path / "source", []
    source.mkdir()
    data = bytearray(random.Random(2).randbytes(6 << 20))
    for generation in range(4):
        for first in range(5000 * generation, len(data), 50_000):
            data[first] ^= 1
        (source / "database").write_bytes(data)
        points.append(the_point(back_up(repository, source)))
    small = Repository.open(repository.path, cache_bytes=1 << 10)
    contents, loaded = Contents(small), []
    load = Contents._load_chain

    def counted(self: Contents, ref: Reference) -> list[Level]:
        loaded.append(ref)
        return load(self, ref)

    monkeypatch.setattr(Contents, "_load_chain", counted)
    refs = []
    for point in points[-versions:]:
        (entry,) = Directory(small, point.state).entries()
        assert entry.content is not None
        assert contents.record(entry.content).depth > 0
        refs.append(entry.content)
    for start in range(0, len(data), 1 << 18):
        for ref in refs:
            read = contents.read(ref, start, 1 << 18)
        assert read == data[start : start + (1 << 18)]
    assert sorted(loaded) == sorted(refs)


def test_a_content_with_a_map_is_given_whole_and_compared(tmp_path: Path) -> None:
    repository = create(tmp_path / "repository")
    data = b"x" * 100 + bytes(1000) + b"y" * 50
    refs = []
    with writing(repository) as writer:
        for named in (data, b"another"):
            draft, slabs = Draft(writer), SlabDigests()
            draft.append(data[:100])
            draft.add(HOLE, 0, 1000)
            draft.append(data[1100:])
            slabs.append(slab_digest(data))
            refs.append(draft.finish(digest(named), len(data), slabs)[0])
    contents = Contents(reopened(repository))
    assert contents.whole(refs[0], len(data)) == data
    with pytest.raises(FormatDamaged, match="do not have the digest"):
        contents.whole(refs[1], len(data))
    for size in (len(data) - 1, len(data) + 1):
        with pytest.raises(FormatDamaged):
            contents.whole(refs[0], size)


def test_ranges_that_lie_in_several_frames_are_read_anywhere(tmp_path: Path) -> None:
    repository, rng = create(tmp_path / "repository"), random.Random(1)
    made = []
    with writing(repository) as writer:
        for count, size in ((7, 4500), (12, 900_000)):  # copied 4 MiB at a time
            draft, slabs, expected = Draft(writer), SlabDigests(), b""
            for _ in range(count):
                data = rng.randbytes(size)
                draft.append(data)
                draft.add(HOLE, 0, 7)
                expected += data + bytes(7)
            for first in range(0, len(expected), SLAB):
                slabs.append(slab_digest(expected[first : first + SLAB]))
            made.append((draft.finish(digest(expected), len(expected), slabs)[0], expected))
    contents = Contents(reopened(repository))
    for ref, expected in made:
        assert contents.whole(ref, len(expected)) == expected
        for _ in range(60):
            start, size = rng.randrange(len(expected)), rng.choice((1, 9000, 2_000_000))
            assert contents.read(ref, start, size) == expected[start : start + size]

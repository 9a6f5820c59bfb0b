"""Holes of contents: found from the map alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibtfs.format.extents import HOLE
from ibtfs.store.cache import ByteCache
from ibtfs.store.contents.holes import Stretch, hole_end, holes, stretches
from ibtfs.store.contents.reader import Contents
from ibtfs.store.contents.slabs import SlabDigests, kept_of, load_slabs
from ibtfs.store.writing.draft import Draft
from tests.store.writing.test_draft import record_of, writing
from tests.support.plain import digest, slab_digest
from tests.support.repositories import create, reopened

MIB, TIB = 1 << 20, 1 << 40


def test_a_hole_of_64_tib_is_one_step(fast_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = create(fast_path / "repository")
    size, data, slabs = 64 * TIB + 3, b"x" * 100, SlabDigests()
    slabs.append(slab_digest(data + bytes((64 << 10) - 100)))
    slabs.add_zeros(size // (64 << 10) - 1)
    slabs.append(slab_digest(bytes(3)))
    with writing(repository) as writer:
        draft = Draft(writer)
        draft.append(data)
        draft.add(HOLE, 0, size - 100)
        ref, _ = draft.finish(digest(b"not looked at"), size, slabs)
    opened = reopened(repository)
    asked: list[object] = []
    get = ByteCache.get

    def counted(self: ByteCache, key: object, *rest: object) -> object:
        asked.append(key)
        return get(self, key, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(ByteCache, "get", counted)
    contents = Contents(opened)
    found = list(stretches(contents, ref, MIB))
    assert found == [Stretch(0, MIB, False), Stretch(MIB, size - MIB, True)]
    assert list(holes(contents, ref)) == [(100, MIB - 100), (MIB, size - MIB)]
    with writing(repository, 1) as writer:
        assert writer.holes_of(ref) == ((100, size - 100),)
    assert len(asked) < 50
    loaded = load_slabs(opened, record_of(repository, ref), ref.archive)
    assert (len(loaded), loaded[0], loaded[len(loaded) - 1]) == (
        len(slabs), slabs[0], kept_of(slab_digest(bytes(3))),
    )  # fmt: skip
    place = Path(fast_path / "repository")
    assert sum(file.stat().st_size for file in place.rglob("*") if file.is_file()) < 8 * MIB


def test_a_hole_at_the_very_beginning_is_one(fast_path: Path) -> None:
    repository = create(fast_path / "repository")
    slabs = SlabDigests()
    slabs.add_zeros(32)
    slabs.append(slab_digest(b"x" * 100))
    with writing(repository) as writer:
        draft = Draft(writer)
        draft.add(HOLE, 0, 2 * MIB)
        draft.append(b"x" * 100)
        ref, _ = draft.finish(digest(b"not looked at"), 2 * MIB + 100, slabs)
    contents = Contents(reopened(repository))
    ends = [hole_end(contents, ref, offset) for offset in (0, 5, 2 * MIB - 1, 2 * MIB)]
    assert ends == [2 * MIB, 2 * MIB, 2 * MIB, 2 * MIB]
    assert list(holes(contents, ref)) == [(0, 2 * MIB)]
    assert hole_end(contents, ref, 2 * MIB + 7) == 2 * MIB + 7

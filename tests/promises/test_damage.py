"""Damaged repositories: a clear message that names the file, or harmless.

A sample; ``scripts/campaign damage`` changes every byte.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibtfs.format import entry, extents, frames
from ibtfs.store.repository import Repository
from tests.support import damage
from tests.support.damage import GOOD, Damage, Examiner, Sample, frames_of

EVERY = 1787


@pytest.fixture(scope="module")
def examiner() -> Iterator[Examiner]:
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="ibtfs-damage-", dir=memory) as name:
        work = Path(name)
        yield Examiner(damage.build(work / "made"), work)


def bad_outcomes(examiner: Examiner, damages: Iterator[Damage]) -> list[str]:
    found = []
    for item in damages:
        outcome = examiner.examine(item)
        if outcome.kind not in GOOD:
            found.append(f"{outcome.kind}: {item.hit}: {item.what}: {outcome.detail[-600:]}")
    return found


def sampled_bytes(sample: Sample) -> Iterator[Damage]:
    """One byte in EVERY; and of the head, the table and the trailer of each archive file a few:
    others of the next file of its kind."""
    position = 0
    seen: Counter[str] = Counter()
    for name, data in sample.files.items():
        chosen = {place for place in range(len(data)) if (position + place) % EVERY == 0}
        if data and name.startswith("archives/"):
            end, kind = frames_of(sample, name)[-1][0], damage.kind_of(name)
            places = [0, 17, 20, end + 20, len(data) - 1]  # a head, the table, the check sum
            places += [len(data) - 56 + n for n in (0, 8, 12, 16, 24)]
            chosen.update(places[seen[kind] % 3 :: 3])
            seen[kind] += 1
        position += len(data)
        for number, place in enumerate(sorted(chosen)):
            yield damage.flip(sample.files, name, place, (1, 255)[number % 2])
    assert min(seen.values()) >= 3  # all of these in each kind


def test_the_sample_holds_everything(examiner: Examiner) -> None:
    """Else the tests below would not test what they seem to."""
    repository = Repository.open(os.fsencode(examiner.root))
    archives = [repository.archive(name) for name in repository.archive_ids()]
    records = [record for archive in archives for _, record in archive.contents()]
    assert {record.depth for record in records} == {0, 1, 2}
    assert any(record.depth == 0 and record.stream == frames.LITERALS for record in records)
    assert any(record.donors for record in records)
    assert any(record.slabs >= 0 for record in records)
    assert {record.stream for record in records} == set(frames.DATA_STREAMS)
    assert {archive.header.epoch for archive in archives} == {0, 1}
    codes = {item.code for archive in archives for number, record in archive.contents()
             if record.map_parts for item in archive.extents(number, record).ranges()}  # fmt: skip
    assert codes == {extents.HOLE, extents.ZEROS, extents.OWN, extents.BASE, extents.DONOR}
    assert {damage.kind_of(name) for name in examiner.sample.files} == {
        "data", "index", "sigs", "points", "tags", "ibtfs.json"}  # fmt: skip
    states = [archive.state(number) for archive in archives
              for number in range(archive.header.states)]  # fmt: skip
    pages = [state for state in states if not isinstance(state, entry.Page)]
    assert max(map(len, pages)) > 2
    keys = {key for state in states if isinstance(state, entry.Page)
            for extra in state.extras.values() for key in extra}  # fmt: skip
    assert {entry.XATTRS, entry.XATTRS_REF, entry.BLOCKS} <= keys
    assert len({p.source.identity for p in repository.points.all().points}) == 2


def test_undamaged(examiner: Examiner) -> None:
    assert examiner.examine(Damage("none", (), "", {})).kind == damage.HARMLESS


def test_bytes_changed(examiner: Examiner) -> None:
    assert bad_outcomes(examiner, sampled_bytes(examiner.sample)) == []


def test_every_byte_of_the_configuration(examiner: Examiner) -> None:
    """A damaged version number once was told without the file's name."""
    config = range(len(examiner.sample.files["ibtfs.json"]))
    flips = (damage.flip(examiner.sample.files, "ibtfs.json", place, value)
             for place in config for value in (1, 2, 255))  # fmt: skip
    assert bad_outcomes(examiner, flips) == []


@pytest.mark.parametrize(
    "kind", ["deleted", "folder", "longer", "zeroed", "truncated", "frames swapped",
             "files swapped", "foreign"],
)  # fmt: skip
def test_files_damaged(examiner: Examiner, kind: str) -> None:
    chosen = damage.damages_of_kind(examiner.sample, kind)
    assert chosen
    step = max(1, len(chosen) // 6)
    assert bad_outcomes(examiner, iter(chosen[::step])) == []


def test_unreadable_sectors(examiner: Examiner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that gives errors costs only what it hit, as damage does."""
    real = os.pread
    bad: set[tuple[int, int]] = set()

    def pread(descriptor: int, size: int, offset: int) -> bytes:
        found = os.fstat(descriptor)
        if (found.st_dev, found.st_ino) in bad:
            raise OSError(5, "Input/output error")
        return real(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", pread)
    for name in examiner.sample.files:
        if name.startswith(("archives/", "points/")):
            st_ = os.stat(examiner.root / name)
            bad.clear()
            bad.add((st_.st_dev, st_.st_ino))
            outcome = examiner.examine(Damage("unreadable", (name,), "EIO", {}))
            assert outcome.kind in GOOD, (name, outcome)


POINT_ID = "20261120T101112Z_host_0a"
MANIFEST_NAME = f"points/{POINT_ID}"

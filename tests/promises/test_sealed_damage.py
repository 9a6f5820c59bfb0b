"""A storage that changes what it holds: nothing false is ever given out of a sealed repository.

Bytes are changed, objects cut, swapped, put back as they were before, or taken from a repository of
the same person; each time all is read, and is as it was or told.
"""

from __future__ import annotations

import itertools
import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibtfs.errors import IbtfsError, WrongKey
from ibtfs.format.config import config_check
from ibtfs.store.repository import Repository
from tests.conftest import in_memory
from tests.support import damage
from tests.support.damage import GOOD, Damage, Examiner
from tests.support.sealing import unlock


@pytest.fixture(scope="module")
def examiner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Examiner]:
    for work in in_memory(tmp_path_factory.mktemp("sealed")):
        with damage.lowered():
            made = damage.build(work / "made", sealed=True)
        yield Examiner(made, work)


def bad_outcomes(examiner: Examiner, damages: Iterator[Damage]) -> list[str]:
    found = []
    for item in damages:
        outcome = examiner.examine(item)
        if outcome.kind not in GOOD:
            found.append(f"{item.kind} {item.hit} {item.what}: {outcome}")
    return found


def test_undamaged(examiner: Examiner) -> None:
    assert examiner.examine(Damage("none", (), "", {})).kind == damage.HARMLESS
    kinds = {damage.kind_of(name) for name in examiner.sample.files}
    assert kinds == {"data", "index", "sigs", "points", "tags", "ibtfs.json", "keys"}


def test_bytes_changed(examiner: Examiner) -> None:
    """In each object, at its beginning, its end, or a place drawn at random between.

    Each of these in each kind of object.
    """
    rng = random.Random(7)
    flips, seen = [], Counter[str]()
    for name, data in examiner.sample.files.items():
        if not data:
            continue
        kind = damage.kind_of(name)
        places = [rng.randrange(12), len(data) - rng.randrange(1, 12), rng.randrange(len(data))]
        place, seen[kind] = places[seen[kind] % 3], seen[kind] + 1
        flips.append(damage.flip(examiner.sample.files, name, place, 1 << rng.randrange(8)))
    assert min(seen["data"], seen["index"], seen["points"]) >= 3
    assert bad_outcomes(examiner, iter(flips)) == []


@pytest.mark.parametrize(
    "kind", ["deleted", "folder", "longer", "zeroed", "truncated", "frames swapped",
             "files swapped", "foreign"],
)  # fmt: skip
def test_files_damaged(examiner: Examiner, kind: str) -> None:
    chosen = damage.damages_of_kind(examiner.sample, kind)
    assert chosen
    step = max(1, len(chosen) // 3)
    assert bad_outcomes(examiner, iter(chosen[::step])) == []


def test_an_object_of_one_kind_is_none_of_another(examiner: Examiner) -> None:
    """Each kind under a name of each other: what it is, is bound into what is authenticated."""
    files = {damage.kind_of(name): name for name, data in examiner.sample.files.items() if data}
    assert len(files) >= 6
    exchanged = [
        Damage("exchanged", (name,), other, {name: examiner.sample.files[other]})
        for name, other in itertools.permutations(files.values(), 2)
    ]
    assert bad_outcomes(examiner, iter(exchanged)) == []


def test_a_point_under_the_name_of_another_is_none(examiner: Examiner) -> None:
    """Nor under a name of later, which would make it the newest."""
    files = examiner.sample.files
    ours = [name for name in files if name.startswith("points/")]
    exchanged = [
        Damage("exchanged", (name,), other, {name: files[other]})
        for name, other in itertools.pairwise([*ours, ours[0]])
    ]
    assert bad_outcomes(examiner, iter(exchanged)) == []
    new = examiner.root / f"{max(ours)[:-10]}{'f' * 10}"
    new.write_bytes(files[min(ours)])
    try:
        found = Repository.open(os.fsencode(examiner.root), unlock=unlock()).points.all()
        assert {point.id for point in found.points} == set(examiner.sample.expected)
        assert len(found.damaged) == 1
    finally:
        new.unlink()


def test_a_configuration_that_says_nothing_is_sealed(examiner: Examiner) -> None:
    """Who gave a key is not led to store anything in clear."""
    values = json.loads(examiner.sample.files["ibtfs.json"])
    del values["sealed"]
    values["check"] = config_check(values)
    path = examiner.root / "ibtfs.json"
    path.write_bytes(json.dumps(values).encode())
    try:
        with pytest.raises(WrongKey, match="is not sealed, though a key"):
            Repository.open(os.fsencode(examiner.root), unlock=unlock())
    finally:
        path.write_bytes(examiner.sample.files["ibtfs.json"])


def test_a_configuration_with_other_values(examiner: Examiner) -> None:
    values = json.loads(examiner.sample.files["ibtfs.json"])
    values["compression"] = 9
    values["check"] = config_check(values)
    path = examiner.root / "ibtfs.json"
    path.write_bytes(json.dumps(values).encode())
    try:
        with pytest.raises(IbtfsError, match="is not the configuration"):
            Repository.open(os.fsencode(examiner.root), unlock=unlock())
    finally:
        path.write_bytes(examiner.sample.files["ibtfs.json"])


def test_plain_objects_among_sealed_ones(examiner: Examiner, tmp_path: Path) -> None:
    """Points, archives and tags as a repository with the same id, and no keys, would have them."""
    with damage.lowered():
        plain = damage.build(tmp_path).files
    ours = examiner.sample.files
    for top in ("points", "archives"):
        theirs = next(name for name in plain if name.startswith(f"{top}/"))
        mine = [name for name in ours if damage.kind_of(name) == damage.kind_of(theirs)]
        for name in mine[:2]:
            item = Damage("plain", (name,), theirs, {name: plain[theirs]})
            assert bad_outcomes(examiner, iter([item])) == []
    before = set(examiner.sample.expected)
    added = [examiner.root / name for name in plain if name.startswith(("points/", "archives/"))]
    try:
        for path in added:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(plain[str(path.relative_to(examiner.root))])
        found = Repository.open(os.fsencode(examiner.root), unlock=unlock()).points.all()
        assert {point.id for point in found.points} == before
        assert len(found.damaged) == len(before)
    finally:
        for path in added:
            path.unlink()


def test_names_that_nobody_with_a_key_made(examiner: Examiner) -> None:
    """Neither do forged names remove archives, nor do they hide points, nor tag them."""
    archive = next(name.split("/")[1] for name in examiner.sample.files if "/index" in name)
    point = next(iter(examiner.sample.expected))
    forged = [f"archives/{archive}/removed", f"archives/{archive}/removed.{'0' * 32}",
              f"forgotten/{point}", f"forgotten/{point}.{'0' * 32}", f"tags/{point}/keep",
              f"copied/{'0' * 32}-{point}", f"copied/{'0' * 32}-{point}.{'0' * 32}"]  # fmt: skip
    repository = Repository.open(os.fsencode(examiner.root), unlock=unlock())
    tags = repository.points.tags(point)
    for name in forged:
        path = examiner.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        try:
            again = Repository.open(os.fsencode(examiner.root), unlock=unlock())
            assert archive in again.archive_ids(), name
            assert not again.points.forgotten(), name
            assert again.points.tags(point) == tags, name
            assert again.storage.list("copied") == [], name
        finally:
            path.unlink()

"""A machine that only writes and was taken over: its lies are told, and harm nobody else's points.

Whoever has it has its keys and all that it knows, and puts what he likes where he likes.
"""

from __future__ import annotations

import copy
import dataclasses
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ibtfs.actions.backup.run import BackupOptions, backup
from ibtfs.actions.observer import Observer
from ibtfs.actions.prune.run import PruneOptions, prune
from ibtfs.errors import FormatDamaged, IntegrityError
from ibtfs.format.compression import Codec
from ibtfs.format.frames import HEADER, SMALL, Address
from ibtfs.format.index import IndexHeader, Reference
from ibtfs.format.objects import HEAD_SIZE
from ibtfs.format.packing import pack_bodies
from ibtfs.format.point import Origin, Point, encode_point, made_seconds
from ibtfs.format.tables import StreamTable, encode_end
from ibtfs.sealing.writers import WriterKeys
from ibtfs.store import layout
from ibtfs.store.archives.writer import ArchiveWriter, compression_pool
from ibtfs.store.contents.reader import Contents
from ibtfs.store.naming import by_source
from ibtfs.store.pins import Pins, Watch
from ibtfs.store.points import PointList
from ibtfs.store.sealing import PLACES
from tests.conftest import in_memory
from tests.support import Entry, snapshot
from tests.support.independent_reader import IndependentReader
from tests.support.repositories import damages, restored_tree, the_point
from tests.support.sealing import create_sealed, open_sealed
from tests.support.trees import make_tree
from tests.support.writers import Machine, changes_of

SECRETS = os.urandom(30_000)


@dataclasses.dataclass
class Scene:
    """A repository of three honest parties: *laptop*, *desk* and who has all keys, with a point or
    two of each; *laptop* is taken over then."""

    place: Path
    scratch: Path
    laptop: Machine
    desk: Machine
    trees: dict[str, dict[bytes, Entry]]
    mine: Point
    theirs: Point
    owners: Point

    def found(self) -> PointList:
        return open_sealed(self.place).points.all()

    def put(self, name: str, data: bytes) -> Path:
        path = self.place / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return path

    def forged(self, keys: WriterKeys | None = None, **changes: Any) -> str:
        """The id of a point of the laptop, right but for *changes*, that lies there now."""
        keys = keys or self.laptop.keys()
        run = keys.begin_run(time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()))
        changes.setdefault("time_ns", (made_seconds(run) or 0) * 1_000_000_000)
        host = changes.pop("host", "laptop")
        path = changes.pop("path", self.mine.source.path)
        source = dataclasses.replace(self.mine.source, host=host, path=path)
        point = dataclasses.replace(self.mine, source=source, **{"id": run, **changes})
        name = f"points/{run}"
        self.put(name, encode_point(dataclasses.replace(point, id=run), name, keys, Codec(1)))
        return run

    def require_whole(self, *left_out: str) -> None:
        """That all honest points are there, and as they were."""
        repository = open_sealed(self.place)
        found = {point.id: point for point in repository.points.all().points}
        for point_id, tree in self.trees.items():
            if point_id not in left_out:
                target = self.scratch / f"back-{point_id}"
                assert restored_tree(repository, found[point_id], target) == tree


@pytest.fixture
def scene(honest: Scene, tmp_path: Path) -> Iterator[Scene]:
    """A copy of it, in which all honest points are whole at the end."""
    shutil.copytree(honest.scratch, tmp_path / "copy", symlinks=True)
    place, scratch = tmp_path / "copy/repo", tmp_path / "copy"
    machines = [copy.copy(one) for one in (honest.laptop, honest.desk)]
    for one in machines:
        one.place, one.folder = place, scratch / one.host
    made = dataclasses.replace(honest, place=place, scratch=scratch, laptop=machines[0],
                               desk=machines[1], trees=dict(honest.trees))  # fmt: skip
    yield made
    made.require_whole()


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield from in_memory(tmp_path_factory.mktemp("honest"))


@pytest.fixture(scope="module")
def honest(memory: Path) -> Scene:
    tmp_path = memory / "honest"
    tmp_path.mkdir()
    place, source = tmp_path / "repo", tmp_path / "source"
    create_sealed(place)
    make_tree(source, {"a": b"one\n" * 500, "secret": SECRETS, "large": os.urandom(400_000)})
    laptop, desk = (Machine(place, tmp_path / name, name) for name in ("laptop", "desk"))
    trees = {}
    for machine in (laptop, desk):
        trees[the_point(machine.back_up(source)).id] = snapshot(source)
    owners = the_point(backup(open_sealed(place), os.fsencode(source),
                              BackupOptions(host="tower"), Observer()))  # fmt: skip
    trees[owners.id] = snapshot(source)
    (source / "a").write_bytes(b"two\n" * 700)
    for machine in (laptop, desk):
        trees[the_point(machine.back_up(source)).id] = snapshot(source)
    points = open_sealed(place).points.all().points
    mine = [point for point in points if point.source.host == "laptop"][-1]
    theirs = [point for point in points if point.source.host == "desk"][-1]
    return Scene(place, tmp_path, laptop, desk, trees, mine, theirs, owners)


def refused(scene: Scene, point_id: str, why: str) -> None:
    """That a point counts as damage, for this reason, and no other is missing."""
    found = scene.found()
    assert {point.id for point in found.points} == set(scene.trees)
    assert why in str(found.damaged[point_id])


def test_what_is_right_counts(scene: Scene) -> None:
    """Else the others would show nothing."""
    made = scene.forged()
    assert made in {point.id for point in scene.found().points}
    assert scene.found().damaged == {}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"host": "desk"}, "may only make points of 'laptop'"),
        ({"host": "tower"}, "may only make points of 'laptop'"),
        ({"host": ""}, "may only make points of 'laptop'"),
        ({"replaces": "theirs"}, "may not make points of"),
        ({"replaces": "mine"}, "may not make points of"),
        ({"origin": Origin(b"r" * 16, "another-0")}, "may not make points of"),
        ({"state": "theirs"}, "may not make points of"),
        ({"state": "owners"}, "may not make points of"),
        ({"sequence": 1 << 39}, "a number beyond"),
        ({"epoch": 1 << 39}, "a number beyond"),
    ],
)
def test_a_point_that_says_more_than_it_may(
    scene: Scene, changes: dict[str, Any], why: str
) -> None:
    word = changes.get("replaces")
    if word:
        changes = {"replaces": (getattr(scene, word).id,)}
    if "state" in changes:
        changes = {"state": getattr(scene, changes["state"]).state}
    refused(scene, scene.forged(**changes), why)


def test_a_point_that_another_machine_signed_or_nobody(scene: Scene) -> None:
    held = scene.laptop.secrets
    for seed in (scene.desk.secrets.seed, os.urandom(32)):
        keys = WriterKeys(dataclasses.replace(held, seed=seed), PLACES)
        refused(scene, scene.forged(keys), "its machine did not sign it")
    for tag in (scene.desk.secrets.tag, "01234567"):
        keys = WriterKeys(dataclasses.replace(held, tag=tag), PLACES)
        made = scene.forged(keys, host="desk")
        refused(scene, made, "sign it" if tag == scene.desk.secrets.tag else "owner did not let")


def test_numbers_that_come_before_all_others(scene: Scene) -> None:
    """They order its own points; others go on counting, and a full backup is one."""
    now = int(time.time())
    forged = scene.forged(sequence=100 * now, epoch=now)
    source = scene.scratch / "source"
    point = the_point(backup(open_sealed(scene.place), os.fsencode(source),
                             BackupOptions(host="tower", full=True), Observer()))  # fmt: skip
    assert point.sequence < 1 << 20
    assert point.epoch < 1 << 20
    same = the_point(backup(open_sealed(scene.place), scene.mine.source.path,
                            BackupOptions(host="laptop"), Observer()))  # fmt: skip
    assert same.sequence == 100 * now + 1
    assert same.id in {point.id for point in scene.found().points}
    assert [told.partition(":")[0] for told in damages(open_sealed(scene.place))] == [
        f"points/{forged}"
    ]


def test_names_of_others_sources_are_not_taken(scene: Scene) -> None:
    before = by_source(scene.found().points)
    assert set(before) == {"source", "source@laptop", "source@desk"}
    source = scene.mine.source
    for display in ("source", "source@desk", "source@laptop", "x" * 255):
        for path in (source.path, b"/other/" + display.encode()):
            scene.forged(display=display, path=path)
    after = by_source(scene.found().points)
    for name in ("source", "source@desk"):
        assert [p.id for p in after[name]] == [p.id for p in before[name]]
    assert all(name.partition("-")[0].endswith("@laptop") for name in set(after) - set(before))
    assert all(len(name.encode()) <= 255 for name in after)


def test_a_run_is_not_played_again(scene: Scene) -> None:
    """A manifest under another id, an archive under another name, a point that was forgotten."""
    data = (scene.place / "points" / scene.mine.id).read_bytes()
    keys = scene.laptop.keys()
    for run in (keys.begin_run("20261129T072334Z"), scene.mine.id[:-8] + "01234567",
                f"20261129T072334Z_{scene.mine.id.partition('_')[2]}"):  # fmt: skip
        scene.put(f"points/{run}", data)
        refused(scene, run, "is not what was sealed there")
        (scene.place / "points" / run).unlink()
    run = keys.begin_run("20261129T072334Z")
    folder = scene.place / "archives" / scene.mine.state.archive
    shutil.copytree(folder, scene.place / "archives" / f"{run}.0")
    with pytest.raises(FormatDamaged):
        open_sealed(scene.place).archive(f"{run}.0").require_header()
    shutil.rmtree(scene.place / "archives" / f"{run}.0")
    (scene.scratch / "pins").mkdir()
    owner, pins = open_sealed(scene.place), Pins(os.fsencode(scene.scratch / "pins"))
    Watch(pins, owner, 1).remember()
    owner.points.remove(scene.mine.id)
    shutil.copytree(scene.place, scene.scratch / "before")
    prune(owner, PruneOptions(), Observer())
    Watch(pins, open_sealed(scene.place), 1).remember()
    scene.put(f"points/{scene.mine.id}", data)
    assert Watch(pins, open_sealed(scene.place), 1).alarms() == []
    found = scene.found()
    assert {point.id for point in found.points} == set(scene.trees) - {scene.mine.id}
    assert "was removed, and was put there again" in str(found.damaged[scene.mine.id])
    shutil.rmtree(scene.place)
    shutil.copytree(scene.scratch / "before", scene.place)
    scene.put(f"points/{scene.mine.id}", data)


def files_of(scene: Scene, point: Point) -> list[Path]:
    return sorted((scene.place / "archives" / point.state.archive).iterdir())


def swapped(one: Path, other: Path, first: int, last: int) -> None:
    """Exchange the bytes of two files from *first* to *last*, counted from their ends."""
    datas = [bytearray(path.read_bytes()) for path in (one, other)]
    cuts = [slice(len(data) - first, len(data) - last) for data in datas]
    datas[0][cuts[0]], datas[1][cuts[1]] = datas[1][cuts[1]], datas[0][cuts[0]]
    for path, data in zip((one, other), datas):
        path.write_bytes(data)


def test_archives_and_their_envelopes_are_not_exchanged(scene: Scene) -> None:
    """Nor files of one machine's, nor with another machine's, nor with the owner's."""
    mine = files_of(scene, scene.mine)
    for point in (scene.theirs, scene.owners):
        theirs = files_of(scene, point)
        for one in mine:
            for other in theirs:
                if one.name != other.name:
                    continue
                kept = [path.read_bytes() for path in (one, other)]
                one.write_bytes(kept[1])
                with pytest.raises(IntegrityError):
                    open_sealed(scene.place).archive(scene.mine.state.archive).require_header()
                one.write_bytes(kept[0])
    first, *_ = (p for p in scene.found().points if p.source.host == "laptop" and p.full)
    one, other = (next(path for path in files_of(scene, p) if path.name == "index.1")
                  for p in (scene.mine, first))  # fmt: skip
    kept = [path.read_bytes() for path in (one, other)]
    places = [data.rindex(b"\2\1" + scene.laptop.secrets.master) for data in kept]
    changed = [bytearray(data) for data in kept]
    cuts = [slice(place, place + 1178) for place in places]
    changed[0][cuts[0]], changed[1][cuts[1]] = kept[1][cuts[1]], kept[0][cuts[0]]
    for path, data in zip((one, other), changed):
        path.write_bytes(data)
        archive = path.parent.name
        with pytest.raises(FormatDamaged):
            open_sealed(scene.place).archive(archive).require_header()
    for path, whole in zip((one, other), kept):
        path.write_bytes(whole)


@pytest.mark.parametrize("mode", [0, 1, 3, 4, 255])
def test_the_mode_of_an_envelope_is_not_changed(scene: Scene, mode: int) -> None:
    manifest = scene.place / "points" / scene.mine.id
    kept = manifest.read_bytes()
    assert kept[HEAD_SIZE] == 2
    manifest.write_bytes(kept[:HEAD_SIZE] + bytes((mode,)) + kept[HEAD_SIZE + 1 :])
    assert scene.mine.id in scene.found().damaged
    manifest.write_bytes(kept)
    index = next(path for path in files_of(scene, scene.mine) if path.name == "index.1")
    kept = index.read_bytes()
    place = kept.rindex(b"\2\1" + scene.laptop.secrets.master)
    index.write_bytes(kept[:place] + bytes((mode,)) + kept[place + 1 :])
    with pytest.raises(Exception, match=r"index\.1|index: sealed in a way"):
        open_sealed(scene.place).archive(scene.mine.state.archive).require_header()
    index.write_bytes(kept)
    theirs = scene.place / "points" / scene.owners.id
    kept = theirs.read_bytes()
    theirs.write_bytes(kept[:HEAD_SIZE] + b"\2" + kept[HEAD_SIZE + 1 :])
    assert scene.owners.id in scene.found().damaged
    theirs.write_bytes(kept)


def put_later(scene: Scene, point: Point, make: Callable[[bytes], bytes]) -> list[Path]:
    """Second generations of the files of the archive of *point*, beside the first."""
    return [scene.put(f"archives/{point.state.archive}/{path.name[:-1]}2", make(path.read_bytes()))
            for path in files_of(scene, point)]  # fmt: skip


def test_both_readers_see_through_what_lies_beside(scene: Scene) -> None:
    for point in (scene.mine, scene.theirs, scene.owners):
        put_later(scene, point, os.urandom(300).__add__)
    found = IndependentReader(str(scene.place)).points()
    assert {one.values["id"] for one in found} == set(scene.trees)
    for one in found:
        expected = scene.trees[one.values["id"]].keys() | {b""}
        assert {path for path, _ in one.entries()} == expected


@pytest.mark.parametrize("whose", ["mine", "theirs", "owners"])
@pytest.mark.parametrize("kind", ["the same", "noise", "nothing", "cut"])
def test_later_generations_hide_nothing(scene: Scene, whose: str, kind: str) -> None:
    """Though they are put beside the true ones; nor does pruning remove these for them."""
    makes: dict[str, Callable[[bytes], bytes]] = {
        "the same": lambda data: data, "noise": lambda data: os.urandom(len(data)),
        "nothing": lambda _: b"", "cut": lambda data: data[:-70],
    }  # fmt: skip
    put = put_later(scene, getattr(scene, whose), makes[kind])
    scene.require_whole()
    first = [path for path in put if path.name.startswith("index")]
    assert first
    owner = open_sealed(scene.place)
    gone = next(p.id for p in scene.found().points if p.source.host == "desk" and p.full)
    owner.points.remove(gone)
    del scene.trees[gone]
    prune(owner, PruneOptions(all_of_it=True), Observer())
    for path in put:
        before = path.with_name(f"{path.name[:-1]}1")
        later = [one for one in path.parent.glob(f"{path.name[:-1]}*") if one not in (path, before)]
        assert before.exists() or later
    scene.require_whole()
    source = scene.scratch / "source"
    for host in ("tower", "laptop"):
        made = backup(open_sealed(scene.place), os.fsencode(source), BackupOptions(host=host),
                      Observer())  # fmt: skip
        scene.trees[the_point(made).id] = snapshot(source)


def test_a_later_generation_that_is_well_made_is_none(scene: Scene) -> None:
    """By who has the key of the run still, and makes of its own archive something else."""
    archive, keys = lying_archive(scene, lambda writer: writer.add_whole(SMALL, bytes(32), b"x"))
    name = layout.archive_object(archive, layout.INDEX)
    frames = keys.new_frames(name)
    header = IndexHeader((archive,), 0, 0, 0, has_data=False, has_sigs=False)
    data = frames.encode(Address(HEADER, 0, 1), pack_bodies([header.encode()]), Codec(1))
    tables = {HEADER: StreamTable()}
    tables[HEADER].add(0, 1, 0, len(data), mark=frames.mark(data))
    for generation in (2, 3):
        end = encode_end(frames, keys.repository, tables, len(data), Codec(1),
                         generation=generation)  # fmt: skip
        scene.put(f"{name}.{generation}", data + end)
    repository = open_sealed(scene.place)
    assert repository.archive(archive).generation == 1
    assert repository.archive(archive).header.contents == 1
    (path,) = (scene.place / "archives" / archive).glob("index.1")
    path.unlink()
    with pytest.raises(FormatDamaged, match=r"index: is not what was sealed there"):
        open_sealed(scene.place).archive(archive).require_header()


def lying_archive(scene: Scene, lie: Callable[[ArchiveWriter], object]) -> tuple[str, WriterKeys]:
    """An archive of the laptop that is right but for a *lie*; it is there now."""
    keys = scene.laptop.keys()
    run = keys.begin_run(time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()))
    storage = open_sealed(scene.place).storage
    with compression_pool() as pool:
        writer = ArchiveWriter(storage, keys, f"{run}.0", epoch=0, codec=Codec(1), pool=pool)
        lie(writer)
        writer.finish()
    return f"{run}.0", keys


def test_an_archive_that_leads_to_what_others_stored(scene: Scene) -> None:
    """Who restores the points of a machine on it would bring it what it may not read."""
    for other in (scene.theirs, scene.owners):
        archive, _ = lying_archive(scene, lambda writer: _lead_to(writer, other))
        with pytest.raises(FormatDamaged, match="leads to what others stored"):
            open_sealed(scene.place).archive(archive).require_header()


def _lead_to(writer: ArchiveWriter, other: Point) -> None:
    writer.add_whole(SMALL, bytes(32), b"x")
    writer.ordinal(other.state.archive)


def test_lies_about_contents_are_believed_by_nobody_else(scene: Scene) -> None:
    """A record with the digest of a file that somebody will back up, and other bytes."""
    secret = os.urandom(70_000)
    digests = scene.laptop.keys().digests
    archive, _ = lying_archive(
        scene,
        lambda writer: writer.add_whole(SMALL, digests.content(secret), b"evil" * 17_500),
    )
    source = scene.scratch / "source"
    (source / "victim").write_bytes(secret)
    owner = open_sealed(scene.place)
    assert archive in owner.archive_ids()
    made = the_point(backup(owner, os.fsencode(source), BackupOptions(host="tower"), Observer()))
    scene.trees[made.id] = snapshot(source)
    scene.trees[the_point(scene.desk.back_up(source)).id] = snapshot(source)
    scene.require_whole()
    contents = Contents(open_sealed(scene.place))
    with pytest.raises(IntegrityError):
        contents.whole(Reference(archive, 0), 70_000)


def test_what_is_built_upon_lies_is_not_healed_from_them(scene: Scene) -> None:
    """Where the payload of somebody else is damaged, the lie is no copy of it."""
    digests = scene.laptop.keys().digests
    lying_archive(scene, lambda writer: writer.add_whole(
        SMALL, digests.content(SECRETS), b"evil!!" * 5000))  # fmt: skip
    owner = open_sealed(scene.place)
    archive = scene.owners.state.archive
    (number,) = owner.archive(archive).may_hold(digests.content(SECRETS))
    data = scene.place / "archives" / archive / "data.1"
    kept = data.read_bytes()
    data.write_bytes(bytes(len(kept) - 3000) + kept[-3000:])
    with pytest.raises(IntegrityError):
        Contents(open_sealed(scene.place)).read(Reference(archive, number), 0, 100)
    data.write_bytes(kept)


def test_one_that_was_revoked_goes_on_in_vain(scene: Scene) -> None:
    changes_of(scene.place).revoke("laptop")
    scene.laptop.turn_deaf()
    refused(scene, scene.forged(), "may write here no more")
    refused_run = scene.forged(host="desk")
    assert refused_run in scene.found().damaged
    scene.require_whole()

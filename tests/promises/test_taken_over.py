"""A machine that only writes is taken over, with all that it has: what was backed up before stays
whole, and whoever took it over cannot read it. By a server that only appends, and by a bucket that
keeps every version."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ibtfs.errors import IbtfsError, WrongKey
from ibtfs.format.compression import Codec
from ibtfs.format.point import encode_point
from ibtfs.sealing.runs import reader_seed, unwrap_run
from ibtfs.store import layout
from ibtfs.store.repository import Repository
from tests.promises.test_append_only import Attacker, is_refused
from tests.support import Entry, snapshot
from tests.support.repositories import damages, restored_tree, settle, the_point
from tests.support.s3_versions import Bucket
from tests.support.sealing import create_sealed, open_sealed, sealer, unlock
from tests.support.seaweed import KEY, SECRET, Seaweed, aws_environment, seaweed
from tests.support.sshd import served
from tests.support.trees import make_tree
from tests.support.writers import Machine, changes_of

RCLONE = Path(sys.executable).parent / "rclone"
WORDS = b"what nobody is to read; "
BUCKET = "kept"

Trees = dict[str, dict[bytes, Entry]]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    make_tree(folder, {"a": WORDS * 50, "sub": {"b": os.urandom(70_000)},
                       "large": os.urandom(3 << 20)})  # fmt: skip
    settle()
    return folder


def backed_up(machine: Machine, source: Path, turns: int) -> Trees:
    trees = {}
    for turn in range(turns):
        (source / f"new-{turn}").write_bytes(WORDS * (turn + 1))
        settle()
        trees[the_point(machine.back_up(source)).id] = snapshot(source)
    return trees


def require_whole(repository: Repository, trees: Trees, scratch: Path) -> None:
    found = {point.id: point for point in repository.points.all().points}
    for point_id, tree in trees.items():
        target = scratch / f"back-{point_id}"
        assert restored_tree(repository, found[point_id], target) == tree


def require_unreadable(machine: Machine, owner: Path | bytes, stored: dict[str, bytes]) -> None:
    """That nothing which opens what is *stored* is among what the machine has.

    Neither keys of the repository, as its *owner* knows them, nor those of any run.
    """
    opened = unlock()
    Repository.open(os.fsencode(owner), unlock=opened)
    assert opened.found is not None
    secrets, held = opened.found.secrets, machine.secrets
    (master,) = (one.secret for one in secrets.masters.values())
    wanted = [master, secrets.identity, secrets.owner]
    for name, data in stored.items():
        place = data.rfind(b"\2\1" + held.master)
        if place >= 0:
            run_id = layout.run_of_object(name)
            seed = reader_seed(master, held.repository)
            wrapped = data[place + 10 : place + 1178]
            wanted.append(unwrap_run(run_id, wrapped, seed, held.repository).key)
            with pytest.raises(IbtfsError, match="only writes"):
                machine.keys().frames(name, data[place : place + 1178])
    assert len(set(wanted)) > 5
    kept = [path.read_bytes() for path in machine.folder.rglob("*") if path.is_file()]
    has = b"".join((*kept, *(value for value in vars(held).values() if type(value) is bytes)))
    assert not any(key in has for key in wanted)
    assert not any(WORDS in data for data in (has, *stored.values()))


def forged(machine: Machine, like: str, **changes: Any) -> tuple[str, bytes]:
    """A point that the machine signs, right but for *changes*."""
    repository, keys = machine.opened(), machine.keys()
    point = repository.points.get(like)
    now = int(time.time())
    run_id = keys.begin_run(time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now)))
    host = changes.pop("host", point.source.host)
    changed = dataclasses.replace(
        point,
        id=run_id,
        time_ns=now * 1_000_000_000,
        parent="",
        source=dataclasses.replace(point.source, host=host),
        **changes,
    )
    name = f"points/{run_id}"
    return name, encode_point(changed, name, keys, Codec(1))


# By a server that only appends


def test_by_a_server_that_only_appends(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine backs up by a forced command that gives no contents; then it turns."""
    folder = tmp_path / "repo"
    create_sealed(folder)
    machine = Machine(folder, tmp_path / "state", "laptop")
    desk = Machine(folder, tmp_path / "desk", "desk")
    trees = backed_up(desk, source, 1)
    with served(tmp_path / "sshd") as server:
        monkeypatch.setenv("PATH", server.path)
        known = tmp_path / "sshd/known_users"
        known.write_text('command="ibtfs serve-store --append-only --write-only '
                         f'{folder}",restrict ' + known.read_text())  # fmt: skip
        machine.place = os.fsencode(f"ssh://127.0.0.1:{server.port}{folder}")
        trees |= backed_up(machine, source, 3)
        (tmp_path / "else").mkdir()
        other = Machine(folder, tmp_path / "else", "tower")
        other.place = machine.place
        changes_of(folder).revoke("tower")
        with pytest.raises(WrongKey, match="was revoked"):  # also by a server that gives nothing
            other.back_up(source)
    machine.place = folder
    assert machine.notes == []
    points = open_sealed(folder).points.all().points
    assert [point.full for point in points if point.source.host == "laptop"] == [True, False, False]
    stored = {str(path.relative_to(folder)): path.read_bytes()
              for path in folder.rglob("*") if path.is_file()}  # fmt: skip
    require_unreadable(machine, folder, stored)

    attacker = Attacker(folder, "--append-only")
    try:
        attacker.lease()
        for name in stored:
            is_refused(attacker, "delete", name)
            with pytest.raises(IbtfsError):
                attacker.put(name)
            with pytest.raises(IbtfsError):
                attacker.put(name, in_place=True)
            if name.startswith("archives"):
                with pytest.raises(IbtfsError):
                    attacker.put(f"{name[:-1]}2")
        for change in ({"host": "desk"}, {"replaces": tuple(trees)}, {"sequence": 1 << 39},
                       {"comment": "true or not"}):  # fmt: skip
            attacker.put(*forged(machine, list(trees)[-1], **change))
    finally:
        attacker.channel.close()
    left = {name: (folder / name).read_bytes() for name in stored}
    assert left == stored
    found = open_sealed(folder).points.all()
    assert len(found.damaged) == 3
    assert {point.id for point in found.points} > set(trees)
    require_whole(open_sealed(folder), trees, tmp_path)
    assert [told.partition(":")[0] for told in damages(open_sealed(folder))] == [
        f"points/{name}" for name in sorted(found.damaged)
    ]


# By a bucket that keeps every version


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    with seaweed(tmp_path_factory.mktemp("kept") / "s") as server:
        yield server


def test_by_a_bucket_that_keeps_every_version(
    server: Seaweed, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is overwritten and deleted: what was there at a moment before is fetched as it was."""
    aws_environment(monkeypatch)
    bucket = Bucket(server.s3, BUCKET)
    bucket.make()
    place = os.fsencode(f"s3://{BUCKET}/repo?endpoint={server.s3}")
    Repository.create(place, os.urandom(16), sealer=sealer())
    machine = Machine(place, tmp_path / "state", "laptop")
    trees = backed_up(machine, source, 3)
    owner = Repository.open(place, unlock=unlock())
    assert [point.full for point in owner.points.all().points] == [True, False, False]
    require_whole(owner, trees, tmp_path)
    versions = bucket.versions("repo/")
    names = {one.key for one in versions} - {one.key for one in versions if one.is_deletion}
    stored = {key.removeprefix("repo/"): bucket.ask("GET", key) for key in names}
    require_unreadable(machine, place, stored)

    time.sleep(1.1)  # moments are told by the second
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    time.sleep(1.1)
    attacked(bucket, stored)
    with pytest.raises(IbtfsError):
        Repository.open(place, unlock=unlock()).points.all()

    fetched = tmp_path / "fetched"
    subprocess.run(
        [RCLONE, "copy", "--s3-provider", "Other", "--s3-endpoint", server.s3,
         "--s3-access-key-id", KEY, "--s3-secret-access-key", SECRET,
         "--s3-version-at", moment, f":s3:{BUCKET}/repo", fetched],
        env={**os.environ, "RCLONE_CONFIG": "/dev/null"}, check=True, capture_output=True,
    )  # fmt: skip
    again = open_sealed(fetched)
    require_whole(again, trees, tmp_path / "again")
    assert damages(again) == []


def attacked(bucket: Bucket, stored: dict[str, bytes]) -> None:
    """Overwrite every object, delete half of them, put others beside; versions stay."""
    for number, name in enumerate(sorted(stored)):
        bucket.ask("PUT", f"repo/{name}", body=b"evil" * 100)
        if number % 2:
            bucket.ask("DELETE", f"repo/{name}")
        if name.startswith("archives/"):
            bucket.ask("PUT", f"repo/{name[:-1]}2", body=b"evil" * 100)
    for one in bucket.versions("repo/"):
        if not one.is_deletion:
            with pytest.raises(urllib.error.HTTPError):
                bucket.ask("DELETE", one.key, {"versionId": one.id})


def test_a_bucket_in_which_it_may_put_new_objects_only(
    server: Seaweed, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it puts beside others' hides nothing: no version has to be fetched."""
    aws_environment(monkeypatch)
    place = os.fsencode(f"s3://bucket/{tmp_path.name}?endpoint={server.s3}")
    Repository.create(place, os.urandom(16), sealer=sealer())
    machine = Machine(place, tmp_path / "state", "laptop")
    trees = backed_up(machine, source, 2)
    bucket = Bucket(server.s3, "bucket")
    for archive in machine.opened().archive_ids():
        for kind in layout.KINDS:
            bucket.ask("PUT", f"{tmp_path.name}/archives/{archive}/{kind}.2", body=b"evil" * 100)
        for name in ("removed", f"removed.{'0' * 32}"):
            bucket.ask("PUT", f"{tmp_path.name}/archives/{archive}/{name}")
    for point_id in trees:
        bucket.ask("PUT", f"{tmp_path.name}/forgotten/{point_id}.{'0' * 32}")
        bucket.ask("PUT", f"{tmp_path.name}/tags/{point_id}/x")
    for name in ("keys/9", "lists/9"):
        bucket.ask("PUT", f"{tmp_path.name}/{name}.{'0' * 16}", body=b"evil" * 100)
    owner = Repository.open(place, unlock=unlock())
    require_whole(owner, trees, tmp_path)
    assert owner.points.tags(next(iter(trees))) == []

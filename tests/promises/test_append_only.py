"""A machine that makes backups is taken over: by its key, and a server that only appends, whoever
has it destroys, hides and changes nothing that was backed up before."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ibtfs.actions.backup.run import BackupOptions, backup
from ibtfs.actions.observer import Observer
from ibtfs.errors import IbtfsError
from ibtfs.format.compression import Codec
from ibtfs.format.point import Origin, Point, encode_point
from ibtfs.store import layout
from ibtfs.store.repository import Repository
from ibtfs.store.storage.ssh import wire
from ibtfs.store.storage.ssh.channel import StoreChannel
from ibtfs.store.storage.ssh.client import replied
from ibtfs.store.storage.ssh.parts import mark_of
from tests.support import Entry, snapshot
from tests.support.bundles import bundles, make_points, put_together
from tests.support.commands import run, run_json
from tests.support.repositories import HOST, back_up, create, damages, settle
from tests.support.sealing import create_sealed, open_sealed
from tests.support.sshd import served
from tests.support.trees import make_tree

SECRET = os.urandom(16)
TOKEN = "0a1b2c3d"
MINE = f"shared_1700000000_attacker_1_{TOKEN}"
SUFFIX = TOKEN + "00112233"
REFUSED = "refused: this server only appends"
NOT_DONE = r"refused|cannot be|is there already"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    make_tree(folder, {"a": b"one\n" * 500, "sub": {"b": os.urandom(70_000)},
                       "large": os.urandom(3 << 20)})  # fmt: skip
    settle()
    return folder


@pytest.fixture
def repository(source: Path, tmp_path: Path) -> Repository:
    """Three points of an honest machine."""
    made = create(tmp_path / "repository")
    for number in range(3):
        with (source / "large").open("r+b") as file:
            file.seek(number * 300_000)
            file.write(os.urandom(2000))
        (source / f"new{number}").write_bytes(os.urandom(9000))
        settle()
        back_up(made, source, tags=("kept",))
    return made


class Attacker:
    """Speaks the protocol as it likes, by a server with *options*."""

    def __init__(self, folder: Path, *options: str, secret: bytes = SECRET) -> None:
        words = [sys.executable, "-m", "ibtfs", "serve-store", *options, str(folder)]
        self.channel = StoreChannel(words, secret, b"")
        self._numbers = iter(range(1, 10_000))

    def ask(self, verb: str, *words: Any, data: bytes = b"") -> wire.Message:
        return replied(self.channel.ask(verb, *words, data=data))

    def put(self, name: str, data: bytes = b"evil", *, in_place: bool = False) -> None:
        """All requests at once, whatever is said to the first."""
        number = next(self._numbers)
        words = (number, False, name, SUFFIX)
        asked = [self.channel.ask("put", *words, in_place),
                 self.channel.ask("write", number, 0, data=data),
                 self.channel.ask("finish", number, len(data))]  # fmt: skip
        failures = [one.result() for one in asked]
        self.ask("abort", *words)
        for reply in failures:
            wire.answer(reply)

    def lease(self) -> None:
        self.ask("lease", False, f"locks/{MINE}", TOKEN, True)


@pytest.fixture
def attacker(repository: Repository, tmp_path: Path) -> Iterator[Attacker]:
    attacker = Attacker(tmp_path / "repository", "--append-only", "--host", "laptop")
    attacker.lease()
    yield attacker
    attacker.channel.close()


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*")) if path.is_file()}  # fmt: skip


def trees_of(folder: Path, target: Path) -> dict[str, dict[bytes, Entry]]:
    """Each point, as it is restored."""
    found = {}
    for one in run_json("list", folder)["points"]:
        run("restore", "-q", folder, one["id"], target)
        found[one["id"]] = snapshot(target)
        shutil.rmtree(target)
    return found


def now_id(digits: str = "aaaaaaaaaaaaaaaaaaaa") -> str:
    return time.strftime("%Y%m%dT%H%M%SZ_laptop_", time.gmtime()) + digits


def is_refused(attacker: Attacker, verb: str, *words: Any) -> None:
    with pytest.raises(IbtfsError, match=NOT_DONE) as caught:
        attacker.ask(verb, *words)
    assert str(caught.value).isprintable()


def forbidden_names(repository: Repository) -> list[str]:
    """What would destroy, hide, replace or steer what is there."""
    old = repository.points.ids()[0]
    archive = repository.archive_ids()[0]
    ours = f"{now_id()}.0"
    return [
        "ibtfs.json", layout.removed(archive), layout.forgotten(old), layout.point(old),
        *(layout.archive_file(archive, kind, n) for kind in layout.KINDS for n in (1, 2, 99)),
        layout.archive_file(ours, "index", 2), layout.removed(ours), f"archives/{ours}/more",
        layout.parity(layout.archive_file(archive, "index", 1), 20), layout.protection_mark(90),
        layout.parity(layout.archive_file(ours, "index", 1), 20), layout.points_parity(1),
        layout.bundle("0123456789abcdef"), layout.damage_note("x-0"), "locks/x",
        f"locks/exclusive_1700000000_x_1_{TOKEN}", layout.tag(old, "hide"), f"tags/{old}/a\nb",
        layout.tag(now_id(), "a\nb"), layout.tag(now_id(), ".x"), layout.tag(now_id(), "x.part"),
        f"points/{now_id()}.part", f"points/{now_id()}/x", "points/x", "points/..", "../x",
        "/etc/ibtfs", "", "archives", "archives/..", "archives/../points/x", "points//x", "a\0b",
        "points/20200101T000000Z_laptop_aaaaaaaaaaaaaaaaaaaa", "new", "new/x", "a/b/c/d/e",
        "archives/20200101T000000Z_laptop_aaaaaaaaaaaaaaaaaaaa.0/index.1",
        f"archives/{old}.7/index.1", f"archives/{ours}/index.1/x", f"archives/{ours}/INDEX.1",
        f"archives/{ours}/index.01", f"archives/{ours}/index.1 ", f"archives/{ours[:-2]}/index.1",
        f"points/{now_id()}\n",
    ]  # fmt: skip


def test_a_machine_that_was_taken_over_changes_nothing_that_was_there(
    repository: Repository, attacker: Attacker, tmp_path: Path
) -> None:
    folder = tmp_path / "repository"
    trees, before = trees_of(folder, tmp_path / "back"), files_of(folder)
    del before[f"locks/{MINE}"]
    listed = run_json("list", folder)["points"]
    theirs = repository.storage.lease("locks/shared_1_h_1_deadbeef", "deadbeef")
    part = repository.storage.put("points/" + now_id("b" * 20))
    part.write(b"1")
    (part_name,) = [n for n in os.listdir(folder / "points") if n.endswith(".part")]

    names = forbidden_names(repository)
    for name in names:
        for in_place in (False, True):
            with pytest.raises(IbtfsError, match=NOT_DONE):
                attacker.put(name, in_place=in_place)
    everything = (*before, part_name, "points", "archives", "locks", "",
                              "locks/shared_1_h_1_deadbeef", f"points/{part_name}")  # fmt: skip
    for name in everything:
        is_refused(attacker, "delete", name)
    attacker.ask("abort", 77, False, "points/x", SUFFIX)
    attacker.ask("abort", 77, False, f"points/{part_name[:-5]}", SUFFIX)
    for word in ("deadbeef", TOKEN, ""):
        is_refused(attacker, "drop", word)
    for kind in ("prune", "exclusive", "shared_1", ""):
        is_refused(attacker, "lease", False, f"locks/{kind}_1_x_1_{TOKEN}", TOKEN, True)
    is_refused(attacker, "lease", False, f"locks/{MINE}", "deadbeef", True)
    is_refused(attacker, "lease", False, f"points/{MINE}", TOKEN, True)
    for anew in (True, False):
        words = (False, "locks/shared_1_h_1_deadbeef", "deadbeef", anew)
        try:
            assert attacker.ask("lease", *words).head[2:] == (False,)
        except IbtfsError:
            assert anew
    attacker.ask("release", "locks/shared_1_h_1_deadbeef")
    with pytest.raises(IbtfsError):
        attacker.ask("refresh", "locks/shared_1_h_1_deadbeef")
    with pytest.raises(IbtfsError):
        attacker.ask("resume", 78, False, f"points/{part_name}", SUFFIX, False, 0)
    for verb in ("create", "make folders"):
        try:
            attacker.ask(verb, True)
        except IbtfsError:
            assert verb == "create"

    assert theirs.is_in_place()
    part.abort()
    theirs.release()
    left = {n: data for n, data in files_of(folder).items() if n != f"locks/{MINE}"}
    assert left == before
    attacker.ask("release", f"locks/{MINE}")
    assert trees_of(folder, tmp_path / "back") == trees
    assert run_json("list", folder)["points"] == listed
    assert damages(repository) == []


def manifest(repository: Repository, **changes: Any) -> tuple[str, bytes]:
    """A manifest that is right but for *changes*, and its name."""
    last: Point = repository.points.all().points[-1]
    source = replace(last.source, host=changes.pop("host", "laptop"))
    changed = {"id": now_id(), "time_ns": time.time_ns(), "source": source, **changes}
    point = replace(last, **changed)
    name = layout.point(point.id)
    return name, encode_point(point, name, repository.keys, Codec(1))


@pytest.mark.parametrize(
    "changes",
    [{"replaces": True}, {"origin": True}, {"sequence": 1 << 50}, {"epoch": 1 << 50},
     {"host": "testhost"}, {"time_ns": 10**18}, {"time_ns": 4 * 10**18},
     {"id": "20200101T000000Z_a_" + "a" * 20}],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_a_point_that_would_hide_others_or_steer_what_stays(
    repository: Repository, attacker: Attacker, changes: dict[str, Any]
) -> None:
    if "replaces" in changes:
        changes = {"replaces": tuple(repository.points.ids())}
    if "origin" in changes:
        changes = {"origin": Origin(repository.id, repository.points.ids()[0])}
    ids = repository.points.ids()
    with pytest.raises(IbtfsError, match=REFUSED):
        attacker.put(*manifest(repository, **changes))
    assert repository.points.ids() == ids
    good = manifest(repository)
    attacker.put(*good)  # one that does not
    assert len(repository.points.ids()) == len(ids) + 1
    with pytest.raises(IbtfsError, match="is there already"):
        attacker.put(*good)


def test_a_manifest_that_is_none(repository: Repository, attacker: Attacker) -> None:
    name = layout.point(now_id())
    for data in (b"", b"evil", bytes(9 << 20)[: 1 << 20]):
        with pytest.raises(IbtfsError, match=REFUSED):
            attacker.put(name, data)
    number = 500
    attacker.ask("put", number, False, name, SUFFIX, False)
    for at in range(9):
        attacker.ask("write", number, at << 20, data=bytes(1 << 20))
    with pytest.raises(IbtfsError, match="too large"):
        attacker.ask("finish", number, 9 << 20)


def test_what_another_run_has_begun_is_not_added_to(
    repository: Repository, attacker: Attacker, tmp_path: Path
) -> None:
    """While it runs or when it was left; and what is ours is ours by another connection."""
    run_id = now_id("b" * 20)
    theirs = f"archives/{run_id}.0"
    repository.storage.put_new(f"{theirs}/data.1", b"honest")
    for name in (f"{theirs}/index.1", f"{theirs}/sigs.1", f"archives/{run_id}.1/data.1",
                 f"points/{run_id}", f"tags/{run_id}/x"):  # fmt: skip
        with pytest.raises(IbtfsError, match=REFUSED):
            attacker.put(name)
    mine = now_id("c" * 20)
    attacker.put(f"archives/{mine}.0/data.1")
    other = Attacker(tmp_path / "repository", "--append-only", secret=os.urandom(16))
    with pytest.raises(IbtfsError, match="holds no lock"):
        other.put(f"archives/{now_id('d' * 20)}.0/data.1")
    other.ask("lease", False, "locks/shared_1_x_1_deadbeef", "deadbeef", True)
    with pytest.raises(IbtfsError, match="not this client's"):
        other.put(f"archives/{mine}.0/index.1")
    other.channel.close()
    attacker.channel.close()
    again = Attacker(tmp_path / "repository", "--append-only")
    with pytest.raises(IbtfsError, match="not this client's"):
        again.put(f"archives/{mine}.0/index.1")
    assert again.ask("lease", False, f"locks/{MINE}", TOKEN, False).head[2:] == (True,)
    again.put(f"archives/{mine}.0/index.1")
    with pytest.raises(IbtfsError, match="is whole"):
        again.put(f"archives/{mine}.0/sigs.1")
    again.channel.close()


def test_ones_own_uploads_are_ones_own(attacker: Attacker, tmp_path: Path) -> None:
    """They are not given another name, nor written to when they have theirs."""
    mine = now_id("c" * 20)
    attacker.ask("put", 1, False, f"archives/{mine}.0/data.1", SUFFIX, False)
    attacker.ask("write", 1, 0, data=b"x")
    other = Attacker(tmp_path / "repository", "--append-only")
    other.ask("lease", False, "locks/shared_1_x_1_deadbeef", "deadbeef", True)
    for name in (f"archives/{mine}.0/index.1", f"points/{mine}"):
        with pytest.raises(IbtfsError):
            other.ask("resume", 1, False, name, SUFFIX, False, 1)
    reply = other.channel.ask("resume", 1, False, f"archives/{mine}.0/data.1", SUFFIX, False, 0)
    assert reply.result().head[1]  # it is being written
    attacker.ask("finish", 1, 1)
    with pytest.raises(IbtfsError):
        other.ask("resume", 1, False, f"archives/{mine}.0/data.1", SUFFIX, False, 0)
    (part,) = attacker.ask("list", f"archives/{mine}.0", True, "").data.split(b"\0")
    assert part == b"data.1"
    other.channel.close()
    assert mark_of(SECRET) not in os.listdir(tmp_path)


def test_an_archive_in_a_bundle_is_not_hidden(source: Path, tmp_path: Path) -> None:
    made = create(tmp_path / "repository")
    make_points(made, source, 12)
    put_together(made)
    assert bundles(made)
    in_bundles = set(made.archive_ids()) - set(os.listdir(tmp_path / "repository/archives"))
    assert in_bundles
    attacker = Attacker(tmp_path / "repository", "--append-only")
    attacker.lease()
    trees = trees_of(tmp_path / "repository", tmp_path / "back")
    for archive in sorted(in_bundles):
        for kind in layout.KINDS:
            with pytest.raises(IbtfsError, match=REFUSED):
                attacker.put(layout.archive_file(archive, kind, 1))
    attacker.channel.close()
    assert trees_of(tmp_path / "repository", tmp_path / "back") == trees


def test_the_honest_machine_goes_on(
    repository: Repository, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a forced command: backups are taken, all else is refused in one line, and logged."""
    folder = tmp_path / "repository"
    with served(tmp_path / "sshd") as server:
        monkeypatch.setenv("PATH", server.path)
        known = tmp_path / "sshd/known_users"
        known.write_text(f'command="ibtfs serve-store --append-only {folder}",restrict '
                         + known.read_text())  # fmt: skip
        place = f"ssh://127.0.0.1:{server.port}{folder}"
        trees = trees_of(folder, tmp_path / "back")
        for number in range(2):
            (source / f"more{number}").write_bytes(os.urandom(9000))
            settle()
            result = run("backup", "--host", HOST, "--tag", "kept", source, place)
            assert result.stderr == ""
            expected = snapshot(source)
            run("restore", "-q", place, "latest", tmp_path / "back")
            assert snapshot(tmp_path / "back") == expected
            shutil.rmtree(tmp_path / "back")
        points = run_json("list", place)["points"]
        assert len(points) == 5
        old = points[0]["id"]
        refusals = [("forget", "-q", place, old), ("undo", "-q", place), ("prune", "-q", place),
                    ("tag", "add", place, "x", old), ("protect", "--redundancy", "20%", place),
                    ("purge", "-q", "--yes", place, "a")]  # fmt: skip
        for words in refusals:
            failed = run(*words, code=1)
            assert REFUSED in failed.stderr, words
            assert failed.stderr.count("\n") == 1, words
        other = run("list", place + "/other", code=1)
        assert "serves another repository" in other.stderr
        found = trees_of(folder, tmp_path / "back")
        assert {one: found[one] for one in trees} == trees
        assert run_json("check", "--read-data", folder)["damages"] == []
        assert os.listdir(folder / "locks") == []


def test_one_that_gives_no_contents(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "repository"
    with served(tmp_path / "sshd") as server:
        monkeypatch.setenv("PATH", server.path)
        known = tmp_path / "sshd/known_users"
        forced = f'command="ibtfs serve-store --append-only --write-only {folder}",restrict '
        known.write_text(forced + known.read_text())
        place = f"ssh://127.0.0.1:{server.port}{folder}"
        run("backup", "-q", source, place)
        (source / "more").write_bytes(os.urandom(9000))
        settle()
        run("backup", "-q", "--full", source, place)
        failed = run("cat", place, "latest", "large", code=1)
        assert "this server gives no contents" in failed.stderr
    assert run_json("check", "--read-data", folder)["damages"] == []
    run("restore", "-q", folder, "latest", tmp_path / "back")
    assert snapshot(tmp_path / "back") == snapshot(source)


def test_what_is_refused_is_told_on_the_server(repository: Repository, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "ibtfs", "serve-store", "--append-only",
             str(tmp_path / "repository")]  # fmt: skip
    asked = [(0, wire.HELLO, wire.MAGIC, 1, SECRET, b""), (1, "delete", "ibtfs.json")]
    sent = b"".join(bytes(part) for head in asked for part in wire.encoded(head))
    found = subprocess.run(words, input=sent, capture_output=True, check=True)
    assert b"refused 'ibtfs.json': this server only appends" in found.stderr


def test_a_sealed_repository_is_appended_to(source: Path, tmp_path: Path) -> None:
    """What is put is told by its form alone, and no old point is touched."""
    made = create_sealed(tmp_path / "sealed")
    folder = tmp_path / "sealed"
    options = BackupOptions(host="laptop", tags=("kept",))
    first = backup(made, os.fsencode(source), options, Observer()).point
    assert first is not None
    manifest = (folder / "points" / first.id).read_bytes()
    attacker = Attacker(folder, "--append-only")
    try:
        attacker.lease()
        old = f"20200101T000000Z_{'a' * 20}"
        now = time.strftime(f"%Y%m%dT%H%M%SZ_{'a' * 20}", time.gmtime())
        for name, data in ((f"points/{first.id}", manifest), (f"points/{old}", manifest),
                           (f"points/{now}", b"evil"), ("keys/2." + "0" * 16, b"evil"),
                           ("lists/2." + "0" * 16, b"evil"),
                           (f"forgotten/{first.id}.{'0' * 32}", b"")):  # fmt: skip
            with pytest.raises(IbtfsError):
                attacker.put(name, data)
        attacker.put(f"points/{now}", manifest)  # which is that of another point
    finally:
        attacker.channel.close()
    found = open_sealed(folder).points.all()
    assert ([point.id for point in found.points], list(found.damaged)) == ([first.id], [now])
    limited = Attacker(folder, "--append-only", "--host", "laptop")
    try:
        limited.lease()
        later = time.strftime(f"%Y%m%dT%H%M%SZ_{'b' * 20}", time.gmtime())
        with pytest.raises(IbtfsError, match="is not seen"):
            limited.put(f"points/{later}", manifest)
    finally:
        limited.channel.close()


def test_a_machine_that_only_writes_begins_its_runs_now(source: Path, tmp_path: Path) -> None:
    """Else it could make points of the days before it was taken over; a long run goes on."""
    made, folder = create_sealed(tmp_path / "sealed"), tmp_path / "sealed"
    first = backup(made, os.fsencode(source), BackupOptions(host="laptop"), Observer()).point
    assert first is not None
    manifest = (folder / "points" / first.id).read_bytes()

    def ago(days: float, digits: str) -> str:
        return time.strftime(f"%Y%m%dT%H%M%SZ_{digits}", time.gmtime(time.time() - days * 86400))

    attacker = Attacker(folder, "--append-only")
    try:
        attacker.lease()
        for days in (2.1, 29):
            for name in (
                f"points/{ago(days, 'a' * 40)}",
                f"archives/{ago(days, 'a' * 40)}.0/data.1",
            ):
                with pytest.raises(IbtfsError, match="did not begin just now"):
                    attacker.put(name, manifest)
        attacker.put(f"points/{ago(1.9, 'a' * 40)}", manifest)
        attacker.put(f"points/{ago(29, 'a' * 20)}", manifest)  # of who has a key
        (lock,) = (folder / "locks").iterdir()
        long = ago(20, "b" * 40)
        lock.write_text(lock.read_text() + f"{long}\n")  # that it began then
    finally:
        attacker.channel.close()
    again = Attacker(folder, "--append-only")
    try:
        again.lease()
        again.put(f"points/{long}", manifest)
    finally:
        again.channel.close()

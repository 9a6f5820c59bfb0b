"""``ibtfs mount``: what is shown, under which names, to whom; in the background or not."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shlex
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from ibtfs.actions.backup.run import BackupOptions, backup
from ibtfs.actions.observer import Observer
from ibtfs.format.moment import point_name
from ibtfs.store.repository import Repository
from tests.support import CHECKOUT
from tests.support.faking import set_clock
from tests.support.mounts import BINDINGS
from tests.support.prepared import prepared
from tests.support.repositories import HOST, create, reopened
from tests.support.spaces import run_privately
from tests.support.trees import posix_acl

NOBODY = 0xFFFFFFFF
DAY_NS = 86_400 * 10**9


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "ibtfs", *(os.fsdecode(os.fspath(w)) if isinstance(w, Path)
                                             else str(w) for w in words)]  # fmt: skip


def run(*words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run ``ibtfs`` in a process of its own; it must end with *code*."""
    program = [str(prepared()), *command(*words)[3:]]
    result = subprocess.run(
        program, capture_output=True, text=True, errors="surrogateescape", check=False,
        timeout=240, env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )  # fmt: skip
    assert result.returncode == code, result.stderr
    return result


@contextlib.contextmanager
def shown(repository: Path, place: Path, *options: object) -> Iterator[Path]:
    """*repository* mounted by the command, with *options*."""
    place.mkdir(exist_ok=True)
    run("mount", "-q", *options, repository, place)
    try:
        yield place
    finally:
        run("umount", "--lazy", "-q", place)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sources; three points of one: 40 days ago, and two in one second yesterday."""
    place = tmp_path_factory.mktemp("options")
    source, other = place / "documents", place / "photos"
    (source / "sub" / "deep").mkdir(parents=True)
    other.mkdir()
    (source / "file").write_bytes(b"contents")
    (source / "tool").write_bytes(b"#!/bin/sh\necho ran\n")
    (source / "tool").chmod(0o4755)
    (source / "secret").write_bytes(b"secret")
    (source / "secret").chmod(0o600)
    (source / "guarded").write_bytes(b"guarded")
    acl = posix_acl((1, 6, NOBODY), (2, 4, 4242), (4, 0, NOBODY), (16, 4, NOBODY), (32, 0, NOBODY))
    os.setxattr(source / "guarded", "system.posix_acl_access", acl)
    os.setxattr(source / "file", "user.a", b"1")
    for name, target in {
        "sub/deep/absolute": source / "file", "sub/folder": source / "sub", "root": source,
        "outside": "/etc/passwd", "relative": "sub/../file", "brother": f"{source}-other/x",
        "escaping": f"{source}/../photos", "doubled": f"/{source}//./sub/",
    }.items():  # fmt: skip
        os.symlink(target, source / name)
    (source / "gone").mkdir()  # from the second point on
    os.symlink(source / "file", source / "gone" / "link")
    made = create(place / "repository")
    now = time.time_ns() // 10**9 * 10**9  # what comes a little later is of the same second
    for folder, moment_ns in ((source, now - 40 * DAY_NS), (source, now - DAY_NS),
                              (source, now - DAY_NS + 1), (other, now)):  # fmt: skip
        run_at(made, folder, moment_ns)
        shutil.rmtree(folder / "gone", ignore_errors=True)
    return place / "repository"


def run_at(repository: Repository, folder: Path, moment_ns: int) -> None:
    """Back *folder* up as if it were *moment_ns*."""
    with pytest.MonkeyPatch.context() as patch:
        set_clock(patch, moment_ns)
        backup(reopened(repository), os.fsencode(folder), BackupOptions(HOST), Observer())


def names(top: Path) -> list[str]:
    return sorted(set(os.listdir(top / "documents")) - {"latest"})


def moments(repository: Path) -> list[int]:
    points = Repository.open(os.fsencode(repository)).points.all().points
    return sorted(p.time_ns for p in points if p.display == "documents")


def digits(repository: Path) -> list[str]:
    """What each point's id has of its own at its end, the first six of it."""
    points = Repository.open(os.fsencode(repository)).points.all().points
    return [p.id.rpartition("_")[2][:6] for p in points if p.display == "documents"]


# ---- which points, under which names -----------------------------------------------------------


def test_names_by_a_format(repository: Path, tmp_path: Path) -> None:
    old, new, _ = (datetime.fromtimestamp(ns // 10**9) for ns in moments(repository))
    with shown(repository, tmp_path / "mnt", "--point-format", "%Y-%m-%d (%a)") as top:
        first, second = old.strftime("%Y-%m-%d (%a)"), new.strftime("%Y-%m-%d (%a)")
        third = f"{second}-{digits(repository)[2]}"
        assert names(top) == sorted([first, second, third])
        assert os.readlink(top / "documents" / "latest") == third
        assert (top / "documents" / first / "file").read_bytes() == b"contents"


def test_names_in_utc(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    expected = {point_name(ns, timezone.utc) for ns in moments(repository)}
    with shown(repository, tmp_path / "mnt", "--utc") as top:
        assert {re.sub("-[0-9a-f]{6}$", "", name) for name in names(top)} == expected
    with shown(repository, tmp_path / "mnt") as top:
        assert not {re.sub("-[0-9a-f]{6}$", "", name) for name in names(top)} & expected


def test_names_that_samba_looks_for(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    form = "@GMT-%Y.%m.%d-%H.%M.%S"
    made = [datetime.fromtimestamp(ns // 10**9, timezone.utc) for ns in moments(repository)]
    with shown(repository, tmp_path / "mnt", "--utc", "--point-format", form) as top:
        first, second = (moment.strftime(form) for moment in made[:2])
        listed = names(top)
        assert {first, second} <= set(listed)
        assert all(name.startswith((first, second)) for name in listed)
        for name in listed:
            assert stat.S_ISDIR(os.lstat(top / "documents" / name).st_mode)
        assert (top / "documents" / first / "file").read_bytes() == b"contents"
        later = (made[0] + timedelta(seconds=1)).strftime(form)
        assert os.readlink(top / "documents" / later) == first
    (tmp_path / "none").mkdir()
    told = run("mount", "--point-format", form, repository, tmp_path / "none", code=2).stderr
    assert told == f"ibtfs: '{form}' names points in UTC: give --utc as well\n"


@pytest.mark.parametrize(
    "form",
    [
        "%D",
        ".%Y",
        "@%Y",
        "%%n%n",
        "latest",
        "..",
        "%t",
        "a/b",
        "x" * 201,
        "@GMT-%Y",
        "@gmt-%Y.%m.%d-%H.%M.%S",
        "@%Y.%m.%d",
    ],
)
def test_formats_that_make_no_names(form: str, repository: Path, tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    told = run("mount", "--point-format", form, repository, tmp_path / "mnt", code=2).stderr
    assert told.count("\n") == 1
    assert not (tmp_path / "mnt").is_mount()


def test_only_some_sources(repository: Path, tmp_path: Path) -> None:
    with shown(repository, tmp_path / "mnt", "--source", "photos") as top:
        assert os.listdir(top) == ["photos"]
        assert os.stat(top).st_nlink == 3
        assert not (top / "documents").exists()
    with shown(repository, tmp_path / "mnt", "--source=photos", "--source=documents") as top:
        assert sorted(os.listdir(top)) == ["documents", "photos"]
    told = run("mount", "--source", "phots", repository, tmp_path / "mnt", code=1).stderr
    assert "there are: documents, photos" in told


def test_only_some_times(repository: Path, tmp_path: Path) -> None:
    with shown(repository, tmp_path / "mnt") as top:
        every = names(top)
    with shown(repository, tmp_path / "mnt", "--newer", "30d") as top:
        assert names(top) == every[1:]
    with shown(repository, tmp_path / "mnt", "--older", "30d") as top:
        assert (os.listdir(top), names(top)) == (["documents"], every[:1])
        assert os.readlink(top / "documents" / "latest") == every[0]
    with shown(repository, tmp_path / "mnt", "--newer", "30d", "--older", every[1]) as top:
        assert names(top) == every[1:]  # the name of a second is its end
    with shown(repository, tmp_path / "mnt", "--older", "10y") as top:
        assert os.listdir(top) == []
    answer = json.loads(run("mount", "--json", "--newer=30d", repository, tmp_path / "mnt").stdout)
    run("umount", "-q", tmp_path / "mnt")
    assert answer["points"] == 3
    told = run("mount", "--newer", "soon", repository, tmp_path / "mnt", code=2).stderr
    assert "'soon' is no moment" in told


def test_a_name_does_not_depend_on_what_else_is_shown(repository: Path, tmp_path: Path) -> None:
    later = [f"same-{mine}" for mine in digits(repository)[1:]]
    with shown(repository, tmp_path / "mnt", "--point-format=same") as top:
        assert names(top) == sorted(["same", *later])
    with shown(repository, tmp_path / "mnt", "--point-format=same", "--newer=30d") as top:
        assert names(top) == sorted(later)


# ---- owners, modes, links ----------------------------------------------------------------------


@pytest.mark.parametrize("binding", BINDINGS)
def test_owners_and_permissions(binding: str, repository: Path, tmp_path: Path) -> None:
    options = ["--uid", "daemon", "--gid=4321", "--umask=027", "--binding", binding]
    with shown(repository, tmp_path / "mnt", *options) as top:
        point = top / "documents" / "latest"
        for path in (top, top / "documents", point, point / "file", point / "sub"):
            assert (os.stat(path).st_uid, os.stat(path).st_gid) == (1, 4321)
        modes = {name: os.lstat(point / name).st_mode for name in os.listdir(point)}
        assert {n: oct(modes[n] & 0o7777) for n in ("file", "tool", "secret", "sub")} == {
            "file": "0o640", "tool": "0o750", "secret": "0o640", "sub": "0o750",
        }  # fmt: skip
        assert oct(modes["root"] & 0o7777) == "0o777"
        assert oct(os.stat(top).st_mode) == "0o40750"
        assert os.listxattr(point / "guarded") == []
        assert os.listxattr(point / "file") == ["user.a"]
        who = ["setpriv", "--reuid=1234", "--regid=4321", "--clear-groups", "cat"]
        if binding == "fuse3":
            run("umount", "--lazy", "-q", top)
            run("mount", "-q", *options, "--allow-other", repository, top)
            with opened_up(tmp_path):
                assert subprocess.check_output([*who, point / "secret"]) == b"secret"


@contextlib.contextmanager
def opened_up(path: Path) -> Iterator[None]:
    """Let everybody go through the folders above *path*, below /tmp."""
    above = [p for p in (path, *path.parents) if p.stat().st_uid == os.getuid() and p != Path("/")]
    before = {folder: folder.stat().st_mode & 0o7777 for folder in above}
    for folder, mode in before.items():
        folder.chmod(mode | 0o011)
    try:
        yield
    finally:
        for folder, mode in before.items():
            folder.chmod(mode)


@pytest.mark.parametrize("word", ["--uid=nobody-such", "--gid=-1", "--umask=9", "--umask=1777",
                                  "--symlinks=all"])  # fmt: skip
def test_words_that_mean_nothing(word: str, repository: Path, tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    told = run("mount", word, repository, tmp_path / "mnt", code=2).stderr
    assert told.splitlines()[0].startswith("ibtfs: Invalid value for")


@pytest.mark.parametrize("binding", BINDINGS)
def test_links_that_stay_inside(binding: str, repository: Path, tmp_path: Path) -> None:
    source = repository.parent / "documents"
    with shown(repository, tmp_path / "mnt", "--symlinks=inside", "--binding", binding) as top:
        for point in (top / "documents" / "latest", top / "documents" / names(top)[0]):
            targets = {
                "sub/deep/absolute": "../../file", "sub/folder": "../sub", "root": ".",
                "outside": "/etc/passwd", "relative": "sub/../file",
                "brother": f"{source}-other/x", "escaping": f"{source}/../photos",
                "doubled": "sub/",
            }  # fmt: skip
            for name, target in targets.items():
                assert os.readlink(point / name) == target
                assert os.lstat(point / name).st_size == len(target)
            assert (point / "sub/deep/absolute").resolve() == (point / "file").resolve()
            assert os.path.samefile(point / "root", point)
            assert (point / "doubled" / "deep").is_dir()
    with shown(repository, tmp_path / "mnt", "--binding", binding) as top:
        stored = os.readlink(top / "documents" / "latest" / "sub/deep/absolute")
        assert stored == f"{source}/file"


def test_links_stay_inside_in_the_views_over_time(repository: Path, tmp_path: Path) -> None:
    with shown(repository, tmp_path / "mnt", "--symlinks=inside") as top:
        folder, first = top / "documents", names(top)[0]
        for link in (
            f".versions/sub/deep/absolute/{first}", f".versions/gone/link/{first}",
            ".deleted/gone/link", f".changes/{first}/created/sub/deep/absolute",
            f".changes/{names(top)[1]}/deleted/gone/link",
        ):  # fmt: skip
            assert os.path.samefile(folder / link, folder / first / "file"), link
            assert os.lstat(folder / link).st_size == len(os.readlink(folder / link))


# ---- the process -------------------------------------------------------------------------------


@pytest.mark.parametrize("binding", BINDINGS)
def test_programs_run_unless_forbidden(binding: str, repository: Path, tmp_path: Path) -> None:
    with shown(repository, tmp_path / "mnt", "--binding", binding) as top:
        assert subprocess.check_output([top / "documents/latest/tool"]) == b"ran\n"
    with (
        shown(repository, tmp_path / "mnt", "--binding", binding, "--noexec") as top,
        pytest.raises(PermissionError),
    ):
        subprocess.check_output([top / "documents/latest/tool"])


@pytest.mark.parametrize("binding", BINDINGS)
def test_the_mount_table_names_the_repository(
    binding: str, repository: Path, tmp_path: Path
) -> None:
    odd = tmp_path / os.fsdecode(b"a,b \\ \xff\xc3\xa9")
    odd.symlink_to(repository)
    with shown(odd, tmp_path / "mnt", "--binding", binding) as top:
        table = Path("/proc/self/mountinfo").read_bytes().splitlines()
        (line,) = (line for line in table if os.fsencode(top) in line)
        kind, name = line.partition(b" - ")[2].split()[:2]
        plain = re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), name)
        assert (kind, plain) == (b"fuse.ibtfs", os.fsencode(odd))


def test_unmounting_while_in_use(repository: Path, tmp_path: Path) -> None:
    place = tmp_path / "mnt"
    place.mkdir()
    run("mount", "-q", repository, place)
    with open(place / "documents" / "latest" / "file", "rb") as opened:
        told = run("umount", place, code=1).stderr
        assert told == f"ibtfs: {str(place)!r} is in use by a program, or is a working directory\n"
        run("umount", "--lazy", place)
        assert not place.is_mount()
        assert opened.read() == b"contents"


def damage(repository: Path) -> str:
    """Flip a byte of the first frame of the only data that there is; the archive's id."""
    (archive,) = (repository / "archives").iterdir()
    (data,) = list(archive.glob("data.*")) or list(archive.glob("index.*"))
    raw = bytearray(data.read_bytes())
    raw[60] ^= 0xFF
    data.write_bytes(raw)
    return archive.name


@pytest.fixture
def damaged(tmp_path: Path) -> tuple[Path, str]:
    """A repository whose one large file is damaged at its beginning, and the archive's id."""
    source = tmp_path / "documents"
    source.mkdir()
    (source / "large").write_bytes(os.urandom(3_000_000))
    (source / "whole").write_bytes(os.urandom(3_000_000))
    (source / "small").write_bytes(b"well")
    made = create(tmp_path / "repository")
    run_at(made, source, time.time_ns())
    return tmp_path / "repository", damage(tmp_path / "repository")


def damage_is_told(top: Path, log: Any, archive: str) -> None:
    point = top / "documents" / "latest"
    hit = [name for name in ("large", "whole") if is_damaged(point / name)]
    assert len(hit) == 1
    assert is_damaged(point / hit[0])
    with open(point / hit[0], "rb") as file:
        assert len(os.pread(file.fileno(), 4096, 2_500_000)) == 4096  # what was not hit
    assert (point / "small").read_bytes() == b"well"
    lines = log().splitlines()
    assert len(lines) == 1
    for part in (f"archives/{archive}", f"'{hit[0]}'", "point "):
        assert part in lines[0]


def is_damaged(path: Path) -> bool:
    try:
        path.read_bytes()
    except OSError as error:
        return error.errno == errno.EIO
    return False


@pytest.mark.parametrize("binding", BINDINGS)
def test_damage_is_logged_to_a_file(
    binding: str, damaged: tuple[Path, str], tmp_path: Path
) -> None:
    repository, archive = damaged
    options = ["--log-file", tmp_path / "log", "--binding", binding]
    with shown(repository, tmp_path / "mnt", *options) as top:
        damage_is_told(top, (tmp_path / "log").read_text, archive)
    assert re.match(r"\d{4}-\d\d-\d\d .* ibtfs\[\d+\]: ", (tmp_path / "log").read_text())
    told = run("mount", "--log-file", tmp_path / "no/log", repository, tmp_path / "mnt", code=1)
    assert told.stderr == f"ibtfs: {tmp_path}/no/log: No such file or directory\n"


def test_damage_is_logged_by_the_system(damaged: tuple[Path, str], tmp_path: Path) -> None:
    repository, archive = damaged
    place = tmp_path / "place"
    place.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(place / "log.socket"))
        mount = shlex.join(command("mount", "-q", repository, "mnt"))
        script = f"{mount}; cat mnt/documents/latest/* >read || true"
        result = run_privately(place, script)
        assert (result.returncode, result.stderr.count("\n")) == (0, 1), result.stderr
        log.settimeout(5)
        line = log.recv(10_000)
        assert re.match(rb"<27>ibtfs\[\d+\]: point ", line)  # the facility of daemons, an error
        assert archive.encode() in line
        log.setblocking(False)
        with pytest.raises(BlockingIOError):
            log.recv(1)

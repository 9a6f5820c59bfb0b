"""A mount as a part of the system: fstab, systemd, other users, read-only media."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ibtfs.actions.backup.run import BackupOptions, backup
from ibtfs.actions.observer import Observer
from ibtfs.cli.manual import page
from tests.support import CHECKOUT
from tests.support.repositories import HOST, create
from tests.support.spaces import run_privately
from tests.support.trees import posix_acl

PYTHON = f"PYTHONPATH={shlex.quote(str(CHECKOUT))} exec {shlex.quote(sys.executable)}"
HELPER = f"""#!/bin/sh
{PYTHON} -c 'from ibtfs.cli.mount_helper import main; main()' "$@"
"""
IBTFS = f"""#!/bin/sh
{PYTHON} -m ibtfs "$@"
"""
USER = 4242
NOBODY = 0xFFFFFFFF


@pytest.fixture
def repository(tmp_path: Path, place: Path) -> Path:
    """One point of documents and of photos, each; things in it are for some users only.

    The sources lie beside *place*, so everybody could reach them.
    """
    acl = posix_acl((1, 6, NOBODY), (2, 4, USER), (4, 4, NOBODY), (16, 4, NOBODY), (32, 0, NOBODY))
    denying = posix_acl((1, 6, NOBODY), (2, 0, USER), (4, 4, NOBODY), (16, 4, NOBODY),
                        (32, 4, NOBODY))  # fmt: skip
    made = create(tmp_path / "re po")
    for name in ("documents", "photos"):
        source = tmp_path / name
        (source / "closed").mkdir(parents=True)
        (source / "closed" / "inside").write_bytes(b"inside")
        (source / "closed").chmod(0o700)
        for file in ("open", "private", "mine", "group", "allowed", "denied"):
            (source / file).write_bytes(file.encode())
        (source / "private").chmod(0o600)
        (source / "mine").chmod(0o400)
        os.chown(source / "mine", USER, 0)
        (source / "group").chmod(0o640)
        os.chown(source / "group", 0, USER)
        os.setxattr(source / "allowed", "system.posix_acl_access", acl)
        os.setxattr(source / "denied", "system.posix_acl_access", denying)
        backup(made, os.fsencode(source), BackupOptions(HOST), Observer())
    return tmp_path / "re po"


def lines(result: subprocess.CompletedProcess[str]) -> list[str]:
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout.splitlines()


# ---- fstab, mount(8) and systemd ---------------------------------------------------------------


def test_fstab(repository: Path, place: Path) -> None:
    options = "ro,user,exec,allow_other,nofail,_netdev,x-systemd.automount,source=photos,uid=1234"
    spec = str(repository).replace(" ", r"\040")
    fstab = f"{spec} {place}/mnt ibtfs {options} 0 0\n"
    script = """
        mount mnt
        ls mnt
        stat -c %u mnt/photos/latest/open
        findmnt -rno FSTYPE,SOURCE mnt
        findmnt -rno OPTIONS mnt | tr , '\\n' | grep -x -e ro -e allow_other -e nosuid -e noexec
        mount -a    # is mounted already
        findmnt -rno SOURCE mnt | wc -l
        umount mnt
        ls mnt
        mount -a
        ls mnt
    """
    told = lines(
        run_privately(place, script, files={"fstab": fstab}, helpers={"mount.ibtfs": HELPER})
    )
    found = str(repository).replace(" ", r"\x20")
    assert told == [
        "photos", "1234", f"fuse.ibtfs {found}", "ro", "nosuid", "allow_other", "1", "photos",
    ]  # fmt: skip


def test_the_type_of_fuse(repository: Path, place: Path) -> None:
    script = f"""
        mount -t fuse.ibtfs -o source=photos {shlex.quote(str(repository))} mnt
        ls mnt
    """
    helpers = {"mount.fuse.ibtfs": HELPER}
    assert lines(run_privately(place, script, helpers=helpers)) == ["photos"]


def test_a_mount_that_fails_tells_mount(repository: Path, place: Path) -> None:
    script = """
        mkdir full; touch full/x; mkdir empty
        for words in "REPO full" "REPO absent" "empty mnt" "-o sorce=x REPO mnt" \
            "-o umask=9 REPO mnt" "-o source=x REPO mnt" "-f REPO mnt" "-s -o sorce=x REPO mnt"; do
            eval "set -- $words"
            code=0; mount -t ibtfs "$@" >told 2>&1 || code=$?
            echo "$code $(head -n 1 told)"
        done
    """.replace("REPO", shlex.quote(str(repository)))
    found = lines(run_privately(place, script, helpers={"mount.ibtfs": HELPER}))
    codes, told = zip(*(line.split(" ", 1) for line in found), strict=True)
    assert codes == ("32", "32", "32", "1", "1", "32", "0", "0")
    expected = ("is not empty", "", "not an ibtfs repository", "'sorce=x'", "'9' is no umask",
                "No source 'x'", "", "")  # fmt: skip
    for part, line in zip(expected, told, strict=True):
        assert part in line


def units_of_the_manual() -> dict[str, str]:
    found = {}
    for block in page("mounts").split("::\n\n    # /etc/systemd/system/")[1:]:
        name, _, rest = block.partition("\n")
        kept = []
        for line in rest.splitlines():
            if line and not line.startswith("    "):
                break
            kept.append(line[4:])
        found[name] = "\n".join(kept)
    return found


def test_the_units_of_the_manual_are_right(place: Path) -> None:
    units = units_of_the_manual()
    kinds = sorted(name.rpartition(".")[2] for name in units)
    assert kinds == ["mount", "service", "service", "timer"]
    (place / "ibtfs").write_text(IBTFS)
    (place / "ibtfs").chmod(0o755)
    for name, text in units.items():
        assert "/usr/local/bin/ibtfs" in text or not name.endswith("service")
        (place / name).write_text(text.replace("/usr/local/bin/ibtfs", f"{place}/ibtfs"))
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(place / name for name in units)],
        capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    said = [line for line in result.stderr.splitlines() if any(name in line for name in units)]
    assert (result.returncode, said) == (0, [])


# ---- other users -------------------------------------------------------------------------------


AS_USER = """
import importlib, os, pkgutil, sys
import ibtfs
for found in pkgutil.walk_packages(ibtfs.__path__, "ibtfs."):  # the user may not reach these files
    if not found.name.endswith("__main__"): importlib.import_module(found.name)
from ibtfs.fuse.fuse3 import structures
import _strptime, difflib, fuse, grp, json, logging.handlers, pwd, resource, traceback
structures.load()
uid = int(sys.argv[1])
os.setgroups([]); os.setgid(uid); os.setuid(uid)
from ibtfs.cli.main import main
sys.argv[1:] = sys.argv[2:]
main()
"""


def as_user(*words: object) -> str:
    python = [sys.executable, "-c", AS_USER, str(USER), *map(str, words)]
    return shlex.join(python)


# fusermount wants its user to have a name
NAMES = {"passwd": Path("/etc/passwd").read_text() + f"tester:x:{USER}:{USER}::/:/bin/sh\n"}
WHO = f"setpriv --reuid={USER} --regid={USER} --clear-groups"


@pytest.mark.parametrize("binding", ["fuse3", "fuse2"])
def test_others_read_what_the_backup_lets_them(binding: str, repository: Path, place: Path) -> None:
    script = f"""
        {PYTHON.replace("exec ", "")} -m ibtfs mount -q --allow-other --binding {binding} \
            {shlex.quote(str(repository))} mnt
        cd mnt/documents/latest
        for file in open private mine group allowed denied closed/inside; do
            {WHO} cat $file 2>/dev/null || echo "no $file"
            echo
        done
        {WHO} ls closed 2>/dev/null || echo no closed
        {WHO} ls -l . >/dev/null
        cd /
    """
    found = [line for line in lines(run_privately(place, script)) if line]
    expected = ["open", "no private", "mine", "group", "allowed", "no denied", "no closed/inside",
                "no closed"]  # fmt: skip
    if binding == "fuse2":  # libfuse 2 knows no ACLs: what one denies to somebody, all are denied
        expected[4] = "no allowed"
    assert found == expected


@pytest.mark.parametrize("binding", ["fuse3", "fuse2"])
def test_others_read_nothing_that_a_folder_above_the_source_kept_from_them(
    binding: str, place: Path
) -> None:
    home, made = place / "home", create(place / "repo")
    for name in ("docs", "alone"):
        (home / name / "sub").mkdir(parents=True)
        (home / name / "sub" / "file").write_bytes(b"for the owner")
    home.chmod(0o700)
    source = BackupOptions(HOST)
    for path in (home / "docs", home / "alone" / "sub" / "file"):
        backup(made, os.fsencode(path), source, Observer())
    (home / "docs" / "sub" / "file").unlink()
    backup(made, os.fsencode(home / "docs"), source, Observer())
    script = f"""
        {PYTHON.replace("exec ", "")} -m ibtfs mount -q --allow-other --binding {binding} repo mnt
        cd mnt
        ls docs | head -1 >../point
        for path in docs/$(cat ../point)/sub/file file/latest/file docs/.deleted/sub/file \
                docs/.versions/sub/file/$(cat ../point) docs/.changes/$(cat ../point)/created/sub
        do
            test -e $path; {WHO} cat $path 2>&1 || true
            {WHO} ls $(dirname $path) 2>&1 || true
        done
        cat file/latest/file; echo
        stat -c %a docs/latest/. file/latest/.
    """
    # cat and ls, each; what stat shows to root
    *refused, mine, first, second = lines(run_privately(place, script))
    assert len(refused) == 10
    assert all(line.endswith("Permission denied") for line in refused)
    assert (mine, first, second) == ("for the owner", "700", "700")


def test_without_allow_other_others_see_nothing(repository: Path, place: Path) -> None:
    script = f"""
        {PYTHON.replace("exec ", "")} -m ibtfs mount -q {shlex.quote(str(repository))} mnt
        {WHO} ls mnt 2>&1 || true
    """
    assert lines(run_privately(place, script))[-1].endswith("Permission denied")


@pytest.mark.parametrize("binding", ["fuse3", "fuse2"])
def test_a_user_mounts_by_fusermount(binding: str, repository: Path, place: Path) -> None:
    script = f"""
        cp -a {shlex.quote(str(repository))} repo; chown -R {USER}:{USER} repo mnt
        {as_user("mount", "-q", "--binding", binding, "repo", "mnt")}
        {WHO} cat mnt/documents/latest/private; echo
        {WHO} cat mnt/documents/latest/closed/inside; echo
        stat -c %u repo
        cat mnt/documents/latest/open 2>&1 || true      # not even root
        {as_user("umount", "mnt")}
        findmnt mnt || echo unmounted
    """
    found = lines(run_privately(place, script, files=NAMES))
    assert found[:3] == ["private", "inside", str(USER)]
    assert found[3].endswith("Permission denied")
    assert found[4:] == [f"Unmounted {place}/mnt", "unmounted"]


def test_a_user_may_let_others_in_if_the_system_lets_him(repository: Path, place: Path) -> None:
    script = f"""
        cp -a {shlex.quote(str(repository))} repo; chown -R {USER}:{USER} repo mnt
        echo '# nothing' > /etc/fuse.conf
        {as_user("mount", "--allow-other", "repo", "mnt")} 2>told && exit 1
        grep '^ibtfs' told
        echo user_allow_other > /etc/fuse.conf
        {as_user("mount", "-q", "--allow-other", "repo", "mnt")}
        cat mnt/documents/latest/open; echo
        cd mnt/documents/latest
        who='setpriv --reuid=1111 --regid=1111 --clear-groups'
        $who cat open; echo
        $who cat private 2>/dev/null || echo no private
        cd /
    """
    told, *found = lines(run_privately(place, script, files={**NAMES, "fuse.conf": ""}))
    assert "to let others in, /etc/fuse.conf must say user_allow_other" in told
    assert found == ["open", "open", "no private"]


def test_a_user_who_may_not_use_the_device_is_told(repository: Path, place: Path) -> None:
    script = f"""
        cp -a {shlex.quote(str(repository))} repo; chown -R {USER}:{USER} repo mnt
        chmod 600 /dev/fuse
        {as_user("mount", "repo", "mnt")} 2>&1 || echo $?
    """
    told = lines(run_privately(place, script, files=NAMES))
    assert told == ["ibtfs: /dev/fuse may not be used by this user", "1"]


# ---- media that cannot be written --------------------------------------------------------------


def test_a_read_only_medium(repository: Path, place: Path) -> None:
    ibtfs = f"{PYTHON.replace('exec ', '')} -m ibtfs"
    script = f"""
        mkdir medium
        mount -t tmpfs none medium
        cp -a {shlex.quote(str(repository))} medium/repo
        mount -o remount,ro medium
        ! touch medium/repo/x 2>/dev/null
        {ibtfs} mount -q medium/repo mnt
        cat mnt/documents/latest/open; echo
        {ibtfs} check --read-data medium/repo | grep -o 'No damage'
        {ibtfs} list medium/repo | grep -c full
    """
    result = run_privately(place, script, environment={"XDG_CACHE_HOME": "/proc/nowhere"})
    assert lines(result) == ["open", "No damage", "2"]


def test_overlayfs_over_a_mount_takes_its_inode_numbers(place: Path) -> None:
    source = place / "documents"
    for name in range(20):
        (source / str(name) / "sub").mkdir(parents=True)
        (source / str(name) / "sub" / "file").write_bytes(b"x")
    backup(create(place / "repo"), os.fsencode(source), BackupOptions(HOST), Observer())
    script = f"""
        {PYTHON.replace("exec ", "")} -m ibtfs mount -q --binding fuse3 repo mnt
        mkdir own merged
        mount -t tmpfs none own
        mkdir own/upper own/work
        options=xino=on,lowerdir=mnt/documents/latest,upperdir=own/upper,workdir=own/work
        mount -t overlay -o $options none merged
        stat -c %d merged
        find merged -exec stat -c %d {{}} + | sort -u
        touch merged/1/sub/file
        find merged -exec stat -c %d {{}} + | sort -u
        umount merged
    """
    # a number that is too large is another device's for a file
    assert len(set(lines(run_privately(place, script)))) == 1


HANDLES = """
import ctypes, os, sys
libc, here = ctypes.CDLL(None, use_errno=True), os.open(".", os.O_RDONLY)
class Handle(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint), ("kind", ctypes.c_int), ("data", ctypes.c_ubyte * 128)]
def handle(path):
    made, mount = Handle(128), ctypes.c_int()
    failed = libc.name_to_handle_at(-100, os.fsencode(path), ctypes.byref(made),
                                    ctypes.byref(mount), 0)
    assert not failed, os.strerror(ctypes.get_errno())
    return made
def opened(made):
    descriptor = libc.open_by_handle_at(here, ctypes.byref(made), os.O_RDONLY)
    assert descriptor >= 0, os.strerror(ctypes.get_errno())
    return descriptor
point = "documents/" + os.listdir("documents")[0]
file, folder = handle(f"{point}/closed/inside"), handle(f"{point}/closed")
for _ in range(2):
    with open("/proc/sys/vm/drop_caches", "w") as caches:
        caches.write("3")
    with open(opened(file)) as found:
        print(found.read())
    found = opened(folder)
    print(os.listdir(found), os.readlink(f"/proc/self/fd/{found}").endswith(f"/{point}/closed"))
    print(sorted(os.listdir(os.open("..", os.O_RDONLY, dir_fd=found)))[:2])
    os.close(found)
"""


def test_file_handles_lead_to_what_the_kernel_forgot(repository: Path, place: Path) -> None:
    script = f"""
        {PYTHON.replace("exec ", "")} -m ibtfs mount -q --binding fuse3 \
            {shlex.quote(str(repository))} mnt
        cd mnt
        {shlex.quote(sys.executable)} -c {shlex.quote(HANDLES)}
    """
    round_ = ["inside", "['inside'] True", "['allowed', 'closed']"]
    assert lines(run_privately(place, script)) == round_ * 2

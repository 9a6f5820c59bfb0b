"""The process that serves a mount: how it begins, fails, and ends."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from ibtfs import errors
from ibtfs.fuse import MountOptions, serve
from ibtfs.fuse import process as background
from tests.support.fake_view import build
from tests.support.mounts import BINDINGS, Mounting, run


@pytest.mark.parametrize("binding", BINDINGS)
def test_signal_unmounts(mounting: Mounting, binding: str) -> None:
    mounted = mounting(MountOptions(binding=binding))  # type: ignore[arg-type]
    assert mounted.is_mounted()
    os.kill(mounted.pid, signal.SIGTERM)
    mounted.wait_for_end()
    assert not mounted.is_mounted()
    assert os.listdir(mounted.path) == []
    assert mounted.log.read_text() == ""


@pytest.mark.parametrize("binding", BINDINGS)
def test_unmounting_ends_the_server(mounting: Mounting, binding: str) -> None:
    mounted = mounting(MountOptions(binding=binding))  # type: ignore[arg-type]
    with pytest.raises(errors.MountError, match="already mounted"):
        background.check_mountpoint(bytes(mounted.path), b"/nowhere")
    background.unmount(bytes(mounted.path))
    mounted.wait_for_end()
    with pytest.raises(errors.MountError, match="Nothing is mounted"):
        background.unmount(bytes(mounted.path))
    assert mounted.log.read_text() == ""


@pytest.mark.parametrize("binding", BINDINGS)
def test_signal_while_in_use(mounting: Mounting, binding: str) -> None:
    mounted = mounting(MountOptions(binding=binding))  # type: ignore[arg-type]
    with open(mounted.point / "blob", "rb"):
        with pytest.raises(errors.MountError, match="in use"):
            background.unmount(bytes(mounted.path))
        assert mounted.is_mounted()
        os.kill(mounted.pid, signal.SIGTERM)
        mounted.wait_for_end()
        assert not mounted.is_mounted()
    if binding == "fuse3":
        assert "is in use" in mounted.log.read_text()


def answer(path: Path) -> int:
    """What a listing ends with when all threads of the server have ended, too."""
    for _ in range(100):
        try:
            os.listdir(path)
        except OSError as error:
            if error.errno != errno.ECONNABORTED:  # it ended in the middle of this request
                return error.errno or 0
        time.sleep(0.05)
    return 0


@pytest.mark.parametrize("binding", BINDINGS)
def test_mounting_again_after_a_crash(mounting: Mounting, binding: str) -> None:
    options = MountOptions(binding=binding)  # type: ignore[arg-type]
    mounted = mounting(options)
    os.kill(mounted.pid, signal.SIGKILL)
    mounted.wait_for_end()
    with suppress(FileNotFoundError):
        while len(os.listdir(f"/proc/{mounted.pid}/task")) > 1:  # they end after its first one
            time.sleep(0.01)
    time.sleep(0.1)
    assert answer(mounted.path) == errno.ENOTCONN
    again = mounting(options)
    assert (again.point / "odd").read_bytes() == b"odd"


def test_failure_is_told(tmp_path: Path) -> None:
    def fail(_: Callable[[], None]) -> None:
        raise errors.RepositoryLocked("The repository is locked")

    def trip(_: Callable[[], None]) -> None:
        raise RuntimeError("tripped: over it")

    with pytest.raises(errors.RepositoryLocked, match=r"^The repository is locked$"):
        background.run_in_background(fail)
    with pytest.raises(errors.MountError, match=r"^tripped: over it$"):
        background.run_in_background(trip)
    with pytest.raises(errors.MountError, match="unexpectedly"):
        background.run_in_background(lambda _: os._exit(3))


@pytest.mark.parametrize("binding", BINDINGS)
def test_failure_to_mount_is_told(tmp_path: Path, binding: str) -> None:
    view, options = build(tmp_path), MountOptions(binding=binding)  # type: ignore[arg-type]

    def run(on_ready: Callable[[], None]) -> None:
        serve(view, b"/nowhere", options=options, on_ready=on_ready)

    with pytest.raises(errors.MountError, match="Cannot mount"):
        background.run_in_background(run)


@pytest.mark.parametrize("binding", BINDINGS)
def test_failure_when_ready_unmounts(tmp_path: Path, binding: str) -> None:
    place = tmp_path / "mnt"
    place.mkdir()
    view, options = build(tmp_path), MountOptions(binding=binding)  # type: ignore[arg-type]

    def fail() -> None:
        raise errors.LockLost("Nobody waits")

    def run(_: Callable[[], None]) -> None:
        serve(view, bytes(place), options=options, on_ready=fail)

    with pytest.raises(errors.LockLost, match=r"^Nobody waits$"):
        background.run_in_background(run)
    assert os.fsencode(place) not in Path("/proc/self/mountinfo").read_bytes()


def test_missing_libraries_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mfusepy", None)
    monkeypatch.setitem(sys.modules, "fuse", None)
    with pytest.raises(errors.MountError, match=r"apt install fuse3"):
        serve(build(tmp_path), b"/mnt", options=MountOptions(), on_ready=lambda: None)


def test_checks_of_mount_points(tmp_path: Path) -> None:
    store, full, empty = (tmp_path / n for n in ("repo", "full", "empty"))
    for made in (store, full, empty, full / "x", store / "sub"):
        made.mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(store / "sub")

    def check(place: Path, nonempty: bool = False) -> None:
        background.check_mountpoint(bytes(place), bytes(store), nonempty)

    check(empty)
    check(full, nonempty=True)
    cases = {
        tmp_path / "absent": "does not exist; create it",
        tmp_path / "file": "is not a directory",
        full: "is not empty",
        store: "overlap",
        store / "sub": "overlap",
        tmp_path: "overlap",
        tmp_path / "link": "overlap",
    }
    assert not (tmp_path / "absent").exists()
    for place, words in cases.items():
        with pytest.raises(errors.MountError, match=words):
            check(place)


def test_foreign_mounts_are_left_alone() -> None:
    with pytest.raises(errors.MountError, match="not a repository of ibtfs"):
        background.unmount(b"/proc")


def test_serving_within_threads_needs_no_signals(tmp_path: Path) -> None:
    place = tmp_path / "mnt"
    place.mkdir()
    ready = threading.Event()
    view, options = build(tmp_path), MountOptions(binding="fuse3")
    thread = threading.Thread(
        target=serve, args=(view, bytes(place)), kwargs={"options": options, "on_ready": ready.set}
    )
    thread.start()
    assert ready.wait(60)
    try:
        assert run("cat", place / "point/odd").stdout == "odd"
    finally:
        background.unmount(bytes(place), lazy=True)
        thread.join(60)
    assert not thread.is_alive()

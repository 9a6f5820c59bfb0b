"""Mount points and the process behind one: checks, going into the background, unmounting.

Knows of the mount table and of processes, and nothing of what is mounted.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from ibtfs import errors

log = logging.getLogger(__name__)

FILE_SYSTEM_TYPE = b"fuse.ibtfs"
MOUNT_TABLE = "/proc/self/mountinfo"
# The first that is installed is used: (command, and what it is given; then the same for lazy).
UNMOUNTERS: tuple[tuple[str, list[str], list[str]], ...] = (
    ("fusermount3", ["-u"], ["-uz"]),
    ("fusermount", ["-u"], ["-uz"]),
    ("umount", [], ["-l"]),
)
_READY = b"\n"

Serve = Callable[[Callable[[], None]], None]


# The mount table


class _Mount(NamedTuple):
    mountpoint: bytes
    kind: bytes


def _mounts() -> list[_Mount]:
    with open(MOUNT_TABLE, "rb") as file:
        lines = file.read().splitlines()
    mounts = []
    for line in lines:
        before, _, after = line.partition(b" - ")
        mounts.append(_Mount(_unescaped(before.split(b" ")[4]), after.split(b" ")[0]))
    return mounts


def _unescaped(path: bytes) -> bytes:
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), path)


def _mounted_kind(mountpoint: bytes) -> bytes | None:
    """The type of file system that lies uppermost on *mountpoint*; None if it is not one."""
    real = _real(mountpoint)
    return next((m.kind for m in reversed(_mounts()) if m.mountpoint == real), None)


def _real(path: bytes) -> bytes:
    # The last part is not looked at: a dead mount would answer for it.
    parent, name = os.path.split(os.path.abspath(path))
    joined = os.path.join(os.path.realpath(parent), name)
    return os.path.realpath(joined) if os.path.islink(joined) else joined


def _shown(path: bytes) -> str:
    return repr(os.fsdecode(path))


# Mount points


def check_mountpoint(mountpoint: bytes, repository: bytes | None, nonempty: bool = False) -> None:
    """See that *mountpoint* is a place to mount *repository* on, a folder if it is on this machine.

    A mount whose server has died is cleared away.  Raises MountError.
    """
    shown = _shown(mountpoint)
    _clear_dead_mount(mountpoint)
    try:
        names = os.listdir(mountpoint)
    except FileNotFoundError:
        raise errors.MountError(f"Mount point {shown} does not exist; create it first") from None
    except NotADirectoryError:
        raise errors.MountError(f"Mount point {shown} is not a directory") from None
    except OSError as error:
        raise errors.MountError(f"Mount point {shown} cannot be read: {error.strerror}") from error
    if _mounted_kind(mountpoint) == FILE_SYSTEM_TYPE:
        raise errors.MountError(f"A repository is already mounted on {shown}")
    if repository is not None:
        _check_overlap(mountpoint, repository)
    if names and not nonempty:
        raise errors.MountError(f"Mount point {shown} is not empty; --nonempty mounts over it")


def _clear_dead_mount(mountpoint: bytes) -> None:
    try:
        os.stat(mountpoint)
    except OSError as error:
        dead = error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
        if dead and _mounted_kind(mountpoint) == FILE_SYSTEM_TYPE:
            log.warning("The process behind %s is gone; unmounting it", _shown(mountpoint))
            unmount(mountpoint, lazy=True)


def _check_overlap(mountpoint: bytes, repository: bytes) -> None:
    # A repository under its own mount: the server would wait for itself, and the kernel with it.
    place, store = os.path.realpath(mountpoint), os.path.realpath(repository)
    if os.path.commonpath((place, store)) in (place, store):
        raise errors.MountError(
            f"Mount point {_shown(mountpoint)} and repository {_shown(repository)} overlap"
        )


def unmount(mountpoint: bytes, *, lazy: bool = False) -> None:
    """Unmount what is mounted on *mountpoint*; *lazy* even if someone still uses it.

    Raises MountError.
    """
    shown = _shown(mountpoint)
    kind = _mounted_kind(mountpoint)
    if kind is None:
        raise errors.MountError(f"Nothing is mounted on {shown}")
    if kind != FILE_SYSTEM_TYPE:
        raise errors.MountError(f"What is mounted on {shown} is not a repository of ibtfs")
    command = [*_unmounter(lazy), "--", os.fsdecode(_real(mountpoint))]
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if result.returncode == 0:
        return
    if "busy" in result.stderr:
        raise errors.MountError(f"{shown} is in use by a program, or is a working directory")
    raise errors.MountError(f"Cannot unmount {shown}: {' '.join(result.stderr.split())}")


def _unmounter(lazy: bool) -> list[str]:
    for name, normally, lazily in UNMOUNTERS:
        path = shutil.which(name)
        if path is not None:
            return [path, *(lazily if lazy else normally)]
    raise errors.MountError("fusermount3 is missing; install it (Debian: apt install fuse3)")


# The process in the background


def run_in_background(serve: Serve, *, log_path: bytes = os.devnull.encode()) -> None:
    """Run *serve* in a process of its own, and return when it says that it is ready.

    *serve* gets a function to call then.  Must be called before there are any threads.  The
    process has its own session, ``/`` as its working directory (so paths must be absolute), and
    *log_path* for what it says on stderr once it is ready.  Raises what ended it before that, if
    it is an error of ibtfs, and MountError with its message otherwise.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _begin_daemon(serve, writing, log_path)
    os.close(writing)
    with open(reading, "rb") as pipe:
        os.waitpid(child, 0)
        said = pipe.read()
    if said != _READY:
        kind, _, message = said.decode(errors="replace").partition(":")
        raise _error_of(kind)(message or "The mount ended unexpectedly")


def _error_of(kind: str) -> type[errors.IbtfsError]:
    """The error that is called *kind*, if it is one that a message makes."""
    found = getattr(errors, kind, None)
    if isinstance(found, type) and issubclass(found, errors.IbtfsError):
        return found
    return errors.MountError


def _begin_daemon(serve: Serve, pipe: int, log_path: bytes) -> NoReturn:
    # Twice, so that the process belongs to init and can never get a terminal.
    status = 1
    try:
        os.setsid()
        status = _daemon(serve, pipe, log_path) if os.fork() == 0 else 0
    finally:
        os._exit(status)


def _daemon(serve: Serve, pipe: int, log_path: bytes) -> int:
    """The background process; what it is to say in the foreground goes into *pipe*."""
    answered = False

    def on_ready() -> None:
        nonlocal answered
        _redirect(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 2)
        os.write(pipe, _READY)
        os.close(pipe)
        answered = True

    try:
        os.chdir("/")
        _redirect(os.devnull.encode(), os.O_RDWR, 0, 1)
        serve(on_ready)
    except BaseException as error:
        if answered:
            log.error("The mount ended", exc_info=error)
        else:
            line = " ".join(str(error).split()) or repr(error)
            said = f"{type(error).__name__}:{line}"
            os.write(pipe, said.encode(errors="backslashreplace"))
        return 1
    finally:
        logging.shutdown()
    return 0


def _redirect(path: bytes, flags: int, *descriptors: int) -> None:
    opened = os.open(path, flags, 0o600)
    for descriptor in descriptors:
        os.dup2(opened, descriptor)
    if opened not in descriptors:
        os.close(opened)

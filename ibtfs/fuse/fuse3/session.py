"""A mount through libfuse 3, from beginning to end: session, threads, signals.

Owns the session's life.  Requests are received and answered by threads of our own: threads that
libfuse starts would get a new interpreter state for each request.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Literal

from ibtfs import errors
from ibtfs.fuse import process
from ibtfs.fuse.fuse3 import structures
from ibtfs.fuse.fuse3.adapter import Adapter
from ibtfs.fuse.fuse3.reclaiming import Reclaimer
from ibtfs.fuse.options import MountOptions, escaped
from ibtfs.fuse.signals import ending_signals
from ibtfs.view.node import View

log = logging.getLogger(__name__)

MAX_READ = 1 << 20
PATIENCE_SECONDS = 5.0
WAKE_SECONDS = 1.0
_Event = Literal["ready", "ended", "signal"]


def serve(
    view: View, mountpoint: bytes, options: MountOptions, on_ready: Callable[[], None]
) -> None:
    """Mount *view* and answer until it is unmounted, or a signal says to unmount it."""
    events: SimpleQueue[_Event] = SimpleQueue()
    session = Session(view, mountpoint, options, events)
    with ending_signals(lambda *_: events.put("signal")) as interruptible:
        session.start()
        try:
            event = next_event(events)
            if event == "ready":
                session.confirm()
                on_ready()
                next_event(events)
            elif event == "ended":
                raise errors.MountError(_why_not(mountpoint, options))
        finally:
            session.end(interruptible)


def next_event(events: SimpleQueue[_Event]) -> _Event:
    """The next of *events*, which signals put too.

    A signal that another thread is given, or that comes just before the wait, does not end it: its
    handler runs when the main thread wakes up.
    """
    while True:
        with contextlib.suppress(Empty):
            return events.get(timeout=WAKE_SECONDS)


class Session:
    """One mounted view, and the threads that answer for it."""

    def __init__(
        self, view: View, mountpoint: bytes, options: MountOptions, events: SimpleQueue[_Event]
    ) -> None:
        self._answered = False
        self._library = library = structures.load()
        self._mountpoint = mountpoint
        self._options = options
        self._events = events
        self._adapter = Adapter(library, view, options)
        operations, kept = self._adapter.operations()
        init = library.init_callback(self._init)
        operations.init = structures.address(init)
        self._kept = (*kept, init, operations)
        pointer = library.session_new(_arguments(options), operations)
        if pointer is None:
            raise errors.MountError("libfuse does not accept the mount options")
        self._pointer = pointer
        self._reclaimer = Reclaimer(
            self._adapter.nodes, functools.partial(library.take_back, pointer)
        )
        self._adapter.shown = self._reclaimer.used
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Mount, and begin to answer.  Raises MountError."""
        if self._library.session_mount(self._pointer, self._mountpoint) != 0:
            self._library.session_destroy(self._pointer)
            raise errors.MountError(_why_not(self._mountpoint, self._options))
        structures.share_one_arena()
        for number in range(max(self._options.threads, 1)):
            thread = threading.Thread(target=self._work, name=f"fuse-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._reclaiming = threading.Thread(
            target=self._reclaimer.run, name="fuse-reclaim", daemon=True
        )
        self._reclaiming.start()

    def confirm(self) -> None:
        """See that the mount answers.  Raises MountError."""
        try:
            device = os.stat(self._mountpoint).st_dev
        except OSError as error:
            raise errors.MountError(f"The mount does not answer: {error}") from error
        self._answered = True
        # The kernel would read 128 KiB ahead; only root may let it do more.
        knob = f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb"
        with contextlib.suppress(OSError), open(knob, "w") as file:
            file.write(str(MAX_READ // 1024))

    def _init(self, _data: int | None, pointer: Any) -> None:
        connection = pointer.contents
        connection.max_read = MAX_READ
        connection.max_readahead = MAX_READ
        connection.want &= ~structures.CAP_READDIRPLUS_AUTO
        wanted = structures.CAP_READDIRPLUS | structures.CAP_CACHE_SYMLINKS
        wanted |= structures.CAP_EXPORT_SUPPORT  # to ask for what it forgot, by a file handle
        # The kernel then keeps ACLs, and goes by them and by the modes; root need not mind.
        if self._options.allow_other or os.geteuid() == 0:
            wanted |= structures.CAP_POSIX_ACL
        connection.want |= wanted & connection.capable
        self._adapter.capable = connection.capable
        self._events.put("ready")

    def _work(self) -> None:
        library, pointer = self._library, self._pointer
        buffer = ctypes.create_string_buffer(library.buffer_size)
        where = ctypes.addressof(buffer)
        while not library.session_exited(pointer):
            received = library.receive_buf(pointer, where)
            if received > 0:
                library.process_buf(pointer, where)
            elif received != -errno.EINTR:
                break
        self._events.put("ended")

    def end(self, interruptible: bool) -> None:
        """Unmount if that was not done from outside, and end the threads."""
        if not (self._answered and self._library.session_exited(self._pointer)):
            _unmount_even_if_busy(self._mountpoint)
        self._reclaimer.end()
        self._library.session_exit(self._pointer)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while any(t.is_alive() for t in self._threads) and time.monotonic() < deadline:
            self._wake(interruptible)
        self._reclaiming.join(PATIENCE_SECONDS)
        if not any(thread.is_alive() for thread in (*self._threads, self._reclaiming)):
            self._library.session_destroy(self._pointer)

    def _wake(self, interruptible: bool) -> None:
        # A thread may wait for a request that will not come while someone still uses the mount.
        for thread in self._threads:
            if interruptible and thread.is_alive() and thread.ident is not None:
                signal.pthread_kill(thread.ident, signal.SIGTERM)
            thread.join(0.05)


def _unmount_even_if_busy(mountpoint: bytes) -> None:
    try:
        process.unmount(mountpoint)
    except errors.MountError as error:
        log.warning("%s; it is taken away all the same", error)
        try:
            process.unmount(mountpoint, lazy=True)
        except errors.MountError as still:
            log.error("%s", still)


def _arguments(options: MountOptions) -> list[bytes]:
    words = ["ro", "noatime", "nosuid", "nodev", f"max_read={MAX_READ}"]
    words += [f"fsname={escaped(options.fsname)}", f"subtype={escaped(options.subtype)}"]
    words += ["noexec"] if options.noexec else []
    if options.allow_other:
        words += ["allow_other", "default_permissions"]
    return [b"ibtfs", b"-o", os.fsencode(",".join(words))]


def _why_not(mountpoint: bytes, options: MountOptions) -> str:
    line = f"Cannot mount on {os.fsdecode(mountpoint)!r}"
    if os.geteuid() == 0:
        return line
    if shutil.which("fusermount3") is None:
        return f"{line}: fusermount3 is missing; install it (Debian: apt install fuse3)"
    if options.allow_other:
        return f"{line}; to let others in, /etc/fuse.conf must say user_allow_other"
    return line

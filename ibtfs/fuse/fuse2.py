"""The adapter between a view and libfuse 2, through fusepy: correct, and not fast.

The only importer of fusepy.  Everything goes by path here, so nodes are found by walking down
from the root; what was found inside backup points is kept in a bounded cache.  libfuse 2 has its
own threads and handles signals by itself.
"""

from __future__ import annotations

import errno
import os
import signal
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from ibtfs import errors
from ibtfs.format.acl import ACCESS_ACL
from ibtfs.fuse.errnos import AbsentAttributes, ErrorNumbers, Refused
from ibtfs.fuse.options import MountOptions, escaped
from ibtfs.fuse.signals import ending_signals
from ibtfs.view.acl import cautious_mode
from ibtfs.view.node import Attributes, Node, View

# fusepy wants text; this is the encoding that gives every byte back.
ENCODING = "latin-1"
BLOCK_SIZE = 128 * 1024
# One for names of points, which come and go, and for all else, which does not.
TIMEOUT_SECONDS = 0.5
READ_ONLY = (
    *("chmod", "chown", "create", "link", "mkdir", "mknod", "removexattr", "rename", "rmdir"),
    *("setxattr", "symlink", "truncate", "unlink", "utimens", "write"),
)


def serve(
    view: View, mountpoint: bytes, options: MountOptions, on_ready: Callable[[], None]
) -> None:
    """Mount *view* and answer until it is unmounted, or a signal says to unmount it."""
    fuse = _load()
    operations = Operations(view, options, on_ready)
    others = {"allow_other": True, "default_permissions": True} if options.allow_other else {}
    others |= {"noexec": True} if options.noexec else {}
    with ending_signals(signal.SIG_DFL):  # libfuse 2 takes those that nobody else has
        try:
            fuse.FUSE(
                operations,
                mountpoint.decode(ENCODING),
                raw_fi=False,
                encoding=ENCODING,
                foreground=True,
                nothreads=options.threads <= 1,
                nonempty=options.nonempty,
                fsname=escaped(os.fsencode(options.fsname).decode(ENCODING)),
                subtype=options.subtype,
                ro=True,
                noatime=True,
                use_ino=True,
                auto_cache=True,
                entry_timeout=TIMEOUT_SECONDS,
                attr_timeout=TIMEOUT_SECONDS,
                ac_attr_timeout=0,  # whenever a file is opened, see that it is still the same
                **others,
            )
        except RuntimeError as error:
            if not operations.answered:
                line = f"Cannot mount on {os.fsdecode(mountpoint)!r}"
                raise errors.MountError(line) from error
    if operations.failure is not None:
        raise operations.failure


def _load() -> Any:
    try:
        return import_module("fuse")
    except (ImportError, OSError, AttributeError) as error:
        line = f"libfuse 2 and the Python package fusepy are not installed: {error}"
        raise errors.LibraryMissing(line) from error


class PathCache:
    """Nodes by path: a walk from the root, with what is below stable nodes kept.  Thread-safe."""

    def __init__(self, root: Node, most: int = 10_000) -> None:
        self._root = root
        self._most = most
        self._lock = threading.Lock()
        # By the uppermost stable node, kept alive by being a value, too, and the path below it:
        # a name above may come to mean another backup point.
        self._found: OrderedDict[tuple[int, bytes], tuple[Node, Node]] = OrderedDict()

    def node(self, path: bytes) -> Node:
        """The node at *path*.  Raises EntryNotFound, NotADirectory, PointGone."""
        names = [name for name in path.split(b"/") if name]
        node = self._root
        for position, name in enumerate(names):
            if node.stable:
                return self._below(node, names[position:])
            node = node.lookup(name)
        return node

    def _below(self, top: Node, names: list[bytes]) -> Node:
        known, node = len(names), self._kept(top, names)
        while node is None:
            known -= 1
            node = self._kept(top, names[:known]) if known else top
        for length in range(known + 1, len(names) + 1):
            node = node.lookup(names[length - 1])
            self._keep(top, names[:length], node)
        return node

    def _kept(self, top: Node, names: list[bytes]) -> Node | None:
        key = id(top), b"/".join(names)
        with self._lock:
            found = self._found.get(key)
            if found is None:
                return None
            self._found.move_to_end(key)
            return found[1]

    def _keep(self, top: Node, names: list[bytes], node: Node) -> None:
        with self._lock:
            self._found[id(top), b"/".join(names)] = top, node
            while len(self._found) > self._most:
                self._found.popitem(last=False)


class OpenFiles:
    """The nodes of open files, by their handles: a path may come to mean another.  Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._nodes: dict[int, Node] = {}
        self._next = 1

    def add(self, node: Node) -> int:
        """A new handle for *node*."""
        with self._lock:
            handle = self._next
            self._next += 1
            self._nodes[handle] = node
            return handle

    def node(self, handle: int) -> Node:
        """The node that *handle* was given for."""
        return self._nodes[handle]

    def remove(self, handle: int) -> None:
        """Let go of *handle*."""
        with self._lock:
            self._nodes.pop(handle, None)


class Operations:
    """What fusepy calls: one method for each kind of request, by path."""

    use_ns = True

    def __init__(self, view: View, options: MountOptions, on_ready: Callable[[], None]) -> None:
        self.answered = False
        self.failure: BaseException | None = None
        self._view = view
        self._options = options
        self._on_ready = on_ready
        self._paths = PathCache(view.root)
        self._open = OpenFiles()
        self._numbers, self._absent = ErrorNumbers(), AbsentAttributes()

    def __call__(self, operation: str, *arguments: Any) -> Any:
        """Do *operation*; whatever it raises becomes an OSError with the errno to answer."""
        if operation in READ_ONLY:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        try:
            return getattr(self, operation)(*arguments)
        except BaseException as error:
            number = self._numbers.number(error)
            raise OSError(number, os.strerror(number)) from error

    def __getattr__(self, name: str) -> Any:
        # fusepy asks which operations there are.
        if name in READ_ONLY:
            return self.__call__
        raise AttributeError(name)

    def _node(self, path: str) -> Node:
        return self._paths.node(path.encode(ENCODING))

    def init(self, _path: str) -> int:
        """The mount answers from now on."""
        self.answered = True
        try:
            self._on_ready()
        except BaseException as error:
            self.failure = error
            os.kill(os.getpid(), signal.SIGTERM)
        return 0

    def getattr(self, path: str, _handle: int | None = None) -> dict[str, int]:
        """What stat shows."""
        node = self._node(path)
        found = node.attributes()
        if self._options.allow_other and not stat.S_ISLNK(found.mode):
            # this kernel interface knows no ACLs: what one denies, nobody may have
            acl = node.xattrs().get(ACCESS_ACL)
            found = found if acl is None else found._replace(mode=cautious_mode(found.mode, acl))
        return _stat(found)

    def readlink(self, path: str) -> str:
        """Where a link points."""
        return self._node(path).target().decode(ENCODING)

    def readdir(self, path: str, _handle: int) -> Iterator[tuple[str, dict[str, int], int]]:
        """The names in a directory, with the numbers and types of what they lead to."""
        node = self._node(path)
        own = {"st_ino": node.attributes().ino, "st_mode": stat.S_IFDIR}
        listed = [(".", own, 0), ("..", own, 0)]
        for name, child in node.children():
            listed.append((name.decode(ENCODING), _number_and_type(child), 0))
        return iter(listed)

    def open(self, path: str, _flags: int) -> int:
        """A handle for a file, which stays what it is."""
        return self._open.add(self._node(path))

    def release(self, _path: str, handle: int) -> int:
        """Nobody has the file open by *handle* any more."""
        self._open.remove(handle)
        return 0

    def read(self, _path: str, size: int, offset: int, handle: int) -> bytes:
        """Bytes of a file."""
        return self._open.node(handle).read(offset, size)

    def statfs(self, _path: str) -> dict[str, int]:
        """What df shows."""
        s = self._view.statistics()
        return {
            "f_blocks": s.blocks,
            "f_bfree": s.blocks_free,
            "f_bavail": s.blocks_available,
            "f_files": s.files,
            "f_ffree": s.files_free,
            "f_bsize": s.block_size,
            "f_frsize": s.block_size,
            "f_namemax": 255,
        }

    def getxattr(self, path: str, name: str, *_: int) -> bytes:
        """An extended attribute."""
        self._refuse_unless_wanted()
        packed = name.encode(ENCODING)
        value = self._node(path).xattrs().get(packed)
        if value is None:
            raise Refused(self._absent.number(packed))
        return value

    def listxattr(self, path: str) -> list[str]:
        """The names of the extended attributes."""
        self._refuse_unless_wanted()
        return [name.decode(ENCODING) for name in self._node(path).xattrs()]

    def _refuse_unless_wanted(self) -> None:
        if not self._options.xattrs:
            raise Refused(errno.ENOSYS)


def _stat(a: Attributes) -> dict[str, int]:
    return {
        "st_ino": a.ino,
        "st_mode": a.mode,
        "st_nlink": a.nlink,
        "st_uid": a.uid,
        "st_gid": a.gid,
        "st_rdev": a.rdev,
        "st_size": a.size,
        "st_blocks": a.blocks,
        "st_blksize": BLOCK_SIZE,
        "st_atime": a.mtime_ns,
        "st_mtime": a.mtime_ns,
        "st_ctime": a.ctime_ns,
    }


def _number_and_type(node: Node) -> dict[str, int]:
    # What is damaged is listed all the same; looking at it then says what is wrong with it.
    try:
        a = node.attributes()
    except Exception:
        return {}
    return {"st_ino": a.ino, "st_mode": a.mode}

"""libfuse 3 as it is loaded: the library, its functions' types and its structures.

The only importer of mfusepy, which knows how libfuse's structures look on each platform and in
each version.  Functions that cannot block are called without giving up the interpreter's lock:
getting it back costs more than they do.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes.util import find_library
from importlib import import_module
from typing import Any

from ibtfs import errors

_M_ARENA_MAX = -8  # of malloc.h
# Bits of fuse_conn_info.capable and .want
CAP_EXPORT_SUPPORT = 1 << 4
CAP_READDIRPLUS = 1 << 13
CAP_READDIRPLUS_AUTO = 1 << 14
CAP_NO_OPEN = 1 << 17
CAP_POSIX_ACL = 1 << 19
CAP_CACHE_SYMLINKS = 1 << 23
CAP_NO_OPENDIR = 1 << 24

_SONAMES = ("libfuse3.so.4", "libfuse3.so.3")
_OPERATION_NAMES = (
    *("init", "destroy", "lookup", "forget", "getattr", "setattr", "readlink", "mknod", "mkdir"),
    *("unlink", "rmdir", "symlink", "rename", "link", "open", "read", "write", "flush"),
    *("release", "fsync", "opendir", "readdir", "releasedir", "fsyncdir", "statfs", "setxattr"),
    *("getxattr", "listxattr", "removexattr", "access", "create", "getlk", "setlk", "bmap"),
    *("ioctl", "poll", "write_buf", "retrieve_reply", "forget_multi", "flock", "fallocate"),
    *("readdirplus", "copy_file_range", "lseek"),
)

_Request = ctypes.c_void_p
_Inode = ctypes.c_uint64
_FileInfo = ctypes.c_void_p
# How each operation is called by libfuse.  The third argument of read and readdir is a size,
# the fourth an offset.
_NODE_ONLY = (_Inode,)
_NAMED = (_Inode, ctypes.c_char_p)
_RANGE = (_Inode, ctypes.c_size_t, ctypes.c_int64, _FileInfo)
SIGNATURES: dict[str, tuple[Any, ...]] = {
    "lookup": _NAMED,
    "forget": (_Inode, ctypes.c_uint64),
    "forget_multi": (ctypes.c_size_t, ctypes.c_void_p),
    "getattr": (_Inode, _FileInfo),
    "readlink": _NODE_ONLY,
    "open": (_Inode, _FileInfo),
    "opendir": (_Inode, _FileInfo),
    "read": _RANGE,
    "readdir": _RANGE,
    "readdirplus": _RANGE,
    "statfs": _NODE_ONLY,
    "getxattr": (_Inode, ctypes.c_char_p, ctypes.c_size_t),
    "listxattr": (_Inode, ctypes.c_size_t),
    "lseek": (_Inode, ctypes.c_int64, ctypes.c_int, _FileInfo),
}


class OperationTable(ctypes.Structure):
    """``struct fuse_lowlevel_ops``; it only ever grew at its end."""

    _fields_ = [(name, ctypes.c_void_p) for name in _OPERATION_NAMES]


class Arguments(ctypes.Structure):
    """``struct fuse_args``."""

    _fields_ = [
        ("argc", ctypes.c_int),
        ("argv", ctypes.POINTER(ctypes.c_char_p)),
        ("allocated", ctypes.c_int),
    ]


def callback(name: str, function: Any) -> Any:
    """*function* as something that libfuse can call for the operation *name*.

    An operation that has no signature of its own gets the request only: the caller of a C
    function takes its arguments away again, so the others do no harm.
    """
    return ctypes.CFUNCTYPE(None, _Request, *SIGNATURES.get(name, ()))(function)


def address(function: Any) -> int | None:
    """Where a callback lies, as a structure holds it."""
    return ctypes.cast(function, ctypes.c_void_p).value


def memory(where: int, size: int) -> bytes:
    """A copy of *size* bytes that the library points at."""
    return ctypes.string_at(where, size)


def share_one_arena() -> None:
    """Have the C library give memory to all threads from one place.

    By itself it makes an arena for almost every thread, and each keeps what frames of 1 MiB leave
    in it: 50 MB more, after 100,000 files were read. Only the GNU library is like that.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)


class Libfuse:
    """libfuse 3: its functions, and the structures that depend on its version."""

    def __init__(self, mfusepy: Any) -> None:
        name, handle = mfusepy._libfuse._name, mfusepy._libfuse._handle
        self._blocking = ctypes.CDLL(name, handle=handle)
        self._quick = ctypes.PyDLL(name, handle=handle)
        self._connection = ctypes.POINTER(mfusepy.fuse_conn_info)
        self._file_info = mfusepy.fuse_file_info
        # Later versions of libfuse have a longer fuse_buf than mfusepy knows.
        self.buffer_size = ctypes.sizeof(mfusepy.fuse_buf) + 64
        session, blocking, quick = ctypes.c_void_p, self._blocking, self._quick
        reply = (_Request, ctypes.c_char_p, ctypes.c_size_t)
        self.session_mount = _typed(blocking.fuse_session_mount, session, ctypes.c_char_p)
        self.session_destroy = _typed(blocking.fuse_session_destroy, session, result=None)
        self._inval_entry = _typed(
            blocking.fuse_lowlevel_notify_inval_entry,
            *(session, ctypes.c_uint64, ctypes.c_char_p, ctypes.c_size_t),
        )
        self.session_exit = _typed(quick.fuse_session_exit, session, result=None)
        self.session_exited = _typed(quick.fuse_session_exited, session)
        buffer = ctypes.c_void_p
        self.receive_buf = _typed(blocking.fuse_session_receive_buf, session, buffer)
        self.process_buf = _typed(quick.fuse_session_process_buf, session, buffer, result=None)
        self.reply_large = _typed(blocking.fuse_reply_buf, *reply)
        self.reply_small = _typed(quick.fuse_reply_buf, *reply)
        self.reply_error = _typed(quick.fuse_reply_err, _Request, ctypes.c_int)
        self.reply_none = _typed(quick.fuse_reply_none, _Request, result=None)
        self._reply_open = _typed(quick.fuse_reply_open, _Request, _FileInfo)
        self._session_new = self._find_session_new()

    def init_callback(self, function: Any) -> Any:
        """*function*(user data, connection) as something that libfuse can call for ``init``."""
        return ctypes.CFUNCTYPE(None, ctypes.c_void_p, self._connection)(function)

    def take_back(self, session: int, folder: int, name: bytes) -> bool:
        """Have the kernel drop the name of a file; whether it held it."""
        return bool(self._inval_entry(session, folder, name, len(name)) == 0)

    def reply_opened(self, request: int, file_info: int) -> None:
        """Answer that a file or directory is open, and that the kernel may keep its copies."""
        info = self._file_info.from_address(file_info)
        info.keep_cache = info.cache_readdir = 1
        self._reply_open(request, file_info)

    def session_new(self, arguments: list[bytes], operations: OperationTable) -> int | None:
        """A session with *operations*, None when libfuse does not like *arguments*."""
        argv = (ctypes.c_char_p * len(arguments))(*arguments)
        args = Arguments(len(arguments), argv, 0)
        common = (ctypes.byref(args), ctypes.byref(operations), ctypes.sizeof(operations))
        session: int | None = self._session_new(*common, None)
        return session

    def _find_session_new(self) -> Any:
        pointer = ctypes.c_void_p
        types = (pointer, pointer, ctypes.c_size_t, pointer)
        if hasattr(self._blocking, "fuse_session_new"):
            return _typed(self._blocking.fuse_session_new, *types, result=pointer)
        # Since 3.17 it may be there only under this name, with the caller's version.
        versioned = self._blocking.fuse_session_new_versioned
        _typed(versioned, *types, pointer, result=pointer)
        version = (ctypes.c_uint32 * 4)(3, 14, 0, 0)
        return lambda args, ops, size, data: versioned(args, ops, size, version, data)


def _typed(function: Any, *arguments: Any, result: Any = ctypes.c_int) -> Any:
    function.argtypes = arguments
    function.restype = result
    return function


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _library_name() -> str:
    for name in _SONAMES:
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return name
    found = find_library("fuse3")
    if found is None:
        raise errors.LibraryMissing("libfuse 3 is not installed")
    return found


def load() -> Libfuse:
    """libfuse 3.  Raises LibraryMissing when it, or mfusepy, is not installed."""
    with _environment("FUSE_LIBRARY_PATH", _library_name()):
        try:
            mfusepy = import_module("mfusepy")
        except (ImportError, OSError, AttributeError) as error:
            raise errors.LibraryMissing(f"The Python package mfusepy is needed: {error}") from error
    if mfusepy.fuse_version_major != 3:
        raise errors.LibraryMissing("mfusepy was loaded with another libfuse than version 3")
    return Libfuse(mfusepy)

"""The adapter between a view and libfuse 3: one short method for each kind of request.

The kernel is told that there is no ``open`` and no ``opendir``, so it asks for neither, nor for
flush and release, and keeps its caches; nodes are found by their number alone.  What is inside a
backup point never changes and may be kept for ever; names and attributes elsewhere are kept for
a moment only, and that a name is not there is not kept at all.  A directory whose listing changes
must show another mtime: that is how the kernel knows that its copy is old.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ibtfs import errors
from ibtfs.format.acl import ACCESS_ACL
from ibtfs.fuse.errnos import AbsentAttributes, ErrorNumbers, Refused
from ibtfs.fuse.fuse3 import wire
from ibtfs.fuse.fuse3.listings import DOTS, Directories
from ibtfs.fuse.fuse3.nodes import NodeTable, identity_of
from ibtfs.fuse.fuse3.structures import (
    CAP_NO_OPEN,
    CAP_NO_OPENDIR,
    SIGNATURES,
    Libfuse,
    OperationTable,
    address,
    callback,
    memory,
)
from ibtfs.fuse.options import MountOptions
from ibtfs.view.node import View

# Above this, copying an answer takes longer than getting the interpreter's lock back.
SMALL_ANSWER = 32 * 1024
HERE = b"."
READ_ONLY = (
    *("setattr", "mknod", "mkdir", "unlink", "rmdir", "symlink", "rename", "link", "write"),
    *("create", "setxattr", "removexattr", "fallocate", "copy_file_range"),
)
_Answer = Callable[..., bytes]
# An answer, and the numbers of the nodes that the kernel learns of by it.
_Grant = Callable[..., tuple[bytes, Sequence[int]]]


class Adapter:
    """Answers the kernel's requests from a view.

    Every request is answered exactly once, whatever the view raises.  Used from several threads.
    """

    def __init__(self, library: Libfuse, view: View, options: MountOptions) -> None:
        self.nodes = NodeTable(view.root)
        self.shown: Callable[[int], None] = lambda _: None
        """Is told of each stable directory in which the kernel was shown a name."""
        self.capable = 0  # bits of what the kernel can do, known from its first request on
        self._library = library
        self._view = view
        self._options = options
        self._directories = Directories(self.nodes)
        self._numbers, self._absent = ErrorNumbers(), AbsentAttributes()

    def operations(self) -> tuple[OperationTable, list[Any]]:
        """All operations but ``init``, and what must be kept as long as they are in use."""
        functions = {name: self._refusing(errno.EROFS) for name in READ_ONLY}
        functions["open"] = self._opening(CAP_NO_OPEN)
        functions["opendir"] = self._opening(CAP_NO_OPENDIR)
        functions |= {"forget": self._forget, "forget_multi": self._forget_multi}
        for name in ("lookup", "readdirplus"):
            functions[name] = self._granting(getattr(self, name))
        for name in SIGNATURES.keys() - functions.keys():
            functions[name] = self._answering(getattr(self, name))
        if not (self._options.xattrs or self._options.allow_other):
            functions |= {n: self._refusing(errno.ENOSYS) for n in ("getxattr", "listxattr")}
        callbacks = {name: callback(name, function) for name, function in functions.items()}
        operations = OperationTable()
        for name, function in callbacks.items():
            setattr(operations, name, address(function))
        return operations, list(callbacks.values())

    # Between the operations and the library

    def _refusing(self, number: int) -> Callable[..., None]:
        reply_error = self._library.reply_error

        def refuse(request: int, *_: object) -> None:
            reply_error(request, number)

        return refuse

    def _opening(self, capability: int) -> Callable[..., None]:
        library = self._library

        def answer(request: int, _nodeid: int, file_info: int) -> None:
            if self.capable & capability:  # then this is never asked again
                library.reply_error(request, errno.ENOSYS)
            else:
                library.reply_opened(request, file_info)

        return answer

    def _answering(self, operation: _Answer) -> Callable[..., None]:
        def answer(request: int, *arguments: Any) -> None:
            try:
                data = operation(*arguments)
            except BaseException as error:
                self._library.reply_error(request, self._numbers.number(error))
            else:
                self._send(request, data)

        return answer

    def _granting(self, operation: _Grant) -> Callable[..., None]:
        def answer(request: int, *arguments: Any) -> None:
            try:
                data, granted = operation(*arguments)
            except BaseException as error:
                self._library.reply_error(request, self._numbers.number(error))
                return
            if self._send(request, data) != 0:  # interrupted: the kernel did not learn of them
                self.nodes.forget((nodeid, 1) for nodeid in granted)

        return answer

    def _send(self, request: int, data: bytes) -> int:
        library = self._library
        send = library.reply_small if len(data) <= SMALL_ANSWER else library.reply_large
        result: int = send(request, data, len(data))
        return result

    def _forget(self, request: int, nodeid: int, count: int) -> None:
        self.nodes.forget(((nodeid, count),))
        self._library.reply_none(request)

    def _forget_multi(self, request: int, count: int, array: int) -> None:
        self.nodes.forget(wire.forgets(memory(array, count * wire.FORGET_SIZE)))
        self._library.reply_none(request)

    # The operations: what is asked, as libfuse gives it; the answer as the kernel wants it

    def lookup(self, parent: int, name: bytes) -> tuple[bytes, Sequence[int]]:
        """The node called *name*; that there is none may be kept, too, in a stable directory."""
        if len(name) > wire.NAME_MAX:
            raise Refused(errno.ENAMETOOLONG)
        if name in DOTS:
            return self._by_handle(parent, name)
        directory = self.nodes.node(parent)
        try:
            node = self.nodes.handled(parent, name) or directory.lookup(name)
        except errors.EntryNotFound:
            if not directory.stable:
                raise
            return wire.no_entry(), ()
        attributes = node.attributes()
        granted = self.nodes.remember([node], [identity_of(node, attributes)])
        if stat.S_ISDIR(attributes.mode):
            self.nodes.put(granted[0], parent, name)
        if directory.stable:
            self.shown(parent)
        return wire.entry(granted[0], attributes, directory.stable, node.stable), granted

    def _by_handle(self, nodeid: int, name: bytes) -> tuple[bytes, Sequence[int]]:
        """The node of a file handle, or the directory above it: what an NFS server asks for."""
        number = nodeid if name == HERE else self.nodes.above(nodeid)
        node, granted = self.nodes.again(number), [number]
        try:
            return wire.entry(granted[0], node.attributes(), False, node.stable), granted
        except BaseException:
            self.nodes.forget((number, 1) for number in granted)
            raise

    def getattr(self, nodeid: int, _file: int | None) -> bytes:
        """What stat shows."""
        node = self.nodes.node(nodeid)
        return wire.attr(node.attributes(), node.stable)

    def readlink(self, nodeid: int) -> bytes:
        """Where a link points."""
        return self.nodes.node(nodeid).target()

    def read(self, nodeid: int, size: int, offset: int, _file: int | None) -> bytes:
        """Bytes of a file."""
        return self.nodes.node(nodeid).read(offset, size)

    def statfs(self, _nodeid: int) -> bytes:
        """What df shows."""
        return wire.statfs(self._view.statistics())

    def lseek(self, nodeid: int, offset: int, whence: int, _file: int | None) -> bytes:
        """The next data or hole; past the end there is neither, and the end is a hole."""
        node = self.nodes.node(nodeid)
        found = -1
        if 0 <= offset < node.attributes().size:
            find = node.next_data if whence == os.SEEK_DATA else node.next_hole
            found = find(offset)
        if found < 0:
            raise Refused(errno.ENXIO)
        return wire.position(found)

    def readdir(self, nodeid: int, size: int, offset: int, _file: int | None) -> bytes:
        """Names in a directory."""
        return self._directories.names(nodeid, size, offset)

    def readdirplus(
        self, nodeid: int, size: int, offset: int, _file: int | None
    ) -> tuple[bytes, Sequence[int]]:
        """Names in a directory, with the nodes that they lead to."""
        data, granted = self._directories.plus(nodeid, size, offset)
        if granted and self.nodes.node(nodeid).stable:
            self.shown(nodeid)
        return data, granted

    def getxattr(self, nodeid: int, name: bytes, size: int) -> bytes:
        """An extended attribute, or its size when *size* is 0."""
        value = self._xattrs(nodeid).get(name)
        if value is None:
            raise Refused(self._absent.number(name))
        return _fitting(value, size)

    def listxattr(self, nodeid: int, size: int) -> bytes:
        """The names of the extended attributes, or their size when *size* is 0."""
        return _fitting(b"".join(name + b"\0" for name in self._xattrs(nodeid)), size)

    def _xattrs(self, nodeid: int) -> Mapping[bytes, bytes]:
        xattrs = self.nodes.node(nodeid).xattrs()
        if self._options.xattrs:
            return xattrs
        # The kernel goes by ACLs; without them others could read what these deny.
        return {name: xattrs[name] for name in (ACCESS_ACL,) if name in xattrs}


def _fitting(value: bytes, size: int) -> bytes:
    if size == 0:
        return wire.size_only(len(value))
    if len(value) > size:
        raise Refused(errno.ERANGE)
    return value

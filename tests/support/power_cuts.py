"""What a disk may hold after the power went: every state that the traced calls of a run allow.

A `Disk` is told the calls. What was written is safe once its file is synced, a name that was given
or taken once its folder is; until then each of these may be lost, or be the only one that is not.
"""

from __future__ import annotations

import codecs
import os
import re
import shutil
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from tests.support.killing import Call, read_trace, run, tracing

EVERYTHING = 1 << 26
"""Bytes of a write that a trace tells."""
Image = Mapping[str, "bytes | None"]
"""What a disk holds: the bytes of each file by its path below the root, None for a folder."""
_WRITTEN = re.compile(r'\d+<[^>]*>, "(.*)"(\.\.\.)?, \d+(?:, \d+)?\Z', re.DOTALL)


@dataclass(eq=False)
class File:
    """The bytes of a file: those that are *safe*, and those that a reader gets *now*."""

    safe: bytes
    now: bytes


@dataclass(eq=False)
class Folder:
    """A folder; what is in it is known by path."""


Node = Optional["File | Folder"]  # None where a name was taken away


@dataclass(eq=False)
class Naming:
    """What one call did to the names in one *folder*."""

    folder: str
    names: dict[str, Node]


class Disk:
    """The files and folders below *root*, all of them safe at first."""

    def __init__(self, root: Path) -> None:
        self._root = os.fspath(root)
        self._safe: dict[str, Node] = {"": Folder()}
        for path, data in image_of(root).items():
            self._safe[path] = Folder() if data is None else File(data, data)
        self._now = dict(self._safe)
        self._pending: list[Naming] = []

    def states(self, calls: Iterable[Call]) -> Iterator[Image]:
        """What the disk may hold before any and after each of *calls*; one may come repeatedly."""
        yield self.now()
        for call in calls:
            if call.result >= 0 and self._apply(call):
                yield from self.after_a_cut()

    def now(self) -> Image:
        """What a reader sees while there is power."""
        return self._image(self._pending, [])

    def after_a_cut(self) -> Iterator[Image]:
        """What it may hold if the power goes now.

        All is safe that may be, or none of it, or all but one thing, or one thing only."""
        names = list(self._pending)
        files = [node for node in dict.fromkeys(self._now.values())
                 if isinstance(node, File) and node.safe != node.now]  # fmt: skip
        yield self._image(names, [])
        yield self._image([], files)
        for one in names:
            yield self._image([other for other in names if other is not one], [])
            yield self._image([one], files)
        for file in files:
            yield self._image(names, [file])

    def _image(self, kept: Sequence[Naming], lost: Sequence[File]) -> Image:
        there = dict(self._safe)
        for naming in kept:
            there.update(naming.names)
        image: dict[str, bytes | None] = {}
        for path, node in sorted(there.items()):
            if path and node is not None and (_above(path) in image or not _above(path)):
                if isinstance(node, File):
                    image[path] = node.safe if node in lost else node.now
                else:
                    image[path] = None
        return image

    def _apply(self, call: Call) -> bool:
        """Do *call*; whether it changed anything here."""
        path = self._below(call.path)
        if path is None:
            return False
        if call.name == "openat":
            if "O_CREAT" not in call.text or self._now.get(path) is not None:
                return False
            self._name(path, File(b"", b""))
        elif call.name == "write":
            file = self._now[path]
            assert isinstance(file, File), path
            file.now += _written(call)
        elif call.name in ("fsync", "fdatasync"):
            self._sync(path)
        elif call.name in ("mkdir", "mkdirat"):
            self._name(path, Folder())
        elif call.name in ("unlink", "unlinkat"):
            self._name(path, None)
        elif call.name in ("link", "linkat"):
            self._name(self._below(call.target) or "", self._now[path])
        else:
            raise AssertionError(f"a call that this disk does not know: {call}")
        return True

    def _below(self, path: str) -> str | None:
        if path == self._root:
            return ""
        inside = path.startswith(self._root + "/")
        return path[len(self._root) + 1 :] if inside else None

    def _name(self, path: str, node: Node) -> None:
        self._now[path] = node
        self._pending.append(Naming(_above(path), {path: node}))

    def _sync(self, path: str) -> None:
        node = self._now[path]
        if isinstance(node, File):
            node.safe = node.now
            return
        for naming in [one for one in self._pending if one.folder == path]:
            self._safe.update(naming.names)
            self._pending.remove(naming)


def _above(path: str) -> str:
    return path.rpartition("/")[0]


def _written(call: Call) -> bytes:
    """The bytes that a write wrote."""
    told = _WRITTEN.match(call.text)
    assert told is not None, call.text[:200]
    assert not told[2], "the trace tells not all of it"
    data, _ = codecs.escape_decode(told[1].encode("ascii"))
    return data[: call.result]


def image_of(root: Path) -> Image:
    """What lies below *root*."""
    return {
        path.relative_to(root).as_posix(): None if path.is_dir() else path.read_bytes()
        for path in sorted(root.rglob("*"))
    }


def lay_out(image: Image, root: Path) -> None:
    """Put *image* where *root* is."""
    shutil.rmtree(root)
    root.mkdir(mode=0o700)
    for path, data in image.items():  # folders come before what is in them
        if data is None:
            (root / path).mkdir(mode=0o700)
        else:
            (root / path).write_bytes(data)


def calls_of(command: Sequence[str], work: Path, kill: int = 0) -> list[Call]:
    """The calls of *command*, with all that it writes; it is killed before its sync number *kill*.

    *work* is a folder for the trace, and for the caches of the command.
    """
    log, cache = work / "trace", work / "cache"
    cache.mkdir(exist_ok=True)
    injected = [f"fsync:signal=KILL:when={kill}"] if kill else []
    code, said = run(command, cache, tracing(log, *injected, told=EVERYTHING))
    assert code == (-signal.SIGKILL if kill else 0), said
    return read_trace(log)


def cut_states(runs: Iterable[tuple[Sequence[str], int]], root: Path, work: Path) -> list[Image]:
    """All different states that a power cut may leave at *root* while one after the other *runs*.

    In the order in which they may come about; commands, kills and *work* are as of calls_of.
    """
    disk = Disk(root)
    calls = [call for command, kill in runs for call in calls_of(command, work, kill)]
    found: dict[int, Image] = {}
    for image in disk.states(calls):
        found.setdefault(hash(frozenset(image.items())), image)
    assert disk.now() == image_of(root), "the model of the disk is not what the disk is"
    return list(found.values())

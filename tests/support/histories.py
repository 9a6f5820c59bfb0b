"""Random histories of a real tree: every step is a batch of changes such as people make.

All decisions come from one generator (random.Random, or hypothesis' st.randoms, few draws a
change so that it can shrink); bytes come from seeds that it draws. The same draws on the same
tree give the same tree, but for times.
"""

from __future__ import annotations

import os
import random
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from .realdata import mixed, punch_hole

KIB, MIB = 1 << 10, 1 << 20
EDGES = (4 * KIB, 64 * KIB, 128 * KIB, MIB)
LARGEST_FILE = 3 * MIB
BUDGETS = (1 * MIB, 2 * MIB, 4 * MIB, 12 * MIB)
SIZES = (
    0, 1, 100, 3000, 4095, 4096, 4097, 20_000, 65_535, 65_536, 65_537, 131_071, 131_073,
    300_000, MIB - 1, MIB, MIB + 1, 2 * MIB + 12_345, LARGEST_FILE,
)  # fmt: skip
LENGTHS = (1, 3, 16, 100, 700, 4096, 5000, 70_000)
MOMENTS_NS = (0, -1, -86_400 * 10**9 + 5, 10**18 + 1, 4_300_000_000 * 10**9 + 7)
NAMES = (
    b"a", b"b", b"data.db", b"notes.txt", b"caf\xc3\xa9", b"\xff\xfe", b"new\nline", b"-x", b"z ",
    b"n" * 255, b".hidden", b"log",
)  # fmt: skip


class History:
    """A tree at *root* (made if missing, filled at once) that each `step` changes at random.

    It stays within *max_bytes* (drawn from BUDGETS if not given) and *max_entries*.
    `log` tells every change, for the message of a failed test.
    """

    def __init__(
        self,
        root: Path,
        rng: random.Random,
        *,
        max_bytes: int | None = None,
        max_entries: int = 60,
    ) -> None:
        self.root = os.fsencode(root)
        self.rng = rng
        self.max_bytes = rng.choice(BUDGETS) if max_bytes is None else max_bytes
        self.max_entries = max_entries
        self.log: list[str] = []
        os.makedirs(self.root, exist_ok=True)
        for _ in range(rng.randrange(3, 12)):
            self._change(rng.choice((_make_file, _make_file, _make_directory, _make_special)))

    def step(self) -> list[str]:
        """Make a batch of changes (now and then none) and return what they were."""
        before = len(self.log)
        for _ in range(self.rng.choice((0, 1, 1, 2, 3, 4, 6, 9))):
            self._change(self.rng.choice(CHANGES))
        return self.log[before:]

    def _change(self, change: Callable[[History], str]) -> None:
        self.trim()
        self._try(change)

    def trim(self) -> None:
        """Delete until it is within its bounds again: one change may lead beyond them."""
        while len(self.entries()) + 2 > self.max_entries or self.room() < 0:
            self._try(self.rng.choice((_delete, _delete_subtree)))

    def _try(self, change: Callable[[History], str]) -> None:
        try:
            done = change(self)
        except LookupError:  # nothing that it could change
            change, done = _make_file, _make_file(self)
        self.log.append(f"{change.__name__.strip('_')}: {done}")

    # What there is; paths are absolute, in an order that does not depend on the disk.

    def entries(self) -> list[bytes]:
        found = []
        for folder, folders, files in os.walk(self.root):
            folders.sort()
            found += [os.path.join(folder, name) for name in sorted(folders + files)]
        return found

    def files(self) -> list[bytes]:
        return [path for path in self.entries() if stat.S_ISREG(os.lstat(path).st_mode)]

    def directories(self) -> list[bytes]:
        """Return the directories, the root first."""
        inside = [path for path in self.entries() if stat.S_ISDIR(os.lstat(path).st_mode)]
        return [self.root, *inside]

    def room(self) -> int:
        """Return how many bytes may be added; below 0 when there are too many."""
        return self.max_bytes - sum(os.lstat(path).st_size for path in self.files())

    # What to take.

    def pick(self, paths: list[bytes]) -> bytes:
        """Return one of *paths*. Raises LookupError if there is none."""
        if not paths:
            raise LookupError("Nothing to change")
        return self.rng.choice(paths)

    def free_name(self) -> bytes:
        """Return the path of nothing, in some directory."""
        folder = self.rng.choice([f for f in self.directories() if len(f) < 1000] or [self.root])
        name = self.rng.choice(NAMES)
        for number in range(1000):
            path = os.path.join(folder, name if number == 0 else b"%.200b~%d" % (name, number))
            if not os.path.lexists(path):
                return path
        raise AssertionError("The tree is not bounded")

    def content(self, size: int) -> bytes:
        size = max(0, min(size, LARGEST_FILE, self.room()))
        return mixed(self.rng.getrandbits(32), size)

    def offset(self, size: int) -> int:
        """Return an offset in a file of *size*, often close to an edge of pages and frames."""
        if size == 0 or self.rng.randrange(3) == 0:
            return self.rng.randrange(size + 1)
        edge = self.rng.choice([edge for edge in EDGES if edge <= size] or [size])
        return min(size, max(0, edge * self.rng.randrange(size // edge + 1) + self.near()))

    def near(self) -> int:
        return self.rng.choice((-3, -1, 0, 0, 1, 2))

    def name(self, path: bytes) -> str:
        return repr(os.path.relpath(path, self.root))


# ---- changes: each makes one and says what it did --------------------------------------------


def _make_file(history: History) -> str:
    path, size = history.free_name(), history.rng.choice(SIZES)
    Path(os.fsdecode(path)).write_bytes(history.content(size))
    return f"{history.name(path)} of {os.path.getsize(path)} bytes"


def _make_directory(history: History) -> str:
    path = history.free_name()
    os.mkdir(path)
    return history.name(path)


def _make_special(history: History) -> str:
    path = history.free_name()
    return _make_any(history, path, history.rng.choice(("symlink", "fifo", "socket")))


def _make_any(history: History, path: bytes, kind: str) -> str:
    if kind == "directory":
        os.mkdir(path)
        if history.rng.randrange(2):
            Path(os.fsdecode(path), "inside").write_bytes(history.content(5000))
    elif kind == "symlink":
        os.symlink(history.rng.choice((b"a", b"../b/c", b"/nowhere", b"x" * 300)), path)
    elif kind == "file":
        Path(os.fsdecode(path)).write_bytes(history.content(history.rng.choice(SIZES)))
    else:
        os.mknod(path, (stat.S_IFIFO if kind == "fifo" else stat.S_IFSOCK) | 0o640)
    return f"{history.name(path)} as {kind}"


def _edit(history: History) -> str:
    path = history.pick([path for path in history.files() if os.path.getsize(path)])
    size, places = os.path.getsize(path), []
    with open(path, "r+b", buffering=0) as file:
        for _ in range(history.rng.choice((1, 1, 2, 5, 12))):
            offset = min(history.offset(size), size - 1)
            length = min(history.rng.choice(LENGTHS), size - offset)
            os.pwrite(file.fileno(), mixed(history.rng.getrandbits(32), length), offset)
            places.append((offset, length))
    return f"{history.name(path)} at {places}"


def _edit_quietly(history: History) -> str:
    """Change bytes, keep the size, set the mtime back: only the ctime tells."""
    path = history.pick([path for path in history.files() if os.path.getsize(path)])
    st = os.stat(path)
    offset = min(history.offset(st.st_size), st.st_size - 1)
    with open(path, "r+b", buffering=0) as file:
        old = os.pread(file.fileno(), 1, offset)
        os.pwrite(file.fileno(), bytes([old[0] ^ 0x55]), offset)
    os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))
    return f"{history.name(path)} at {offset}"


def _splice(history: History) -> str:
    """Insert, remove or both, at the front, in the middle or at the end."""
    path = history.pick(history.files())
    data = Path(os.fsdecode(path)).read_bytes()
    offset = history.rng.choice((0, history.offset(len(data)), len(data)))
    removed = history.rng.choice((0, 0, *LENGTHS))
    added = history.content(min(history.rng.choice((0, *LENGTHS)), LARGEST_FILE - len(data)))
    with open(path, "r+b") as file:
        file.write(data[:offset] + added + data[offset + removed :])
        file.truncate()
    return f"{history.name(path)} at {offset}: {removed} bytes out, {len(added)} in"


def _append(history: History) -> str:
    path = history.pick(history.files())
    room = LARGEST_FILE - os.path.getsize(path)
    with open(path, "ab") as file:
        count = file.write(history.content(min(history.rng.choice(LENGTHS), room)))
    return f"{history.name(path)}, {count} bytes"


def _resize(history: History) -> str:
    """Truncate, or grow by a hole."""
    path = history.pick(history.files())
    size = os.path.getsize(path)
    grown = min(size + history.rng.choice((1, 4096, 100_000, MIB)), LARGEST_FILE)
    grown = size + max(0, min(grown - size, history.room()))
    new = history.rng.choice((0, history.offset(size), size - size // 3, grown, grown))
    os.truncate(path, new)
    return f"{history.name(path)} from {size} to {new}"


def _punch(history: History) -> str:
    path = history.pick([path for path in history.files() if os.path.getsize(path) >= 4096])
    offset = history.offset(os.path.getsize(path))
    length = history.rng.choice((100, 4096, 65_536, 200_000))
    punch_hole(path, offset, length)
    return f"{history.name(path)} at {offset}, {length} bytes"


def _move(history: History) -> str:
    """Rename anything, within its directory or into another one."""
    path, target = history.pick(history.entries()), history.free_name()
    if target.startswith(path + b"/"):
        return _make_file(history)
    os.rename(path, target)
    return f"{history.name(path)} to {history.name(target)}"


def _move_over(history: History) -> str:
    """Replace a file by another one, as editors and package managers do."""
    path, target = history.pick(history.files()), history.pick(history.files())
    if path == target:
        return _edit(history)
    os.replace(path, target)
    return f"{history.name(path)} over {history.name(target)}"


def _copy(history: History) -> str:
    files = [path for path in history.files() if os.path.getsize(path) <= history.room()]
    path, target = history.pick(files), history.free_name()
    history.rng.choice((shutil.copyfile, shutil.copy2))(path, target)
    return f"{history.name(path)} to {history.name(target)}"


def _retype(history: History) -> str:
    path = history.pick(history.entries())
    _remove(path)
    kinds = ("file", "directory", "symlink", "fifo", "socket")
    return _make_any(history, path, history.rng.choice(kinds))


def _link(history: History) -> str:
    """Give another name to something, in any directory."""
    no_directories = [p for p in history.entries() if not stat.S_ISDIR(os.lstat(p).st_mode)]
    path, target = history.pick(no_directories), history.free_name()
    os.link(path, target, follow_symlinks=False)
    return f"{history.name(path)} also at {history.name(target)}"


def _unlink(history: History) -> str:
    """Make a file of its own of one name of a hard link group."""
    path = history.pick([path for path in history.files() if os.lstat(path).st_nlink > 1])
    own = os.path.join(os.path.dirname(path), b".own")
    shutil.copy2(path, own)
    os.replace(own, path)
    return history.name(path)


def _chmod(history: History) -> str:
    paths = [path for path in history.entries() if not os.path.islink(path)]
    path = history.pick(paths)
    mode = history.rng.choice((0o644, 0o600, 0o755, 0o4755, 0o2770, 0o1777, 0o444, 0o000))
    if os.geteuid() != 0:  # others could not go on
        mode |= 0o700
    os.chmod(path, mode)
    return f"{history.name(path)} to {mode:o}"


def _chown(history: History) -> str:
    path = history.pick([*history.entries(), history.root])
    if os.geteuid() != 0:
        return _chmod(history)
    uid, gid = history.rng.choice(((0, 0), (1000, 1000), (33, 4), (65_534, 123_456)))
    os.chown(path, uid, gid, follow_symlinks=False)
    return f"{history.name(path)} to {uid}:{gid}"


def _utime(history: History) -> str:
    path = history.pick([*history.entries(), history.root])
    moment = history.rng.choice(MOMENTS_NS)
    os.utime(path, ns=(moment, moment), follow_symlinks=False)
    return f"{history.name(path)} to {moment}"


def _set_xattr(history: History) -> str:
    """Set or remove one of a few xattrs of a file or a directory."""
    path = history.pick(history.files() + history.directories())
    name = history.rng.choice(("user.one", "user.two", "user.three"))
    value = history.rng.choice((b"", b"short", bytes(range(256)), b"long" * 300))
    try:
        if name in os.listxattr(path) and history.rng.randrange(2):
            os.removexattr(path, name)
            return f"{history.name(path)} without {name}"
        os.setxattr(path, name, value)
    except OSError as error:
        return f"{history.name(path)}: {error.strerror}"
    return f"{history.name(path)}, {name} of {len(value)} bytes"


def _delete(history: History) -> str:
    directories = set(history.directories())
    path = history.pick([path for path in history.entries() if path not in directories])
    os.unlink(path)
    return history.name(path)


def _delete_subtree(history: History) -> str:
    path = history.pick(history.directories()[1:])
    _remove(path)
    return history.name(path)


def _remove(path: bytes) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


CHANGES: tuple[Callable[[History], str], ...] = (
    _make_file, _make_file, _make_directory, _make_special,
    _edit, _edit, _edit, _edit, _edit_quietly, _splice, _splice, _append, _append, _resize,
    _resize, _punch, _move, _move, _move_over, _copy, _copy, _retype, _retype, _link, _link,
    _unlink, _chmod, _chown, _utime, _set_xattr, _set_xattr, _delete, _delete, _delete_subtree,
)  # fmt: skip

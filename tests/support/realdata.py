"""Large real data, and the changes that such data goes through: for scripts, not for the suite.

Every maker writes below a path that it is given and returns what it made; whatever is random
comes from the generator that it is given.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import random
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

MIB = 1 << 20


# ---- bytes ---------------------------------------------------------------------------------


def text_like(seed: int, size: int) -> bytes:
    """Return *size* bytes of lines that repeat themselves as prose and logs do."""
    rng = random.Random(seed)
    return b"".join(rng.choices(_lines(), k=size // 30 + 1))[:size].ljust(size, b"\n")


def mixed(seed: int, size: int) -> bytes:
    """Return *size* bytes of text, noise, zeros and repetitions in pieces of up to 100 KB."""
    rng, left = random.Random(seed), size
    parts: list[bytes] = []
    kinds = rng.choice(("t", "r", "trz", "ttttr", "trzc"))
    while left > 0:
        length, kind = min(left, rng.randrange(1, 100_000)), rng.choice(kinds)
        if kind == "c" and parts:
            parts.append(parts[0][:length])
        elif kind == "z":
            parts.append(bytes(length))
        else:
            parts.append(
                rng.randbytes(length) if kind == "r" else text_like(rng.getrandbits(32), length)
            )
        left -= len(parts[-1])
    return b"".join(parts)


@lru_cache(maxsize=1)
def _lines() -> list[bytes]:
    rng = random.Random(7)
    words = [rng.randbytes(rng.randrange(1, 6)).hex().encode() for _ in range(300)]
    return [b" ".join(rng.choices(words, k=rng.randrange(4, 14))) + b"\n" for _ in range(2000)]


def punch_hole(path: bytes, offset: int, length: int) -> None:
    """Make a hole in the file, or zeros where the file system has no holes."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(path, "r+b", buffering=0) as file:
        length = min(length, os.fstat(file.fileno()).st_size - offset)
        arguments = (ctypes.c_int64(offset), ctypes.c_int64(length))
        if length > 0 and libc.fallocate(file.fileno(), 0x1 | 0x2, *arguments) != 0:
            os.pwrite(file.fileno(), bytes(length), offset)


# ---- a system tree -------------------------------------------------------------------------

SYSTEM_ROOTS = ("/etc", "/usr", "/var/lib", "/opt")
LARGEST_SUBTREE_BYTES = 1 << 30  # or 40 KB for every file that is wanted


def system_copy(destination: Path, *, files: int = 50_000) -> int:
    """Copy whole subtrees of this machine's system, with all metadata, until there are *files*.

    Returns the number of files. Raises RuntimeError if this machine has too few.
    """
    destination.mkdir(parents=True)
    chosen: list[Path] = []
    total = 0
    for subtree in _subtrees(destination):
        count, size = _measure(subtree)
        if 0 < count <= max(files, 1000) and size <= min(LARGEST_SUBTREE_BYTES, files * 40_000):
            chosen.append(subtree)
            total += count
        if total >= files * 1.02:  # what cannot be read or vanishes is left out
            break
    command = ["cp", "-a", "-x", "--parents", *map(str, chosen), str(destination)]
    subprocess.run(command, stderr=subprocess.DEVNULL, check=False)
    copied, _ = _measure(destination)
    if copied < files:
        raise RuntimeError(f"Only {copied} files found to copy, {files} wanted")
    return copied


def _subtrees(destination: Path) -> Iterator[Path]:
    """Yield subtrees of the system, none inside another one, none with *destination* in it."""
    for root in map(Path, SYSTEM_ROOTS):
        for folder in [root] if root == Path("/etc") else _folders(root):
            if folder == Path("/usr/share") or folder == Path("/usr/lib"):
                yield from _folders(folder)
            elif not destination.resolve().is_relative_to(folder):
                yield folder


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(item for item in root.iterdir() if item.is_dir() and not item.is_symlink())
    except OSError:
        return []


def _measure(tree: Path) -> tuple[int, int]:
    """Return the number of files in *tree* and their bytes."""
    count = size = 0
    for folder, _, names in os.walk(tree):
        for name in names:
            try:
                st = os.lstat(os.path.join(folder, name))
            except OSError:
                continue
            if stat.S_ISREG(st.st_mode):
                count, size = count + 1, size + st.st_size
    return count, size


def change_system(tree: Path, rng: random.Random, *, changes: int = 500) -> None:
    """Do to *tree* what a day of updates does: edits, moves, deletions, copies, new modes."""
    files = [path for path in sorted(_regular_files(tree)) if os.access(path, os.R_OK | os.W_OK)]
    for path in rng.sample(files, min(changes, len(files))):
        kind = rng.randrange(6)
        if kind == 0:
            append(path, text_like(rng.getrandbits(32), rng.randrange(1, 5000)))
        elif kind == 1:
            patch(path, rng)
        elif kind == 2:
            path.unlink()
        elif kind == 3:
            path.rename(_beside(path, b".moved"))
        elif kind == 4:
            path.chmod(path.stat().st_mode ^ 0o022)
        else:
            shutil.copy2(path, _beside(path, b".copy"))
    moved = rng.choice([path for path in sorted(_regular_files(tree)) if path.parent != tree])
    moved.parent.rename(_beside(moved.parent, b".moved"))


def _beside(path: Path, suffix: bytes) -> Path:
    return path.with_name(os.fsdecode(os.fsencode(path.name)[:240] + suffix))


def _regular_files(tree: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(tree):
        for name in names:
            path = Path(folder, name)
            if stat.S_ISREG(path.lstat().st_mode):
                yield path


def append(path: Path, data: bytes) -> None:
    """Append *data* to the file."""
    with path.open("ab") as file:
        file.write(data)


def patch(path: Path, rng: random.Random, *, length: int = 1000) -> None:
    """Overwrite up to *length* bytes at a random place of the file."""
    size = path.stat().st_size
    offset = rng.randrange(size + 1)
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(mixed(rng.getrandbits(32), min(length, size - offset)))


# ---- releases of a package -----------------------------------------------------------------

DJANGO = ("4.2.9", "4.2.10", "4.2.11", "4.2.12", "4.2.13")


def django_releases(destination: Path, versions: tuple[str, ...] = DJANGO) -> Iterator[Path]:
    """Make *destination* one release of Django after the other and yield it after each.

    From PyPI by pip: the source distribution, or the wheel where that cannot be had.
    """
    for version in versions:
        with tempfile.TemporaryDirectory() as scratch:
            unpacked = Path(scratch, "unpacked")
            archive = _download(f"Django=={version}", Path(scratch, "download"))
            kind = "zip" if archive.suffix == ".whl" else None
            shutil.unpack_archive(archive, unpacked, kind)
            inside = [*unpacked.iterdir()]
            release = inside[0] if len(inside) == 1 else unpacked
            replace_tree(release, destination)
        yield destination


def _download(requirement: str, folder: Path) -> Path:
    name = requirement.split("==", maxsplit=1)[0]
    failures = []
    for option in (f"--no-binary={name}", f"--only-binary={name}"):
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", option,
                   "--dest", str(folder), requirement]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return next(folder.iterdir())
        failures.append(done.stderr.strip())
    raise RuntimeError("\n".join(failures))


def replace_tree(new: Path, old: Path) -> None:
    """Make *old* what *new* is, as an upgrade does: what is gone removed, the rest written."""
    old.mkdir(parents=True, exist_ok=True)
    wanted = {path.relative_to(new) for path in new.rglob("*")}
    for path in sorted(old.rglob("*"), reverse=True):
        if path.relative_to(old) not in wanted:
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    shutil.copytree(new, old, symlinks=True, dirs_exist_ok=True)


# ---- a database ----------------------------------------------------------------------------


def sqlite_database(path: Path, rng: random.Random, *, size: int = 300 * MIB) -> int:
    """Make a database with one indexed table of at least *size* bytes; return its rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(path, isolation_level=None)
    database.executescript(
        "PRAGMA page_size = 4096; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
        "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, note TEXT, data BLOB);"
        "CREATE INDEX by_name ON item (name);"
    )
    rows = 0
    while path.stat().st_size < size:
        database.execute("BEGIN")
        database.executemany("INSERT INTO item (name, note, data) VALUES (?, ?, ?)",
                             itertools.islice(_rows(rng), 10_000))  # fmt: skip
        database.execute("COMMIT")
        rows += 10_000
    database.close()
    return rows


def _rows(rng: random.Random) -> Iterator[tuple[str, str, bytes]]:
    lines = [line.decode().strip() for line in _lines()]
    while True:
        note = " ".join(rng.choices(lines, k=rng.randrange(1, 8)))
        yield f"{rng.getrandbits(64):016x}", note, rng.randbytes(rng.randrange(80))


def change_rows(
    path: Path,
    rng: random.Random,
    *,
    rows: int = 3000,
    deleted: int | None = None,
    appended: int | None = None,
) -> None:
    """Update *rows* rows at random places; delete and append rows, by default a tenth as many."""
    deleted, appended = (rows // 10 if count is None else count for count in (deleted, appended))
    database = sqlite3.connect(path, isolation_level=None)
    database.executescript("PRAGMA synchronous = OFF; BEGIN;")
    (last,) = database.execute("SELECT max(id) FROM item").fetchone()
    source = _rows(rng)
    for name, note, data in itertools.islice(source, rows):
        values = (name, note, data, rng.randrange(1, last + 1))
        database.execute("UPDATE item SET name = ?, note = ?, data = ? WHERE id = ?", values)
    gone = [(rng.randrange(1, last + 1),) for _ in range(deleted)]
    database.executemany("DELETE FROM item WHERE id = ?", gone)
    database.executemany("INSERT INTO item (name, note, data) VALUES (?, ?, ?)",
                         itertools.islice(source, appended))  # fmt: skip
    database.execute("COMMIT")
    database.close()


# ---- a disk image --------------------------------------------------------------------------


def ext4_image(path: Path, *, size: int = 2 << 30, content: Path | None = None) -> None:
    """Make a sparse image of an ext4 file system, filled from *content* if given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.truncate(size)
    fill = [] if content is None else ["-d", str(content)]
    options = ["-q", "-F", "-E", "lazy_itable_init=1,nodiscard", *fill]
    subprocess.run([_tool("mkfs.ext4"), *options, str(path)], check=True)


def change_inside(path: Path, rng: random.Random, *, files: int = 20) -> None:
    """Write *files* files into the image, and delete half as many that were written before."""
    with tempfile.TemporaryDirectory() as scratch:
        commands = [f"mkdir /round-{rng.getrandbits(48):x}"]
        folder = commands[0].split()[1]
        for number in range(files):
            source = Path(scratch, str(number))
            source.write_bytes(mixed(rng.getrandbits(32), rng.randrange(1, 1_000_000)))
            commands.append(f"write {source} {folder}/{number}")
        listing = _debugfs(path, ["ls -p /"])
        rounds = [line.split("/")[5] for line in listing.splitlines() if "/round-" in line]
        commands += [f"rm /{name}/{number}" for name in rounds for number in range(files // 2)]
        _debugfs(path, commands)
    punch_unwritten(path)


def punch_unwritten(path: Path) -> None:
    """Make holes of what was allocated and never written, as mkfs does with its journal.

    The kernel shows it as data or as a hole, as it likes, and no tool can tell.
    """
    with open(path, "r+b", buffering=0) as file:
        size, start = path.stat().st_size, 0
        os.fsync(file.fileno())
        while start < size:
            try:
                end = os.lseek(file.fileno(), start, os.SEEK_DATA)
            except OSError:  # there is only a hole left
                end = size
            if end > start:
                place = ["--offset", str(start), "--length", str(end - start)]
                subprocess.run(["fallocate", "--punch-hole", *place, path], check=True)
            start = os.lseek(file.fileno(), end, os.SEEK_HOLE) if end < size else size


def edit_inside(path: Path, rng: random.Random, *, files: int = 40, log: int = MIB) -> None:
    """Edit *files* files in the image, as an editor saves: written anew; write *log* bytes of log.

    Each edit overwrites a few bytes inside and appends some. Files of odd names are left alone.
    """
    names = [name for name in _files_inside(path, "/") if re.fullmatch(r"[\w./+-]+", name)]
    with tempfile.TemporaryDirectory() as scratch:
        commands = [f"dump {name} {scratch}/{n}" for n, name in enumerate(rng.sample(names, files))]
        _debugfs(path, commands)
        edits = []
        for number, command in enumerate(commands):
            copy, name = Path(scratch, str(number)), command.split()[1]
            patch(copy, rng, length=100)
            append(copy, text_like(rng.getrandbits(32), rng.randrange(1, 200)))
            edits += [f"rm {name}", f"write {copy} {name}"]
        written = Path(scratch, "log")
        growing_log(written, rng, size=log)
        _debugfs(path, [*edits, f"write {written} /log-{rng.getrandbits(48):x}"])


def _files_inside(image: Path, folder: str) -> Iterator[str]:
    """Yield the paths of regular files of some size below *folder*, level by level."""
    level = [folder]
    while level:
        # a line for each entry: /inode/mode/uid/gid/name/size/
        printed = _debugfs(image, [f"ls -p {name}" for name in level])
        entries, at = [], iter(level)
        where = ""
        for line in printed.splitlines():
            part = line.split("/")
            if len(part) != 8:
                continue
            if part[5] == ".":
                where = next(at).rstrip("/")
            elif part[2].startswith("100") and int(part[6] or 0) > 1000:
                yield f"{where}/{part[5]}"
            elif part[2].startswith("040") and part[5] not in ("..", "lost+found"):
                entries.append(f"{where}/{part[5]}")
        level = [name for name in entries if re.fullmatch(r"[\w./+-]+", name)]


def _debugfs(image: Path, commands: list[str]) -> str:
    """Run debugfs' commands on the image, which needs neither root nor a mount."""
    arguments = [_tool("debugfs"), "-w", "-f", "-", str(image)]
    done = subprocess.run(
        arguments, input="\n".join(commands), capture_output=True, text=True, check=True
    )
    return done.stdout


def _tool(name: str) -> str:
    """Return the path of a system tool, which may lie outside of PATH for ordinary users."""
    places = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"
    found = shutil.which(name, path=places)
    if found is None:
        raise RuntimeError(f"{name} not found: install the Debian package e2fsprogs")
    return found


# ---- a log ---------------------------------------------------------------------------------


def growing_log(path: Path, rng: random.Random, *, size: int = 5 * MIB) -> None:
    """Append *size* bytes, more or less, of lines with times that go on where the log ended."""
    path.parent.mkdir(parents=True, exist_ok=True)
    moment = 1_790_000_000 + (path.stat().st_size if path.exists() else 0) // 10
    lines, written = _lines(), 0
    with path.open("ab") as file:
        while written < size:
            moment += rng.randrange(20)
            head = f"{moment} host-{rng.randrange(9)} service[{rng.randrange(1 << 15)}]: "
            written += file.write(head.encode() + rng.choice(lines))

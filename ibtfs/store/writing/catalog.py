"""The local catalog: which archive may hold a content, by its digest.

One SQLite file per repository in the user's cache folder; it may be deleted at any time, and is
fed from the archives that it has not seen.  It only ever suggests: who gets a reference from here
reads the record and compares.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import TypeVar

from ibtfs.errors import IntegrityError
from ibtfs.format.index import Reference
from ibtfs.store import layout
from ibtfs.store.contents.slabs import head_digest
from ibtfs.store.repository import Repository

Value = TypeVar("Value")

SCHEMA = """
CREATE TABLE IF NOT EXISTS archives(
    id INTEGER PRIMARY KEY, name TEXT UNIQUE, generation INTEGER, epoch INTEGER);
CREATE TABLE IF NOT EXISTS contents(
    prefix INTEGER, archive INTEGER, number INTEGER,
    PRIMARY KEY(prefix, archive, number)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS heads(
    prefix INTEGER, archive INTEGER, number INTEGER,
    PRIMARY KEY(prefix, archive, number)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files(archive INTEGER PRIMARY KEY, kinds TEXT);
CREATE TABLE IF NOT EXISTS named(name TEXT PRIMARY KEY) WITHOUT ROWID;
"""
MEMORY = ":memory:"
_SPOILT = (sqlite3.Error, UnicodeDecodeError)
"""What a spoilt file leads to; the latter where SQLite's own message has some of its bytes."""


def discard_catalog(folder: bytes, repository: bytes) -> None:
    """Remove the catalog of a repository from a cache folder.  Raises OSError."""
    _unlink_all(f"{os.fsdecode(folder)}/{repository.hex()}.sqlite")


def _unlink_all(path: str) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        try:
            os.unlink(path + suffix)
        except FileNotFoundError:
            continue


class Catalog:
    """Looks up contents by digest; used by one thread.

    *folder* is the cache folder (made when missing), or empty to keep the catalog in memory.
    """

    def __init__(self, repository: Repository, folder: bytes) -> None:
        self._repository = repository
        self._path = MEMORY
        if folder:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            self._path = os.fsdecode(folder) + f"/{repository.id.hex()}.sqlite"
        self._connection: sqlite3.Connection | None = None
        self._seen: set[str] = set()
        self._lacks = False

    def _opened(self) -> sqlite3.Connection:
        """The connection, fed with what the repository has by now at its first use."""
        if self._connection is None:
            try:
                self._connection = self._open()
            except sqlite3.OperationalError:
                self._path = MEMORY  # in use for long by somebody else, or no room: do without
                self._connection = self._open()
            except _SPOILT:
                self._discard()
                self._connection = self._open()
        return self._connection

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=60, isolation_level=None)
        # a name that a disk spoilt is none that the repository has
        connection.text_factory = lambda data: data.decode(errors="replace")
        self._seen = set()
        try:
            connection.execute("PRAGMA synchronous=OFF")
            connection.executescript(SCHEMA)
            self._feed(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _discard(self) -> None:
        """Remove a file that SQLite cannot use."""
        if self._path != MEMORY:
            _unlink_all(self._path)

    def _feed(self, connection: sqlite3.Connection) -> None:
        """Read the records of archives not seen yet; forget archives that are gone or pruned.

        Those that this run has seen stay as they are: its lock keeps them.
        """
        connection.execute("BEGIN IMMEDIATE")
        try:
            rows = connection.execute(
                "SELECT name, generation, id, kinds FROM archives LEFT JOIN files ON archive = id"
            ).fetchall()
            # looked at now, for waiting may have taken long; and what was seen may have been
            # removed by another process that looked earlier
            seen = self._seen.intersection(row[0] for row in rows)
            files = self._repository.archive_files(known=seen, recent=True)
            present = {name: numbers[layout.INDEX] for name, numbers in files.items()}
            known = {(name, number) for name, number, _, kinds in rows if kinds is not None}
            gone = [
                ordinal
                for name, _, ordinal, _ in rows
                if name not in seen and (name, present.get(name)) not in known
            ]
            if gone:
                self._forget(connection, gone)
                self._name(connection, [name for name, _ in known if name in present])
            for name in sorted(name for name in present if (name, present[name]) not in known):
                self._feed_archive(connection, name, present[name])
            self._compare(connection, files, seen)
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        self._seen = seen.union(present)

    def _forget(self, connection: sqlite3.Connection, gone: list[int]) -> None:
        """Forget archives; at once, for each look for what they had reads all there is."""
        connection.execute("CREATE TEMP TABLE gone(id INTEGER PRIMARY KEY)")
        connection.executemany("INSERT INTO gone VALUES(?)", ((ordinal,) for ordinal in gone))
        for table in ("contents", "heads", "files"):
            connection.execute(f"DELETE FROM {table} WHERE archive IN (SELECT id FROM gone)")
        connection.execute("DELETE FROM archives WHERE id IN (SELECT id FROM gone)")
        connection.execute("DROP TABLE gone")

    def _name(self, connection: sqlite3.Connection, archives: Iterable[str]) -> None:
        """Take down anew which archives those name that stay: they may need fewer now."""
        connection.execute("DELETE FROM named")
        for name in archives:
            with suppress(IntegrityError):
                self._add_named(connection, self._repository.archive(name).header.archives)

    def _add_named(self, connection: sqlite3.Connection, names: Iterable[str]) -> None:
        rows = ((name,) for name in names if name)
        connection.executemany("INSERT OR IGNORE INTO named VALUES(?)", rows)

    def _compare(
        self, connection: sqlite3.Connection, files: Mapping[str, Mapping[str, int]], seen: set[str]
    ) -> None:
        """Find out whether there are all *files* that there should be."""
        rows = connection.execute(
            "SELECT name, kinds FROM archives LEFT JOIN files ON archive = id"
        )
        kinds = {name: str(kinds).split() for name, kinds in rows}
        named = {name for (name,) in connection.execute("SELECT name FROM named")}
        # an archive that is not in the catalog could not be read
        self._lacks = not named.union(files) <= seen.union(files) or any(
            not files[name].keys() >= set(kinds.get(name, "?")) for name in files
        )

    def may_lack(self) -> bool:
        """Whether an archive may lack one of its files, or one that another needs may be gone.

        It may, where nothing was remembered: without a folder.
        """
        if self._path == MEMORY:
            return True
        self._guarded(self._opened)
        return self._path == MEMORY or self._lacks

    def _feed_archive(self, connection: sqlite3.Connection, name: str, generation: int) -> None:
        archive = self._repository.archive(name)
        try:
            header = archive.header
            cursor = connection.execute(
                "INSERT INTO archives(name, generation, epoch) VALUES(?, ?, ?)",
                (name, generation, header.epoch),
            )
            ordinal = cursor.lastrowid
            connection.executemany(
                "INSERT OR IGNORE INTO contents VALUES(?, ?, ?)",
                (
                    (_prefix(record.digest), ordinal, number)
                    for number, record in archive.contents()
                    if not record.is_shell
                ),
            )
            heads = (
                (_prefix(head), ordinal, number)
                for number, record in archive.contents()
                if record.slabs >= 0 and (head := head_digest(archive, record))
            )
            connection.executemany("INSERT OR IGNORE INTO heads VALUES(?, ?, ?)", heads)
            self._add_named(connection, header.archives)
            connection.execute(
                "INSERT OR REPLACE INTO files VALUES(?, ?)", (ordinal, " ".join(archive.kinds))
            )
        except IntegrityError:
            return  # damaged: offers what was read so far; check says so

    def feed(self) -> None:
        """Take in archives that were finished since the last look, if it was ever used."""
        if self._connection is not None:
            self._guarded(lambda: self._feed(self._opened()))

    def _guarded(self, work: Callable[[], Value]) -> Value:
        """Do *work*; once more with a new catalog when SQLite cannot use the old one."""
        try:
            return work()
        except _SPOILT as error:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            if isinstance(error, sqlite3.OperationalError):
                self._path = MEMORY
            self._discard()
            return work()

    def contents(self, digest: bytes, epoch: int) -> Iterator[Reference]:
        """Where a content with *digest* may be, in archives of *epoch* or later; newest first."""
        return iter(self._guarded(lambda: self._find("contents", digest, epoch)))

    def heads(self, slab: bytes, epoch: int) -> Iterator[Reference]:
        """Large contents whose first slab that is not zeros may have the digest *slab*."""
        return iter(self._guarded(lambda: self._find("heads", slab, epoch)))

    def _find(self, table: str, digest: bytes, epoch: int) -> list[Reference]:
        query = (
            f"SELECT name, number FROM {table} JOIN archives ON archives.id = archive "
            "WHERE prefix = ? AND epoch >= ? ORDER BY archives.name DESC LIMIT 16"
        )
        rows = self._opened().execute(query, (_prefix(digest), epoch))
        return [Reference(name, number) for name, number in rows if name in self._seen]

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Catalog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self.close()


def _prefix(digest: bytes) -> int:
    """The first 8 bytes of *digest* as SQLite's integer."""
    return int.from_bytes(digest[:8], "big", signed=True)

"""Searching all that a repository has on the disk for bytes that must not be there any more."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from ibtfs.format.frames import MANIFEST
from ibtfs.format.objects import decode_object
from ibtfs.store import layout
from ibtfs.store.archives.file import FrameFileReader
from ibtfs.store.repository import Repository

WINDOW = 16
OWN = 4
"""Of how many bytes at an end of a part it is that others do not have it."""


class Needles:
    """What is searched for: parts of *secrets* of 16 bytes, and *words* as they are.

    Parts that *others* have as well are not, nor those of which they have all but four bytes at an
    end: what they share ends there, and any byte may follow it by chance.  Parts begin at every
    *step*-th byte: with a step of 16 whatever has 31 bytes in common is found, with 1 what has 16.
    """

    def __init__(
        self, secrets: Iterable[bytes], words: Iterable[bytes], others: Iterable[bytes],
        *, step: int = 1,
    ) -> None:  # fmt: skip
        windows = {
            secret[at : at + WINDOW]
            for secret in secrets
            for at in range(0, len(secret) - WINDOW + 1, step)
        }
        size = WINDOW - OWN
        parts = {window[:size] for window in windows} | {window[OWN:] for window in windows}
        shared = set[bytes]()
        for other in others:
            shared |= parts & {other[at : at + size] for at in range(len(other) - size + 1)}
        self.windows = {w for w in windows if w[:size] not in shared and w[OWN:] not in shared}
        self.words = set(words)

    def found_in(self, data: bytes) -> Iterator[str]:
        """What of it *data* has."""
        for word in self.words:
            if word in data:
                yield f"{word!r}"
        parts = {data[at : at + WINDOW] for at in range(len(data) - WINDOW + 1)}
        for window in parts & self.windows:
            yield window.hex()
            return


def leaks(repository: Repository, needles: Needles, *folders: Path) -> list[str]:
    """Where any of *needles* is: names, raw bytes, and decompressed frames of all files.

    *folders* are searched beside the repository: names and raw bytes.
    """
    root = Path(os.fsdecode(repository.path))
    found = []
    for folder in (root, *folders):
        for path in sorted(folder.rglob("*")):
            name = os.fsencode(path.relative_to(folder))
            found += [f"the name {name!r}: {what}" for what in needles.found_in(name)]
            if path.is_file():
                found += [f"{path}: {what}" for what in needles.found_in(path.read_bytes())]
    for where, raw in _frames(repository, root):
        found += [f"{where}: {what}" for what in needles.found_in(raw)]
    return found


def _frames(repository: Repository, root: Path) -> Iterator[tuple[str, bytes]]:
    """All frames of a repository, decompressed, by where they are."""
    for path in sorted((root / "points").iterdir()):
        name, data = layout.point(path.name), path.read_bytes()
        yield name, decode_object(repository.keys, name, MANIFEST, data, name)
    for path in sorted((root / "archives").glob("*/*.*")):
        name = str(path.relative_to(root))
        file = FrameFileReader(
            repository.keys, name.rpartition(".")[0], repository.storage.open(name)
        )
        for stream, table in file.tables.items():
            for row in range(len(table.starts)):
                yield f"{name}: {stream} from {table.starts[row]}", file.frame(stream, row).raw

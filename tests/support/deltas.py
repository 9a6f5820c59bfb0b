"""Versions of one file, the deltas between them, and what Debian's rdiff makes of these."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from ibtfs.actions.deltas.export import DeltaExport, Side
from ibtfs.format.point import Point
from ibtfs.format.rdelta import LITERAL, apply_delta, parse_delta
from ibtfs.store.repository import Repository
from ibtfs.store.trees.paths import find_entry
from tests.support.repositories import back_up, create, reopened, the_point


def version(repository: Repository, point: Point, path: bytes = b"file") -> Side:
    entry = find_entry(repository, point, path)
    return Side(entry.content, entry.size)


def exported(repository: Repository, old: Point, new: Point) -> tuple[bytes, DeltaExport]:
    """The delta, by a repository opened anew, and what was counted."""
    repo = reopened(repository)
    export = DeltaExport(repo, version(repo, old), version(repo, new))
    delta = b"".join(bytes(piece) for piece in export.pieces())
    assert export.delta_bytes == len(delta)
    copied = sum(n for place, _, n in parse_delta(delta) if place != LITERAL)
    literal = sum(n for place, _, n in parse_delta(delta) if place == LITERAL)
    assert (export.copied_bytes, export.literal_bytes) == (copied, literal)
    return delta, export


def patched(place: Path, old: bytes, delta: bytes) -> bytes:
    """What Debian's rdiff makes of *old*."""
    (place / "old").write_bytes(old)
    (place / "delta").write_bytes(delta)
    subprocess.run(["rdiff", "--force", "patch", "old", "delta", "new"], cwd=place, check=True)
    return (place / "new").read_bytes()


class Generations:
    """A repository with versions of one file: their bytes, and their points."""

    def __init__(self, place: Path) -> None:
        self.place, self.source = place, place / "source"
        self.source.mkdir(parents=True)
        self.repository = create(place / "repository")
        self.data: list[bytes] = []
        self.points: list[Point] = []

    def add(self, data: bytes, **options: Any) -> None:
        """Back up *data* as the next version; long zeros as holes."""
        (self.source / "file").unlink(missing_ok=True)
        with (self.source / "file").open("wb") as file:
            for start in range(0, len(data), 4096):
                piece = data[start : start + 4096]
                if piece.strip(b"\0"):
                    file.seek(start)
                    file.write(piece)
            file.truncate(len(data))
        self.data.append(data)
        self.points.append(the_point(back_up(self.repository, self.source, **options)))

    def check(self, old: int, new: int) -> DeltaExport:
        delta, export = exported(self.repository, self.points[old], self.points[new])
        assert patched(self.place, self.data[old], delta) == self.data[new], (old, new)
        assert apply_delta(self.data[old], delta) == self.data[new]
        return export

"""All that FORMAT.rst tells of lies in the repositories kept in tests/data, and so is read there.

A fixture that lost some of it would test less, and nobody would notice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ibtfs.format import frames
from tests.support.documents import list_tables
from tests.support.fixtures import DATA, FIXTURES
from tests.support.independent_reader import (
    BUNDLE,
    HEAD,
    LIST,
    MANIFEST,
    NOTE,
    RUNS,
    SHELL,
    STREAMS,
    Archive,
    ArchiveFile,
    IndependentReader,
    read_part,
    unpack,
)

TABLES = list_tables((Path(frames.__file__).parent / "FORMAT.rst").read_text())
CONTENTS, STATES, MAPS = (STREAMS[name] for name in ("contents", "states", "maps"))
NOT_KEPT = {"locks/<lock>"}
"""A repository has it only while somebody is at work."""


@dataclass
class Held:
    """What the fixtures of this version hold, taken down by its kind."""

    names: set[str] = field(default_factory=set)
    streams: set[int] = field(default_factory=set)
    codecs: set[int] = field(default_factory=set)
    frame_flags: set[int] = field(default_factory=set)
    gaps: int = 0
    records_gone: int = 0
    headers: list[dict[str, Any]] = field(default_factory=list)
    records: list[list[Any]] = field(default_factory=list)
    replaced: int = 0
    slabs_in_index: int = 0
    codes: set[int] = field(default_factory=set)
    states: list[list[Any]] = field(default_factory=list)
    manifests: list[dict[str, Any]] = field(default_factory=list)
    hidden: set[str] = field(default_factory=set)
    bundled_before: int = 0
    masters: set[bytes] = field(default_factory=set)
    modes: set[tuple[str, int]] = field(default_factory=set)

    def add(self, path: Path) -> None:
        """Take down the repository in *path*."""
        reader = IndependentReader(str(path))
        self.names |= {str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()}
        if (path / "bundles").exists():
            self.streams.add(BUNDLE)
        if reader.keys is not None:
            self._add_sealed(reader)
            return
        points = reader.points()
        self.streams.add(MANIFEST)
        if reader.damaged():
            self.streams.add(NOTE)
        self.manifests += [dict(point.values) for point in points]
        shown = {point.values["id"] for point in points}
        self.hidden |= {p.name for p in (path / "points").iterdir()} - shown
        for archive in reader.archives():
            self._add_archive(path, reader, archive)

    def _add_sealed(self, reader: IndependentReader) -> None:
        """Of what is sealed the names are taken down, and what no other repository has."""
        if reader.listed()["earlier"]:
            self.streams.add(LIST)
        for name in ("points", "damaged"):
            for path in Path(reader.path).glob(f"{name}/*"):
                self.masters.add(path.read_bytes()[26:34])
                self.modes.add((name, path.read_bytes()[24]))
        for archive in reader.archives():
            self.modes.add(("archives", archive.file("index").mode))

    def _add_archive(self, path: Path, reader: IndependentReader, archive: Archive) -> None:
        self.headers.append(archive.header)
        indexes: dict[int, dict[int, list[Any]]] = {}
        for name, part in reader.files(archive.id).items():
            kind, _, generation = name.partition(".")
            if not generation.isdecimal():
                continue
            self.names.add(f"archives/{archive.id}/{name}")
            self.bundled_before += "bundles" in part[0] and (
                (path / "archives" / archive.id / f"{kind}.{int(generation) + 1}").exists()
            )
            key_name = f"archives/{archive.id}/{kind}"
            file = ArchiveFile(read_part(*part), reader.id, key_name, int(generation))
            for stream, number, body in self._frames(file):
                if stream == CONTENTS:
                    indexes.setdefault(int(generation), {})[number] = unpack(body)
                elif stream == STATES:
                    self.states.append(unpack(body))
                elif stream == MAPS:
                    self.codes |= set(unpack(body)[2])
            if kind == "index" and archive.header["sigs"]:
                self.slabs_in_index += STREAMS["slabs"] in file.rows
        oldest, newest = (
            indexes.get(min(indexes, default=0), {}),
            indexes.get(max(indexes, default=0), {}),
        )
        self.records += newest.values()
        self.replaced += sum(
            record[0] != SHELL and number in oldest and record != oldest[number]
            for number, record in newest.items()
        )

    def _frames(self, file: ArchiveFile) -> Iterator[tuple[int, int, bytes]]:
        """The records of *file*: stream, number and body; its frames are taken down."""
        self.streams.add(frames.TABLE)
        for stream, rows in file.rows.items():
            self.streams.add(stream)
            end = 0
            for row in rows:
                self.gaps += row.start > end
                end = row.start + row.count
                _, _, codec, flags, _ = HEAD.unpack_from(file.data, row.offset)
                self.codecs.add(codec)
                self.frame_flags.add(flags)
                if stream < STREAMS["header"]:
                    continue
                for number, body in enumerate(unpack(file.frame(stream, row)[0]), row.start):
                    if body is None:
                        self.records_gone += 1
                    else:
                        yield stream, number, body


@pytest.fixture(scope="module")
def held() -> Held:
    found = Held()
    for name in FIXTURES:
        if name.startswith(f"repo-v{frames.FORMAT_VERSION}"):
            found.add(DATA / name)
    return found


def numbers(title: str, column: str) -> set[int]:
    return {int(row[column]) for row in TABLES[title]}


@pytest.mark.parametrize(
    "name", [r["Name"] for r in TABLES["Objects"] if r["Name"] not in NOT_KEPT]
)
def test_objects(held: Held, name: str) -> None:
    pattern = re.sub("<n>|<share>", r"\\d+", name)
    pattern = re.sub("<[a-z]+>", "[^/]+", pattern)
    assert [found for found in held.names if re.fullmatch(pattern, found)]


@pytest.mark.parametrize("kind", ["data", "sigs", "index"])
def test_later_generations(held: Held, kind: str) -> None:
    assert [found for found in held.names if re.fullmatch(rf"archives/.*/{kind}\.[2-9]", found)]
    if kind == "index":
        assert held.bundled_before, "and where the earlier one lies in a bundle"


def test_frames(held: Held) -> None:
    reserved = {int(r["Number"]) for r in TABLES["Streams"] if "reserved" in r["What it holds"]}
    assert held.streams == numbers("Streams", "Number") - reserved
    assert held.codecs == numbers("Codecs", "Number")
    assert held.frame_flags == {0, RUNS}
    assert held.gaps
    assert held.records_gone


def test_headers(held: Held) -> None:
    assert {header["epoch"] for header in held.headers} == {0, 1}
    assert {(header["data"], header["sigs"]) for header in held.headers} >= {
        (True, True), (True, False), (False, False)
    }  # fmt: skip
    assert any(header.get("ends") for header in held.headers)


def test_content_records(held: Held) -> None:
    assert {len(record) for record in held.records} == {
        5,
        len(TABLES["Values of a content record"]),
    }
    assert {record[2] for record in held.records} == set(frames.DATA_STREAMS)
    shells = [record for record in held.records if record[0] == SHELL]
    assert any(len(record) == 5 for record in shells), "of which all is kept"
    assert any(len(record) > 5 for record in shells), "of which a part is kept"
    assert held.replaced, "built on something else than before"
    assert held.slabs_in_index, "whose slabs lie in the index, beside a file of sigs"
    rich = [record for record in held.records if len(record) > 5]
    assert any(record[5] > 1 for record in rich), "a chain"
    assert any(len(record[7]) > 1 for record in rich), "several donors"
    assert any(record[9] > 1 for record in rich), "a map of several parts"


def test_codes_of_ranges(held: Held) -> None:
    assert held.codes >= numbers("Codes of ranges", "Code") | {5}


def test_states(held: Held) -> None:
    assert {state[0] for state in held.states} == numbers("Kinds of records of states", "Kind")
    assert any(len(values[0]) > 3 for kind, *values in held.states if kind == 1)
    extras = [extra for kind, *v in held.states if kind == 0 for extra in v[2].values()]
    assert {key for extra in extras for key in extra} == {row["Key"] for row in TABLES["Extras"]}
    flags = {extra.get("f", 0) for extra in extras}
    assert flags - {0} >= numbers("Flags of a row", "Bit")


def test_manifests(held: Held) -> None:
    keys = {key for values in held.manifests for key, value in values.items() if value}
    # whose a point was that the owner purged, or copied: see promises/test_write_only
    assert keys >= {row["Key"] for row in TABLES["Optional keys of a manifest"]} - {"writer"}
    assert {values["single"] for values in held.manifests} == {False, True}
    assert any(len(values["devices"]) > 1 for values in held.manifests)
    assert held.hidden, "a point that another one stands in the place of"


@pytest.mark.parametrize("row", TABLES["Stored names"], ids=lambda row: row["Name"])
def test_sealed(held: Held, row: dict[str, str]) -> None:
    assert len(held.masters) == 3, "of objects that are there"
    both = {("points", 1), ("points", 2), ("archives", 1), ("archives", 2), ("archives", 3)}
    assert held.modes == {*both, ("damaged", 1)}
    if row["Name"] in {*NOT_KEPT, "copied/<repository>-<point>"}:
        return  # the latter where nothing is sealed
    pattern = re.sub("<mark>", "[0-9a-f]{32}", row["Stored as"])
    pattern = re.sub("<hidden>", "[0-9A-Za-z_-]{43,}", pattern)
    pattern = re.sub("<[a-z]+>", "[^/]+", pattern)
    assert [found for found in held.names if re.fullmatch(pattern, found)]

"""Marking where states are none, lead nowhere or cannot be read: nothing behind them may go."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ibtfs.errors import IntegrityError
from ibtfs.format.entry import HASH_SIZE
from ibtfs.format.frames import CONTENTS, HEADER, STATES
from ibtfs.format.index import Reference
from ibtfs.format.packing import pack
from ibtfs.store.removal.marking import NEVER, ArchiveMarks, Marking, first_come, mark_points
from ibtfs.store.removal.order import dependents_first
from ibtfs.store.removal.plan import make_plan
from ibtfs.store.removal.spans import Spans
from ibtfs.store.removal.weights import weigh
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import StateRef
from tests.support import hostile
from tests.support.repositories import create, reopened

pytestmark = pytest.mark.damaged
HASH = bytes(HASH_SIZE)
FIRST, SECOND = hostile.archive_id(0), hostile.archive_id(1)


@pytest.fixture
def repository(fast_path: Path) -> Repository:
    return create(fast_path / "repository")


def stamp(name: bytes, mode: int = 0o100644) -> tuple[Any, ...]:
    return (name, mode, 0, 0, 5, 1, 1, 1, 1)


def page(*rows: tuple[int, Any], extras: Any = None) -> bytes:
    stamps = [stamp(b"%d" % n, mode) for n, (mode, _) in enumerate(rows)]
    return pack((0, stamps, [ref for _, ref in rows], extras or {}))


FILE, FOLDER, DISK = 0o100644, 0o40755, 0o60644


@pytest.mark.parametrize(
    "body",
    [
        b"", pack(5), pack(()), pack((2, ())), pack((None, ())), pack((1, 5)), pack((1, [5])),
        pack((1, [[]])), pack((1, [[99, HASH, 1, b"z"]])), pack((1, [[5 << 32, HASH, 1, b"z"]])),
        pack((0, [stamp(b"a")])), page((FILE, 99)), page((FILE, 5 << 32)),
        page((FOLDER, (99, HASH))), page((FOLDER, (5 << 32, HASH))), page((FOLDER, ())),
        page((FILE, 0), extras={0: {"X": 99}}), page((FILE, 0), extras=[]),
        pack((0, [(b"a",)], [0], {})),
    ],
)  # fmt: skip
def test_what_is_no_state_keeps_its_archive(repository: Repository, body: bytes) -> None:
    with hostile.archive(repository, 0) as writer:
        writer.add_whole(1, bytes(32), b"12345")
        writer.add_whole(1, b"1" * 32, b"12345")
    with hostile.archive(repository, 1) as writer:
        writer.ordinal(FIRST)
        root = hostile.folder(writer, {})
        number = writer._records[STATES].append(body)
    marking = mark_points(reopened(repository), [Reference(SECOND, number)])
    assert len(marking.damages) == 1
    assert f"archives/{SECOND}/index: state {number}" in marking.damages[0]
    for name in (FIRST, SECOND):
        assert marking.archives[name].is_kept
        assert NEVER not in marking.archives[name].states
        assert NEVER not in marking.archives[name].contents
    # unless nothing leads there
    marking = mark_points(reopened(repository), [root.ref])
    assert marking.damages == []
    assert list(marking.archives[SECOND].states) == [0, NEVER]
    assert not marking.archives[SECOND].is_kept


def test_what_rows_lead_to_is_marked_and_nothing_else(repository: Repository) -> None:
    with hostile.archive(repository, 0) as writer:
        for number in range(6):
            writer.add_whole(1, bytes([number]) * 32, b"12345")
        writer._records[STATES].append(page((FILE, 4)))
    with hostile.archive(repository, 1) as writer:
        other = writer.ordinal(FIRST) << 32
        writer.add_whole(1, b"x" * 32, b"12345")
        inner = writer._records[STATES].append(page((FILE, other | 1), (DISK, 0), (0o120777, b"t")))
        writer._records[STATES].append(page((FILE, other | 3)))
        number = writer._records[STATES].append(
            page((FILE, other), (FOLDER, (inner, HASH)), (FOLDER, (other, HASH)), (FILE, None),
                 extras={0: {"X": other | 2}, 1: {"f": 1}})
        )  # fmt: skip
    marking = mark_points(reopened(repository), [Reference(SECOND, number)])
    assert marking.damages == []
    marks = {name: marking.archives[name] for name in (FIRST, SECOND)}
    assert list(marks[FIRST].contents) == [0, 0, 0, NEVER, 0, NEVER]
    assert list(marks[FIRST].states) == [0]
    assert list(marks[SECOND].contents) == [NEVER]
    assert list(marks[SECOND].states) == [0, NEVER, 0]
    assert (marks[FIRST].is_used, marks[FIRST].is_kept) == (True, False)
    assert not Marking(reopened(repository)).archive(FIRST).is_used
    assert first_come(3, 5) == 3


def test_only_marks_of_one_kind_make_an_archive_used(repository: Repository) -> None:
    with hostile.archive(repository, 0) as writer:
        writer.add_whole(1, bytes(32), b"12345")
        hostile.folder(writer, {})
    opened = reopened(repository)
    for states, contents, used in ((NEVER, NEVER, False), (0, NEVER, True), (NEVER, 0, True)):
        marks = ArchiveMarks(opened, opened.archive(FIRST).header)
        marks.states[0], marks.contents[0] = states, contents
        assert marks.is_used is used


def test_marks_that_come_to_one_are_joined(repository: Repository) -> None:
    with hostile.archive(repository, 0) as writer:
        writer.add_whole(1, bytes(32), b"12345")
        shared = writer._records[STATES].append(page((FILE, 0)))
        roots = [
            Reference(FIRST, writer._records[STATES].append(page((FOLDER, (shared, HASH)), row)))
            for row in ((FILE, None), (FILE, 0), (DISK, 7))
        ]
    spans = Spans([range(3)])
    marking = Marking(reopened(repository), spans.joined)
    marking.mark(zip(roots, spans.points))
    marks = marking.archives[FIRST]
    assert [spans.all[mark] for mark in marks.states] == [(0, 2), (0, 0), (1, 1), (2, 2)]
    assert [spans.all[mark] for mark in marks.contents] == [(0, 2)]


def spoil(repository: Repository, archive: str, stream: int) -> None:
    offset = reopened(repository).archive(archive).file("index").table(stream).offsets[0]
    path = Path(os.fsdecode(repository.path), "archives", archive, "index.1")
    data = bytearray(path.read_bytes())
    data[offset + 30] ^= 1
    path.write_bytes(data)


@pytest.fixture
def chained(repository: Repository) -> StateRef:
    """A folder in the second archive that holds one of the first."""
    with hostile.archive(repository, 0) as writer:
        writer.add_whole(1, bytes(32), b"12345")
        inner = hostile.folder(writer, {b"file": None})
    with hostile.archive(repository, 1) as writer:
        return hostile.folder(writer, {b"folder": inner})


def test_what_does_not_say_where_it_leads_lets_nothing_go(
    repository: Repository, chained: StateRef
) -> None:
    spoil(repository, FIRST, HEADER)
    marking = mark_points(reopened(repository), [chained.ref])
    assert len(marking.damages) == 1
    assert list(marking.untold) == [FIRST]
    assert marking.archives[SECOND].is_kept
    assert FIRST not in marking.archives
    with pytest.raises(IntegrityError):
        mark_points(reopened(repository), [Reference(FIRST, 0)])
    # where nothing leads there it is no matter
    with hostile.archive(repository, 2) as writer:
        root = hostile.folder(writer, {})
    marking = mark_points(reopened(repository), [root.ref])
    assert (marking.damages, marking.untold) == ([], {})
    plan = make_plan(reopened(repository), marking)
    assert plan.archives[FIRST].is_fixed
    assert len(plan.damages) == 1
    assert not plan.archives[SECOND].is_fixed


def test_a_frame_of_states_that_cannot_be_read(repository: Repository, chained: StateRef) -> None:
    spoil(repository, FIRST, STATES)
    marking = mark_points(reopened(repository), [chained.ref])
    assert len(marking.damages) == 1
    assert f"archives/{FIRST}/index.1" in marking.damages[0]
    assert marking.archives[FIRST].is_kept
    assert not marking.archives[SECOND].is_kept
    assert list(marking.archives[FIRST].contents) == [0]
    assert make_plan(reopened(repository), marking).archives[FIRST].is_whole


def test_an_index_that_goes_meanwhile_is_damage(
    repository: Repository, chained: StateRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = reopened(repository)
    marking = Marking(opened)
    for name in (FIRST, SECOND):
        assert marking.archive(name)
    real = type(opened.archive(FIRST)).file

    def file(self: Any, kind: str) -> Any:
        if self.id == FIRST:
            raise IntegrityError("it is gone")
        return real(self, kind)

    monkeypatch.setattr(type(opened.archive(FIRST)), "file", file)
    marking.mark([(chained.ref, 0)])
    assert marking.damages == ["it is gone"]
    assert [marking.archives[name].is_kept for name in (FIRST, SECOND)] == [True, False]


def test_archives_come_behind_those_that_refer_to_them(
    repository: Repository, chained: StateRef
) -> None:
    with hostile.archive(repository, 2) as writer:
        hostile.folder(writer, {b"folder": chained, b"x": StateRef(Reference(FIRST, 0), HASH)})
    names = [hostile.archive_id(number) for number in range(3)]
    opened = reopened(repository)
    assert dependents_first(opened, names) == names[::-1]
    assert dependents_first(opened, names[::-1]) == names[::-1]
    assert dependents_first(opened, [names[2], names[0]]) == [names[2], names[0]]
    assert dependents_first(opened, []) == []
    spoil(repository, names[1], HEADER)
    assert set(dependents_first(reopened(repository), names)) == set(names)


def test_archives_that_refer_to_each_other_are_damage(repository: Repository) -> None:
    hostile.entangled(repository)
    with pytest.raises(IntegrityError, match="refer to each other"):
        dependents_first(reopened(repository), [FIRST, SECOND])


def test_what_cannot_be_weighed_is_told(repository: Repository, chained: StateRef) -> None:
    point = hostile.commit(repository, chained)
    spans = Spans([range(1)])
    found = weigh(reopened(repository), [point], spans)
    files = list(Path(os.fsdecode(repository.path), "archives").glob("*/*"))
    assert found.damages == []
    assert found.total == sum(path.stat().st_size for path in files)
    assert found.unknown == 0
    assert sum(found.by_span) + found.unneeded == pytest.approx(found.total)
    assert 0 < found.unneeded < 200
    assert (found.contents, found.content_bytes, found.payload_bytes) == (0, 0, 0)
    spoil(repository, FIRST, CONTENTS)
    hurt = weigh(reopened(repository), [point], Spans([range(1)]))
    assert len(hurt.damages) == 1
    assert hurt.archives[FIRST].is_damaged
    assert not hurt.archives[SECOND].is_damaged
    assert hurt.total == found.total
    assert 0 < hurt.unknown < found.total
    assert hurt.unneeded == 0


@pytest.mark.parametrize("permissions", [0, 1, 0o111, 0o644, 0o755, 0o4755, 0o7777])
def test_files_of_any_permissions_need_their_contents(
    repository: Repository, permissions: int
) -> None:
    """And numbers of devices are none of contents."""
    with hostile.archive(repository, 0) as writer:
        for number in range(4):
            writer.add_whole(1, bytes([number]) * 32, b"12345")
        root = writer._records[STATES].append(
            page(
                (0o100000 | permissions, 1), (0o60000 | permissions, 2), (0o20000 | permissions, 3)
            )
        )
    marking = mark_points(reopened(repository), [Reference(FIRST, root)])
    assert marking.damages == []
    assert list(marking.archives[FIRST].contents) == [NEVER, 0, NEVER, NEVER]

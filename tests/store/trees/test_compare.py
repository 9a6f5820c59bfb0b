"""Two stored trees compared: against plain dicts, without reading what is known to be the same."""

from __future__ import annotations

import random
import stat
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ibtfs.errors import FormatDamaged, IntegrityError, PartlyDamaged
from ibtfs.format.entry import HASH_SIZE, Page, PageEntry
from ibtfs.format.index import Reference
from ibtfs.store.trees import compare
from ibtfs.store.trees.compare import KINDS, Change, Comparison, _same_row
from ibtfs.store.trees.directory import Entry, StateRef, StoredPage
from ibtfs.store.trees.patience import Patience
from tests.support.states import ID, Trees

Literal = dict[bytes, Any]
"""A tree: a dict for a folder, and a number for a file: its time."""


class Made(Trees):
    """Trees of which equal ones have equal digests, and different ones different ones."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, StateRef] = {}

    def of(self, literal: Literal, *, paged: bool = False) -> StateRef:
        key = f"{paged}{sorted(literal.items())!r}"
        if key not in self.known:
            states = {n: self.of(v) for n, v in literal.items() if isinstance(v, dict)}
            items = sorted(literal.items())
            pages = [items[at : at + 3] for at in range(0, len(items), 3)] if paged else [items]
            listed = []
            for rows in pages:
                page = Page(
                    tuple(stamp(n, v) for n, v in rows),
                    tuple((s.ref.number, s.digest) if (s := states.get(n)) else None
                          for n, _ in rows), {},
                )  # fmt: skip
                self._states.append(page)
                number = len(self._states) - 1
                listed.append(PageEntry(number, self.digest(repr(rows)), len(rows), rows[-1][0])
                              if rows else PageEntry(number, b"", 0, b""))  # fmt: skip
            if paged:
                self._states.append(tuple(listed))
            ref = Reference(ID, len(self._states) - 1)
            self.known[key] = StateRef(ref, self.digest(key))
        return self.known[key]

    @staticmethod
    def digest(text: str) -> bytes:
        return random.Random(text).randbytes(HASH_SIZE)


def stamp(name: bytes, value: Any) -> tuple[Any, ...]:
    mode = stat.S_IFDIR | 0o755 if isinstance(value, dict) else stat.S_IFREG | 0o644
    return (name, mode, 0, 0, 0, 0 if isinstance(value, dict) else value, 1, 1, 1)


def root(state: StateRef | None) -> Entry | None:
    if state is None:
        return None
    return Entry(b"", stat.S_IFDIR | 0o755, 0, 0, 0, 0, 1, 1, 1, None, state, b"", 0, {}, None)


def model(old: Any, new: Any, path: bytes = b"") -> list[tuple[bytes, str]]:
    """What differs between two trees, or folders, or None, in order of path by folder."""
    found: list[tuple[bytes, str]] = []
    before = old if isinstance(old, dict) else {}
    after = new if isinstance(new, dict) else {}
    for name in sorted({*before, *after}):
        below = path + b"/" + name if path else name
        one, other = before.get(name), after.get(name)
        if (
            one is not None
            and other is not None
            and isinstance(one, dict) != isinstance(other, dict)
        ):
            found += [(below, "deleted"), *model(one, None, below)]
            found += [(below, "created"), *model(None, other, below)]
            continue
        if one is None:
            found.append((below, "created"))
        elif other is None:
            found.append((below, "deleted"))
        elif not isinstance(one, dict) and one != other:
            found.append((below, "updated"))
        found += model(one, other, below)
    return found


def comparison(trees: Trees) -> Comparison:
    contents = SimpleNamespace(record=lambda _: pytest.fail("no content is to be read"))
    return Comparison(cast(Any, trees), cast(Any, contents))


def changed(chance: random.Random, tree: Literal, depth: int = 0) -> Literal:
    """*tree* with some changes."""
    made = {n: changed(chance, v, depth + 1) if isinstance(v, dict) and chance.random() < 0.4 else v
            for n, v in tree.items() if chance.random() < 0.9}  # fmt: skip
    for _ in range(chance.randrange(3)):
        name = b"%d" % chance.randrange(9)
        is_folder = depth < 3 and chance.random() < 0.4
        made[name] = changed(chance, {}, depth + 1) if is_folder else chance.randrange(1, 5)
    return made


@pytest.mark.parametrize("seed", range(12))
def test_trees_differ_as_their_dicts_do(seed: int) -> None:
    chance, trees = random.Random(seed), Made()
    tree: Literal = {}
    for _ in range(6):
        tree = changed(chance, tree)
    for _ in range(8):
        other = changed(chance, tree)
        paged = chance.random() < 0.5
        old, new = trees.of(tree, paged=paged), trees.of(other, paged=paged)
        made = comparison(trees)
        for one, two, expected in (
            (old, new, model(tree, other)), (new, old, model(other, tree)),
            (None, new, model(None, other)), (old, None, model(tree, None)), (old, old, []),
        ):  # fmt: skip
            found = list(made.tree_changes(root(one), root(two)))
            assert [(c.path, c.change.kind) for c in found if c.path] == expected
            assert all(c.error is None for c in found)
            for kind in KINDS:
                holds = made.holds(kind, one, two, Patience(60))
                assert holds is (kind in {what for _, what in expected})
                assert made.holds(kind, one, two, Patience(60)) is holds
            if one != two:
                for none_left in KINDS:
                    assert comparison(trees).holds(none_left, one, two, Patience(0)) is True
        tree = other


def test_pages_that_both_have_are_not_read() -> None:
    trees = Made()
    names = {b"%d" % n: 1 for n in range(9)}
    old, new = trees.of(names, paged=True), trees.of({**names, b"4": 2}, paged=True)
    trees.read.clear()
    (change,) = comparison(trees).changes(old, new)
    assert (change.name, change.what, change.kind) == (b"4", ("mtime",), "updated")
    assert sum(trees.read.values()) == 4  # two lists, and a page of each
    trees.read.clear()
    assert comparison(trees).changes(old, old) == ()
    assert comparison(trees).changes(None, None) == ()
    assert not trees.read


def test_changes_are_found_once_and_kept() -> None:
    trees = Made()
    old, new = trees.of({b"a": 1}), trees.of({b"a": 2, b"b": 1})
    made = comparison(trees)
    found = made.changes(old, new)
    before = trees.cache.size
    trees.read.clear()
    assert made.changes(old, new) is found
    assert not trees.read
    assert before >= 2 * compare.ROW_BYTES


def test_what_is_damaged_hides_only_itself() -> None:
    trees = Made()
    names: Literal = {b"%d" % n: 1 for n in range(9)}
    old = trees.of(names, paged=True)
    new = trees.of({b"%d" % n: 2 for n in range(9)} | {b"x": 1}, paged=True)
    trees.damaged.add(1)  # the second page of the old one
    with pytest.raises(PartlyDamaged) as caught:
        comparison(trees).changes(old, new)
    assert [change.name for change in caught.value.found] == [
        b"0", b"1", b"2", b"6", b"7", b"8", b"x"
    ]  # fmt: skip
    found = list(comparison(trees).tree_changes(root(old), root(new)))
    assert [c.path for c in found if c.error is None] == [
        b"0", b"1", b"2", b"6", b"7", b"8", b"x"
    ]  # fmt: skip
    (error,) = (c.error for c in found if c.error is not None)
    assert "3 of 9 entries cannot be read, after '2' up to '5'" in str(error)
    for kind in KINDS:
        assert comparison(trees).holds(kind, old, new, Patience(60))
    trees.damaged.add(new.ref.number)
    (only,) = comparison(trees).tree_changes(root(old), root(new))
    assert isinstance(only.error, IntegrityError)


def test_decisions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "MOST_DECISIONS", 2)
    trees = Made()
    made = comparison(trees)
    for number in range(5):
        old, new = trees.of({b"a": number}), trees.of({b"a": number + 10})
        assert made.holds("created", old, new, Patience(60)) is False
        assert len(made._decided) == number % 2 + 1


def test_a_folder_that_holds_itself_is_damage_and_ends() -> None:
    trees = Made()
    one, other = trees.of({b"a": {b"b": {}}}), trees.of({b"a": {b"b": {b"c": 1}}})
    inner = trees.known["False[(b'b', {})]"].ref.number
    page = trees._states[inner]
    assert isinstance(page, Page)
    trees._states[inner] = page._replace(refs=((one.ref.number, b"x" * HASH_SIZE),))
    found = list(comparison(trees).tree_changes(root(one), root(other)))
    assert any(isinstance(c.error, FormatDamaged) for c in found)


ENTRY = Entry(
    b"a", stat.S_IFREG | 0o644, 1, 2, 5, 7, 8, 9, 1, Reference("a", 1), None, b"", 0, {}, None
)  # fmt: skip


def test_entries_are_the_same_if_nothing_differs() -> None:
    made = comparison(Trees())
    assert made.is_same(ENTRY, ENTRY._replace(ctime_ns=1, inode=1))
    assert made.what_differs(ENTRY, ENTRY) == ()
    for values in ({"mode": ENTRY.mode | 1}, {"uid": 5}, {"gid": 5}, {"size": 6}, {"mtime_ns": 1},
                   {"links": 2}, {"target": b"x"}):  # fmt: skip
        assert not made.is_same(ENTRY, ENTRY._replace(**values))
    folder = ENTRY._replace(mode=stat.S_IFDIR | 0o755, content=None,
                            state=StateRef(Reference("a", 1), b"d" * HASH_SIZE))  # fmt: skip
    moved = StateRef(Reference("b", 9), b"d" * HASH_SIZE)
    assert made.is_same(folder, folder._replace(state=moved, mtime_ns=1, size=9))
    assert not made.is_same(folder, folder._replace(state=StateRef(Reference("b", 9), b"e" * 24)))
    assert not made.is_same(folder, ENTRY)
    assert not made.is_same(ENTRY, folder)
    # what cannot be read is not known to be the same
    lost = Comparison(cast(Any, Trees()), cast(Any, SimpleNamespace(record=_damaged)))
    with pytest.raises(FormatDamaged):
        lost.is_same(ENTRY, ENTRY._replace(content=Reference("b", 2)))
    assert lost.what_differs(ENTRY, ENTRY._replace(content=Reference("b", 2))) == ("contents",)


def _damaged(_: Reference) -> Any:
    raise FormatDamaged("lost")


def test_kinds_of_changes() -> None:
    assert Change(b"a", None, ENTRY).kind == "created"
    assert Change(b"a", ENTRY, None).kind == "deleted"
    assert Change(b"a", ENTRY, ENTRY, ("mode",)).kind == "updated"
    assert Change(b"a", ENTRY, ENTRY).kind is None
    assert Change(b"a", ENTRY, ENTRY).inside is None


def test_rows_that_are_seen_to_be_the_same() -> None:
    trees = Trees()

    def seen(ref: Any, other: Any, extras: Any = None, others: Any = None, **stamps: Any) -> bool:
        mode = stamps.pop("mode", stat.S_IFREG | 0o644)
        size = stamps.pop("size", 5)
        row = [b"a", mode, 0, 0, size, 7, 8, 9, 1]
        changed_row = list(row)
        for place, value in stamps.items():
            changed_row[int(place[1:])] = value
        pages = [
            StoredPage(cast(Any, trees), Reference(ID, 10**6), b"",
                       Page((tuple(stamps_),), (ref_,), {0: found} if found else {}))
            for stamps_, ref_, found in ((row, ref, extras), (changed_row, other, others))
        ]  # fmt: skip
        return _same_row(pages[0], 0, pages[1], 0)

    assert seen(5, 5)
    assert not seen(5, 6)
    assert seen(5, 5, p6=1, p7=1)
    for place in ("p0", "p1", "p2", "p3", "p4", "p5", "p8"):
        assert not seen(5, 5, **{place: 77})
    assert seen(5, 5, {"f": 1}, {"f": 1})
    assert not seen(5, 5, {"f": 1}, {"f": 2})
    assert not seen(5, 5, {"f": 1})
    assert not seen(5, 5, {"X": 1}, {"X": 1})
    folder = stat.S_IFDIR | 0o755
    assert seen((5, b"d"), (6, b"d"), mode=folder)
    assert not seen((5, b"d"), (5, b"e"), mode=folder)
    assert seen(None, None, size=0)
    assert seen(b"t", b"t", mode=stat.S_IFLNK)
    assert not seen(b"t", b"u", mode=stat.S_IFLNK)

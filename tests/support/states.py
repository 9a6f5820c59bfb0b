"""Trees of directory states that lie nowhere, to walk through: `Trees`."""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from ibtfs.errors import FormatDamaged
from ibtfs.format.entry import HASH_SIZE, Page, PageEntry, encode_page
from ibtfs.format.index import IndexHeader, Reference
from ibtfs.store.cache import ByteCache
from ibtfs.store.trees.directory import StateRef

ID = "20260101T000000Z_host_0123456789.0"
ROWS = 3
"""Of a page, where a directory has more than one."""


class Trees:
    """States without a disk, in place of a repository: `folder` adds one, *read* counts readings.

    The numbers in *damaged* cannot be read.
    """

    author = ""

    def __init__(self, cache_bytes: int = 1 << 20) -> None:
        self.cache = ByteCache(cache_bytes)
        self.read: Counter[int] = Counter()
        self.damaged: set[int] = set()
        self.id, self.header = ID, IndexHeader((ID,), 0, 0, 0, False, False)
        self._states: list[Page | tuple[PageEntry, ...]] = []

    def folder(self, rows: Mapping[bytes, StateRef | None], *, paged: bool = False) -> StateRef:
        """A directory of folders, and of files where there is None."""
        pages = []
        items = sorted(rows.items())
        for first in range(0, len(items), ROWS) if paged else [0]:
            part = items[first : first + ROWS] if paged else items
            stamps = tuple(_stamp(name, is_folder=state is not None) for name, state in part)
            refs = tuple(state and (state.ref.number, bytes(HASH_SIZE)) for _, state in part)
            pages.append(Page(stamps, refs, {}))
        if not paged:
            return self._add(pages[0])
        entries = [
            PageEntry(
                self._add(page).ref.number,
                number.to_bytes(HASH_SIZE, "big"),
                len(page.stamps),
                page.stamps[-1][0],
            )
            for number, page in enumerate(pages)
        ]
        return self._add(tuple(entries))

    def tree(self, literal: Mapping[bytes, Any]) -> StateRef:
        """The directory that nested dicts describe."""
        return self.folder({n: None if v is None else self.tree(v) for n, v in literal.items()})

    def point(self, point_id: str, root: StateRef) -> Any:
        """Enough of a point whose tree is *root* to walk through it."""
        return SimpleNamespace(
            id=point_id, state=root.ref, digest=root.digest,
            root=_stamp(b"", is_folder=True), root_extras={},
        )  # fmt: skip

    def _add(self, state: Page | tuple[PageEntry, ...]) -> StateRef:
        self._states.append(state)
        return StateRef(Reference(ID, len(self._states) - 1), bytes(HASH_SIZE))

    def archive(self, _: str) -> Trees:
        return self

    def state(self, number: int) -> Page | tuple[PageEntry, ...]:
        self.read[number] += 1
        if number in self.damaged:
            raise FormatDamaged(f"state {number}")
        return self._states[number]

    def state_bytes(self, _: int) -> int:
        return 0

    def body(self, _: int, number: int) -> bytes:
        page = self.state(number)
        assert isinstance(page, Page)
        return encode_page(page)


def _stamp(name: bytes, *, is_folder: bool) -> tuple[Any, ...]:
    mode = (stat.S_IFDIR if is_folder else stat.S_IFREG) | 0o644
    return (name, mode, 0, 0, 0, 1, 2, 3, 1)

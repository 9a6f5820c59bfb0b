"""The readers of ``ibtfs.toolkit``: stored indexes, diffs, their data, and signatures."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from typing import Any

from ibtfs.errors import EntryNotFound, IbtfsError
from ibtfs.format.rdelta import Data
from ibtfs.toolkit import DiffData, DiffIndex, DirIndex, SigVault, apply_diff
from ibtfs.toolkit.data import KIND as DATA_KIND
from ibtfs.toolkit.index import seal
from ibtfs.toolkit.vault import KIND as VAULT_KIND
from tests.support import snapshot
from tests.support.readers.base import Reader, framed_file, frames_of, packed, value_of
from tests.support.readers.objects import scratch
from tests.support.trees import Fifo, Symlink, make_tree

KEPT = b"outside of the tree, and never to be touched"
ANY_PATHS = (b"a", b"in/b", b"")


def _sealed(kind: str, data: bytes) -> bytes:
    """*data* sealed as an index or a diff, whatever value it is."""
    value = value_of(data)
    if not isinstance(value, dict):
        raise IbtfsError("no map")
    return seal(kind, value)


def read_index(data: bytes) -> None:
    """The index of a directory; of none that is named a file is read."""
    found = DirIndex.from_bytes(_sealed("index", data))
    assert set(found.files).isdisjoint(found.directories)
    held = DirIndex.from_data(value_of(data), may_read=False)
    assert DirIndex.from_data(held.data()).rows == found.rows


def read_sealed(data: bytes) -> None:
    """An index or a diff as it is stored; no checksum is made right."""
    try:
        DirIndex.from_bytes(data)
    except IbtfsError:
        DiffIndex.from_bytes(data)


def read_diff(data: bytes) -> None:
    """A diff: what it says is the same when it is stored once more."""
    found = DiffIndex.from_bytes(_sealed("diff", data))
    again = DiffIndex.from_bytes(found.to_bytes())
    assert (again.paths, again.moved, again.folders) == (found.paths, found.moved, found.folders)


def read_data(data: bytes) -> None:
    """The bytes of a diff, in frames."""
    file = scratch() / "data"
    file.write_bytes(framed_file(bytes(16), DATA_KIND, frames_of(value_of(data))))
    with DiffData.open(os.fsencode(file)) as stored:
        for path in stored.paths[:20]:
            sum(map(len, stored.pieces(path)))


def read_vault(data: bytes) -> None:
    """The signatures of files, in frames."""
    file = scratch() / "vault"
    file.write_bytes(framed_file(bytes(16), VAULT_KIND, frames_of(value_of(data))))
    with SigVault.open(os.fsencode(file)) as stored:
        for path in stored.paths[:20]:
            stored.signature(path, stored.digest(path))


class _Bytes:
    """The bytes of a diff."""

    def __init__(self, pieces: dict[Any, Any]) -> None:
        self._pieces = pieces

    def pieces(self, path: bytes) -> Iterable[Data]:
        found = self._pieces.get(path)
        if type(found) is not bytes:
            raise EntryNotFound(f"no {path!r}")
        return (found[at : at + 100] for at in range(0, len(found), 100))


def read_application(data: bytes) -> None:
    """A diff and its bytes, applied to a small tree; what lies beside it stays as it is."""
    value = value_of(data)
    if not isinstance(value, tuple) or len(value) != 2 or not isinstance(value[1], dict):
        raise IbtfsError("no diff with bytes")
    diff = DiffIndex.from_bytes(_sealed("diff", packed(value[0])))
    around = scratch() / "around"
    shutil.rmtree(around, ignore_errors=True)
    make_tree(around, {
        "kept": KEPT, "base": {
            "a": b"old" * 30, "in": {"b": b"", "c": b"stays"}, "up": Symlink("../kept"),
            "out": Symlink(".."), "fifo": Fifo(),
        },
    })  # fmt: skip
    try:
        apply_diff(os.fsencode(around / "base"), diff, _Bytes(value[1]))
    finally:
        found = snapshot(around, contents=False)
        assert {path for path in found if not path.startswith(b"base")} == {b"", b"kept"}
        assert (around / "kept").read_bytes() == KEPT


BLOCKS: dict[str, Reader] = {
    "applied-diff": Reader(read_application),
    "diff": Reader(read_diff),
    "diff-data": Reader(read_data),
    "directory-index": Reader(read_index),
    "sealed": Reader(read_sealed),
    "signature-vault": Reader(read_vault),
}

"""The repositories kept in tests/data, and what they have to come back as."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from tests.support import CHECKOUT, Entry

DATA = CHECKOUT / "tests" / "data"
FIXTURES = sorted(path.name for path in DATA.glob("repo-v*"))


class Expected(NamedTuple):
    """A point of a fixture: its facts, and its tree; that of a single file without the root."""

    facts: dict[str, Any]
    tree: dict[bytes, Entry]

    def without_root(self, tree: dict[bytes, Entry]) -> dict[bytes, Entry]:
        """*tree* as it is to be compared: the root of a single file is made up."""
        return {path: entry for path, entry in tree.items() if path or not self.facts["single"]}


def expected_points(path: Path) -> list[Expected]:
    """What the fixture at *path* has to come back as; each tree is told by what is new in it."""
    trees: dict[str, dict[bytes, Entry]] = {}
    points = []
    for facts in json.loads((path / "expected.json").read_text()):
        tree = dict(trees.get(facts["display"], {}))
        for name in facts.pop("gone"):
            del tree[_bytes(name)]
        tree.update({_bytes(k): _entry(v) for k, v in facts.pop("changed").items()})
        trees[facts["display"]] = tree
        points.append(Expected(facts, tree))
    return points


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _entry(values: dict[str, Any]) -> Entry:
    target = values.get("target")
    return Entry(
        type=values["type"], mode=values["mode"], uid=values["uid"], gid=values["gid"],
        size=values["size"], mtime_ns=values["mtime_ns"], nlink=values["nlink"], rdev=0,
        blocks=values["blocks"], target=None if target is None else _bytes(target),
        sha256=values.get("sha256"),
        xattrs={name: bytes.fromhex(data) for name, data in values.get("xattrs", {}).items()},
        links=frozenset(map(_bytes, values.get("links", []))),
    )  # fmt: skip

"""Readers and commands in little memory: numbers that claim gigabytes, and files that have them.

Run as a process of its own, ``lengths WORK``: it says in JSON what did not end as it should.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import struct
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ibtfs.actions.check import check
from ibtfs.actions.observer import Observer
from ibtfs.errors import IbtfsError
from ibtfs.format.frames import FRAME_LIMIT
from ibtfs.store.repository import Repository
from tests.support import CHECKOUT
from tests.support.readers import READERS, Shape
from tests.support.readers.base import packed, value_of
from tests.support.readers.seeds import seeds
from tests.support.sealing import either

ROOM = 256 << 20
HUGE = (1 << 28, (1 << 32) - 1, 1 << 40, (1 << 62) - 1, (1 << 63) - 1)
CLAIMS = tuple(head + bytes((first, 255, 255, 255)) for first in (15, 255)
               for head in (b"\xdd", b"\xdf", b"\xc6", b"\xdb", b"\xc9"))  # fmt: skip
"""Heads of arrays, maps, bytes, text and others that are to be as long as nothing is."""
SEEDS, TRIED, TRIED_SLOWLY = 8, 80, 12
LONG = 1 << 40
FILLED = ("value", "frame-table", "index-header", "record", "state", "note-of-damage")
"""Readers that are given all that a frame can hold."""


def with_huge_numbers(value: Any) -> Iterator[Any]:
    """*value* with one number in it that is huge, also inside what is packed in it."""
    if type(value) is int:
        yield from HUGE
    elif type(value) is bytes and len(value) > 3:
        try:
            inside = value_of(value)
            if isinstance(inside, (tuple, dict)):
                yield from map(packed, with_huge_numbers(inside))
        except IbtfsError:
            return
    elif isinstance(value, tuple):
        for place, one in enumerate(value[:40]):
            for other in with_huge_numbers(one):
                yield (*value[:place], other, *value[place + 1 :])
    elif isinstance(value, dict):
        for key, one in value.items():
            for other in with_huge_numbers(one):
                yield {**value, key: other}


def spoilt(data: bytes, shape: Shape, rng: random.Random, most: int) -> Iterator[bytes]:
    """*data* that claims more than there is, in several ways."""
    for _ in range(most // 2):
        place = rng.randrange(len(data) + 1)
        yield data[:place] + rng.choice(CLAIMS) + data[place + 1 :]
    if shape is Shape.VALUE:
        made = list(with_huge_numbers(value_of(data)))
        yield from map(packed, rng.sample(made, min(most, len(made))))


def filled() -> Iterator[bytes]:
    """Values as large as a frame can be, of which each takes much memory."""
    size = FRAME_LIMIT - 64
    for one in (b"\0", b"\x80", b"\x90", b"\xcf" + b"\xff" * 8):
        yield b"\xdd" + struct.pack(">I", size // len(one)) + one * (size // len(one))


def failure(work: Callable[[], object]) -> str:
    """What is raised that is no error of ours; empty if there is nothing."""
    try:
        work()
    except IbtfsError:
        pass
    except Exception as error:
        return repr(error)[:300]
    return ""


def tried(work: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """What is to be tried, and what it is called."""
    rng = random.Random(5)
    known: dict[str, set[bytes]] = {}
    for name, data in seeds(work):
        known.setdefault(name, set()).add(data)
    resource.setrlimit(resource.RLIMIT_AS, (_taken() + ROOM,) * 2)
    for name, inputs in sorted(known.items()):
        most = TRIED_SLOWLY if name == "repository" else TRIED
        for data in sorted(inputs, key=lambda one: (len(one), one))[:SEEDS]:
            for made in spoilt(data, READERS[name].shape, rng, most):
                yield f"{name}: {made[:40].hex()}", partial(READERS[name].read, made)
    for data in filled():
        for name in FILLED:
            yield f"{name}: {data[:9].hex()}", partial(READERS[name].read, data)
    for fixture in ("repo-v1-pruned", "repo-v1-sealed"):
        kept, copy = CHECKOUT / "tests/data" / fixture, work / "copy"
        for path in _one_of_each_kind(kept):
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(kept, copy, symlinks=True)
            os.truncate(copy / path, LONG)
            yield f"{fixture}: {path}", partial(_checked, copy)


def _taken() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _one_of_each_kind(fixture: Path) -> list[str]:
    files = sorted(str(path.relative_to(fixture)) for path in fixture.rglob("*") if path.is_file())
    kinds = {(path.partition("/")[0], path.rpartition("/")[2].partition(".")[0])
             if path.startswith("archives") else path.partition("/")[0]: path
             for path in files if path != "expected.json"}  # fmt: skip
    return sorted(kinds.values())


def _checked(path: Path) -> None:
    check(Repository.open(os.fsencode(path), unlock=either()), read_data=True, observer=Observer())


def main(work: Path) -> None:
    """Try all, and say what failed."""
    count, failed = 0, dict[str, str]()
    for name, one in tried(work):
        count += 1
        told = failure(one)
        if told:
            failed[name] = told
    sys.stdout.write(json.dumps({"tried": count, "failed": failed}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

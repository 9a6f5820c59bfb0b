"""Inputs that are kept: in a folder for each reader, or all of them in one file of tests/data."""

from __future__ import annotations

import hashlib
import io
import sys
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from ibtfs.errors import IbtfsError
from tests.support import CHECKOUT
from tests.support.readers import READERS, Reader

KEPT = CHECKOUT / "tests" / "data" / "readers.tar.xz"
PACKAGE = str(CHECKOUT / "ibtfs")
Corpus = Mapping[str, list[bytes]]
Step = tuple[str, int, int]


def kept() -> dict[str, list[bytes]]:
    """The inputs of tests/data, by the name of their reader."""
    found: dict[str, list[bytes]] = {name: [] for name in READERS}
    with tarfile.open(KEPT, "r:xz") as tar:
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None
            found[member.name.partition("/")[0]].append(file.read())
    return found


def keep(corpus: Corpus) -> int:
    """Make *corpus* what :func:`kept` gives; the size of the file, which is the same each time."""
    with tarfile.open(KEPT, "w:xz", format=tarfile.USTAR_FORMAT, preset=9) as tar:
        for name, inputs in sorted(corpus.items()):
            for number, data in enumerate(sorted(set(inputs), key=lambda one: (len(one), one))):
                member = tarfile.TarInfo(f"{name}/{number:03}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return KEPT.stat().st_size


def put(folder: Path, inputs: Iterable[bytes]) -> None:
    """Each of *inputs* as a file of *folder*, which is made, called by its digest."""
    folder.mkdir(parents=True, exist_ok=True)
    for data in inputs:
        (folder / hashlib.sha256(data).hexdigest()[:32]).write_bytes(data)


def smallest(reader: Reader, inputs: Iterable[bytes]) -> list[bytes]:
    """Of *inputs* the smaller ones, that go through ibtfs by all the steps that all of them do."""
    seen: set[Step] = set()
    chosen = []
    for data in sorted(set(inputs), key=lambda one: (len(one), one)):
        steps = _steps(reader, data)
        if not steps <= seen:
            seen |= steps
            chosen.append(data)
    return chosen


def _steps(reader: Reader, data: bytes) -> set[Step]:
    """From which line to which other of a file of ibtfs reading *data* goes."""
    steps: set[Step] = set()

    def entered(frame: FrameType, event: str, _: Any) -> Any:
        name = frame.f_code.co_filename
        if not name.startswith(PACKAGE):
            return None
        before = 0

        def stepped(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal before
            if event == "line":
                steps.add((name, before, frame.f_lineno))
                before = frame.f_lineno
            return stepped

        return stepped

    sys.settrace(entered)
    try:
        reader.read(data)
    except IbtfsError:
        pass
    finally:
        sys.settrace(None)
    return steps

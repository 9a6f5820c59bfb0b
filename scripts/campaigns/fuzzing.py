"""Readers under atheris, one after the other: ``FOUND CORPUS [LIBFUZZER'S WORD...] -- NAME...``.

Every exception but ours, and every input that takes too long or too much memory, is put into the
folder FOUND/NAME once for each place in the code; then it goes on.  What hangs ends by libFuzzer.
"""

from __future__ import annotations

import hashlib
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

MEMORY_BYTES = 2 << 30
SECONDS = 5.0


class Trial:
    """Calls *read*, which may raise *ours*; *found* is the folder of findings."""

    def __init__(self, read: Callable[[bytes], object], ours: type[Exception], found: Path) -> None:
        self._read, self._ours, self._found = read, ours, found
        self._known: set[str] = set()

    def one(self, data: bytes) -> None:
        """Read *data*."""
        began = time.process_time()
        try:
            self._read(data)
        except self._ours:
            pass
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
            self._finding(where, traceback.format_exc(limit=-6), data)
        taken = time.process_time() - began
        if taken > SECONDS:
            self._finding("took too long", f"{len(data)} bytes took {taken:.1f} s", data)

    def _finding(self, where: str, told: str, data: bytes) -> None:
        if where not in self._known:
            self._known.add(where)
            file = self._found / hashlib.sha256(data).hexdigest()[:16]
            file.write_bytes(data)
            file.with_suffix(".txt").write_text(f"{where}\n{told}", errors="backslashreplace")


def main(found: Path, corpus: Path, words: list[str], names: list[str]) -> None:
    """Try the readers *names*, each in a process of its own, and say what came of each.

    They are forked from one that has loaded all: making it tell of coverage takes seconds.
    """
    import atheris

    with atheris.instrument_imports(include=["ibtfs"]):
        from ibtfs.errors import IbtfsError
        from tests.support.readers import READERS
        from tests.support.readers.changing import Changer
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))

    def fuzz(name: str, folder: Path) -> None:
        """Try the reader *name*; libFuzzer ends the process."""
        reader = READERS[name]

        def mutated(data: bytes, most: int, seed: int) -> bytes:
            """*data* changed: mostly as the value that it is, else its bytes."""
            made = Changer(seed).made_of(data, reader.shape, most) if seed % 8 else None
            return made if made is not None else bytes(atheris.Mutate(data, most))

        own = {} if reader.shape.is_plain else {"custom_mutator": mutated}
        mine = [sys.argv[0], *words, f"-artifact_prefix={folder}/", str(corpus / name)]
        atheris.Setup(mine, Trial(reader.read, IbtfsError, folder).one, **own)
        atheris.Fuzz()

    for name in names:
        folder = found / name
        folder.mkdir(parents=True)
        child = os.fork()
        if not child:
            log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT, 0o600)
            os.dup2(log, 2)
            fuzz(name, folder)
            os._exit(1)
        _, status, used = os.wait4(child, 0)
        code, seconds = os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime
        sys.stdout.write(f"{name} {code} {seconds:.0f}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    split = sys.argv.index("--")
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:split], sys.argv[split + 1 :])

"""One reader under atheris, in a process of its own: ``NAME FOUND [LIBFUZZER'S WORD...]``.

Every exception but ours, and every input that takes too long or too much memory, is put into the
folder FOUND once for each place in the code; then it goes on.  What hangs ends by libFuzzer.
"""

from __future__ import annotations

import hashlib
import resource
import sys
import time
import traceback
from pathlib import Path

import atheris

MEMORY_BYTES = 2 << 30
SECONDS = 5.0


class Trial:
    """Runs a reader; *name* is its name, *found* the folder of findings."""

    def __init__(self, name: str, found: Path) -> None:
        with atheris.instrument_imports(include=["ibtfs"]):
            from ibtfs.errors import IbtfsError
            from tests.support.readers import READERS
            from tests.support.readers.changing import Changer
        self._reader, self._ours, self._changer = READERS[name], IbtfsError, Changer
        self._found = found
        self._known: set[str] = set()

    def one(self, data: bytes) -> None:
        """Read *data*."""
        began = time.process_time()
        try:
            self._reader.read(data)
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

    def mutated(self, data: bytes, most: int, seed: int) -> bytes:
        """*data* changed: mostly as the value that it is, else its bytes."""
        made = None
        if seed % 8:
            made = self._changer(seed).made_of(data, self._reader.shape, most)
        return made if made is not None else bytes(atheris.Mutate(data, most))

    def go(self, words: list[str]) -> None:
        """Run it; does not come back."""
        own = {} if self._reader.shape.is_plain else {"custom_mutator": self.mutated}
        atheris.Setup([sys.argv[0], *words], self.one, **own)
        atheris.Fuzz()


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    Trial(sys.argv[1], Path(sys.argv[2])).go(sys.argv[3:])

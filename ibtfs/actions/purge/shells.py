"""Payloads that belong to no content, written by a purge."""

from __future__ import annotations

from collections.abc import Iterable

from ibtfs.format.frames import LITERALS
from ibtfs.format.index import SHELL_DIGEST, ContentRecord, Reference
from ibtfs.store.writing.run import RunWriter


class ShellWriter:
    """Puts copies of payloads into archives of a run; used by one thread."""

    def __init__(self, writer: RunWriter) -> None:
        self._writer = writer

    def add(self, pieces: Iterable[bytes | memoryview]) -> Reference:
        """As Copies says."""
        if self._writer.is_due:
            self._writer.close_archive()
        archive, size = self._writer.archive, 0
        start = archive.position(LITERALS)
        for piece in pieces:
            archive.append(LITERALS, bytes(piece))
            size += len(piece)
        archive.end_frame(LITERALS)  # what another payload has must not follow what this one has
        self._writer.beat()
        return self._writer.add_content(ContentRecord(SHELL_DIGEST, size, LITERALS, start, size))

    def finish(self) -> None:
        """As Copies says."""
        self._writer.close_archive()

"""Payloads that belong to no content, written by a purge."""

from __future__ import annotations

from collections.abc import Iterable

from ibtfs.format.index import Reference
from ibtfs.store.writing.draft import add_payload
from ibtfs.store.writing.run import RunWriter


class ShellWriter:
    """Puts copies of payloads into archives of a run; used by one thread."""

    def __init__(self, writer: RunWriter) -> None:
        self._writer = writer

    def add(self, pieces: Iterable[bytes | memoryview]) -> Reference:
        """As Copies says."""
        return add_payload(self._writer, pieces)

    def finish(self) -> None:
        """As Copies says."""
        self._writer.close_archive()

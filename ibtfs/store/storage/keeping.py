"""An upload of which what was written is kept: it need not be fetched to be read."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from ibtfs.store.storage.base import Upload


class KeepingUpload:
    """*upload*, as Upload says; when it is finished *keep* is given its bytes.

    None of more than *limit*.
    """

    def __init__(self, upload: Upload, limit: int, keep: Callable[[bytes | None], None]) -> None:
        self._upload, self._limit, self._keep = upload, limit, keep
        self.name, self.size = upload.name, upload.size
        self._written: bytearray | None = bytearray()

    def write(self, data: bytes | memoryview) -> None:
        """As Upload says."""
        self._upload.write(data)
        self.size = self._upload.size
        if self._written is not None:
            self._written += data
            if len(self._written) > self._limit:
                self._written = None

    def finish(self) -> None:
        """As Upload says."""
        self._upload.finish()
        written, self._written = self._written, None
        self._keep(bytes(written) if written is not None else None)

    def abort(self) -> None:
        """As Upload says."""
        self._written = None
        self._upload.abort()

    def __enter__(self) -> KeepingUpload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._upload.__exit__(kind, error, trace)

"""Signatures by path: from them deltas are made without the old bytes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Protocol

from ibtfs.errors import EntryNotFound, FormatDamaged
from ibtfs.format.entry import SIZE
from ibtfs.format.rsync import SignatureWriter
from ibtfs.toolkit.bundle import BundleReader, BundleWriter
from ibtfs.toolkit.dirs import AnyPath
from ibtfs.toolkit.index import DirIndex

KIND = "toolkit/signatures"
LEAST_BLOCK = 64
SIGNATURE_LIMIT = 256 << 20
"""More bytes than the signature of any file that a file system holds has."""


class Signatures(Protocol):
    """Gives signatures: a SigVault, several, or something of one's own."""

    def signature(self, path: bytes, digest: bytes | None = None) -> bytes:
        """The signature of the file at *path*, as ``rdiff signature`` writes it.

        With *digest*, of just those bytes.  Raises EntryNotFound if there is none.
        """


def block_size(size: int) -> int:
    """The bytes of a block for a file of *size* bytes: about the square root, in sixteens."""
    return max(LEAST_BLOCK, math.isqrt(size) // 16 * 16)


class SigVaultWriter:
    """Writes the signatures of files of *index* to the new file *file*; one thread.

    A context manager: the vault is there when it is left, and not at all after an exception.
    Raises UsageError if *file* exists.
    """

    def __init__(self, file: AnyPath, index: DirIndex) -> None:
        self._index = index
        self._bundle = BundleWriter(file, KIND)

    def add(self, path: bytes) -> None:
        """Sign the regular file at *path*, relative to the indexed directory.

        Raises EntryNotFound, NotAFile, UsageError if it was added before, LibraryMissing, and
        SourceError if it cannot be read or changed since it was indexed; one may go on with the
        next file then.
        """
        size = self._index.rows[path].stamp[SIZE] if path in self._index.rows else 0
        self._bundle.add(path, self._sign(path, size))
        self._bundle.tag(path, self._index.digest(path))

    def _sign(self, path: bytes, size: int) -> Iterator[bytes]:
        with SignatureWriter(block_size(size)) as writer:
            for piece in self._index.pieces(path):
                yield writer.update(piece)
            yield writer.finish()

    def add_all(self, paths: Iterable[bytes]) -> None:
        """Sign all of *paths*; raises as add does."""
        for path in paths:
            self.add(path)

    def finish(self) -> int:
        """Make the vault durable and visible; its size in bytes."""
        return self._bundle.finish()

    def abort(self) -> None:
        """Leave nothing behind."""
        self._bundle.abort()

    def __enter__(self) -> SigVaultWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self.finish() if kind is None else self.abort()


class SigVault:
    """A file of signatures, open; threads may share it.  A context manager.

    ``SigVault.create(file, index)`` writes one, ``SigVault.open(file)`` reads it.  Raises
    NotFound, FormatDamaged.
    """

    def __init__(self, file: AnyPath) -> None:
        self._bundle = BundleReader(file, KIND)

    @classmethod
    def open(cls, file: AnyPath) -> SigVault:
        """The vault in *file*.  Raises NotFound, FormatDamaged."""
        return cls(file)

    @staticmethod
    def create(file: AnyPath, index: DirIndex) -> SigVaultWriter:
        """Begin a vault in the new file *file*.  Raises UsageError if it exists."""
        return SigVaultWriter(file, index)

    @property
    def paths(self) -> list[bytes]:
        """The paths that it has signatures of, in the order in which they were added."""
        return list(self._bundle.slots)

    def digest(self, path: bytes) -> bytes:
        """The digest of the bytes that were signed.  Raises EntryNotFound."""
        slot = self._bundle.slots.get(path)
        if slot is None:
            raise EntryNotFound(f"No signature of {path!r}")
        return slot.tag

    def signature(self, path: bytes, digest: bytes | None = None) -> bytes:
        """As Signatures says; raises FormatDamaged as well."""
        if digest not in (None, self.digest(path)):
            raise EntryNotFound(f"No signature of those bytes of {path!r}")
        pieces, size = self._bundle.pieces(path), self._bundle.slots[path].length
        if size > SIGNATURE_LIMIT:
            raise FormatDamaged(f"The signature of {path!r} has {size} bytes: it is none")
        return b"".join(pieces)

    def close(self) -> None:
        """Close the file."""
        self._bundle.close()

    def __enter__(self) -> SigVault:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class SigVaults:
    """Several vaults, newest first: what a full backup and its increments signed, as one.

    A context manager that closes them all.  Threads may share it.
    """

    def __init__(self, vaults: Sequence[SigVault]) -> None:
        self._vaults = tuple(vaults)

    @classmethod
    def open(cls, files: Iterable[AnyPath]) -> SigVaults:
        """The vaults in *files*, newest first.  Raises NotFound, FormatDamaged."""
        with ExitStack() as stack:
            vaults = [stack.enter_context(SigVault(file)) for file in files]
            stack.pop_all()
        return cls(vaults)

    def signature(self, path: bytes, digest: bytes | None = None) -> bytes:
        """As Signatures says, from the newest vault that has it; raises FormatDamaged as well."""
        for vault in self._vaults:
            try:
                return vault.signature(path, digest)
            except EntryNotFound:
                continue
        raise EntryNotFound(f"No signature of {path!r} in {len(self._vaults)} vaults")

    def close(self) -> None:
        """Close all of them."""
        for vault in self._vaults:
            vault.close()

    def __enter__(self) -> SigVaults:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

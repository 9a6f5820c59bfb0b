"""Whether a content can be given back as it was, all of it read."""

from __future__ import annotations

from collections.abc import Callable

from blake3 import blake3

from ibtfs.errors import IntegrityError
from ibtfs.format.index import Reference
from ibtfs.store.contents.reader import Contents
from ibtfs.store.contents.whole import is_whole
from ibtfs.store.repository import Repository

PIECE = 1 << 20


def is_sound(repository: Repository, ref: Reference, beat: Callable[[], None]) -> bool:
    """Whether the bytes of *ref*, from its own record alone, have its digest; a shell never is."""
    contents = Contents(repository)
    hasher = blake3()
    try:
        record = contents.record(ref)
        if record.is_shell or not is_whole(repository, ref, record):
            return False
        for offset in range(0, record.size, PIECE):
            beat()
            for piece in contents.own_pieces(ref, offset, PIECE):
                hasher.update(piece)
    except IntegrityError:
        return False
    return hasher.digest() == record.digest

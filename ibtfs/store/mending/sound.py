"""Whether a content can be given back as it was, all of it read."""

from __future__ import annotations

from collections.abc import Callable

from ibtfs.errors import IntegrityError
from ibtfs.format.index import Reference
from ibtfs.store.contents.holes import stretches
from ibtfs.store.contents.reader import Contents
from ibtfs.store.contents.whole import is_whole
from ibtfs.store.repository import Repository

PIECE = 1 << 20


def is_sound(repository: Repository, ref: Reference, beat: Callable[[], None]) -> bool:
    """Whether the bytes of *ref*, from its own record alone, have its digest; a shell never is."""
    contents = Contents(repository)
    hasher = contents.digests.hasher()
    try:
        record = contents.record(ref)
        if record.is_shell or not is_whole(repository, ref, record):
            return False
        for start, length, is_hole in stretches(contents, ref, PIECE):
            beat()
            if is_hole:
                hasher.add_zeros(length)
                continue
            for piece in contents.own_pieces(ref, start, length):
                hasher.update(piece)
    except IntegrityError:
        return False
    return hasher.finish() == record.digest

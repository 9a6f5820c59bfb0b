"""Whether an object of a sealed repository is what somebody with a key has put there.

Parity is made without any key, so that whoever may put it beside an archive could have it say that
something else was there.
"""

from __future__ import annotations

from collections.abc import Callable

from ibtfs.errors import IntegrityError, UnsupportedFormat
from ibtfs.format.keys import Keys
from ibtfs.format.point import decode_point
from ibtfs.store import layout
from ibtfs.store.archives.file import FrameFileReader
from ibtfs.store.points import MANIFEST_LIMIT
from ibtfs.store.storage.base import StoredObject


def protects(sidecar: str, name: str) -> bool:
    """Whether the object *name* is one that a *sidecar* of this name may tell of."""
    folder, _, base = sidecar.rpartition("/")
    found = layout.parse_parity(base)
    if found is not None:
        return name == f"{folder}/{found.file.kind}.{found.file.generation}"
    return name == layout.CONFIG or name.startswith(f"{layout.POINTS}/")


def is_authentic(
    keys: Keys, name: str, stored: StoredObject, beat: Callable[[], None] = lambda: None
) -> bool:
    """Whether *stored*, which is the object *name*, or is to be, was made by who has a key.

    All of it is read.  Of the configuration that was seen when the repository was opened.
    """
    try:
        archive_id = layout.archive_of(name)
        base = name.rpartition("/")[2]
        if archive_id:
            found = layout.parse_archive_file(base)
            if found is None:
                return False
            FrameFileReader(keys, layout.archive_object(archive_id, found.kind), stored).verify(
                beat
            )
        elif name != layout.CONFIG:
            decode_point(stored.read(0, min(stored.size, MANIFEST_LIMIT)), name, base, keys)
    except (IntegrityError, UnsupportedFormat):
        return False
    return True

"""What a storage of objects must be able to do for a repository to lie in it.

Keys are text with ``/`` in it, below the place that the client was made for; ``""`` is that place.
Each request bears to be repeated, and is made once: who asks waits and asks again after
:class:`NotReached`.  Threads may share a client, and ask for many things at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol


class NotReached(Exception):
    """The server was not reached, did not answer, or has too much to do: it may be later."""


class Found(NamedTuple):
    """What a server tells of an object.

    *size* in bytes, *changed_ns* when it was put, by the server's clock, in ns since 1970 (of full
    seconds at worst); *tag* is another one when other bytes are put there, and may be empty.
    """

    size: int
    changed_ns: int
    tag: str


class Seen(NamedTuple):
    """That somebody has looked, and what was there; None if nothing was."""

    found: Found | None


Drop = Callable[[str], None] | None


class ObjectStream(Protocol):
    """Bytes on their way to a key, in bounded memory; used by one thread."""

    def write(self, data: bytes) -> None:
        """Append *data*, which may have any size.  Raises NotReached, StorageFull, StorageFailed.

        NotReached: all is lost that was written, and it waited as long as it was *patient*.
        """
        ...

    def finish(self) -> None:
        """Have the object there, whole and in place of what there was; not before.

        Raises as :meth:`write` does.
        """
        ...

    def abort(self) -> None:
        """Drop what was written, as far as the server can be reached; raises nothing."""
        ...


class ObjectClient(Protocol):
    """Requests to a server.

    All raise NotReached, and StorageFailed for what the server refuses; those that write, also
    StorageFull.
    """

    copies_to_rename: bool
    """Whether a new name costs the server a copy: large objects are then put where they belong."""

    def look(self, key: str) -> Found | None:
        """What there is; None if nothing is, or a folder."""
        ...

    def read(self, key: str, offset: int, size: int) -> bytes:
        """*size* bytes from *offset*; fewer where the object ends, none beyond its end.

        Raises ObjectMissing, ObjectUnreadable.
        """
        ...

    def end(self, key: str, most: int) -> tuple[Found, bytes] | None:
        """What there is, and its last *most* bytes; None if nothing is.

        Raises ObjectUnreadable.
        """
        ...

    def below(self, folder: str) -> dict[str, dict[str, Found | None]] | None:
        """What :meth:`names` tells of *folder*, and of all folders in it; None if it cannot."""
        ...

    def names(self, folder: str) -> dict[str, Found | None]:
        """The names in *folder*, of objects and, with None, of folders; empty if there is none."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Have *data* there, whole, in place of what there was.  For a MiB at most.

        Raises ObjectMissing if the folder is missing, where there are such things.
        """
        ...

    def stream(self, key: str) -> ObjectStream:
        """Begin to put an object of any size."""
        ...

    def rename(
        self, key: str, new: str, *, replace: bool, seen: Seen | None = None, drop: Drop = None
    ) -> None:
        """Give the object another name, where nothing has it; or else, if *replace*.

        *seen* is what had it a moment ago, if that was looked at.  What keeps the old name is
        removed, or by *drop*, called with it.  Raises ObjectMissing if it is not there: then
        nothing was done.  Raises ObjectExists if something has the name; of several at the same
        time more than one may succeed.
        """
        ...

    def remove(self, key: str) -> None:
        """Remove an object; what is missing is fine."""
        ...

    def has_folder(self, folder: str) -> bool:
        """Whether there is such a folder, or could be: where there are none, there always is."""
        ...

    def make_folder(self, folder: str) -> None:
        """Make a folder, if there are such things; it may be there already.

        Raises ObjectMissing if the one above is not there.
        """
        ...

    def remove_folder(self, folder: str) -> None:
        """Remove a folder, if there are such things, unless something lies in it."""
        ...

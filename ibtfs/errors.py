"""The errors of ibtfs, drawn as a tree.

::

    IbtfsError                      exit 1
     +- UsageError                  exit 2    the words of a command do not fit together
     |   +- AmbiguousSource                   several sources, and none was named
     +- RepositoryError             exit 1
     |   +- NotARepository          exit 10
     |   +- WrongKey
     |   +- RepositoryExists
     |   +- RepositoryLocked        exit 11
     |   +- UnsupportedFormat
     |   +- LockLost                          a lock was taken away while in use
     +- NotFound                    exit 1
     |   +- PointNotFound
     |   +- EntryNotFound
     |   +- NotADirectory
     |   +- NotAFile
     +- PointGone                             the backup point was removed while in use
     +- IntegrityError              exit 1    what is stored is not what was written
     |   +- FormatDamaged                     bytes that do not decode; says what and where
     |   |   +- NotBelieved                   its machine signed it, and does not count any more
     |   |   +- PointRefused                  the manifest of a machine that only writes is none
     |   +- ObjectMissing                     a file of the repository is not there
     |   +- ObjectUnreadable                  the disk does not give a file of the repository
     |   +- PointDamaged                      words may mean a point whose manifest is damaged
     |   +- BaseDamaged                       what a content is to be built upon cannot be read
     |   +- PartlyDamaged                     some of a listing cannot be read; it has the rest
     +- StorageError                exit 1    the place where a repository lies
     |   +- ObjectExists                      a name that was to be new is taken
     |   +- StorageFull                       no room; nothing that was stored is touched
     |   +- StorageFailed                     it refused an operation
     +- LimitExceeded               exit 1    more than the format can hold
     +- SourceError                           one source file failed; a backup counts it and goes on
     |   +- Vanished                          it was listed, and is gone
     |   +- Replaced                          something else lies under its name
     |   +- Leased                            a program holds a lease on it
     +- RestoreFailed                         one entry failed; a restore counts it and goes on
     +- DestinationFull             exit 1    no room where files are restored to
     +- WrongBase                   exit 1    a tree is not the one that a diff starts from
     +- LibraryMissing              exit 1    an outside library is not installed
     +- MountError                  exit 1

A message is one line: what, where, and where possible what to do.  *exit_code* is the exit code
of the command that the error ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class IbtfsError(Exception):
    """Base of every error that ibtfs raises on purpose."""

    exit_code = 1


class UsageError(IbtfsError):
    """The words of a command do not fit together."""

    exit_code = 2


class AmbiguousSource(UsageError):
    """A repository holds several sources, and none was named."""


class RepositoryError(IbtfsError):
    """A repository as a whole cannot be used."""


class NotARepository(RepositoryError):
    """There is no repository at the place named."""

    exit_code = 10


class WrongKey(RepositoryError):
    """A sealed repository was given no passphrase or key, or none that opens it."""

    exit_code = 12


class RepositoryExists(RepositoryError):
    """A repository, or something else, is already at the place named."""


class RepositoryLocked(RepositoryError):
    """Another process holds a lock that excludes this one."""

    exit_code = 11


class UnsupportedFormat(RepositoryError):
    """The repository needs a newer version of ibtfs."""


class LockLost(RepositoryError):
    """A lock was removed, or went stale, while it was in use."""


class NotFound(IbtfsError, LookupError):
    """What was asked for does not exist."""


class PointNotFound(NotFound):
    """No backup point answers to the words given."""


class EntryNotFound(NotFound):
    """A backup point holds no such path."""


class NotADirectory(NotFound):
    """A path goes through something that is not a directory."""


class NotAFile(NotFound):
    """The bytes of something that is not a regular file were asked for."""


class PointGone(IbtfsError):
    """The backup point was removed while it was in use."""


class IntegrityError(IbtfsError):
    """What a repository holds is not what was written."""


class FormatDamaged(IntegrityError):
    """Bytes that do not decode, or do not have the checksum that they should."""


class NotBelieved(FormatDamaged):
    """What its machine has signed, which may write here no more."""


class PointRefused(FormatDamaged):
    """What lies there under an id of a machine that only writes is not what it may write.

    It concerns nothing but points of its *host*, which is empty if that is not known.
    *is_certain*: it is as its machine made it; else it may be damage of one that counts.
    """

    def __init__(self, error: Exception | str, host: str = "") -> None:
        super().__init__(str(error))
        self.host, self.is_certain = host, isinstance(error, NotBelieved)


class ObjectMissing(IntegrityError):
    """A file of the repository, or a part of one, is not there."""


class ObjectUnreadable(IntegrityError):
    """The disk does not give a file of the repository, or it is not a file."""


class PointDamaged(IntegrityError):
    """Words may mean a backup point whose manifest is damaged; another was not asked for."""


class BaseDamaged(IntegrityError):
    """What a content is to be built upon cannot be read, and it can do without it no more."""


class PartlyDamaged(IntegrityError):
    """Some of a listing cannot be read; *found* is what can be, *failures* say what is missing."""

    def __init__(
        self, message: str, found: Sequence[Any] = (), failures: Sequence[IntegrityError] = ()
    ) -> None:
        super().__init__(message)
        self.found, self.failures = found, failures

    @classmethod
    def of(cls, failures: Sequence[IntegrityError], found: Sequence[Any]) -> PartlyDamaged:
        """What can be read of a listing beside one *failure* or several."""
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        return cls(f"{failures[0]}{more}", found, failures)


class StorageError(IbtfsError):
    """The storage of a repository did not do what it was asked to."""


class ObjectExists(StorageError):
    """An object that was to be new is there already; it stays as it is."""


class StorageFull(StorageError):
    """The disk of the repository has no room; nothing that was stored is touched."""


class StorageFailed(StorageError):
    """The disk of the repository refused an operation."""


class LimitExceeded(IbtfsError):
    """Something is larger than the format can hold: it is not stored, or cannot have been."""


class SourceError(IbtfsError):
    """One file of the source could not be stored as it is; the rest goes on."""


class Vanished(SourceError):
    """It was listed, and is gone."""


class Replaced(SourceError):
    """Something else lies under the name that was listed."""


class Leased(SourceError):
    """A program holds a lease on it, and has not given it back."""


class RestoreFailed(IbtfsError):
    """One entry could not be restored; the rest goes on."""


class DestinationFull(IbtfsError):
    """There is no room for what is restored, so nothing more is tried."""


class WrongBase(IbtfsError):
    """The tree is not the one that the diff starts from."""


class LibraryMissing(IbtfsError):
    """An outside library that is needed is not installed."""


class MountError(IbtfsError):
    """A repository could not be mounted or unmounted."""

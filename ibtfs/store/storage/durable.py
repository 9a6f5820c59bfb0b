"""What every object on a disk needs: names that become durable, and errors in our own words."""

from __future__ import annotations

import errno
import os

from ibtfs.errors import IbtfsError, ObjectMissing, ObjectUnreadable, StorageFailed, StorageFull

_DAMAGED = (errno.EIO, errno.EISDIR, errno.ELOOP, errno.EUCLEAN, errno.EBADMSG, errno.EINVAL)


def failed(error: OSError, name: str, *, reading: bool = False) -> IbtfsError:
    """*error*, met at the object *name*, as an error of ours."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(f"No space left in the repository, writing {name!r}: free some room")
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE):
        return ObjectMissing(f"{name}: no such file in the repository")
    if reading and error.errno in _DAMAGED:
        return ObjectUnreadable(f"{name}: the disk does not give it: {error.strerror or error}")
    return StorageFailed(f"{name}: {error.strerror or error}")


def rename_new(part: str, path: str) -> None:
    """Give *part* the name *path*, or raise FileExistsError."""
    try:
        os.link(part, path)
    except FileExistsError:
        raise
    except OSError as error:
        # FAT and some network file systems have no links; names there are random, so a look is
        # enough, and an empty file that reserved the name would be a damaged object after a crash
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS):
            raise
        if os.path.lexists(path):
            raise FileExistsError(path) from error
        os.rename(part, path)
    else:
        os.unlink(part)


def sync_folder(folder: str) -> None:
    """Make the names in *folder* durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot sync a folder
            raise
    finally:
        os.close(descriptor)

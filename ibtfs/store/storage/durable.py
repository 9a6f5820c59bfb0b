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


def rename_new(folder: int, part: str, name: str) -> None:
    """Give *part*, in the open *folder*, the name *name*, or raise FileExistsError."""
    try:
        os.link(part, name, src_dir_fd=folder, dst_dir_fd=folder)
    except FileExistsError:
        raise
    except OSError as error:
        # FAT and some network file systems have no links; names there are random, so a look is
        # enough, and an empty file that reserved the name would be a damaged object after a crash
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS):
            raise
        if is_there(folder, name):
            raise FileExistsError(name) from error
        os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
    else:
        os.unlink(part, dir_fd=folder)


def rename_over(folder: int, part: str, name: str) -> None:
    """Give *part*, in the open *folder*, the name *name*, whatever has it."""
    os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)


def is_there(folder: int, name: str) -> bool:
    """Whether the open *folder* has anything called *name*.  Raises OSError if it cannot tell."""
    try:
        os.lstat(name, dir_fd=folder)
    except FileNotFoundError:
        return False
    return True


def sync_names(folder: int) -> None:
    """Make the names in the open *folder* durable."""
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot sync a folder
            raise


def sync_folder(path: str) -> None:
    """Make the names in the folder at *path* durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_names(descriptor)
    finally:
        os.close(descriptor)

"""Building blocks for backup scripts: those of incremental-backups-tools, on ibtfs's own pieces.

The state of a directory, what changed between two states, the deltas, and signatures to make the
next ones from without the old tree::

    from ibtfs.toolkit import DiffData, DiffIndex, DirIndex, SigVault, apply_diff

    old = DirIndex("/home/me/docs")                    # or of a dirtools2 Dir
    with SigVault.create("docs.1.sigs", old) as vault:
        vault.add_all(old.files)
    Path("docs.1.index").write_bytes(old.to_bytes())
    ...                                                # the directory changes
    old = DirIndex.from_bytes(Path("docs.1.index").read_bytes())
    diff = DiffIndex(DirIndex("/home/me/docs", known=old), old)
    with SigVault.open("docs.1.sigs") as vault:
        DiffData(diff, vault).save("docs.2.data")
    Path("docs.2.diff").write_bytes(diff.to_bytes())
    ...                                                # elsewhere, on a copy of the old tree
    with DiffData.open("docs.2.data") as data:
        apply_diff("/mnt/copy", DiffIndex.from_bytes(Path("docs.2.diff").read_bytes()), data)

And whole backups, which keep everything that a tree has (a diff knows nothing of extended
attributes, holes and hard links)::

    from ibtfs.toolkit import full_backup, incremental_backup, list_points, restore_backup

    full_backup("/home/me/docs", "/mnt/disk/repository")
    incremental_backup("/home/me/docs", "/mnt/disk/repository")
    restore_backup("/mnt/disk/repository", "docs", "/tmp/docs", at="yesterday")

A sealed repository takes ``key_file=``, or ``passphrase=``: text, or a function that returns it; or
it is opened once, for all that is done with it::

    from ibtfs.toolkit import full_backup, list_points, open_repository

    full_backup("/home/me/docs", "/mnt/disk/repository", key_file="/home/me/.config/ibtfs/key")
    opened = open_repository("/mnt/disk/repository", passphrase=getpass.getpass)
    list_points(opened)

And backup points that go (what they alone needed is freed by ``ibtfs prune``), and tags::

    from ibtfs.toolkit import forget_points, tag_points, undo_backup

    tag_points("/mnt/disk/repository", "before-upgrade", ["docs/latest"])
    undo_backup("/mnt/disk/repository", "photos")
    forget_points("/mnt/disk/repository", keep_daily=7, keep_tags=["before-upgrade"])

Paths inside a directory are bytes, relative to it, ``b""`` for the directory itself.  What people
name (directories, files, repositories) may be str, bytes or a path object.  Everything that fails
on purpose raises an error of :mod:`ibtfs.errors`.  Objects belong to one thread at a time, but
for an open ``SigVault`` or stored diff, which threads may share.
"""

from __future__ import annotations

from ibtfs.actions.forget.choice import Choice
from ibtfs.actions.forget.run import Forgotten
from ibtfs.actions.forget.tags import Tagged
from ibtfs.actions.stats.gather import Statistics
from ibtfs.errors import WrongBase
from ibtfs.toolkit.apply import apply_diff
from ibtfs.toolkit.backups import (
    BackupPoint,
    Restored,
    forget_points,
    full_backup,
    incremental_backup,
    list_points,
    repository_statistics,
    restore_backup,
    tag_points,
    undo_backup,
    untag_points,
)
from ibtfs.toolkit.data import DiffData, StoredDiffData
from ibtfs.toolkit.diff import DiffIndex
from ibtfs.toolkit.index import DirIndex, Row
from ibtfs.toolkit.opening import Passphrase, open_repository
from ibtfs.toolkit.vault import SigVault, SigVaults, SigVaultWriter

__all__ = [
    "BackupPoint",
    "Choice",
    "DiffData",
    "DiffIndex",
    "DirIndex",
    "Forgotten",
    "Passphrase",
    "Restored",
    "Row",
    "SigVault",
    "SigVaultWriter",
    "SigVaults",
    "Statistics",
    "StoredDiffData",
    "Tagged",
    "WrongBase",
    "apply_diff",
    "forget_points",
    "full_backup",
    "incremental_backup",
    "list_points",
    "open_repository",
    "repository_statistics",
    "restore_backup",
    "tag_points",
    "undo_backup",
    "untag_points",
]

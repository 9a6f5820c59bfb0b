"""What must be known of the file systems that are backed up: their kind, by device number."""

from __future__ import annotations

import os
import re

KEEPS_INODES = frozenset(
    {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "tmpfs", "f2fs", "bcachefs", "jfs", "reiserfs"}
)
"""File systems known to keep inode numbers; on others they do not tell that a file is the same."""

VIRTUAL = frozenset(
    {
        "autofs",
        "binfmt_misc",
        "bpf",
        "cgroup",
        "cgroup2",
        "configfs",
        "debugfs",
        "devpts",
        "devtmpfs",
        "efivarfs",
        "fuse.gvfsd-fuse",
        "fuse.ibtfs",
        "fuse.portal",
        "fusectl",
        "hugetlbfs",
        "mqueue",
        "nsfs",
        "proc",
        "pstore",
        "rpc_pipefs",
        "securityfs",
        "selinuxfs",
        "sysfs",
        "tracefs",
    }
)
"""File systems that hold nothing to be kept; not entered below a source."""

COARSE = frozenset({"vfat", "msdos", "exfat", "hfs"})
GRANULARITY_NS = 100_000_000
COARSE_GRANULARITY_NS = 2_000_000_000


class FileSystems:
    """The kinds of mounted file systems, read once from the kernel's list."""

    def __init__(self, mountinfo: bytes | None = None) -> None:
        """*mountinfo* is the text of ``/proc/self/mountinfo``; read from there by default."""
        if mountinfo is None:
            try:
                with open("/proc/self/mountinfo", "rb") as file:
                    mountinfo = file.read()
            except OSError:
                mountinfo = b""
        self._kinds: dict[int, str] = {}
        pattern = re.compile(rb"^\d+ \d+ (\d+):(\d+) .*? - (\S+) ", re.MULTILINE)
        for major, minor, kind in pattern.findall(mountinfo):
            self._kinds[os.makedev(int(major), int(minor))] = kind.decode("ascii", "replace")

    def kind(self, device: int) -> str:
        """The type of the file system on *device*; empty if it is not known."""
        return self._kinds.get(device, "")

    def keeps_inodes(self, device: int) -> bool:
        """Whether inode numbers on *device* mean the same in the next run."""
        kind = self.kind(device)
        # btrfs shows a device number for each subvolume that the kernel's list does not have
        return kind in KEEPS_INODES or (not kind and "btrfs" in self._kinds.values())

    def is_virtual(self, device: int) -> bool:
        """Whether what lies on *device* is made up by the kernel."""
        return self.kind(device) in VIRTUAL

    def granularity_ns(self, device: int, time_ns: int) -> int:
        """How far two moments may lie apart and leave the same time, with room to spare.

        *time_ns* is one that was met there: a full second may come from a file system that keeps
        no more than seconds, and not every kind tells by its name (ext4 with small inodes, sshfs).
        """
        coarse = self.kind(device) in COARSE or not time_ns % 1_000_000_000
        return COARSE_GRANULARITY_NS if coarse else GRANULARITY_NS

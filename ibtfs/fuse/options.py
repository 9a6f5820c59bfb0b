"""What can be chosen about a mount, and how libfuse is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Binding = Literal["auto", "fuse3", "fuse2"]


@dataclass(frozen=True)
class MountOptions:
    """How a view is mounted; the same for both bindings.

    *allow_other* lets other users in, and then the kernel checks owners, modes and ACLs.
    *xattrs* false makes every question about extended attributes fail at once, which saves two
    round trips a file for ``cp -a`` and ``ls -l``; ACLs still count where others are let in.
    *noexec* keeps programs in it from being run; set-user-id bits and devices never count.
    *threads* answer requests; most of them wait. The kernel wakes one for each request, and with
    many to choose from finds one near the program that asks: 100,000 files were listed in 12.1 s
    with one thread, 7.5 s with 4, 6.0 s with 16, 5.7 s with 32.
    *nonempty* matters to libfuse 2 only; libfuse 3 always covers what a directory holds.
    """

    allow_other: bool = False
    threads: int = 16
    fsname: str = "ibtfs"
    subtype: str = "ibtfs"
    xattrs: bool = True
    nonempty: bool = False
    noexec: bool = False
    binding: Binding = "auto"


def escaped(text: str) -> str:
    """*text* as the value of an option for libfuse."""
    return text.replace("\\", "\\\\").replace(",", "\\,")

"""Where the machine of :mod:`tests.support.machine` works: a folder, or a server behind a gate."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ibtfs.store.repository import Repository
from ibtfs.store.storage.objects.lease import ObjectLease
from ibtfs.store.storage.objects.storage import ObjectStorage
from ibtfs.store.storage.objects.upload import ObjectUpload
from ibtfs.store.storage.sftp.lease import SftpLease
from ibtfs.store.storage.sftp.storage import SftpStorage
from ibtfs.store.storage.sftp.upload import SftpUpload
from tests.support.crashing import LOCAL_STEPS
from tests.support.http_gate import BUSY, MANY, HttpGate
from tests.support.remote import soon
from tests.support.sealing import sealer
from tests.support.seaweed import BUCKET, Seaweed, aws_environment, seaweed
from tests.support.sshd import Gate, Server, served

Points = tuple[tuple[Any, str], ...]
"""What is called for each step that a run may be cut off at: owners, and names of functions."""


class Ground:
    """A folder of this machine; one elsewhere is a class of its own.

    *is_here* tells whether the files can be looked at.  Repositories are sealed if *sealed*.
    """

    is_here = True
    points: Points = LOCAL_STEPS

    def __init__(self, *, sealed: bool = False) -> None:
        self._sealed = sealed

    def create(self, path: Path) -> Repository:
        """A new repository, which this one would have at *path*."""
        seals = sealer() if self._sealed else None
        return Repository.create(self.place(path), os.urandom(16), sealer=seals)

    def place(self, path: Path) -> bytes:
        """What names the repository."""
        return os.fsencode(path)

    def spoil(self, rng: random.Random) -> None:
        """Let something happen to some of what is asked for next."""

    def calm(self) -> None:
        """Let nothing happen any more."""


class SftpGround(Ground):
    """By SFTP, through a gate that cuts the connection."""

    is_here = False
    points = (
        (SftpStorage, "make_folder"), (SftpStorage, "delete"), (SftpStorage, "touch"),
        (SftpUpload, "write"), (SftpUpload, "_name"), (SftpUpload, "finish"),
        (SftpUpload, "abort"), (SftpLease, "release"),
    )  # fmt: skip

    def __init__(self, server: Server, gate: Gate, *, sealed: bool = False) -> None:
        super().__init__(sealed=sealed)
        self._gate = gate

    def place(self, path: Path) -> bytes:
        """As Ground says."""
        return f"sftp://127.0.0.1:{self._gate.port}{path}".encode()

    def spoil(self, rng: random.Random) -> None:
        """As Ground says."""
        # behind what it takes to get through, or ssh itself is refused
        size = rng.choice((500, 5000, 50_000, 500_000))
        if rng.random() < 0.5:
            self._gate.cut_after(rng.randrange(6000, 6000 + size))
        else:
            self._gate.cut_after_sent(rng.randrange(6000, 6000 + size))

    def calm(self) -> None:
        """As Ground says."""
        self._gate.cut_after(1 << 60)
        self._gate.cut_after_sent(1 << 60)


class S3Ground(Ground):
    """In S3, through a gate that refuses, loses and cuts."""

    is_here = False
    points = (
        (ObjectStorage, "put_whole"), (ObjectStorage, "delete"), (ObjectStorage, "drop"),
        (ObjectStorage, "put_beat"), (ObjectUpload, "write"), (ObjectUpload, "_put_part"),
        (ObjectUpload, "_name"), (ObjectUpload, "finish"), (ObjectUpload, "abort"),
        (ObjectLease, "release"),
    )  # fmt: skip

    def __init__(self, gate: HttpGate, *, sealed: bool = False) -> None:
        super().__init__(sealed=sealed)
        self._gate = gate

    def place(self, path: Path) -> bytes:
        """As Ground says."""
        return f"s3://{BUCKET}/{path.parent.name}-{path.name}?endpoint={self._gate.url}".encode()

    def spoil(self, rng: random.Random) -> None:
        """As Ground says."""
        for _ in range(rng.randrange(1, 6)):
            spoil(self._gate, rng)
        self._gate.spare = rng.randrange(30)

    def calm(self) -> None:
        """As Ground says."""
        self._gate.forget()
        self._gate.spare = 0


def spoil(gate: HttpGate, rng: random.Random) -> None:
    """Let something happen to some requests."""
    method, times = rng.choice(["", "GET", "PUT", "DELETE", "HEAD", "POST"]), rng.randrange(1, 6)
    match rng.randrange(5):
        case 0:
            gate.refuse(rng.choice([BUSY, MANY, 500]), method, times=times)
        case 1:
            gate.lose(method, times=times)
        case 2:
            gate.drop(method, times=times)
        case 3:
            gate.cut(rng.randrange(2000), method)
        case _:
            gate.cut_sent(rng.randrange(20_000), method)


@contextmanager
def ground(
    kind: str, place: Path, patch: pytest.MonkeyPatch, *, sealed: bool = False
) -> Iterator[Ground]:
    """The ground of a *kind*: ``local``, ``sftp`` or ``s3``; its server's files lie in *place*."""
    soon(patch)
    if kind == "sftp":
        with served(place) as server:
            patch.setenv("PATH", server.shared_path())
            gate = Gate(server.port)
            try:
                yield SftpGround(server, gate, sealed=sealed)
            finally:
                gate.close()
    elif kind == "s3":
        aws_environment(patch)
        with seaweed(place) as weed:
            yield from _in_s3(weed, sealed=sealed)
    else:
        yield Ground(sealed=sealed)


def _in_s3(weed: Seaweed, *, sealed: bool) -> Iterator[Ground]:
    gate = HttpGate(weed.s3_port)
    try:
        yield S3Ground(gate, sealed=sealed)
    finally:
        gate.close()

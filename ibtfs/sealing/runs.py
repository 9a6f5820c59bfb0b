"""Runs of machines that only write: their ids, the keys of their archives, and who can open them.

Such a run has a random key, from which those of all that it makes come.  Its id ends with what
commits to that key, and with the tag of its machine: so whatever names the run, or an archive of
it, names its key, and nobody can put something else in the place of what it made.  The key goes
with each object, wrapped for readers, and is forgotten when the run ends.
"""

from __future__ import annotations

import os
import re
from typing import Final, NamedTuple

from ibtfs.sealing import tree
from ibtfs.sealing.primitives import (
    KEY_SIZE,
    READER_SEED_SIZE,
    WRAP_OVERHEAD,
    NotAuthentic,
    reader_public,
    unwrap,
    wrap,
)

COMMITMENT_SIZE = 16
WRAPPED_SIZE = KEY_SIZE + WRAP_OVERHEAD
_RUN = re.compile(r"([0-9]{8}T[0-9]{6}Z)_([0-9a-f]{32})([0-9a-f]{8})\Z")
_INFO: Final = b"ibtfs 2026 run\0"


class Run(NamedTuple):
    """A run of a machine that only writes: its *id*, the *tag* of the machine, and its *key*."""

    id: str
    tag: str
    key: bytes

    def __repr__(self) -> str:
        return f"Run({self.id})"  # tracebacks tell no keys


def tag_of(run_id: str) -> str:
    """The tag in the id of a run; empty if it is not that of a machine that only writes."""
    found = _RUN.match(run_id)
    return found[3] if found else ""


def begin_run(repository: bytes, second: str, tag: str) -> Run:
    """A new run of the machine with this *tag*; *second* is when it begins, as ids have it."""
    key = os.urandom(KEY_SIZE)
    return Run(f"{second}_{_commitment(repository, second, tag, key)}{tag}", tag, key)


def _commitment(repository: bytes, second: str, tag: str, key: bytes) -> str:
    parts = (repository, second.encode(), tag.encode())
    return tree.derive(tree.COMMITMENT, key, *parts, size=COMMITMENT_SIZE).hex()


def reader_seed(master: bytes, repository: bytes) -> bytes:
    """What the pair of keys of the readers by a *master* key is made of."""
    return tree.derive(tree.READER, master, repository, size=READER_SEED_SIZE)


def public_of(master: bytes, repository: bytes) -> bytes:
    """The key by which runs are wrapped for who has the *master* key."""
    return reader_public(reader_seed(master, repository))


def wrap_run(run: Run, public: bytes, repository: bytes) -> bytes:
    """The key of *run* for the readers with this *public* key.  Raises NotAuthentic."""
    return wrap(public, run.key, _INFO + repository + run.id.encode())


def unwrap_run(run_id: str, wrapped: bytes, seed: bytes, repository: bytes) -> Run:
    """The run that an object of it was made by.  Raises NotAuthentic if it is not this one."""
    found = _RUN.match(run_id)
    if found is None or len(wrapped) != WRAPPED_SIZE:
        raise NotAuthentic
    key = unwrap(seed, wrapped, _INFO + repository + run_id.encode())
    second, commitment, tag = found.groups()
    if len(key) != KEY_SIZE or _commitment(repository, second, tag, key) != commitment:
        raise NotAuthentic
    return Run(run_id, tag, key)


def key_of_owner(run: Run, repository: bytes, owner: str) -> bytes:
    """The key of all objects of one owner that *run* makes: of an archive, or of its manifest."""
    return tree.derive(tree.RUN, run.key, repository, owner.encode())

"""The digests of a repository that is not sealed, by the names that tests have for them."""

from __future__ import annotations

from ibtfs.format.digests import Digests

UNKEYED = Digests()
digest, slab_digest, hasher = UNKEYED.content, UNKEYED.slab, UNKEYED.hasher

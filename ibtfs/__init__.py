"""ibtfs: a backup repository that people walk through in time.

The layers, imports only downwards::

    cli/       words in, lines out              toolkit/   the building blocks of the ancestors
    fuse/      the view as a file system
    actions/   the verbs on a repository        view/      what of it is shown, and as what
    store/     the repository on a disk
    format/    bytes <-> values, pure
    errors     the errors of all of them

Rooms on one floor do not know each other.
"""

from __future__ import annotations

__version__ = "0.1.0"

"""ibtfs: a backup repository that people walk through in time.

The layers, imports only downwards::

    cli/       one module a command: words in, lines out
    toolkit/   the building blocks of the ancestors
    actions/   verbs on a repository         mount/   the read-only view
    store/     the disk
    format/    bytes <-> values, pure
    errors     the errors of all of them
"""

from __future__ import annotations

__version__ = "0.1.0"

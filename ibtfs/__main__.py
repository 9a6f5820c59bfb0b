"""``python -m ibtfs``: the command line."""

from __future__ import annotations

from ibtfs.cli.main import main

if __name__ == "__main__":
    main()

"""Where a mount in the background says what is wrong."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from ibtfs.cli.mount_log import logging_work


def test_the_log_can_be_read_by_its_owner_alone(tmp_path: Path) -> None:
    """It names files of folders that are closed to others."""
    old, root = os.umask(0o022), (logging.root.handlers[:], logging.root.level)
    try:
        logging_work(lambda on_ready: on_ready(), os.fsencode(tmp_path / "log"))(lambda: None)
        logging.getLogger("ibtfs").error("said")
    finally:
        os.umask(old)
        logging.root.handlers[:], logging.root.level = root
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600
    assert "said" in (tmp_path / "log").read_text()

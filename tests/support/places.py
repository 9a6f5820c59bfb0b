"""The kinds of storages that the contract is tried at, by what they can do."""

from __future__ import annotations

EVERYWHERE = ("local", "sftp", "ssh", "s3", "apache", "rclone", "weed-dav")
"""All of them."""
IN_A_FOLDER = ("local", "sftp", "ssh")
"""Those that lie in a folder of this machine, which a test can look into and damage."""
ONE_WINS = ("local", "sftp", "ssh", "rclone")
"""Those where of many who put the same name just one does."""
WITH_FILES = ("local", "sftp", "ssh")
"""Those that open files: what is open stays, and what is begun is seen."""
FAR = [kind for kind in EVERYWHERE if kind != "local"]
"""Those on other machines."""

"""Shell scripts in a mount namespace of their own: the machine looks as they need it, to them only.

`/dev` holds little more than a `/dev/fuse` for everybody; files of `/etc` and helpers of mount(8)
can be given.  There is a folder `mnt`; what is mounted on it is taken away at the end.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from . import CHECKOUT

DEVICES = "null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0 fuse:10:229"
PROLOGUE = f"""
set -eu
mount --make-rprivate /
mkdir -p dev && mount -t tmpfs none dev
for device in {DEVICES}; do
    IFS=:; set -- $device; unset IFS; mknod -m 666 dev/$1 c $2 $3
done
ln -s /proc/self/fd dev/fd
[ ! -e log.socket ] || {{ touch dev/log; mount --bind log.socket dev/log; }}
mount --rbind dev /dev
for file in etc/*; do
    [ ! -e "$file" ] || mount --bind "$file" "/$file"
done
if [ -d sbin ]; then  # links to all that is there, beside the helpers
    mkdir real && mount --bind /usr/sbin real
    for program in real/*; do ln -s "$PWD/$program" sbin/; done
    mount --bind sbin /usr/sbin
fi
umask 022
mkdir mnt
place=$PWD
trap 'umount --lazy "$place/mnt" 2>/dev/null || true' EXIT
"""


def run_privately(
    place: Path,
    script: str,
    *,
    files: Mapping[str, str] | None = None,
    helpers: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run *script* in *place*, an empty folder that all may enter; ends with its first failure.

    *files* are contents of files in ``/etc`` that exist, *helpers* programs in ``/sbin``.
    """
    for folder, contents in (("etc", files or {}), ("sbin", helpers or {})):
        for name, text in contents.items():
            (place / folder).mkdir(exist_ok=True)
            (place / folder / name).write_text(text)
            (place / folder / name).chmod(0o755 if folder == "sbin" else 0o644)
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", PROLOGUE + script],
        cwd=place, env={**os.environ, "PYTHONPATH": str(CHECKOUT), **(environment or {})},
        capture_output=True, text=True, errors="surrogateescape", check=False, timeout=240,
    )  # fmt: skip

"""``mount.ibtfs``: the words of mount(8) become words of ibtfs."""

from __future__ import annotations

import configparser
import importlib
import subprocess

import pytest

from ibtfs.cli.mount_helper import mount_words
from ibtfs.errors import UsageError
from tests.support import CHECKOUT


def lines(result: subprocess.CompletedProcess[str]) -> list[str]:
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout.splitlines()


def test_words_of_mount_become_words_of_ibtfs() -> None:
    start = ["mount", "--quiet"]
    end = ["--", "/repo", "/mnt"]
    for given, expected in {
        ("-o", "rw"): [],
        ("-n", "-o", "rw,noexec,nosuid,nodev,user=me"): ["--noexec"],
        ("-o", "noexec,nodev,exec"): [],
        ("-orw,uid=7,umask=022",): ["--uid=7", "--umask=022"],
        ("-o", "source=a,source=b,source=a"): ["--source=a", "--source=b"],
        ("-o", 'point_format="%Y, %m"'): ["--point-format=%Y, %m"],
        ("-o", "newer=3d,older=1d", "-o", "utc,symlinks=inside"): [
            "--newer=3d", "--older=1d", "--utc", "--symlinks=inside"],
        ("-sn", "-o", "what", "-t", "ibtfs"): [],
        ("-o", "x-systemd.requires=/,X-mount.mkdir,comment=a b,_netdev"): [],
    }.items():  # fmt: skip
        assert mount_words(["/repo", "/mnt", *given]) == start + expected + end
    assert mount_words(["/repo", "/mnt", "-v"]) == ["mount", *end]
    assert mount_words(["/repo", "/mnt", "-f"]) == []
    wrong = (["/repo"], [], ["/a", "/b", "/c"], ["/a", "/b", "-q"], ["/a", "/b", "-o", "uid"],
             ["/a", "/b", "-o", "utc=1"], ["/a", "/b", "-h"])  # fmt: skip
    for words in wrong:
        with pytest.raises(UsageError):
            mount_words(words)


def test_the_commands_that_are_installed_exist() -> None:
    config = configparser.ConfigParser()
    config.read(CHECKOUT / "setup.cfg")
    lines = config["options.entry_points"]["console_scripts"].split("\n")
    scripts = dict(line.split(" = ") for line in lines if line)
    assert set(scripts) == {"ibtfs", "mount.ibtfs"}
    for place in scripts.values():
        module, _, function = place.partition(":")
        assert callable(getattr(importlib.import_module(module), function))

"""`ibtfs key`, and the ways to say what opens a sealed repository."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import sys
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked

from ibtfs.actions.keys import run as keys
from ibtfs.cli import watching
from ibtfs.cli.secrets import new_key_file
from ibtfs.errors import StorageFailed
from ibtfs.format.config import config_check
from ibtfs.store import keyring as keyring_module
from ibtfs.store import pins, sealing
from tests.support import differences, snapshot
from tests.support.commands import in_process, run, run_json
from tests.support.sealing import QUICK, forge

PASSPHRASE = "IBTFS_PASSPHRASE_COMMAND"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Passphrases are found out quickly; what was seen before is this test's own."""
    for module in (keys, sealing):
        monkeypatch.setattr(module, "Stretching", lambda: QUICK)
    (tmp_path / "state").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv(PASSPHRASE, raising=False)


@pytest.fixture
def sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(PASSPHRASE, "printf 'correct horse'")
    run("init", "--seal", tmp_path / "sealed")
    return tmp_path / "sealed"


def ids(repo: Path, *words: object) -> list[str]:
    return [one["id"] for one in run_json("key", "list", repo, *words)["keys"]]


def test_all_commands_work_on_a_sealed_repository(
    sealed: Path, source: Path, tmp_path: Path
) -> None:
    run("backup", "--tag", "weekly", source, sealed)
    (source / "new").write_bytes(b"new")
    run("backup", source, sealed)
    assert len(run_json("list", sealed)["points"]) == 2
    run("check", "--read-data", sealed)
    run("stats", sealed)
    run("diff", sealed, "latest~1", "latest")
    run("tag", "add", sealed, "kept", "latest")
    assert [one["tag"] for one in run_json("tag", "list", sealed)["tags"]] == ["kept", "weekly"]
    run("restore", sealed, "latest", tmp_path / "back")
    assert differences(snapshot(tmp_path / "back"), snapshot(source)) == []
    run("forget", "--keep-last", "1", "--prune", sealed)
    run("purge", "--yes", sealed, "/new")
    run("protect", sealed, "--redundancy", "20%")
    run("check", "--read-data", "--repair", sealed)
    run("undo", "--allow-none", sealed)
    assert os.listdir(sealed / "lists")


def test_a_wrong_passphrase_or_none(sealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSPHRASE, "echo wrong")
    assert "does not open it" in run("list", sealed, code=12).stderr
    monkeypatch.setenv(PASSPHRASE, "false")
    assert f"{PASSPHRASE} failed, with exit code 1" in run("list", sealed, code=2).stderr
    monkeypatch.setenv(PASSPHRASE, "/no/such/program")
    assert "cannot be run" in run("list", sealed, code=2).stderr
    monkeypatch.delenv(PASSPHRASE)
    assert "a passphrase or a key file is needed" in run("list", sealed, code=12).stderr
    assert run_json("list", sealed, code=12)["exit_code"] == 12


def test_key_files(sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path / "key"
    told = run("key", "add", sealed, "--new-key-file", key, "--label", "machine x").stdout
    assert told.startswith("Added the file ")
    assert key.stat().st_mode & 0o777 == 0o600
    before = key.read_bytes()
    monkeypatch.delenv(PASSPHRASE)
    run("list", "--key-file", key, sealed)
    other = tmp_path / "other"
    other.write_bytes(os.urandom(32))
    run("list", "--key-file", other, "--key-file", key, sealed)
    run("list", "--key-file", other, sealed, code=12)
    assert "cannot be read" in run("list", "--key-file", tmp_path / "no", sealed, code=2).stderr
    (tmp_path / "tiny").write_bytes(b"x")
    assert "is no key file" in run("list", "--key-file", tmp_path / "tiny", sealed, code=2).stderr
    monkeypatch.setenv("IBTFS_KEY_FILE", str(key))
    run("list", sealed)
    assert key.read_bytes() == before
    shown = run("key", "list", sealed).stdout
    assert re.search(r"^[0-9a-f]{16}  file        machine x \(given now\)$", shown, re.MULTILINE)


FULL = """
import signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from ibtfs.cli.secrets import new_key_file
new_key_file(sys.argv[1].encode())
"""


def failing(*_: object, **__: object) -> None:
    raise OSError(errno.EIO, "Input/output error")


def test_a_key_file_for_which_there_is_no_room(tmp_path: Path) -> None:
    """Half a one would be taken for a whole one the next time."""
    key = tmp_path / "key"
    words = [sys.executable, "-c", FULL, str(key)]
    done = in_process(["/bin/sh", "-c", 'ulimit -f 0; exec "$@"', "sh"], *words)
    assert b"cannot be made: File too large" in done.stderr
    assert os.listdir(tmp_path) == ["state"]


@pytest.mark.parametrize("broken", [("fsync",), ("link",), ("link", "rename")])
def test_a_key_file_is_whole_or_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: tuple[str, ...]
) -> None:
    folder, repo = tmp_path / "folder", tmp_path / "made"
    folder.mkdir()
    for call in broken:
        monkeypatch.setattr(os, call, failing)
    is_made = broken == ("link",)  # there are file systems without
    if is_made:
        new_key_file(os.fsencode(folder / "key"))
    else:
        told = run("init", "--key-file", folder / "key", repo, code=2).stderr
        assert "cannot be made: Input/output error" in told
    monkeypatch.undo()
    assert os.listdir(folder) == ["key"] * is_made
    assert not repo.exists()


def test_a_new_repository_has_one_key(tmp_path: Path) -> None:
    """Who gives two may believe that both open it."""
    words = ("--key-file", tmp_path / "one", "--key-file", tmp_path / "two", tmp_path / "made")
    assert "which is to open" in run("init", *words, code=2).stderr
    words = ("--key-file", tmp_path / "one", "--passphrase-fd", "0", tmp_path / "made")
    assert "which is to open" in run("init", *words, stdin=b"secret", code=2).stderr
    assert {path.name for path in tmp_path.iterdir()} == {"state"}


def test_a_passphrase_from_a_descriptor_changes(
    sealed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("key", "change", sealed, "--new-passphrase-fd", "0", stdin="größer als zuvor\n".encode())
    run("list", sealed, code=12)
    monkeypatch.delenv(PASSPHRASE)
    run("list", "--passphrase-fd", "0", sealed, stdin="größer als zuvor".encode())
    run("list", "--passphrase-fd", "0", sealed, stdin=b"\xff", code=2)
    run("list", "--passphrase-fd", "987", sealed, code=2)


def test_a_recovery_sheet_opens_it(
    sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sheet = run("key", "recovery-sheet", sealed).stdout
    code = " ".join(re.findall(r"^    ([A-Z2-7 ]+)$", sheet, re.MULTILINE))
    assert len(code.replace(" ", "")) == 56
    monkeypatch.delenv(PASSPHRASE)
    run("list", "--passphrase-fd", "0", sealed, stdin=code.lower().encode())
    spoilt = ("B" if code[0] != "B" else "C") + code[1:]
    told = run("list", "--passphrase-fd", "0", sealed, stdin=spoilt.encode(), code=2).stderr
    assert "not typed as it is printed" in told


def test_keys_are_removed_by_the_beginning_of_their_ids(sealed: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    run("key", "add", sealed, "--new-key-file", key)
    first, second = ids(sealed)
    assert "no one key" in run("key", "remove", sealed, "zz", code=2).stderr
    run("key", "remove", sealed, second[:8])
    run("list", "--key-file", key, sealed, code=12)
    assert "only key" in run("key", "remove", sealed, first, code=2).stderr
    assert "needs a KEY" in run("key", "remove", sealed, code=2).stderr


def test_more_passphrases_than_can_be_tried_are_refused(
    sealed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "MOST_WORK_KIB", 2 * QUICK.memory_kib)
    add = ("key", "add", sealed, "--new-passphrase-fd", "0")
    run(*add, stdin=b"second")
    assert "so many passphrases" in run(*add, stdin=b"third", code=2).stderr
    run("key", "change", sealed, "--new-passphrase-fd", "0", stdin=b"third")
    run("key", "recovery-sheet", "--passphrase-fd", "0", sealed, stdin=b"third")


def test_what_opened_it_is_remembered(sealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring_module, "MOST_WORK_KIB", 4 * QUICK.memory_kib)
    repository = bytes.fromhex(run_json("key", "show", sealed)["repository"])
    forge(sealed / "keys", repository, 2, 9, QUICK)
    run("list", sealed, code=1)
    monkeypatch.setattr(watching, "state_folder", lambda *, make: b"")
    assert "were not tried" in run("list", sealed, code=12).stderr


def test_the_owner_stays_and_masters_are_counted(sealed: Path) -> None:
    before = run_json("key", "show", sealed)
    assert run_json("key", "rotate", sealed)["masters"] == 2
    after = run_json("key", "show", sealed)
    assert (after["owner"], after["masters"]) == (before["owner"], 2)
    assert after["number"] == before["number"] + 1
    assert before["owner"][:4] in run("key", "show", sealed).stdout


def test_what_is_not_sealed_has_no_keys(repo: Path, tmp_path: Path) -> None:
    assert "is not sealed and has no keys" in run("key", "list", repo, code=2).stderr
    key = tmp_path / "key"
    key.write_bytes(os.urandom(32))
    told = run("list", "--key-file", key, repo, code=12).stderr
    assert "is not sealed, though a key for it was given" in told


def test_copies_are_sealed_as_is_said(
    sealed: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("backup", source, sealed)
    run("copy", sealed, tmp_path / "again")
    assert len(ids(tmp_path / "again")) == 1
    monkeypatch.delenv(PASSPHRASE)
    key = tmp_path / "key"
    run("init", "--no-seal", tmp_path / "plain")
    monkeypatch.setenv(PASSPHRASE, "printf 'correct horse'")
    told = run("copy", sealed, tmp_path / "plain", code=2).stderr
    assert "say --no-seal if that is meant" in told
    run("copy", "--no-seal", sealed, tmp_path / "plain")
    monkeypatch.delenv(PASSPHRASE)
    assert len(run_json("list", tmp_path / "plain")["points"]) == 1
    run("copy", "--seal", "--key-file", key, tmp_path / "plain", tmp_path / "new")
    assert len(run_json("list", "--key-file", key, tmp_path / "new")["points"]) == 1


# What was seen before


def test_where_a_sealed_one_lay_none_is_made_in_clear(
    sealed: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever takes a repository away does not get the next backup in clear."""
    run("list", sealed)
    os.rename(sealed, sealed.with_name("away"))
    monkeypatch.delenv(PASSPHRASE)
    assert "a sealed repository lay there before" in run("backup", source, sealed, code=12).stderr
    assert not sealed.exists()
    run("init", sealed, code=12)
    run("init", "--no-seal", sealed)
    run("backup", source, sealed)


def test_an_unsealed_one_in_its_place_is_accepted_by_word(
    sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("list", sealed)
    monkeypatch.delenv(PASSPHRASE)
    run("init", tmp_path / "other")
    os.rename(sealed, sealed.with_name("away"))
    os.rename(tmp_path / "other", sealed)
    run("list", sealed, code=12)
    run("key", "accept", sealed)
    run("list", sealed)


def test_a_point_that_was_taken_away_is_told_until_it_is_accepted(
    sealed: Path, source: Path
) -> None:
    run("backup", source, sealed)
    run("backup", source, sealed)
    next((sealed / "points").iterdir()).unlink()
    told = run("list", sealed, code=1).stderr
    assert "1 backup points are missing that nobody removed" in told
    found = run_json("list", sealed, code=1)
    assert len(found["points"]) == 1
    assert "missing" in found["error"]
    assert "not writable" in run("backup", source, sealed, code=1).stderr
    run("key", "accept", sealed)
    run("list", sealed)
    run("backup", source, sealed)


def test_one_that_was_just_made_is_remembered(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by a link, and by its id wherever it lies."""
    key = tmp_path / "key"
    key.write_bytes(os.urandom(32))
    made, link = tmp_path / "made", tmp_path / "link"
    run("backup", "--key-file", key, source, made)
    os.symlink(made, link)
    os.rename(made, tmp_path / "away")
    run("init", "--no-seal", tmp_path / "plain")
    os.rename(tmp_path / "plain", made)
    run("backup", source, made, code=12)
    run("backup", source, link, code=12)
    config = tmp_path / "away" / "ibtfs.json"
    values = json.loads(config.read_text())
    del values["sealed"]
    config.write_text(json.dumps({**values, "check": config_check(values)}))
    run("list", tmp_path / "away", code=12)


def no_room(path: str, _: bytes) -> None:
    raise StorageFailed(f"{path}: No space left on device")


def test_what_cannot_be_remembered_is_told(
    sealed: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time, until it can be; the backup is made."""
    with monkeypatch.context() as patch:
        patch.setattr(pins, "store_body", no_room)
        told = run("backup", source, sealed, code=1).stderr
        assert told.count("cannot be remembered here") == 1
        assert "No space left on device" in told
        assert "cannot be remembered" in run_json("list", sealed, code=1)["error"]
    assert len(run_json("list", sealed)["points"]) == 1
    next((sealed / "points").iterdir()).unlink()
    assert "missing" in run("list", sealed, code=1).stderr


def test_where_nothing_can_be_remembered_that_is_told(
    sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("list", sealed).stderr == ""
    os.chmod(tmp_path / "state" / "ibtfs", 0o777)
    assert "cannot be remembered here" in run("list", sealed).stderr
    monkeypatch.delenv(PASSPHRASE)
    assert "cannot be remembered here" in run("init", tmp_path / "plain").stderr
    assert "cannot be remembered here" in run("list", tmp_path / "plain").stderr
    shutil.rmtree(tmp_path / "state")
    assert run("list", tmp_path / "plain").stderr == ""


def test_standard_input_is_a_dump_or_a_passphrase(sealed: Path) -> None:
    words = ("backup", "--passphrase-fd", "0", "--stdin-name", "dump", sealed)
    assert "cannot be both" in run(*words, stdin=b"x" * 100, code=2).stderr
    run("list", "--passphrase-fd", "0", sealed, stdin=b"x" * 70_000, code=2)


def test_keys_that_somebody_made_up_are_accepted_as_that(sealed: Path, source: Path) -> None:
    run("backup", source, sealed)
    (sealed / "keys" / f"2.{'0' * 16}").write_bytes(b"junk")
    assert "newer keys and is damaged" in run("backup", source, sealed, code=1).stderr
    run("key", "accept", sealed)
    run("backup", source, sealed)
    run("key", "rotate", sealed)  # which takes them away
    assert len(os.listdir(sealed / "keys")) == 2
    run("backup", source, sealed)


class Desktop(KeyringBackend):
    """A keyring as a desktop has one, in memory."""

    priority = 1.0  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}
        self.is_locked = False

    def _asked(self) -> None:
        if self.is_locked:
            raise KeyringLocked("nobody is there to unlock it")

    def get_password(self, service: str, username: str) -> str | None:
        self._asked()
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._asked()
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        self._asked()
        del self.kept[service, username]


def test_the_desktop_remembers(
    sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desktop, before = Desktop(), keyring.get_keyring()
    keyring.set_keyring(desktop)
    try:
        run("key", "remember", sealed)
        assert list(desktop.kept.values()) == ["correct horse"]
        monkeypatch.delenv(PASSPHRASE)
        run("list", sealed)
        desktop.is_locked = True
        run("list", sealed, code=12)
        desktop.is_locked = False
        run("key", "forget", sealed)
        assert desktop.kept == {}
        run("list", sealed, code=12)
        monkeypatch.setenv(PASSPHRASE, "printf 'correct horse'")
        key = tmp_path / "key"
        run("key", "add", sealed, "--new-key-file", key)
        monkeypatch.delenv(PASSPHRASE)
        told = run("key", "remember", "--key-file", key, sealed, code=2).stderr
        assert "is for passphrases" in told
    finally:
        keyring.set_keyring(before)


def test_a_machine_that_only_writes(
    sealed: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = tmp_path / "laptop.key"
    told = run("key", "add-writer", sealed, "laptop", "--to", held).stdout
    assert told == f"laptop makes backups of the host laptop with {held}\n"
    assert held.stat().st_mode & 0o777 == 0o600
    other = tmp_path / "other"
    for words in (("laptop", "--to", held), ("laptop", "--to", other),
                  ("desk", "--host", "laptop", "--to", other)):  # fmt: skip
        run("key", "add-writer", sealed, *words, code=2)
    assert not other.exists()
    for words in (("add-writer", sealed), ("add-writer", sealed, "x"), ("remove", sealed),
                  ("list", sealed, "--to", "x"), ("list", sealed, "--host", "x")):  # fmt: skip
        run("key", *words, code=2)
    (row,) = run_json("key", "list", sealed)["writers"]
    assert (row["name"], row["host"], row["is_revoked"]) == ("laptop", "laptop", False)
    assert re.search(rf"{row['id']} +only writes  laptop, of the host laptop\n",
                     run("key", "list", sealed).stdout)  # fmt: skip

    monkeypatch.delenv(PASSPHRASE)
    first = run_json("backup", "--key-file", held, source, sealed)["points"][0]
    assert first["full"]
    (source / "new").write_bytes(b"new")
    monkeypatch.setenv("IBTFS_KEY_FILE", str(held))
    told = run("backup", source, sealed).stdout
    assert "(incremental)" in told
    assert "look at it" not in told
    expected = snapshot(source)
    for words in (("list", sealed), ("check", sealed), ("key", "list", sealed),
                  ("restore", sealed, "latest", tmp_path / "back"), ("prune", sealed)):  # fmt: skip
        failed = run(*words, code=12)
        assert "a machine that only writes" in failed.stderr
    assert "cannot tag" in run("backup", "--tag", "x", source, sealed, code=2).stderr
    assert "host 'laptop' only" in run("backup", "--host", "x", source, sealed, code=2).stderr
    assert "made already" in run("init", "--seal", tmp_path / "another", code=2).stderr
    monkeypatch.delenv("IBTFS_KEY_FILE")

    monkeypatch.setenv(PASSPHRASE, "printf 'correct horse'")
    points = run_json("list", sealed)["points"]
    assert [one["host"] for one in points] == ["laptop", "laptop"]
    run("restore", sealed, "latest", tmp_path / "back")
    assert differences(snapshot(tmp_path / "back"), expected) == []
    told = run("key", "remove", sealed, "laptop").stdout
    assert told == "laptop can make no more backups; those that it made stay\n"
    assert "laptop, not any more" in run("key", "list", sealed).stdout
    for words in ((), ("--dry-run",)):
        told = run("backup", "--key-file", held, *words, source, sealed, code=12).stderr
        assert told.startswith("ibtfs: This machine was revoked: ")
    assert len(run_json("list", sealed)["points"]) == 2
    run("key", "remove", sealed, row["id"], code=2)
    run("key", "add-writer", sealed, "laptop", "--to", tmp_path / "again")

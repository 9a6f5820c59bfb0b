"""``ibtfs init``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ibtfs.errors import StorageFull
from ibtfs.store.storage.local import LocalStorage
from tests.support.commands import run, run_json


def test_init(tmp_path: Path) -> None:
    answer = run_json("init", tmp_path / "repo", "--compression", "9")
    config = json.loads((tmp_path / "repo" / "ibtfs.json").read_text())
    assert (config["id"], config["compression"]) == (answer["id"], 9)
    assert (tmp_path / "repo").stat().st_mode & 0o7777 == 0o700
    run("init", "--shared", tmp_path / "ours")
    assert (tmp_path / "ours").stat().st_mode & 0o7777 == 0o2770
    assert "already" in run("init", tmp_path / "repo", code=1).stderr


@pytest.fixture
def sealing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A passphrase that is told, and a state of this test's own."""
    monkeypatch.setenv("IBTFS_PASSPHRASE_COMMAND", "printf 'correct horse'")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def test_machines_that_only_write_are_let_in_at_once(
    sealing: None, tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo, folder = tmp_path / "repo", tmp_path / "files"
    folder.mkdir()
    told = run("init", repo, "--writers", "laptop,desk", "--writers", "tower", "--to", folder)
    files = {host: folder / f"{host}.key" for host in ("laptop", "desk", "tower")}
    assert told.stdout.splitlines() == [
        f"Made the sealed repository {repo}",
        *(f"{host} makes backups of the host {host} with {files[host]}" for host in files),
    ]
    assert {path: path.stat().st_mode & 0o777 for path in folder.iterdir()} == dict.fromkeys(
        files.values(), 0o600
    )
    listed = run_json("key", "list", repo)["writers"]
    assert [(one["name"], one["host"], one["is_revoked"]) for one in listed] == [
        (host, host, False) for host in files
    ]
    monkeypatch.delenv("IBTFS_PASSPHRASE_COMMAND")
    for host, path in files.items():
        (point,) = run_json("backup", "--key-file", path, source, repo)["points"]
        assert point["full"], host
        assert "a machine that only writes" in run("list", "--key-file", path, repo, code=12).stderr
    monkeypatch.setenv("IBTFS_PASSPHRASE_COMMAND", "printf 'correct horse'")
    assert [one["host"] for one in run_json("list", repo)["points"]] == list(files)
    run("key", "remove", repo, "desk")
    assert "was revoked" in run("backup", "--key-file", files["desk"], source, repo, code=12).stderr


def test_files_of_machines_lie_in_the_working_directory_unless_it_is_said(
    sealing: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = run_json("init", "--key-file", tmp_path / "mine", "--writers", "desk", tmp_path / "r")
    assert answer["sealed"]
    assert answer["writers"] == [{"host": "desk", "file": str(tmp_path / "desk.key")}]
    assert (tmp_path / "desk.key").exists()
    monkeypatch.delenv("IBTFS_PASSPHRASE_COMMAND")
    assert run_json("init", "--no-seal", tmp_path / "plain")["writers"] == []


@pytest.mark.parametrize("words", [
    ("--writers", "a,b,a"), ("--writers", "a", "--no-seal"), ("--to", "@"),
    ("--writers", "a,"), ("--writers", "a@b"), ("--writers", "a/b"), ("--writers", "a,there"),
    ("--writers", "a", "--to", "@/no/such"),
])  # fmt: skip
def test_machines_that_cannot_be_let_in(sealing: None, tmp_path: Path, words: list[str]) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "there.key").write_bytes(b"kept")
    to = () if "--to" in words else ("--to", folder)
    run("init", *(str(folder) + word[1:] if word[0] == "@" else word for word in words), *to,
        tmp_path / "repo", code=2)  # fmt: skip
    assert not (tmp_path / "repo").exists()
    assert [(path.name, path.read_bytes()) for path in folder.iterdir()] == [("there.key", b"kept")]


def test_a_repository_that_cannot_be_made_lets_nobody_in(
    sealing: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_new = LocalStorage.put_new

    def refuse(storage: LocalStorage, name: str, data: bytes) -> None:
        if name == "ibtfs.json":
            raise StorageFull(f"{name}: no space is left")
        put_new(storage, name, data)

    with monkeypatch.context() as patched:
        patched.setattr(LocalStorage, "put_new", refuse)
        told = run("init", tmp_path / "repo", "--writers", "a", "--to", tmp_path, code=1).stderr
    assert "no space is left" in told
    assert not (tmp_path / "a.key").exists()
    run("init", tmp_path / "repo", "--writers", "a", "--to", tmp_path)

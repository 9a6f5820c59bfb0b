"""What the command line is made of: words, numbers for people, names, progress."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from ibtfs.cli import progress
from ibtfs.cli.cache_folder import cache_folder
from ibtfs.cli.output import (
    counted,
    human_age,
    human_seconds,
    human_size,
    json_bytes,
    json_time,
    printable,
    shown,
    table,
)
from ibtfs.cli.progress import Reporter
from ibtfs.cli.words import FileName, LocalPath, Name, Size, Tag, Text
from ibtfs.format.moment import is_moment


@pytest.mark.parametrize(
    ("words", "size"),
    [("1", 1), ("100M", 100 << 20), ("1.5G", 3 << 29), ("2k", 2048), ("2KiB", 2048), ("7 B", 7),
     ("1T", 1 << 40), (" 3mb ", 3 << 20)],
)  # fmt: skip
def test_sizes(words: str, size: int) -> None:
    assert Size().convert(words, None, None) == size


@pytest.mark.parametrize("words", ["", "M", "-1", "0", "0.1", "1e3", "1X", "1,5G", "99999999P"])
def test_no_sizes(words: str) -> None:
    with pytest.raises(click.UsageError):
        Size().convert(words, None, None)


@pytest.mark.parametrize("name", ["a", "nightly", "für", "a b", "…" * 33])
def test_names(name: str) -> None:
    assert Tag().convert(name, None, None) == Name().convert(name, None, None) == name


@pytest.mark.parametrize("name", ["", " ", ".", "..", "a/b", "a\n", "\udcff", "…" * 34])
def test_no_names(name: str) -> None:
    with pytest.raises(click.UsageError):
        Name().convert(name, None, None)


def test_other_words() -> None:
    assert Text().convert("👩\u200d🚀 ok", None, None)
    assert FileName().convert(".x\udcff", None, None) == b".x\xff"
    assert LocalPath().convert("/a/../b/", None, None) == b"/b"
    with pytest.raises(click.UsageError):
        FileName().convert("x" * 256, None, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain äöü 日本", "plain äöü 日本"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x1b]0;title\x07", "\\e]0;title\\x07"),
        ("\udcff\udc80", "\\xff\\x80"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("\x9b31m", "\\x9b31m"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_printable(text: str, expected: str) -> None:
    assert printable(text) == expected
    assert printable(text).isprintable()


def test_shown() -> None:
    assert shown(b"a\xffb\n") == "a\\xffb\\n"


def test_json_bytes() -> None:
    assert json_bytes("ä\n".encode()) == {"path": "ä\n"}
    assert json_bytes(b"\xff", "target") == {"target": "\ufffd", "target_base64": "/w=="}


def test_json_time() -> None:
    assert json_time(1_000_000_000_123_456_789) == "2001-09-09T01:46:40.123456+00:00"
    assert json_time(-1) == "1969-12-31T23:59:59.999999+00:00"
    assert json_time(10**21) == f"@{10**12}"


@pytest.mark.parametrize(
    ("size", "expected"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (1023 << 10, "1.0 MiB"),
     (5 << 30, "5.0 GiB"), (3 << 60, "3,072.0 PiB")],
)  # fmt: skip
def test_human_size(size: int, expected: str) -> None:
    assert human_size(size) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.04, "0.0 s"), (59.9, "59.9 s"), (125.4, "2:05 min"), (3725, "1:02:05 h")],
)
def test_human_seconds(seconds: float, expected: str) -> None:
    assert human_seconds(seconds) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-5, "future"), (3, "3s"), (150, "2min"), (7200, "2h"), (3 * 86400, "3d"),
     (15 * 86400, "2w"), (70 * 86400, "2mo"), (800 * 86400, "2y")],
)  # fmt: skip
def test_human_age(seconds: float, expected: str) -> None:
    assert human_age(seconds) == expected
    assert seconds < 0 or is_moment(expected)


def test_counted() -> None:
    assert [counted(n, "file") for n in (0, 1, 1200)] == ["0 files", "1 file", "1,200 files"]


def test_table() -> None:
    assert table(("A", "N"), [("x", "10"), ("long", "5")], frozenset({1})) == (
        "A      N\nx     10\nlong   5"
    )


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def at_terminal(monkeypatch: pytest.MonkeyPatch, **words: Any) -> str:
    """Tell of 50,000 files and a problem; what a terminal gets to see of that."""
    fake = _Terminal()
    monkeypatch.setattr(sys, "stderr", fake)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(progress, "INTERVAL", 0.002)
    options = {"quiet": False, "verbose": False, "as_json": False, **words}
    with Reporter(**options) as reporter:
        for _ in range(50_000):
            reporter.progress(1, 1000)
        reporter.problem(b"x[bold]\xff", "is\x1b gone")
    return fake.getvalue()


@pytest.mark.parametrize("total", [0, 40_000])
def test_progress_on_a_terminal(total: int, monkeypatch: pytest.MonkeyPatch) -> None:
    text = at_terminal(monkeypatch, total=total)
    assert "files/s" in text
    assert "ibtfs: x[bold]\\xff: is\\e gone" in text
    assert "\x1b[?25h" in text  # the cursor is shown again


@pytest.mark.parametrize("option", ["quiet", "verbose", "as_json"])
def test_no_progress_where_it_would_disturb(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = "" if option == "as_json" else "ibtfs: x[bold]\\xff: is\\e gone\n"
    assert at_terminal(monkeypatch, **{option: True}) == expected


def test_progress_is_shown_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(range(10**6))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(times) / 10_000)
    shown_at: list[float] = []
    monkeypatch.setattr(Reporter, "_show", lambda _, now: shown_at.append(now))
    monkeypatch.setattr(sys, "stderr", _Terminal())
    with Reporter(quiet=False, verbose=False, as_json=False) as reporter:
        for _ in range(50_000):  # five seconds of this clock
            reporter.progress(1, 0)
    assert 45 <= len(shown_at) <= 50


def test_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    assert cache_folder() == bytes(tmp_path / "c" / "ibtfs")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == bytes(tmp_path / ".cache" / "ibtfs")
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cache_folder() == b""


def _run(words: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "ibtfs", *words]
    return subprocess.run(command, check=False, timeout=60, **options)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_a_standard_stream_that_is_closed(closed: int, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/a").write_bytes(b"1")
    source, repository = str(tmp_path / "source"), str(tmp_path / "repo")
    for words in (["backup", source, repository], ["list", repository]):
        line = " ".join([sys.executable, "-m", "ibtfs", *words, f"{closed}>&-"])
        done = subprocess.run(["sh", "-c", line], check=False, capture_output=True, timeout=60)
        assert done.returncode == 0
        assert b"Unexpected" not in done.stderr + done.stdout


def test_a_reader_that_goes_ends_no_backup(tmp_path: Path) -> None:
    source, repository = tmp_path / "source", str(tmp_path / "repo")
    source.mkdir()
    for number in range(3000):
        (source / f"a name that is rather long, so that a pipe is filled {number}").touch()
    with subprocess.Popen(
        [sys.executable, "-m", "ibtfs", "backup", "-v", str(source), repository],
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.read(10)
        process.stdout.close()
        process.wait(60)
    listed = _run(["list", "--json", repository], capture_output=True)
    assert len(json.loads(listed.stdout)["points"]) == 1


def test_a_full_standard_output_is_told(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = _run(["list", "--json", str(tmp_path)], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 10
    assert b"Traceback" not in done.stderr

"""``ibtfs stats``: as text on terminals of any width, with and without UTF-8, and as JSON."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.commands.test_list import on_terminal
from tests.support.commands import run, run_json

BLOCKS = set("▁▂▃▄▅▆▇█")


@pytest.fixture
def grown(repo: Path, source: Path) -> Path:
    """A repository of three points of `documents`, and one of `other`, which shares a file."""
    (source / "big").write_bytes(os.urandom(70_000))
    run("backup", source, repo)
    other = source.parent / "other"
    other.mkdir()
    shutil.copy(source / "big", other / "copy")
    (other / "own").write_bytes(os.urandom(5000))
    run("backup", other, repo)
    return repo


def bytes_in(folder: Path, pattern: str = "*") -> int:
    return sum(path.stat().st_size for path in folder.rglob(pattern) if path.is_file())


def test_what_it_takes_on_the_disk(grown: Path) -> None:
    answer = run_json("stats", grown)
    disk = answer["disk"]
    assert disk["total"] == bytes_in(grown)
    assert disk["total"] == sum(disk[kind] for kind in disk if kind != "total")
    for kind in ("data", "index", "sigs"):
        assert disk[kind] == bytes_in(grown / "archives", f"{kind}.*")
    assert disk["manifests"] == bytes_in(grown / "points")
    assert (answer["points"], len(answer["sources"]), answer["exit_code"]) == (4, 2, 0)
    assert answer["archives"] == len(list((grown / "archives").iterdir()))
    assert (answer["needed_by_none"], answer["added_by_none"], answer["damages"]) == (0, 0, [])


def test_what_is_shown_and_saved(grown: Path, source: Path) -> None:
    answer = run_json("stats", grown)
    listed = run_json("list", grown)["points"]
    assert answer["shown_bytes"] == sum(point["bytes"] for point in listed)
    # a.txt twice, new.txt, b.bin, the odd one, big, own
    assert answer["contents"] == 7
    assert answer["content_bytes"] == 6 + 13 + 3 + 102_400 + 3 + 70_000 + 5000
    saved = (answer[f"saved_by_{how}"] for how in ("sharing", "deltas", "compression"))
    assert answer["shown_bytes"] - sum(saved) == answer["payload_stored"]


def test_growth_and_what_removal_frees(grown: Path) -> None:
    answer = run_json("stats", "--ranges", grown)
    points = [point for source in answer["sources"] for point in source["points"]]
    for point in points:
        archives = (grown / "archives").glob(f"{point['id']}.*")
        manifest = (grown / "points" / point["id"]).stat().st_size
        assert point["added"] == sum(map(bytes_in, archives)) + manifest
        assert manifest <= point["alone"] <= point["with_earlier"]
    documents, other = answer["sources"]
    assert documents["points"][2]["alone"] < 70_000 <= documents["points"][2]["added"]
    assert 5000 < other["freed"] < 70_000
    assert len(documents["ranges"]) == 3
    assert documents["ranges"][0][2] == documents["freed"]
    assert [row[0] for row in documents["ranges"]] == [p["alone"] for p in documents["points"]]
    in_time = answer["by_time"]
    assert in_time["points"] == [point["id"] for point in points]
    everything = answer["disk"]["total"] - answer["disk"]["other"]
    assert in_time["ranges"][0][3] == pytest.approx(everything, abs=2)
    assert in_time["ranges"][2][1] > 70_000  # both points that have the file


@pytest.mark.parametrize("words", [("--largest",), ("--largest", "2"), ("--largest=2",)])
def test_the_paths_that_cost_most(grown: Path, words: tuple[str, ...]) -> None:
    for order in ((*words, grown), (grown, *words)):
        found = run_json("stats", *order)["largest"]
        assert found[0]["path"] in {"big", "copy"}
        assert {one["source"] for one in found[:2]} == {"documents", "other"}
        assert 69_000 < found[0]["stored"] < 71_000
        assert len(found) == (2 if "2" in words[-1] else 7)
    assert run("stats", "--largest", "0", grown, code=2)


def test_one_source_or_one_point(grown: Path) -> None:
    other = run_json("stats", "--source", "other", "--largest", "--ranges", grown)
    assert [source["source"] for source in other["sources"]] == ["other"]
    assert {one["path"] for one in other["largest"]} == {"copy", "own"}
    assert "by_time" not in other
    first = run_json("stats", "--point", "documents/latest~2", "--largest", grown)
    assert "big" not in {one["path"] for one in first["largest"]}
    (shown,) = first["sources"]
    whole = run_json("stats", grown)["sources"][0]
    assert shown["points"] == whole["points"][:1]
    again = run_json("stats", "--source", "documents", "--point", "latest~2", grown)
    assert again["sources"] == first["sources"]
    middle = run_json("stats", "--point", "documents/latest~1", "--ranges", grown)["sources"][0]
    assert middle["ranges"] == [[whole["points"][1]["alone"]]]
    assert "SOURCE" in run("stats", "--source", "nothing", grown, code=1).stderr.upper()
    assert "say which" in run("stats", "--point", "latest", grown, code=2).stderr


def test_an_empty_repository(tmp_path: Path) -> None:
    run("init", tmp_path / "repo")
    answer = run_json("stats", "--ranges", "--largest", tmp_path / "repo")
    assert (answer["points"], answer["sources"], answer["largest"]) == (0, [], [])
    assert answer["by_time"] == {"points": [], "ranges": []}
    assert "Points" in run("stats", "--ranges", "--largest", tmp_path / "repo").stdout


@pytest.mark.parametrize("columns", [40, 80])
def test_it_fits_terminals(grown: Path, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    lines = on_terminal(columns, "stats", "--ranges", "--largest", grown)
    assert max(map(len, lines)) <= columns
    assert "\x1b" not in "".join(lines)
    assert BLOCKS & set("".join(lines))
    header = next(line for line in lines if line.startswith("POINT"))
    assert header.split()[:2] == (["POINT", "ADDED"] if columns == 80 else ["POINT", "ALONE"])
    named = run_json("list", grown)["points"]
    for point in named:
        assert any(line.startswith(point["name"]) for line in lines)
    cut_off = [line for line in lines if line.endswith("…")]
    assert all(line.startswith(("Repository", "documents", "other")) for line in cut_off)


def test_colours_or_not_it_is_the_same(grown: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    plain = on_terminal(80, "stats", grown)
    monkeypatch.setenv("NO_COLOR", "1")
    assert on_terminal(80, "stats", grown) == plain


def test_plain_characters_where_there_is_no_utf8(grown: Path) -> None:
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "ibtfs", "stats", str(grown)]
    told = subprocess.run(command, env=environment, capture_output=True, check=True).stdout
    text = told.decode("ascii")
    assert "\\u" not in text
    assert re.search(r"^[ .:#]*#[ .:#]*$", text, re.M)


@pytest.mark.damaged
def test_damage_is_told(grown: Path) -> None:
    """A folder that cannot be read may need anything: nothing counts as unneeded."""
    newest = run_json("list", grown)["points"][-1]["id"]
    manifest = grown / "points" / newest
    manifest.write_bytes(manifest.read_bytes()[:-1])
    answer = run_json("stats", grown, code=3)
    assert newest in answer["damages"][0]
    assert answer["points"] == 3
    result = run("stats", grown, code=3)
    assert newest in result.stderr
    assert "may need anything" in result.stderr


@pytest.mark.damaged
def test_lost_payloads_are_told(grown: Path) -> None:
    lost = next((grown / "archives").glob("*/data.1"))
    lost.unlink()
    answer = run_json("stats", "--largest", grown, code=3)
    assert lost.parent.name in answer["damages"][0]
    assert "Traceback" not in run("stats", grown, code=3).stderr

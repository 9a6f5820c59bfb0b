"""Vaults of signatures, and the deltas and data of diffs."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from ibtfs.errors import (
    EntryNotFound,
    FormatDamaged,
    IntegrityError,
    NotFound,
    SourceError,
    UnsupportedFormat,
    UsageError,
)
from ibtfs.format.compression import Codec
from ibtfs.format.entry import SIZE
from ibtfs.format.frames import (
    CONTENTS,
    FLAG_RUNS,
    LARGE,
    Address,
    encode_frame,
    encode_runs,
    object_key,
)
from ibtfs.format.keys import PlainFrames
from ibtfs.format.packing import pack, pack_bodies
from ibtfs.format.rdelta import parse_delta
from ibtfs.format.rsync import make_signature
from ibtfs.format.tables import StreamTable, encode_end
from ibtfs.toolkit import DiffData, DiffIndex, DirIndex, SigVault, SigVaults, apply_diff
from ibtfs.toolkit import data as data_module
from ibtfs.toolkit import vault as vault_module
from ibtfs.toolkit.vault import block_size
from tests.support.realdata import mixed
from tests.support.toolkit import MIB, copy, same_trees, settle, stored, vault_of
from tests.support.trees import Symlink, make_tree


def digest_of(data: bytes) -> bytes:
    return blake3(data).digest()


def test_a_vault_gives_what_rdiff_makes(source: Path, tmp_path: Path) -> None:
    contents = {b"big": mixed(1, 3 * MIB), b"empty": b"", b"tiny": b"x"}
    make_tree(source, contents)
    file = vault_of(tmp_path / "sigs", DirIndex(source))
    with SigVault.open(file) as vault:
        assert vault.paths == [b"big", b"empty", b"tiny"]
        for path, data in contents.items():
            sums = vault.signature(path)
            assert sums == make_signature(data, block_size=block_size(len(data)))
            assert vault.signature(path, digest_of(data)) == sums
            assert vault.digest(path) == digest_of(data)
            with pytest.raises(EntryNotFound):
                vault.signature(path, digest_of(b"other"))
        with pytest.raises(EntryNotFound):
            vault.signature(b"missing")
    size = str(block_size(3 * MIB))
    made = tmp_path / "rdiff.sig"
    subprocess.run(["rdiff", "-b", size, "-S", "16", "signature", source / "big", made], check=True)
    with SigVault(file) as vault:
        assert vault.signature(b"big") == made.read_bytes()


def test_several_vaults_are_searched_newest_first(source: Path, tmp_path: Path) -> None:
    make_tree(source, {"a": b"a1", "b": b"b1"})
    vault_of(tmp_path / "1", DirIndex(source))
    (source / "a").write_bytes(b"a2")
    with SigVault.create(tmp_path / "2", DirIndex(source)) as vault:
        vault.add(b"a")
    with SigVaults.open([tmp_path / "2", tmp_path / "1"]) as vaults:
        assert vaults.signature(b"a") == make_signature(b"a2", block_size=64)
        assert vaults.signature(b"a", digest_of(b"a1")) == make_signature(b"a1", block_size=64)
        assert vaults.signature(b"b") == make_signature(b"b1", block_size=64)
        with pytest.raises(EntryNotFound):
            vaults.signature(b"c")
    with pytest.raises(NotFound):
        SigVaults.open([tmp_path / "1", tmp_path / "missing"])


def test_a_vault_is_written_once_and_whole(source: Path, tmp_path: Path) -> None:
    make_tree(source, {"a": b"one", "b": b"two"})
    settle()
    index = DirIndex(source)
    (source / "b").unlink()
    file = tmp_path / "out" / "sigs"
    file.parent.mkdir()
    with pytest.raises(SourceError), SigVault.create(file, index) as vault:
        vault.add_all([b"a", b"b"])
    assert os.listdir(file.parent) == []
    with SigVault.create(file, index) as vault:
        vault.add(b"a")
        for wrong, error in ((b"a", UsageError), (b"b", SourceError), (b"c", EntryNotFound)):
            with pytest.raises(error):
                vault.add(wrong)
    assert os.listdir(file.parent) == ["sigs"]
    assert SigVault(file).paths == [b"a"]
    with pytest.raises(UsageError, match="exists"):
        SigVault.create(file, index)
    with SigVault.create(tmp_path / "none", index):
        pass
    assert SigVault(tmp_path / "none").paths == []


def test_two_that_write_the_same_vault(source: Path, tmp_path: Path) -> None:
    make_tree(source, {"a": b"one"})
    index, file = DirIndex(source), tmp_path / "sigs"
    first, second = SigVault.create(file, index), SigVault.create(file, index)
    first.add(b"a")
    first.finish()
    with pytest.raises(UsageError, match="exists"):
        second.finish()
    assert sorted(os.listdir(tmp_path)) == ["sigs", "source"]
    assert SigVault(file).paths == [b"a"]


def test_damaged_files(source: Path, tmp_path: Path) -> None:
    make_tree(source, {"a": mixed(3, 70_000), "b": b"x" * 3000})
    index = DirIndex(source)
    good = vault_of(tmp_path / "sigs", index).read_bytes()
    wants = {path: SigVault(tmp_path / "sigs").signature(path) for path in index.files}
    rng = random.Random(4)
    for place in [*rng.sample(range(len(good)), 60), -1, -30]:
        changed = bytearray(good)
        changed[place] ^= 0x10
        (tmp_path / "bad").write_bytes(changed)
        try:
            with SigVault(tmp_path / "bad") as vault:
                assert all(vault.signature(path) == wants[path] for path in index.files)
        except (IntegrityError, UnsupportedFormat):
            continue
        assert place % len(good) in range(len(good) - 32, len(good) - 16)  # the id, for show
    for cut in (0, 10, len(good) - 1):
        (tmp_path / "bad").write_bytes(good[:cut])
        with pytest.raises(FormatDamaged):
            SigVault(tmp_path / "bad")
    with pytest.raises(FormatDamaged):
        DiffData.open(tmp_path / "sigs")


@pytest.mark.parametrize("size", [0, 1, 5000, 300_000, 3 * MIB])
def test_rdiff_patches_with_our_deltas(
    size: int, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_module, "BUFFER", MIB)  # so that a file has several
    old_bytes = mixed(size, size)
    (source / "file").write_bytes(old_bytes)
    old = stored(DirIndex(source))
    file, base = vault_of(tmp_path / "sigs", old), copy(source, tmp_path / "base")
    middle = size // 2
    new_bytes = b"head" + old_bytes[:middle] + b"inserted" + old_bytes[middle:]
    (source / "file").write_bytes(new_bytes)
    diff = DiffIndex(DirIndex(source), old)
    with SigVault.open(file) as vault:
        delta = DiffData(diff, vault).delta(b"file")
        DiffData(diff, vault).save(tmp_path / "data")
    (tmp_path / "delta").write_bytes(delta)
    done = tmp_path / "patched"
    subprocess.run(["rdiff", "patch", base / "file", tmp_path / "delta", done], check=True)
    assert done.read_bytes() == new_bytes
    with DiffData.open(tmp_path / "data") as data:
        assert data.paths == [b"file"]
        assert b"".join(data.pieces(b"file")) == delta
        with pytest.raises(EntryNotFound):
            data.pieces(b"other")
    if size > 5000:
        assert len(delta) < size / 20


def test_our_patch_takes_what_rdiff_makes(source: Path, tmp_path: Path) -> None:
    (source / "file").write_bytes(mixed(1, 200_000))
    base = copy(source, tmp_path / "base")
    old = stored(DirIndex(source))
    (source / "file").write_bytes(mixed(1, 200_000)[77:])
    diff = DiffIndex(DirIndex(source), old)

    class ByRdiff:
        def pieces(self, path: bytes) -> Iterator[bytes]:
            name = os.fsdecode(path)
            sums, made = tmp_path / "sums", tmp_path / "made"
            subprocess.run(["rdiff", "signature", base / name, sums], check=True)
            subprocess.run(["rdiff", "delta", sums, source / name, made], check=True)
            yield made.read_bytes()

    apply_diff(base, diff, ByRdiff())
    assert same_trees(source, base) == []


def test_a_signature_of_other_bytes_is_not_used(source: Path, tmp_path: Path) -> None:
    """Deleted and made again between two vaults: the ancestor took the old signature."""
    (source / "file").write_bytes(mixed(1, 50_000))
    file = vault_of(tmp_path / "sigs", DirIndex(source))
    (source / "file").write_bytes(mixed(2, 50_000))
    old, base = stored(DirIndex(source)), copy(source, tmp_path / "base")
    (source / "file").write_bytes(mixed(1, 50_000) + b"more")
    diff = DiffIndex(DirIndex(source), old)
    with SigVault.open(file) as vault:
        data = DiffData(diff, vault)
        assert [match[0] for match in parse_delta(data.delta(b"file"))] == [-1]
        apply_diff(base, diff, data)
    assert same_trees(source, base) == []


def test_what_a_diff_has_bytes_of(source: Path, tmp_path: Path) -> None:
    make_tree(source, {"a": b"one", "b": b"two", "gone": b"three"})
    old = stored(DirIndex(source))
    make_tree(source, {"new": mixed(1, 3 * MIB), "link": Symlink("a")})
    (source / "a").write_bytes(b"ONE")
    (source / "gone").unlink()
    diff = DiffIndex(DirIndex(source), old)
    data = DiffData(diff)
    assert (data.created, data.updated) == ((b"new",), (b"a",))
    assert b"".join(data.pieces(b"new")) == mixed(1, 3 * MIB)
    for path in (b"b", b"gone", b"link", b"missing"):
        with pytest.raises(EntryNotFound):
            data.pieces(path)
    with pytest.raises(EntryNotFound):
        data.delta(b"new")
    size = data.save(tmp_path / "data")
    assert size == (tmp_path / "data").stat().st_size
    with pytest.raises(UsageError, match="exists"):
        data.save(tmp_path / "data")
    with DiffData.open(tmp_path / "data") as opened:
        assert opened.paths == [b"new", b"a"]
        assert b"".join(opened.pieces(b"new")) == mixed(1, 3 * MIB)


def test_a_file_that_changes_after_the_diff_was_made(source: Path, tmp_path: Path) -> None:
    make_tree(source, {"a": b"one"})
    old = stored(DirIndex(source))
    (source / "b").write_bytes(b"two")
    settle()
    diff = DiffIndex(DirIndex(source), old)
    (source / "b").write_bytes(b"TWO")
    with pytest.raises(SourceError, match=r"^b: "):
        DiffData(diff).save(tmp_path / "data")
    assert sorted(os.listdir(tmp_path)) == ["source"]


def test_blocks_are_about_the_square_root() -> None:
    assert [block_size(size) for size in (0, 4095, 10_000, MIB, 10 << 30)] == [
        64, 64, 96, 1024, 103_616,
    ]  # fmt: skip
    assert SIZE == 4  # rows give the size to it


def bundle_of(file: Path, frames: list[tuple[int, int, int, bytes, int]]) -> Path:
    """A stored diff's data of *frames*: stream, start, count, raw bytes, flags."""
    kind = data_module.KIND
    key, codec, repository = object_key(bytes(16), kind), Codec(), bytes(16)
    tables: dict[int, StreamTable] = {}
    written = b""
    for stream, start, count, raw, flags in frames:
        frame = encode_frame(key, Address(stream, start, count), raw, codec, flags=flags)
        runs = len(raw) if flags else 0
        table = tables.setdefault(stream, StreamTable())
        table.add(start, count, len(written), len(frame), runs=runs)
        written += frame
    file.write_bytes(
        written + encode_end(PlainFrames(key), repository, tables, len(written), codec)
    )
    return file


def slots(*found: tuple[bytes, int, int]) -> tuple[int, int, int, bytes, int]:
    rows = [pack((path, start, length, b"")) for path, start, length in found]
    return CONTENTS, 0, len(rows), pack_bodies([*rows]), 0


def test_bytes_that_are_not_whole_are_told_and_not_waited_for(tmp_path: Path) -> None:
    runs = encode_runs([(0, 1)], b"x" * 1000)
    file = bundle_of(tmp_path / "data", [(LARGE, 0, 1000, runs, FLAG_RUNS), slots((b"a", 0, 1000))])
    with DiffData.open(file) as data, pytest.raises(FormatDamaged, match="not whole"):
        list(itertools.islice(data.pieces(b"a"), 1000))


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ([(b"a", 0, 1001)], "more bytes than it holds"),
        ([(b"a", 0, 600), (b"b", 599, 400)], "the same bytes or path twice"),
        ([(b"a", 0, 600), (b"a", 600, 400)], "the same bytes or path twice"),
        ([(b"a", 400, 600), (b"b", 0, 400)], "the same bytes or path twice"),
    ],
)
def test_a_bundle_tells_no_more_than_it_holds(
    listed: list[tuple[bytes, int, int]], message: str, tmp_path: Path
) -> None:
    payload = (LARGE, 0, 1000, b"x" * 1000, 0)
    good = bundle_of(tmp_path / "good", [payload, slots((b"a", 0, 600), (b"b", 600, 400))])
    with DiffData.open(good) as data:
        assert [b"".join(data.pieces(path)) for path in (b"a", b"b")] == [b"x" * 600, b"x" * 400]
    bad = bundle_of(tmp_path / "bad", [payload, slots(*listed)])
    with pytest.raises(FormatDamaged, match=message):
        DiffData.open(bad)


def test_a_signature_that_is_larger_than_any_is_refused(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tree(source, {"a": mixed(3, 70_000), "b": b"b"})
    file = vault_of(tmp_path / "sigs", DirIndex(source))
    monkeypatch.setattr(vault_module, "SIGNATURE_LIMIT", 1000)
    with SigVault.open(file) as vault:
        assert len(vault.signature(b"b")) < 1000
        with pytest.raises(FormatDamaged, match="it is none"):
            vault.signature(b"a")
        with pytest.raises(EntryNotFound):
            vault.signature(b"missing")

"""Later generations of what a machine that only writes has made: it can make none itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ibtfs.errors import FormatDamaged
from ibtfs.format.compression import Codec
from ibtfs.format.entry import Page, PageEntry, encode_pages
from ibtfs.format.frames import HEADER, SMALL, STATES, Address, object_key
from ibtfs.format.index import IndexHeader
from ibtfs.format.packing import pack_bodies
from ibtfs.format.tables import TRAILER_SIZE, StreamTable, encode_end, read_trailer
from ibtfs.sealing import tree
from ibtfs.sealing.frames import SealedFrames
from ibtfs.sealing.primitives import Suite
from ibtfs.sealing.runs import Run, key_of_owner
from ibtfs.store.archives.writer import ArchiveWriter, compression_pool
from ibtfs.store.storage.local import LocalStorage
from tests.promises.test_forgeries import begun, machine, owners, place, pruned, put_point, source
from tests.support.repositories import damages, restored, the_point
from tests.support.sealing import open_sealed
from tests.support.writers import Machine

__all__ = ["machine", "place", "source"]


def pruned_once(place: Path, source: Path, machine: Machine) -> tuple[Run, str]:
    """A run of the machine, which keeps its key, and its archive: with a second generation."""
    pattern = the_point(machine.back_up(source))
    keys, run_id = begun(machine)
    run = keys._run
    assert run is not None
    archive = f"{run_id}.0"
    with compression_pool() as pool:
        writer = ArchiveWriter(
            LocalStorage(os.fsencode(place)), keys, archive, epoch=0, codec=Codec(1), pool=pool
        )
        for _ in range(400):
            writer.add_whole(SMALL, os.urandom(32), os.urandom(60))
        state = writer.add_page(Page((), (), {}))
        writer.finish()
    put_point(place, keys, run_id, pattern, state=state, sequence=pattern.sequence + 1)
    assert pruned(place).rewritten == 1
    assert (place / "archives" / archive / "index.2").exists()
    return run, archive


def test_the_envelope_of_a_later_generation_is_of_no_use_to_who_made_the_first(
    place: Path, source: Path, machine: Machine
) -> None:
    """With the storage it could put a second one there that leads to what others have stored."""
    theirs = owners(place, source)
    run, archive = pruned_once(place, source, machine)
    repository, path = open_sealed(place).id, place / "archives" / archive / "index.2"
    name, data = f"archives/{archive}/index", path.read_bytes()
    public = object_key(repository, name)
    trailer = read_trailer(public, repository, data[-TRAILER_SIZE:], len(data), name)
    envelope = data[trailer.table_offset - trailer.envelope_size :][: trailer.envelope_size]
    base = key_of_owner(run, repository, f"archives/{archive}")
    key = tree.derive(tree.OBJECT, base, b"frames", name.encode())
    frames = SealedFrames(Suite(envelope[1]), key, public, envelope)
    row = PageEntry((1 << 32) | theirs.state.number, bytes(24), 1, b"a")
    header = IndexHeader((archive, theirs.state.archive), 0, 400, 1, False, False)
    out, tables = b"", {}
    for stream, body in ((STATES, encode_pages([row])), (HEADER, header.encode())):
        frame = frames.encode(Address(stream, 0, 1), pack_bodies([body]), Codec(1))
        table = tables.setdefault(stream, StreamTable())
        table.add(0, 1, len(out), len(frame), mark=frames.mark(frame))
        out += frame
    path.write_bytes(out + encode_end(frames, repository, tables, len(out), Codec(1), generation=2))
    with pytest.raises(FormatDamaged, match="is not what was sealed there"):
        open_sealed(place).archive(archive).require_header()


def test_frames_of_a_machine_are_sealed_anew(place: Path, source: Path, machine: Machine) -> None:
    """Whoever knows the key of the run finds none in a later generation that he can read."""
    first = the_point(machine.back_up(source))
    for name in ("b", "c"):
        (source / name).write_bytes(os.urandom(30_000))
        last = the_point(machine.back_up(source))
    before = {path: path.read_bytes() for path in (place / "archives").glob("*/index.1")}
    open_sealed(place).points.remove(first.id)
    result = pruned(place, all_of_it=True)
    assert not result.failed
    assert damages(open_sealed(place)) == []
    restored(open_sealed(place), last, place.parent / "back")
    assert (place.parent / "back" / "a").read_bytes() == (source / "a").read_bytes()
    later = list((place / "archives").glob("*/index.2"))
    assert later
    for path in later:
        file = open_sealed(place).archive(path.parent.name).file("index")
        for stream, table in file.tables.items():
            for row in range(len(table.starts)):
                assert file.stored_frame(stream, row) not in before[path.with_name("index.1")]

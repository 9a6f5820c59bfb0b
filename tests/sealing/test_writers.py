"""Machines that only write: what they seal readers open, as what it is, and nobody else."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from ibtfs.errors import FormatDamaged, RepositoryError
from ibtfs.format.compression import Codec
from ibtfs.format.envelopes import ENVELOPE_SIZE, SIZES
from ibtfs.format.frames import MANIFEST, SMALL, Address
from ibtfs.format.keys import Author, Frames, Keys
from ibtfs.format.objects import decode_object, encode_object, read_object, signed_part
from ibtfs.sealing import runs
from ibtfs.sealing.keys import SealedKeys
from ibtfs.sealing.primitives import SIGNATURE_SIZE, Suite, sign, signer_public
from ibtfs.sealing.ring import Master, Secrets, Writer
from ibtfs.sealing.writers import (
    TITLE,
    WriterKeys,
    WriterSecrets,
    decode_writer,
    encode_writer,
    is_writer,
    known_by,
    revocation,
)
from ibtfs.store.sealing import PLACES

REPOSITORY = bytes(range(16))
SECOND = "20261129T072334Z"
HERE = Address(SMALL, 0, 6)
MASTER, LATER = b"m" * 8, b"l" * 8
TAGS = {"0a0b0c0d": ("laptop", b"1" * 32), "1a1b1c1d": ("desk", b"2" * 32)}
MASTERS = {MASTER: Master(b"M" * 32, 1), LATER: Master(b"L" * 32, 2)}


def readers(
    accepted: Mapping[str, frozenset[bytes]] | None = None, *, current: bytes = MASTER,
    tags: Mapping[str, tuple[str, bytes]] = TAGS, masters: Mapping[bytes, Master] = MASTERS,
) -> SealedKeys:  # fmt: skip
    writers = {tag: Writer(host, host, signer_public(seed), 3, (accepted or {}).get(tag))
               for tag, (host, seed) in tags.items()}  # fmt: skip
    secrets = Secrets(masters, current, b"i" * 32, b"w" * 32, {}, bytes(32), writers)
    return SealedKeys(REPOSITORY, secrets, Suite.AES_256_GCM, PLACES)


def held(tag: str = "0a0b0c0d", repository: bytes = REPOSITORY) -> WriterSecrets:
    host, seed = TAGS[tag]
    public = runs.public_of(MASTERS[MASTER].secret, repository)
    return WriterSecrets(repository, b"c" * 32, Suite.AES_256_GCM, tag, host, seed, b"d" * 32,
                         MASTER, public)  # fmt: skip


def writer(tag: str = "0a0b0c0d", repository: bytes = REPOSITORY) -> WriterKeys:
    return WriterKeys(held(tag, repository), PLACES)


def sealed(frames: Frames) -> bytes:
    return frames.encode(HERE, b"secret", Codec(1))


def is_read(keys: Keys, name: str, envelope: bytes, data: bytes, generation: int = 1) -> bool:
    try:
        found = keys.frames(name, envelope, generation)
        return found.decode(HERE, data, name).raw == b"secret"
    except FormatDamaged:
        return False


def test_what_a_machine_seals_readers_open_and_it_does_not() -> None:
    keys = writer()
    run = keys.begin_run(SECOND)
    assert runs.tag_of(run) == "0a0b0c0d"
    for name in (f"archives/{run}.0/data", f"archives/{run}.12/index", f"points/{run}"):
        frames = keys.new_frames(name)
        data = sealed(frames)
        assert frames.envelope[0] == 2
        assert len(frames.envelope) == SIZES[2] == 1178
        assert is_read(readers(), name, frames.envelope, data)
        assert is_read(readers(current=LATER), name, frames.envelope, data)
        found = readers().frames(name, frames.envelope)
        assert found.author == Author("0a0b0c0d", "laptop")
        assert found.public == frames.public
        with pytest.raises(FormatDamaged, match="only writes"):
            keys.frames(name, frames.envelope)


def test_it_is_opened_where_it_was_made_alone() -> None:
    """Envelopes and frames of another archive, file, run, machine, repository or generation."""
    keys = writer()
    run = keys.begin_run(SECOND)
    name = f"archives/{run}.0/data"
    frames = keys.new_frames(name)
    data = sealed(frames)
    digit = "1" if run[17] == "0" else "0"
    for other in (f"archives/{run}.1/data", f"archives/{run}.0/index", f"points/{run}",
                  f"archives/{run[:17]}{digit}{run[18:]}.0/data", "points/one",
                  f"archives/{run.replace('0a0b0c0d', '1a1b1c1d')}.0/data", f"tags/{run}/x",
                  f"archives/{run.replace(SECOND, '20261129T072335Z')}.0/data"):  # fmt: skip
        assert not is_read(readers(), other, frames.envelope, data), other
    assert not is_read(readers(), name, frames.envelope, data, 2)
    later = keys.begin_run(SECOND)
    swapped = keys.new_frames(f"archives/{later}.0/data").envelope
    assert not is_read(readers(), name, swapped, data)
    elsewhere = writer(repository=bytes(16))
    theirs = elsewhere.begin_run(SECOND)
    name = f"archives/{theirs}.0/data"
    made = elsewhere.new_frames(name)
    assert not is_read(readers(), name, made.envelope, sealed(made))
    for changed in range(0, len(frames.envelope), 97):
        envelope = bytearray(frames.envelope)
        envelope[changed] ^= 1
        with pytest.raises(FormatDamaged):
            readers().frames(f"archives/{run}.0/data", bytes(envelope)).decode(HERE, data, "x")


def test_modes_are_not_exchanged() -> None:
    """The byte of the mode, with what the envelope has and with what it would have."""
    keys, name = writer(), ""
    run = keys.begin_run(SECOND)
    name = f"archives/{run}.0/index"
    public = keys.new_frames(name)
    secret = readers().new_frames(name)
    later = readers().later_frames(name, readers().frames(name, public.envelope), 2)
    for frames, generation in ((public, 1), (secret, 1), (later, 2)):
        data = sealed(frames)
        assert is_read(readers(), name, frames.envelope, data, generation)
        for mode in (1, 2, 3):
            rest = (frames.envelope[1:] + bytes(2000))[: SIZES[mode] - 1]
            if mode != frames.envelope[0]:
                assert not is_read(readers(), name, bytes((mode,)) + rest, data, generation)
                with pytest.raises(FormatDamaged):
                    readers().frames(name, bytes((mode,)) + frames.envelope[1:], generation)


def test_later_generations_are_made_by_readers_alone() -> None:
    keys = writer()
    run = keys.begin_run(SECOND)
    name = f"archives/{run}.0/index"
    first = keys.new_frames(name)
    data = sealed(first)
    with pytest.raises(RepositoryError):
        keys.later_frames(name, first, 2)
    opened = readers().frames(name, first.envelope)
    second = readers(current=LATER).later_frames(name, opened, 2)
    assert second.envelope[:ENVELOPE_SIZE] == b"\3\1" + LATER
    assert len(second.envelope) == SIZES[3]
    assert not is_read(readers(), name, second.envelope, data, 2)  # the key is another one
    data = sealed(second)
    assert is_read(readers(), name, second.envelope, data, 2)
    for generation in (1, 3):
        assert not is_read(readers(), name, second.envelope, data, generation)
    assert not is_read(readers(), f"archives/{run}.1/index", second.envelope, data, 2)
    found = readers().frames(name, second.envelope, 2)
    assert found.author == Author("0a0b0c0d", "laptop")
    third = readers().later_frames(name, found, 3)
    assert not is_read(readers(), name, third.envelope, data, 3)
    assert is_read(readers(), name, third.envelope, sealed(third), 3)
    lost = readers().later_frames(name, None, 4)  # nothing is left to take over
    assert lost.envelope[0] == 3
    assert not is_read(readers(), name, lost.envelope, data, 4)
    assert is_read(readers(), name, lost.envelope, sealed(lost), 4)
    mine = readers().new_frames(name)
    assert readers().later_frames(name, mine, 2) is mine
    assert readers().later_frames("archives/20261129T072334Z_0123456789.0/data", None, 2).envelope


def test_an_archive_leads_to_those_of_its_machine_alone() -> None:
    one, other = writer(), writer("1a1b1c1d")
    mine, theirs = one.begin_run(SECOND), other.begin_run(SECOND)
    later = one.begin_run("20261129T072335Z")
    frames = readers().frames(f"archives/{later}.0/index",
                              one.new_frames(f"archives/{later}.0/index").envelope)  # fmt: skip
    assert frames.may_refer(f"{mine}.0")
    assert frames.may_refer(f"{later}.3")
    for archive in (
        f"{theirs}.0",
        "20261129T072334Z_0123456789.0",
        f"{SECOND}_0a0b0c0d.0",
        "0a0b0c0d",
        "",
    ):
        assert not frames.may_refer(archive)
    assert readers().new_frames(f"archives/{later}.0/index").may_refer(f"{theirs}.0")


def manifest(keys: WriterKeys) -> tuple[str, bytes]:
    name = f"points/{keys.begin_run(SECOND)}"
    return name, encode_object(keys, name, MANIFEST, b"\x80", Codec(1))


def read(name: str, data: bytes, keys: SealedKeys | None = None) -> bytes:
    return read_object(keys or readers(), name, MANIFEST, data, name).raw


def test_manifests_are_signed() -> None:
    name, data = manifest(writer())
    assert read(name, data) == b"\x80"
    said = read_object(readers(), name, MANIFEST, data, name)
    assert said.author == Author("0a0b0c0d", "laptop")
    with pytest.raises(FormatDamaged, match="make backups only"):
        decode_object(readers(), name, MANIFEST, data, name)
    with pytest.raises(FormatDamaged, match="the owner did not let"):
        read(name, data, readers(tags={"1a1b1c1d": TAGS["1a1b1c1d"]}))
    with pytest.raises(FormatDamaged, match="did not sign"):
        read(name, data, readers(tags={"0a0b0c0d": ("laptop", b"2" * 32)}))
    one, other = writer(), held("1a1b1c1d")
    name = f"points/{one.begin_run(SECOND)}"
    frames = one.new_frames(name)
    impostor = WriterKeys(replace(held(), seed=other.seed), PLACES)
    impostor.__dict__.update(_run=one.__dict__["_run"], _envelope=frames.envelope)
    with pytest.raises(FormatDamaged, match="did not sign"):
        read(name, encode_object(impostor, name, MANIFEST, b"\x80", Codec(1)))


def test_signatures_that_are_changed_left_out_or_of_something_else() -> None:
    name, data = manifest(writer())
    envelope, frame = SIZES[2], int.from_bytes(data[16:20], "little")
    place = 24 + envelope + frame
    assert int.from_bytes(data[14:16], "little") == SIGNATURE_SIZE
    for at in (place, place + 63, 30, 24 + envelope + 3):
        changed = bytearray(data)
        changed[at] ^= 1
        with pytest.raises(FormatDamaged):
            read(name, bytes(changed))
    signed = data[:place]
    bare = sign(TAGS["0a0b0c0d"][1], signed)
    with pytest.raises(FormatDamaged, match="did not sign"):
        read(name, signed + bare + data[place + 64 :])
    for size in range(0, len(data), 61):
        with pytest.raises(FormatDamaged):
            read(name, data[:size])
    other, _ = manifest(writer())
    with pytest.raises(FormatDamaged):
        read(other, data)


def test_one_that_was_revoked_keeps_what_was_accepted() -> None:
    one = writer()
    name, data = manifest(one)
    later, more = manifest(one)
    known = frozenset({readers().point_mark(name[7:], signed_part(data, name))})
    keys = readers({"0a0b0c0d": known})
    assert read(name, data, keys) == b"\x80"
    with pytest.raises(FormatDamaged, match="may write here no more"):
        read(later, more, keys)
    theirs, also = manifest(writer("1a1b1c1d"))
    assert read(theirs, also, keys) == b"\x80"


def test_it_makes_nothing_but_its_run() -> None:
    keys = writer()
    with pytest.raises(RepositoryError):
        keys.new_frames(f"points/{SECOND}_" + "0" * 32 + "0a0b0c0d")
    first = keys.begin_run(SECOND)
    keys.begin_run(SECOND)
    for name in (f"points/{first}", "lists/1.0123456789abcdef", "damaged/x",
                 f"archives/{first}.0/data"):  # fmt: skip
        with pytest.raises(RepositoryError, match="makes backups, and nothing else"):
            keys.new_frames(name)
    assert keys.host("a") != keys.host("b")
    assert keys.host("a") not in {writer("1a1b1c1d").host("a"), readers().host("a")}


@pytest.mark.parametrize("revoked", [b"", b"r" * 32])
def test_the_file_of_a_machine(revoked: bytes) -> None:
    data = encode_writer(replace(held(), revoked=revoked))
    assert is_writer(data)
    assert data.startswith(TITLE)
    assert data.isascii()
    assert decode_writer(data, "file") == replace(held(), revoked=revoked)
    for at in range(len(TITLE), len(data), 41):
        changed = bytearray(data)
        changed[at] = ord("A") if data[at] != ord("A") else ord("B")
        with pytest.raises(FormatDamaged, match=r"^file: is not as it was written"):
            decode_writer(bytes(changed), "file")
    for cut in (len(TITLE), len(TITLE) + 9, len(data) - 90):
        with pytest.raises(FormatDamaged):
            decode_writer(data[:cut], "file")
    assert not is_writer(os.urandom(32).hex().encode())
    with pytest.raises(FormatDamaged):
        decode_writer(encode_writer(replace(held(), revoked=b"r" * 31)), "file")


def test_a_revocation_is_of_one_machine_of_one_owner() -> None:
    made = {revocation(owner, repository, tag) for owner in (b"o" * 32, b"p" * 32)
            for repository in (REPOSITORY, bytes(16)) for tag in TAGS}  # fmt: skip
    assert len(made) == len({known_by(one) for one in made}) == 8


def test_frozen_bytes_are_opened() -> None:
    """Made once, by this code: a later version has to read them."""
    text = json.loads((Path(__file__).parent.parent / "data/writers.json").read_text())
    kinds = ("envelope", "frame", "later", "manifest")
    name, made = text["archive"], {key: base64.b64decode(text[key]) for key in kinds}
    assert is_read(readers(), name, made["envelope"], made["frame"])
    assert is_read(readers(), name, made["later"], made["frame"], 2)
    assert read(f"points/{name[9:-7]}", made["manifest"]) == b"\x80"
    others = readers(masters={MASTER: Master(b"X" * 32, 1)})
    assert not is_read(others, name, made["envelope"], made["frame"])
    assert decode_writer(text["writer"].encode(), "file") == held()

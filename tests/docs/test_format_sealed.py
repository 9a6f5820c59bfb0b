"""What FORMAT.rst says of sealed repositories is what the code does."""

from __future__ import annotations

import re
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from blake3 import blake3

from ibtfs.format import digests, envelopes, frames, point, point_list
from ibtfs.format.compression import Codec
from ibtfs.format.frames import Address
from ibtfs.format.marks import Marks
from ibtfs.format.packing import unpack_map
from ibtfs.format.point_list import PointList
from ibtfs.sealing import frames as sealed
from ibtfs.sealing import keys, names, primitives, ring, runs, slots, tree, writers
from ibtfs.sealing.primitives import Suite
from ibtfs.store import keyring
from ibtfs.store.archives import own_limits
from ibtfs.store.layout import FORGOTTEN
from ibtfs.store.sealing import SPEAKING
from tests.docs.test_format_document import TABLES, TEXT, TYPES_OF_KEYS, _column, _structure
from tests.sealing.test_keys import keys_of
from tests.sealing.test_slots import REPOSITORY, ring_of, secrets_of, slot_of

CONTEXTS = {row["Context"]: row for row in TABLES["The tree of keys"]}
FLAT = re.sub(r"\s+", " ", TEXT)


def test_byte_tables_are_the_structures() -> None:
    assert _structure("Inner head of a sealed frame") == sealed._HEAD.format
    assert _structure("Associated data of a sealed frame") == sealed._BOUND.format
    assert _structure("Head of a ring") == ring._HEAD.format
    *fixed, last = TABLES["Envelope"]
    assert sum(int(row["Size"]) for row in fixed) == int(last["Offset"]) == envelopes.ENVELOPE_SIZE
    told = [int(number) for number in re.findall(r"(\d+)(?: random)? bytes", last["Field"])]
    assert [10 + told[0], 10 + told[1] + told[2]] == [envelopes.SIZES[2], envelopes.SIZES[3]]
    assert envelopes.SIZES[1] == envelopes.ENVELOPE_SIZE
    assert keys_of().envelope[0] == 1
    assert ring.MAGIC.hex(" ") in _column("Head of a ring", "Field")[0]
    first, _ = TABLES["Sealed frame"]
    assert int(first["Size"]) == sealed.NONCE_SIZE
    parts = {row["Part"]: row["Bytes"] for row in TABLES["Parts of a ring"]}
    assert parts["head"] == str(ring._HEAD.size)
    assert parts["signature"] == str(primitives.SIGNATURE_SIZE)
    assert parts["slots"] == f"2 + h + {slots.CHECK_SIZE} + {ring._WRAP} each"
    assert {int(row["Number"]): row["Cipher"] for row in TABLES["Suites"]} == {
        Suite.AES_256_GCM: "AES-256-GCM [5]_", Suite.CHACHA20_POLY1305: "ChaCha20-Poly1305 [6]_",
    }  # fmt: skip


def test_contexts_of_the_tree() -> None:
    known = {value for name, value in vars(tree).items() if str(value).startswith("ibtfs 2026 ")}
    assert set(CONTEXTS) == known
    sizes = {context: int(row["Bytes"]) for context, row in CONTEXTS.items()}
    assert sizes[tree.NAMES] == keys.NAMES_KEY_SIZE == len(keys_of().names)
    assert sizes[tree.SLOT] == primitives.READER_SEED_SIZE + slots.CHECK_SIZE
    assert sizes[tree.MARK] == keys.MARK_SIZE
    assert sizes[tree.HOST] * 2 == len(keys_of().host("h"))
    assert sizes[tree.COPIED] * 2 == len(keys_of().copied(bytes(16)))
    assert sizes[tree.READER] == primitives.READER_SEED_SIZE
    assert sizes[tree.COMMITMENT] == runs.COMMITMENT_SIZE
    assert sizes[tree.REVOKED] == len(bytes.fromhex(writers.revocation(b"", bytes(16), "")))
    others = set(sizes) - {tree.NAMES, tree.SLOT, tree.MARK, tree.HOST, tree.COPIED, tree.READER,
                           tree.COMMITMENT, tree.REVOKED}  # fmt: skip
    assert {sizes[context] for context in others} == {32}
    source = "".join(path.read_text() for path in Path(tree.__file__).parent.glob("*.py"))
    used = {value for name, value in vars(tree).items()
            if re.search(rf"(tree\.{name}\b|derive\({name}, secret)", source)}  # fmt: skip
    assert {c for c, row in CONTEXTS.items() if row["Parts"] == "reserved"} == known - used


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ("is at most {}; another", own_limits.OWN_EPOCH_LIMIT),
        ("unpacks to at most {} bytes", point.OWN_SIZE_LIMIT),
        ("{} times as many as are stored", point.OWN_RATIO),
        ("ends above {} times the size", own_limits.RECORDS_A_BYTE),
        ("at most s + {}, and", point.DAY),
        ("at most {} times that.", 1_000_000_000 // point.SEQUENCE_NS),
        ("the commitment in {} lower", 2 * runs.COMMITMENT_SIZE),
        ("its *tag*, {} lower", 2 * ring.TAG_BYTES),
        ("n is {} at least", sealed.LEAST_SIZE),
        ("So 257 becomes {}", sealed.padded_size(257)),
        ("and 1048577 becomes {}", sealed.padded_size((1 << 20) + 1)),
        ("has {} bytes more than its stored bytes", sealed.OVERHEAD),
        ("``{}``. Not keyed are", digests.ZERO_SLAB.hex()),
        ("is the tag, at most {} bytes", names.TAG_LIMIT),
        ("how many slots there are: 1 to {}", ring.SLOTS_LIMIT),
        ("At most {} objects in ``keys/`` that can be decoded", keyring.OBJECTS_LIMIT),
        ("at most {} KiB, what 16 usual ones take", keyring.MOST_WORK_KIB),
        ("passes 1 to {}, ", slots.MOST_PASSES),
        ("lanes 1 to {}, ", slots.MOST_LANES),
        ("memory {} to", slots.LEAST_MEMORY_KIB),
        ("to {} KiB, passes times", slots.MOST_MEMORY_KIB),
        ("times memory at most {} KiB", slots.MOST_WORK_KIB),
        ("zeros up to a multiple of {} bytes", ring._PADDING),
        ("text of at most {} characters", slots.LABEL_LIMIT),
        ("one behind the other, bytes; at most {} in all", point_list.GONE_LIMIT),
        ("At most {} points", point_list.WITHDRAWN_LIMIT),
        ("the generation that counts, int, at most {};", point_list.LAST_GENERATION),
        ("holds the map that follows if that has at most {} bytes", frames.FRAME_LIMIT),
        ("sizes of at most {} frames", point_list.MORE_LIMIT),
        ("A list is at most {} bytes", point_list.LIST_LIMIT),
        ("the last {} of them", point_list.EARLIER_LIMIT),
        ("of {} files at most", point_list.GENERATIONS_LIMIT),
        ("There are {} turns", point_list.TURNS),
    ],
)
def test_numbers_in_the_text(words: str, value: object) -> None:
    assert words.format(value) in FLAT


def test_a_frame_is_as_it_is_told() -> None:
    key, nonce = bytes(range(32)), bytes(range(24))
    made = sealed.SealedFrames(Suite.AES_256_GCM, key, bytes(32), b"")
    data = made.encode_by(nonce, Address(frames.SMALL, 5, 6), b"hello\n", Codec(), flags=0)
    assert len(data) == 6 + 48
    inner = struct.pack("<BBHI", 1, 0, 0, 6) + b"hello\n"
    bound = struct.pack("<HBQI", 1, 1, 5, 6)
    once = blake3(nonce, key=key).digest()
    assert data == nonce + primitives.encrypt_once(Suite.AES_256_GCM, once, inner, bound)
    assert made.mark(data) == int.from_bytes(nonce[:8], "little") // 2


def test_keys_of_slots_and_secrets() -> None:
    slot = slot_of(b"s" * 32)
    head = unpack_map(slots.encode_head(slot), "slot")
    rows = TABLES["Keys of the head of a slot"]
    assert list(head) == [row["Key"] for row in rows]
    assert [type(value) for value in head.values()] == [TYPES_OF_KEYS[r["Type"]] for r in rows]
    assert rows[1]["Meaning"] == "{}, {} or {}".format(*slots.KINDS)
    writer = ring.Writer("laptop", "laptop", bytes(32), 1)
    made = ring._values(replace(secrets_of(slot), writers={"0a0b0c0d": writer}))
    rows = TABLES["Keys of the secrets"]
    assert list(made) == [row["Key"] for row in rows]
    assert [type(value) for value in made.values()] == [TYPES_OF_KEYS[r["Type"]] for r in rows]


def test_parts_of_a_ring() -> None:
    slot = slot_of(b"s" * 32)
    data = ring_of(secrets_of(slot), slot, number=7)
    found = ring.decode_ring(data, "ring")
    head = slots.encode_head(slot)
    assert data[40:].startswith(struct.pack("<H", len(head)) + head + slot.check)
    assert len(found.before) == 40 + 2 + len(head) + 32 + 1168
    assert len(found.body) % 256 == 16
    assert data[-16:] == blake3(data[:-16]).digest()[:16]
    told = b"ibtfs 2026 signature of a ring\0"
    primitives.verify(slot.owner, found.signature, told + found.before + found.body)
    assert ring._info(REPOSITORY, 7, slot.id) == (
        b"ibtfs 2026 ring\0" + REPOSITORY + struct.pack("<I", 7) + slot.id
    )


def test_keys_of_a_list() -> None:
    made = keys_of()
    where = "lists/3.0123456789abcdef"
    listed = PointList(
        3, frozenset({"point-000"}), {2026: Marks(b"g" * 16)}, (b"e" * 16,),
        {"point-000": {b"w" * 16: 3}}, {"archives/run-00000.0/index": 2},
    )  # fmt: skip
    data = point_list.encode_list(listed, where, made, Codec())
    parts = struct.unpack_from("<HHI", data, 12)
    frame = data[24 + parts[0] :][: parts[2]]
    address = Address(frames.LIST, 0, 1)
    values = unpack_map(made.new_frames(where).decode(address, frame, "list").raw, "list")
    rows = TABLES["Keys of a list"]
    assert list(values) == [row["Key"] for row in rows]
    assert [type(value) for value in values.values()] == [TYPES_OF_KEYS[r["Type"]] for r in rows]


def test_names_are_stored_as_it_is_told() -> None:
    made = names.SealedNames(keys_of(), SPEAKING)
    for row in TABLES["Stored names"]:
        name = re.sub("<[a-z]+>", "0123456789", row["Name"])
        pattern = re.sub("<mark>", "[0-9a-f]{32}", row["Stored as"])
        pattern = re.sub("<hidden>", "[0-9A-Za-z_-]+", pattern)
        pattern = re.sub("<[a-z]+>", "0123456789", pattern)
        assert re.fullmatch(pattern, made.stored(name)), name
    known = {row["Name"].partition("/")[0] for row in TABLES["Stored names"]}
    assert known == {*SPEAKING.folders, SPEAKING.tags, SPEAKING.above}
    assert FORGOTTEN in known

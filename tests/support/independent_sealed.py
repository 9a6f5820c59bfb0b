"""What the second reader knows of sealed repositories, from ibtfs/format/FORMAT.rst alone.

As tests/support/independent_reader.py it shares no code with ibtfs. Damage, and what nobody with a
key made, raises ValueError; a wrong passphrase raises PermissionError.
"""

from __future__ import annotations

import base64
import itertools
import os
import re
import struct
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, TypeVar

import msgpack
import zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV, ChaCha20Poly1305
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PrivateKey, Suite
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

T = TypeVar("T")
RING = struct.Struct("<8sHHIIHH16s")
INNER = struct.Struct("<BBHI")
BOUND = struct.Struct("<HBQI")
RING_MAGIC = bytes.fromhex("69627466734b0d0a")
POINT = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{7,119}")
NUMBERED = re.compile(r"([1-9][0-9]{0,8})\.[0-9a-f]{16}")
CHECK, WRAPPED, SIGNATURE, CHECKSUM, NONCE, TAG = 32, 1168, 64, 16, 24, 16
TURNS, LIST = 1000000, 51
TURN = re.compile(r"(.+)\.([1-9][0-9]{0,5})")
ENVELOPE = 10
ENVELOPES = {1: ENVELOPE, 2: ENVELOPE + WRAPPED, 3: ENVELOPE + NONCE + 32 + TAG}
RUN = re.compile(r"(\d{8}T\d{6}Z)_([0-9a-f]{32})([0-9a-f]{8})")


def expect(truth: bool, what: str) -> None:
    """Raise ValueError unless it is as the document says."""
    if not truth:
        raise ValueError(what)


def parts(*values: bytes) -> bytes:
    """Each behind its length."""
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


def tree(context: str, *values: bytes, size: int = 32) -> bytes:
    """A key of the tree."""
    name = f"ibtfs 2026 sealed {context}"
    return blake3(parts(*values), derive_key_context=name).digest(size)


def opened(suite: int, key: bytes, data: bytes, associated: bytes) -> bytes:
    """The inverse of `seal`."""
    expect(suite in (1, 2), "a suite that is not known")
    cipher = AESGCM(key) if suite == 1 else ChaCha20Poly1305(key)
    try:
        return cipher.decrypt(bytes(12), data, associated)
    except InvalidTag:
        raise ValueError("not what was sealed there") from None


def padded(size: int) -> int:
    """The padded size of *size*."""
    size = max(size, 256)
    exponent = size.bit_length() - 1
    step = 2 ** (exponent - exponent.bit_length())
    return -(-size // step) * step


def run_of(name: str) -> str:
    """The run that made an object, by its name; empty if none did."""
    found = re.fullmatch(r"points/([^/]+)|archives/([^/]+)\.\d+/[^/]+", name)
    return (found[1] or found[2]) if found else ""


def newest(numbers: list[int], read: Callable[[int], T], keys: SealedKeys | None) -> T:
    """The newest generation of a file; where all is sealed, that is authentic."""
    for number in sorted(numbers, reverse=True):
        try:
            return read(number)
        except (ValueError, struct.error):
            if keys is None or number == min(numbers):
                raise
    raise LookupError("an archive that lacks a file, or was removed")


def check_header(mode: int, header: dict[str, Any]) -> None:
    """That the header of an index says no more than who made it may."""
    if mode == 2:
        name, *others = header["archives"]
        check_archives(name.rpartition(".")[0][-8:], others)
    expect(mode < 2 or header["epoch"] <= 2147483648, "epoch of a writer")


def check_ids(values: Mapping[str, Any], name: str, repository: bytes) -> None:
    """That a manifest is that of the point *name*, and of none that it calls a copy of itself."""
    expect(values["id"] == name, "id of a point")
    if "origin" not in values:
        return
    of, point = values["origin"]
    expect(isinstance(of, bytes) and len(of) == 16, "repository of an origin")
    expect(isinstance(point, str) and POINT.fullmatch(point) is not None, "id of an origin")
    expect((of, point) != (repository, name), "a point that is a copy of itself")


def check_archives(tag: str, archives: Iterable[str]) -> None:
    """That a writer leads to no archives but its own; empty names are of none."""
    for archive in filter(None, archives):
        found = RUN.fullmatch(archive.rpartition(".")[0])
        expect(found is not None and found[3] == tag, "an archive that others made")


def unwrapped(seed: bytes, wrapped: bytes, info: bytes) -> bytes:
    """What was wrapped for the pair of keys that *seed* makes."""
    pair = MLKEM768X25519PrivateKey(
        MLKEM768PrivateKey.from_seed_bytes(seed[:64]),
        X25519PrivateKey.from_private_bytes(seed[64:]),
    )
    try:
        return Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM).decrypt(
            wrapped, pair, info
        )
    except InvalidTag:
        raise ValueError("a key that was wrapped for something else") from None


@dataclass
class Slot:
    """One slot of a ring, and the key of the ring, wrapped for it."""

    head: bytes
    check: bytes
    wrapped: bytes

    def __post_init__(self) -> None:
        self.values = msgpack.unpackb(self.head)
        expect(msgpack.packb(self.values) == self.head, "spelling of a slot")
        passes, lanes, memory = self.values["stretching"]
        expect(1 <= passes <= 16 and 1 <= lanes <= 16, "passes and lanes")
        expect(8192 <= memory <= 4194304 and passes * memory <= 8388608, "memory")

    def seed(self, passphrase: str, repository: bytes) -> bytes:
        """The seed of its key pair; empty if it is another's."""
        values = self.values
        passes, lanes, memory = values["stretching"]
        secret = Argon2id(
            salt=values["salt"], length=32, iterations=passes, lanes=lanes, memory_cost=memory
        ).derive(unicodedata.normalize("NFC", passphrase).encode())
        kind = values["kind"].encode()
        made = tree("slot", secret, kind, repository, values["id"], values["salt"], size=128)
        check = blake3(parts(self.head), key=made[96:]).digest()
        return made[:96] if check == self.check else b""


class Ring:
    """One ring, opened by a passphrase."""

    def __init__(self, data: bytes) -> None:
        expect(data[:8] == RING_MAGIC and len(data) <= 1 << 20, "magic of a ring")
        expect(blake3(data[:-CHECKSUM]).digest(CHECKSUM) == data[-CHECKSUM:], "checksum of a ring")
        _, version, self.suite, self.number, size, count, _, self.repository = RING.unpack_from(
            data
        )
        expect(version == 1 and 1 <= count <= 64, "head of a ring")
        place = RING.size
        self.slots = []
        for _ in range(count):
            (length,) = struct.unpack_from("<H", data, place)
            ends = [place + 2, place + 2 + length]
            ends += [ends[1] + CHECK, ends[1] + CHECK + WRAPPED]
            head, check, wrapped = (data[a:b] for a, b in itertools.pairwise(ends))
            self.slots.append(Slot(head, check, wrapped))
            place = ends[-1]
        self.before, self.body = data[:place], data[place : place + size]
        self.signature = data[place + size : -CHECKSUM]
        expect(len(self.signature) == SIGNATURE, "size of a ring")

    def open(self, passphrase: str) -> dict[str, Any]:
        """Its secrets."""
        slots = [slot for slot in self.slots if slot.values["kind"] == "passphrase"]
        for slot in slots[:16]:
            seed = slot.seed(passphrase, self.repository)
            if seed:
                return self._secrets(slot, seed)
        raise PermissionError("a passphrase that opens nothing")

    def _secrets(self, slot: Slot, seed: bytes) -> dict[str, Any]:
        owner = slot.values["owner"]
        signed = b"ibtfs 2026 signature of a ring\0" + self.before + self.body
        number = struct.pack("<I", self.number)
        info = b"ibtfs 2026 ring\0" + self.repository + number + slot.values["id"]
        try:
            Ed25519PublicKey.from_public_bytes(owner).verify(self.signature, signed)
        except InvalidSignature:
            raise ValueError("a ring that the owner did not write") from None
        key = unwrapped(seed, slot.wrapped, info)
        plain = opened(self.suite, key, self.body, self.before)
        (size,) = struct.unpack_from("<I", plain)
        secrets: dict[str, Any] = msgpack.unpackb(plain[4 : 4 + size], strict_map_key=False)
        signer = Ed25519PrivateKey.from_private_bytes(secrets["owner"]).public_key()
        expect(signer.public_bytes_raw() == owner, "owner of a ring")
        kind, _, digest = secrets["slots"][slot.values["id"]]
        expect(kind == slot.values["kind"], "kind of a slot")
        expect(digest == blake3(slot.head + slot.check).digest(), "digest of a slot")
        return secrets


class SealedKeys:
    """What the secrets of the repository in the folder *path* make."""

    def __init__(self, path: str, repository: bytes, config: bytes, passphrase: str) -> None:
        self.repository = repository
        secrets = self._newest(path).open(passphrase)
        expect(secrets["config"] == blake3(config).digest(), "digest of the configuration")
        self.masters = {name: secret for name, (secret, _) in secrets["masters"].items()}
        expect(secrets["current"] in self.masters, "current master key")
        self.writers = secrets.get("writers", {})
        self.digests = tree("digests", secrets["identity"], repository)
        self.names = tree("names", secrets["identity"], repository, size=64)
        self.withdrawn: dict[str, dict[bytes, int]] = {}

    def _newest(self, path: str) -> Ring:
        found: list[Ring] = []
        for name in sorted(filter(NUMBERED.fullmatch, os.listdir(f"{path}/keys"))):
            with open(f"{path}/keys/{name}", "rb") as file:
                ring = Ring(file.read())
            expect(ring.number == int(name.partition(".")[0]), "number of a ring")
            expect(ring.repository == self.repository, "repository of a ring")
            found.append(ring)
        return max(found, key=lambda ring: ring.number)

    def object_key(self, name: str, envelope: bytes, generation: int = 1) -> tuple[int, bytes]:
        """The suite and the key of an object."""
        expect(envelope[1:2] in (b"\1", b"\2"), "a suite that is not known")
        expect(len(envelope) == ENVELOPES.get(envelope[0]), "an envelope")
        head, rest = envelope[:ENVELOPE], envelope[ENVELOPE:]
        expect(head[2:] in self.masters, "a key that the ring does not have")
        master = self.masters[head[2:]]
        owner = re.sub(r"^(archives/[^/]+)/.*", r"\1", name).encode()
        if head[0] == 1:
            key = tree("archive", master, self.repository, owner)
        elif head[0] == 2:
            expect(generation == 1, "a later generation that a writer made")
            run = self._key_of_run(run_of(name), master, rest)
            key = tree("archive of a public run", run, self.repository, owner)
        else:
            nonce, sealed = rest[:NONCE], rest[NONCE:]
            once = tree("later generation", master, self.repository, name.encode(), nonce)
            key = opened(head[1], once, sealed, struct.pack("<Q", generation))
        return head[1], tree("object", key, b"frames", name.encode())

    def _key_of_run(self, run: str, master: bytes, wrapped: bytes) -> bytes:
        found = RUN.fullmatch(run)
        expect(found is not None, "an object that no run of a writer can have made")
        assert found is not None
        seed = tree("reader", master, self.repository, size=96)
        key = unwrapped(seed, wrapped, b"ibtfs 2026 run\0" + self.repository + run.encode())
        second, commitment, tag = found.groups()
        parts = (self.repository, second.encode(), tag.encode())
        made = tree("commitment to a run", key, *parts, size=16)
        expect(made.hex() == commitment, "a run with another key")
        return key

    def mark_of_id(self, point: str) -> bytes:
        """What stands for a point, in a list and in the secrets."""
        return blake3(point.encode(), key=self.digests).digest()[:16]

    def check_maker(
        self, name: str, mode: int, signed: bytes, signature: bytes, values: dict[str, Any]
    ) -> None:
        """That a small object is signed if, and only if, a writer made it, and may have."""
        if mode != 2:
            expect(not signature, "a signature where none is")
            return
        self._check_signature(name, signed, signature)
        self._check_own(name, values)

    def _check_signature(self, name: str, signed: bytes, signature: bytes) -> None:
        tag = RUN.fullmatch(run_of(name))[3]  # type: ignore[index]
        expect(tag in self.writers, "a writer that the ring does not know")
        _, _, public, _, accepted = self.writers[tag]
        if accepted is not None:
            marks = [accepted[at : at + 16] for at in range(0, len(accepted), 16)]
            mark = blake3(run_of(name).encode() + b"\0" + signed, key=self.digests).digest()[:16]
            expect(mark in marks, "a point of a writer that may write no more")
        before = b"ibtfs 2026 signature of a point\0" + parts(self.repository, name.encode())
        try:
            key = Ed25519PublicKey.from_public_bytes(public)
            key.verify(signature, before + signed)
        except InvalidSignature:
            raise ValueError("a signature that is not the writer's") from None

    def _check_own(self, name: str, values: dict[str, Any]) -> None:
        tag = RUN.fullmatch(run_of(name))[3]  # type: ignore[index]
        expect(values["host"] == self.writers[tag][1], "host of a writer's point")
        check_archives(tag, [values["state"][0]])
        expect(not values.get("replaces"), "a writer's point that stands in the place of others")
        expect("origin" not in values, "a writer's point that is a copy of another")
        made = datetime.strptime(run_of(name)[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
        second = int(made.timestamp())
        expect(values["time"] // 1000000000 == second, "time of a writer's point")
        most = second + 86400
        expect(values["epoch"] <= most and values["sequence"] <= 100 * most, "a writer's numbers")

    def meant(self, name: str) -> str:
        """The last part of the name that is stored as *name*; empty if it says nothing.

        For nobody with a key made it, or it was taken back.  Of names that need no mark it is the
        last part.
        """
        said, is_used_up = self.told(name)
        return "" if is_used_up else said

    def told(self, name: str) -> tuple[str, bool]:
        """What *name* said when it was stored, and whether that was taken back."""
        folder, _, base = name.rpartition("/")
        if folder.startswith("tags/"):
            said, turn = self._tag(folder, base)
            return said, bool(said) and turn < self._turn(folder[5:], f"{folder}/{said}")
        is_archive = folder.startswith("archives/")
        if folder not in ("forgotten", "copied") and not (is_archive and base[:7] == "removed"):
            return base, False
        said, _, mark = base.rpartition(".")
        said, turn = in_turn(said) if folder == "forgotten" else (said, 0)
        whole = f"{folder}/{said}"
        if mark in self._marks(told_in(whole, turn)):
            return said, folder == "forgotten" and turn < self._turn(said, whole)
        return "", False

    def put_back(self, path: str) -> list[str]:
        """What was taken from points in the folder *path*, and is there again, as it is stored."""
        folders = ["forgotten", *(f"tags/{point}" for point in self.withdrawn)]
        found = [
            f"{folder}/{name}"
            for folder in folders if os.path.isdir(f"{path}/{folder}")
            for name in sorted(os.listdir(f"{path}/{folder}"))
        ]  # fmt: skip
        return [name for name in found if self.told(name)[1]]

    def _marks(self, text: str) -> list[str]:
        return [tree("mark", key, self.repository, text.encode(), size=16).hex()
                for key in self.masters.values()]  # fmt: skip

    def _turn(self, point: str, name: str) -> int:
        """The first turn of *name* that is not used up."""
        mark = blake3(name.encode("utf-8", "surrogateescape"), key=self.digests).digest()[:16]
        turns = self.withdrawn.get(point, {})
        turn = max(turns.get(mark, 0), turns.get(bytes(16), 0))
        return turn if name.startswith("tags/") else min(turn, TURNS - 1)

    def _tag(self, folder: str, base: str) -> tuple[str, int]:
        base, turn = in_turn(base)
        try:
            hidden = base64.urlsafe_b64decode(base + "=" * (-len(base) % 4))
        except ValueError:
            return "", 0
        if base64.urlsafe_b64encode(hidden).decode().rstrip("=") != base:
            return "", 0
        try:
            tag = AESSIV(self.names).decrypt(hidden, [told_in(folder, turn).encode()])
        except (InvalidTag, ValueError):
            return "", 0
        return tag.rstrip(b"\0").decode("utf-8", "surrogateescape"), turn


def in_turn(text: str) -> tuple[str, int]:
    """What is stored as *text*, without its turn, and that."""
    found = TURN.fullmatch(text)
    return (found[1], int(found[2])) if found else (text, 0)


def told_in(text: str, turn: int) -> str:
    """What is marked of *text* in a turn, or bound to what is hidden."""
    return f"{text}\0{turn}" if turn else text


def open_sealed_frame(
    suite: int, key: bytes, stream: int, start: int, count: int, data: bytes
) -> tuple[bytes, int]:
    """The raw bytes of a sealed frame, and its flags."""
    nonce, sealed = data[:NONCE], data[NONCE:]
    bound = BOUND.pack(suite, stream, start, count)
    plain = opened(suite, blake3(nonce, key=key).digest(), sealed, bound)
    told, codec, flags, size = INNER.unpack_from(plain)
    expect(told == stream and codec in (0, 1) and flags in (0, 1), "inner head of a frame")
    raw = plain[INNER.size :]
    if codec == 1:
        raw = zstandard.ZstdDecompressor().decompress(raw, max_output_size=size)
    expect(len(raw) == size, "raw size of a frame")
    return raw, flags


def mark_of(data: bytes) -> int:
    """The mark of a frame."""
    return int(struct.unpack_from("<Q", data)[0] // 2)


def newest_of(names: list[str]) -> tuple[int, str]:
    """The highest number that any of *names* has, and that name; 0 if none has one."""
    found = [(int(match[1]), match[0]) for match in map(NUMBERED.fullmatch, names) if match]
    return max(found, default=(0, ""))


def more_frames(
    data: bytes, start: int, sizes: list[int], made: tuple[int, bytes]
) -> Iterator[bytes]:
    """What the frames of a list behind the first hold."""
    expect(len(sizes) <= 31, "frames of a list")
    for number, size in enumerate(sizes, 1):
        raw, flags = open_sealed_frame(*made, LIST, number, 1, data[start : start + size])
        expect(flags == 0 and (len(raw) == 4194304 or number == len(sizes)), "frame of a list")
        yield raw
        start += size


def values_of_list(stored: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Those of the list of this *number*; what is joined in it is cut."""
    values = dict(stored)
    expect(values["number"] == number, "number of a list")
    expect(values["points"] == sorted(set(values["points"])), "points of a list")
    values["gone"] = {year: _marks_in(marks) for year, marks in values["gone"].items()}
    for marks in values["gone"].values():
        expect(marks == sorted(set(marks)), "marks of a list")
    expect(sum(map(len, values["gone"].values())) <= 2097152, "marks of a list")
    values["earlier"] = _marks_in(values["earlier"])
    rows = values["withdrawn"].items()
    values["withdrawn"] = {one: dict(struct.iter_unpack("<16sI", told)) for one, told in rows}
    return values


def _marks_in(joined: bytes) -> list[bytes]:
    expect(len(joined) % 16 == 0, "marks of a list")
    return [joined[at : at + 16] for at in range(0, len(joined), 16)]

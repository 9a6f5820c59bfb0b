"""The library does what the standards say: their own vectors, and what must not open."""

from __future__ import annotations

import os

import pytest

from ibtfs.sealing import primitives
from ibtfs.sealing.primitives import NotAuthentic, Suite

# D. McGrew and J. Viega, "The Galois/Counter Mode of Operation", test cases 13 and 14
GCM = [
    (b"", "530f8afbc74536b9a963b4f1c4cb738b"),
    (bytes(16), "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"),
]


@pytest.mark.parametrize(("data", "sealed"), GCM)
def test_aes_gcm_is_that_of_its_authors(data: bytes, sealed: str) -> None:
    key = bytes(32)
    assert primitives.encrypt_once(Suite.AES_256_GCM, key, data, b"").hex() == sealed
    assert primitives.decrypt_once(Suite.AES_256_GCM, key, bytes.fromhex(sealed), b"") == data


def test_chacha20_is_that_of_the_rfc() -> None:
    """RFC 8439, A.1, test vectors 1 and 2: with a nonce of zeros, blocks 0 and 1."""
    block = bytes.fromhex(
        "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
        "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f"
    )
    sealed = primitives.encrypt_once(Suite.CHACHA20_POLY1305, bytes(32), bytes(64), b"")
    assert sealed[:64] == block


def test_signatures_are_those_of_the_rfc() -> None:
    """RFC 8032, 7.1, tests 1 and 2."""
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    public = primitives.signer_public(seed)
    assert public.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert primitives.sign(seed, b"").hex() == (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9"
        "b46bd25bf5f0595bbe24655141438e7a100b"
    )
    other = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    assert primitives.sign(other, b"\x72").hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f1"
        "1d8c387b2eaeb4302aeeb00d291612bb0c00"
    )


def test_passphrases_are_stretched_as_by_the_reference() -> None:
    """The reference implementation's own test: test.c, version 0x13, Argon2id."""
    found = primitives.stretch(b"password", b"somesalt", passes=2, lanes=1, memory_kib=1 << 16)
    assert found.hex() == "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7"


@pytest.mark.parametrize("suite", Suite)
def test_what_was_changed_does_not_open(suite: Suite) -> None:
    key, data = os.urandom(32), os.urandom(100)
    sealed = primitives.encrypt_once(suite, key, data, b"here")
    assert len(sealed) == len(data) + primitives.TAG_SIZE
    assert primitives.decrypt_once(suite, key, sealed, b"here") == data
    wrong = [(key, sealed, b"there"), (os.urandom(32), sealed, b"here")]
    wrong += [(key, sealed[:-1], b"here"), (key, b"", b"here")]
    for place in range(len(sealed)):
        wrong.append((key, _flipped(sealed, place), b"here"))
    for each in wrong:
        with pytest.raises(NotAuthentic):
            primitives.decrypt_once(suite, *each)


def _flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def test_only_the_reader_opens_what_is_wrapped() -> None:
    seed, other = os.urandom(primitives.READER_SEED_SIZE), os.urandom(primitives.READER_SEED_SIZE)
    public = primitives.reader_public(seed)
    assert len(public) == primitives.READER_PUBLIC_SIZE
    wrapped = primitives.wrap(public, b"key" * 10, b"info")
    assert len(wrapped) == 30 + primitives.WRAP_OVERHEAD
    assert primitives.unwrap(seed, wrapped, b"info") == b"key" * 10
    assert primitives.wrap(public, b"key" * 10, b"info") != wrapped
    for each in ((other, wrapped, b"info"), (seed, wrapped, b"inf"), (seed, wrapped[:-1], b"info"),
                 (seed, b"", b"info")):  # fmt: skip
        with pytest.raises(NotAuthentic):
            primitives.unwrap(*each)
    for place in range(0, len(wrapped), 97):
        with pytest.raises(NotAuthentic):
            primitives.unwrap(seed, _flipped(wrapped, place), b"info")


def test_what_is_no_key_wraps_nothing() -> None:
    for public in (b"", bytes(10), os.urandom(primitives.READER_PUBLIC_SIZE - 1),
                   b"\xff" * primitives.READER_PUBLIC_SIZE):  # fmt: skip
        with pytest.raises(NotAuthentic):
            primitives.wrap(public, b"key", b"")
    with pytest.raises(ValueError, match="seed"):
        primitives.reader_public(b"short")


def test_who_signed_what() -> None:
    seed = os.urandom(32)
    public, signature = primitives.signer_public(seed), primitives.sign(seed, b"message")
    primitives.verify(public, signature, b"message")
    for each in ((public, signature, b"other"), (public, _flipped(signature, 5), b"message"),
                 (primitives.signer_public(os.urandom(32)), signature, b"message"),
                 (public[:-1], signature, b"message"), (public, b"", b"message")):  # fmt: skip
        with pytest.raises(NotAuthentic):
            primitives.verify(*each)

"""The cryptography that sealing is made of: one library, behind the few calls that are needed.

Sources: AES-GCM is NIST SP 800-38D, ChaCha20-Poly1305 RFC 8439, HPKE RFC 9180 with the hybrid KEM
of X25519 and ML-KEM-768 (FIPS 203), signatures are Ed25519 of RFC 8032, Argon2id is RFC 9106,
AES-SIV RFC 5297.
All of it is constant-time as far as the library is; all calls release the interpreter's lock.
"""

from __future__ import annotations

import enum

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV, ChaCha20Poly1305
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
)
from cryptography.hazmat.primitives.hpke import Suite as HpkeSuite
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from ibtfs.errors import LimitExceeded

KEY_SIZE = 32
TAG_SIZE = 16
_ML_KEM_SEED, _ML_KEM_PUBLIC, _X25519 = 64, 1184, 32
READER_SEED_SIZE = _ML_KEM_SEED + _X25519
READER_PUBLIC_SIZE = _ML_KEM_PUBLIC + _X25519
WRAP_OVERHEAD = 1136
SIGNATURE_SIZE = 64
SIGNER_PUBLIC_SIZE = 32
_ONCE = bytes(12)


class NotAuthentic(Exception):
    """What is to be opened was not made with this key, or not for this place, or was changed."""


class Suite(enum.IntEnum):
    """Which cipher frames are sealed with."""

    AES_256_GCM = 1
    CHACHA20_POLY1305 = 2


def _cipher(suite: Suite, key: bytes) -> AESGCM | ChaCha20Poly1305:
    return AESGCM(key) if suite is Suite.AES_256_GCM else ChaCha20Poly1305(key)


def encrypt_once(suite: Suite, key: bytes, data: bytes, associated: bytes) -> bytes:
    """*data*, sealed, and a tag.  *key* is for this call alone: the nonce is always the same."""
    return _cipher(suite, key).encrypt(_ONCE, data, associated)


def decrypt_once(suite: Suite, key: bytes, sealed: bytes, associated: bytes) -> bytes:
    """The inverse.  Raises NotAuthentic."""
    try:
        return _cipher(suite, key).decrypt(_ONCE, sealed, associated)
    except InvalidTag as error:
        raise NotAuthentic from error


# Names: equal ones look equal in one place


def hide(key: bytes, text: bytes, place: bytes) -> bytes:
    """*text*, sealed for *place* by 64 bytes of *key*, always in the same way; 16 bytes more.

    AES-SIV, RFC 5297.
    """
    return AESSIV(key).encrypt(text, [place])


def reveal(key: bytes, hidden: bytes, place: bytes) -> bytes:
    """The inverse.  Raises NotAuthentic."""
    try:
        return AESSIV(key).decrypt(hidden, [place])
    except (InvalidTag, ValueError) as error:
        raise NotAuthentic from error


# For readers: whoever has the public key can wrap, only the reader can open


def _hpke() -> HpkeSuite:
    return HpkeSuite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def reader_public(seed: bytes) -> bytes:
    """The READER_PUBLIC_SIZE bytes of the public key that belongs to READER_SEED_SIZE bytes."""
    one, other = _reader_keys(seed)
    return one.public_key().public_bytes_raw() + other.public_key().public_bytes_raw()


def _reader_keys(seed: bytes) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
    if len(seed) != READER_SEED_SIZE:
        raise ValueError(f"A seed of {len(seed)} bytes")
    return (
        MLKEM768PrivateKey.from_seed_bytes(seed[:_ML_KEM_SEED]),
        X25519PrivateKey.from_private_bytes(seed[_ML_KEM_SEED:]),
    )


def wrap(public: bytes, data: bytes, info: bytes) -> bytes:
    """*data* for who has the seed of *public*; WRAP_OVERHEAD bytes more.

    It does not say who wrapped it.  Raises NotAuthentic if *public* is no key.
    """
    try:
        key = MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(public[:_ML_KEM_PUBLIC]),
            X25519PublicKey.from_public_bytes(public[_ML_KEM_PUBLIC:]),
        )
        return _hpke().encrypt(data, key, info)
    except ValueError as error:
        raise NotAuthentic from error


def unwrap(seed: bytes, wrapped: bytes, info: bytes) -> bytes:
    """The inverse.  Raises NotAuthentic."""
    try:
        return _hpke().decrypt(wrapped, MLKEM768X25519PrivateKey(*_reader_keys(seed)), info)
    except (InvalidTag, ValueError) as error:
        raise NotAuthentic from error


# Signatures


def signer_public(seed: bytes) -> bytes:
    """The public key that belongs to a *seed* of 32 bytes."""
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def sign(seed: bytes, message: bytes) -> bytes:
    """The SIGNATURE_SIZE bytes of a signature."""
    return Ed25519PrivateKey.from_private_bytes(seed).sign(message)


def verify(public: bytes, signature: bytes, message: bytes) -> None:
    """Raise NotAuthentic unless who has the seed of *public* signed *message*."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise NotAuthentic from error


# Passphrases


def stretch(passphrase: bytes, salt: bytes, *, passes: int, lanes: int, memory_kib: int) -> bytes:
    """32 bytes that take long to find out from *passphrase*; *memory_kib* KiB are needed.

    Raises LimitExceeded if there is not so much memory.
    """
    way = Argon2id(
        salt=salt, length=KEY_SIZE, iterations=passes, lanes=lanes, memory_cost=memory_kib
    )
    try:
        return way.derive(passphrase)
    except MemoryError:
        needed = f"{memory_kib >> 10} MiB"
        raise LimitExceeded(f"To try the passphrase takes {needed} of memory") from None

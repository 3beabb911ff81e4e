"""Hashing and signatures: SHA-256, and ECDSA over secp256k1 with 64-byte compact low-S signatures.

Signatures are made and checked over a 32-byte digest which the caller domain-separates
(`ledger.domains`). libsecp256k1 refuses high-S signatures in verification, which leaves exactly one
valid spelling of (r, s) per signing nonce; signing uses RFC 6979 nonces, so that the same key and
digest always give the same signature.

coincurve's C bindings are used below its object layer: parsing the compact form directly is about a
fifth cheaper than converting to DER and back, and this check is the physical limit of the node.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

from coincurve import PrivateKey as _CoincurvePrivateKey
from coincurve import PublicKey as _CoincurvePublicKey
from coincurve._libsecp256k1 import ffi, lib
from coincurve.context import GLOBAL_CONTEXT

PUBLIC_KEY_BYTES = 33
SIGNATURE_BYTES = 64
HASH_BYTES = 32

# Parsing a compressed key costs a square root, a fifth of a verification. Senders recur, so parsed
# keys are kept: about 300 bytes each, 20 MB at the limit.
PARSED_KEY_CACHE_COUNT = 65_536

_context: Any = GLOBAL_CONTEXT.ctx


class InvalidKey(ValueError):
    """Bytes that are not a key on the curve."""


def sha256(data: bytes) -> bytes:
    """SHA-256 of `data`, 32 bytes."""
    return hashlib.sha256(data).digest()


@lru_cache(maxsize=PARSED_KEY_CACHE_COUNT)
def _parse_public_key(public_key: bytes) -> Any:
    """libsecp256k1's parsed form, or None where the bytes are no point on the curve."""
    if len(public_key) != PUBLIC_KEY_BYTES:
        return None
    try:
        return _CoincurvePublicKey(public_key).public_key
    except ValueError:
        return None


def is_public_key(public_key: bytes) -> bool:
    """Whether the 33 bytes are a compressed point on the curve."""
    return _parse_public_key(public_key) is not None


def verify(public_key: bytes, digest: bytes, signature: bytes) -> bool:
    """Whether `signature` (64 bytes, low-S) signs `digest` (32 bytes) by `public_key` (33 bytes).

    Bytes of the wrong length or form are simply not a signature: False, never an exception.
    """
    if len(signature) != SIGNATURE_BYTES or len(digest) != HASH_BYTES:
        return False
    key = _parse_public_key(public_key)
    if key is None:
        return False
    parsed = ffi.new("secp256k1_ecdsa_signature *")
    if lib.secp256k1_ecdsa_signature_parse_compact(_context, parsed, signature) != 1:
        return False
    return bool(lib.secp256k1_ecdsa_verify(_context, parsed, digest, key) == 1)


class PrivateKey:
    """A secp256k1 private key, 32 bytes. Raises InvalidKey for 0 and values past the order."""

    __slots__ = ("_key", "public_key")

    public_key: bytes

    def __init__(self, secret: bytes) -> None:
        if len(secret) != HASH_BYTES:
            raise InvalidKey(f"a private key has 32 bytes, not {len(secret)}")
        try:
            self._key = _CoincurvePrivateKey(secret)
        except ValueError as error:
            raise InvalidKey("the number is zero or past the order of the curve") from error
        self.public_key = self._key.public_key.format()

    @property
    def secret(self) -> bytes:
        """The 32 secret bytes."""
        secret: bytes = self._key.secret
        return secret

    def sign(self, digest: bytes) -> bytes:
        """The 64-byte compact low-S signature of a 32-byte digest (RFC 6979)."""
        if len(digest) != HASH_BYTES:
            raise ValueError(f"a digest has 32 bytes, not {len(digest)}")
        signature = ffi.new("secp256k1_ecdsa_signature *")
        made = lib.secp256k1_ecdsa_sign(
            _context, signature, digest, self._key.secret, ffi.NULL, ffi.NULL
        )
        assert made == 1
        compact = ffi.new("unsigned char[64]")
        lib.secp256k1_ecdsa_signature_serialize_compact(_context, compact, signature)
        return bytes(ffi.buffer(compact))

    def __repr__(self) -> str:
        return f"PrivateKey(public_key={self.public_key.hex()})"

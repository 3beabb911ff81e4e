"""libp2p keys and PeerIDs of every standard key type.

Our own identities are secp256k1 (`ledger.identity`); foreign libp2p programs may also hold Ed25519,
ECDSA and RSA keys, and the TLS extension must verify under all of them.

A key travels as the protobuf message {Type = 1: enum, Data = 2: bytes} in exactly that order with
shortest varints. Data is: RSA and ECDSA, the DER SubjectPublicKeyInfo; Ed25519, 32 bytes;
secp256k1, 33 bytes compressed. A PeerID is the identity multihash of that message when it has at
most 42 bytes, else its SHA-256 multihash. Source: libp2p/specs peer-ids/peer-ids.md.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from ledger.crypto import PrivateKey, sha256
from ledger.identity import base58_decode, base58_encode
from p2p.errors import MalformedFrame
from p2p.wire import proto_bytes, proto_fields, proto_uint

# An RSA key of 8192 bits has 1.1 kB; more is somebody burning our time.
KEY_MAX_BYTES = 2048
RSA_MIN_BITS = 2048
RSA_MAX_BITS = 8192

IDENTITY_MULTIHASH_MAX_BYTES = 42

_IDENTITY_CODE = 0x00
_SHA256_CODE = 0x12


class KeyType(IntEnum):
    """The protobuf enum KeyType."""

    RSA = 0
    ED25519 = 1
    SECP256K1 = 2
    ECDSA = 3


_Loaded = rsa.RSAPublicKey | ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A libp2p public key: its type and the bytes of its Data field."""

    key_type: KeyType
    data: bytes

    def encode(self) -> bytes:
        """The protobuf message."""
        return proto_uint(1, self.key_type) + proto_bytes(2, self.data)

    @property
    def peer_id(self) -> str:
        """The base58btc PeerID."""
        encoded = self.encode()
        if len(encoded) <= IDENTITY_MULTIHASH_MAX_BYTES:
            return base58_encode(bytes((_IDENTITY_CODE, len(encoded))) + encoded)
        return base58_encode(bytes((_SHA256_CODE, 32)) + hashlib.sha256(encoded).digest())

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Whether `signature` (libp2p's form for the type) signs `message`. Never raises."""
        try:
            key = _load(self.key_type, self.data)
            match key:
                case ed25519.Ed25519PublicKey():
                    key.verify(signature, message)
                case rsa.RSAPublicKey():
                    key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
                case ec.EllipticCurvePublicKey():
                    key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
        except (InvalidSignature, MalformedFrame, ValueError, UnsupportedAlgorithm):
            return False
        return True


def secp256k1_key(public_key: bytes) -> PublicKey:
    """The libp2p form of one of our own 33-byte public keys."""
    return PublicKey(KeyType.SECP256K1, public_key)


def sign_message(key: PrivateKey, message: bytes) -> bytes:
    """libp2p's secp256k1 signature: DER over SHA-256 of `message`."""
    compact = key.sign(sha256(message))
    r, s = int.from_bytes(compact[:32], "big"), int.from_bytes(compact[32:], "big")
    return encode_dss_signature(r, s)


def decode_public_key(encoded: bytes) -> PublicKey:
    """The key in a protobuf PublicKey message. Raises MalformedFrame."""
    key_type, data = _decode_key("public key", encoded, KEY_MAX_BYTES)
    key = PublicKey(key_type, data)
    _load(key_type, data)
    return key


def decode_private_key(encoded: bytes) -> tuple[PublicKey, bytes]:
    """(public key, private Data) of a protobuf PrivateKey message, other programs' key file.

    Raises MalformedFrame, also where the public half stored with an Ed25519 key is not its own.
    """
    key_type, data = _decode_key("private key", encoded, 4 * KEY_MAX_BYTES)
    try:
        public = _public_of(key_type, data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise MalformedFrame("private key", str(error)) from error
    return public, data


def parse_peer_id(text: str) -> bytes:
    """The multihash named by base58btc text of any key type. Raises MalformedFrame."""
    if len(text) > 128:
        raise MalformedFrame("peer id", f"{len(text)} characters")
    try:
        multihash = base58_decode(text)
    except ValueError as error:
        raise MalformedFrame("peer id", str(error)) from error
    if len(multihash) < 2 or multihash[1] != len(multihash) - 2:
        raise MalformedFrame("peer id", "not a multihash")
    if multihash[0] == _SHA256_CODE and len(multihash) == 34:
        return multihash
    if multihash[0] == _IDENTITY_CODE and len(multihash) <= IDENTITY_MULTIHASH_MAX_BYTES + 2:
        decode_public_key(multihash[2:])
        return multihash
    raise MalformedFrame("peer id", f"multihash code {multihash[0]}")


def _decode_key(what: str, encoded: bytes, limit_bytes: int) -> tuple[KeyType, bytes]:
    if len(encoded) > limit_bytes:
        raise MalformedFrame(what, f"{len(encoded)} bytes")
    fields = list(proto_fields(what, encoded))
    if [number for number, _ in fields] != [1, 2]:
        raise MalformedFrame(what, "needs the fields Type and Data in this order")
    kind, data = fields[0][1], fields[1][1]
    if not isinstance(kind, int) or not isinstance(data, bytes):
        raise MalformedFrame(what, "fields of the wrong type")
    try:
        key_type = KeyType(kind)
    except ValueError as error:
        raise MalformedFrame(what, f"key type {kind}") from error
    if proto_uint(1, key_type) + proto_bytes(2, data) != encoded:
        raise MalformedFrame(what, "not the one spelling of its value")
    return key_type, data


def _load(key_type: KeyType, data: bytes) -> _Loaded:
    """The verifying key. Raises MalformedFrame."""
    try:
        if key_type is KeyType.ED25519:
            return ed25519.Ed25519PublicKey.from_public_bytes(data)
        if key_type is KeyType.SECP256K1:
            if len(data) != 33:
                raise MalformedFrame("public key", f"{len(data)} bytes for secp256k1")
            return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), data)
        key = serialization.load_der_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise MalformedFrame("public key", str(error)) from error
    if key_type is KeyType.RSA and isinstance(key, rsa.RSAPublicKey):
        if not RSA_MIN_BITS <= key.key_size <= RSA_MAX_BITS:
            raise MalformedFrame("public key", f"RSA with {key.key_size} bits")
        return key
    if (
        key_type is KeyType.ECDSA
        and isinstance(key, ec.EllipticCurvePublicKey)
        and isinstance(key.curve, ec.SECP256R1)
    ):
        return key
    raise MalformedFrame("public key", f"the DER holds no {key_type.name} key")


def _public_of(key_type: KeyType, data: bytes) -> PublicKey:
    if key_type is KeyType.SECP256K1:
        return secp256k1_key(PrivateKey(data).public_key)
    if key_type is KeyType.ED25519:
        private = ed25519.Ed25519PrivateKey.from_private_bytes(data[:32])
        public = private.public_key().public_bytes_raw()
        if data[32:] != public:
            raise MalformedFrame("private key", "the stored public half is another key's")
        return PublicKey(key_type, public)
    loaded = serialization.load_der_private_key(data, None)
    wanted = rsa.RSAPrivateKey if key_type is KeyType.RSA else ec.EllipticCurvePrivateKey
    if not isinstance(loaded, wanted):
        raise MalformedFrame("private key", f"the DER holds no {key_type.name} key")
    spki = loaded.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return PublicKey(key_type, spki)

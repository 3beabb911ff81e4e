"""Identities: an account's address is its founding compressed secp256k1 key, its name a PeerID.

The text form is the standard libp2p PeerID: base58btc of the identity multihash (0x00, length) of
the protobuf PublicKey message {Type = Secp256k1 (2), Data = 33 bytes}. The same name serves on the
wire, in the ledger and in the explorer.
Source: libp2p/specs peer-ids/peer-ids.md; base58 as in Bitcoin's base58.cpp.
"""

from __future__ import annotations

from functools import lru_cache

from ledger.crypto import PUBLIC_KEY_BYTES, is_public_key
from ledger.errors import InvalidData

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DIGIT = {character: value for value, character in enumerate(_ALPHABET)}

# 0x00 identity multihash, 0x25 = 37 bytes follow: 08 02 (Type: Secp256k1), 12 21 (Data: 33 bytes).
_PREFIX = bytes.fromhex("002508021221")

# The text of a secp256k1 PeerID has 53 characters; anything much longer is not worth decoding.
_PEER_ID_MAX_CHARACTERS = 64

# Names recur in logs and answers; one entry is about 250 bytes.
_NAME_CACHE_COUNT = 65_536


class InvalidPeerId(InvalidData):
    """Text that is not the PeerID of a secp256k1 key."""

    def __init__(self, text: str, detail: str) -> None:
        super().__init__(f"{text[:80]!r} is not a PeerID: {detail}")
        self.text = text
        self.detail = detail


def base58_encode(data: bytes) -> str:
    """Base58btc text of `data`; leading zero bytes become leading ones."""
    zeros = len(data) - len(data.lstrip(b"\0"))
    number = int.from_bytes(data, "big")
    digits: list[str] = []
    while number:
        number, digit = divmod(number, 58)
        digits.append(_ALPHABET[digit])
    return "1" * zeros + "".join(reversed(digits))


def base58_decode(text: str) -> bytes:
    """The bytes of base58btc text. Raises ValueError on a foreign character."""
    number = 0
    for character in text:
        digit = _DIGIT.get(character)
        if digit is None:
            raise ValueError(f"{character!r} is no base58 character")
        number = number * 58 + digit
    zeros = len(text) - len(text.lstrip("1"))
    return b"\0" * zeros + number.to_bytes((number.bit_length() + 7) // 8, "big")


@lru_cache(maxsize=_NAME_CACHE_COUNT)
def peer_id(public_key: bytes) -> str:
    """The PeerID text of a compressed secp256k1 public key (33 bytes)."""
    assert len(public_key) == PUBLIC_KEY_BYTES
    return base58_encode(_PREFIX + public_key)


@lru_cache(maxsize=_NAME_CACHE_COUNT)
def public_key_of(text: str) -> bytes:
    """The 33-byte public key named by a PeerID text. Raises InvalidPeerId."""
    if len(text) > _PEER_ID_MAX_CHARACTERS:
        raise InvalidPeerId(text, f"{len(text)} characters are too many")
    try:
        data = base58_decode(text)
    except ValueError as error:
        raise InvalidPeerId(text, str(error)) from error
    if len(data) != len(_PREFIX) + PUBLIC_KEY_BYTES or not data.startswith(_PREFIX):
        raise InvalidPeerId(text, "it does not name a secp256k1 key by identity multihash")
    public_key = data[len(_PREFIX) :]
    if not is_public_key(public_key):
        raise InvalidPeerId(text, "the key is no point on the curve")
    return public_key

"""libp2p keys and PeerIDs against the vectors of libp2p/specs peer-ids/peer-ids.md."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from hypothesis import given
from hypothesis import strategies as st

from ledger.crypto import PrivateKey
from ledger.identity import peer_id
from p2p.errors import MalformedFrame
from p2p.keys import (
    KeyType,
    PublicKey,
    decode_private_key,
    decode_public_key,
    parse_peer_id,
    secp256k1_key,
    sign_message,
)

VECTORS = json.loads((Path(__file__).parents[2] / "vectors/libp2p/key_vectors.json").read_text())
KEYS = {name: bytes.fromhex(value) for name, value in VECTORS["keys"].items()}
KINDS = ["rsa", "ed25519", "secp256k1", "ecdsa"]


def test_the_vectors_cover_every_key_type() -> None:
    assert set(KEYS) == {f"{k}_{half}_key" for k in KINDS for half in ("public", "private")}
    assert [KeyType[kind.upper()] for kind in KINDS] == list(KeyType)


@pytest.mark.parametrize("kind", KINDS)
def test_vectors(kind: str) -> None:
    encoded = KEYS[f"{kind}_public_key"]
    public = decode_public_key(encoded)
    assert public.key_type is KeyType[kind.upper()]
    assert public.encode() == encoded
    own, _ = decode_private_key(KEYS[f"{kind}_private_key"])
    assert own == public


@pytest.mark.parametrize("kind", KINDS)
def test_signatures_of_the_vector_keys_verify(kind: str) -> None:
    public, secret = decode_private_key(KEYS[f"{kind}_private_key"])
    message = b"something to sign"
    match kind:
        case "secp256k1":
            signature = sign_message(PrivateKey(secret), message)
        case "ed25519":
            signature = ed25519.Ed25519PrivateKey.from_private_bytes(secret[:32]).sign(message)
        case "ecdsa":
            key = serialization.load_der_private_key(secret, None)
            assert isinstance(key, ec.EllipticCurvePrivateKey)
            signature = key.sign(message, ec.ECDSA(hashes.SHA256()))
        case _:
            key = serialization.load_der_private_key(secret, None)
            assert isinstance(key, rsa.RSAPrivateKey)
            signature = key.sign(message, padding.PKCS1v15(), hashes.SHA256())
    assert public.verify(message, signature)
    assert not public.verify(message + b"!", signature)
    assert not public.verify(message, signature[:-1] + bytes((signature[-1] ^ 1,)))
    assert not public.verify(message, b"")


# The PeerIDs of peer-ids.md's examples of text forms, and our own spelling of secp256k1.
@pytest.mark.parametrize(
    "text",
    [
        "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
        "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA",
        "16Uiu2HAkutTMoTzDw1tCvSRtu6YoixJwS46S1ZFxW8hSx9fWHiPs",
    ],
)
def test_peer_id_texts_parse(text: str) -> None:
    assert parse_peer_id(text)


@pytest.mark.parametrize(
    "text", ["", "1", "Qm", "0OIl", "16Uiu2HA", "Z" * 200, "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXm"]
)
def test_peer_id_texts_refused(text: str) -> None:
    with pytest.raises(MalformedFrame):
        parse_peer_id(text)


def test_our_ids_are_the_ledgers_ids() -> None:
    key = PrivateKey(b"\x07" * 32).public_key
    assert secp256k1_key(key).peer_id == peer_id(key)


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        KEYS["ed25519_public_key"] + b"\0",
        KEYS["ed25519_public_key"][:-1],
        # Data before Type, a type written in two bytes, an unknown type.
        KEYS["ed25519_public_key"][2:] + KEYS["ed25519_public_key"][:2],
        b"\x08\x81\x00" + KEYS["ed25519_public_key"][2:],
        b"\x08\x04" + KEYS["ed25519_public_key"][2:],
        # The data of another type.
        b"\x08\x02" + KEYS["ed25519_public_key"][2:],
        b"\x08\x00" + KEYS["ecdsa_public_key"][2:],
        b"\x08\x03" + KEYS["rsa_public_key"][2:],
    ],
)
def test_malformed_keys_are_refused(bad: bytes) -> None:
    with pytest.raises(MalformedFrame):
        decode_public_key(bad)


def test_an_ed25519_key_with_a_foreign_public_half_is_refused() -> None:
    encoded = KEYS["ed25519_private_key"]
    with pytest.raises(MalformedFrame, match="another key"):
        decode_private_key(encoded[:-1] + bytes((encoded[-1] ^ 1,)))


def test_a_short_rsa_key_is_refused() -> None:
    spki = (
        rsa.generate_private_key(65537, 1024)
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    with pytest.raises(MalformedFrame, match="1024 bits"):
        decode_public_key(PublicKey(KeyType.RSA, spki).encode())


# Not rsa_private: checking a broken RSA key takes OpenSSL a tenth of a second.
@given(st.sampled_from(sorted(KEYS.keys() - {"rsa_private_key"})), st.data())
def test_mutated_keys_give_only_malformed_frame(name: str, data: st.DataObject) -> None:
    encoded = bytearray(KEYS[name])
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(encoded) - 1))
        encoded[place] = data.draw(st.integers(0, 255))
    for decode in (decode_public_key, decode_private_key):
        with contextlib.suppress(MalformedFrame):
            decode(bytes(encoded))

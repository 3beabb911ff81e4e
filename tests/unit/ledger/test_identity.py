"""PeerIDs against libp2p's vectors, and base58."""

import json
from pathlib import Path

import pytest

from ledger.identity import (
    InvalidPeerId,
    base58_decode,
    base58_encode,
    peer_id,
    public_key_of,
)
from tests.kit.chain import address_of

LIBP2P = Path(__file__).parents[2] / "vectors/libp2p"
# draft-msporny-base58-03, section 5
BASE58 = [
    (b"Hello World!", "2NEpo7TZRRrLZSi2U"),
    (
        b"The quick brown fox jumps over the lazy dog.",
        "USm3fpXnKG5EUBx2ndxBDMPVciP5hGey2Jh4NDv6gmeo1LkMeiKrLJUUBk6Z",
    ),
    (bytes.fromhex("0000287fb4cd"), "11233QC4"),
]


def test_libp2p_vector_of_a_secp256k1_peer() -> None:
    vectors = json.loads((LIBP2P / "tls_vectors.json").read_text())["vectors"]
    (vector,) = [each for each in vectors if "secp256k1" in each["title"]]
    certificate = bytes.fromhex(vector["certificate_der_hex"])
    # The extension carries the protobuf PublicKey: Type = Secp256k1, 33 bytes of data.
    at = certificate.index(bytes.fromhex("08021221")) + 4
    public_key = certificate[at : at + 33]
    assert peer_id(public_key) == vector["peer_id"]
    assert public_key_of(vector["peer_id"]) == public_key


def test_libp2p_key_vector_has_the_protobuf_we_name_peers_by() -> None:
    keys = json.loads((LIBP2P / "key_vectors.json").read_text())["keys"]
    encoded = bytes.fromhex(keys["secp256k1_public_key"])
    text = base58_encode(b"\x00" + bytes([len(encoded)]) + encoded)
    assert peer_id(encoded[4:]) == text


@pytest.mark.parametrize(("data", "text"), BASE58)
def test_base58_vectors(data: bytes, text: str) -> None:
    assert base58_encode(data) == text
    assert base58_decode(text) == data


def test_base58_keeps_leading_zeros_and_nothing() -> None:
    for data in (b"", b"\0", b"\0\0\0", b"\0\0\x01"):
        assert base58_decode(base58_encode(data)) == data


ALICE = peer_id(address_of("alice"))


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("", "does not name"),
        ("12D3KooWM6CgA9iBFZmcYAHA6A2qvbAxqfkmrYiRQuz3XEsk4Ksv", "does not name"),
        ("QmfXbAwNjJLXfesgztEHe8HwgVDCMMpZ9Eax1HYq6hn9uE", "does not name"),
        (ALICE + "1", "does not name"),
        ("1" + ALICE, "does not name"),
        (ALICE[:-1] + "0", "no base58 character"),
        (ALICE + " ", "no base58 character"),
        ("z" * 65, "too many"),
        (base58_encode(bytes.fromhex("002508021221") + b"\x02" + b"\xff" * 32), "no point"),
    ],
)
def test_text_that_names_no_secp256k1_key(text: str, detail: str) -> None:
    with pytest.raises(InvalidPeerId, match=detail) as caught:
        public_key_of(text)
    assert caught.value.text == text

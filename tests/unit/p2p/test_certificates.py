"""The libp2p TLS certificate against the vectors and rules of libp2p/specs tls/tls.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from hypothesis import given
from hypothesis import strategies as st

from ledger.crypto import PrivateKey
from ledger.identity import peer_id
from p2p.certificates import (
    CERTIFICATE_MAX_BYTES,
    CLOCK_SKEW_S,
    VALIDITY_S,
    make_certificate,
    parse_certificate,
    verify_certificate,
    verify_certificates,
)
from p2p.errors import CertificateRefused, WrongPeer
from tests.unit.p2p.certs import DAY_S, NOW_S, certificate, new_key, octets, signed_key

VECTORS = json.loads((Path(__file__).parents[2] / "vectors/libp2p/tls_vectors.json").read_text())
IDENTITY = PrivateKey(b"\x11" * 32)
OWN_ID = peer_id(IDENTITY.public_key)
KEY = new_key()


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda v: v["title"])
def test_vectors(vector: dict[str, Any]) -> None:
    presented = parse_certificate(bytes.fromhex(vector["certificate_der_hex"]))
    if vector["valid"]:
        assert verify_certificate(presented, now_s=NOW_S).peer_id == vector["peer_id"]
    else:
        with pytest.raises(CertificateRefused) as refused:
            verify_certificate(presented, now_s=NOW_S)
        assert refused.value.rule == "extension-signature"


def test_ours_verifies_within_its_dates_only() -> None:
    ours = make_certificate(IDENTITY, KEY, now_s=NOW_S, serial=5)
    for now_s in (NOW_S - CLOCK_SKEW_S, NOW_S, NOW_S + VALIDITY_S):
        assert verify_certificate(ours, now_s=now_s).peer_id == OWN_ID
    for now_s in (NOW_S - CLOCK_SKEW_S - 1, NOW_S + VALIDITY_S + 1):
        with pytest.raises(CertificateRefused) as refused:
            verify_certificate(ours, now_s=now_s)
        assert refused.value.rule == "dates"


def other_oid() -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.53594.9.9"), b"\x05\x00")


REFUSED: dict[str, list[dict[str, Any]]] = {
    "self-signature": [{"signer": new_key()}],
    "extension": [{"with_extension": False}],
    "critical-extension": [{"more": other_oid()}],
    "extension-signature": [
        {"extension": signed_key(IDENTITY, new_key())},
        {
            "extension": signed_key(
                PrivateKey(b"\x12" * 32),
                KEY,
                bytes.fromhex("08021221") + IDENTITY.public_key,
            )
        },
    ],
    "extension-content": [
        {"extension": b""},
        {"extension": signed_key(IDENTITY, KEY) + b"\0"},
        {"extension": signed_key(IDENTITY, KEY)[:-1]},
        {"extension": octets(0x30, octets(4, b"\x08\x07\x12\x00") + octets(4, b""))},
        {"extension": b"\x30\x81\x04\x04\x00\x04\x00"},
        {"extension": b"\x30\x85\x00\x00\x00\x00\x04\x04\x00\x04\x00"},
    ],
}


@pytest.mark.parametrize(
    ("rule", "fault"), [(rule, fault) for rule, faults in REFUSED.items() for fault in faults]
)
def test_rules(rule: str, fault: dict[str, Any]) -> None:
    with pytest.raises(CertificateRefused) as refused:
        verify_certificate(certificate(IDENTITY, KEY, **fault), now_s=NOW_S)
    assert refused.value.rule == rule


def test_what_is_allowed() -> None:
    for fine in ({"critical": True}, {"digest": hashes.SHA384()}):
        found = verify_certificate(certificate(IDENTITY, KEY, **fine), now_s=NOW_S)
        assert found.peer_id == OWN_ID


def test_exactly_one_and_the_dialled_one() -> None:
    good = certificate(IDENTITY, KEY)
    assert verify_certificates([good], now_s=NOW_S, expected_peer_id=OWN_ID).peer_id == OWN_ID
    for presented in ([], [good, good]):
        with pytest.raises(CertificateRefused) as refused:
            verify_certificates(presented, now_s=NOW_S, expected_peer_id=None)
        assert refused.value.rule == "count"
    other = peer_id(PrivateKey(b"\x12" * 32).public_key)
    with pytest.raises(WrongPeer) as wrong:
        verify_certificates([good], now_s=NOW_S, expected_peer_id=other)
    assert (wrong.value.expected_peer_id, wrong.value.found_peer_id) == (other, OWN_ID)
    old = certificate(IDENTITY, KEY, age_s=2 * DAY_S)
    with pytest.raises(CertificateRefused):
        verify_certificates([old], now_s=NOW_S, expected_peer_id=OWN_ID)


@given(st.data())
def test_mutated_certificates_give_only_refusals(data: st.DataObject) -> None:
    before = bytes.fromhex(VECTORS["vectors"][2]["certificate_der_hex"])
    der = bytearray(before)
    place = data.draw(st.integers(0, len(der) - 1))
    der[place] = data.draw(st.integers(0, 255))
    try:
        verify_certificate(parse_certificate(bytes(der)), now_s=NOW_S)
    except CertificateRefused:
        return
    # Every byte is under the self signature or is that signature.
    assert bytes(der) == before


@given(st.binary(max_size=200))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(CertificateRefused):
        parse_certificate(noise)


def test_a_giant_is_refused_unparsed() -> None:
    with pytest.raises(CertificateRefused) as refused:
        parse_certificate(bytes(CERTIFICATE_MAX_BYTES + 1))
    assert refused.value.rule == "size"

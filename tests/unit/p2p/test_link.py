"""Links in memory: every way to a secured link, and every certificate that must not pass."""

from __future__ import annotations

import random

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL

from ledger.crypto import PrivateKey
from ledger.identity import peer_id
from p2p.errors import (
    CertificateRefused,
    MalformedFrame,
    MultistreamViolation,
    PeerFault,
    TlsFailure,
    WrongPeer,
)
from p2p.link import SecureLink, Stage
from p2p.multistream import MultistreamDialer, encode_line
from p2p.tls import ALPN_LIBP2P, TlsIdentity, make_context
from tests.unit.p2p.certs import DAY_S, NOW_S, certificate, new_key
from tests.unit.p2p.cutting import cut

ALICE, BOB = PrivateKey(b"\x01" * 32), PrivateKey(b"\x02" * 32)
ALICE_ID, BOB_ID = peer_id(ALICE.public_key), peer_id(BOB.public_key)
IDENTITIES = {ALICE: TlsIdentity(ALICE), BOB: TlsIdentity(BOB)}
KEY = new_key()


class Side:
    """One end of a link in memory and what it has seen."""

    def __init__(self, link: SecureLink) -> None:
        self.link = link
        self.plaintext = b""
        self.fault: PeerFault | None = None
        self.inbox = b""

    def feed(self, data: bytes) -> bytes:
        if self.fault is not None:
            return b""
        try:
            self.plaintext += b"".join(self.link.receive(data, NOW_S))
        except PeerFault as fault:
            self.fault = fault
        return self.link.take_output()


def context(key: PrivateKey, *chain: x509.Certificate, secret: object = KEY) -> SSL.Context:
    if not chain:
        return IDENTITIES[key].context(NOW_S)
    assert isinstance(secret, ec.EllipticCurvePrivateKey)
    return make_context(chain, secret)


def pair(
    dialer: SSL.Context,
    listener: SSL.Context,
    *,
    expected: str | None = BOB_ID,
    direct: bool = True,
) -> tuple[Side, Side]:
    return (
        Side(SecureLink(dialer, dialer=True, expected_peer_id=expected, direct_tls=direct)),
        Side(SecureLink(listener, dialer=False)),
    )


def shred(whole: bytes, rng: random.Random | None) -> list[bytes]:
    """Cuts by a seed: handshakes vary in length, so hypothesis cannot draw the places."""
    pieces = []
    while rng is not None and whole:
        size = rng.choice([1, 2, 5, 50, 500, 20_000])
        pieces.append(whole[:size])
        whole = whole[size:]
    return [*pieces, whole] if whole else pieces


def run(dialer: Side, listener: Side, rng: random.Random | None = None) -> None:
    """Carries bytes both ways until nothing moves."""
    dialer.link.start()
    to_listener, to_dialer = dialer.link.take_output(), b""
    while to_listener or to_dialer:
        for piece in shred(to_listener, rng):
            to_dialer += listener.feed(piece)
        to_listener = b""
        for piece in shred(to_dialer, rng):
            to_listener += dialer.feed(piece)
        to_dialer = b""


def talk(a: Side, b: Side, message: bytes) -> None:
    assert a.link.stage is b.link.stage is Stage.OPEN
    for one, other in ((a, b), (b, a)):
        other.feed(one.link.seal(message))
        assert other.plaintext == message
        other.plaintext = b""


@settings(max_examples=15)
@given(st.booleans(), st.integers(0, 2**32))
def test_both_ways_in_cut_anywhere(direct: bool, seed: int) -> None:
    a, b = pair(context(ALICE), context(BOB), direct=direct)
    run(a, b, random.Random(seed))
    assert (a.fault, b.fault) == (None, None)
    assert a.link.peer_key is not None
    assert b.link.peer_key is not None
    assert (a.link.peer_key.peer_id, b.link.peer_key.peer_id) == (BOB_ID, ALICE_ID)
    talk(a, b, b"x" * 40_000)


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("offer", [[ALPN_LIBP2P], None])
def test_without_early_muxer_negotiation(direct: bool, offer: list[bytes] | None) -> None:
    dialing = make_context([certificate(ALICE, KEY)], KEY)
    if offer is None:
        # A context that offers nothing at all.
        dialing = SSL.Context(SSL.TLS_METHOD)
        dialing.set_verify(SSL.VERIFY_PEER, lambda *_: True)
        dialing.use_certificate(certificate(ALICE, KEY))
        dialing.use_privatekey(KEY)
    else:
        dialing.set_alpn_protos(offer)
    a, b = pair(dialing, context(BOB), direct=direct)
    run(a, b)
    assert (a.fault, b.fault) == (None, None)
    talk(a, b, b"through multistream")


def test_unknown_alpn_ends_the_handshake() -> None:
    dialing = make_context([certificate(ALICE, KEY)], KEY)
    dialing.set_alpn_protos([b"h2"])
    a, b = pair(dialing, context(BOB))
    run(a, b)
    assert isinstance(b.fault, TlsFailure)
    assert isinstance(a.fault, TlsFailure)


def test_close_is_seen() -> None:
    a, b = pair(context(ALICE), context(BOB))
    run(a, b)
    b.feed(a.link.seal(b"last words") + a.link.close())
    assert b.plaintext == b"last words"
    assert b.link.closed_by_peer


def test_the_wrong_peer_is_refused_by_the_dialer() -> None:
    a, b = pair(context(ALICE), context(BOB), expected=ALICE_ID)
    run(a, b)
    assert isinstance(a.fault, WrongPeer)
    assert a.fault.found_peer_id == BOB_ID
    assert a.link.peer_key is None
    assert a.link.stage is not Stage.OPEN


OLD = certificate(ALICE, KEY, age_s=2 * DAY_S)
FUTURE = certificate(ALICE, KEY, age_s=-60)
GOOD = certificate(ALICE, KEY)
BARE = certificate(ALICE, KEY, with_extension=False)
FORGED = certificate(ALICE, KEY, extension=b"\x30\x04\x04\x00\x04\x00")


@pytest.mark.parametrize(
    ("chain", "rule"),
    [
        ([OLD], "dates"),
        ([FUTURE], "dates"),
        ([GOOD, GOOD], "count"),
        ([GOOD, certificate(BOB, new_key())], "count"),
        ([BARE], "extension"),
        ([FORGED], "extension-content"),
    ],
)
@pytest.mark.parametrize("by_dialer", [True, False])
def test_bad_certificates_are_refused_both_ways(
    chain: list[x509.Certificate], rule: str, by_dialer: bool
) -> None:
    bad = context(ALICE, *chain)
    if by_dialer:
        victim = Side(SecureLink(context(BOB), dialer=False))
        run(Side(SecureLink(bad, dialer=True)), victim)
    else:
        victim = Side(SecureLink(context(BOB), dialer=True))
        run(victim, Side(SecureLink(bad, dialer=False)))
    assert isinstance(victim.fault, CertificateRefused)
    assert victim.fault.rule == rule
    assert victim.link.peer_key is None
    assert victim.plaintext == b""


def test_no_client_certificate_is_refused() -> None:
    a, b = pair(make_context([], KEY), context(BOB))
    run(a, b)
    assert isinstance(b.fault, TlsFailure)
    assert b.fault.detail == "peer did not return a certificate"
    assert b.link.peer_key is None


def test_old_tls_is_refused() -> None:
    dialing = make_context([GOOD], KEY)
    dialing.set_min_proto_version(SSL.TLS1_2_VERSION)
    dialing.set_max_proto_version(SSL.TLS1_2_VERSION)
    a, b = pair(dialing, context(BOB))
    run(a, b)
    assert isinstance(b.fault, TlsFailure)


@pytest.mark.parametrize("opening", [b"GET / HTTP/1.1\r\n\r\n", b"\0", b"\x15\x03\x01"])
def test_other_protocols_are_refused_at_the_first_byte(opening: bytes) -> None:
    listener = SecureLink(context(BOB), dialer=False)
    with pytest.raises(MalformedFrame):
        listener.receive(opening, NOW_S)


def test_a_peer_without_tls_is_refused() -> None:
    dialer = SecureLink(context(ALICE), dialer=True, direct_tls=False)
    dialer.start()
    with pytest.raises(MultistreamViolation, match="does not speak /tls"):
        dialer.receive(encode_line("/multistream/1.0.0") + encode_line("na"), NOW_S)
    listener = SecureLink(context(BOB), dialer=False)
    assert listener.receive(MultistreamDialer(["/noise"]).start(), NOW_S) == []
    assert listener.take_output().endswith(encode_line("na"))


@given(st.binary(max_size=300), st.booleans(), st.data())
def test_noise_gives_only_faults(noise: bytes, as_tls: bool, data: st.DataObject) -> None:
    listener = Side(SecureLink(context(BOB), dialer=False))
    for piece in cut(data, (b"\x16\x03\x01" if as_tls else b"\x13/multistream/1.0.0\n") + noise):
        listener.feed(piece)
    assert listener.plaintext == b""
    assert listener.link.peer_key is None


@settings(max_examples=50)
@given(st.integers(0, 10**6), st.integers(1, 255))
def test_a_flipped_bit_in_a_record_is_a_fault(place: int, flip: int) -> None:
    a, b = pair(context(ALICE), context(BOB))
    run(a, b)
    record = bytearray(a.link.seal(b"payload"))
    record[place % len(record)] ^= flip
    b.feed(bytes(record))
    assert b.plaintext == b""

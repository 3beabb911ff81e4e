"""The process certificate is kept fresh."""

from __future__ import annotations

from ledger.crypto import PrivateKey
from ledger.identity import peer_id
from p2p.certificates import VALIDITY_S
from p2p.tls import TlsChannel, TlsIdentity
from tests.unit.p2p.certs import NOW_S

KEY = PrivateKey(b"\x05" * 32)


def test_a_certificate_is_renewed_at_half_time_and_when_the_clock_went_back() -> None:
    identity = TlsIdentity(KEY)
    first = identity.context(NOW_S)
    assert identity.context(NOW_S + VALIDITY_S / 2 - 1) is first
    second = identity.context(NOW_S + VALIDITY_S / 2)
    assert second is not first
    assert identity.context(NOW_S) is not second


def test_a_renewed_certificate_is_accepted_when_the_first_would_not_be() -> None:
    identity, other = TlsIdentity(KEY), TlsIdentity(PrivateKey(b"\x06" * 32))
    identity.context(NOW_S)
    later_s = NOW_S + 3 * VALIDITY_S
    dialer = TlsChannel(other.context(later_s), dialer=True, expected_peer_id=None)
    listener = TlsChannel(identity.context(later_s), dialer=False, expected_peer_id=None)
    dialer.start()
    listener.receive(dialer.take_output(), later_s)
    dialer.receive(listener.take_output(), later_s)
    assert dialer.peer_key is not None
    assert dialer.peer_key.peer_id == peer_id(KEY.public_key)

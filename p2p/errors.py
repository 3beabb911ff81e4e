"""The exception tree of the p2p room.

    P2PError
      PeerFault                a peer sent what no correct peer sends; carries the penalty it earns
        MalformedFrame         bytes that do not decode
        FrameTooLarge          a length prefix past the limit of its protocol
        MultistreamViolation   protocol negotiation broken
        YamuxViolation         stream multiplexing broken
        CertificateRefused     the TLS certificate does not prove a libp2p identity
          WrongPeer            it proves another identity than the one dialled
        TlsFailure             the handshake or a record failed
        StatusViolation        the status exchange broken
      HandshakeTimeout         a link did not stand before its deadline
      NetworkRefused           the status exchange ended in a refusal, by us or by them
      LinkLost                 a link is gone; `reason` says why
      HostFailed               a task of the host died; the node must stop
      RequestError
        PeerUnavailable        not connected, or lost before the answer
        RequestTimeout
        RequestRefused         the peer answered, and the answer is no
        ResponseTooLarge

Each leaf carries its facts as attributes. Penalties are points against `Limits.fault_limit_points`.
"""

from __future__ import annotations

from ledger.errors import LedgerError

PENALTY_GARBAGE = 60  # Two broken frames within 20 s end the relation.
PENALTY_NOISE = 10  # Excess that a slow or old but honest program might show.


class P2PError(LedgerError):
    """Anything the p2p room raises on purpose."""


class PeerFault(P2PError):
    """A peer's fault. `kind` is a stable name, `penalty` the points it costs."""

    kind = "fault"
    penalty = PENALTY_GARBAGE


class MalformedFrame(PeerFault):
    """Bytes that do not decode as `what`; `detail` says why."""

    kind = "malformed"

    def __init__(self, what: str, detail: str) -> None:
        super().__init__(f"{what}: {detail}")
        self.what = what
        self.detail = detail


class FrameTooLarge(PeerFault):
    """A length prefix of `size_bytes` where `limit_bytes` are allowed."""

    kind = "too-large"

    def __init__(self, what: str, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(f"{what}: {size_bytes} bytes announced, {limit_bytes} are allowed")
        self.what = what
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class MultistreamViolation(PeerFault):
    """multistream-select 1.0.0 broken; `rule` names how."""

    kind = "multistream"

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule


class YamuxViolation(PeerFault):
    """yamux broken on stream `stream_id` (0: the session); `rule` names how."""

    kind = "yamux"

    def __init__(self, rule: str, stream_id: int = 0) -> None:
        super().__init__(f"{rule} (stream {stream_id})")
        self.rule = rule
        self.stream_id = stream_id


class CertificateRefused(PeerFault):
    """`rule` is the stable name of the broken rule, `detail` the facts."""

    kind = "certificate"

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule = rule
        self.detail = detail


class WrongPeer(CertificateRefused):
    """The certificate proves `found_peer_id` where `expected_peer_id` was dialled."""

    def __init__(self, expected_peer_id: str, found_peer_id: str) -> None:
        super().__init__("wrong-peer", f"dialled {expected_peer_id}, found {found_peer_id}")
        self.expected_peer_id = expected_peer_id
        self.found_peer_id = found_peer_id


class TlsFailure(PeerFault):
    """OpenSSL refused the handshake or a record; `detail` is its reason."""

    kind = "tls"
    penalty = PENALTY_NOISE

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class StatusViolation(PeerFault):
    """The status exchange broken; `rule` names how."""

    kind = "status"

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule


class HandshakeTimeout(P2PError):
    """A link did not reach `stage` within `deadline_s`."""

    def __init__(self, stage: str, deadline_s: float) -> None:
        super().__init__(f"no {stage} within {deadline_s:g} s")
        self.stage = stage
        self.deadline_s = deadline_s


class NetworkRefused(P2PError):
    """The status exchange was refused with `reason`, by us or (`by_peer`) by the other side."""

    def __init__(self, reason: str, *, by_peer: bool) -> None:
        super().__init__(f"{'refused by the peer' if by_peer else 'refused'}: {reason}")
        self.reason = reason
        self.by_peer = by_peer


class LinkLost(P2PError):
    """A link is gone; `reason` is a short text."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class HostFailed(P2PError):
    """A task or callback of the host died; the cause is chained."""


class RequestError(P2PError):
    """A request to `peer_id` over `protocol_id` brought no answer."""

    def __init__(self, peer_id: str, protocol_id: str, detail: str) -> None:
        super().__init__(f"{protocol_id} to {peer_id}: {detail}")
        self.peer_id = peer_id
        self.protocol_id = protocol_id
        self.detail = detail


class PeerUnavailable(RequestError):
    """The peer is not connected, was lost, or does not speak the protocol."""


class RequestTimeout(RequestError):
    """No answer in time."""


class RequestRefused(RequestError):
    """The peer refuses; `reason` is its text. Handlers raise it (see `refuse`) to refuse."""

    @property
    def reason(self) -> str:
        """The refusing side's text."""
        return self.detail


class ResponseTooLarge(RequestError):
    """The answer is longer than the protocol allows."""


def refuse(reason: str) -> RequestRefused:
    """What a request handler raises to answer no; the peer's ids are filled in by the host."""
    return RequestRefused("", "", reason)

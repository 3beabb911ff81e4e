"""The status exchange `/tally/status/1`: do we live on the same ledger, and what is this link for?

The dialer of a link opens one stream; messages are uvarint-framed MessagePack arrays with a number
in front:

    dialer                         listener
    Hello  ->
           <-  Hello, Verdict(yes)                 or Verdict(no, code, detail) and the end
    Verdict(yes)  ->                               or Verdict(no, ...) and the end
    Height <-> Height                              from then on, whenever it changed

Each side judges the other's Hello, so both see why a link was refused. A link counts as up when its
side has seen both verdicts say yes. `instance` is drawn at the start of a process and tells a peer
that restarted from one that dials twice.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Annotated

import msgspec

from ledger.codec import U53, Codec, Hash, encode
from ledger.errors import MalformedData
from p2p.errors import StatusViolation
from p2p.wire import FrameReader, frame

STATUS_PROTOCOL = "/tally/status/1"
PROTOCOL_VERSION = 1

# A Hello has about 120 bytes, a Verdict at most 300.
STATUS_MAX_BYTES = 512

# Refusal codes, stable. The host adds: duplicate, banned, full, self.
REFUSED_VERSION = "version"
REFUSED_NETWORK = "network"
REFUSED_GENESIS = "genesis"


class ConnectionClass(Enum):
    """What a link is for: votes (urgent), or everything (bulk)."""

    URGENT = "urgent"
    BULK = "bulk"


class StatusFacts(msgspec.Struct, frozen=True):
    """What our node says of itself: its network's name, genesis hash (32 bytes) and height."""

    network: str
    genesis: bytes
    height: int


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=0, forbid_unknown_fields=True):
    """The first message of each side."""

    version: Annotated[int, msgspec.Meta(ge=0, lt=2**16)]
    network: Annotated[str, msgspec.Meta(max_length=64)]
    genesis: Hash
    height: U53
    connection_class: ConnectionClass
    instance: Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]


class Verdict(msgspec.Struct, frozen=True, array_like=True, tag=1, forbid_unknown_fields=True):
    """Yes, or no with a stable code and the facts in words."""

    accepted: bool
    code: Annotated[str, msgspec.Meta(max_length=32)] = ""
    detail: Annotated[str, msgspec.Meta(max_length=200)] = ""


class Height(msgspec.Struct, frozen=True, array_like=True, tag=2, forbid_unknown_fields=True):
    """The sender's ledger height."""

    height: U53


class Refusal(msgspec.Struct, frozen=True):
    """Why a link is refused."""

    code: str
    detail: str


_CODEC: Codec[Hello | Verdict | Height] = Codec(
    "status", Hello | Verdict | Height, STATUS_MAX_BYTES
)

Judge = Callable[[Hello], Refusal | None]


def check_same_ledger(own: Hello, other: Hello) -> Refusal | None:
    """The refusal of a peer of another version, network or genesis; None for one of ours."""
    if other.version != own.version:
        return Refusal(REFUSED_VERSION, f"version {other.version}, need {own.version}")
    if other.network != own.network:
        return Refusal(REFUSED_NETWORK, f"network {other.network!r}, need {own.network!r}")
    if other.genesis != own.genesis:
        return Refusal(
            REFUSED_GENESIS, f"genesis {other.genesis.hex()[:16]}…, need {own.genesis.hex()[:16]}…"
        )
    return None


class Phase(Enum):
    """Where an exchange stands."""

    HELLO = "hello"
    VERDICT = "verdict"
    ACCEPTED = "accepted"
    REFUSED = "refused"


class StatusExchange:
    """One side of an exchange: bytes in, bytes out.

    The dialer names the connection class, the listener's Hello repeats it. `judge` is asked once,
    with the peer's Hello that lives on our ledger; what it returns goes to the peer. Then `phase`
    tells the outcome, `refusal` and `refused_by_peer` the reason.
    """

    def __init__(self, own: Hello, *, dialer: bool, judge: Judge) -> None:
        self._own = own
        self._dialer = dialer
        self._judge = judge
        self._reader = FrameReader("status", STATUS_MAX_BYTES)
        self.phase = Phase.HELLO
        self.peer: Hello | None = None
        self.peer_height = 0
        self.refusal: Refusal | None = None
        self.refused_by_peer = False

    def start(self) -> bytes:
        """The dialer's first bytes."""
        assert self._dialer
        return _frame(self._own)

    def receive(self, data: bytes) -> bytes:
        """Bytes to answer with. Raises StatusViolation, FrameTooLarge, MalformedFrame."""
        output = b""
        for raw in self._reader.feed(data):
            try:
                message = _CODEC.decode(raw)
            except MalformedData as error:
                raise StatusViolation(str(error)) from error
            match message, self.phase:
                case Hello(), Phase.HELLO:
                    output += self._handle_hello(message)
                case Verdict(), Phase.VERDICT:
                    output += self._handle_verdict(message)
                case Height(), Phase.ACCEPTED:
                    self.peer_height = message.height
                case _, Phase.REFUSED:
                    break
                case _:
                    name = type(message).__name__
                    raise StatusViolation(f"{name} in phase {self.phase.value}")
        return output

    def height_update(self, height: int) -> bytes:
        """The message that tells our new height."""
        return _frame(Height(height))

    def _handle_hello(self, hello: Hello) -> bytes:
        self.peer = hello
        self.peer_height = hello.height
        self.refusal = check_same_ledger(self._own, hello) or self._judge(hello)
        self.phase = Phase.VERDICT
        if self._dialer:
            return b""  # Our verdict answers theirs.
        if self.refusal is not None:
            self.phase = Phase.REFUSED
        own = msgspec.structs.replace(self._own, connection_class=hello.connection_class)
        return _frame(own) + _frame(_verdict(self.refusal))

    def _handle_verdict(self, verdict: Verdict) -> bytes:
        if not verdict.accepted:
            self.phase = Phase.REFUSED
            self.refusal = Refusal(verdict.code, verdict.detail)
            self.refused_by_peer = True
            return b""
        if self.refusal is not None:
            self.phase = Phase.REFUSED
        else:
            self.phase = Phase.ACCEPTED
        return _frame(_verdict(self.refusal)) if self._dialer else b""


def _verdict(refusal: Refusal | None) -> Verdict:
    if refusal is None:
        return Verdict(accepted=True)
    return Verdict(accepted=False, code=refusal.code[:32], detail=refusal.detail[:200])


def _frame(message: Hello | Verdict | Height) -> bytes:
    return frame(encode(message))

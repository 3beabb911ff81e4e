"""From raw bytes to a secured, multiplexable link: a synchronous state machine.

    stage      the bytes are                  next
    sniff      the first byte of a stranger   0x16: tls (direct)   0x13: select
    select     multistream-select             tls, once `/tls/1.0.0` is agreed
    tls        TLS 1.3 handshake              ALPN `/yamux/1.0.0`: open   else: muxer
    muxer      multistream-select inside TLS  open, once `/yamux/1.0.0` is agreed
    open       TLS records carrying yamux

A dialer starts in `tls` (direct; what our own nodes do, one round trip less) or in `select` (what
other libp2p programs expect). Identity is known and checked from the end of `tls` on.
Source: libp2p/specs connections/README.md and connections/inlined-muxer-negotiation.md.
"""

from __future__ import annotations

from enum import Enum

from OpenSSL import SSL

from p2p.errors import MalformedFrame, MultistreamViolation
from p2p.keys import PublicKey
from p2p.multistream import MultistreamDialer, MultistreamListener, Progress
from p2p.tls import ALPN_YAMUX, TlsChannel

TLS_PROTOCOL = "/tls/1.0.0"
YAMUX_PROTOCOL = "/yamux/1.0.0"

_FIRST_BYTE_TLS = 0x16  # A TLS handshake record.
_FIRST_BYTE_MULTISTREAM = 0x13  # 19, the length of "/multistream/1.0.0\n".


class Stage(Enum):
    """Where a link is on its way; see the module's table."""

    SNIFF = "sniff"
    SELECT = "select"
    TLS = "tls"
    MUXER = "muxer"
    OPEN = "open"


class SecureLink:
    """One link. After `receive` or `start`, send what `take_output` gives.

    Raises PeerFault leaves (TlsFailure, CertificateRefused, MultistreamViolation, MalformedFrame);
    `take_output` may then still hold an alert for the peer.
    """

    def __init__(
        self,
        context: SSL.Context,
        *,
        dialer: bool,
        expected_peer_id: str | None = None,
        direct_tls: bool = True,
    ) -> None:
        self._tls = TlsChannel(context, dialer=dialer, expected_peer_id=expected_peer_id)
        self._dialer = dialer
        self._select: MultistreamDialer | MultistreamListener | None = None
        self._output = b""
        if not dialer:
            self.stage = Stage.SNIFF
        else:
            self.stage = Stage.TLS if direct_tls else Stage.SELECT

    @property
    def peer_key(self) -> PublicKey | None:
        """The peer's verified identity, or None before the handshake is done."""
        return self._tls.peer_key

    @property
    def closed_by_peer(self) -> bool:
        """Whether the peer's close notification came."""
        return self._tls.closed_by_peer

    def start(self) -> None:
        """Lets a dialer speak first; a listener waits."""
        if self.stage is Stage.TLS:
            self._tls.start()
        elif self.stage is Stage.SELECT:
            self._select = MultistreamDialer([TLS_PROTOCOL])
            self._output += self._select.start()

    def receive(self, data: bytes, now_s: float) -> list[bytes]:
        """Plaintext for the multiplexer in `data`; `now_s` is Unix time."""
        if self.stage is Stage.OPEN:
            return self._tls.receive(data, now_s)
        if self.stage is Stage.SNIFF:
            self._sniff(data[0])
        if self.stage is Stage.SELECT:
            data = self._negotiate_tls(data)
            if not data:
                return []
        return self._receive_tls(data, now_s)

    def seal(self, plaintext: bytes) -> bytes:
        """The bytes that carry `plaintext`; only once the link is open."""
        return self._tls.seal(plaintext)

    def take_output(self) -> bytes:
        """Bytes to send now."""
        output, self._output = self._output, b""
        return output + self._tls.take_output()

    def close(self) -> bytes:
        """The last bytes to send."""
        return self._tls.close()

    def _sniff(self, first_byte: int) -> None:
        if first_byte == _FIRST_BYTE_TLS:
            self.stage = Stage.TLS
        elif first_byte == _FIRST_BYTE_MULTISTREAM:
            self.stage = Stage.SELECT
            self._select = MultistreamListener(TLS_PROTOCOL.__eq__)
        else:
            raise MalformedFrame("link", f"opened with byte {first_byte:#x}")

    def _negotiate_tls(self, data: bytes) -> bytes:
        assert self._select is not None
        progress = self._select.receive(data)
        self._output += progress.output
        self._check_agreed(progress, TLS_PROTOCOL)
        if progress.agreed is None:
            return b""
        self.stage = Stage.TLS
        self._select = None
        if self._dialer:
            self._tls.start()
        return progress.rest

    def _receive_tls(self, data: bytes, now_s: float) -> list[bytes]:
        pieces = self._tls.receive(data, now_s)
        if self._tls.peer_key is None:
            return []
        if self.stage is Stage.TLS:
            self._choose_muxer()
        if self.stage is Stage.MUXER:
            pieces = self._negotiate_muxer(b"".join(pieces))
        return pieces

    def _choose_muxer(self) -> None:
        if self._tls.alpn == ALPN_YAMUX:
            self.stage = Stage.OPEN
            return
        self.stage = Stage.MUXER
        if self._dialer:
            self._select = MultistreamDialer([YAMUX_PROTOCOL])
            self._output += self._tls.seal(self._select.start())
        else:
            self._select = MultistreamListener(YAMUX_PROTOCOL.__eq__)

    def _negotiate_muxer(self, plaintext: bytes) -> list[bytes]:
        assert self._select is not None
        progress = self._select.receive(plaintext)
        if progress.output:
            self._output += self._tls.seal(progress.output)
        self._check_agreed(progress, YAMUX_PROTOCOL)
        if progress.agreed is None:
            return []
        self.stage = Stage.OPEN
        self._select = None
        return [progress.rest] if progress.rest else []

    @staticmethod
    def _check_agreed(progress: Progress, wanted: str) -> None:
        if progress.refused:
            raise MultistreamViolation(f"the peer does not speak {wanted}")

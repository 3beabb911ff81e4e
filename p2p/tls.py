"""TLS 1.3 with mutual libp2p certificates over memory buffers: bytes in, bytes out, no sockets.

The standard library's server cannot ask for a client certificate without verifying it against
authorities, so OpenSSL is used through pyOpenSSL: its verify callback accepts every chain, and the
libp2p rules (`p2p.certificates`) are applied to what was presented before any byte is handed on.
Sessions are never resumed: a resumed session presents no certificate.
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from ledger.crypto import PrivateKey
from p2p.certificates import VALIDITY_S, make_certificate, unreadable, verify_certificates
from p2p.errors import CertificateRefused, TlsFailure
from p2p.keys import PublicKey

ALPN_YAMUX = b"/yamux/1.0.0"
ALPN_LIBP2P = b"libp2p"
ALPN_PROTOCOLS = [ALPN_YAMUX, ALPN_LIBP2P]

# AES-128-GCM costs the least with hardware support and is as strong as the P-256 and secp256k1
# keys; the others serve peers without it.
CIPHER_SUITES = b"TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384"

RECORD_BYTES = 16 * 1024
# Header, tag and content type of a TLS 1.3 record come to 22 bytes; room for handshake leftovers.
_RECORD_OVERHEAD_BYTES = 64
_OUTPUT_SPARE_BYTES = 4096


class TlsIdentity:
    """Our side of every handshake: a process-wide certificate key and a certificate kept fresh.

    `context(now_s)` makes a new certificate when the present one is past half its validity.
    """

    def __init__(self, identity: PrivateKey) -> None:
        self._identity = identity
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._context: SSL.Context | None = None
        self._renew_at_s = 0.0
        self._made_at_s = 0.0

    def context(self, now_s: float) -> SSL.Context:
        """The OpenSSL context to use at Unix time `now_s`."""
        if self._context is None or not self._made_at_s <= now_s < self._renew_at_s:
            serial = x509.random_serial_number()
            certificate = make_certificate(self._identity, self._key, now_s=now_s, serial=serial)
            self._context = make_context([certificate], self._key)
            self._made_at_s = now_s
            self._renew_at_s = now_s + VALIDITY_S / 2
        return self._context


def make_context(
    certificates: Sequence[x509.Certificate], key: ec.EllipticCurvePrivateKey
) -> SSL.Context:
    """A context that presents `certificates`. A libp2p peer presents exactly one."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_tls13_ciphersuites(CIPHER_SUITES)
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _accept_any)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_TICKET)
    context.set_alpn_protos(ALPN_PROTOCOLS)
    context.set_alpn_select_callback(_select_alpn)
    if certificates:
        context.use_certificate(certificates[0])
        context.use_privatekey(key)
        for extra in certificates[1:]:
            context.add_extra_chain_cert(extra)
    return context


def _accept_any(
    _connection: object, _certificate: object, _error: int, _depth: int, _ok: int
) -> bool:
    return True


def _select_alpn(_connection: SSL.Connection, offered: list[bytes]) -> bytes:
    for protocol in ALPN_PROTOCOLS:
        if protocol in offered:
            return protocol
    return b""  # Ends the handshake.


class TlsChannel:
    """One TLS connection. Feed `receive`, send what `take_output` gives.

    `peer_key` is None until the handshake is done and the peer's certificate is verified; no
    plaintext is handed out or taken before that. Raises TlsFailure and CertificateRefused; the
    alert that OpenSSL made for the peer is then still in `take_output`.
    """

    def __init__(self, context: SSL.Context, *, dialer: bool, expected_peer_id: str | None) -> None:
        self._dialer = dialer
        self._expected_peer_id = expected_peer_id
        self._connection = SSL.Connection(context, None)
        if dialer:
            self._connection.set_connect_state()
        else:
            self._connection.set_accept_state()
        self.peer_key: PublicKey | None = None
        self.closed_by_peer = False

    @property
    def alpn(self) -> bytes:
        """The negotiated application protocol; empty when the peer offered none."""
        return self._connection.get_alpn_proto_negotiated()

    def start(self) -> None:
        """Lets the dialer speak first."""
        self._step_handshake(0.0)

    def receive(self, data: bytes, now_s: float) -> list[bytes]:
        """Plaintext pieces in `data`; `now_s` is Unix time, for the certificate's dates."""
        connection = self._connection
        # The memory buffer takes everything: it grows, and is emptied below.
        connection.bio_write(data)
        if self.peer_key is None:
            self._step_handshake(now_s)
            if self.peer_key is None:
                return []
        pieces: list[bytes] = []
        receive = connection.recv
        try:
            while True:
                pieces.append(receive(RECORD_BYTES))
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self.closed_by_peer = True
        except SSL.Error as error:
            raise TlsFailure(_reason(error)) from error
        return pieces

    def seal(self, plaintext: bytes) -> bytes:
        """The records that carry `plaintext`, together with any output still waiting."""
        assert self.peer_key is not None
        send = self._connection.send
        size = len(plaintext)
        try:
            if size <= RECORD_BYTES:
                sent = send(plaintext)
            else:
                view = memoryview(plaintext)
                sent = 0
                while sent < size:
                    sent += send(view[sent : sent + RECORD_BYTES])
        except SSL.Error as error:
            raise TlsFailure(_reason(error)) from error
        assert sent == size
        overhead = (size // RECORD_BYTES + 1) * _RECORD_OVERHEAD_BYTES
        return self._drain(size + overhead + _OUTPUT_SPARE_BYTES)

    def take_output(self) -> bytes:
        """Handshake bytes, alerts and key updates to send; empty when there are none."""
        return self._drain(RECORD_BYTES)

    def close(self) -> bytes:
        """The close notification to send last."""
        if self.peer_key is not None:
            try:
                self._connection.shutdown()
            except SSL.Error:
                return b""
        return self.take_output()

    def _drain(self, size_bytes: int) -> bytes:
        output = b""
        while True:
            try:
                piece = self._connection.bio_read(size_bytes)
            except SSL.WantReadError:
                return output
            output = output + piece if output else piece
            if len(piece) < size_bytes:
                return output

    def _step_handshake(self, now_s: float) -> None:
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            return
        except SSL.Error as error:
            raise TlsFailure(_reason(error)) from error
        self.peer_key = verify_certificates(
            self._presented(), now_s=now_s, expected_peer_id=self._expected_peer_id
        )

    def _presented(self) -> list[x509.Certificate]:
        """What the peer presented. OpenSSL leaves the leaf out of the chain on the server side."""
        try:
            leaf = self._connection.get_peer_certificate(as_cryptography=True)
            chain = self._connection.get_peer_cert_chain(as_cryptography=True) or []
        except Exception as error:
            raise unreadable(error) from error
        if leaf is None:
            raise CertificateRefused("count", "no certificate")
        return chain if self._dialer else [leaf, *chain]


def _reason(error: SSL.Error) -> str:
    if isinstance(error, SSL.SysCallError):
        return "unexpected end"
    if error.args and isinstance(error.args[0], list) and error.args[0]:
        return str(error.args[0][0][-1])
    return type(error).__name__

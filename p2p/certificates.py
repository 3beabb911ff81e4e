"""The libp2p TLS certificate: made for ourselves, verified for others.

A certificate is self-signed by a throw-away key and carries the extension 1.3.6.1.4.1.53594.1.1,
    SignedKey ::= SEQUENCE { publicKey OCTET STRING, signature OCTET STRING }
where publicKey is the protobuf form of the node's identity key and signature is that key's over
"libp2p-tls-handshake:" and the certificate's SubjectPublicKeyInfo. That is the whole trust: names,
issuers and usage bits mean nothing. A certificate is refused unless it came alone, is within its
dates, signs itself, has no critical extension but this one, and the extension verifies.
Source: libp2p/specs tls/tls.md.
"""

from __future__ import annotations

import datetime as dt

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import NameOID

from ledger.crypto import PrivateKey
from p2p.errors import CertificateRefused, MalformedFrame, WrongPeer
from p2p.keys import PublicKey, decode_public_key, secp256k1_key, sign_message

EXTENSION_OID = x509.ObjectIdentifier("1.3.6.1.4.1.53594.1.1")
SIGNATURE_PREFIX = b"libp2p-tls-handshake:"

# Short validity limits what a leaked process key is worth; the host makes a new one at half time.
VALIDITY_S = 24 * 3600.0
# Peers' clocks may be behind ours by this much.
CLOCK_SKEW_S = 3600.0

# An RSA-8192 identity and certificate key fit with room to spare.
CERTIFICATE_MAX_BYTES = 16 * 1024

_OCTET_STRING = 0x04
_SEQUENCE = 0x30


def make_certificate(
    identity: PrivateKey, key: ec.EllipticCurvePrivateKey, *, now_s: float, serial: int
) -> x509.Certificate:
    """A certificate of `key` that proves `identity`, valid for a day around `now_s` (Unix time)."""
    spki = _spki(key.public_key())
    signed_key = _der(
        _SEQUENCE,
        _der(_OCTET_STRING, secp256k1_key(identity.public_key).encode())
        + _der(_OCTET_STRING, sign_message(identity, SIGNATURE_PREFIX + spki)),
    )
    name = x509.Name([x509.NameAttribute(NameOID.SERIAL_NUMBER, str(serial))])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(_utc(now_s - CLOCK_SKEW_S))
        .not_valid_after(_utc(now_s + VALIDITY_S))
        .add_extension(x509.UnrecognizedExtension(EXTENSION_OID, signed_key), critical=False)
        .sign(key, hashes.SHA256())
    )


def verify_certificates(
    certificates: list[x509.Certificate], *, now_s: float, expected_peer_id: str | None
) -> PublicKey:
    """The identity key proved by what a peer presented. Raises CertificateRefused or WrongPeer."""
    if len(certificates) != 1:
        raise CertificateRefused("count", f"{len(certificates)} certificates, need exactly one")
    key = verify_certificate(certificates[0], now_s=now_s)
    if expected_peer_id is not None and key.peer_id != expected_peer_id:
        raise WrongPeer(expected_peer_id, key.peer_id)
    return key


def verify_certificate(certificate: x509.Certificate, *, now_s: float) -> PublicKey:
    """The identity key proved by one certificate at `now_s`. Raises CertificateRefused."""
    try:
        return _verify(certificate, now_s)
    except CertificateRefused:
        raise
    except Exception as error:
        raise unreadable(error) from error


def parse_certificate(der: bytes) -> x509.Certificate:
    """A certificate from DER. Raises CertificateRefused."""
    if len(der) > CERTIFICATE_MAX_BYTES:
        raise CertificateRefused("size", f"{len(der)} bytes")
    try:
        return x509.load_der_x509_certificate(der)
    except Exception as error:
        raise unreadable(error) from error


def unreadable(error: Exception) -> CertificateRefused:
    """What is raised where the certificate library gives up.

    Its exceptions are many and change with its versions (ValueError, InvalidVersion,
    UnsupportedAlgorithm, DuplicateExtension, TypeError), so its callers here catch them all:
    whatever it finds wrong with a stranger's bytes is the stranger's fault and must not look like
    a bug of ours, which would stop the node.
    """
    return CertificateRefused("encoding", f"{type(error).__name__}: {error}")


def _verify(certificate: x509.Certificate, now_s: float) -> PublicKey:
    now = _utc(now_s)
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise CertificateRefused(
            "dates",
            f"valid {certificate.not_valid_before_utc} to {certificate.not_valid_after_utc}",
        )
    _verify_self_signature(certificate)
    content = _extension_content(certificate)
    try:
        encoded_key, signature = _parse_signed_key(content)
        key = decode_public_key(encoded_key)
    except MalformedFrame as error:
        raise CertificateRefused("extension-content", str(error)) from error
    if not key.verify(SIGNATURE_PREFIX + _spki(certificate.public_key()), signature):
        raise CertificateRefused("extension-signature", f"not by {key.peer_id}")
    return key


def _verify_self_signature(certificate: x509.Certificate) -> None:
    key = certificate.public_key()
    signature, signed = certificate.signature, certificate.tbs_certificate_bytes
    digest = certificate.signature_hash_algorithm
    if digest is not None and digest.digest_size < hashes.SHA256.digest_size:
        raise CertificateRefused("self-signature", f"digest {digest.name}")
    try:
        if isinstance(key, ec.EllipticCurvePublicKey) and digest is not None:
            key.verify(signature, signed, ec.ECDSA(digest))
        elif isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, signed)
        elif isinstance(key, rsa.RSAPublicKey) and digest is not None:
            scheme = certificate.signature_algorithm_parameters
            if not isinstance(scheme, padding.PSS | padding.PKCS1v15):
                raise CertificateRefused("self-signature", "unknown padding")
            key.verify(signature, signed, scheme, digest)
        else:
            raise CertificateRefused("self-signature", f"key type {type(key).__name__}")
    except InvalidSignature as error:
        raise CertificateRefused("self-signature", "does not verify") from error


def _extension_content(certificate: x509.Certificate) -> bytes:
    content: bytes | None = None
    for extension in certificate.extensions:
        if extension.oid == EXTENSION_OID:
            assert isinstance(extension.value, x509.UnrecognizedExtension)
            content = extension.value.value
        elif extension.critical and isinstance(extension.value, x509.UnrecognizedExtension):
            raise CertificateRefused("critical-extension", extension.oid.dotted_string)
    if content is None:
        raise CertificateRefused("extension", "missing")
    return content


def _parse_signed_key(content: bytes) -> tuple[bytes, bytes]:
    body, rest = _read_der(content, _SEQUENCE)
    encoded_key, tail = _read_der(body, _OCTET_STRING)
    signature, end = _read_der(tail, _OCTET_STRING)
    if rest or end:
        raise MalformedFrame("SignedKey", "trailing bytes")
    return encoded_key, signature


def _read_der(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """(content, rest) of the DER element at the start of `data`. Raises MalformedFrame."""
    if len(data) < 2 or data[0] != tag:
        raise MalformedFrame("SignedKey", f"needs an element with tag {tag:#x}")
    length, start = data[1], 2
    if length >= 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start], "big")
        if start - 2 not in (1, 2) or length < 0x80 or (start == 4 and length < 0x100):
            raise MalformedFrame("SignedKey", "length not in DER's form")
    if start + length > len(data):
        raise MalformedFrame("SignedKey", "truncated")
    return data[start : start + length], data[start + length :]


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    width = (size.bit_length() + 7) // 8
    return bytes((tag, 0x80 | width)) + size.to_bytes(width, "big") + content


def _spki(key: object) -> bytes:
    assert isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey)
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _utc(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(int(seconds), dt.UTC)

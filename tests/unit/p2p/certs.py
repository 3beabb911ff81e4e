"""Certificates with chosen faults, for tests of their verification and of the handshake."""

from __future__ import annotations

import datetime as dt

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ledger.crypto import PrivateKey
from p2p.certificates import EXTENSION_OID, SIGNATURE_PREFIX
from p2p.keys import secp256k1_key, sign_message

NOW_S = 1_800_000_000.0
DAY_S = 86_400.0


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def octets(tag: int, content: bytes) -> bytes:
    assert len(content) < 128
    return bytes((tag, len(content))) + content


def signed_key(
    identity: PrivateKey, key: ec.EllipticCurvePrivateKey, encoded: bytes = b""
) -> bytes:
    spki = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    encoded = encoded or secp256k1_key(identity.public_key).encode()
    signature = sign_message(identity, SIGNATURE_PREFIX + spki)
    content = octets(4, encoded) + octets(4, signature)
    return octets(0x30, content)


def certificate(
    identity: PrivateKey,
    key: ec.EllipticCurvePrivateKey,
    *,
    now_s: float = NOW_S,
    age_s: float = 60.0,
    life_s: float = DAY_S,
    extension: bytes | None = None,
    with_extension: bool = True,
    critical: bool = False,
    signer: ec.EllipticCurvePrivateKey | None = None,
    digest: hashes.SHA256 | hashes.SHA384 | None = None,
    more: x509.UnrecognizedExtension | None = None,
) -> x509.Certificate:
    """A libp2p certificate born `age_s` before `now_s`, with the faults asked for."""
    name = x509.Name([x509.NameAttribute(NameOID.SERIAL_NUMBER, "1")])
    born = dt.datetime.fromtimestamp(now_s - age_s, dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(born)
        .not_valid_after(born + dt.timedelta(seconds=life_s))
    )
    if with_extension:
        content = signed_key(identity, key) if extension is None else extension
        builder = builder.add_extension(
            x509.UnrecognizedExtension(EXTENSION_OID, content), critical=critical
        )
    if more is not None:
        builder = builder.add_extension(more, critical=True)
    return builder.sign(signer or key, digest or hashes.SHA256())

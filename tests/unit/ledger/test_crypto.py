"""Keys and signatures: against Wycheproof, and the one spelling of a signature."""

import json
from pathlib import Path

import pytest

from ledger.crypto import InvalidKey, PrivateKey, is_public_key, sha256, verify

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
VECTORS = Path(__file__).parents[2] / "vectors/wycheproof/ecdsa_secp256k1_sha256_p1363_test.json"


def wycheproof_cases() -> list[tuple[int, bytes, bytes, bytes, bool]]:
    cases = []
    for group in json.loads(VECTORS.read_text())["testGroups"]:
        point = bytes.fromhex(group["publicKey"]["uncompressed"])
        key = bytes([2 + (point[64] & 1)]) + point[1:33]
        for test in group["tests"]:
            signature = bytes.fromhex(test["sig"])
            low_s = int.from_bytes(signature[32:], "big") <= ORDER // 2
            cases.append(
                (
                    test["tcId"],
                    key,
                    bytes.fromhex(test["msg"]),
                    signature,
                    test["result"] == "valid" and low_s,
                )
            )
    return cases


def test_every_wycheproof_verdict_but_for_high_s() -> None:
    cases = wycheproof_cases()
    verdicts = {case: verify(key, sha256(message), sig) for case, key, message, sig, _ in cases}
    assert verdicts == {case: expected for case, *_, expected in cases}
    assert sum(verdicts.values()) == 95  # of 167 valid ones, those with low s
    assert len(verdicts) == 252


def test_the_other_spelling_of_a_good_signature_is_refused() -> None:
    key = PrivateKey(sha256(b"key"))
    digest = sha256(b"message")
    signature = key.sign(digest)
    s = int.from_bytes(signature[32:], "big")
    flipped = signature[:32] + (ORDER - s).to_bytes(32, "big")
    assert verify(key.public_key, digest, signature)
    assert not verify(key.public_key, digest, flipped)


def test_signing_is_deterministic_and_bound_to_digest_and_key() -> None:
    key, other = PrivateKey(sha256(b"key")), PrivateKey(sha256(b"other"))
    digest = sha256(b"message")
    assert key.sign(digest) == PrivateKey(key.secret).sign(digest)
    assert not verify(other.public_key, digest, key.sign(digest))
    assert not verify(key.public_key, sha256(b"another"), key.sign(digest))


@pytest.mark.parametrize("secret", [bytes(32), ORDER.to_bytes(32, "big"), b"\xff" * 32, b"x" * 31])
def test_secrets_outside_the_group_are_no_keys(secret: bytes) -> None:
    with pytest.raises(InvalidKey):
        PrivateKey(secret)


def test_largest_secret_is_a_key() -> None:
    digest = sha256(b"message")
    key = PrivateKey((ORDER - 1).to_bytes(32, "big"))
    assert verify(key.public_key, digest, key.sign(digest))


@pytest.mark.parametrize(
    "public_key",
    [
        b"",
        bytes(33),
        b"\x02" + b"\xff" * 32,
        b"\x04" + bytes(32),
        b"\x02" * 32,
        b"\x05" + b"1" * 32,
    ],
)
def test_bytes_off_the_curve_verify_nothing_and_raise_nothing(public_key: bytes) -> None:
    key = PrivateKey(sha256(b"key"))
    digest = sha256(b"message")
    assert not is_public_key(public_key)
    assert not verify(public_key, digest, key.sign(digest))


@pytest.mark.parametrize(
    ("digest", "signature"),
    [(bytes(31), bytes(64)), (bytes(32), bytes(63)), (bytes(32), bytes(65)), (bytes(32), b"")],
)
def test_wrong_lengths_are_no_signature(digest: bytes, signature: bytes) -> None:
    assert not verify(PrivateKey(sha256(b"key")).public_key, digest, signature)


def test_a_key_does_not_print_its_secret() -> None:
    key = PrivateKey(sha256(b"key"))
    assert key.secret.hex() not in repr(key)
    with pytest.raises(ValueError, match="32 bytes"):
        key.sign(b"short")

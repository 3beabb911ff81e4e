"""Commit certificates prove what they say, and nothing else passes for them."""

import msgspec
import pytest

from ledger.certificate import (
    VOTE_ACK,
    VOTE_COMMIT,
    VOTE_PREPARE,
    CommitCertificate,
    InvalidCertificate,
    Mode,
    Vote,
    decode_certificate,
    make_certificate,
    verify_certificate,
)
from ledger.crypto import sha256
from ledger.errors import MalformedData
from ledger.validators import Validator, ValidatorSet
from tests.kit.chain import CHAIN, GENESIS_HASH, address_of, key_of, make_validators

NAMES = ("val-0", "val-1", "val-2", "val-3")
VALIDATORS = make_validators(NAMES)
NAME_OF = {address_of(name): name for name in NAMES}
BLOCK_HASH = sha256(b"block")


def signed_by(
    indexes: list[int], *, mode: Mode = "pbft", vote: Vote | None = None
) -> CommitCertificate:
    kind = VOTE_COMMIT if mode == "pbft" else VOTE_ACK
    vote = vote or Vote(CHAIN.chain_id, mode, kind, 7, 1, BLOCK_HASH)
    signatures = {
        index: key_of(f"{NAME_OF[VALIDATORS[index].operator]} consensus").sign(
            vote.digest(GENESIS_HASH)
        )
        for index in indexes
    }
    return make_certificate(
        mode=mode,
        chain_id=CHAIN.chain_id,
        height=7,
        round=1,
        block_hash=BLOCK_HASH,
        validators=VALIDATORS,
        signatures=signatures,
    )


def verify(
    certificate: CommitCertificate,
    *,
    validators: ValidatorSet = VALIDATORS,
    genesis_hash: bytes = GENESIS_HASH,
    accept_crash_fault: bool = False,
) -> None:
    verify_certificate(
        certificate,
        genesis_hash=genesis_hash,
        chain_id=CHAIN.chain_id,
        validators=validators,
        accept_crash_fault=accept_crash_fault,
    )


def refused(certificate: CommitCertificate, **options: object) -> str:
    with pytest.raises(InvalidCertificate) as caught:
        verify(certificate, **options)  # type: ignore[arg-type]
    return caught.value.rule


@pytest.mark.parametrize("indexes", [[0, 1, 2], [1, 2, 3], [0, 1, 2, 3]])
def test_a_quorum_proves_the_block(indexes: list[int]) -> None:
    certificate = signed_by(indexes)
    verify(certificate)
    assert certificate.signers() == indexes
    assert decode_certificate(certificate.encode()) == certificate


def test_less_than_a_quorum_proves_nothing() -> None:
    assert refused(signed_by([0, 3])) == "power"
    assert refused(signed_by([])) == "power"


def test_every_signature_is_checked_even_beyond_the_quorum() -> None:
    good = signed_by([0, 1, 2, 3])
    for index in range(4):
        signatures = list(good.signatures)
        signatures[index] = signatures[index - 1]
        bad = msgspec.structs.replace(good, signatures=tuple(signatures))
        assert refused(bad) == "signature"


@pytest.mark.parametrize(
    "field",
    [
        {"height": 8},
        {"round": 2},
        {"block_hash": sha256(b"another")},
    ],
)
def test_what_the_votes_signed_cannot_be_changed(field: dict[str, object]) -> None:
    assert refused(msgspec.structs.replace(signed_by([0, 1, 2]), **field)) == "signature"


def test_prepares_do_not_pass_for_commits() -> None:
    vote = Vote(CHAIN.chain_id, "pbft", VOTE_PREPARE, 7, 1, BLOCK_HASH)
    assert refused(signed_by([0, 1, 2], vote=vote)) == "signature"


def test_another_network_or_chain() -> None:
    assert refused(signed_by([0, 1, 2]), genesis_hash=bytes(32)) == "signature"
    certificate = msgspec.structs.replace(signed_by([0, 1, 2]), chain_id="other")
    assert refused(certificate) == "chain"


def test_another_validator_set() -> None:
    others = make_validators(("a", "b", "c", "d"))
    assert refused(signed_by([0, 1, 2]), validators=others) == "validators"


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"bitmap": b""}, "bitmap"),
        ({"bitmap": b"\x07\x00"}, "bitmap"),
        ({"bitmap": b"\x17"}, "bitmap"),  # there is no validator 4
        ({"bitmap": b"\x0f"}, "signatures"),
        ({"bitmap": b"\x03"}, "signatures"),
    ],
)
def test_bitmap_and_signatures_belong_together(change: dict[str, bytes], rule: str) -> None:
    assert refused(msgspec.structs.replace(signed_by([0, 1, 2]), **change)) == rule


def test_power_counts_not_heads() -> None:
    heavy = ValidatorSet.make(
        [
            Validator(each.operator, each.consensus_key, each.node_key, 1 + 6 * (index == 0))
            for index, each in enumerate(VALIDATORS.validators)
        ]
    )
    light = msgspec.structs.replace(signed_by([1, 2, 3]), validators_hash=heavy.hash)
    assert refused(light, validators=heavy) == "power"
    verify(msgspec.structs.replace(signed_by([0]), validators_hash=heavy.hash), validators=heavy)


def test_a_raft_certificate_must_be_accepted_knowingly() -> None:
    certificate = signed_by([0, 1, 2], mode="raft")
    assert refused(certificate) == "mode"
    verify(certificate, accept_crash_fault=True)
    assert refused(signed_by([0, 1], mode="raft"), accept_crash_fault=True) == "power"


def test_acknowledgements_do_not_pass_for_commits() -> None:
    certificate = msgspec.structs.replace(signed_by([0, 1, 2], mode="raft"), mode="pbft")
    assert refused(certificate) == "signature"


def test_a_truncated_certificate_does_not_decode() -> None:
    raw = signed_by([0, 1, 2]).encode()
    for cut in range(len(raw)):
        with pytest.raises(MalformedData):
            decode_certificate(raw[:cut])


def test_votes_differ_in_every_field() -> None:
    vote = Vote(CHAIN.chain_id, "pbft", VOTE_COMMIT, 7, 1, BLOCK_HASH)
    variants = [
        {"chain_id": "other"},
        {"mode": "raft"},
        {"type": VOTE_PREPARE},
        {"height": 8},
        {"round": 2},
        {"block_hash": bytes(32)},
        {"prepared_round": 0},
        {"prepared_hash": BLOCK_HASH},
    ]
    assert [next(iter(each)) for each in variants] == list(vote.__struct_fields__)
    digests = {msgspec.structs.replace(vote, **each).digest(GENESIS_HASH) for each in variants}
    assert len(digests | {vote.digest(GENESIS_HASH)}) == len(variants) + 1

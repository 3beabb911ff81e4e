"""Whom the light client believes: certificates, chains, and changes of validators."""

from __future__ import annotations

import copy

import pytest

from ledger.block import decode_header
from ledger.crypto import sha256
from ledger.transactions import ChainIdentity
from rpc import light
from rpc.light import LightVerifier, TrustRoot
from rpc.light_errors import (
    CertificateRefused,
    ChangeRefused,
    MalformedAnswer,
    UnknownValidatorSet,
    WrongChain,
    WrongHeader,
)
from tests.kit.chain import CHAIN, GENESIS_HASH, make_validators
from tests.kit.rpc_asking import Asking
from tests.kit.rpc_bending import ADDRESS, PEER, drop, flipped, hexed, set_at, trusting
from tests.kit.rpc_node import RpcNode, certify

# ---- certificates --------------------------------------------------------------------------------


async def test_too_little_power_proves_nothing(node: RpcNode, ask: Asking) -> None:
    node.make_block(signers=[0, 1, 3])
    answer = await ask("account_get", address=PEER["alice"], proof=True)
    assert trusting(node).verify_account(answer, ADDRESS["alice"]).account is not None
    node.make_block(signers=[0, 3])
    answer = await ask("account_get", address=PEER["alice"], proof=True)
    with pytest.raises(CertificateRefused) as refused:
        trusting(node).verify_account(answer, ADDRESS["alice"])
    assert refused.value.rule == "power"


async def test_one_signature_does_not_count_twice(node: RpcNode, ask: Asking) -> None:
    header = node.make_block()
    answer = await ask("account_get", address=PEER["alice"], proof=True)
    certificate = certify(header, node.validators)
    first = certificate.signatures[0]
    doubled = type(certificate)(
        certificate.mode,
        certificate.chain_id,
        certificate.height,
        certificate.round,
        certificate.block_hash,
        certificate.validators_hash,
        certificate.bitmap,
        (first,) * 4,
    )
    answer["proof"]["anchor"]["certificate"] = hexed(doubled.encode())
    with pytest.raises(CertificateRefused) as refused:
        trusting(node).verify_account(answer, ADDRESS["alice"])
    assert refused.value.rule == "signature"


async def test_a_certificate_of_another_chain_or_block(node: RpcNode, ask: Asking) -> None:
    header = node.make_block()
    answer = await ask("account_get", address=PEER["alice"], proof=True)
    foreign = certify(header, node.validators, genesis_hash=sha256(b"another"))
    bent = copy.deepcopy(answer)
    bent["proof"]["anchor"]["certificate"] = hexed(foreign.encode())
    with pytest.raises(CertificateRefused) as refused:
        trusting(node).verify_account(bent, ADDRESS["alice"])
    assert refused.value.rule == "signature"
    later = node.make_block()
    bent["proof"]["anchor"]["certificate"] = hexed(certify(later, node.validators).encode())
    with pytest.raises(WrongHeader):
        trusting(node).verify_account(bent, ADDRESS["alice"])


async def test_another_chain_is_not_ours(node: RpcNode, ask: Asking) -> None:
    node.make_block()
    answer = await ask("account_get", address=PEER["alice"], proof=True)
    named = LightVerifier(TrustRoot(ChainIdentity("other", GENESIS_HASH), node.validators))
    with pytest.raises(WrongChain):
        named.verify_account(answer, ADDRESS["alice"])
    hashed = LightVerifier(
        TrustRoot(ChainIdentity(CHAIN.chain_id, sha256(b"other")), node.validators)
    )
    with pytest.raises(CertificateRefused):
        hashed.verify_account(answer, ADDRESS["alice"])
    strangers = make_validators(("val-4", "val-5", "val-6", "val-7"))
    with pytest.raises(UnknownValidatorSet):
        LightVerifier(TrustRoot(CHAIN, strangers)).verify_account(answer, ADDRESS["alice"])


async def test_a_forged_chain_by_other_validators(node: RpcNode, ask: Asking) -> None:
    """Everything is consistent, but the wrong people signed."""
    header = node.make_block()
    answer = await ask("account_get", address=PEER["alice"], proof=True)
    strangers = make_validators(("val-4", "val-5", "val-6", "val-7"))
    fields = {name: getattr(header, name) for name in header.__struct_fields__}
    fields["validators_hash"] = strangers.hash
    forged = type(header)(**fields)
    answer["proof"]["anchor"] = {
        "header": hexed(forged.encode()),
        "certificate": hexed(certify(forged, strangers).encode()),
    }
    with pytest.raises(UnknownValidatorSet):
        trusting(node).verify_account(answer, ADDRESS["alice"])


async def test_a_raft_certificate_must_be_accepted_explicitly(node: RpcNode, ask: Asking) -> None:
    header = node.make_block()
    answer = await ask("account_get", address=PEER["alice"], proof=True)
    certificate = certify(header, node.validators)
    claimed = type(certificate)(
        "raft", *[getattr(certificate, name) for name in certificate.__struct_fields__[1:]]
    )
    answer["proof"]["anchor"]["certificate"] = hexed(claimed.encode())
    with pytest.raises(CertificateRefused) as refused:
        trusting(node).verify_account(answer, ADDRESS["alice"])
    assert refused.value.rule == "mode"
    # Accepted in principle, but these signatures are over a PBFT vote.
    accepting = LightVerifier(TrustRoot(CHAIN, node.validators), accept_crash_fault=True)
    with pytest.raises(CertificateRefused) as refused:
        accepting.verify_account(answer, ADDRESS["alice"])
    assert refused.value.rule == "signature"


# ---- changes of validators -----------------------------------------------------------------------

SETS = [
    make_validators(names)
    for names in (
        ("val-0", "val-1", "val-2", "val-3", "val-4"),
        ("val-1", "val-2", "val-3", "val-4", "val-5"),
        ("val-2", "val-4", "val-5", "val-6", "val-7"),
    )
]


def changing(node: RpcNode) -> None:
    """Blocks 1…9; the set changes with 2, 5 and 8."""
    for height in range(1, 10):
        change = {2: SETS[0], 5: SETS[1], 8: SETS[2]}.get(height)
        node.make_block(next_validators=change)


async def test_changes_are_followed_to_the_present_set(node: RpcNode, ask: Asking) -> None:
    changing(node)
    verifier = trusting(node)
    answer = await ask("account_get", address=PEER["alice"], proof=True)
    with pytest.raises(UnknownValidatorSet) as unknown:
        verifier.verify_account(answer, ADDRESS["alice"])
    assert unknown.value.followed_height == 0
    page = await ask("validator_listChanges")
    assert [item["height"] for item in page["items"]] == [2, 5, 8]
    for item in page["items"]:
        verifier.follow(item)
    assert verifier.followed_height == 8
    proven = verifier.verify_account(answer, ADDRESS["alice"])
    assert proven.account == node.account("alice")
    # Headers of earlier sets are still checked against the set of their height.
    for height in range(1, 10):
        commit = await ask("chain_getCommit", block=height)
        assert verifier.verify_anchor(commit["anchor"]).height == height


async def test_changes_are_paged(node: RpcNode, ask: Asking) -> None:
    changing(node)
    first = await ask("validator_listChanges", limit=2)
    assert first["nextAfterHeight"] == 5
    rest = await ask("validator_listChanges", afterHeight=5, limit=2)
    assert [item["height"] for item in rest["items"]] == [8]
    assert rest["nextAfterHeight"] is None


async def test_changes_out_of_order_or_bent(node: RpcNode, ask: Asking) -> None:
    changing(node)
    first, second, third = (await ask("validator_listChanges"))["items"]
    verifier = trusting(node)
    with pytest.raises(UnknownValidatorSet):
        verifier.follow(second)
    for bend, error in (
        (set_at("validators", hexed(SETS[1].encode())), ChangeRefused),
        (set_at("validators", hexed(SETS[0].encode()) + "00"), MalformedAnswer),
        (set_at("validators", flipped), MalformedAnswer),
        (set_at("height", 3), WrongHeader),
        (set_at("height", True), MalformedAnswer),
        (set_at("anchor", third["anchor"]), UnknownValidatorSet),
        (drop("anchor"), MalformedAnswer),
    ):
        bent = copy.deepcopy(first)
        bend(bent)
        with pytest.raises(error):
            verifier.follow(bent)
        assert verifier.followed_height == 0
    verifier.follow(first)
    with pytest.raises(ChangeRefused):
        verifier.follow(first)
    with pytest.raises(UnknownValidatorSet):
        verifier.follow(third)
    verifier.follow(second)
    verifier.follow(third)


async def test_a_header_that_changes_nothing_is_no_change(node: RpcNode, ask: Asking) -> None:
    node.make_block()
    commit = await ask("chain_getCommit", block=1)
    item = {"height": 1, "anchor": commit["anchor"], "validators": hexed(node.validators.encode())}
    with pytest.raises(ChangeRefused):
        trusting(node).follow(item)


async def test_a_set_that_has_left_certifies_nothing_later(node: RpcNode, ask: Asking) -> None:
    changing(node)
    verifier = trusting(node)
    for item in (await ask("validator_listChanges"))["items"]:
        verifier.follow(item)
    # The first validators sign another block 9 that still names their set.
    answer = await ask("account_get", address=PEER["alice"], proof=True)
    real = decode_header(bytes.fromhex(answer["proof"]["anchor"]["header"][2:]))
    fields = {name: getattr(real, name) for name in real.__struct_fields__}
    fields["validators_hash"] = node.validators.hash
    forged = type(real)(**fields)
    answer["proof"]["anchor"] = {
        "header": hexed(forged.encode()),
        "certificate": hexed(certify(forged, node.validators).encode()),
    }
    with pytest.raises(UnknownValidatorSet):
        verifier.verify_account(answer, ADDRESS["alice"])


async def test_memory_is_bounded(
    node: RpcNode, ask: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(light, "SETS_COUNT", 2)
    monkeypatch.setattr(light, "ANCHORS_COUNT", 2)
    changing(node)
    verifier = trusting(node)
    for item in (await ask("validator_listChanges"))["items"]:
        verifier.follow(item)
    assert len(verifier._sets) == 2
    assert len(verifier._anchors) == 2
    commit = await ask("chain_getCommit", block=1)
    with pytest.raises(UnknownValidatorSet):
        verifier.verify_anchor(commit["anchor"])

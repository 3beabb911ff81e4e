"""The light client against the node's real answers, and against every way of bending them."""

from __future__ import annotations

import copy
import random
from typing import Any

import orjson
import pytest

from ledger.block import decode_header
from ledger.certificate import decode_certificate
from ledger.codec import encode
from ledger.state_tree import StateTree
from rpc.light_errors import (
    CertificateRefused,
    ContradictedAnswer,
    LightError,
    MalformedAnswer,
    ProofRefused,
    StaleScores,
    WrongHeader,
)
from tests.kit.rpc_asking import Asking
from tests.kit.rpc_bending import ADDRESS, NAMES, PEER, Bend, drop, flipped, hexed, set_at, trusting
from tests.kit.rpc_node import RpcNode, ascending, certify, score


async def scored(node: RpcNode, ask: Asking, **kwargs: Any) -> dict[str, Any]:
    """The answer to reputation_get after an epoch in which alice and bob got scores."""
    node.make_block(node.transfer("alice", "bob", 1))
    node.score_block(0, ascending(score("alice", 0, 1), score("bob", 0, 2, trust=77)))
    node.make_block()
    answer: dict[str, Any] = await ask("reputation_get", proof=True, **kwargs)
    return answer


# ---- what is true is believed --------------------------------------------------------------------


async def test_accounts_are_proven_present_and_absent(node: RpcNode, ask: Asking) -> None:
    node.make_block(node.transfer("alice", "bob", 1))
    verifier = trusting(node)
    for name in NAMES:
        answer = await ask("account_get", address=PEER[name], proof=True)
        proven = verifier.verify_account(answer, ADDRESS[name])
        assert proven.header.height == 1
        if name == "nobody":
            assert proven.account is None
        else:
            assert proven.account == node.account(name)


async def test_scores_are_proven_and_newcomers_are_proven_to_be_new(
    node: RpcNode, ask: Asking
) -> None:
    verifier = trusting(node)
    answer = await scored(node, ask, subject=[PEER[name] for name in NAMES])
    proven = verifier.verify_scores(answer, [ADDRESS[name] for name in NAMES])
    assert [each.score for each in proven[:2]] == [
        score("alice", 0, 1),
        score("bob", 0, 2, trust=77),
    ]
    assert [each.score for each in proven[2:]] == [None, None]
    assert all(each.epoch == 0 and each.header.height == 3 for each in proven)
    one = await ask("reputation_get", subject=PEER["bob"], proof=True)
    assert verifier.verify_score(one, ADDRESS["bob"]).score == score("bob", 0, 2, trust=77)


async def test_before_the_first_epoch_newness_is_proven_too(node: RpcNode, ask: Asking) -> None:
    node.make_block()
    answer = await ask("reputation_get", subject=PEER["alice"], proof=True)
    proven = trusting(node).verify_score(answer, ADDRESS["alice"])
    assert (proven.epoch, proven.score) == (None, None)


async def test_transactions_are_proven_with_their_receipts(node: RpcNode, ask: Asking) -> None:
    signed = [node.transfer("alice", "bob", 1 + n, nonce=n) for n in range(5)]
    signed.append(node.transfer("carol", "bob", 2**52))
    node.make_block(*signed)
    verifier = trusting(node)
    for each in signed:
        answer = await ask("tx_getProof", hash=hexed(each.transaction_id))
        proven = verifier.verify_transaction(answer, each.transaction_id)
        assert proven.signed.raw == each.raw
        assert proven.receipt.ok is (each is not signed[-1])


# ---- what is bent is refused, and the broken link is named ---------------------------------------


@pytest.mark.parametrize(
    ("bend", "error", "link"),
    [
        (set_at("proof.anchor.header", flipped), WrongHeader, None),
        (set_at("proof.anchor.header", "0x00"), MalformedAnswer, "anchor.header"),
        (set_at("proof.anchor.header", "00"), MalformedAnswer, "header"),
        (set_at("proof.anchor.header", None), MalformedAnswer, "header"),
        (set_at("proof.anchor.header", lambda text: text + "00"), MalformedAnswer, "anchor.header"),
        (set_at("proof.anchor.certificate", flipped), CertificateRefused, "signature"),
        (set_at("proof.anchor.certificate", "0x"), MalformedAnswer, "anchor.certificate"),
        (set_at("proof.anchor", []), MalformedAnswer, "anchor"),
        (drop("proof.anchor"), MalformedAnswer, "anchor"),
        (drop("proof"), MalformedAnswer, "proof"),
        (set_at("proof.epochState.value", flipped), ProofRefused, "epochState"),
        (set_at("proof.epochState.value", None), ProofRefused, "epochState"),
        (set_at("proof.epochState.proof", flipped), ProofRefused, "epochState"),
        (set_at("proof.commitment.value", flipped), ProofRefused, "commitment"),
        (set_at("proof.commitment.value", None), ProofRefused, "commitment"),
        (set_at("proof.commitment.proof", flipped), ProofRefused, "commitment"),
        (set_at("proof.commitment", None), MalformedAnswer, "commitment"),
        (set_at("scoreProof", flipped), ProofRefused, "score"),
        (set_at("scoreProof", "0x9290"), MalformedAnswer, "scoreProof"),
        (set_at("scoreProof", "0x919000"), MalformedAnswer, "scoreProof"),
        (set_at("scoreProof", "0x9190"), ProofRefused, "score"),
        (set_at("scoreProof", None), MalformedAnswer, "scoreProof"),
        (set_at("trust", "1"), ContradictedAnswer, "trust"),
        (set_at("trust", 2**30), ContradictedAnswer, "trust"),
        (set_at("rank", 2), ContradictedAnswer, "rank"),
        (set_at("rank", 1.0), ContradictedAnswer, "rank"),
        (set_at("newcomer", 0), ContradictedAnswer, "newcomer"),
        (set_at("subject", PEER["bob"]), ContradictedAnswer, "subject"),
        (set_at("flags", ["seed"]), ContradictedAnswer, "flags"),
        (drop("standing"), MalformedAnswer, "standing"),
        (set_at("height", 2), ContradictedAnswer, "height"),
        (set_at("epoch", 1), StaleScores, None),
        (set_at("epoch", None), StaleScores, None),
        (set_at("epoch", "0"), StaleScores, None),
        (set_at("epoch", 0.0), ContradictedAnswer, "epoch"),
    ],
)
async def test_a_bent_score(
    node: RpcNode, ask: Asking, bend: Bend, error: type[LightError], link: str | None
) -> None:
    answer = await scored(node, ask, subject=PEER["alice"])
    verifier = trusting(node)
    assert verifier.verify_score(copy.deepcopy(answer), ADDRESS["alice"]).score is not None
    bend(answer)
    # A verifier that has not seen the good anchor, and one that has.
    for each in (trusting(node), verifier):
        with pytest.raises(error) as refused:
            each.verify_score(answer, ADDRESS["alice"])
        assert type(refused.value) is error
        names = (getattr(refused.value, name, None) for name in ("member", "link", "rule"))
        assert link is None or link in names


@pytest.mark.parametrize(
    ("bend", "error"),
    [
        (set_at("balance", "1"), ContradictedAnswer),
        (set_at("nonce", 9), ContradictedAnswer),
        (set_at("exists", False), ContradictedAnswer),
        (set_at("isRegistered", True), ContradictedAnswer),
        (set_at("proof.account.value", None), ProofRefused),
        (set_at("proof.account.value", flipped), ProofRefused),
        (set_at("proof.account.proof", flipped), ProofRefused),
        (set_at("proof.account.proof", "0x92"), MalformedAnswer),
        (drop("proof.account"), MalformedAnswer),
    ],
)
async def test_a_bent_account(
    node: RpcNode, ask: Asking, bend: Bend, error: type[LightError]
) -> None:
    node.make_block()
    answer = await ask("account_get", address=PEER["alice"], proof=True)
    bend(answer)
    with pytest.raises(error):
        trusting(node).verify_account(answer, ADDRESS["alice"])


async def test_another_accounts_proof(node: RpcNode, ask: Asking) -> None:
    node.make_block()
    answer = await ask("account_get", address=PEER["bob"], proof=True)
    with pytest.raises(ProofRefused):
        trusting(node).verify_account(answer, ADDRESS["alice"])


@pytest.mark.parametrize(
    ("bend", "error"),
    [
        (set_at("raw", flipped), ProofRefused),
        (set_at("raw", lambda raw: flipped(raw, 0)), MalformedAnswer),
        (set_at("transaction.leaf", flipped), ProofRefused),
        (set_at("transaction.path", []), ProofRefused),
        (set_at("transaction.path", ["0x00"] * 54), MalformedAnswer),
        (set_at("transaction.index", 0), ProofRefused),
        (set_at("transaction.index", -1), MalformedAnswer),
        (set_at("receipt.leaf", flipped), ProofRefused),
        (set_at("receipt.index", 0), ProofRefused),
        (set_at("height", 2), ContradictedAnswer),
        (set_at("hash", "0x" + "00" * 32), ContradictedAnswer),
        (drop("receipt"), MalformedAnswer),
    ],
)
async def test_a_bent_transaction(
    node: RpcNode, ask: Asking, bend: Bend, error: type[LightError]
) -> None:
    signed = [node.transfer("alice", "bob", 1, nonce=n) for n in range(3)]
    node.make_block(*signed)
    answer = await ask("tx_getProof", hash=hexed(signed[1].transaction_id))
    bend(answer)
    with pytest.raises(error):
        trusting(node).verify_transaction(answer, signed[1].transaction_id)


async def test_another_transactions_proof_or_receipt(node: RpcNode, ask: Asking) -> None:
    signed = [node.transfer("alice", "bob", 1, nonce=n) for n in range(2)]
    node.make_block(*signed)
    first, second = [await ask("tx_getProof", hash=hexed(each.transaction_id)) for each in signed]
    with pytest.raises(ProofRefused):
        trusting(node).verify_transaction(second, signed[0].transaction_id)
    with pytest.raises(ProofRefused):
        trusting(node).verify_transaction(
            {**first, "receipt": second["receipt"]}, signed[0].transaction_id
        )


async def test_no_changed_byte_is_believed(node: RpcNode, ask: Asking) -> None:
    """Any byte of the whole answer, as text: refused, or nothing of what was proven changes."""
    await scored(node, ask, subject=PEER["alice"])
    text = await ask.text("reputation_get", subject=PEER["alice"], proof=True)
    good = trusting(node).verify_score(orjson.loads(text)["result"], ADDRESS["alice"])
    verifier = trusting(node)
    start = text.index(b'"result"') + len(b'"result":')
    chosen = random.Random(7).sample(range(start, len(text) - len(b',"id":1}')), 1_500)
    believed = 0
    for place in chosen:
        bent = bytearray(text)
        bent[place] ^= 1
        try:
            answer = orjson.loads(bytes(bent))["result"]
            proven = verifier.verify_score(answer, ADDRESS["alice"])
        except (orjson.JSONDecodeError, LightError):
            continue
        assert proven == good
        believed += 1
    assert believed == 0


# ---- scores that are true, but not the present ones ----------------------------------------------


async def test_scores_of_an_earlier_epoch_do_not_pass_for_the_last(
    node: RpcNode, ask: Asking
) -> None:
    old = await scored(node, ask, subject=PEER["alice"])
    node.score_block(1, ascending(score("alice", 1, 2), score("bob", 1, 1)))
    new = await ask("reputation_get", subject=PEER["alice"], proof=True)
    verifier = trusting(node)
    # Not contradicted: it was true at its height, which the caller sees.
    assert verifier.verify_score(old, ADDRESS["alice"]).header.height == 3
    # The old epoch still stands in the new state, but the epoch state says that it is not the last.
    keys = [b"cepoch", b"s" + (0).to_bytes(8, "big")]
    proofs = [hexed(encode(proof)) for proof in node.prove(keys)]
    value = node.store.get(keys[1])
    assert value is not None
    mixed = copy.deepcopy(old)
    mixed["height"] = new["height"]
    mixed["proof"] = {
        "anchor": new["proof"]["anchor"],
        "epochState": new["proof"]["epochState"],
        "commitment": {"value": hexed(value), "proof": proofs[1]},
    }
    with pytest.raises(StaleScores) as stale:
        verifier.verify_score(mixed, ADDRESS["alice"])
    assert (stale.value.epoch, stale.value.last_scored) == (0, 1)
    # Said to be the new epoch, the commitment is not at the new epoch's place.
    mixed["epoch"] = 1
    with pytest.raises(ProofRefused) as refused:
        verifier.verify_score(mixed, ADDRESS["alice"])
    assert refused.value.link == "commitment"


async def test_absence_cannot_be_shown_for_one_who_has_a_score(node: RpcNode, ask: Asking) -> None:
    answer = await scored(node, ask, subject=PEER["alice"])
    for other in ("bob", "carol", "nobody"):
        stolen = (await ask("reputation_get", subject=PEER[other], proof=True))["scoreProof"]
        bent = {**answer, "scoreProof": stolen}
        with pytest.raises(ProofRefused):
            trusting(node).verify_score(bent, ADDRESS["alice"])


async def test_lists_of_scores_must_be_complete_and_in_order(node: RpcNode, ask: Asking) -> None:
    answer = await scored(node, ask, subject=[PEER["alice"], PEER["bob"]])
    wanted = [ADDRESS["alice"], ADDRESS["bob"]]
    lists: list[Any] = [[], answer["items"][:1], answer["items"] * 2, None, {}]
    for items in lists:
        with pytest.raises(MalformedAnswer):
            trusting(node).verify_scores({**answer, "items": items}, wanted)
    with pytest.raises(ProofRefused):
        trusting(node).verify_scores({**answer, "items": answer["items"][::-1]}, wanted)
    with pytest.raises(MalformedAnswer):
        trusting(node).verify_scores({**answer, "items": [1, 2]}, wanted)


def test_the_certificates_of_the_kit_are_canonical(node: RpcNode) -> None:
    header = node.make_block()
    raw = node.certificate(1)
    assert raw is not None
    assert decode_certificate(raw) == certify(header, node.validators)


async def test_claims_before_the_first_epoch(node: RpcNode, ask: Asking) -> None:
    node.make_block()
    answer = await ask("reputation_get", subject=PEER["alice"], proof=True)
    for bend, error in (
        (set_at("scoreProof", "0x9190"), ProofRefused),
        (set_at("proof.commitment", {"value": "0x00", "proof": "0x00"}), ProofRefused),
        (set_at("epoch", 0), StaleScores),
        (set_at("newcomer", False), ContradictedAnswer),
    ):
        bent = copy.deepcopy(answer)
        bend(bent)
        with pytest.raises(error):
            trusting(node).verify_score(bent, ADDRESS["alice"])


async def test_state_that_is_certified_but_cannot_be_read(node: RpcNode) -> None:
    """Even a quorum that certifies nonsense gets an error of ours, not a crash."""
    node.make_block()
    header = decode_header(node.header(1) or b"")
    fields = {name: getattr(header, name) for name in header.__struct_fields__}
    for key in (b"cepoch", b"a" + ADDRESS["alice"]):
        for nonsense in (b"", b"\xff", b"\x93\x01"):
            tree = StateTree()
            tree.apply(tree.update({key: nonsense}))
            forged = type(header)(**{**fields, "state_root": tree.root})
            given = {"value": hexed(nonsense), "proof": hexed(encode(tree.prove(key)))}
            anchor = {
                "header": hexed(forged.encode()),
                "certificate": hexed(certify(forged, node.validators).encode()),
            }
            proof = {"anchor": anchor, "epochState": given, "account": given}
            answer = {"epoch": None, "height": 1, "proof": proof}
            verifier = trusting(node)
            check = verifier.verify_score if key == b"cepoch" else verifier.verify_account
            with pytest.raises(MalformedAnswer):
                check(answer, ADDRESS["alice"])

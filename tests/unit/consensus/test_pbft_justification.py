"""What a message must prove: a good one, changed in one place, is refused by the rule it breaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from consensus.errors import InvalidMessage
from consensus.pbft.engine import PbftEngine
from consensus.pbft.messages import (
    NO_HASH,
    NO_ROUND,
    Claim,
    Decided,
    Prepare,
    PreparedCertificate,
    PrePrepare,
    ViewChange,
)
from ledger.certificate import CommitCertificate
from tests.kit.engines import Cluster, Letter

HIGHEST = 2


def replaced(message: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(message, **changes)


class Material:
    """A prepared block in round 0, and the proposal of it in round 1 by v2 of four."""

    def __init__(self) -> None:
        self.cluster = Cluster([1, 1, 1, 1], PbftEngine)
        self.sent: list[Letter] = []
        self.cluster.on_posted = self.sent.append
        self.cluster.start()
        self.cluster.set_work(range(4), waiting=True)
        self.deliver("PrePrepare")
        self.deliver("Prepare")
        self.cluster.flying.clear()
        for host in self.cluster.up():
            host.fire(host.engine._core.h.round_timer)
        self.view_change: ViewChange = self.last("ViewChange")
        self.deliver("ViewChange")
        self.proposal: PrePrepare = self.last("PrePrepare")
        # v0 of this cluster is at height 1, round 1, with nothing accepted.
        self.judge = self.cluster.host(0).engine
        self.certificate = self.decide()

    def deliver(self, kind: str) -> None:
        flying, self.cluster.flying = self.cluster.flying, []
        for letter in flying:
            if type(letter.message).__name__ == kind:
                self.cluster.deliver(letter)
            else:
                self.cluster.flying.append(letter)

    def last(self, kind: str) -> Any:
        return [each.message for each in self.sent if type(each.message).__name__ == kind][-1]

    def decide(self) -> CommitCertificate:
        """A certificate of height 1 from a cluster of the same validators."""
        other = Cluster([1, 1, 1, 1], PbftEngine)
        other.start()
        other.set_work(range(4), waiting=True)
        other.deliver_all()
        return other.disks[0].chain[0][1]


@pytest.fixture(scope="module")
def material() -> Material:
    return Material()


def refusal(material: Material, message: Any) -> str:
    with pytest.raises(InvalidMessage) as caught:
        material.judge.signatures_of(message)
    return caught.value.rule


def test_the_good_ones_pass(material: Material) -> None:
    proposal = material.proposal
    assert proposal.round == 1
    assert proposal.prepared is not None
    signatures = material.judge.signatures_of(proposal)
    # Its own, those of the certificate, and one of each VIEW-CHANGE.
    assert len(signatures) == 1 + len(proposal.prepared.signatures) + len(proposal.claims)
    change = material.view_change
    assert change.prepared is not None
    assert len(material.judge.signatures_of(change)) == 1 + len(change.prepared.signatures)
    decided = Decided(1, 1, material.certificate)
    assert len(material.judge.signatures_of(decided)) == len(material.certificate.signatures)


def claims(change: Callable[[Claim], Claim]) -> Callable[[PrePrepare], PrePrepare]:
    return lambda message: replaced(message, claims=tuple(map(change, message.claims)))


def certificate(**changes: Any) -> Callable[[Any], Any]:
    return lambda message: replaced(message, prepared=replaced(message.prepared, **changes))


OTHER = b"\7" * 32

BROKEN_PROPOSALS: list[tuple[str, str, Callable[[PrePrepare], PrePrepare]]] = [
    ("another leader's round", "leader", lambda each: replaced(each, round=2)),
    ("another validator", "leader", lambda each: replaced(each, validator=3)),
    ("no VIEW-CHANGEs", "justification", lambda each: replaced(each, claims=())),
    ("too few of them", "justification", lambda each: replaced(each, claims=each.claims[:2])),
    (
        "one of them twice",
        "claim",
        lambda each: replaced(each, claims=(each.claims[0], *each.claims)),
    ),
    (
        "one of a stranger",
        "claim",
        lambda each: replaced(each, claims=(*each.claims, replaced(each.claims[0], validator=4))),
    ),
    ("out of order", "claim", lambda each: replaced(each, claims=each.claims[::-1])),
    ("a claim of this round", "claim", claims(lambda each: replaced(each, prepared_round=1))),
    ("a claim of no round", "claim", claims(lambda each: replaced(each, prepared_round=-2))),
    (
        "a round without a block",
        "claim",
        claims(lambda each: replaced(each, prepared_hash=NO_HASH)),
    ),
    (
        "a block without a round",
        "claim",
        claims(lambda each: replaced(each, prepared_round=NO_ROUND)),
    ),
    (
        "two blocks in one round",
        "claim",
        lambda each: replaced(
            each, claims=(replaced(each.claims[0], prepared_hash=OTHER), *each.claims[1:])
        ),
    ),
    ("no certificate", "prepared", lambda each: replaced(each, prepared=None)),
    ("a certificate of another block", "prepared", certificate(block_hash=OTHER)),
    ("a certificate of another round", "prepared", certificate(round=3)),
    ("another block", "choice", lambda each: replaced(each, block_hash=OTHER)),
    (
        "a certificate that nothing claims",
        "prepared",
        claims(lambda each: replaced(each, prepared_round=NO_ROUND, prepared_hash=NO_HASH)),
    ),
    ("a bitmap of another size", "bitmap", certificate(bitmap=b"\x0f\x00")),
    ("a signer who is no validator", "bitmap", certificate(bitmap=b"\x1f")),
    ("more signers than signatures", "bitmap", certificate(bitmap=b"\x0f", signatures=())),
    (
        "a certificate of two",
        "certificate",
        certificate(bitmap=b"\x03", signatures=(bytes(64), bytes(64))),
    ),
    (
        "in round 0, a justification",
        "justification",
        lambda each: replaced(each, round=0, validator=1),
    ),
]


@pytest.mark.parametrize(
    ("rule", "broken"),
    [each[1:] for each in BROKEN_PROPOSALS],
    ids=[each[0] for each in BROKEN_PROPOSALS],
)
def test_a_proposal_that_does_not_follow_is_refused(
    material: Material, rule: str, broken: Callable[[PrePrepare], PrePrepare]
) -> None:
    assert refusal(material, broken(material.proposal)) == rule


BROKEN_CHANGES: list[tuple[str, str, Callable[[ViewChange], ViewChange]]] = [
    ("to round 0", "round", lambda each: replaced(each, round=0)),
    ("claims this round", "claim", lambda each: replaced(each, prepared_round=1)),
    ("claims without certificate", "prepared", lambda each: replaced(each, prepared=None)),
    (
        "certificate without claim",
        "prepared",
        lambda each: replaced(each, prepared_round=NO_ROUND, prepared_hash=NO_HASH),
    ),
    ("certificate of another block", "prepared", certificate(block_hash=OTHER)),
]


@pytest.mark.parametrize(
    ("rule", "broken"),
    [each[1:] for each in BROKEN_CHANGES],
    ids=[each[0] for each in BROKEN_CHANGES],
)
def test_a_view_change_that_does_not_prove_its_claim_is_refused(
    material: Material, rule: str, broken: Callable[[ViewChange], ViewChange]
) -> None:
    assert refusal(material, broken(material.view_change)) == rule


def test_certificates_of_other_things_are_refused(material: Material) -> None:
    good = material.certificate
    for broken in (
        replaced(good, chain_id="other"),
        replaced(good, mode="raft"),
        replaced(good, validators_hash=OTHER),
    ):
        assert refusal(material, Decided(1, 1, broken)) == "certificate"
    assert refusal(material, Decided(2, 1, good)) == "height"
    ahead = replaced(material.view_change, height=2, last_commit=replaced(good, height=5))
    assert refusal(material, ahead) == "height"


def test_a_certificate_is_checked_under_the_votes_it_is_made_of(material: Material) -> None:
    """A prepared certificate's digests are those of PREPAREs: COMMITs cannot stand in for them."""
    change = material.view_change
    assert isinstance(change.prepared, PreparedCertificate)
    prepare = next(each.message for each in material.sent if isinstance(each.message, Prepare))
    commit = material.last("CommitVote")
    assert (prepare.block_hash, prepare.round) == (commit.block_hash, commit.round)
    _, digest, _ = material.judge.signatures_of(change)[-1]
    genesis_hash = material.judge._core.genesis_hash
    assert digest == prepare.vote("scenario").digest(genesis_hash)
    assert digest != commit.vote("scenario").digest(genesis_hash)

"""Light client: believing an answer of a node that nobody trusts.

Trust begins with the network definition (its hash, its validator set) and nothing else.

    genesis ─ validator set of height 1
       │  header h₁, certified by the set in force, names another set for h₁ + 1
       ▼
    set of h₁ + 1  ─ … ─  set in force at H
       │  certificate: more than two thirds of its power signed header H
       ▼
    header H ─ state root ─ state object ─ (score root ─ score leaf)
             ─ tx root ─ transaction        ─ receipts root ─ receipt

Only headers that change the set have to be followed, in ascending order; between two changes one
certificate of the set in force proves any header. What a quorum of the set in force signed is
believed. A node can hide later changes only together with a quorum of a set that has left; whoever
fears that compares the header's time with a clock of his own.

An answer is taken only as a whole. Everything it says in words is recomputed from what was proven
and compared, so a changed byte anywhere is refused, with an error of rpc.light_errors that names
the link that broke.

Work is bounded by the sizes decoders accept, MAX_VALIDATORS signatures a certificate, and the
limits below. Nothing here does I/O; rpc.light_client fetches.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from ledger.block import BlockHeader, decode_header
from ledger.certificate import InvalidCertificate, decode_certificate, verify_certificate
from ledger.crypto import sha256
from ledger.errors import MalformedData
from ledger.merkle import PATH_MAX_LENGTH, verify_inclusion
from ledger.receipt import Receipt, decode_receipt
from ledger.reputation.score_tree import (
    InvalidScoreProof,
    Score,
    ScoreCommitment,
    score_proof_codec,
    verify_score_proof,
)
from ledger.state import (
    EPOCH_KEY,
    Account,
    account_key,
    decode_account,
    read_epoch_state,
    scores_key,
)
from ledger.state_proof import verify_state_proof
from ledger.transactions import ChainIdentity, SignedTransaction, decode_transaction
from ledger.validators import InvalidValidatorSet, ValidatorSet, decode_validator_set
from ledger.view import EmptyView, OverlayView
from rpc.errors import InvalidParams
from rpc.forms import account_form, score_form
from rpc.light_errors import (
    CertificateRefused,
    ChangeRefused,
    ContradictedAnswer,
    LightError,
    MalformedAnswer,
    ProofRefused,
    StaleScores,
    UnknownValidatorSet,
    WrongChain,
    WrongHeader,
)
from rpc.proofs import state_proof_codec
from rpc.values import hexed, unhex

# Validator sets remembered, the latest ones: a set of 100 takes some 30 KiB. Headers of heights
# before the oldest remembered set cannot be checked any more.
SETS_COUNT = 256

# Anchors found good, by their exact bytes: answers of one height share one, and checking it again
# would cost a signature check for each validator.
ANCHORS_COUNT = 64

T = TypeVar("T")

Answer = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TrustRoot:
    """What is believed without proof: which chain, and who certifies its first block."""

    chain: ChainIdentity
    validators: ValidatorSet


@dataclass(frozen=True, slots=True)
class ProvenAccount:
    """An account after the block of `header`; None where none stands."""

    header: BlockHeader
    address: bytes
    account: Account | None


@dataclass(frozen=True, slots=True)
class ProvenScore:
    """A score of the last scored epoch; None is a newcomer. `epoch` None: none was scored yet."""

    header: BlockHeader
    address: bytes
    epoch: int | None
    score: Score | None


@dataclass(frozen=True, slots=True)
class ProvenTransaction:
    """A transaction in the block of `header`, and what became of it."""

    header: BlockHeader
    signed: SignedTransaction
    receipt: Receipt


class LightVerifier:
    """Follows the chain of validator sets and checks answers against it. Does no I/O.

    `accept_crash_fault`: whether certificates of a Raft chain, which tolerate no Byzantine
    validator, are enough.
    """

    def __init__(self, trust: TrustRoot, *, accept_crash_fault: bool = False) -> None:
        self.trust = trust
        self._accept_crash_fault = accept_crash_fault
        # (first height of the set, the set), ascending.
        self._sets: list[tuple[int, ValidatorSet]] = [(1, trust.validators)]
        self._anchors: OrderedDict[bytes, BlockHeader] = OrderedDict()

    @property
    def followed_height(self) -> int:
        """The height of the last change of validators that was followed, 0 for none."""
        return self._sets[-1][0] - 1

    def follow(self, change: Answer) -> None:
        """Take one item of validator_listChanges, the next one in height. Raises LightError."""
        height = _number(change, "height")
        if height <= self.followed_height:
            raise ChangeRefused(height, f"not beyond the last change, {self.followed_height}")
        header = self.verify_anchor(_member(change, "anchor"))
        if header.height != height:
            raise WrongHeader(header.height, f"the change is said to be at height {height}")
        raw = _bytes(change, "validators")
        try:
            validators = decode_validator_set(raw)
        except (MalformedData, InvalidValidatorSet) as error:
            raise MalformedAnswer("validators", str(error)) from error
        if validators.hash != header.next_validators_hash:
            raise ChangeRefused(height, "the set is not the one that the header names")
        if validators.hash == header.validators_hash:
            raise ChangeRefused(height, "the set does not change")
        self._sets.append((height + 1, validators))
        if len(self._sets) > SETS_COUNT:
            del self._sets[0]

    def verify_anchor(self, anchor: object) -> BlockHeader:
        """The header of {header, certificate}, proven. Raises LightError."""
        if not isinstance(anchor, Mapping):
            raise MalformedAnswer("anchor", "is no object")
        raw_header, raw_certificate = _bytes(anchor, "header"), _bytes(anchor, "certificate")
        key = sha256(sha256(raw_header) + sha256(raw_certificate))
        known = self._anchors.get(key)
        if known is not None:
            self._anchors.move_to_end(key)
            return known
        header = self._verified_header(raw_header, raw_certificate)
        self._anchors[key] = header
        if len(self._anchors) > ANCHORS_COUNT:
            self._anchors.popitem(last=False)
        return header

    def _verified_header(self, raw_header: bytes, raw_certificate: bytes) -> BlockHeader:
        try:
            header = decode_header(raw_header)
            certificate = decode_certificate(raw_certificate)
        except MalformedData as error:
            raise MalformedAnswer(f"anchor.{error.kind}", error.detail) from error
        chain = self.trust.chain
        if header.chain_id != chain.chain_id:
            raise WrongChain("the header", chain.chain_id, header.chain_id)
        if certificate.height != header.height or certificate.block_hash != header.hash():
            raise WrongHeader(header.height, "the certificate is of another block")
        validators = self._set_at(header)
        try:
            verify_certificate(
                certificate,
                genesis_hash=chain.genesis_hash,
                chain_id=chain.chain_id,
                validators=validators,
                accept_crash_fault=self._accept_crash_fault,
            )
        except InvalidCertificate as error:
            raise CertificateRefused(header.height, error.rule, error.detail) from error
        return header

    def _set_at(self, header: BlockHeader) -> ValidatorSet:
        for first_height, validators in reversed(self._sets):
            if first_height <= header.height:
                if validators.hash == header.validators_hash:
                    return validators
                break
        raise UnknownValidatorSet(header.height, header.validators_hash, self.followed_height)

    def verify_account(self, answer: Answer, address: bytes) -> ProvenAccount:
        """Check an answer of account_get(address, proof=true). Raises LightError."""
        proof = _object(answer, "proof")
        header = self.verify_anchor(_member(proof, "anchor"))
        value = _state_object(header, account_key(address), proof, "account")
        account = None if value is None else _decoded("account", decode_account, value)
        _compare(answer, {"height": header.height, **account_form(address, account)})
        return ProvenAccount(header, address, account)

    def verify_score(self, answer: Answer, address: bytes) -> ProvenScore:
        """Check an answer of reputation_get(address, proof=true). Raises LightError."""
        header, commitment = self._verified_commitment(answer)
        return _verify_score(header, commitment, answer, address)

    def verify_scores(self, answer: Answer, addresses: Iterable[bytes]) -> list[ProvenScore]:
        """Check an answer of reputation_get(list, proof=true). Raises LightError."""
        header, commitment = self._verified_commitment(answer)
        wanted = list(addresses)
        items = _member(answer, "items")
        if not isinstance(items, list) or len(items) != len(wanted):
            raise MalformedAnswer("items", f"is no list of {len(wanted)} items")
        return [
            _verify_score(header, commitment, _as_object(item, f"items.{place}"), address)
            for place, (item, address) in enumerate(zip(items, wanted, strict=True))
        ]

    def _verified_commitment(self, answer: Answer) -> tuple[BlockHeader, ScoreCommitment | None]:
        """The header and the last epoch's commitment, None before the first epoch was scored."""
        proof = _object(answer, "proof")
        header = self.verify_anchor(_member(proof, "anchor"))
        raw_state = _state_object(header, EPOCH_KEY, proof, "epochState")
        if raw_state is None:
            raise ProofRefused("epochState", "the object stands in every state")
        view = OverlayView(EmptyView(), {EPOCH_KEY: raw_state})
        last_scored = _decoded(
            "epochState", lambda _: read_epoch_state(view).last_scored, raw_state
        )
        epoch = _member(answer, "epoch")
        proven = None if last_scored < 0 else last_scored
        if epoch != proven:
            raise StaleScores(epoch if isinstance(epoch, int) else None, last_scored)
        _compare(answer, {"height": header.height, "epoch": proven})
        if last_scored < 0:
            if _member(proof, "commitment") is not None:
                raise ProofRefused("commitment", "no epoch was scored yet")
            return header, None
        raw = _state_object(header, scores_key(last_scored), proof, "commitment")
        if raw is None:
            raise ProofRefused("commitment", f"there is none for epoch {last_scored}")
        commitment = _decoded("commitment", _decode_commitment, raw)
        if commitment.epoch != last_scored:
            raise StaleScores(commitment.epoch, last_scored)
        return header, commitment

    def verify_transaction(self, answer: Answer, transaction_id: bytes) -> ProvenTransaction:
        """Check an answer of tx_getProof(hash). Raises LightError."""
        header = self.verify_anchor(_member(answer, "anchor"))
        raw = _bytes(answer, "raw")
        try:
            signed = decode_transaction(raw, self.trust.chain.genesis_hash)
        except MalformedData as error:
            raise MalformedAnswer("raw", str(error)) from error
        if signed.transaction_id != transaction_id:
            raise ProofRefused("transaction", "it is another transaction")
        leaf, index, size = _leaf(answer, "transaction", header.tx_root)
        if leaf != signed.full_hash:
            raise ProofRefused("transaction", "the leaf is another transaction")
        raw_receipt, *place = _leaf(answer, "receipt", header.receipts_root)
        if place != [index, size]:
            raise ProofRefused("receipt", "it stands at another place than the transaction")
        try:
            receipt = decode_receipt(raw_receipt)
        except MalformedData as error:
            raise MalformedAnswer("receipt", str(error)) from error
        if receipt.transaction_id != transaction_id:
            raise ProofRefused("receipt", "it is another transaction's")
        _compare(answer, {"height": header.height, "hash": hexed(transaction_id)})
        return ProvenTransaction(header, signed, receipt)


def _verify_score(
    header: BlockHeader, commitment: ScoreCommitment | None, item: Answer, address: bytes
) -> ProvenScore:
    score = None
    if commitment is None:
        if _member(item, "scoreProof") is not None:
            raise ProofRefused("score", "no epoch was scored yet")
    else:
        try:
            proof = score_proof_codec.decode(_bytes(item, "scoreProof"))
            score = verify_score_proof(commitment, address, proof)
        except MalformedData as error:
            raise MalformedAnswer("scoreProof", error.detail) from error
        except InvalidScoreProof as error:
            raise ProofRefused("score", error.rule) from error
    _compare(item, score_form(address, score))
    return ProvenScore(header, address, None if commitment is None else commitment.epoch, score)


_decode_commitment = msgspec.msgpack.Decoder(ScoreCommitment).decode


def _state_object(header: BlockHeader, key: bytes, proof: Answer, name: str) -> bytes | None:
    """The value at `key` under the header's state root, None for proven absence."""
    given = _object(proof, name)
    value = None if _member(given, "value") is None else _bytes(given, "value")
    try:
        decoded = state_proof_codec.decode(_bytes(given, "proof"))
    except MalformedData as error:
        raise MalformedAnswer(f"{name}.proof", error.detail) from error
    if not verify_state_proof(header.state_root, key, value, decoded):
        raise ProofRefused(name, "it does not lead to the state root of the header")
    return value


def _leaf(answer: Answer, name: str, root: bytes) -> tuple[bytes, int, int]:
    """(leaf, index, size) of a leaf proven under a Merkle root of the header."""
    given = _object(answer, name)
    leaf, index, size = _bytes(given, "leaf"), _number(given, "index"), _number(given, "size")
    path = _member(given, "path")
    if not isinstance(path, list) or len(path) > PATH_MAX_LENGTH:
        raise MalformedAnswer(f"{name}.path", f"is no list of at most {PATH_MAX_LENGTH} hashes")
    nodes = [_bytes_of(node, f"{name}.path.{place}") for place, node in enumerate(path)]
    if not verify_inclusion(root, leaf, index, size, nodes):
        raise ProofRefused(name, "it does not lead to its root in the header")
    return leaf, index, size


def _decoded(name: str, decode: Any, raw: bytes) -> Any:
    """A state object that was proven; undecodable ones would mean that the validators lie."""
    try:
        return decode(raw)
    except msgspec.MsgspecError as error:
        raise MalformedAnswer(name, str(error)) from error


def _compare(answer: Answer, proven: Answer) -> None:
    """What is said in words must be what was proven, to the type."""
    for member, value in proven.items():
        said = _member(answer, member)
        if said != value or type(said) is not type(value):
            raise ContradictedAnswer(member, value)


def _member(answer: Answer, name: str) -> Any:
    try:
        return answer[name]
    except KeyError:
        raise MalformedAnswer(name, "is missing") from None


def _object(answer: Answer, name: str) -> Answer:
    return _as_object(_member(answer, name), name)


def _as_object(value: object, name: str) -> Answer:
    if not isinstance(value, Mapping):
        raise MalformedAnswer(name, "is no object")
    return value


def _number(answer: Answer, name: str) -> int:
    value = _member(answer, name)
    if type(value) is not int or value < 0:
        raise MalformedAnswer(name, "is no number")
    return value


def _bytes(answer: Answer, name: str) -> bytes:
    return _bytes_of(_member(answer, name), name)


def _bytes_of(value: object, name: str) -> bytes:
    if not isinstance(value, str):
        raise MalformedAnswer(name, "is no text")
    try:
        return unhex(value, name)
    except InvalidParams as error:
        raise MalformedAnswer(name, error.message) from None


__all__ = [
    "LightError",
    "LightVerifier",
    "ProvenAccount",
    "ProvenScore",
    "ProvenTransaction",
    "TrustRoot",
]

"""Writes the codec vectors to standard output: `python tests/vectors/codec/generate.py`.

One of everything that is hashed, signed or stored, from fixed keys: its fields, its canonical bytes
and what is derived from them. A change of the output is a change of the protocol; it is reviewed
line by line.
"""

import json
from typing import Any

import msgspec

from ledger import domains
from ledger.block import BLOCK_VERSION, Block, BlockHeader, last_commit_hash, transactions_root
from ledger.certificate import (
    VOTE_ACK,
    VOTE_COMMIT,
    VOTE_PRE_PREPARE,
    VOTE_PREPARE,
    VOTE_VIEW_CHANGE,
    CommitCertificate,
    Vote,
    make_certificate,
)
from ledger.codec import encode
from ledger.crypto import PrivateKey, sha256
from ledger.identity import peer_id
from ledger.params import DEFAULT_PARAMS, DEVNET_PARAMS
from ledger.receipt import Receipt, receipts_root
from ledger.receipts import ServiceReceipt, sign_as_payee, sign_as_payer
from ledger.reputation.edges import PairState, Window
from ledger.reputation.score_tree import ScoreCommitment
from ledger.state import (
    EPOCH_KEY,
    PARAMS_KEY,
    SEEDS_KEY,
    TOTALS_KEY,
    VALIDATORS_KEY,
    Account,
    EpochState,
    Seeds,
    Totals,
    account_key,
    pair_key,
    scores_key,
)
from ledger.transactions import (
    Rate,
    ReceiptBody,
    Register,
    Settle,
    SignedTransaction,
    Transfer,
    receipt_body,
    receipt_digest,
    registration_digest,
    sign_transaction,
)
from ledger.validators import Validator, ValidatorSet

CHAIN_ID = "vector-chain"
GENESIS_HASH = sha256(b"tally codec vectors: genesis")
LARGEST = 2**53 - 1


def key(number: int) -> PrivateKey:
    return PrivateKey(number.to_bytes(32, "big"))


ALICE, BOB, CAROL = key(1), key(2), key(3)
VALIDATORS = ValidatorSet.make(
    [
        Validator(*(key(10 * number + kind).public_key for kind in (1, 2, 3)), power=number)
        for number in (1, 2, 3, 4)
    ]
)
CONSENSUS_KEYS = {key(10 * n + 2).public_key: key(10 * n + 2) for n in (1, 2, 3, 4)}


def plain(value: Any) -> Any:
    """Bytes as hex, structs as objects, tuples as lists."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, msgspec.Struct):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    return value


def entry(value: msgspec.Struct, **derived: Any) -> dict[str, Any]:
    return {"fields": plain(value), "bytes": encode(value).hex(), **plain_items(derived)}


def plain_items(items: dict[str, Any]) -> dict[str, Any]:
    return {name: plain(value) for name, value in items.items()}


def transactions() -> dict[str, SignedTransaction]:
    def header(sender: PrivateKey, nonce: int = 0) -> tuple[str, bytes, int, int, int]:
        return (CHAIN_ID, sender.public_key, nonce, 1_000, 0)

    own = Register(*header(ALICE), ALICE.public_key, b"", 5, sha256(b"endpoint"), 10_000_000, 7)
    sponsored = Register(
        *header(ALICE, 1), BOB.public_key, b"", 2**32 - 1, bytes(32), LARGEST, LARGEST
    )
    agreed = BOB.sign(registration_digest(sponsored, GENESIS_HASH))
    sponsored = msgspec.structs.replace(sponsored, registrant_signature=agreed)
    transfer = Transfer(*header(ALICE, 2), BOB.public_key, 128)
    largest = Transfer(CHAIN_ID, ALICE.public_key, *(LARGEST,) * 3, BOB.public_key, LARGEST)
    settle = Settle(*header(BOB), ALICE.public_key, BOB.public_key, 31, b"", 255, 256, 65_536, b"")
    other = ALICE.sign(receipt_digest(receipt_body(settle), GENESIS_HASH))
    alone = msgspec.structs.replace(settle, sender=ALICE.public_key, nonce=3, channel=bytes(32))
    rate = Rate(*header(ALICE, 4), BOB.public_key, 31, 255, -10, 255, sha256(b"evidence"))
    praise = Rate(*header(ALICE, 5), BOB.public_key, 0, 1, 10, 0, b"")
    named: dict[str, tuple[Register | Transfer | Settle | Rate, PrivateKey]] = {
        "register": (own, ALICE),
        "register_sponsored": (sponsored, ALICE),
        "transfer": (transfer, ALICE),
        "transfer_largest_numbers": (largest, ALICE),
        "settle_by_payee": (msgspec.structs.replace(settle, counterparty_signature=other), BOB),
        "settle_by_payer_alone": (alone, ALICE),
        "rate": (rate, ALICE),
        "rate_without_evidence": (praise, ALICE),
    }
    return {
        name: sign_transaction(transaction, signer, GENESIS_HASH)
        for name, (transaction, signer) in named.items()
    }


def transaction_entry(signed: SignedTransaction) -> dict[str, Any]:
    derived: dict[str, Any] = {}
    transaction = signed.transaction
    if isinstance(transaction, Settle):
        derived["receipt_digest"] = receipt_digest(receipt_body(transaction), GENESIS_HASH)
    if isinstance(transaction, Register):
        derived["registration_digest"] = registration_digest(transaction, GENESIS_HASH)
    return {
        "family": type(transaction).__name__,
        **entry(
            transaction,
            wire=signed.raw,
            signature=signed.signature,
            transaction_id=signed.transaction_id,
            full_hash=signed.full_hash,
            **derived,
        ),
    }


def votes() -> dict[str, Vote]:
    block_hash = sha256(b"block")
    return {
        "view_change": Vote(CHAIN_ID, "pbft", VOTE_VIEW_CHANGE, 7, 3, bytes(32), 2, block_hash),
        "view_change_unprepared": Vote(CHAIN_ID, "pbft", VOTE_VIEW_CHANGE, 7, 3, bytes(32)),
        "pre_prepare": Vote(CHAIN_ID, "pbft", VOTE_PRE_PREPARE, 7, 3, block_hash),
        "prepare": Vote(CHAIN_ID, "pbft", VOTE_PREPARE, 7, 3, block_hash),
        "commit": Vote(CHAIN_ID, "pbft", VOTE_COMMIT, 7, 3, block_hash),
        "ack": Vote(CHAIN_ID, "raft", VOTE_ACK, 7, 3, block_hash),
    }


def certificate(mode: Any, indexes: tuple[int, ...]) -> CommitCertificate:
    kind = VOTE_COMMIT if mode == "pbft" else VOTE_ACK
    block_hash = sha256(b"block")
    digest = Vote(CHAIN_ID, mode, kind, 7, 3, block_hash).digest(GENESIS_HASH)
    return make_certificate(
        mode=mode,
        chain_id=CHAIN_ID,
        height=7,
        round=3,
        block_hash=block_hash,
        validators=VALIDATORS,
        signatures={
            index: CONSENSUS_KEYS[VALIDATORS[index].consensus_key].sign(digest) for index in indexes
        },
    )


def block(height: int, last_commit: CommitCertificate | None) -> Block:
    signed = list(transactions().values())[:3]
    header = BlockHeader(
        version=BLOCK_VERSION,
        chain_id=CHAIN_ID,
        height=height,
        time_ms=1_700_000_000_000,
        parent_hash=GENESIS_HASH,
        last_commit_hash=last_commit_hash(last_commit),
        tx_root=transactions_root([each.full_hash for each in signed]),
        receipts_root=receipts_root([each.encode() for each in receipts().values()]),
        state_root=sha256(b"state"),
        validators_hash=VALIDATORS.hash,
        next_validators_hash=VALIDATORS.hash,
        params_hash=DEVNET_PARAMS.hash(),
        next_mode="pbft",
        proposer=VALIDATORS[0].operator,
    )
    return Block(header, last_commit, tuple(each.raw for each in signed))


def receipts() -> dict[str, Receipt]:
    return {
        "success": Receipt(sha256(b"1"), ok=True, fee=1_000),
        "failure": Receipt(
            sha256(b"2"),
            ok=False,
            fee=1_000,
            reason="RECEIPT_NOT_NEWER",
            facts=(("field", "seq"), ("settled", 5), ("offered", 5)),
        ),
    }


def service_receipts() -> dict[str, ServiceReceipt]:
    body = ReceiptBody(CHAIN_ID, ALICE.public_key, BOB.public_key, 3, b"", 7, 40, 90_000)
    proposed = sign_as_payer(body, ALICE, GENESIS_HASH)
    return {"proposed": proposed, "complete": sign_as_payee(proposed, BOB, GENESIS_HASH)}


def state() -> dict[str, tuple[bytes, msgspec.Struct]]:
    alice, bob = ALICE.public_key, BOB.public_key
    registered = Account(5, 6, CAROL.public_key, 7, 8, sha256(b"endpoint"), 10_000_000)
    window = Window(8, 2, 5, 128, 112, -7, 9)
    pair = PairState(9, 90, 900_000, 9, 4_096, 17, 1_000, 5, 300, 200, 10, (window,))
    return {
        "account": (account_key(alice), Account(1_000)),
        "account_registered": (account_key(bob), registered),
        "pair": (pair_key(alice, bob, 31), pair),
        "scores": (scores_key(9), ScoreCommitment(9, sha256(b"scores"), 3)),
        "totals": (TOTALS_KEY, Totals(LARGEST, 1, 2, 3)),
        "epoch": (EPOCH_KEY, EpochState(9, ((alice, 65_536), (bob, 1)))),
        "epoch_none": (EPOCH_KEY, EpochState(-1)),
        "seeds": (SEEDS_KEY, Seeds(tuple(sorted((alice, bob))))),
        "parameters": (PARAMS_KEY, DEVNET_PARAMS),
        "validators": (VALIDATORS_KEY, VALIDATORS),
    }


def vectors() -> dict[str, Any]:
    pbft, raft = certificate("pbft", (1, 2, 3)), certificate("raft", (0, 1, 3))
    blocks = {"first": block(1, None), "with_last_commit": block(8, pbft)}
    return {
        "chain_id": CHAIN_ID,
        "genesis_hash": GENESIS_HASH.hex(),
        "tags": {
            name: getattr(domains, name).decode("ascii").rstrip("\0")
            for name in (
                "TRANSACTION",
                "REGISTRATION",
                "RECEIPT",
                "VOTE",
                "BLOCK",
                "CERTIFICATE",
                "VALIDATORS",
                "PARAMETERS",
            )
        },
        "keys": {
            name: {
                "secret": each.secret.hex(),
                "public_key": each.public_key.hex(),
                "peer_id": peer_id(each.public_key),
            }
            for name, each in (("alice", ALICE), ("bob", BOB), ("carol", CAROL))
        },
        "transactions": {name: transaction_entry(s) for name, s in transactions().items()},
        "votes": {name: entry(v, digest=v.digest(GENESIS_HASH)) for name, v in votes().items()},
        "certificates": {
            name: entry(each, hash=last_commit_hash(each))
            for name, each in (("pbft", pbft), ("raft", raft))
        },
        "headers": {
            name: entry(each.header, hash=each.header.hash()) for name, each in blocks.items()
        },
        "blocks": {name: {"bytes": each.encode().hex()} for name, each in blocks.items()},
        "receipts": {name: entry(each) for name, each in receipts().items()},
        "service_receipts": {
            name: entry(each, text=each.to_text()) for name, each in service_receipts().items()
        },
        "validators": entry(VALIDATORS, hash=VALIDATORS.hash),
        "parameters": {
            "default": entry(DEFAULT_PARAMS, hash=DEFAULT_PARAMS.hash()),
            "devnet": entry(DEVNET_PARAMS, hash=DEVNET_PARAMS.hash()),
        },
        "state": {
            name: {"key": state_key.hex(), **entry(value)}
            for name, (state_key, value) in state().items()
        },
    }


if __name__ == "__main__":
    print(json.dumps(vectors(), indent=1))

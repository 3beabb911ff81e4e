"""How the ledger's objects look in JSON. Names are the struct's own, in camelCase.

Blocks never change, so their JSON is made once and spliced from a bounded cache afterwards.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import msgspec
import orjson
from pydantic.alias_generators import to_camel

from ledger import domains
from ledger.block import Block, BlockHeader, decode_block
from ledger.certificate import CommitCertificate
from ledger.crypto import SIGNATURE_BYTES
from ledger.identity import peer_id
from ledger.receipt import Receipt
from ledger.reputation.score_tree import FLAG_CUT, FLAG_SEED, FLAG_SUSPENDED, Score
from ledger.state import Account
from ledger.transactions import SignedTransaction, Transaction, decode_transaction
from ledger.validators import Validator
from rpc.dispatcher import Raw
from rpc.ports import ConsensusStatus, PeerStatus
from rpc.values import hexed

# JSON of whole blocks. The latest few dozen are what explorers ask for again and again; a full
# block of 10,000 transactions takes about 8 MiB, a usual one some ten KiB.
BLOCK_CACHE_BYTES = 32 * 1024 * 1024

_UNRATED_QUALITY = 1 << 16

_ADDRESSES = frozenset(
    {"sender", "registrant", "to", "payer", "payee", "subject", "proposer", "operator"}
)
_AMOUNTS = frozenset({"fee", "amount", "deposit", "cum_paid", "balance"})

_FLAG_NAMES = ((FLAG_SEED, "seed"), (FLAG_SUSPENDED, "suspended"), (FLAG_CUT, "cut"))


def _value_form(name: str) -> Callable[[Any], Any]:
    if name in _ADDRESSES:
        return peer_id
    if name in _AMOUNTS:
        return str
    return lambda value: hexed(value) if isinstance(value, bytes) else value


def _fields(struct: type[msgspec.Struct]) -> list[tuple[str, str, Callable[[Any], Any]]]:
    return [(name, to_camel(name), _value_form(name)) for name in struct.__struct_fields__]


_struct_fields: dict[type[msgspec.Struct], list[tuple[str, str, Callable[[Any], Any]]]] = {}


def struct_form(value: msgspec.Struct) -> dict[str, Any]:
    """Every field of a flat struct; what a field is follows from its name, once per type."""
    kind = type(value)
    fields = _struct_fields.get(kind)
    if fields is None:
        fields = _struct_fields[kind] = _fields(kind)
    return {shown: form(getattr(value, name)) for name, shown, form in fields}


def payload_form(transaction: Transaction) -> dict[str, Any]:
    """A decoded transaction: {type, chainId, sender, nonce, fee, expiryHeight, …}."""
    return {"type": type(transaction).__name__, **struct_form(transaction)}


def transaction_form(signed: SignedTransaction) -> dict[str, Any]:
    """{hash, fullHash, sizeBytes, raw, payload}."""
    return {
        "hash": hexed(signed.transaction_id),
        "fullHash": hexed(signed.full_hash),
        "sizeBytes": len(signed.raw),
        "raw": hexed(signed.raw),
        "payload": payload_form(signed.transaction),
    }


def transaction_id(raw: bytes, genesis_hash: bytes) -> bytes:
    """The id of wire bytes that are known to be a transaction, without decoding them."""
    return domains.signing_digest(domains.TRANSACTION, genesis_hash, raw[:-SIGNATURE_BYTES])


def receipt_form(receipt: Receipt) -> dict[str, Any]:
    """{hash, ok, fee, reason?, facts?}; reason and facts of a transaction that failed."""
    form: dict[str, Any] = {
        "hash": hexed(receipt.transaction_id),
        "ok": receipt.ok,
        "fee": str(receipt.fee),
    }
    if not receipt.ok:
        form["reason"] = receipt.reason
        form["facts"] = dict(receipt.facts)
    return form


def header_form(header: BlockHeader) -> dict[str, Any]:
    """{hash, version, chainId, height, timeMs, …}."""
    return {"hash": hexed(header.hash()), **struct_form(header)}


def block_summary_form(header: BlockHeader, transaction_count: int) -> dict[str, Any]:
    """A header with what a list of blocks shows besides: {hash, …, transactionCount}."""
    return {**header_form(header), "transactionCount": transaction_count}


def transaction_ids(encoded_block: bytes, genesis_hash: bytes) -> list[str]:
    """The ids of a committed block's transactions, in block order."""
    return [
        hexed(transaction_id(raw, genesis_hash)) for raw in decode_block(encoded_block).transactions
    ]


def certificate_form(certificate: CommitCertificate) -> dict[str, Any]:
    """{mode, chainId, height, round, blockHash, validatorsHash, signers, signatures}."""
    return {
        "mode": certificate.mode,
        "chainId": certificate.chain_id,
        "height": certificate.height,
        "round": certificate.round,
        "blockHash": hexed(certificate.block_hash),
        "validatorsHash": hexed(certificate.validators_hash),
        "signers": certificate.signers(),
        "signatures": [hexed(each) for each in certificate.signatures],
    }


def peer_form(peer: PeerStatus) -> dict[str, Any]:
    """{peerId, address, direction, connectedMs, roundTripMs, validator}."""
    return {
        "peerId": peer_id(peer.node_key),
        "address": peer.address,
        "direction": "outbound" if peer.outbound else "inbound",
        "connectedMs": peer.connected_ms,
        "roundTripMs": peer.round_trip_ms,
        "validator": None if peer.validator is None else peer_id(peer.validator),
    }


def round_form(status: ConsensusStatus) -> dict[str, Any]:
    """{mode, tolerates, quorum, height, round, phase, leader, ownIndex}."""
    return {
        "mode": status.mode,
        "tolerates": status.tolerates,
        "quorum": status.quorum,
        "height": status.height,
        "round": status.round,
        "phase": status.phase,
        "leader": None if status.leader is None else peer_id(status.leader),
        "ownIndex": status.own_index,
    }


def validator_form(index: int, validator: Validator) -> dict[str, Any]:
    """{index, operator, nodeId, consensusKey, power}."""
    return {
        "index": index,
        "operator": peer_id(validator.operator),
        "nodeId": peer_id(validator.node_key),
        "consensusKey": hexed(validator.consensus_key),
        "power": validator.power,
    }


def account_form(address: bytes, account: Account | None) -> dict[str, Any]:
    """An account; one that does not stand in the state has `exists` false and holds nothing."""
    held = Account(0) if account is None else account
    return {
        "address": peer_id(address),
        "exists": account is not None,
        **struct_form(held),
        "isRegistered": held.is_registered,
    }


def score_form(address: bytes, score: Score | None) -> dict[str, Any]:
    """A score. None is a newcomer: no trust, no standing, no rank, and the quality of the unrated.

    `trust` is a part of 2^40, `quality` of 2^16; `standing` is their product in the sense of the
    reputation rules. All three are decimal strings.
    """
    if score is None:
        return {
            "subject": peer_id(address),
            "newcomer": True,
            "trust": "0",
            "quality": str(_UNRATED_QUALITY),
            "standing": "0",
            "rank": None,
            "raters": 0,
            "flags": [],
        }
    return {
        "subject": peer_id(address),
        "newcomer": False,
        "trust": str(score.trust),
        "quality": str(score.quality),
        "standing": str(score.standing),
        "rank": score.rank,
        "raters": score.raters,
        "flags": [name for bit, name in _FLAG_NAMES if score.flags & bit],
    }


class BlockCache:
    """JSON of blocks by (height, whether transactions are decoded). Least recently used goes."""

    __slots__ = ("_held", "_limit_bytes", "size_bytes")

    def __init__(self, limit_bytes: int = BLOCK_CACHE_BYTES) -> None:
        self._held: OrderedDict[tuple[int, bool], bytes] = OrderedDict()
        self._limit_bytes = limit_bytes
        self.size_bytes = 0

    def get(self, height: int, *, full: bool) -> Raw | None:
        """The JSON, ready to be spliced."""
        held = self._held.get((height, full))
        if held is None:
            return None
        self._held.move_to_end((height, full))
        return Raw(held)

    def put(self, block: Block, genesis_hash: bytes, *, full: bool) -> Raw:
        """Makes and keeps the JSON of a committed block. One larger than the cache is not kept."""
        encoded = orjson.dumps(_block_form(block, genesis_hash, full=full))
        key = (block.header.height, full)
        if len(encoded) <= self._limit_bytes:
            self.size_bytes -= len(self._held.pop(key, b""))
            self._held[key] = encoded
            self.size_bytes += len(encoded)
            while self.size_bytes > self._limit_bytes:
                _, dropped = self._held.popitem(last=False)
                self.size_bytes -= len(dropped)
        return Raw(encoded)


def _block_form(block: Block, genesis_hash: bytes, *, full: bool) -> dict[str, Any]:
    if full:
        transactions: list[Any] = [
            transaction_form(decode_transaction(raw, genesis_hash)) for raw in block.transactions
        ]
    else:
        transactions = [hexed(transaction_id(raw, genesis_hash)) for raw in block.transactions]
    return {
        "header": header_form(block.header),
        "lastCommit": None if block.last_commit is None else certificate_form(block.last_commit),
        "sizeBytes": sum(map(len, block.transactions)),
        "transactions": transactions,
    }

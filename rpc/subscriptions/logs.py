"""The logs: where each topic's events come from in the stored chain, and how they look.

    log.read(source, cursor, tip) -> Portion

gives the events at places >= cursor, up to and including height `tip`, in order, a bounded portion
at a time, and the place from which to read on. A portion is about a millisecond of work, since it
is made between two turns of the event loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import msgspec
import orjson

from ledger.block import decode_header
from ledger.receipt import decode_receipt
from ledger.reputation.score_tree import ScoreCommitment
from ledger.state import scores_key
from ledger.transactions import SignedTransaction, Transaction, decode_transaction
from rpc.forms import (
    block_summary_form,
    payload_form,
    receipt_form,
    score_form,
    transaction_ids,
    validator_form,
)
from rpc.ports import Committed, NodeApi
from rpc.subscriptions.encodings import Encodings
from rpc.values import hexed

Place = tuple[int, int]
"""(height, index): index counts the events of one height from 0."""

# Some 15 µs each: a header and its hash.
BLOCKS_PER_PORTION = 50

# Some 25 µs each: decode transaction and receipt, encode both.
TRANSACTIONS_PER_PORTION = 32

# Heights without a matching transaction that one portion passes over, at a read each.
SCANNED_PER_PORTION = 200

# Epochs or changes of the set; each reads a table or a set.
SPARSE_PER_PORTION = 10

_PARTY_FIELDS = ("sender", "registrant", "to", "payer", "payee", "subject")

_decode_commitment = msgspec.msgpack.Decoder(ScoreCommitment).decode


class BlocksGone(Exception):
    """The blocks at the cursor were pruned; `earliest_height` is the first that is kept."""

    def __init__(self, earliest_height: int) -> None:
        super().__init__(earliest_height)
        self.earliest_height = earliest_height


@dataclass(frozen=True, slots=True)
class Portion:
    """Events with their places, ascending, and the first place that was not looked at."""

    events: list[tuple[Place, bytes]]
    following: Place


class Source:
    """What logs read from: the node, and encodings that all subscriptions share."""

    __slots__ = ("encodings", "last_scored_height", "last_set_height", "node")

    def __init__(self, node: NodeApi, encodings: Encodings) -> None:
        self.node = node
        self.encodings = encodings
        # No block above these heights carries scores or changes the set, as far as was seen here.
        # Until the first block, everything up to the tip may.
        self.last_scored_height = self.last_set_height = node.tip().height


class Log(Protocol):
    """One topic with its filter."""

    topic: ClassVar[str]

    def read(self, source: Source, cursor: Place, tip: int) -> Portion:
        """See the module. Raises BlocksGone."""


# ---- blocks --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Blocks:
    """Every block: header and number of transactions, with `ids` the transactions' ids too."""

    topic: ClassVar[str] = "blocks"
    ids: bool = False

    def read(self, source: Source, cursor: Place, tip: int) -> Portion:
        """See Log."""
        # Ids of the largest blocks take some 15 ms, so a portion is one such block.
        most = 1 if self.ids else BLOCKS_PER_PORTION
        stop = min(tip, cursor[0] + most - 1) + 1
        events = [((height, 0), self._event(source, height)) for height in range(cursor[0], stop)]
        return Portion(events, (stop, 0))

    def _event(self, source: Source, height: int) -> bytes:
        def make() -> bytes:
            raw = source.node.header(height)
            count = source.node.transaction_count(height)
            if raw is None or count is None:
                raise BlocksGone(source.node.earliest_height())
            form = block_summary_form(decode_header(raw), count)
            if self.ids:
                block = source.node.block(height)
                assert block is not None, "the header is kept as long as its block"
                form["transactions"] = transaction_ids(block, source.node.chain.genesis_hash)
            return orjson.dumps(form)

        return source.encodings.get((self.topic, height, self.ids), make)


# ---- transactions --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Transactions:
    """Committed transactions: all, of one type, touching one account, or a single one by its id."""

    topic: ClassVar[str] = "tx"
    account: bytes | None = None
    transaction_id: bytes | None = None
    kind: str | None = None

    def read(self, source: Source, cursor: Place, tip: int) -> Portion:
        """See Log."""
        if self.transaction_id is not None:
            return self._read_one(source, self.transaction_id, cursor, tip)
        if self.account is not None:
            return self._read_account(source, self.account, cursor, tip)
        return self._read_all(source, cursor, tip)

    def matches(self, signed: SignedTransaction) -> bool:
        """Whether a transaction passes the filter."""
        transaction = signed.transaction
        return (
            (self.transaction_id is None or signed.transaction_id == self.transaction_id)
            and (self.kind is None or type(transaction).__name__ == self.kind)
            and (self.account is None or self.account in _parties_of(transaction))
        )

    def _read_one(self, source: Source, transaction_id: bytes, cursor: Place, tip: int) -> Portion:
        found = source.node.transaction_state(transaction_id)
        if not isinstance(found, Committed) or not cursor <= (found.height, found.index):
            return Portion([], (tip + 1, 0))
        place = (found.height, found.index)
        return Portion(self._events(source, [place]), (tip + 1, 0))

    def _read_account(self, source: Source, account: bytes, cursor: Place, tip: int) -> Portion:
        # The index answers what lies behind a place; between (h, i − 1) and (h, i) lies nothing.
        behind = (cursor[0], cursor[1] - 1)
        most = TRANSACTIONS_PER_PORTION
        found = source.node.account_transactions(account, behind, most, ascending=True)
        places = [place for place in found if place[0] <= tip]
        events = self._events(source, places)
        if len(found) == most and len(places) == most:
            height, index = places[-1]
            return Portion(events, (height, index + 1))
        return Portion(events, (tip + 1, 0))

    def _read_all(self, source: Source, cursor: Place, tip: int) -> Portion:
        height, first = cursor
        scanned_stop = height + SCANNED_PER_PORTION
        places: list[Place] = []
        while height <= tip and height < scanned_stop:
            count = source.node.transaction_count(height)
            if count is None:
                raise BlocksGone(source.node.earliest_height())
            room = TRANSACTIONS_PER_PORTION - len(places)
            places += [(height, index) for index in range(first, min(count, first + room))]
            if count > first + room:
                return Portion(self._events(source, places), (height, first + room))
            height, first = height + 1, 0
        return Portion(self._events(source, places), (height, 0))

    def _events(self, source: Source, places: list[Place]) -> list[tuple[Place, bytes]]:
        events = []
        for place in places:
            if self.kind is None:
                events.append((place, self._event(source, place)))
                continue
            signed = _signed_at(source, place)
            if type(signed.transaction).__name__ == self.kind:
                events.append((place, self._event(source, place, signed)))
        return events

    def _event(
        self, source: Source, place: Place, signed: SignedTransaction | None = None
    ) -> bytes:
        def make() -> bytes:
            known = _signed_at(source, place) if signed is None else signed
            receipt = source.node.receipt(*place)
            if receipt is None:
                raise BlocksGone(source.node.earliest_height())
            return orjson.dumps(
                {
                    "height": place[0],
                    "index": place[1],
                    "hash": hexed(known.transaction_id),
                    "status": "committed",
                    "payload": payload_form(known.transaction),
                    "receipt": receipt_form(decode_receipt(receipt)),
                }
            )

        return source.encodings.get((self.topic, place), make)


def _signed_at(source: Source, place: Place) -> SignedTransaction:
    raw = source.node.transaction(*place)
    if raw is None:
        raise BlocksGone(source.node.earliest_height())
    return decode_transaction(raw, source.node.chain.genesis_hash)


def _parties_of(transaction: Transaction) -> set[bytes]:
    return {getattr(transaction, name) for name in _PARTY_FIELDS if hasattr(transaction, name)}


def waiting_event(signed: SignedTransaction) -> bytes:
    """A transaction that entered the mempool. Not part of the log: it has no place yet."""
    return orjson.dumps(
        {
            "hash": hexed(signed.transaction_id),
            "status": "pending",
            "payload": payload_form(signed.transaction),
        }
    )


def dropped_event(transaction_id: bytes, reason: str) -> bytes:
    """A waiting transaction that was dropped."""
    return orjson.dumps({"hash": hexed(transaction_id), "status": "dropped", "reason": reason})


# ---- sparse logs ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scores:
    """Each epoch whose scores came to stand, with the scores of `subjects`."""

    topic: ClassVar[str] = "reputation"
    subjects: tuple[bytes, ...] = ()

    def read(self, source: Source, cursor: Place, tip: int) -> Portion:
        """See Log."""
        height = cursor[0]
        if height > source.last_scored_height:
            return Portion([], (tip + 1, 0))
        found = source.node.scored_epochs(height, SPARSE_PER_PORTION)
        events = [((at, 0), self._event(source, epoch, at)) for epoch, at in found if at <= tip]
        more = len(found) == SPARSE_PER_PORTION and len(events) == len(found)
        return Portion(events, (found[-1][1] + 1, 0) if more else (tip + 1, 0))

    def _event(self, source: Source, epoch: int, height: int) -> bytes:
        def make() -> bytes:
            raw = source.node.state().get(scores_key(epoch))
            commitment = None if raw is None else _decode_commitment(raw)
            form: dict[str, Any] = {
                "height": height,
                "epoch": epoch,
                "root": None if commitment is None else hexed(commitment.root),
                "count": None if commitment is None else commitment.count,
            }
            if self.subjects:
                table = source.node.score_table(epoch)
                # Nodes keep the tables of the history only; the event itself stays.
                form["items"] = (
                    None
                    if table is None
                    else [score_form(each, table.lookup(each)) for each in self.subjects]
                )
            return orjson.dumps(form)

        return source.encodings.get((self.topic, epoch, self.subjects), make)


@dataclass(frozen=True, slots=True)
class SetChanges:
    """Each block that names another validator set for the next height, with that set."""

    topic: ClassVar[str] = "validators"

    def read(self, source: Source, cursor: Place, tip: int) -> Portion:
        """See Log."""
        if cursor[0] > source.last_set_height:
            return Portion([], (tip + 1, 0))
        found = source.node.validator_changes(cursor[0] - 1, SPARSE_PER_PORTION)
        heights = [height for height in found if height <= tip]
        events = [((height, 0), self._event(source, height)) for height in heights]
        more = len(found) == SPARSE_PER_PORTION and len(heights) == len(found)
        return Portion(events, (heights[-1] + 1, 0) if more else (tip + 1, 0))

    def _event(self, source: Source, height: int) -> bytes:
        def make() -> bytes:
            raw = source.node.header(height)
            assert raw is not None, "headers of changes are kept for ever"
            following = source.node.validator_set(decode_header(raw).next_validators_hash)
            assert following is not None, "sets are kept for ever"
            items = [validator_form(index, following[index]) for index in range(len(following))]
            return orjson.dumps(
                {
                    "height": height,
                    "hash": hexed(following.hash),
                    "totalPower": following.total_power,
                    "items": items,
                }
            )

        return source.encodings.get((self.topic, height), make)

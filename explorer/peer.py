"""What a node, or a proof, says of one peer: its score and the evidence behind it.

The evidence is what feeds scores: services that were paid and co-signed, and ratings of them. It is
read from the peer's transactions, latest first, as far back as was asked for; who rated the peer is
shown with that rater's own standing, since a rating weighs what its rater is trusted.

With a light client every score and every transaction shown is proven down to the network
definition. That nothing was left out of a list cannot be proven: a node may hide a transaction, but
not invent or change one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ledger.identity import peer_id, public_key_of
from ledger.reputation.score_tree import FLAG_CUT, FLAG_SEED, FLAG_SUSPENDED, Score
from ledger.transactions import Rate, Settle
from rpc.client import RpcClient
from rpc.light import ProvenScore, ProvenTransaction
from rpc.light_client import LightClient

# Transactions of one page, and pages read: what the public interface allows in one answer, and a
# bound on how long a busy peer's history makes us ask.
PAGE_COUNT = 100
PAGES_MAX_COUNT = 20

# Rows of evidence. A proof of each is a few kB and some ms; more belongs on the explorer's page.
EVIDENCE_MAX_COUNT = 200

TRUST_TOTAL = 1 << 40
QUALITY_ONE = 1 << 16

_FLAGS = ((FLAG_SEED, "seed"), (FLAG_SUSPENDED, "suspended"), (FLAG_CUT, "cut"))


class UnexpectedAnswer(Exception):
    """The node's answer is not what the interface promises. The message names the member."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A score. A newcomer has none: no trust, no standing, no rank, the quality of the unrated.

    `trust` is a part of 2^40, `quality` of 2^16; `standing` is their product in the sense of the
    reputation rules. `raters` had a voice.
    """

    peer: str
    newcomer: bool
    trust: int
    quality: int
    standing: int
    rank: int | None
    raters: int
    flags: tuple[str, ...]

    def as_object(self) -> dict[str, Any]:
        """As the node's own interface writes it."""
        return {
            "subject": self.peer,
            "newcomer": self.newcomer,
            "trust": str(self.trust),
            "quality": str(self.quality),
            "standing": str(self.standing),
            "rank": self.rank,
            "raters": self.raters,
            "flags": list(self.flags),
        }


@dataclass(frozen=True, slots=True)
class Rating:
    """`rater` judged the receipt `seq` of `subject` in the block at `height`."""

    rater: str
    subject: str
    score: int
    service: int
    seq: int
    height: int
    transaction: str
    ok: bool


@dataclass(frozen=True, slots=True)
class Service:
    """`payer` paid `payee`: a cumulative receipt, `paid` µT and `units` in all so far."""

    payer: str
    payee: str
    service: int
    seq: int
    units: int
    paid: int
    cosigned: bool
    height: int
    transaction: str
    ok: bool


@dataclass(frozen=True, slots=True)
class Report:
    """Everything found. `epoch` is None before the first epoch was scored."""

    standing: Standing
    epoch: int | None
    height: int
    raters: tuple[Standing, ...]
    ratings: tuple[Rating, ...]
    services: tuple[Service, ...]
    proven: bool

    def as_object(self) -> dict[str, Any]:
        """For programs."""
        return {
            **self.standing.as_object(),
            "epoch": self.epoch,
            "height": self.height,
            "proven": self.proven,
            "ratedBy": [each.as_object() for each in self.raters],
            "ratings": [_object(each) for each in self.ratings],
            "services": [_object(each) for each in self.services],
        }


@dataclass(frozen=True, slots=True)
class Ranking:
    """Peers by rank."""

    epoch: int | None
    height: int
    standings: tuple[Standing, ...]
    proven: bool

    def as_object(self) -> dict[str, Any]:
        """For programs."""
        return {
            "epoch": self.epoch,
            "height": self.height,
            "proven": self.proven,
            "items": [each.as_object() for each in self.standings],
        }


async def look_up(client: RpcClient, light: LightClient | None, peer: str, evidence: int) -> Report:
    """Score and up to `evidence` rows of each kind.

    Raises ClientError, LightError, InvalidPeerId, UnexpectedAnswer.
    """
    public_key_of(peer)
    ratings, services = await _evidence(client, light, peer, evidence)
    names = list(dict.fromkeys(rating.rater for rating in ratings if rating.subject == peer))
    epoch, height, standings = await _standings(client, light, [peer, *names])
    by_weight = sorted(standings[1:], key=lambda each: (-each.trust, each.peer))
    return Report(
        standings[0],
        epoch,
        height,
        tuple(by_weight),
        tuple(ratings),
        tuple(services),
        light is not None,
    )


async def top(client: RpcClient, light: LightClient | None, count: int) -> Ranking:
    """The best standings. With a light client each is proven and they must be in order.

    Raises ClientError, LightError, UnexpectedAnswer.
    """
    said = await client.call("reputation_leaderboard", {"limit": count})
    items = _list(said, "items")
    if light is None or not items:
        found = tuple(_standing_said(item) for item in items)
        return Ranking(_epoch(said), _number(said, "height"), found, proven=False)
    names = [_text(item, "subject") for item in items]
    epoch, height, standings = await _standings(client, light, names)
    ordered = sorted(standings, key=lambda each: each.rank or 0)
    return Ranking(epoch, height, tuple(ordered), proven=True)


async def _standings(
    client: RpcClient, light: LightClient | None, peers: Sequence[str]
) -> tuple[int | None, int, list[Standing]]:
    """(epoch, height, the scores in order), all of one moment."""
    if light is not None:
        proven = await light.scores(peers)
        return proven[0].epoch, proven[0].header.height, [_standing_proven(each) for each in proven]
    said = await client.call("reputation_get", {"subject": list(peers)})
    found = [_standing_said(item) for item in _list(said, "items")]
    if [each.peer for each in found] != list(peers):
        raise UnexpectedAnswer("items: not the peers that were asked for")
    return _epoch(said), _number(said, "height"), found


def _standing_proven(proven: ProvenScore) -> Standing:
    peer, score = peer_id(proven.address), proven.score
    if score is None:
        return newcomer(peer)
    return Standing(
        peer=peer,
        newcomer=False,
        trust=score.trust,
        quality=score.quality,
        standing=score.standing,
        rank=score.rank,
        raters=score.raters,
        flags=_flags(score),
    )


def newcomer(peer: str) -> Standing:
    """Who has no score."""
    return Standing(
        peer=peer,
        newcomer=True,
        trust=0,
        quality=QUALITY_ONE,
        standing=0,
        rank=None,
        raters=0,
        flags=(),
    )


def _flags(score: Score) -> tuple[str, ...]:
    return tuple(name for bit, name in _FLAGS if score.flags & bit)


def _standing_said(item: Mapping[str, Any]) -> Standing:
    try:
        return Standing(
            peer=_text(item, "subject"),
            newcomer=item["newcomer"] is True,
            trust=int(item["trust"]),
            quality=int(item["quality"]),
            standing=int(item["standing"]),
            rank=None if item["rank"] is None else int(item["rank"]),
            raters=int(item["raters"]),
            flags=tuple(map(str, item["flags"])),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UnexpectedAnswer(f"score: {error!r}") from error


async def _evidence(
    client: RpcClient, light: LightClient | None, peer: str, limit: int
) -> tuple[list[Rating], list[Service]]:
    """Ratings of the peer and services it took part in, latest first."""
    ratings: list[Rating] = []
    services: list[Service] = []
    cursor = None
    for _ in range(PAGES_MAX_COUNT):
        said = await client.call(
            "tx_list", {"account": peer, "limit": PAGE_COUNT, "cursor": cursor}
        )
        for item in _list(said, "items"):
            kind = _text(_member(item, "payload"), "type")
            room = len(ratings if kind == "Rate" else services) < limit
            if kind not in ("Rate", "Settle") or not room:
                continue
            found = _said_row(item) if light is None else await _proven_row(light, item)
            if isinstance(found, Rating) and found.subject == peer:
                ratings.append(found)
            elif isinstance(found, Service) and peer in (found.payer, found.payee):
                services.append(found)
        cursor = said.get("nextCursor")
        if cursor is None or (len(ratings) >= limit and len(services) >= limit):
            break
    return ratings, services


async def _proven_row(light: LightClient, item: Mapping[str, Any]) -> Rating | Service | None:
    name = _text(item, "hash")
    try:
        transaction_id = bytes.fromhex(name.removeprefix("0x"))
    except ValueError as error:
        raise UnexpectedAnswer(f"hash: {name!r}") from error
    return _row_of(await light.transaction(transaction_id))


def _row_of(proven: ProvenTransaction) -> Rating | Service | None:
    transaction, height = proven.signed.transaction, proven.header.height
    name, ok = "0x" + proven.signed.transaction_id.hex(), proven.receipt.ok
    if isinstance(transaction, Rate):
        return Rating(
            peer_id(transaction.sender),
            peer_id(transaction.subject),
            transaction.score,
            transaction.service,
            transaction.receipt_seq,
            height,
            name,
            ok,
        )
    if isinstance(transaction, Settle):
        return Service(
            peer_id(transaction.payer),
            peer_id(transaction.payee),
            transaction.service,
            transaction.seq,
            transaction.cum_units,
            transaction.cum_paid,
            bool(transaction.counterparty_signature),
            height,
            name,
            ok,
        )
    return None


def _said_row(item: Mapping[str, Any]) -> Rating | Service:
    try:
        payload, name, height = item["payload"], str(item["hash"]), int(item["height"])
        ok = item["receipt"] is None or item["receipt"]["ok"] is True
        if payload["type"] == "Rate":
            return Rating(
                str(payload["sender"]),
                str(payload["subject"]),
                int(payload["score"]),
                int(payload["service"]),
                int(payload["receiptSeq"]),
                height,
                name,
                ok,
            )
        return Service(
            str(payload["payer"]),
            str(payload["payee"]),
            int(payload["service"]),
            int(payload["seq"]),
            int(payload["cumUnits"]),
            int(payload["cumPaid"]),
            len(str(payload["counterpartySignature"])) > len("0x"),
            height,
            name,
            ok,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UnexpectedAnswer(f"transaction: {error!r}") from error


def _object(row: Rating | Service) -> dict[str, Any]:
    written = {name: getattr(row, name) for name in type(row).__dataclass_fields__}
    if isinstance(row, Service):
        written["paid"] = str(row.paid)
    return written


def _member(said: object, name: str) -> Any:
    if not isinstance(said, Mapping) or name not in said:
        raise UnexpectedAnswer(f"{name}: missing")
    return said[name]


def _text(said: object, name: str) -> str:
    value = _member(said, name)
    if not isinstance(value, str):
        raise UnexpectedAnswer(f"{name}: no text")
    return value


def _number(said: object, name: str) -> int:
    value = _member(said, name)
    if type(value) is not int:
        raise UnexpectedAnswer(f"{name}: no number")
    return value


def _list(said: object, name: str) -> list[Any]:
    value = _member(said, name)
    if not isinstance(value, list):
        raise UnexpectedAnswer(f"{name}: no list")
    return value


def _epoch(said: object) -> int | None:
    return None if _member(said, "epoch") is None else _number(said, "epoch")

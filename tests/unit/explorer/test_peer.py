"""What the script makes of a node's answers; proofs are tested against a real network."""

from typing import Any

import pytest

from explorer.peer import QUALITY_ONE, UnexpectedAnswer, look_up, top
from ledger.crypto import PrivateKey, sha256
from ledger.identity import InvalidPeerId, peer_id
from rpc.forms import score_form


def name(person: str) -> str:
    return peer_id(PrivateKey(sha256(person.encode())).public_key)


ALICE, BOB, CAROL = map(name, ("alice", "bob", "carol"))


def said_score(peer: str, **changes: Any) -> dict[str, Any]:
    form = {
        "subject": peer,
        "newcomer": False,
        "trust": "1000",
        "quality": str(QUALITY_ONE // 2),
        "standing": "500",
        "rank": 3,
        "raters": 2,
        "flags": ["seed"],
    }
    return form | changes


def said_rate(rater: str, subject: str, score: int, height: int, **changes: Any) -> dict[str, Any]:
    payload = {
        "type": "Rate",
        "sender": rater,
        "subject": subject,
        "service": 0,
        "receiptSeq": 1,
        "score": score,
    }
    said = {"hash": "0x00", "height": height, "receipt": {"ok": True}, "payload": payload}
    return said | changes


def said_settle(payer: str, payee: str, paid: int, height: int, signature: str) -> dict[str, Any]:
    payload = {
        "type": "Settle",
        "payer": payer,
        "payee": payee,
        "service": 0,
        "seq": 1,
        "cumUnits": 1,
        "cumPaid": str(paid),
        "counterpartySignature": signature,
    }
    return {"hash": "0x00", "height": height, "receipt": {"ok": True}, "payload": payload}


class Node:
    """Answers from lists; pages of transactions by cursor."""

    def __init__(self, pages: list[list[Any]], scores: dict[str, Any]) -> None:
        self.pages = pages
        self.scores = scores
        self.calls: list[str] = []

    async def call(self, method: str, params: dict[str, Any]) -> Any:
        self.calls.append(method)
        if method == "tx_list":
            place = int(params["cursor"] or 0)
            more = place + 1 < len(self.pages)
            return {"items": self.pages[place], "nextCursor": str(place + 1) if more else None}
        subjects = params.get("subject") or list(self.scores)
        items = [self.scores[subject] for subject in subjects]
        return {"height": 9, "epoch": 4, "items": items, "nextCursor": None}


async def test_evidence_is_what_concerns_the_peer() -> None:
    transfer = {"hash": "0x00", "height": 7, "receipt": None, "payload": {"type": "Transfer"}}
    pages = [
        [
            said_rate(BOB, ALICE, 7, 8),
            said_rate(ALICE, CAROL, -3, 8),
            transfer,
            said_settle(BOB, ALICE, 255_000, 7, "0x" + "ab" * 64),
        ],
        [said_settle(ALICE, CAROL, 10, 6, "0x"), said_rate(BOB, ALICE, 2, 5)],
    ]
    node = Node(pages, {each: said_score(each) for each in (ALICE, BOB, CAROL)})
    found = await look_up(node, None, ALICE, 20)
    assert [(each.rater, each.score, each.height) for each in found.ratings] == [
        (BOB, 7, 8),
        (BOB, 2, 5),
    ]
    assert [(each.payee, each.paid, each.cosigned) for each in found.services] == [
        (ALICE, 255_000, True),
        (CAROL, 10, False),
    ]
    assert [each.peer for each in found.raters] == [BOB], "whom the peer rated is no rater of it"
    assert (found.epoch, found.height, found.proven) == (4, 9, False)


async def test_history_is_read_no_further_than_needed() -> None:
    page = [said_rate(BOB, ALICE, 1, 9), said_settle(BOB, ALICE, 1, 9, "0x01")]
    node = Node([page] * 50, {each: said_score(each) for each in (ALICE, BOB)})
    found = await look_up(node, None, ALICE, 2)
    assert (len(found.ratings), len(found.services)) == (2, 2)
    assert node.calls.count("tx_list") == 2
    node = Node([[said_rate(BOB, ALICE, 1, 9)]] * 50, node.scores)
    found = await look_up(node, None, ALICE, 200)
    assert node.calls.count("tx_list") == 20, "a busy peer does not make us ask for ever"


async def test_a_newcomer_has_no_rank_and_no_evidence() -> None:
    from ledger.identity import public_key_of

    node = Node([[]], {ALICE: score_form(public_key_of(ALICE), None)})
    found = await look_up(node, None, ALICE, 20)
    assert found.standing.newcomer
    assert (found.standing.rank, found.standing.quality) == (None, QUALITY_ONE)
    said = found.as_object()
    assert (said["newcomer"], said["standing"], said["ratings"]) == (True, "0", [])


async def test_failed_transactions_are_told_apart() -> None:
    failed = said_rate(BOB, ALICE, 9, 5, receipt={"ok": False, "reason": "ALREADY_RATED"})
    node = Node([[failed]], {each: said_score(each) for each in (ALICE, BOB)})
    found = await look_up(node, None, ALICE, 20)
    assert not found.ratings[0].ok


async def test_top_is_in_the_order_of_ranks() -> None:
    scores = {ALICE: said_score(ALICE, rank=1), BOB: said_score(BOB, rank=2)}
    found = await top(Node([], scores), None, 2)
    assert [(each.peer, each.rank) for each in found.standings] == [(ALICE, 1), (BOB, 2)]
    assert found.as_object()["proven"] is False


@pytest.mark.parametrize(
    "broken",
    [
        {"subject": 7},
        {"trust": "many"},
        {"rank": "first"},
        {"flags": None},
        {"subject": BOB},
    ],
)
async def test_nonsense_is_named_and_nothing_is_shown(broken: dict[str, Any]) -> None:
    node = Node([[]], {ALICE: said_score(ALICE) | broken})
    with pytest.raises(UnexpectedAnswer):
        await look_up(node, None, ALICE, 20)


@pytest.mark.parametrize(
    "item",
    [
        {},
        {"payload": []},
        {"payload": {"type": "Rate"}, "hash": "0x", "height": 1, "receipt": None},
        {"payload": {"type": "Settle"}, "hash": "0x", "height": 1, "receipt": None},
    ],
)
async def test_nonsense_in_the_evidence_is_named(item: dict[str, Any]) -> None:
    node = Node([[item]], {ALICE: said_score(ALICE)})
    with pytest.raises(UnexpectedAnswer):
        await look_up(node, None, ALICE, 20)


async def test_a_name_that_is_no_peer_is_refused_before_anything_is_asked() -> None:
    node = Node([], {})
    with pytest.raises(InvalidPeerId):
        await look_up(node, None, "16Uiu2HAnonsense", 20)
    assert node.calls == []

"""Attacks on settlement and rating, by parties who hold real keys and real receipts."""

import msgspec
import pytest

from ledger.errors import MalformedData
from ledger.execution.scores import ScoresNotReady
from ledger.params import DEVNET_PARAMS, MICRO
from ledger.reasons import TransactionRefused
from ledger.receipt import Receipt
from ledger.reputation.edges import decode_pair, edge_at_end_of
from ledger.reputation.score_tree import ScoreCommitment
from ledger.state import ScoredEpoch, pair_key
from ledger.transactions import Settle, decode_transaction
from ledger.verification import SignatureCache
from tests.kit.chain import GENESIS_HASH, GENESIS_TIME_MS, SmallChain, address_of

LARGEST = 2**53 - 1


@pytest.fixture
def chain() -> SmallChain:
    """Alice pays, bob serves, mallory and her sybil are registered like everybody else."""
    people = ("alice", "bob", "mallory", "sybil")
    chain = SmallChain(balances=dict.fromkeys(people, 1_000 * MICRO))
    chain.commit(*(chain.register(name) for name in people))
    return chain


def edge(chain: SmallChain, payer: str, payee: str, epoch: int) -> tuple[int, int]:
    """(pos, neg) of service 1 at the end of `epoch`."""
    raw = chain.view.get(pair_key(address_of(payer), address_of(payee), 1))
    return (0, 0) if raw is None else edge_at_end_of(decode_pair(raw), epoch)


def epoch_time(epoch: int) -> int:
    """A moment in `epoch` before its predecessor's scores are due."""
    return GENESIS_TIME_MS + epoch * DEVNET_PARAMS.epoch_ms + 1


def reason(receipts: list[Receipt]) -> str:
    """Of the only receipt."""
    (receipt,) = receipts
    return "ok" if receipt.ok else receipt.reason


@pytest.mark.parametrize(
    ("seq", "units", "paid"),
    [(LARGEST, 1, 1), (1, LARGEST, 1), (LARGEST, LARGEST, 1), (6, 6, 1), (5, 5, 1)],
)
def test_a_payer_cannot_escape_a_debt_by_settling_alone(
    chain: SmallChain, seq: int, units: int, paid: int
) -> None:
    # Bob holds receipt 5 over 100 T, signed by both. Before he submits it, the payer settles alone
    # a receipt whose number or units lie beyond it, over next to nothing.
    owed = 100 * MICRO
    chain.commit(chain.settle("alice", "bob", seq, units, paid, sender="alice", cosigned=False))
    before = chain.balance("alice")
    assert reason(chain.commit(chain.settle("alice", "bob", 5, 5, owed))) == "ok"
    assert before - chain.balance("alice") == owed - paid, "what was paid ahead is not paid twice"


def test_paying_ahead_alone_is_counted_once_and_cannot_be_replayed(chain: SmallChain) -> None:
    chain.commit(chain.settle("alice", "bob", 1, 1, 5_000))
    alone = {"sender": "alice", "cosigned": False}
    assert reason(chain.commit(chain.settle("alice", "bob", 2, 2, 7_000, **alone))) == "ok"
    assert reason(chain.commit(chain.settle("alice", "bob", 2, 2, 7_000, **alone))) == (
        "RECEIPT_NOT_NEWER"
    )
    before = chain.balance("bob")
    assert reason(chain.commit(chain.settle("alice", "bob", 2, 2, 8_000, sender="alice"))) == "ok"
    assert chain.balance("bob") - before == 1_000 - 20


def test_a_stranger_cannot_be_paid_in_order_to_be_blamed(chain: SmallChain) -> None:
    # A payment that bob never signed for, then the worst rating, in its epoch and a later one.
    chain.commit(chain.settle("mallory", "bob", 1, 1, 50 * MICRO, sender="mallory", cosigned=False))
    assert reason(chain.commit(chain.rate("mallory", "bob", 1, -10))) == "NOTHING_TO_RATE"
    late = chain.rate("mallory", "bob", 1, -10)
    assert reason(chain.commit(late, time_ms=epoch_time(1))) == "NOTHING_TO_RATE"
    assert edge(chain, "mallory", "bob", 0) == (0, 0)


def test_blame_does_not_grow_by_what_is_forced_beside_a_real_receipt(chain: SmallChain) -> None:
    # One honest receipt over the least amount, then a fortune that bob did not ask for: a rating
    # weighs the window's total, so the fortune must not be in it.
    chain.commit(chain.settle("mallory", "bob", 1, 1, 1_000))
    alone = {"sender": "mallory", "cosigned": False}
    chain.commit(chain.settle("mallory", "bob", 2, 2, 500 * MICRO, **alone))
    chain.commit(chain.rate("mallory", "bob", 1, -10))
    assert edge(chain, "mallory", "bob", 0) == (0, 16)


def test_one_receipt_settles_once_whoever_submits_it(chain: SmallChain) -> None:
    chain.commit(chain.settle("alice", "bob", 1, 1, 5_000))
    for sender in ("bob", "alice"):
        again = chain.settle("alice", "bob", 1, 1, 5_000, sender=sender)
        assert reason(chain.commit(again)) == "RECEIPT_NOT_NEWER"


def test_both_parties_submit_the_same_receipt_into_one_block(chain: SmallChain) -> None:
    first = chain.settle("alice", "bob", 1, 1, 5_000, sender="bob")
    second = chain.settle("alice", "bob", 1, 1, 5_000, sender="alice")
    before = chain.balance("alice")
    receipts = chain.commit(first, second)
    assert [each.ok for each in receipts] == [True, False]
    assert before - chain.balance("alice") == 5_000 + second.transaction.fee


@pytest.mark.parametrize("field", ["seq", "cum_units", "cum_paid", "service"])
def test_a_signed_receipt_cannot_be_raised_by_its_submitter(chain: SmallChain, field: str) -> None:
    settle = chain.settle("alice", "bob", 1, 1, 5_000).transaction
    assert isinstance(settle, Settle)
    raised = msgspec.structs.replace(settle, **{field: getattr(settle, field) + 1})
    with pytest.raises(TransactionRefused) as refused:
        SignatureCache(GENESIS_HASH).check(chain.sign(raised, "bob"), chain.params, bytes)
    assert refused.value.reason == "INVALID_COUNTERPARTY_SIGNATURE"


def test_a_receipt_is_not_turned_around(chain: SmallChain) -> None:
    # Alice's signature as payer must not pass for her signature as payee.
    settle = chain.settle("alice", "bob", 1, 1, 5_000).transaction
    assert isinstance(settle, Settle)
    turned = msgspec.structs.replace(settle, payer=settle.payee, payee=settle.payer)
    with pytest.raises(TransactionRefused) as refused:
        SignatureCache(GENESIS_HASH).check(chain.sign(turned, "bob"), chain.params, bytes)
    assert refused.value.reason == "INVALID_COUNTERPARTY_SIGNATURE"


@pytest.mark.parametrize("service", [-1, 32, 255])
def test_services_outside_the_mask_do_not_exist(chain: SmallChain, service: int) -> None:
    # Points of at most 32 services are summed; a 33rd would leave the bounds of the arithmetic.
    settle = chain.settle("alice", "bob", 1, 1, 5_000).transaction
    bent = chain.sign(msgspec.structs.replace(settle, service=service), "bob")
    with pytest.raises(MalformedData):
        decode_transaction(bent.raw, GENESIS_HASH)


def test_the_largest_sum_overflows_nothing(chain: SmallChain) -> None:
    # Both agree on 2^53 − 1 µT, which nobody has; then on one less than the payer holds.
    wish = chain.settle("alice", "bob", 1, 1, LARGEST)
    assert reason(chain.commit(wish)) == "INSUFFICIENT_FUNDS"
    everything = chain.balance("alice")
    assert reason(chain.commit(chain.settle("alice", "bob", LARGEST, LARGEST, everything))) == "ok"
    assert chain.balance("alice") == 0


def test_a_circle_of_payments_earns_its_members_nothing(chain: SmallChain) -> None:
    # The same coins go round between mallory and her sybil, through receipts both have signed.
    start = chain.balance("mallory") + chain.balance("sybil")
    paid = {("mallory", "sybil"): 0, ("sybil", "mallory"): 0}
    fees = 0
    for turn in range(1, 9):
        for payer, payee in paid:
            paid[payer, payee] += 100 * MICRO
            settle = chain.settle(payer, payee, turn, turn, paid[payer, payee])
            fees += settle.transaction.fee
            assert reason(chain.commit(settle, time_ms=chain.time_ms + 1)) == "ok"
    volume = sum(paid.values())
    end = chain.balance("mallory") + chain.balance("sybil")
    assert start - end - fees == volume * 2 // 100


def test_one_rating_an_epoch_whatever_it_is_about(chain: SmallChain) -> None:
    # Rate this epoch's receipt and the last one's in the same epoch, in both orders, twice.
    chain.commit(chain.settle("alice", "bob", 1, 1, 255_000))
    second = chain.settle("alice", "bob", 2, 2, 510_000)
    chain.commit(second, time_ms=epoch_time(1))
    ratings = [(1, -10), (2, -10), (1, 10), (2, 10)]
    verdicts = []
    for seq, score in ratings:
        receipts = chain.commit(chain.rate("alice", "bob", seq, score), time_ms=chain.time_ms + 1)
        verdicts.append(reason(receipts))
    assert verdicts == ["ok", "ALREADY_RATED", "ALREADY_RATED", "ALREADY_RATED"]


def test_a_rating_does_not_come_twice_by_way_of_the_next_epoch(chain: SmallChain) -> None:
    chain.commit(chain.settle("alice", "bob", 1, 1, 255_000))
    assert reason(chain.commit(chain.rate("alice", "bob", 1, -10))) == "ok"
    blamed = edge(chain, "alice", "bob", 0)
    late = chain.rate("alice", "bob", 1, -10)
    assert reason(chain.commit(late, time_ms=epoch_time(1))) == "ALREADY_RATED"
    assert blamed == edge(chain, "alice", "bob", 0) == (0, 128)


def test_splitting_a_payment_over_settles_earns_no_point_more(chain: SmallChain) -> None:
    for turn in range(1, 11):
        chain.commit(chain.settle("mallory", "sybil", turn, turn, turn * 25_500), time_ms=None)
        chain.time_ms = GENESIS_TIME_MS + turn  # all within epoch 0
    chain.commit(chain.settle("alice", "bob", 1, 1, 255_000), time_ms=GENESIS_TIME_MS + 20)
    assert edge(chain, "mallory", "sybil", 0) == edge(chain, "alice", "bob", 0) == (64, 0)


def test_at_the_boundary_a_receipt_counts_in_one_epoch_only(chain: SmallChain) -> None:
    # Settled in the last millisecond of epoch 0 and topped up in the first of epoch 1.
    boundary = GENESIS_TIME_MS + DEVNET_PARAMS.epoch_ms
    chain.commit(chain.settle("alice", "bob", 1, 1, 255_000), time_ms=boundary - 1)
    chain.commit(chain.settle("alice", "bob", 2, 2, 255_000 + 1_000), time_ms=boundary)
    assert edge(chain, "alice", "bob", 0) == (64, 0)
    decayed = 64 * 62_370 >> 16
    assert edge(chain, "alice", "bob", 1) == (decayed + 8, 0)


def test_scores_of_a_skipped_or_future_epoch_are_not_taken(chain: SmallChain) -> None:
    # A proposer hands in scores that are not due: of the running epoch, and of one long gone.
    due = GENESIS_TIME_MS + 3 * DEVNET_PARAMS.epoch_ms + DEVNET_PARAMS.score_delay_ms
    for wrong in (0, 1, 3):
        with pytest.raises(ScoresNotReady) as waits:
            chain.execute(time_ms=due, scores=ScoredEpoch(ScoreCommitment(wrong, bytes(32), 0), ()))
        assert waits.value.epoch == 2
    early = ScoredEpoch(ScoreCommitment(2, b"\x01" * 32, 9), ())
    with_them = chain.execute(time_ms=due - 1, scores=early)
    assert with_them.state_root == chain.execute(time_ms=due - 1).state_root

"""The replay's transactions do on the ledger what they are meant to do."""

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import msgspec
import pytest

from ledger.identity import peer_id
from ledger.params import DEVNET_PARAMS, MICRO
from ledger.reputation.edges import PairState, edge_at_end_of
from ledger.reputation.epoch import ReputationParams, compute_epoch
from ledger.state import pair_key, read_account
from ledger.transactions import SignedTransaction, decode_transaction
from ledger.verification import SignatureCache, check_stateless
from node import otc
from node.demo import dataset, definition, plan, replay
from node.demo.dataset import Dataset
from node.demo.plan import Chain, Signer, person_key
from tests.kit.chain import CHAIN, SmallChain, key_of

CHAIN_SIGNED_FOR = Chain(CHAIN, DEVNET_PARAMS)
SPONSORS = ("alice", "bob", "carol")
LANES = 4


class _Silent:
    def stage(self, title: str, total: int | None) -> AbstractContextManager[Callable[[int], None]]:
        return nullcontext(lambda _: None)


def _signed(data: Dataset) -> replay.Signed:
    sponsors = [Signer(key_of(name), CHAIN_SIGNED_FOR) for name in SPONSORS]
    return replay.sign_all(data, CHAIN_SIGNED_FOR, "otc", sponsors, [], LANES, _Silent())


def _decoded(lanes: plan.Lanes) -> list[SignedTransaction]:
    """Every lane's transactions, the lanes taking turns as they do on the way."""
    found = []
    longest = max(map(len, lanes))
    for place in range(longest):
        found += [lane[place] for lane in lanes if place < len(lane)]
    return [decode_transaction(raw, CHAIN.genesis_hash) for raw in found]


@pytest.fixture(scope="module")
def data() -> Dataset:
    return dataset.load(None, None)


@pytest.fixture(scope="module")
def replayed(data: Dataset) -> SmallChain:
    """The sample on a chain, every transaction with effect."""
    chain = SmallChain(balances=dict.fromkeys(SPONSORS, 1_000 * MICRO))
    signed = _signed(data)
    for lanes in (signed.opening, signed.services):
        receipts = chain.commit(*_decoded(lanes), time_ms=chain.time_ms + 100)
        assert {receipt.reason for receipt in receipts if not receipt.ok} == set()
    return chain


def test_scores_on_the_ledger_are_those_of_the_reference(
    data: Dataset, replayed: SmallChain
) -> None:
    params = ReputationParams(p_min=otc.P_MIN, n0=64, n_ref=data.n_ref)
    expected = otc.replay(data.ratings, data.seeds, params)
    decode = msgspec.msgpack.Decoder(PairState).decode
    pairs = []
    for rater, ratee, _ in data.ratings:
        parties = (person_key("otc", rater).public_key, person_key("otc", ratee).public_key)
        value = replayed.view.get(pair_key(*parties, plan.SERVICE))
        assert value is not None
        pairs.append((*parties, plan.SERVICE, *edge_at_end_of(decode(value), 0)))
    seeds = [person_key("otc", seed).public_key for seed in data.seeds]
    table = compute_epoch(pairs, seeds, params, 0, {}).table
    for person in data.labels:
        score = table.lookup(person_key("otc", person).public_key)
        assert score is not None
        # Keys are ordered otherwise than people's numbers, which moves roundings by a unit or two.
        assert score.quality == pytest.approx(expected[person].quality, abs=4)
        assert score.standing == pytest.approx(expected[person].standing, rel=1e-3, abs=4)


def test_what_people_are_given_is_enough_and_little_more(
    data: Dataset, replayed: SmallChain
) -> None:
    given = Counter(rating.rater for rating in data.ratings)
    received = Counter(rating.ratee for rating in data.ratings)
    price = CHAIN_SIGNED_FOR.price
    net = price - price * DEVNET_PARAMS.cut_ppm // MICRO
    for person in data.people:
        account = read_account(replayed.view, person_key("otc", person).public_key)
        assert account.is_registered
        assert account.nonce == 2 * given[person]
        assert account.balance == received[person] * net


def test_every_signature_and_every_rule_of_admission_holds(data: Dataset) -> None:
    signed = _signed(data)
    cache = SignatureCache(CHAIN.genesis_hash)
    for lanes in (signed.opening, signed.services):
        for each in _decoded(lanes)[:60]:
            check_stateless(each, CHAIN.chain_id, DEVNET_PARAMS)
            cache.check(each, DEVNET_PARAMS, lambda address: address)


def test_a_sender_stays_in_one_lane_with_its_nonces_in_order(data: Dataset) -> None:
    signed = _signed(data)
    for lanes in (signed.opening, signed.services):
        lane_of: dict[bytes, int] = {}
        next_nonce: Counter[bytes] = Counter()
        for number, lane in enumerate(lanes):
            for raw in lane:
                transaction = decode_transaction(raw, CHAIN.genesis_hash).transaction
                assert lane_of.setdefault(transaction.sender, number) == number
                assert transaction.nonce == next_nonce[transaction.sender]
                next_nonce[transaction.sender] += 1


def test_lanes_are_about_equally_long(data: Dataset) -> None:
    lengths = [len(lane) for lane in _signed(data).services]
    assert max(lengths) - min(lengths) <= max(lengths) // 10


def test_counts_are_known_before_signing(data: Dataset) -> None:
    assert _signed(data).count == replay.transactions_of(data)


def test_a_pair_that_trades_twice_has_a_growing_receipt() -> None:
    ratings = [otc.Rating(1, 2, 5), otc.Rating(1, 2, 7), otc.Rating(3, 2, 1)]
    signers = {person: Signer(person_key("otc", person), CHAIN_SIGNED_FOR) for person in (1, 2, 3)}
    (lane,) = plan.services(ratings, signers, 1)
    settles = [decode_transaction(raw, CHAIN.genesis_hash).transaction for raw in lane[::2]]
    assert [each.seq for each in settles] == [1, 2, 1]
    assert [each.cum_paid for each in settles] == [255_000, 510_000, 255_000]


def test_sponsors_can_pay_what_the_opening_is_said_to_cost(data: Dataset) -> None:
    needs = plan.needs_of(CHAIN_SIGNED_FOR, data.ratings, data.people)
    cost = plan.opening_cost(CHAIN_SIGNED_FOR, needs)
    share = -(-cost // len(SPONSORS)) + 40 * MICRO
    chain = SmallChain(balances=dict.fromkeys(SPONSORS, share))
    receipts = chain.commit(*_decoded(_signed(data).opening))
    assert all(receipt.ok for receipt in receipts)


def test_operators_introduce_the_seeds_on_a_network_that_is_not_ours(data: Dataset) -> None:
    sponsors = [Signer(key_of("alice"), CHAIN_SIGNED_FOR)]
    operator = Signer(key_of("bob"), CHAIN_SIGNED_FOR, nonce=9)
    signed = replay.sign_all(
        data, CHAIN_SIGNED_FOR, "otc-2", sponsors, [operator], LANES, _Silent()
    )
    made = [each.transaction for each in _decoded(signed.introductions)]
    assert [each.nonce for each in made] == list(range(9, 9 + 2 * len(data.seeds)))
    rated = {each.subject for each in made[1::2]}
    assert rated == {person_key("otc-2", seed).public_key for seed in data.seeds}


def test_seeds_of_the_definition_are_people_of_the_data(data: Dataset) -> None:
    document = definition.document_for(data, 1_200, 1_700_000_000_000)
    named = {peer_id(person_key(definition.REPLAY, seed).public_key) for seed in data.seeds}
    assert set(document.seeds) == named
    assert document.parameters.model_dump()["reputation_n_ref"] == len(data.people)


@pytest.mark.parametrize(
    ("transactions", "epoch_ms"), [(0, 5_000), (80_000, 10_000), (1_000_000, 20_000)]
)
def test_epochs_grow_with_the_replay(data: Dataset, transactions: int, epoch_ms: int) -> None:
    params = definition.params_for(data, transactions)
    params.check()
    assert params.epoch_ms == epoch_ms

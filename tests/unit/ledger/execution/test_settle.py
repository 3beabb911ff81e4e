"""Settle: cumulative receipts, the cut, and what each signature is good for."""

import msgspec
import pytest

from ledger.execution.settle import cut_of
from ledger.identity import peer_id
from ledger.params import DEVNET_PARAMS, MICRO
from ledger.reasons import TransactionRefused
from ledger.receipt import Receipt
from ledger.reputation.edges import PairState, pair_codec
from ledger.state import pair_key
from ledger.transactions import Settle
from ledger.verification import check_stateless
from tests.kit.chain import CHAIN, FEE, SmallChain, address_of


@pytest.fixture
def chain() -> SmallChain:
    made = SmallChain({"alice": 100 * MICRO, "bob": 100 * MICRO, "carol": 100 * MICRO})
    made.commit(made.register("alice"), made.register("bob"))
    return made


def pair(chain: SmallChain, payer: str = "alice", payee: str = "bob") -> PairState | None:
    raw = chain.view.get(pair_key(address_of(payer), address_of(payee), 1))
    return None if raw is None else pair_codec.decode(raw)


def failed(receipt: Receipt) -> tuple[str, dict[str, object]]:
    assert not receipt.ok
    return receipt.reason, dict(receipt.facts)


def test_the_first_receipt_pays_its_sum_less_the_cut(chain: SmallChain) -> None:
    alice, bob, proposer = map(chain.balance, ("alice", "bob", "val-0"))
    totals = chain.totals
    (receipt,) = chain.commit(chain.settle("alice", "bob", 1, 10, 1_000_000))
    assert receipt.ok
    assert chain.balance("alice") == alice - 1_000_000
    assert chain.balance("bob") == bob + 980_000 - FEE
    assert chain.balance("val-0") == proposer + 5_000 + FEE
    assert chain.totals.burned == totals.burned + 5_000
    assert chain.totals.pool == totals.pool + 10_000


def test_a_newer_receipt_pays_the_difference(chain: SmallChain) -> None:
    chain.commit(chain.settle("alice", "bob", 1, 10, 1_000_000))
    alice = chain.balance("alice")
    chain.commit(chain.settle("alice", "bob", 9, 11, 1_000_001))
    assert chain.balance("alice") == alice - 1
    state = pair(chain)
    assert state is not None
    assert (state.seq, state.cum_units, state.cum_paid) == (9, 11, 1_000_001)


@pytest.mark.parametrize(
    ("receipt", "field"),
    [
        ((1, 10, 1_000), "seq"),
        ((1, 11, 1_001), "seq"),
        ((2, 10, 1_001), "cum_units"),
        ((2, 11, 1_000), "cum_paid"),
        ((2, 9, 1_001), "cum_units"),
        ((2, 11, 999), "cum_paid"),
    ],
)
def test_number_and_sums_must_all_grow(
    chain: SmallChain, receipt: tuple[int, int, int], field: str
) -> None:
    chain.commit(chain.settle("alice", "bob", 1, 10, 1_000))
    before = pair(chain)
    (outcome,) = chain.commit(chain.settle("alice", "bob", *receipt))
    reason, facts = failed(outcome)
    assert reason == "RECEIPT_NOT_NEWER"
    assert facts["field"] == field
    assert pair(chain) == before


@pytest.mark.parametrize("receipt", [(1, 0, 5), (1, 5, 0)])
def test_a_receipt_over_nothing_settles_nothing(
    chain: SmallChain, receipt: tuple[int, int, int]
) -> None:
    (outcome,) = chain.commit(chain.settle("alice", "bob", *receipt))
    assert failed(outcome)[0] == "RECEIPT_NOT_NEWER"
    assert pair(chain) is None


def test_pairs_and_services_count_apart(chain: SmallChain) -> None:
    receipts = chain.commit(
        chain.settle("alice", "bob", 1, 1, 100),
        chain.settle("bob", "alice", 1, 1, 100),
        chain.settle("alice", "bob", 1, 1, 100, service=2, nonce=chain.nonce("bob") + 1),
    )
    assert all(each.ok for each in receipts)


@pytest.mark.parametrize(
    ("payer", "payee", "role"), [("carol", "bob", "payer"), ("alice", "carol", "payee")]
)
def test_both_parties_must_be_registered(
    chain: SmallChain, payer: str, payee: str, role: str
) -> None:
    (outcome,) = chain.commit(chain.settle(payer, payee, 1, 1, 100))
    assert failed(outcome) == (
        "NOT_REGISTERED",
        {"role": role, "peer": peer_id(address_of("carol"))},
    )


def test_the_payer_must_have_it(chain: SmallChain) -> None:
    balance = chain.balance("alice")
    (outcome,) = chain.commit(chain.settle("alice", "bob", 1, 1, balance + 1))
    assert failed(outcome) == ("INSUFFICIENT_FUNDS", {"needed": balance + 1, "balance": balance})
    assert pair(chain) is None
    (outcome,) = chain.commit(chain.settle("alice", "bob", 1, 1, balance))
    assert outcome.ok
    assert chain.balance("alice") == 0


def test_a_payer_that_settles_pays_its_fee_first(chain: SmallChain) -> None:
    balance = chain.balance("alice")
    (outcome,) = chain.commit(chain.settle("alice", "bob", 1, 1, balance, sender="alice"))
    assert failed(outcome) == (
        "INSUFFICIENT_FUNDS",
        {"needed": balance, "balance": balance - FEE},
    )


def test_there_are_no_channels_yet(chain: SmallChain) -> None:
    (outcome,) = chain.commit(chain.settle("alice", "bob", 1, 1, 100, channel=b"c" * 32))
    assert failed(outcome) == ("CHANNEL_UNKNOWN", {"channel": (b"c" * 32).hex()})


@pytest.mark.parametrize(
    ("sender", "cosigned", "points", "blame"),
    [("bob", True, 5_000, 5_000), ("alice", True, 5_000, 5_000), ("alice", False, 0, 0)],
)
def test_what_counts_for_points_and_for_blame(
    chain: SmallChain, sender: str, cosigned: bool, points: int, blame: int
) -> None:
    settle = chain.settle("alice", "bob", 1, 1, 5_000, sender=sender, cosigned=cosigned)
    (outcome,) = chain.commit(settle)
    assert outcome.ok
    state = pair(chain)
    assert state is not None
    assert (state.paid_cosigned, state.paid_ratable) == (points, blame)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"payee": "alice"}, "payee"),
        ({"sender": "carol"}, "sender"),
        ({"channel": b"c"}, "channel"),
        ({"counterparty_signature": b""}, "counterparty_signature"),
        ({"counterparty_signature": bytes(63)}, "counterparty_signature"),
        ({"sender": "alice", "counterparty_signature": bytes(1)}, "counterparty_signature"),
    ],
)
def test_contradictions_never_enter_a_block(
    chain: SmallChain, fields: dict[str, object], field: str
) -> None:
    settle = chain.settle("alice", "bob", 1, 1, 100).transaction
    assert isinstance(settle, Settle)
    values = {
        name: address_of(value) if isinstance(value, str) else value
        for name, value in fields.items()
    }
    signed = chain.sign(msgspec.structs.replace(settle, **values), str(fields.get("sender", "bob")))
    with pytest.raises(TransactionRefused) as caught:
        check_stateless(signed, CHAIN.chain_id, chain.params)
    assert (caught.value.reason, dict(caught.value.facts)["field"]) == ("INVALID_FIELDS", field)


@pytest.mark.parametrize("paid", [1, 49, 50, 51, 199, 200, 201, 10**6, 10**6 + 1, 2**53 - 1])
def test_the_cut_is_rounded_up_as_a_whole(paid: int) -> None:
    cut, burned, validators = cut_of(paid, DEVNET_PARAMS)
    assert (cut - 1) * MICRO < paid * DEVNET_PARAMS.cut_ppm <= cut * MICRO
    assert 0 <= burned <= paid * DEVNET_PARAMS.cut_burn_ppm / MICRO
    assert 0 <= validators <= paid * DEVNET_PARAMS.cut_validators_ppm / MICRO
    assert 0 < cut - burned - validators <= cut <= paid


def test_splitting_a_payment_never_lowers_the_cut() -> None:
    for parts in ([1, 1], [49, 1], [99, 101], [1] * 60):
        whole, _, _ = cut_of(sum(parts), DEVNET_PARAMS)
        assert sum(cut_of(part, DEVNET_PARAMS)[0] for part in parts) >= whole


def test_no_cut_where_the_parameters_say_so() -> None:
    params = msgspec.structs.replace(
        DEVNET_PARAMS, cut_burn_ppm=0, cut_validators_ppm=0, cut_pool_ppm=0
    )
    assert cut_of(12_345, params) == (0, 0, 0)


def test_a_proposer_that_is_a_party_is_paid_as_both() -> None:
    chain = SmallChain({"alice": 100 * MICRO, "val-0": 100 * MICRO})
    chain.commit(chain.register("alice"), chain.register("val-0"))
    before = chain.balance("val-0")
    chain.commit(chain.settle("alice", "val-0", 1, 1, 1_000_000))
    assert chain.balance("val-0") == before + 980_000 + 5_000

"""The state at height 0."""

import msgspec
import pytest

from ledger.genesis_state import genesis_writes
from ledger.params import DEVNET_PARAMS, InvalidParameter
from ledger.state import (
    Account,
    EpochState,
    Seeds,
    Totals,
    read_account,
    read_epoch_state,
    read_params,
    read_seeds,
    read_totals,
    read_validators,
)
from ledger.view import EmptyView, OverlayView
from tests.kit.chain import address_of, make_validators

BALANCES = [(address_of("bob"), 5), (address_of("alice"), 7)]
SEEDS = [address_of("val-1"), address_of("val-0")]


def written(**changes: object) -> dict[bytes, bytes]:
    arguments = {
        "params": DEVNET_PARAMS,
        "validators": make_validators(),
        "balances": BALANCES,
        "seeds": SEEDS,
    }
    return genesis_writes(**{**arguments, **changes})  # type: ignore[arg-type]


def test_everything_is_there() -> None:
    view = OverlayView(EmptyView(), written())
    assert read_params(view) == DEVNET_PARAMS
    assert read_validators(view) == make_validators()
    assert read_totals(view) == Totals(supply=12, burned=0, pool=0, registered=0)
    assert read_epoch_state(view) == EpochState(-1)
    assert read_seeds(view) == Seeds(tuple(sorted(SEEDS)))
    assert read_account(view, address_of("alice")) == Account(7)
    assert read_account(view, address_of("carol")) == Account(0)


def test_the_order_of_the_definition_does_not_matter() -> None:
    turned = written(balances=BALANCES[::-1], seeds=SEEDS[::-1])
    assert list(turned.items()) == list(written().items())
    assert list(turned) == sorted(turned)


@pytest.mark.parametrize(
    "changes",
    [
        {"balances": []},
        {"balances": [(address_of("alice"), 0)]},
        {"balances": [(address_of("alice"), 2**53)]},
        {"balances": [(address_of("alice"), 2**52), (address_of("bob"), 2**52)]},
        {"balances": [(address_of("alice"), 8), (address_of("bob"), -1)]},
        {"balances": [(address_of("alice"), 8), (address_of("alice"), 1)]},
        {"seeds": []},
        {"seeds": [address_of(str(number)) for number in range(22)]},
    ],
)
def test_what_no_network_may_begin_with(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"µT|seeds|balance"):
        written(**changes)


def test_parameters_are_checked() -> None:
    with pytest.raises(InvalidParameter):
        written(params=msgspec.structs.replace(DEVNET_PARAMS, epoch_ms=1))

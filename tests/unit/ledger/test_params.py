"""The parameter table: defaults within their bounds, and the rules between parameters."""

import msgspec
import pytest

from ledger.codec import LIMIT_53
from ledger.params import (
    DEFAULT_PARAMS,
    DEVNET_PARAMS,
    PARAMETERS,
    PARAMS_CODEC,
    ChainParams,
    InvalidParameter,
)


def changed(**values: int) -> ChainParams:
    return msgspec.structs.replace(DEFAULT_PARAMS, **values)


@pytest.mark.parametrize("params", [DEFAULT_PARAMS, DEVNET_PARAMS])
def test_defaults_are_allowed_and_round_trip(params: ChainParams) -> None:
    params.check()
    assert PARAMS_CODEC.decode(params.encode()) == params
    assert dict(params.items()) == msgspec.structs.asdict(params)


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda each: each.name)
def test_values_outside_their_bounds_are_refused_by_name(parameter: object) -> None:
    name, low, high = parameter.name, parameter.low, parameter.high  # type: ignore[attr-defined]
    for value in (low - 1, high + 1):
        with pytest.raises(InvalidParameter) as caught:
            changed(**{name: value}).check()
        assert (caught.value.name, caught.value.value) == (name, value)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"pbft_timeout_cap_ms": 1_999}, "pbft_timeout_cap_ms"),
        ({"raft_heartbeat_ms": 334}, "raft_heartbeat_ms"),
        ({"epoch_ms": 119_999}, "score_delay_ms"),
        ({"unbonding_epochs": 14}, "unbonding_epochs"),
        ({"dispute_epochs": 14}, "unbonding_epochs"),
        (
            {"cut_burn_ppm": 40_000, "cut_validators_ppm": 40_000, "cut_pool_ppm": 20_001},
            "cut_burn_ppm",
        ),
        ({"block_max_bytes": 65_536, "tx_max_bytes": 32_769}, "block_max_bytes"),
        ({"register_work_n": 1_000}, "register_work_n"),
    ],
)
def test_rules_between_parameters(values: dict[str, int], name: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        changed(**values).check()
    assert caught.value.name == name


def test_every_value_counts_in_the_hash() -> None:
    hashes = {DEFAULT_PARAMS.hash()}
    for parameter in PARAMETERS:
        value = getattr(DEFAULT_PARAMS, parameter.name)
        hashes.add(changed(**{parameter.name: value + 1}).hash())
    assert len(hashes) == 1 + len(PARAMETERS)


def test_no_bound_reaches_2_53() -> None:
    assert all(parameter.high < LIMIT_53 for parameter in PARAMETERS)

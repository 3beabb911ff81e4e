"""Validator sets: canonical order, unique keys, and quorums counted exactly."""

from fractions import Fraction

import msgspec
import pytest

from ledger.codec import LIMIT_53
from ledger.errors import MalformedData
from ledger.validators import (
    MAX_VALIDATORS,
    InvalidValidatorSet,
    Validator,
    ValidatorSet,
    decode_validator_set,
)
from tests.kit.chain import address_of, make_validators


def validator(name: str, power: int = 1, **keys: bytes) -> Validator:
    made = Validator(
        address_of(name), address_of(f"{name} consensus"), address_of(f"{name} node"), power
    )
    return msgspec.structs.replace(made, **keys)


def test_order_of_entry_does_not_matter() -> None:
    names = ("a", "b", "c", "d")
    sets = [make_validators(names), make_validators(names[::-1])]
    assert sets[0] == sets[1]
    assert sets[0].hash == sets[1].hash
    assert [each.operator for each in sets[0].validators] == sorted(map(address_of, names))


def test_round_trip_and_indexes() -> None:
    validators = make_validators()
    assert decode_validator_set(validators.encode()) == validators
    for index in range(len(validators)):
        assert validators.index_of_consensus_key[validators[index].consensus_key] == index
        assert validators.index_of_node_key[validators[index].node_key] == index


def test_any_key_or_power_changes_the_hash() -> None:
    base = validator("a")
    variants = [
        base,
        validator("a", 2),
        validator("a", consensus_key=address_of("x")),
        validator("a", node_key=address_of("x")),
        validator("b"),
    ]
    assert len({ValidatorSet.make([each]).hash for each in variants}) == len(variants)


@pytest.mark.parametrize(
    ("validators", "detail"),
    [
        ([], "0 validators"),
        ([validator("a"), validator("a")], "operator"),
        (
            [validator("a"), validator("b", consensus_key=address_of("a consensus"))],
            "consensus_key",
        ),
        ([validator("a"), validator("b", node_key=address_of("a node"))], "node_key"),
        ([validator("a", LIMIT_53 - 1), validator("b", 1)], "2\\^53"),
    ],
)
def test_sets_that_break_a_rule(validators: list[Validator], detail: str) -> None:
    with pytest.raises(InvalidValidatorSet, match=detail):
        ValidatorSet.make(validators)


def test_the_most_validators() -> None:
    def numbered(number: int) -> Validator:
        keys = [b"%d" % kind + number.to_bytes(32, "big") for kind in (1, 2, 3)]
        return Validator(*keys, power=1)

    ValidatorSet.make([numbered(number) for number in range(MAX_VALIDATORS)]).encode()
    with pytest.raises(InvalidValidatorSet):
        ValidatorSet.make([numbered(number) for number in range(MAX_VALIDATORS + 1)])


def test_another_order_is_not_decoded() -> None:
    validators = make_validators(("a", "b"))
    swapped = ValidatorSet(validators.validators[::-1])
    with pytest.raises(InvalidValidatorSet, match="ordered"):
        decode_validator_set(swapped.encode())
    with pytest.raises(MalformedData):
        decode_validator_set(validators.encode()[:-1])


@pytest.mark.parametrize("count", range(1, 14))
def test_thresholds_against_fractions(count: int) -> None:
    validators = make_validators([f"v{number}" for number in range(count)])
    for power in range(count + 1):
        share = Fraction(power, count)
        assert validators.has_quorum(power) == (share > Fraction(2, 3))
        assert validators.has_one_honest(power) == (share > Fraction(1, 3))
        assert validators.has_majority(power) == (share > Fraction(1, 2))


def test_two_quorums_share_an_honest_validator_for_any_powers() -> None:
    # n = 6 is where 2f+1 votes (5 of 6 is needed, 3 = 2·1+1 is not) goes wrong.
    validators = make_validators([f"v{number}" for number in range(6)])
    assert not validators.has_quorum(4)
    assert validators.has_quorum(5)


def test_quorum_is_of_power_not_of_heads() -> None:
    validators = ValidatorSet.make([validator("a", 7), validator("b"), validator("c")])
    assert validators.has_quorum(7)
    assert not validators.has_quorum(6)

"""The network definition: one hash whatever the spelling, and a reason for every refusal."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from genesis.definition import NetworkDefinition, genesis_hash, parse_network, to_core
from genesis.devnet import bundled_devnet, bundled_text, devnet_document
from genesis.document import (
    DOCUMENT_LIMIT_BYTES,
    NAME_PATTERN,
    Document,
    dump,
    parse_document,
)
from genesis.errors import InvalidDefinition, MalformedDefinition
from genesis.wellknown import account_key, validator_keys, well_known_key
from ledger.codec import LIMIT_53
from ledger.crypto import sha256
from ledger.identity import peer_id, public_key_of
from ledger.params import DEVNET_PARAMS, PARAMETERS, Parameter

# A change of these hashes is a change of the format: existing networks would get another name.
BUNDLED_DEVNET_HASH = "7275db6eb9c9158e198bc0c52f30876fb0c25d3caa242f3e5dd206c1029f6c45"
ONE_VALIDATOR_HASH = "05d94ce50737e0be4eca6aa2547c95691f94f5f968bc9885689ba086137f4099"

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def written() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(bundled_text("devnet"))
    return loaded


def problems(written: dict[str, Any]) -> list[tuple[str, str]]:
    with pytest.raises(InvalidDefinition) as caught:
        parse_network(json.dumps(written))
    return [(each.where, each.rule) for each in caught.value.problems]


def test_bundled_devnet_is_what_the_builder_makes() -> None:
    assert bundled_text("devnet").decode() == dump(devnet_document())


def test_hash_vectors() -> None:
    assert to_core(bundled_devnet()).genesis_hash.hex() == BUNDLED_DEVNET_HASH
    one = devnet_document(validators=1, genesis_time_ms=1, chain_id="x")
    assert genesis_hash(one).hex() == ONE_VALIDATOR_HASH


def test_core_holds_what_the_document_says(written: dict[str, Any]) -> None:
    network = parse_network(bundled_text("devnet"))
    assert network.chain_id == "tally-devnet"
    assert network.is_devnet
    assert network.params == DEVNET_PARAMS
    assert network.supply == 10**15
    assert len(network.validators) == 4
    assert dict(network.balances) == {
        public_key_of(name): int(amount) for name, amount in written["accounts"].items()
    }
    assert [name for _, name in sorted(network.validator_names, key=lambda each: each[1])] == [
        "validator-1",
        "validator-2",
        "validator-3",
        "validator-4",
    ]
    for index in range(4):
        keys = validator_keys(index)
        place = network.validators.index_of_consensus_key[keys.consensus.public_key]
        assert network.validators[place].operator == keys.operator.public_key
        assert network.validators[place].node_key == keys.node.public_key
    assert set(network.seeds) == {each.operator for each in network.validators.validators}


def shuffled(value: object, rng: random.Random) -> object:
    if isinstance(value, dict):
        items = [(name, shuffled(each, rng)) for name, each in value.items()]
        rng.shuffle(items)
        return dict(items)
    if isinstance(value, list):
        made = [shuffled(each, rng) for each in value]
        rng.shuffle(made)
        return made
    return value


def test_spelling_does_not_change_the_hash(written: dict[str, Any]) -> None:
    rng = random.Random(7)
    for indent in (None, 1, 4):
        text = json.dumps(shuffled(written, rng), indent=indent)
        assert parse_network(text).genesis_hash.hex() == BUNDLED_DEVNET_HASH
    escaped = bundled_text("devnet").replace(b'"pbft"', b'"\\u0070bft"')
    assert parse_network(escaped).genesis_hash.hex() == BUNDLED_DEVNET_HASH


def set_at(*path: str | int, value: object) -> Change:
    def change(written: dict[str, Any]) -> None:
        here: Any = written
        for part in path[:-1]:
            here = here[part]
        here[path[-1]] = value

    return change


def next_value(parameter: Parameter) -> int:
    step = 1 if parameter.devnet < parameter.high else -1
    return parameter.devnet + step


SOMEBODY = peer_id(well_known_key("somebody").public_key)


@pytest.mark.parametrize(
    "change",
    [
        set_at("devnet", value=False),
        set_at("genesis_time_ms", value=1_767_225_600_001),
        set_at("validators", 0, "power", value=2),
        set_at("validators", 0, "name", value="first"),
        set_at("accounts", SOMEBODY, value="0"),
        set_at("seeds", 0, value=SOMEBODY),
        *(
            set_at("parameters", each.name, value=next_value(each))
            for each in PARAMETERS
            if each.low < each.high
        ),
    ],
)
def test_everything_in_the_document_is_hashed(written: dict[str, Any], change: Change) -> None:
    change(written)
    assert genesis_hash(parse_document(json.dumps(written))).hex() != BUNDLED_DEVNET_HASH


PATTERN = "string_pattern_mismatch"
AT_ACCOUNT = f"accounts.{SOMEBODY}"


def of_first(field: str, value: str) -> Change:
    return set_at("validators", 0, field, value=value)


def delete(*path: str | int) -> Change:
    def change(written: dict[str, Any]) -> None:
        here: Any = written
        for part in path[:-1]:
            here = here[part]
        del here[path[-1]]

    return change


def copy_key(written: dict[str, Any]) -> None:
    written["validators"][1]["node_id"] = written["validators"][0]["node_id"]


def same_three_keys(written: dict[str, Any]) -> None:
    written["validators"][0]["node_id"] = written["validators"][0]["operator"]


def swap_proofs(written: dict[str, Any]) -> None:
    first = written["validators"][0]
    first["node_proof"], first["consensus_proof"] = first["consensus_proof"], first["node_proof"]


def too_much_power(written: dict[str, Any]) -> None:
    for each in written["validators"]:
        each["power"] = LIMIT_53 // 2


def too_much_supply(written: dict[str, Any]) -> None:
    for name in written["accounts"]:
        written["accounts"][name] = str(LIMIT_53 // 2)


@pytest.mark.parametrize(
    ("change", "where", "rule"),
    [
        (set_at("chainid", value="x"), "chainid", "unknown"),
        (delete("mode"), "mode", "missing"),
        (set_at("format", value=2), "format", "literal_error"),
        (set_at("mode", value="raft"), "mode", "literal_error"),
        (set_at("devnet", value="yes"), "devnet", "bool_type"),
        (set_at("chain_id", value="Market 1"), "chain_id", PATTERN),
        (set_at("genesis_time_ms", value=1.0), "genesis_time_ms", "int_type"),
        (set_at("genesis_time_ms", value=0), "genesis_time_ms", "greater_than_equal"),
        (delete("parameters", "fee_base"), "parameters.fee_base", "missing"),
        (set_at("parameters", "fee_base", value="1"), "parameters.fee_base", "int_type"),
        (set_at("parameters", "fee_base", value=True), "parameters.fee_base", "int_type"),
        (set_at("parameters", "fee_base", value=10**7), "parameters.fee_base", "less_than_equal"),
        (
            set_at("parameters", "score_delay_ms", value=9_000),
            "parameters.score_delay_ms",
            "parameters",
        ),
        (set_at("validators", value=[]), "validators", "no-validators"),
        (
            set_at("validators", 0, "name", value="a\nb"),
            "validators.0.name",
            PATTERN,
        ),
        (set_at("validators", 0, "name", value="validator-3"), "validators.2.name", "name-reused"),
        (set_at("validators", 0, "power", value=0), "validators.0.power", "greater_than_equal"),
        (set_at("validators", 0, "operator", value="bob"), "validators.0.operator", "value_error"),
        (
            set_at("validators", 0, "consensus_key", value="0x02"),
            "validators.0.consensus_key",
            "value_error",
        ),
        (
            set_at("validators", 0, "node_proof", value="0x00"),
            "validators.0.node_proof",
            "value_error",
        ),
        (copy_key, "validators.1.node_id", "key-reused"),
        (same_three_keys, "validators.0", "key-reused"),
        (swap_proofs, "validators.0.consensus_proof", "possession"),
        (swap_proofs, "validators.0.node_proof", "possession"),
        (set_at("chain_id", value="other"), "validators.3.node_proof", "possession"),
        (too_much_power, "validators", "power"),
        (set_at("accounts", value={}), "accounts", "no-supply"),
        (
            set_at("accounts", SOMEBODY, value="01"),
            AT_ACCOUNT,
            PATTERN,
        ),
        (
            set_at("accounts", SOMEBODY, value="-1"),
            AT_ACCOUNT,
            PATTERN,
        ),
        (set_at("accounts", SOMEBODY, value=1), AT_ACCOUNT, "string_type"),
        (set_at("accounts", SOMEBODY, value=str(LIMIT_53)), AT_ACCOUNT, "value_error"),
        (too_much_supply, "accounts", "supply"),
        (set_at("seeds", value=[]), "seeds", "seeds"),
        (set_at("seeds", value=[SOMEBODY, SOMEBODY]), "seeds", "seeds"),
        (set_at("seeds", value=[SOMEBODY] * 22), "seeds", "too_long"),
        (set_at("devnet", value=False), "validators.0.operator", "public-key"),
    ],
)
def test_refusals(written: dict[str, Any], change: Change, where: str, rule: str) -> None:
    change(written)
    assert (where, rule) in problems(written)


def test_public_keys_are_found_in_accounts_and_seeds_too(written: dict[str, Any]) -> None:
    own = devnet_document(validators=1).model_dump()
    own["devnet"] = False
    own["accounts"] = {SOMEBODY: "5"}
    alice = account_key("alice")
    assert alice is not None
    own["seeds"] = [peer_id(alice.public_key)]
    assert (f"seeds.{peer_id(alice.public_key)}", "public-key") in problems(own)


def test_an_unknown_name_is_answered_with_the_one_that_was_meant(written: dict[str, Any]) -> None:
    written["parameters"]["fee_bse"] = 1
    with pytest.raises(InvalidDefinition, match='did you mean "fee_base"'):
        parse_document(json.dumps(written))


def test_a_report_has_an_end(written: dict[str, Any]) -> None:
    written["accounts"] = {f"name {index}": "1" for index in range(1_000)}
    assert len(problems(written)) == 20


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "json"),
        ("[]", "json"),
        ('{"format": 1, "format": 1}', "duplicate"),
        ('{"accounts": {"a": "1", "a": "2"}}', "duplicate"),
        ('{"genesis_time_ms": NaN}', "json"),
        (b"\xff", "json"),
        ("[" * 100_000, "json"),
        (" " * (DOCUMENT_LIMIT_BYTES + 1), "size"),
    ],
)
def test_text_that_is_no_document(text: str | bytes, rule: str) -> None:
    with pytest.raises(MalformedDefinition) as caught:
        parse_document(text)
    assert caught.value.problems[0].rule == rule


def test_well_known_secrets_are_derived_from_their_phrases() -> None:
    # Published in the documentation: other programs derive the same.
    phrase = b"tallystick devnet, public and worthless: alice"
    alice = account_key("alice")
    assert alice is not None
    assert alice.secret == sha256(phrase)
    assert account_key("nobody") is None


def test_networks_differ_by_their_time() -> None:
    first = to_core(devnet_document(genesis_time_ms=1_000))
    second = to_core(devnet_document(genesis_time_ms=2_000))
    assert first.genesis_hash != second.genesis_hash


@pytest.mark.parametrize("count", [0, 17])
def test_devnets_are_small(count: int) -> None:
    with pytest.raises(ValueError, match="1 to 16 validators"):
        devnet_document(validators=count)


def test_documents_are_values() -> None:
    assert isinstance(bundled_devnet(), Document)
    assert isinstance(to_core(bundled_devnet()), NetworkDefinition)
    assert bundled_devnet() == devnet_document()
    assert NAME_PATTERN.startswith("^")
    assert NAME_PATTERN.endswith("$")

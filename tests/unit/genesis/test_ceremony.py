"""The ceremony: entries carry their own proof, and the document grows without losing anything."""

from __future__ import annotations

import pytest

from genesis.ceremony import add_validator, make_entry, new_draft, with_account
from genesis.definition import genesis_hash, to_core
from genesis.document import Document, ValidatorEntry, dump, parse_document, parse_entry
from genesis.errors import InvalidDefinition, InvalidEntry
from genesis.possession import PossessionBody, possession_digest
from ledger.crypto import PrivateKey, sha256
from ledger.identity import peer_id, public_key_of


def key(name: str) -> PrivateKey:
    return PrivateKey(sha256(b"ceremony " + name.encode()))


def entry(name: str, chain_id: str = "market-1") -> ValidatorEntry:
    return make_entry(
        chain_id,
        name=name,
        operator=peer_id(key(name + " operator").public_key),
        consensus_key=key(name + " consensus"),
        node_key=key(name + " node"),
    )


@pytest.fixture
def draft() -> Document:
    return new_draft("market-1", 1_767_225_600_000)


def rules(error: InvalidDefinition) -> set[str]:
    return {each.rule for each in error.problems}


def test_a_ceremony_from_draft_to_network(draft: Document) -> None:
    with pytest.raises(InvalidDefinition) as caught:
        to_core(draft)
    assert rules(caught.value) == {"no-validators", "no-supply", "seeds"}
    document = draft
    names = ("north", "east", "south", "west")
    for name in names:
        sent = dump(entry(name))
        document = add_validator(document, parse_entry(sent), balance=5)
    network = to_core(parse_document(dump(document)))
    assert network.genesis_hash == genesis_hash(document)
    assert not network.is_devnet
    assert network.supply == 20
    by_address = sorted((key(name + " operator").public_key, name) for name in names)
    assert list(network.validator_names) == by_address
    assert set(network.seeds) == {each.operator for each in network.validators.validators}
    assert draft.validators == []


def test_an_entry_of_another_network_is_refused(draft: Document) -> None:
    with pytest.raises(InvalidEntry) as caught:
        add_validator(draft, entry("north", "market-2"))
    assert rules(caught.value) == {"possession"}


@pytest.mark.parametrize(
    "change",
    [
        {"operator": peer_id(key("thief").public_key)},
        {"consensus_key": "0x" + key("thief").public_key.hex()},
        {"node_id": peer_id(key("thief").public_key)},
    ],
)
def test_a_proof_is_bound_to_all_three_keys(draft: Document, change: dict[str, str]) -> None:
    forged = entry("north").model_copy(update=change)
    with pytest.raises(InvalidEntry) as caught:
        add_validator(draft, forged)
    assert rules(caught.value) == {"possession"}


def test_names_and_keys_are_used_once(draft: Document) -> None:
    document = add_validator(draft, entry("north"))
    with pytest.raises(InvalidEntry) as caught:
        add_validator(document, entry("north"))
    assert rules(caught.value) == {"name-reused", "key-reused"}


def test_one_key_cannot_serve_twice_in_an_entry(draft: Document) -> None:
    lazy = make_entry(
        "market-1",
        name="lazy",
        operator=peer_id(key("lazy").public_key),
        consensus_key=key("lazy"),
        node_key=key("lazy"),
    )
    with pytest.raises(InvalidEntry) as caught:
        add_validator(draft, lazy)
    assert rules(caught.value) == {"key-reused"}


def test_roles_are_signed_apart() -> None:
    keys = (key("o").public_key, key("c").public_key, key("n").public_key)
    digests = {
        possession_digest(PossessionBody(chain, role, *keys))
        for chain in ("a", "b")
        for role in ("consensus", "node")
    }
    assert len(digests) == 4


def test_chosen_seeds_stay(draft: Document) -> None:
    written = add_validator(draft, entry("north")).model_dump()
    written["seeds"] = [peer_id(key("elder").public_key)]
    document = add_validator(Document.model_validate(written), entry("east"), balance=1)
    assert to_core(document).seeds == (key("elder").public_key,)


def test_accounts_are_set_and_removed(draft: Document) -> None:
    holder = peer_id(key("holder").public_key)
    document = with_account(draft, holder, 7)
    assert document.accounts == {holder: "7"}
    assert with_account(document, holder, 0).accounts == {}
    with pytest.raises(InvalidDefinition):
        with_account(draft, holder, 2**53)
    with pytest.raises(InvalidDefinition):
        with_account(draft, "holder", 1)


def test_a_balance_adds_to_what_the_operator_holds(draft: Document) -> None:
    operator = entry("north").operator
    document = add_validator(with_account(draft, operator, 7), entry("north"), balance=5)
    assert dict(to_core(document).balances) == {public_key_of(operator): 12}


def test_a_bad_name_is_named() -> None:
    with pytest.raises(InvalidEntry, match="name"):
        entry("no\x1b[31m")

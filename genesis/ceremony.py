"""The ceremony that makes a network definition.

    coordinator    tally genesis new --chain-id market-1             a draft without validators
    each operator  tally init; tally genesis add-validator --print   its entry, signed by its keys
    coordinator    tally genesis add-validator --entry FILE          once for each entry
    everybody      tally genesis validate; tally genesis hash        and compares the hash

No secret leaves its owner's machine: an entry holds public keys and two proofs of possession
(genesis.possession). Every function takes a document and returns another; nothing is changed in
place.
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from genesis.definition import check_entry
from genesis.document import FORMAT_VERSION, Document, ValidatorEntry
from genesis.errors import InvalidDefinition, InvalidEntry, Problem
from genesis.possession import PossessionBody, prove
from genesis.problems import problems_of
from ledger.crypto import PrivateKey
from ledger.identity import peer_id, public_key_of
from ledger.params import DEFAULT_PARAMS, ChainParams
from ledger.state import SEEDS_MAX_COUNT


def new_draft(
    chain_id: str,
    genesis_time_ms: int,
    *,
    params: ChainParams = DEFAULT_PARAMS,
    accounts: dict[str, int] | None = None,
    devnet: bool = False,
) -> Document:
    """A definition without validators. `accounts` maps PeerID → µT. Raises InvalidDefinition."""
    return _document(
        {
            "format": FORMAT_VERSION,
            "chain_id": chain_id,
            "devnet": devnet,
            "genesis_time_ms": genesis_time_ms,
            "mode": "pbft",
            "parameters": dict(params.items()),
            "validators": [],
            "accounts": {name: str(amount) for name, amount in (accounts or {}).items()},
            "seeds": [],
        }
    )


def make_entry(
    chain_id: str,
    *,
    name: str,
    operator: str,
    consensus_key: PrivateKey,
    node_key: PrivateKey,
    power: int = 1,
) -> ValidatorEntry:
    """A validator's entry for the network `chain_id`, with both proofs. Raises InvalidEntry.

    `operator` is a PeerID; its private key is not needed.
    """
    address = public_key_of(operator)
    consensus = PossessionBody(
        chain_id, "consensus", address, consensus_key.public_key, node_key.public_key
    )
    node = PossessionBody(chain_id, "node", address, consensus_key.public_key, node_key.public_key)
    try:
        return ValidatorEntry(
            name=name,
            operator=operator,
            consensus_key="0x" + consensus_key.public_key.hex(),
            node_id=peer_id(node_key.public_key),
            power=power,
            consensus_proof="0x" + prove(consensus, consensus_key).hex(),
            node_proof="0x" + prove(node, node_key).hex(),
        )
    except ValidationError as error:
        raise InvalidEntry(problems_of(error, ValidatorEntry)) from error


def add_validator(document: Document, entry: ValidatorEntry, *, balance: int = 0) -> Document:
    """The document with one more validator. Raises InvalidEntry, InvalidDefinition.

    `balance` µT are added to the operator's account. Its operator becomes a seed of trust while
    there is room and the seeds are still the operators of all validators (the default choice).
    """
    problems = list(check_entry(entry, document.chain_id))
    for other in document.validators:
        if entry.name == other.name:
            problems.append(Problem("name", "name-reused", f'"{entry.name}" is taken'))
        shared = _keys(entry) & _keys(other)
        if shared:
            detail = f"shares a key with {other.name}: {', '.join(sorted(shared))}"
            problems.append(Problem("", "key-reused", detail))
    if problems:
        raise InvalidEntry(tuple(problems))
    written = document.model_dump()
    operators = [each.operator for each in document.validators]
    if document.seeds == operators and len(operators) < SEEDS_MAX_COUNT:
        written["seeds"] = [*operators, entry.operator]
    written["validators"] = [*written["validators"], entry.model_dump()]
    if balance:
        held = int(document.accounts.get(entry.operator, "0"))
        written["accounts"][entry.operator] = str(held + balance)
    return _document(written)


def with_account(document: Document, account: str, amount: int) -> Document:
    """The document with `amount` µT in an account (0 removes it). Raises InvalidDefinition."""
    written = document.model_dump()
    written["accounts"][account] = str(amount)
    if amount == 0:
        del written["accounts"][account]
    return _document(written)


def _keys(entry: ValidatorEntry) -> set[str]:
    return {
        entry.operator,
        entry.node_id,
        peer_id(bytes.fromhex(entry.consensus_key[2:])),
    }


def _document(written: dict[str, Any]) -> Document:
    try:
        return Document.model_validate(written)
    except ValidationError as error:
        raise InvalidDefinition(problems_of(error, Document)) from error

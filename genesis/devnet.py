"""The bundled devnet: 4 validators, funded well-known accounts, fast parameters.

`networks/devnet.json` is what `devnet_document()` makes. It is a template: epochs are counted from
genesis_time_ms, and its own is a fixed moment of the past, so that a network started from the file
as it stands would begin hundreds of thousands of epochs late: correct, but with odd-looking
epoch numbers and one needless score computation for an empty epoch. `tally devnet up` therefore
writes the definition anew with the present time when it creates the homes. Each reset thus makes
another network with another genesis hash, and nothing signed for an earlier one can be replayed.
"""

from __future__ import annotations

from importlib.resources import files

from genesis.ceremony import add_validator, make_entry, new_draft
from genesis.document import Document, parse_document
from genesis.wellknown import (
    ACCOUNT_NAMES,
    TREASURY,
    VALIDATORS_MAX_COUNT,
    account_address,
    validator_keys,
    validator_name,
)
from ledger.identity import peer_id
from ledger.params import DEVNET_PARAMS, MICRO, ChainParams

CHAIN_ID = "tally-devnet"

VALIDATORS_COUNT = 4
"""The smallest network that tolerates a Byzantine validator."""

# 2026-01-01T00:00:00Z.
TEMPLATE_TIME_MS = 1_767_225_600_000

# µT: 10^9 T in all, a tenth of what 2^53 permits, so that no sum in a test comes near the limit.
SUPPLY = 1_000_000_000 * MICRO
ACCOUNT_BALANCE = 1_000_000 * MICRO
OPERATOR_BALANCE = 100_000 * MICRO


def devnet_document(
    *,
    validators: int = VALIDATORS_COUNT,
    genesis_time_ms: int = TEMPLATE_TIME_MS,
    chain_id: str = CHAIN_ID,
    params: ChainParams = DEVNET_PARAMS,
) -> Document:
    """The definition of a devnet; the treasury holds what the others do not."""
    if not 1 <= validators <= VALIDATORS_MAX_COUNT:
        raise ValueError(f"a devnet has 1 to {VALIDATORS_MAX_COUNT} validators, not {validators}")
    accounts = {account_address(name): ACCOUNT_BALANCE for name in ACCOUNT_NAMES}
    given = len(accounts) * ACCOUNT_BALANCE + validators * OPERATOR_BALANCE
    accounts[account_address(TREASURY)] = SUPPLY - given
    document = new_draft(chain_id, genesis_time_ms, params=params, accounts=accounts, devnet=True)
    for index in range(validators):
        keys = validator_keys(index)
        entry = make_entry(
            chain_id,
            name=validator_name(index),
            operator=peer_id(keys.operator.public_key),
            consensus_key=keys.consensus,
            node_key=keys.node,
        )
        document = add_validator(document, entry, balance=OPERATOR_BALANCE)
    return document


def bundled_devnet() -> Document:
    """The template that comes with the package."""
    return parse_document(bundled_text("devnet"))


def bundled_text(name: str) -> bytes:
    """The JSON text of a bundled network. Raises FileNotFoundError."""
    return files("genesis").joinpath("networks", f"{name}.json").read_bytes()

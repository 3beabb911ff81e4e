"""The state at height 0, derived from the network definition.

Block 1 executes on it. Nobody is registered, nothing is burned, the pool is empty and no epoch has
scores; the supply is what the accounts of the definition hold.
"""

from __future__ import annotations

from collections.abc import Iterable

from ledger.codec import LIMIT_53
from ledger.params import ChainParams
from ledger.state import (
    EPOCH_KEY,
    PARAMS_KEY,
    SEEDS_KEY,
    SEEDS_MAX_COUNT,
    TOTALS_KEY,
    VALIDATORS_KEY,
    Account,
    EpochState,
    Seeds,
    Totals,
    account_key,
    encode_object,
)
from ledger.validators import ValidatorSet


def genesis_writes(
    *,
    params: ChainParams,
    validators: ValidatorSet,
    balances: Iterable[tuple[bytes, int]],
    seeds: Iterable[bytes],
) -> dict[bytes, bytes]:
    """State key → canonical bytes, in ascending order of the keys.

    `balances` are (address, µT), each address once; `seeds` 1–21 addresses, which need not hold
    anything. Raises ValueError, InvalidParameter or InvalidValidatorSet for what no network may
    begin with; genesis/ has checked a definition and explained its faults before.
    """
    params.check()
    validators.check()
    accounts = _accounts(balances)
    supply = sum(account.balance for account in accounts.values())
    if not 0 < supply < LIMIT_53:
        raise ValueError(f"a supply of {supply} µT does not lie in 1…2^53 − 1")
    seed_addresses = tuple(sorted(set(seeds)))
    if not 1 <= len(seed_addresses) <= SEEDS_MAX_COUNT:
        raise ValueError(f"{len(seed_addresses)} seeds, 1…{SEEDS_MAX_COUNT}")
    writes = {account_key(address): encode_object(each) for address, each in accounts.items()}
    writes[PARAMS_KEY] = params.encode()
    writes[VALIDATORS_KEY] = validators.encode()
    writes[TOTALS_KEY] = encode_object(Totals(supply=supply, burned=0, pool=0, registered=0))
    writes[EPOCH_KEY] = encode_object(EpochState(last_scored=-1))
    writes[SEEDS_KEY] = encode_object(Seeds(seed_addresses))
    return dict(sorted(writes.items()))


def _accounts(balances: Iterable[tuple[bytes, int]]) -> dict[bytes, Account]:
    accounts: dict[bytes, Account] = {}
    for address, balance in balances:
        if address in accounts:
            raise ValueError(f"{address.hex()} has two balances")
        if balance < 0:
            raise ValueError(f"{address.hex()} has a balance of {balance} µT")
        accounts[address] = Account(balance)
    return accounts

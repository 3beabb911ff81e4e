"""The devnet's keys: published, the same for everyone, and worth nothing.

Each secret is SHA-256 of a phrase that stands here, so that documentation, tests and a stranger's
program can all sign for alice. A network definition that is not marked `devnet` refuses every one
of them (rule `public-key`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from ledger.crypto import PrivateKey, sha256
from ledger.identity import peer_id

PHRASE_PREFIX = "tallystick devnet, public and worthless: "

ACCOUNT_NAMES = (
    "alice",
    "bob",
    "carol",
    "dave",
    "erin",
    "frank",
    "grace",
    "heidi",
    "ivan",
    "judy",
    "mallory",
    "oscar",
)
"""Funded accounts besides the treasury and the validators' operators."""

TREASURY = "treasury"

# Validators of one machine: sixteen processes are already more than a laptop likes.
VALIDATORS_MAX_COUNT = 16


@dataclass(frozen=True, slots=True)
class ValidatorKeys:
    """The three keys of a validator."""

    operator: PrivateKey
    consensus: PrivateKey
    node: PrivateKey


@lru_cache(maxsize=256)
def well_known_key(name: str) -> PrivateKey:
    """The published key of `name`, for example "alice" or "validator-1/consensus"."""
    return PrivateKey(sha256((PHRASE_PREFIX + name).encode()))


def account_key(name: str) -> PrivateKey | None:
    """The key of a well-known account: a person, the treasury, or a validator's operator."""
    if name in (*ACCOUNT_NAMES, TREASURY):
        return well_known_key(name)
    if name in {validator_name(index) for index in range(VALIDATORS_MAX_COUNT)}:
        return well_known_key(f"{name}/operator")
    return None


def account_names() -> tuple[str, ...]:
    """Every name that `account_key` knows."""
    operators = tuple(validator_name(index) for index in range(VALIDATORS_MAX_COUNT))
    return (*ACCOUNT_NAMES, TREASURY, *operators)


def validator_name(index: int) -> str:
    """The name of validator `index`, which counts from 0; names count from 1."""
    return f"validator-{index + 1}"


def validator_keys(index: int) -> ValidatorKeys:
    """The three keys of validator `index`, from 0."""
    name = validator_name(index)
    return ValidatorKeys(
        operator=well_known_key(f"{name}/operator"),
        consensus=well_known_key(f"{name}/consensus"),
        node=well_known_key(f"{name}/node"),
    )


def account_address(name: str) -> str:
    """The PeerID of a well-known account. The name must be one of `account_names`."""
    key = account_key(name)
    assert key is not None
    return peer_id(key.public_key)


def name_of_public_key(public_key: bytes) -> str | None:
    """Whose published key this is, in words, or None for a key of somebody's own."""
    return _names_by_public_key().get(public_key)


@lru_cache(maxsize=1)
def _names_by_public_key() -> dict[bytes, str]:
    names = {well_known_key(each).public_key: each for each in (*ACCOUNT_NAMES, TREASURY)}
    for index in range(VALIDATORS_MAX_COUNT):
        keys = validator_keys(index)
        name = validator_name(index)
        names[keys.operator.public_key] = name
        names[keys.consensus.public_key] = f"{name} (consensus)"
        names[keys.node.public_key] = f"{name} (node)"
    return names

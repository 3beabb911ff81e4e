"""State objects: what stands under the state root, and under which keys.

| key | value |
| --- | --- |
| `a` ‖ address (33) | Account |
| `p` ‖ payer (33) ‖ payee (33) ‖ service (1) | ledger.reputation.edges.PairState |
| `s` ‖ epoch (u64, big-endian) | ledger.reputation.score_tree.ScoreCommitment of a closed epoch |
| `cparams` | ChainParams |
| `cvalidators` | ValidatorSet of the next height |
| `ctotals` | Totals |
| `cepoch` | EpochState |
| `cseeds` | Seeds |

Every value is canonical (ledger.codec). µT are conserved: Σ balances + Σ deposits + pool + burned
is the supply of the network definition, in every block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import msgspec

from ledger.codec import U32, U53, Address, encode
from ledger.crypto import PUBLIC_KEY_BYTES
from ledger.params import ChainParams
from ledger.reputation.score_tree import ScoreCommitment
from ledger.validators import ValidatorSet
from ledger.view import ReadView

PARAMS_KEY = b"cparams"
VALIDATORS_KEY = b"cvalidators"
TOTALS_KEY = b"ctotals"
EPOCH_KEY = b"cepoch"
SEEDS_KEY = b"cseeds"

ACCOUNT_PREFIX = b"a"
PAIR_PREFIX = b"p"
SCORES_PREFIX = b"s"

SEEDS_MAX_COUNT = 21


class Account(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """One identity. `nonce` is the one its next transaction must use.

    `active_key` is empty while the founding key (the address) signs. `registered_height` is 0 for
    an account that holds µT without being a registered peer; the rest belongs to the
    registration.
    """

    balance: U53
    nonce: U53 = 0
    active_key: bytes = b""
    registered_height: U53 = 0
    service_mask: U32 = 0
    endpoint_hash: bytes = b""
    deposit: U53 = 0

    @property
    def is_registered(self) -> bool:
        """Whether the peer is known to the ledger."""
        return self.registered_height > 0 or self.deposit > 0


class Totals(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Where µT are besides balances and deposits, and how many peers are registered."""

    supply: U53
    burned: U53
    pool: U53
    registered: U53


class EpochState(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Scores: the last epoch whose commitment stands in the state, −1 for none yet.

    `seed_qualities` are the seeds' qualities in that epoch, which decide who of them rests in the
    next one. They stand in the state so that a node needs no earlier score table to go on.
    """

    last_scored: int
    seed_qualities: tuple[tuple[Address, U53], ...] = ()


@dataclass(frozen=True, slots=True)
class ScoredEpoch:
    """What the epoch computation hands to execution."""

    commitment: ScoreCommitment
    seed_qualities: tuple[tuple[bytes, int], ...]


class Seeds(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """The governed seed accounts of the trust computation, 1–21, ascending."""

    addresses: tuple[Address, ...]


_NO_ACCOUNT = Account(0)

T = TypeVar("T")


def _decoder(type_: type[T]) -> Callable[[bytes], T]:
    return msgspec.msgpack.Decoder(type_).decode


decode_account = _decoder(Account)
_decode_totals = _decoder(Totals)
decode_epoch_state = _decoder(EpochState)
_decode_seeds = _decoder(Seeds)
# Parameters and validator sets change rarely and are read for every block.
_decode_params = lru_cache(maxsize=8)(_decoder(ChainParams))
_decode_validators = lru_cache(maxsize=8)(_decoder(ValidatorSet))


def account_key(address: bytes) -> bytes:
    """The state key of an account."""
    return ACCOUNT_PREFIX + address


def pair_key(payer: bytes, payee: bytes, service: int) -> bytes:
    """The state key of the pair object of (payer, payee, service)."""
    return b"%b%b%b%c" % (PAIR_PREFIX, payer, payee, service)


def split_pair_key(key: bytes) -> tuple[bytes, bytes, int]:
    """(payer, payee, service) of a pair object's key."""
    end = 1 + PUBLIC_KEY_BYTES
    return key[1:end], key[end : end + PUBLIC_KEY_BYTES], key[-1]


def scores_key(epoch: int) -> bytes:
    """The state key of a closed epoch's score commitment."""
    return SCORES_PREFIX + epoch.to_bytes(8, "big")


def read_account(view: ReadView, address: bytes) -> Account:
    """The account; an empty one where none stands."""
    raw = view.get(ACCOUNT_PREFIX + address)
    return _NO_ACCOUNT if raw is None else decode_account(raw)


def _read_required(view: ReadView, key: bytes) -> bytes:
    raw = view.get(key)
    assert raw is not None, f"state object {key!r} stands since genesis"
    return raw


def read_params(view: ReadView) -> ChainParams:
    """The chain parameters in force."""
    return _decode_params(_read_required(view, PARAMS_KEY))


def read_validators(view: ReadView) -> ValidatorSet:
    """The validator set of the next height."""
    return _decode_validators(_read_required(view, VALIDATORS_KEY))


def read_totals(view: ReadView) -> Totals:
    """Supply, burned, pool, registered peers."""
    return _decode_totals(_read_required(view, TOTALS_KEY))


def read_epoch_state(view: ReadView) -> EpochState:
    """Which epoch's scores stand."""
    return decode_epoch_state(_read_required(view, EPOCH_KEY))


def read_seeds(view: ReadView) -> Seeds:
    """The governed seeds."""
    return _decode_seeds(_read_required(view, SEEDS_KEY))


def encode_object(value: msgspec.Struct) -> bytes:
    """The canonical bytes of any state object."""
    return encode(value)

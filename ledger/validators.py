"""Validator sets: who votes, with what power, under which keys.

A validator has three separate keys: the operator account (stake, fees, name), the consensus key
(signs votes) and the node key (its p2p identity). A set is ordered by operator address; votes and
certificates refer to a validator by its index in that order.

f is less than one third of the power and f+1 more than one third: a PBFT quorum holds *more than
two thirds* (not 2f+1 votes, which is too few when n is not 3f+1), a Raft quorum is a majority of
voters.
"""

from __future__ import annotations

from functools import cached_property

import msgspec

from ledger import domains
from ledger.codec import LIMIT_53, Address, Codec, Positive, encode
from ledger.errors import InvalidData

# n = 100 is the design's largest network; ten times that bounds bitmaps and certificates.
MAX_VALIDATORS = 1_000


class InvalidValidatorSet(InvalidData):
    """A validator set that breaks a rule; `detail` says which."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class Validator(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """One validator. Keys are 33-byte compressed secp256k1 keys; power is unitless."""

    operator: Address
    consensus_key: Address
    node_key: Address
    power: Positive


class ValidatorSet(
    msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True, dict=True
):
    """Validators ordered by operator address. Build with `make`, which checks the rules."""

    validators: tuple[Validator, ...]

    @classmethod
    def make(cls, validators: tuple[Validator, ...] | list[Validator]) -> ValidatorSet:
        """The set of these validators in canonical order. Raises InvalidValidatorSet."""
        made = cls(tuple(sorted(validators, key=lambda each: each.operator)))
        made.check()
        return made

    def check(self) -> None:
        """Raise InvalidValidatorSet unless ordered, unique in every key, and of bounded power."""
        if not 1 <= len(self.validators) <= MAX_VALIDATORS:
            raise InvalidValidatorSet(f"{len(self.validators)} validators, 1…{MAX_VALIDATORS}")
        operators = [each.operator for each in self.validators]
        if operators != sorted(operators):
            raise InvalidValidatorSet("not ordered by operator address")
        for name in ("operator", "consensus_key", "node_key"):
            keys = [getattr(each, name) for each in self.validators]
            if len(set(keys)) != len(keys):
                raise InvalidValidatorSet(f"two validators share one {name}")
        if self.total_power >= LIMIT_53:
            raise InvalidValidatorSet(f"total power {self.total_power} is not below 2^53")

    def __len__(self) -> int:
        return len(self.validators)

    def __getitem__(self, index: int) -> Validator:
        return self.validators[index]

    @cached_property
    def total_power(self) -> int:
        """Sum of all powers."""
        return sum(each.power for each in self.validators)

    @cached_property
    def hash(self) -> bytes:
        """32 bytes, as named in headers and certificates."""
        return domains.tagged_hash(domains.VALIDATORS, encode(self))

    @cached_property
    def index_of_consensus_key(self) -> dict[bytes, int]:
        """consensus key → index."""
        return {each.consensus_key: index for index, each in enumerate(self.validators)}

    @cached_property
    def index_of_node_key(self) -> dict[bytes, int]:
        """node key → index."""
        return {each.node_key: index for index, each in enumerate(self.validators)}

    def has_quorum(self, power: int) -> bool:
        """Whether `power` is more than two thirds of the total."""
        return 3 * power > 2 * self.total_power

    def has_one_honest(self, power: int) -> bool:
        """Whether `power` is more than one third of the total (f+1: at least one is correct)."""
        return 3 * power > self.total_power

    def has_majority(self, count: int) -> bool:
        """Whether `count` voters are a majority (Raft, where power is ignored)."""
        return 2 * count > len(self.validators)

    def encode(self) -> bytes:
        """Canonical bytes."""
        return encode(self)


_codec = Codec[ValidatorSet]("validator set", ValidatorSet, MAX_VALIDATORS * 128)


def decode_validator_set(raw: bytes) -> ValidatorSet:
    """The checked set. Raises MalformedData or InvalidValidatorSet."""
    decoded = _codec.decode(raw)
    decoded.check()
    return decoded

"""Chain parameters: one table with name, unit, default, devnet value and hard bounds.

All of them stand in the network definition and are part of the genesis hash. Bounds that depend on
another parameter are rules in `check`. What is fixed per rules version (decay, damping, rounds of
the power iteration, thresholds) is a constant next to the rule, not a parameter.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from ledger import domains
from ledger.codec import LIMIT_53, U53, Codec, encode
from ledger.errors import InvalidData

DAY_MS = 86_400_000
MICRO = 1_000_000
"""µT in one T; also one million parts in ppm rates."""


class InvalidParameter(InvalidData):
    """A parameter outside its bounds. `name`, `value` and `rule` are the facts."""

    def __init__(self, name: str, value: int, rule: str) -> None:
        super().__init__(f"{name} = {value}: {rule}")
        self.name = name
        self.value = value
        self.rule = rule


@dataclass(frozen=True, slots=True)
class Parameter:
    """One row of the table. Bounds are inclusive."""

    name: str
    unit: str
    default: int
    devnet: int
    low: int
    high: int


_BIG = LIMIT_53 - 1

PARAMETERS: tuple[Parameter, ...] = (
    Parameter("pbft_base_timeout_ms", "ms", 2_000, 1_000, 200, 60_000),
    Parameter("pbft_timeout_cap_ms", "ms", 8_000, 4_000, 200, 120_000),
    Parameter("raft_election_timeout_ms", "ms", 1_000, 500, 150, 30_000),
    Parameter("raft_heartbeat_ms", "ms", 150, 100, 20, 10_000),
    Parameter("skip_heights", "blocks", 50, 50, 0, 10_000),
    Parameter("late_commit_blocks", "blocks", 10, 10, 1, 100),
    Parameter("max_clock_drift_ms", "ms", 2_000, 2_000, 100, 60_000),
    Parameter("heartbeat_block_ms", "ms", 30_000, 10_000, 1_000, 600_000),
    Parameter("block_max_bytes", "bytes", 4 << 20, 4 << 20, 64 << 10, 64 << 20),
    Parameter("block_max_txs", "count", 10_000, 10_000, 100, 100_000),
    Parameter("tx_max_bytes", "bytes", 16_384, 16_384, 1_024, 262_144),
    Parameter("epoch_ms", "ms", DAY_MS, 10_000, 1_000, 30 * DAY_MS),
    Parameter("score_delay_ms", "ms", 60_000, 3_000, 100, 15 * DAY_MS),
    Parameter("score_history_epochs", "epochs", 64, 64, 64, 4_096),
    Parameter("reputation_p_min", "µT", 1_000, 1_000, 1, _BIG),
    Parameter("reputation_n0", "points", 64, 64, 1, 4_096),
    Parameter("reputation_n_ref", "raters", 1_000, 1_000, 1, 10_000_000),
    Parameter("register_fee", "µT", MICRO, MICRO, 0, _BIG),
    Parameter("register_deposit", "µT", 10 * MICRO, 10 * MICRO, 0, _BIG),
    Parameter("register_work_n", "scrypt N", 1_024, 1_024, 2, 1_024),
    Parameter("register_work_r", "scrypt r", 1, 1, 1, 8),
    Parameter("register_work_p", "scrypt p", 1, 1, 1, 1),
    Parameter("register_work_bits", "leading zero bits", 4, 0, 0, 32),
    Parameter("fee_base", "µT", 100, 100, 0, MICRO),
    Parameter("fee_per_byte", "µT", 1, 1, 0, MICRO),
    Parameter("cut_burn_ppm", "ppm", 5_000, 5_000, 0, 100_000),
    Parameter("cut_validators_ppm", "ppm", 5_000, 5_000, 0, 100_000),
    Parameter("cut_pool_ppm", "ppm", 10_000, 10_000, 0, 100_000),
    Parameter("unbonding_epochs", "epochs", 21, 21, 1, 10_000),
    Parameter("evidence_epochs", "epochs", 14, 14, 1, 10_000),
    Parameter("dispute_epochs", "epochs", 7, 7, 1, 10_000),
    Parameter("channel_challenge_epochs", "epochs", 2, 2, 1, 100),
    Parameter("slash_equivocation_ppm", "ppm", 50_000, 50_000, 0, 500_000),
    Parameter("slash_receipt_fraud_ppm", "ppm", 100_000, 100_000, 0, 500_000),
    Parameter("slash_downtime_ppm", "ppm", 100, 100, 0, 500_000),
    Parameter("downtime_window_blocks", "blocks", 10_000, 1_000, 10, 1_000_000),
    Parameter("downtime_min_signed_ppm", "ppm", 50_000, 50_000, 0, MICRO),
    Parameter("jail_ms", "ms", 600_000, 60_000, 1_000, 30 * DAY_MS),
    Parameter("governance_delay_epochs", "epochs", 2, 1, 1, 1_000),
)


class ChainParams(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """The values of PARAMETERS, in the table's order. Units are the table's."""

    pbft_base_timeout_ms: U53
    pbft_timeout_cap_ms: U53
    raft_election_timeout_ms: U53
    raft_heartbeat_ms: U53
    skip_heights: U53
    late_commit_blocks: U53
    max_clock_drift_ms: U53
    heartbeat_block_ms: U53
    block_max_bytes: U53
    block_max_txs: U53
    tx_max_bytes: U53
    epoch_ms: U53
    score_delay_ms: U53
    score_history_epochs: U53
    reputation_p_min: U53
    reputation_n0: U53
    reputation_n_ref: U53
    register_fee: U53
    register_deposit: U53
    register_work_n: U53
    register_work_r: U53
    register_work_p: U53
    register_work_bits: U53
    fee_base: U53
    fee_per_byte: U53
    cut_burn_ppm: U53
    cut_validators_ppm: U53
    cut_pool_ppm: U53
    unbonding_epochs: U53
    evidence_epochs: U53
    dispute_epochs: U53
    channel_challenge_epochs: U53
    slash_equivocation_ppm: U53
    slash_receipt_fraud_ppm: U53
    slash_downtime_ppm: U53
    downtime_window_blocks: U53
    downtime_min_signed_ppm: U53
    jail_ms: U53
    governance_delay_epochs: U53

    def encode(self) -> bytes:
        """Canonical bytes."""
        return encode(self)

    def hash(self) -> bytes:
        """32 bytes, as named in headers."""
        return domains.tagged_hash(domains.PARAMETERS, encode(self))

    def items(self) -> Iterator[tuple[str, int]]:
        """(name, value) in the table's order."""
        for parameter in PARAMETERS:
            yield parameter.name, getattr(self, parameter.name)

    def check(self) -> None:
        """Raise InvalidParameter for the first value outside its bounds."""
        for parameter in PARAMETERS:
            value = getattr(self, parameter.name)
            if not parameter.low <= value <= parameter.high:
                raise InvalidParameter(
                    parameter.name, value, f"must lie in {parameter.low}…{parameter.high}"
                )
        for name, value, holds, rule in (
            (
                "pbft_timeout_cap_ms",
                self.pbft_timeout_cap_ms,
                self.pbft_timeout_cap_ms >= self.pbft_base_timeout_ms,
                "must be at least pbft_base_timeout_ms",
            ),
            (
                "raft_heartbeat_ms",
                self.raft_heartbeat_ms,
                self.raft_heartbeat_ms * 3 <= self.raft_election_timeout_ms,
                "must be at most a third of raft_election_timeout_ms",
            ),
            (
                "score_delay_ms",
                self.score_delay_ms,
                self.score_delay_ms * 2 <= self.epoch_ms,
                "must be at most half of epoch_ms",
            ),
            (
                "register_work_n",
                self.register_work_n,
                self.register_work_n.bit_count() == 1,
                "must be a power of two (RFC 7914)",
            ),
            (
                "unbonding_epochs",
                self.unbonding_epochs,
                self.unbonding_epochs > self.evidence_epochs > self.dispute_epochs,
                "unbonding_epochs > evidence_epochs > dispute_epochs must hold",
            ),
            (
                "cut_burn_ppm",
                self.cut_ppm,
                self.cut_ppm <= 100_000,
                "the three cuts together must be at most 100,000 ppm",
            ),
            (
                "block_max_bytes",
                self.block_max_bytes,
                self.block_max_bytes >= 2 * self.tx_max_bytes,
                "must hold at least two transactions of tx_max_bytes",
            ),
        ):
            if not holds:
                raise InvalidParameter(name, value, rule)

    @property
    def cut_ppm(self) -> int:
        """The whole protocol cut on settled value, ppm."""
        return self.cut_burn_ppm + self.cut_validators_ppm + self.cut_pool_ppm


DEFAULT_PARAMS = ChainParams(*(parameter.default for parameter in PARAMETERS))
DEVNET_PARAMS = ChainParams(*(parameter.devnet for parameter in PARAMETERS))

PARAMS_CODEC = Codec[ChainParams]("parameters", ChainParams, 4_096)

assert ChainParams.__struct_fields__ == tuple(parameter.name for parameter in PARAMETERS)

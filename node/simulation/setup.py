"""What a run is, before anything happens: validators, powers, who lies, how long, how fast.

All of it is drawn from the seed. Together with the plan of faults (node.simulation.faults) it fixes
the run completely.
"""

from __future__ import annotations

import random
from typing import Literal

import msgspec

from ledger.crypto import sha256
from ledger.params import DEFAULT_PARAMS, ChainParams
from ledger.transactions import ChainIdentity
from ledger.validators import Validator, ValidatorSet
from node.simulation.keys import KeyRing, client_key
from node.simulation.ledger import Genesis

Behaviour = Literal["twins", "selective", "forger", "sync_liar", "flooder"]
"""How a Byzantine validator misbehaves: see node.simulation.byzantine."""

BEHAVIOURS: tuple[Behaviour, ...] = ("twins", "selective", "forger", "sync_liar", "flooder")

GENESIS_TIME_MS = 1_700_000_000_000
CLIENT_COUNT = 4
CLIENT_BALANCE = 10_000_000

VALIDATOR_COUNTS = (4, 4, 4, 4, 4, 4, 5, 6, 6, 7)
"""n = 4 is the smallest that tolerates a fault; n = 6 is where 2f + 1 is no quorum."""


SLOW_NETWORK_MS = 500
"""Four such hops, which a block needs, take longer than a capped round: only rounds that go on
growing come to an end."""


class Setup(msgspec.Struct, frozen=True):
    """The unchanging part of a run.

    `latency_ms` is how long every packet takes on top of what is usual.

    `powers[s][v]` is the power of validator v in set s, 0 where it is not in the set.

    Height h is certified by set `h // set_period % len(powers)`.
    """

    seed: int
    powers: tuple[tuple[int, ...], ...]
    set_period: int
    byzantine: tuple[tuple[int, Behaviour], ...]
    base_timeout_ms: int
    safety_ms: int
    client_pause_ms: int
    journal_keep_bytes: int
    latency_ms: int

    @property
    def validators(self) -> int:
        """How many validators there are."""
        return len(self.powers[0])


def faulty_is_tolerable(powers: tuple[tuple[int, ...], ...], faulty: set[int]) -> bool:
    """Whether the faulty hold less than one third of the power in every set."""
    return all(3 * sum(each[index] for index in faulty) < sum(each) for each in powers)


def _draw_powers(draw: random.Random, count: int) -> tuple[tuple[int, ...], ...]:
    weighted = draw.random() < 0.25
    first = tuple(draw.randint(1, 10) if weighted else 1 for _ in range(count))
    if draw.random() < 0.7:
        return (first,)
    sets = [first]
    for _ in range(draw.randint(1, 2)):
        changed = list(first)
        chosen = draw.randrange(count)
        # Less than a third of the power changes at once, and enough validators stay.
        if count > 4 and 3 * changed[chosen] < sum(changed) and draw.random() < 0.5:
            changed[chosen] = 0
        else:
            changed[chosen] += draw.randint(1, max(1, sum(first) // 4))
        sets.append(tuple(changed))
    return tuple(sets)


def _draw_byzantine(
    draw: random.Random, powers: tuple[tuple[int, ...], ...]
) -> tuple[tuple[int, Behaviour], ...]:
    chosen: dict[int, Behaviour] = {}
    order = list(range(len(powers[0])))
    draw.shuffle(order)
    for validator in order:
        if faulty_is_tolerable(powers, {*chosen, validator}):
            chosen[validator] = draw.choice(BEHAVIOURS)
    return tuple(sorted(chosen.items()))


def draw_setup(
    draw: random.Random, *, seed: int, validators: int | None, kinds: tuple[str, ...]
) -> Setup:
    """The setup of a seed; `validators` fixes their number, else it is drawn."""
    powers = _draw_powers(draw, validators or draw.choice(VALIDATOR_COUNTS))
    with_byzantine = draw.random() < 0.5 and "byzantine" in kinds
    return Setup(
        seed=seed,
        powers=powers,
        set_period=draw.randint(2, 6),
        byzantine=_draw_byzantine(draw, powers) if with_byzantine else (),
        base_timeout_ms=draw.choice((250, 400)),
        safety_ms=draw.choice((8_000, 15_000, 30_000)),
        client_pause_ms=draw.choice((300, 800, 2_000)),
        journal_keep_bytes=draw.choice((2_000, 20_000, 4 << 20)),
        latency_ms=SLOW_NETWORK_MS if draw.random() < 0.04 else 0,
    )


def chain_params(setup: Setup) -> ChainParams:
    """The default parameters, quickened. No run reaches the end of an epoch, which is a day."""
    params = msgspec.structs.replace(
        DEFAULT_PARAMS,
        pbft_base_timeout_ms=setup.base_timeout_ms,
        pbft_timeout_cap_ms=4 * setup.base_timeout_ms,
        heartbeat_block_ms=1_000,
        skip_heights=5,
        max_clock_drift_ms=500,
    )
    params.check()
    return params


def operator_label(validator: int) -> str:
    """Name of the key that owns a validator's account."""
    return f"operator {validator}"


def make_genesis(setup: Setup, ring: KeyRing) -> Genesis:
    """The chain of a run, its keys known to `ring`."""
    validators = [
        (
            ring.key(operator_label(each)).public_key,
            ring.key(f"consensus {each}").public_key,
            ring.key(f"node {each}").public_key,
        )
        for each in range(setup.validators)
    ]
    sets = tuple(
        ValidatorSet.make(
            [
                Validator(*keys, power)
                for keys, power in zip(validators, powers, strict=True)
                if power
            ]
        )
        for powers in setup.powers
    )
    genesis_hash = sha256(b"simulated network" + msgspec.msgpack.encode(setup))
    clients = {client_key(each).public_key: CLIENT_BALANCE for each in range(CLIENT_COUNT)}
    return Genesis(
        chain=ChainIdentity("simulated", genesis_hash),
        params=chain_params(setup),
        time_ms=GENESIS_TIME_MS,
        sets=sets,
        set_period=setup.set_period,
        balances=clients,
    )

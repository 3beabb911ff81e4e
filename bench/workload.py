"""The network that is measured and what it is asked to do.

Four validators with a devnet's parameters, but an epoch longer than the run, so that no score
computation falls into one measurement and not into another. Payers and payees have keys of their
own and open the network with enough µT, so that no set-up transaction runs in a measurement.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import msgspec

from genesis.devnet import devnet_document
from genesis.document import Document
from ledger.crypto import PrivateKey, sha256
from ledger.identity import peer_id
from ledger.params import DEVNET_PARAMS, MICRO
from node.demo.plan import Chain, Signer

VALIDATORS_COUNT = 4

PAYERS_COUNT = 512
"""So many that a block's transactions are of different senders, as on a real network."""

BATCH_COUNT = 100
"""Transactions in one submission."""

_EPOCH_MS = 3_600_000
_BALANCE = 100_000 * MICRO
_CHAIN_ID = "tally-bench"


def person_key(role: str, number: int) -> PrivateKey:
    """A key of the benchmark, the same in every run."""
    return PrivateKey(sha256(f"tallystick benchmark, worthless: {role} {number}".encode()))


def definition(validators: int = VALIDATORS_COUNT) -> Document:
    """The network, dated now."""
    params = msgspec.structs.replace(DEVNET_PARAMS, epoch_ms=_EPOCH_MS)
    made = devnet_document(
        validators=validators,
        genesis_time_ms=time.time_ns() // 1_000_000,
        chain_id=_CHAIN_ID,
        params=params,
    )
    written = made.model_dump()
    for number in range(PAYERS_COUNT):
        account = peer_id(person_key("payer", number).public_key)
        written["accounts"][account] = str(_BALANCE)
    return Document.model_validate(written)


class Load:
    """Signers of the payers, whose nonces run on from one workload to the next."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self.payers = [Signer(person_key("payer", n), chain) for n in range(PAYERS_COUNT)]
        self.payees = [person_key("payee", n) for n in range(PAYERS_COUNT)]
        self._seq = 0

    def registrations(self, lanes: int) -> list[list[bytes]]:
        """Every payer registers itself and its payee: what settles need."""
        made: list[list[bytes]] = [[] for _ in range(lanes)]
        for number, (payer, payee) in enumerate(zip(self.payers, self.payees, strict=True)):
            made[number % lanes] += [payer.register(payer.key), payer.register(payee)]
        return made

    def transfers(self, count: int, lanes: int) -> list[list[bytes]]:
        """Payments of 1 µT, each to somebody else than the one before."""
        made: list[list[bytes]] = [[] for _ in range(lanes)]
        for number, payer in self._turns(count):
            to = self.payees[(number + number // PAYERS_COUNT) % PAYERS_COUNT]
            made[number % lanes].append(payer.transfer(to.public_key, 1))
        return made

    def settles(self, count: int, lanes: int) -> list[list[bytes]]:
        """Receipts that both parties signed, each pair's growing."""
        made: list[list[bytes]] = [[] for _ in range(lanes)]
        for number, payer in self._turns(count):
            if number % PAYERS_COUNT == 0:
                self._seq += 1
            payee = self.payees[number % PAYERS_COUNT]
            made[number % lanes].append(payer.settle(payee, self._seq))
        return made

    def _turns(self, count: int) -> Iterator[tuple[int, Signer]]:
        for number in range(count):
            yield number, self.payers[number % PAYERS_COUNT]


def batches(lane: Sequence[bytes]) -> Iterator[list[bytes]]:
    """A lane in submissions."""
    for start in range(0, len(lane), BATCH_COUNT):
        yield list(lane[start : start + BATCH_COUNT])


assert PAYERS_COUNT % VALIDATORS_COUNT == 0, "a sender's transactions stay in one lane"

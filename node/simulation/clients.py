"""Clients: they submit transfers, resubmit what is not committed, and remember what was promised.

A client keeps few transactions in flight, submits each to one machine, from where it spreads to
some of the others, and takes it as committed when that machine says so. What is not committed after
a while goes to another machine, so a lost mempool or a dead node costs a client time only.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from ledger.transactions import SignedTransaction, Transfer, sign_transaction
from node.simulation.keys import client_key
from node.simulation.ledger import Genesis, StoredBlock
from node.simulation.machine import Machine
from node.simulation.schedule import MS, SECOND, Schedule
from node.simulation.setup import CLIENT_BALANCE, CLIENT_COUNT

IN_FLIGHT = 2
RESUBMIT_US = 2 * SECOND
SPREAD_MAX_US = 40 * MS
LIVELY_PAUSE_MS = 300
FEE = 1_000

# Some transfers are of more than anyone has: they fail in execution, and still pay their fee.
AMOUNT_MAX = CLIENT_BALANCE * 3 // 2


@dataclass(slots=True)
class _Pending:
    signed: SignedTransaction
    contact: int
    submitted_us: int


class Clients:
    """All clients of a world, submitting to `machines` by turns, one every `pause_ms`."""

    def __init__(
        self,
        *,
        genesis: Genesis,
        schedule: Schedule,
        machines: list[Machine],
        random_stream: random.Random,
        pause_ms: int,
    ) -> None:
        self.acknowledged = 0
        self.machines = machines
        self._genesis = genesis
        self._schedule = schedule
        self._random = random_stream
        self._pause_ms = pause_ms
        self._keys = [client_key(each) for each in range(CLIENT_COUNT)]
        self._nonces = [0] * CLIENT_COUNT
        self._pending: dict[bytes, _Pending] = {}

    def begin(self) -> None:
        """Submit from now on."""
        self._resubmit()
        client = self._random.randrange(CLIENT_COUNT)
        address = self._keys[client].public_key
        in_flight = sum(
            each.signed.transaction.sender == address for each in self._pending.values()
        )
        if in_flight < IN_FLIGHT:
            self._submit(self._new_transaction(client))
        self._schedule.after(self._random.randint(1, 2 * self._pause_ms) * MS, self.begin)

    def settle_on(self, machines: list[Machine]) -> None:
        """From now on submit to these machines only, and at a good pace."""
        self.machines = machines
        self._pause_ms = min(self._pause_ms, LIVELY_PAUSE_MS)

    def acknowledge(self, machine: Machine, stored: StoredBlock) -> list[bytes]:
        """The ids in the block that clients of this machine now hold for committed."""
        told = []
        for transaction_id in stored.transaction_ids:
            pending = self._pending.get(transaction_id)
            if pending is not None and pending.contact == machine.number:
                del self._pending[transaction_id]
                told.append(transaction_id)
        self.acknowledged += len(told)
        return told

    def _new_transaction(self, client: int) -> SignedTransaction:
        key = self._keys[client]
        receiver = self._keys[self._random.randrange(CLIENT_COUNT)]
        transfer = Transfer(
            chain_id=self._genesis.chain.chain_id,
            sender=key.public_key,
            nonce=self._nonces[client],
            fee=FEE,
            expiry_height=0,
            to=receiver.public_key,
            amount=self._random.randint(1, AMOUNT_MAX),
        )
        self._nonces[client] += 1
        return sign_transaction(transfer, key, self._genesis.chain.genesis_hash)

    def _submit(self, signed: SignedTransaction) -> None:
        contact = self._random.choice(self.machines)
        now_us = self._schedule.now_us
        self._pending[signed.transaction_id] = _Pending(signed, contact.number, now_us)
        for machine in self.machines:
            if machine is contact or self._random.random() < 0.7:
                self._send(machine, signed.raw)

    def _send(self, machine: Machine, raw: bytes) -> None:
        delay_us = self._random.randint(0, SPREAD_MAX_US)
        self._schedule.after(delay_us, lambda: machine.submit(raw))

    def _resubmit(self) -> None:
        now_us = self._schedule.now_us
        for pending in list(self._pending.values()):
            if now_us - pending.submitted_us < RESUBMIT_US:
                continue
            signed = pending.signed
            contact = self._random.choice(self.machines)
            if contact.store.account(signed.transaction.sender).nonce > signed.transaction.nonce:
                # The new contact has the transaction in a block already: that is an answer too.
                del self._pending[signed.transaction_id]
                self.acknowledged += 1
                continue
            pending.contact, pending.submitted_us = contact.number, now_us
            self._send(contact, signed.raw)

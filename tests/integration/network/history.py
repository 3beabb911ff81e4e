"""Clients that keep a history, and the checker that holds the chain to it.

A client sends transfers from one funded account to an address of its own, a few at a time, to
whichever validator answers, and repeats the same bytes until they are acknowledged as committed,
as any careful client would. What it was told is its history. The checker reads the whole chain
from a validator and demands

    - what was acknowledged stands in exactly one block, the one that was named,
    - nothing stands in the chain twice,
    - nothing stands there in a client's name that it did not send,
    - every client's nonces follow each other without gap,
    - every recipient holds the sum of what stands in the chain for it, no more and no less.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from genesis.wellknown import well_known_key
from ledger.crypto import PrivateKey, sha256
from ledger.identity import peer_id
from ledger.transactions import ChainIdentity, SignedTransaction, Transfer
from rpc.client import CallFailed, ClientError, RpcClient, TransactionStatus
from rpc.session import Account
from tests.kit.processes import Processes, until

BATCH_COUNT = 8
"""Transactions a client has under way: enough to find some in flight whenever a process dies."""

WAIT_MS = 2_000


@dataclass(slots=True)
class Sent:
    """One transfer; `height` once a validator has acknowledged it as committed."""

    signed: SignedTransaction
    amount: int
    height: int | None = None

    @property
    def sender(self) -> str:
        """Its PeerID."""
        return peer_id(self.signed.transaction.sender)


@dataclass(slots=True)
class Client:
    """One sender and what it was told. Nobody else uses its account."""

    name: str
    chain: ChainIdentity
    sent: list[Sent] = field(default_factory=list)
    base_balance: int = 0

    @property
    def to(self) -> bytes:
        """An address that only this client sends to."""
        return PrivateKey(sha256(f"recipient of {self.name}".encode())).public_key

    @property
    def acknowledged(self) -> list[Sent]:
        """What a validator said is committed."""
        return [each for each in self.sent if each.height is not None]


class Load:
    """Clients by name (well-known devnet accounts) against the validators of a network.

    One network may see several loads one after the other: nonces go on where the last one ended.
    """

    def __init__(self, network: Processes, names: Iterable[str], seed: int = 0) -> None:
        self.network = network
        self.clients = [Client(name, network.definition.identity) for name in names]
        self._rng = random.Random(seed)
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._rpc: dict[int, RpcClient] = {}

    async def __aenter__(self) -> Self:
        self._rpc = {index: self.network.client(index, 5_000) for index in self.network.indexes}
        self._tasks = [asyncio.create_task(self._run(client)) for client in self.clients]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        # What a client died of was raised by the wait that it failed, or does not matter any more.
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for client in self._rpc.values():
            await client.close()

    @property
    def acknowledged_count(self) -> int:
        """Over all clients."""
        return sum(len(client.acknowledged) for client in self.clients)

    async def until_acknowledged(self, more: int) -> None:
        """Until this many more are acknowledged than now."""
        wanted = self.acknowledged_count + more

        async def reached() -> bool:
            self._raise_failures()
            return self.acknowledged_count >= wanted

        await self.network.until(reached, f"{wanted} transactions are acknowledged as committed")

    async def finish(self) -> None:
        """Send nothing new; wait until everything that was sent is acknowledged."""
        self._stopping = True

        async def done() -> bool:
            self._raise_failures()
            return all(task.done() for task in self._tasks)

        await self.network.until(done, "every transaction that was sent is committed")

    def _raise_failures(self) -> None:
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.result()

    # ---- one client ------------------------------------------------------------------------------

    async def _run(self, client: Client) -> None:
        account = await until(lambda: self._account(client), f"the nonce of {client.name} is known")
        while not self._stopping:
            batch = [self._make(account, client) for _ in range(BATCH_COUNT)]
            await until(lambda batch=batch: self._submit(batch), "a batch is committed")  # type: ignore[misc]

    async def _account(self, client: Client) -> Account:
        account = Account(well_known_key(client.name), client.chain, client=self._any())
        await account.refresh()
        return account

    def _make(self, account: Account, client: Client) -> Sent:
        amount = self._rng.randint(1, 1_000_000)
        signed = account.sign(account.build(Transfer, to=client.to, amount=amount))
        assert account.next_nonce is not None
        account.next_nonce += 1
        sent = Sent(signed, amount)
        client.sent.append(sent)
        return sent

    def _any(self) -> RpcClient:
        """Any validator, running or not: a client does not know."""
        return self._rpc[self._rng.choice(list(self._rpc))]

    async def _submit(self, batch: list[Sent]) -> bool:
        """Hand in what is not acknowledged; whether all of it is now. Raises ClientError."""
        waiting = [each for each in batch if each.height is None]
        try:
            answers = await self._any().submit_many(
                [each.signed.raw for each in waiting], wait="committed", timeout_ms=WAIT_MS
            )
        except CallFailed as failed:
            if failed.retryable:
                return False
            raise AssertionError("a whole batch is refused") from failed
        for sent, answer in zip(waiting, answers, strict=True):
            if isinstance(answer, TransactionStatus):
                assert answer.transaction_id == sent.signed.transaction_id
                if answer.is_committed:
                    assert answer.ok, answer
                    sent.height = answer.height
            else:
                assert answer.retryable, answer
        return all(each.height is not None for each in waiting)


Chain = dict[int, list[tuple[bytes, str]]]
"""(transaction id, sender) by height."""


async def read_chain(network: Processes, index: int) -> Chain:
    """The whole chain as a validator holds it."""
    async with network.client(index) as client:
        heights = range(1, (await client.status()).height + 1)
        blocks: Chain = {}
        for start in range(0, len(heights), 100):
            part = heights[start : start + 100]
            answers = await client.batch(
                [("chain_getBlock", {"block": height, "full": True}) for height in part]
            )
            for height, answer in zip(part, answers, strict=True):
                assert not isinstance(answer, ClientError), answer
                blocks[height] = [
                    (bytes.fromhex(each["hash"][2:]), each["payload"]["sender"])
                    for each in answer["transactions"]
                ]
    return blocks


async def check(network: Processes, index: int, loads: Iterable[Load]) -> None:
    """Hold the chain of validator `index` to the histories of all loads it ever saw."""
    blocks = await read_chain(network, index)
    clients = [client for load in loads for client in load.clients]
    check_histories(blocks, clients)
    held = {transaction_id for block in blocks.values() for transaction_id, _ in block}
    expected: dict[str, int] = {}
    for each in clients:
        for sent in each.sent:
            if sent.signed.transaction_id in held:
                recipient = peer_id(each.to)
                expected[recipient] = expected.get(recipient, 0) + sent.amount
    async with network.client(index) as client:
        for recipient, amount in expected.items():
            assert (await client.account(recipient)).balance == amount


def check_histories(blocks: Chain, clients: list[Client]) -> None:
    """The rules of the module that need no balances."""
    places: dict[bytes, int] = {}
    for height, block in blocks.items():
        for each, _ in block:
            assert each not in places, f"{each.hex()} stands at {places[each]} and at {height}"
            places[each] = height
    for client in clients:
        for sent in client.acknowledged:
            found = places.get(sent.signed.transaction_id)
            assert found is not None, f"{client.name} was told {sent.height}, but it is lost"
            assert found == sent.height, f"{client.name} was told {sent.height}, it is at {found}"
    nonces = {sent.sender: 0 for client in clients for sent in client.sent}
    by_id = {sent.signed.transaction_id: sent for client in clients for sent in client.sent}
    for height in sorted(blocks):
        for each, sender in blocks[height]:
            if sender not in nonces:
                continue
            assert each in by_id, f"nobody sent {each.hex()}, which stands at {height}"
            assert by_id[each].signed.transaction.nonce == nonces[sender], f"nonces at {height}"
            nonces[sender] += 1

"""One validator with a little history: a transfer, paid and rated service, a failure, scores."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from genesis.wellknown import account_address, account_key
from ledger.crypto import PrivateKey
from ledger.execution.claims import find_work_nonce
from ledger.params import DEVNET_PARAMS, MICRO
from ledger.transactions import (
    Rate,
    Register,
    Settle,
    Transaction,
    Transfer,
    receipt_body,
    receipt_digest,
    sign_transaction,
)
from rpc.client import RpcClient
from tests.kit.processes import Processes, until

# Blocks come every second also when nothing happens, and epochs are over before anybody waits.
PARAMS = msgspec.structs.replace(
    DEVNET_PARAMS, heartbeat_block_ms=1_000, epoch_ms=2_000, score_delay_ms=200
)

FEE = 100_000
PAID = 5 * MICRO
SCORE = 8


def key_of(name: str) -> PrivateKey:
    """The published key of a devnet account."""
    key = account_key(name)
    assert key is not None
    return key


@dataclass
class Story:
    """Where the node is, and what happened there. Hashes are hexadecimal, by what they name."""

    url: str
    definition_hash: str
    hashes: dict[str, str] = field(default_factory=dict)
    heights: dict[str, int] = field(default_factory=dict)

    @property
    def page(self) -> str:
        """The explorer's address."""
        return f"{self.url}/explorer/"


class Teller:
    """Signs and submits one transaction after the other, each by its sender's next nonce."""

    def __init__(self, processes: Processes, client: RpcClient, story: Story) -> None:
        self._chain = processes.definition.identity
        self._client = client
        self._story = story
        self._nonces: dict[str, int] = {}

    async def tell(self, title: str, sender: str, kind: type[Transaction], **fields: Any) -> None:
        """Until it is in a block."""
        key = key_of(sender)
        nonce = self._nonces.get(sender, 0)
        self._nonces[sender] = nonce + 1
        made = kind(
            chain_id=self._chain.chain_id,
            sender=key.public_key,
            nonce=nonce,
            fee=FEE,
            expiry_height=0,
            **fields,
        )
        if isinstance(made, Settle):
            digest = receipt_digest(receipt_body(made), self._chain.genesis_hash)
            made = msgspec.structs.replace(
                made, counterparty_signature=key_of("alice").sign(digest)
            )
        signed = sign_transaction(made, key, self._chain.genesis_hash)
        status = await self._client.submit(signed.raw, wait="committed", timeout_ms=20_000)
        assert status.height is not None, status
        self._story.hashes[title] = "0x" + signed.transaction_id.hex()
        self._story.heights[title] = status.height


async def make_story(processes: Processes) -> Story:
    """Start the validator and tell everything."""
    processes.start()
    await processes.until_ready()
    story = Story(processes.url(0), "0x" + processes.definition.genesis_hash.hex())
    async with processes.client(0, timeout_ms=30_000) as client:
        teller = Teller(processes, client, story)
        alice = key_of("alice").public_key
        for name in ("alice", "validator-1", "alice"):
            key = key_of(name)
            again = "register" in story.hashes and name == "alice"
            await teller.tell(
                "register again" if again else "register",
                name,
                Register,
                registrant=key.public_key,
                registrant_signature=b"",
                service_mask=1,
                endpoint_hash=bytes(32),
                deposit=PARAMS.register_deposit,
                work_nonce=find_work_nonce(
                    key.public_key, processes.definition.genesis_hash, PARAMS
                ),
            )
        await teller.tell("transfer", "bob", Transfer, to=alice, amount=12_500_000)
        await teller.tell(
            "settle",
            "validator-1",
            Settle,
            payer=key_of("validator-1").public_key,
            payee=alice,
            service=0,
            channel=b"",
            seq=1,
            cum_units=10,
            cum_paid=PAID,
            counterparty_signature=b"",
        )
        await teller.tell(
            "rate",
            "validator-1",
            Rate,
            subject=alice,
            service=0,
            receipt_seq=1,
            score=SCORE,
            code=0,
            evidence_hash=b"",
        )

        async def scored() -> bool:
            answer = await client.call("reputation_get", {"subject": account_address("alice")})
            return answer["rank"] is not None

        await until(scored, "alice has a score")
    return story

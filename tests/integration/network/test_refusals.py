"""What must never get into a block, handed in over RPC and by a peer, each with its own reason."""

from __future__ import annotations

import io
import random
from collections.abc import AsyncIterator, Callable
from typing import Self

import aiohttp
import msgspec
import pytest

from genesis.wellknown import validator_keys, well_known_key
from ledger.codec import encode
from ledger.crypto import SIGNATURE_BYTES, PrivateKey, sha256
from ledger.domains import TRANSACTION
from ledger.transactions import (
    Rate,
    Register,
    Settle,
    Transaction,
    Transfer,
    decode_transaction,
    sign_transaction,
)
from node.network import BATCH_MESSAGE_MAX_BYTES, TRANSACTIONS
from node.registration import registration
from p2p.errors import P2PError
from p2p.host import Host, HostConfig
from p2p.lanes import Lane
from p2p.status import StatusFacts
from rpc.client import CallFailed
from rpc.session import Account
from tests.integration.network.conftest import Network
from tests.kit.processes import until

pytestmark = [pytest.mark.processes]

ALICE, BOB, MALLORY = (well_known_key(name) for name in ("alice", "bob", "mallory"))

HTTP_BODY_LIMIT_BYTES = 1 << 20
"""interfaces.md: a body has at most 1 MiB."""


class Forger:
    """Makes wire bytes that are wrong in one way. `nonce` and `balance` are what mallory has."""

    def __init__(self, network: Network, nonce: int) -> None:
        self.identity = network.processes.definition.identity
        self.params = network.processes.definition.params
        self.nonce = nonce
        self.balance = 0
        self.account = Account(
            MALLORY,
            self.identity,
            nonce=nonce,
            fee_base=self.params.fee_base,
            fee_per_byte=self.params.fee_per_byte,
        )

    def transfer(self, **changes: object) -> Transfer:
        """A transfer that would be good but for the changes."""
        made = self.account.build(Transfer, to=BOB.public_key, amount=7)
        # Some changes make it longer; only one of them is about the fee.
        return msgspec.structs.replace(made, **{"fee": made.fee + 50, **changes})

    def sign(self, transaction: Transaction, key: PrivateKey = MALLORY) -> bytes:
        """Its wire bytes."""
        return sign_transaction(transaction, key, self.identity.genesis_hash).raw

    def sign_payload(self, payload: bytes) -> bytes:
        """A good signature over any bytes."""
        return payload + MALLORY.sign(sha256(TRANSACTION + self.identity.genesis_hash + payload))

    def settle(self, signature: bytes) -> Settle:
        """A receipt that alice is said to have signed."""
        return self.account.build(
            Settle,
            payer=ALICE.public_key,
            payee=MALLORY.public_key,
            service=1,
            channel=b"",
            seq=1,
            cum_units=1,
            cum_paid=1_000_000,
            counterparty_signature=signature,
        )

    def register(self) -> Transaction:
        """A sponsorship which its registrant never signed."""
        fields = registration(
            PrivateKey(sha256(b"a stranger")),
            MALLORY.public_key,
            self.identity,
            self.params,
            service_mask=1,
        )
        return self.account.build(Register, **{**fields, "registrant_signature": bytes(64)})


def wrong_signature(forger: Forger) -> bytes:
    return forger.sign(forger.transfer(), ALICE)


def flipped_signature(forger: Forger) -> bytes:
    raw = bytearray(forger.sign(forger.transfer()))
    raw[-40] ^= 1
    return bytes(raw)


def wrong_chain(forger: Forger) -> bytes:
    return forger.sign(forger.transfer(chain_id="tally-main"))


def wrong_genesis(forger: Forger) -> bytes:
    return sign_transaction(forger.transfer(), MALLORY, sha256(b"another network")).raw


def stale_nonce(forger: Forger) -> bytes:
    return forger.sign(forger.transfer(nonce=forger.nonce - 1))


def far_nonce(forger: Forger) -> bytes:
    return forger.sign(forger.transfer(nonce=forger.nonce + 1_000_000))


def trailing_byte(forger: Forger) -> bytes:
    return forger.sign_payload(encode(forger.transfer()) + b"\x00")


def overlong_integer(forger: Forger) -> bytes:
    """The amount 7 as a two-byte integer: the same value in another spelling."""
    payload = encode(forger.transfer())
    assert payload.endswith(b"\x07")
    return forger.sign_payload(payload[:-1] + b"\xcc\x07")


def oversized(forger: Forger) -> bytes:
    return bytes(forger.params.tx_max_bytes + 1)


def garbage(forger: Forger) -> bytes:
    return random.Random(1).randbytes(200)


def low_fee(forger: Forger) -> bytes:
    transfer = forger.transfer()
    # A smaller fee may itself be a byte shorter, hence the two below.
    size_bytes = len(encode(transfer)) + SIGNATURE_BYTES
    required = forger.params.fee_base + forger.params.fee_per_byte * size_bytes
    return forger.sign(msgspec.structs.replace(transfer, fee=required - 2))


def bad_counterparty(forger: Forger) -> bytes:
    return forger.sign(forger.settle(MALLORY.sign(sha256(b"not what alice signed"))))


def bad_registrant(forger: Forger) -> bytes:
    return forger.sign(forger.register())


def zero_rating(forger: Forger) -> bytes:
    return forger.sign(
        forger.account.build(
            Rate,
            subject=BOB.public_key,
            service=1,
            receipt_seq=1,
            score=0,
            code=0,
            evidence_hash=b"",
        )
    )


def poor_sender(forger: Forger) -> bytes:
    poor = PrivateKey(sha256(b"an account without funds"))
    transfer = forger.transfer(sender=poor.public_key, nonce=0)
    return forger.sign(transfer, poor)


def expired(forger: Forger) -> bytes:
    return forger.sign(forger.transfer(expiry_height=1))


FORGERIES: dict[Callable[[Forger], bytes], str] = {
    wrong_signature: "INVALID_SIGNATURE",
    flipped_signature: "INVALID_SIGNATURE",
    wrong_genesis: "INVALID_SIGNATURE",
    wrong_chain: "WRONG_CHAIN",
    stale_nonce: "NONCE_TOO_LOW",
    far_nonce: "NONCE_TOO_HIGH",
    trailing_byte: "TRAILING_BYTES",
    overlong_integer: "NOT_CANONICAL",
    oversized: "OVERSIZED",
    garbage: "MALFORMED",
    low_fee: "FEE_TOO_LOW",
    bad_counterparty: "INVALID_COUNTERPARTY_SIGNATURE",
    bad_registrant: "INVALID_REGISTRANT_SIGNATURE",
    zero_rating: "INVALID_FIELDS",
    poor_sender: "INSUFFICIENT_FEE_FUNDS",
    expired: "EXPIRED",
}
"""Each with the reason that the protocol names for it."""

OF_HONEST_PEERS = {
    "FEE_TOO_LOW",
    "NONCE_TOO_LOW",
    "NONCE_TOO_HIGH",
    "EXPIRED",
    "INSUFFICIENT_FEE_FUNDS",
}
"""A race with a block can make an honest peer send these."""


@pytest.fixture
async def forger(network: Network) -> AsyncIterator[Forger]:
    """After one good transfer, so that there is a nonce that was used; nothing else gets in."""
    processes = network.processes
    async with processes.client(0) as client:
        account = Account(MALLORY, processes.definition.identity, client=client)
        status = await account.transfer(BOB.public_key, 5, wait="committed", timeout_ms=30_000)
        assert status.is_committed
        made = Forger(network, account.next_nonce or 0)
        made.balance = (await client.account(account.name)).balance
    await processes.until_height(status.height or 0)

    yield made

    await processes.until_level()
    for index in processes.indexes:
        async with processes.client(index) as client:
            after = await client.account(account.name)
            assert (after.nonce, after.balance) == (made.nonce, made.balance)
            assert (await client.status()).mempool_count == 0


@pytest.mark.parametrize("forge", FORGERIES, ids=lambda forge: forge.__name__)
async def test_a_forgery_over_rpc_is_refused_for_its_own_reason(
    network: Network, forger: Forger, forge: Callable[[Forger], bytes]
) -> None:
    raw = forge(forger)
    for index in network.processes.indexes:
        async with network.processes.client(index) as client:
            with pytest.raises(CallFailed) as refused:
                await client.submit(raw)
            assert refused.value.code == -32003
            assert refused.value.reason == FORGERIES[forge]
            (in_a_list,) = await client.submit_many([raw])
            assert isinstance(in_a_list, CallFailed)
            assert in_a_list.reason == FORGERIES[forge]


async def test_a_body_beyond_the_limit_is_refused_before_it_is_parsed(network: Network) -> None:
    within, beyond = b" " * (HTTP_BODY_LIMIT_BYTES - 100), b" " * (HTTP_BODY_LIMIT_BYTES + 1)
    url = network.processes.url(0)
    async with aiohttp.ClientSession(headers={"Content-Type": "application/json"}) as session:
        call = b'{"jsonrpc":"2.0","id":1,"method":"system_status"}'
        async with session.post(url, data=within + call) as answer:
            assert answer.status == 200
            assert "result" in await answer.json()
        async with session.post(url, data=io.BytesIO(beyond + call)) as answer:
            assert answer.status == 413
            assert (await answer.json())["error"]["data"]["reason"] == "BODY_TOO_LARGE"
        async with session.post(url, data=_chunks(beyond + call)) as answer:
            assert answer.status == 413


async def _chunks(body: bytes) -> AsyncIterator[bytes]:
    """A body whose length nobody announced."""
    for start in range(0, len(body), 65_536):
        yield body[start : start + 65_536]


# ---- from a peer ---------------------------------------------------------------------------------


class Stranger:
    """A p2p host that says what it likes, with a key of its own unless it was given another."""

    def __init__(self, network: Network, seed: str, key: PrivateKey | None = None) -> None:
        definition = network.processes.definition
        self._network = network
        self.downs: list[str] = []
        self.host = Host(
            HostConfig(agent="stranger"),
            key or PrivateKey(sha256(seed.encode())),
            lambda: StatusFacts(definition.chain_id, definition.genesis_hash, 0),
            rng=random.Random(1),
        )
        self.host.add_message_protocol(
            TRANSACTIONS, Lane.L2, BATCH_MESSAGE_MAX_BYTES, lambda _peer, _payload: None
        )
        self.host.on_peer_down(lambda _peer, reason: self.downs.append(reason))

    async def __aenter__(self) -> Self:
        await self.host.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.host.close()

    async def connect(self, index: int) -> str:
        """A link to a validator; its PeerID."""
        facts = self._network.processes.facts(index)
        await self.host.connect(facts.node_id, "127.0.0.1", facts.p2p_port)
        return facts.node_id

    def hand_in(self, peer: str, *raws: bytes) -> None:
        """A batch of transactions, as an honest peer packs it."""
        assert self.host.send(peer, TRANSACTIONS, encode(list(raws)))

    async def until_dropped(self, peer: str, raw: bytes) -> str:
        """Hand in the same thing until the validator ends the relation; the reason as we saw it.

        Once is not enough: a fault is 20 points, which decay by one a second, and 100 end the
        relation (p2p.limits). What waits behind a fault is thrown away unseen and not charged.
        """

        async def dropped() -> str | None:
            if not self.downs:
                self.host.send(peer, TRANSACTIONS, encode([raw]))
            return self.downs[0] if self.downs else None

        return await until(dropped, "the validator drops the stranger")


CHARGED = {forge: reason for forge, reason in FORGERIES.items() if reason not in OF_HONEST_PEERS}


@pytest.mark.parametrize("forge", CHARGED, ids=lambda forge: forge.__name__)
async def test_a_peer_that_hands_in_forgeries_is_dropped_for_it(
    network: Network, forger: Forger, forge: Callable[[Forger], bytes]
) -> None:
    raw = forge(forger)
    async with Stranger(network, f"hands in {forge.__name__}") as stranger:
        peer = await stranger.connect(1)
        await stranger.until_dropped(peer, raw)
        said = network.processes.log_tail(1)
        assert f"banned for {CHARGED[forge]}" in said
        assert stranger.host.peer_id in said

        # It is not let in again at once.
        with pytest.raises((P2PError, OSError)):
            await stranger.connect(1)


async def test_what_an_honest_peer_may_send_late_is_not_held_against_it(
    network: Network, forger: Forger
) -> None:
    late = [forge(forger) for forge, reason in FORGERIES.items() if reason in OF_HONEST_PEERS]
    async with Stranger(network, "is late") as stranger:
        peer = await stranger.connect(1)
        for _ in range(10):
            stranger.hand_in(peer, *late)
        good = forger.sign(forger.transfer())
        stranger.hand_in(peer, good)

        # Messages arrive in order: what follows the late ones is taken in, and committed.
        async with network.processes.client(1) as client:
            signed = decode_transaction(good, forger.identity.genesis_hash)

            async def committed() -> bool:
                status = await client.transaction(signed.transaction_id)
                return status is not None and status.is_committed

            await network.processes.until(committed, "the good transaction is committed")
        assert not stranger.downs
    forger.nonce += 1
    forger.balance -= signed.transaction.fee + 7


async def test_a_validators_key_is_no_licence(network: Network, forger: Forger) -> None:
    # Somebody has got hold of a validator's node key, or the validator itself turned.
    processes = network.processes
    turned, attacked = 3, 1
    processes.kill(turned)
    raw = wrong_signature(forger)

    async with Stranger(network, "turned", validator_keys(turned).node) as stranger:
        assert stranger.host.peer_id == processes.facts(turned).node_id
        peer = await stranger.connect(attacked)
        await stranger.until_dropped(peer, raw)
    assert "banned for INVALID_SIGNATURE" in processes.log_tail(attacked)

    # The others go on, and the key's owner is let in again when the ban is over; here the ban ends
    # with the process that remembers it.
    processes.kill(attacked)
    processes.start()
    await processes.until_ready()

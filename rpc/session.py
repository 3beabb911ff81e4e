"""Sending transactions as one account: fees, nonces, resubmission.

Building and signing need no network: `build` fills the header, the fee is what the bytes cost, and
`sign` gives the wire bytes. `send` does the rest:

  - The next nonce is fetched once and then counted here, so that transactions can follow each other
    without waiting for blocks. They are sent one at a time: a gap would hold up all later ones.
  - A nonce that was used (NONCE_TOO_LOW) or is too far ahead (NONCE_TOO_HIGH: earlier ones were
    dropped) means that the count is wrong: it is fetched again and the transaction signed anew.
  - When the connection breaks, nobody knows whether the node took the transaction. The same bytes
    are then submitted again, which is harmless: a known one answers with its present status.
  - A wait that runs out gives a pending status. The transaction may still be committed; its nonce
    counts as used.
"""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from ledger.codec import encode
from ledger.crypto import SIGNATURE_BYTES, PrivateKey
from ledger.identity import peer_id
from ledger.transactions import (
    ChainIdentity,
    SignedTransaction,
    Transaction,
    Transfer,
    sign_transaction,
)
from rpc.client import (
    TIMEOUT_MS,
    AnswerTimeout,
    CallFailed,
    ConnectionFailed,
    RpcClient,
    TransactionStatus,
    Wait,
)

# Times that one transaction is signed anew because the nonce was wrong. Once mends a wrong count;
# more are needed only when another program sends for the same account.
RENUMBER_COUNT = 3

# Times that the same bytes are submitted when the connection breaks.
SUBMIT_ATTEMPTS_COUNT = 3

# The fee is part of what it pays for; this many rounds settle it (the encoding of a number grows by
# at most eight bytes).
_FEE_ROUNDS = 4

_WRONG_NONCE = frozenset({"NONCE_TOO_LOW", "NONCE_TOO_HIGH"})

Family = TypeVar("Family", bound=Transaction)


class Account:
    """One account's signing session. Not for two programs at once; within one, share the object.

    `address` (33 bytes) is the founding key and differs from the key's own after a rotation.
    `fee_base` and `fee_per_byte` (µT) and the nonce are fetched where they are not given; giving
    all three makes everything but `send` work offline.
    """

    def __init__(
        self,
        key: PrivateKey,
        chain: ChainIdentity,
        *,
        client: RpcClient | None = None,
        address: bytes | None = None,
        nonce: int | None = None,
        fee_base: int | None = None,
        fee_per_byte: int | None = None,
    ) -> None:
        self._key = key
        self._client = client
        self.chain = chain
        self.address = key.public_key if address is None else address
        self.next_nonce = nonce
        self._fee_base = fee_base
        self._fee_per_byte = fee_per_byte
        self._sending = asyncio.Lock()

    @property
    def name(self) -> str:
        """The account's PeerID."""
        return peer_id(self.address)

    # offline

    def build(
        self,
        family: type[Family],
        *,
        nonce: int | None = None,
        fee: int | None = None,
        expiry_height: int = 0,
        **fields: Any,
    ) -> Family:
        """A transaction of this account. Without `fee`, exactly what its bytes cost.

        Raises ValueError where nonce or fee parameters were neither given nor fetched before.
        """
        nonce = self.next_nonce if nonce is None else nonce
        if nonce is None:
            raise ValueError("the nonce is unknown: give it, or call `refresh` first")

        def made(fee: int) -> Family:
            return family(
                chain_id=self.chain.chain_id,
                sender=self.address,
                nonce=nonce,
                fee=fee,
                expiry_height=expiry_height,
                **fields,
            )

        if fee is not None:
            return made(fee)
        if self._fee_base is None or self._fee_per_byte is None:
            raise ValueError("the fee parameters are unknown: give a fee, or call `refresh` first")
        fee = 0
        for _ in range(_FEE_ROUNDS):
            size = len(encode(made(fee))) + SIGNATURE_BYTES
            fee = self._fee_base + self._fee_per_byte * size
        return made(fee)

    def sign(self, transaction: Transaction) -> SignedTransaction:
        """The wire bytes and their identifiers. Works offline."""
        return sign_transaction(transaction, self._key, self.chain.genesis_hash)

    # online

    async def refresh(self) -> None:
        """Fetch what is unknown: the next nonce, the fee parameters. Raises ClientError."""
        if self.next_nonce is None:
            self.next_nonce = (await self._node.account(self.name)).next_nonce
        if self._fee_base is None or self._fee_per_byte is None:
            parameters = await self._node.parameters()
            self._fee_base = parameters["fee_base"]
            self._fee_per_byte = parameters["fee_per_byte"]

    async def send(
        self,
        family: type[Transaction],
        *,
        wait: Wait = "accepted",
        timeout_ms: int = TIMEOUT_MS,
        fee: int | None = None,
        expiry_height: int = 0,
        **fields: Any,
    ) -> TransactionStatus:
        """Build, sign, submit. See the module.

        Raises CallFailed where the ledger rejects it (the nonce is then free again), ClientError
        where the node could not be asked; then the nonce is fetched anew before the next one.
        """
        async with self._sending:
            signed, status = await self._submit(family, fee, expiry_height, fields)
        if wait == "accepted" or status.is_committed:
            return status
        return await self._resubmit(signed, wait, timeout_ms)

    async def transfer(
        self, to: bytes, amount: int, *, wait: Wait = "accepted", timeout_ms: int = TIMEOUT_MS
    ) -> TransactionStatus:
        """Move `amount` µT to an address (33 bytes)."""
        return await self.send(Transfer, wait=wait, timeout_ms=timeout_ms, to=to, amount=amount)

    async def _submit(
        self, family: type[Transaction], fee: int | None, expiry_height: int, fields: dict[str, Any]
    ) -> tuple[SignedTransaction, TransactionStatus]:
        for attempt in range(RENUMBER_COUNT):
            await self.refresh()
            assert self.next_nonce is not None
            made = self.build(family, fee=fee, expiry_height=expiry_height, **fields)
            signed = self.sign(made)
            try:
                status = await self._resubmit(signed, "accepted", TIMEOUT_MS)
            except CallFailed as failed:
                if failed.reason not in _WRONG_NONCE or attempt == RENUMBER_COUNT - 1:
                    raise
                self.next_nonce = None
            except BaseException:
                # Whether the nonce was used is unknown: ask before the next one.
                self.next_nonce = None
                raise
            else:
                self.next_nonce += 1
                return signed, status
        raise AssertionError("the last attempt returns or raises")

    async def _resubmit(
        self, signed: SignedTransaction, wait: Wait, timeout_ms: int
    ) -> TransactionStatus:
        for _ in range(SUBMIT_ATTEMPTS_COUNT - 1):
            try:
                return await self._node.submit(signed.raw, wait=wait, timeout_ms=timeout_ms)
            except (ConnectionFailed, AnswerTimeout):
                continue
        return await self._node.submit(signed.raw, wait=wait, timeout_ms=timeout_ms)

    @property
    def _node(self) -> RpcClient:
        if self._client is None:
            raise ValueError("this account was made for offline use: it has no client")
        return self._client

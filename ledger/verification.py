"""Is this transaction, by itself, one that a block may hold?

Two layers, so that the costly one runs once in a transaction's life:

    check_stateless   chain, size, fee, fields: cheap, needs the parameters only; run wherever a
                      transaction is considered
    SignatureCache    the claims of a transaction: the sender's signature and what its family adds
                      (a counterparty's, a registrant's, the proof of work). What held is kept

The cache's key is the full hash, which covers the signature bytes, together with the terms under
which the claims held (the keys, the parameters of the work). So a good and a bad copy of one
transaction are different entries, and after a key rotation nothing is taken on trust. Failures are
not kept: a stranger could fill the cache with them for nothing, and p2p charges the peer who sends
them.
"""

from __future__ import annotations

from collections.abc import Iterable

from ledger.execution.claims import ActiveKey, Claim, SignatureClaim
from ledger.execution.families import FAMILIES
from ledger.execution.fees import minimum_fee
from ledger.params import ChainParams
from ledger.reasons import TransactionRefused
from ledger.transactions import SignedTransaction

# Twice the default mempool and some blocks in flight. An entry is about 230 bytes: 30 MB when full.
VERIFIED_CACHE_COUNT = 131_072


def check_stateless(signed: SignedTransaction, chain_id: str, params: ChainParams) -> None:
    """Raise TransactionRefused unless chain, size, minimum fee and fields are in order."""
    transaction = signed.transaction
    check_chain(transaction.chain_id, chain_id)
    check_size(len(signed.raw), params)
    check_minimum_fee(transaction.fee, len(signed.raw), params)
    FAMILIES[type(transaction)].check_fields(transaction)


def check_chain(named: str, chain_id: str) -> None:
    """Raise TransactionRefused("WRONG_CHAIN")."""
    if named != chain_id:
        raise TransactionRefused("WRONG_CHAIN", chain_id=chain_id, named=named)


def check_size(size_bytes: int, params: ChainParams) -> None:
    """Raise TransactionRefused("OVERSIZED")."""
    if size_bytes > params.tx_max_bytes:
        raise TransactionRefused(
            "OVERSIZED", size_bytes=size_bytes, limit_bytes=params.tx_max_bytes
        )


def check_minimum_fee(fee: int, size_bytes: int, params: ChainParams) -> None:
    """Raise TransactionRefused("FEE_TOO_LOW")."""
    required = minimum_fee(size_bytes, params)
    if fee < required:
        raise TransactionRefused("FEE_TOO_LOW", required=required, fee=fee)


def claims_of(
    signed: SignedTransaction, genesis_hash: bytes, params: ChainParams, active_key: ActiveKey
) -> tuple[Claim, ...]:
    """Everything about the transaction that is checked once, cheapest first."""
    transaction = signed.transaction
    sender = transaction.sender
    signature = SignatureClaim(
        active_key(sender), signed.transaction_id, signed.signature, "INVALID_SIGNATURE", sender
    )
    return (
        signature,
        *FAMILIES[type(transaction)].claims(transaction, genesis_hash, params, active_key),
    )


def terms_of(signed: SignedTransaction, params: ChainParams, active_key: ActiveKey) -> bytes:
    """The terms of all claims of the transaction, joined: what their result depends on."""
    transaction = signed.transaction
    return active_key(transaction.sender) + FAMILIES[type(transaction)].terms(
        transaction, params, active_key
    )


class SignatureCache:
    """Which transactions' claims were found to hold, and under which terms. See the module.

    `limit_count`: entries kept; the oldest makes room. Should be above what the mempool holds.
    """

    __slots__ = ("_genesis_hash", "_limit_count", "_verified")

    def __init__(self, genesis_hash: bytes, limit_count: int = VERIFIED_CACHE_COUNT) -> None:
        assert limit_count > 0
        self._genesis_hash = genesis_hash
        self._limit_count = limit_count
        self._verified: dict[bytes, bytes] = {}  # full hash → terms

    def __len__(self) -> int:
        return len(self._verified)

    def is_known(
        self, signed: SignedTransaction, params: ChainParams, active_key: ActiveKey
    ) -> bool:
        """Whether `check` would answer without computing anything."""
        known = self._verified.get(signed.full_hash)
        return known is not None and known == terms_of(signed, params, active_key)

    def check(self, signed: SignedTransaction, params: ChainParams, active_key: ActiveKey) -> int:
        """Check what is not known to hold; how many signature checks that took.

        Raises TransactionRefused for the first claim that does not hold.
        """
        terms = terms_of(signed, params, active_key)
        if self._verified.get(signed.full_hash) == terms:
            return 0
        claims = claims_of(signed, self._genesis_hash, params, active_key)
        assert terms == b"".join([claim.terms for claim in claims]), "a family forgot a term"
        count = 0
        for claim in claims:
            claim.check()
            count += claim.signature_count
        self._remember(signed.full_hash, terms)
        return count

    def forget(self, full_hashes: Iterable[bytes]) -> None:
        """Let go of transactions that are final or refused for good."""
        for full_hash in full_hashes:
            self._verified.pop(full_hash, None)

    def _remember(self, full_hash: bytes, terms: bytes) -> None:
        verified = self._verified
        verified.pop(full_hash, None)
        if len(verified) >= self._limit_count:
            del verified[next(iter(verified))]
        verified[full_hash] = terms

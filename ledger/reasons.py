"""Why a transaction is refused or fails: stable reasons, each with its facts.

`REFUSED` reasons keep a transaction out of the mempool and out of every block; `FAILED` reasons
are found in execution, where the transaction still pays its fee. The strings are a public
contract: they appear in receipts (and so in the receipts root), over RPC and in the
documentation.
"""

from __future__ import annotations

from ledger.errors import InvalidData

REFUSED: dict[str, str] = {
    "MALFORMED": "the bytes are no transaction",
    "TRAILING_BYTES": "bytes follow the end of the payload",
    "NOT_CANONICAL": "the payload is not in the one canonical spelling",
    "OVERSIZED": "larger than tx_max_bytes",
    "WRONG_CHAIN": "the transaction names another chain",
    "INVALID_SIGNATURE": "the sender's signature does not verify",
    "INVALID_COUNTERPARTY_SIGNATURE": "the receipt's other signature does not verify",
    "INVALID_REGISTRANT_SIGNATURE": "the sponsored registrant's signature does not verify",
    "INVALID_WORK": "the registration's proof of work does not reach the difficulty",
    "INVALID_ADDRESS": "an address is no public key on the curve",
    "INVALID_FIELDS": "fields contradict each other",
    "FEE_TOO_LOW": "the fee is below base plus bytes",
    "EXPIRED": "the expiry height has passed",
    "NONCE_TOO_LOW": "the nonce has been used",
    "NONCE_TOO_HIGH": "the nonce is too far ahead",
    "INSUFFICIENT_FEE_FUNDS": "the balance does not cover the fee",
    "MEMPOOL_FULL": "the mempool is full and the fee is too low to displace another",
    "SENDER_LIMIT": "the sender has too many transactions waiting",
    "REPLACEMENT_FEE_TOO_LOW": "a waiting transaction with this nonce pays almost as much",
}

FAILED: dict[str, str] = {
    "INSUFFICIENT_FUNDS": "the balance does not cover the amount",
    "ALREADY_REGISTERED": "the peer is registered",
    "DEPOSIT_TOO_LOW": "the deposit is below register_deposit",
    "NOT_REGISTERED": "a party is not a registered peer",
    "CHANNEL_UNKNOWN": "there is no such channel",
    "RECEIPT_NOT_NEWER": "sequence and sums must grow",
    "NOTHING_TO_RATE": "no paid, co-signed receipt with this number",
    "RATING_TOO_LATE": "the receipt is older than two epochs",
    "ALREADY_RATED": "this pair and service were rated in this epoch",
}

REASONS = REFUSED | FAILED

Facts = tuple[tuple[str, int | str], ...]


class TransactionRefused(InvalidData):
    """A transaction that must not enter the mempool or a block. Facts are name → value."""

    def __init__(self, reason: str, **facts: int | str) -> None:
        assert reason in REFUSED
        self.reason = reason
        self.facts: Facts = tuple(facts.items())
        words = ", ".join(f"{name} {value}" for name, value in self.facts)
        super().__init__(f"{reason}: {REFUSED[reason]}" + (f" ({words})" if words else ""))


class ExecutionFailed(InvalidData):
    """A family's rule was not met; the fee is paid and the receipt carries reason and facts."""

    def __init__(self, reason: str, **facts: int | str) -> None:
        assert reason in FAILED
        self.reason = reason
        self.facts: Facts = tuple(facts.items())
        super().__init__(f"{reason}: {FAILED[reason]}")

"""Transactions: shapes, bytes, identifiers.

On the wire a transaction is `payload ‖ signature`: the canonical encoding of one struct below,
followed by 64 bytes. It travels, is journalled and is stored as these original bytes.

    signed digest = transaction id = SHA-256(tag ‖ genesis hash ‖ payload)
    full hash                      = SHA-256(payload ‖ signature)

The id leaves the signature out, so a second valid signature over one payload cannot give a second
id; it serves look-up and replay protection. The full hash names the exact bytes: the verification
cache and the transaction root use it, so that a good and a bad copy of one transaction are never
confused. The genesis hash is bound into the signed bytes and the chain id is a field, so that a
transaction for another chain has a clear reason instead of a bad signature.

Heights, nonces and amounts stay below 2^53. Amounts are in µT (1 T = 10^6 µT).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec

from ledger import domains
from ledger.codec import U8, U32, U53, Address, ChainId, Codec, Hash, Positive, encode
from ledger.crypto import HASH_BYTES, SIGNATURE_BYTES, PrivateKey, sha256
from ledger.errors import MalformedData, Oversized

# The largest tx_max_bytes that parameters may set: what any decoder ever accepts.
TRANSACTION_HARD_LIMIT_BYTES = 262_144

SERVICE_COUNT = 32

Service = Annotated[int, msgspec.Meta(ge=0, lt=SERVICE_COUNT)]
Score = Annotated[int, msgspec.Meta(ge=-10, le=10)]
OptionalSignature = Annotated[bytes, msgspec.Meta(max_length=64)]
OptionalHash = Annotated[bytes, msgspec.Meta(max_length=32)]


@dataclass(frozen=True, slots=True)
class ChainIdentity:
    """Which chain: its id (text) and the hash of its network definition (32 bytes)."""

    chain_id: str
    genesis_hash: bytes

    def __post_init__(self) -> None:
        assert len(self.genesis_hash) == HASH_BYTES


class Header(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """What every transaction begins with.

    `sender` pays `fee` (µT) and is bound to use `nonce` next; `expiry_height` is the last block
    height that may include the transaction, 0 for none.
    """

    chain_id: ChainId
    sender: Address
    nonce: U53
    fee: U53
    expiry_height: U53


class Register(Header, tag=1, frozen=True):
    """Make `registrant` a known peer. The sender may be another account, a sponsor, who pays.

    `registrant_signature` signs `registration_digest` and is empty exactly when the registrant is
    the sender, whose own signature covers the payload. `work_nonce` is the proof of work.
    """

    registrant: Address
    registrant_signature: OptionalSignature
    service_mask: U32
    endpoint_hash: Hash
    deposit: U53
    work_nonce: U53


class Transfer(Header, tag=3, frozen=True):
    """Move `amount` µT to `to`."""

    to: Address
    amount: Positive


class Settle(Header, tag=10, frozen=True):
    """Put a cumulative co-signed service receipt on the ledger.

    The sender is the payer or the payee and does not sign twice: `counterparty_signature` is the
    other party's, over `receipt_digest`. A payer may settle without the payee's signature (empty):
    that pays, but earns no positive points. `channel` is empty for a settlement from the balance.
    """

    payer: Address
    payee: Address
    service: Service
    channel: OptionalHash
    seq: Positive
    cum_units: U53
    cum_paid: U53
    counterparty_signature: OptionalSignature


class Rate(Header, tag=11, frozen=True):
    """Judge a paid, co-signed receipt: −10…+10, never 0. The sender is the receipt's payer."""

    subject: Address
    service: Service
    receipt_seq: Positive
    score: Score
    code: U8
    evidence_hash: OptionalHash


Transaction = Register | Transfer | Settle | Rate
"""Every family. A new one is a struct here and one line in `ledger.execution.families`."""

_payload_codec = Codec[Transaction]("transaction", Transaction, TRANSACTION_HARD_LIMIT_BYTES)


class SignedTransaction:
    """A decoded transaction together with its original bytes and identifiers.

    `raw`: payload ‖ signature; `transaction_id` (32 bytes, also the signed digest); `full_hash`.
    Decoding checks shape and spelling only: signatures are checked by ledger.verification.
    """

    __slots__ = ("full_hash", "raw", "transaction", "transaction_id")

    def __init__(
        self, raw: bytes, transaction: Transaction, transaction_id: bytes, full_hash: bytes
    ) -> None:
        self.raw = raw
        self.transaction = transaction
        self.transaction_id = transaction_id
        self.full_hash = full_hash

    @property
    def signature(self) -> bytes:
        """The sender's 64-byte signature over the transaction id."""
        return self.raw[-SIGNATURE_BYTES:]

    def __repr__(self) -> str:
        kind = type(self.transaction).__name__
        return f"SignedTransaction({kind}, id={self.transaction_id.hex()})"


def decode_transaction(
    raw: bytes, genesis_hash: bytes, limit_bytes: int = TRANSACTION_HARD_LIMIT_BYTES
) -> SignedTransaction:
    """Decode wire bytes. Raises Oversized, MalformedData, TrailingBytes or NotCanonical."""
    if len(raw) > limit_bytes:
        raise Oversized("transaction", len(raw), limit_bytes)
    if len(raw) <= SIGNATURE_BYTES:
        raise MalformedData("transaction", f"{len(raw)} bytes are too few")
    payload = raw[:-SIGNATURE_BYTES]
    transaction = _payload_codec.decode(payload)
    return SignedTransaction(
        raw,
        transaction,
        sha256(domains.TRANSACTION + genesis_hash + payload),
        sha256(raw),
    )


def sign_transaction(
    transaction: Transaction, key: PrivateKey, genesis_hash: bytes
) -> SignedTransaction:
    """Sign with the sender's active key; works offline."""
    payload = encode(transaction)
    digest = sha256(domains.TRANSACTION + genesis_hash + payload)
    raw = payload + key.sign(digest)
    return SignedTransaction(raw, transaction, digest, sha256(raw))


class ReceiptBody(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """What both parties sign of a cumulative service receipt (see ledger.receipts)."""

    chain_id: ChainId
    payer: Address
    payee: Address
    service: Service
    channel: OptionalHash
    seq: Positive
    cum_units: U53
    cum_paid: U53


def receipt_digest(body: ReceiptBody, genesis_hash: bytes) -> bytes:
    """The 32 bytes that payer and payee sign."""
    return domains.signing_digest(domains.RECEIPT, genesis_hash, encode(body))


def receipt_body(settle: Settle) -> ReceiptBody:
    """The receipt that a Settle carries."""
    return ReceiptBody(
        settle.chain_id,
        settle.payer,
        settle.payee,
        settle.service,
        settle.channel,
        settle.seq,
        settle.cum_units,
        settle.cum_paid,
    )


class RegistrationBody(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """What a sponsored registrant signs: its own entry and who may sponsor it."""

    chain_id: ChainId
    registrant: Address
    sponsor: Address
    service_mask: U32
    endpoint_hash: Hash


def registration_digest(register: Register, genesis_hash: bytes) -> bytes:
    """The 32 bytes that a sponsored registrant signs."""
    body = RegistrationBody(
        register.chain_id,
        register.registrant,
        register.sender,
        register.service_mask,
        register.endpoint_hash,
    )
    return domains.signing_digest(domains.REGISTRATION, genesis_hash, encode(body))

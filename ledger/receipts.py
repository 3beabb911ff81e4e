"""Off-chain receipts: how two peers keep account of service without the chain.

The payer proposes a cumulative receipt ("up to number `seq` I owe you `cum_paid` µT in all for
`cum_units`") and signs it; the payee countersigns. Each newer one replaces all before it, so any
number of requests ends as one Settle transaction, sent by either of them. Amounts never shrink, and
nobody signs two different receipts under one number: with both at hand anybody can prove the fraud,
which costs the signer a part of its stake. Therefore receipts are signed through
ledger.receipt_store, which makes a number durable before its signature exists; this module has the
pure parts.

Wire form: the canonical encoding (ledger.codec) of ServiceReceipt,

    [[chain id, payer, payee, service, channel, seq, cum_units, cum_paid],
     payer's signature (64 or 0 bytes), payee's signature (64 or 0 bytes)]

where each signs SHA-256("tally/receipt/1", zero-padded to 16 bytes ‖ genesis hash ‖ first element).
Text form, for copy and paste: "tally-receipt-1." and the unpadded base64url (RFC 4648 section 5) of
the wire form. Both have exactly one spelling.
"""

from __future__ import annotations

import base64
import binascii

import msgspec

from ledger.codec import Codec, encode
from ledger.crypto import SIGNATURE_BYTES, PrivateKey, verify
from ledger.errors import InvalidData, MalformedData, NotCanonical, Oversized
from ledger.execution.settle import check_fields
from ledger.transactions import (
    ChainIdentity,
    OptionalSignature,
    ReceiptBody,
    Settle,
    receipt_digest,
)

TEXT_PREFIX = "tally-receipt-1."

# Two signatures, two addresses, a channel, five integers and a chain id of 64 characters.
RECEIPT_LIMIT_BYTES = 512
_TEXT_LIMIT_CHARACTERS = len(TEXT_PREFIX) + RECEIPT_LIMIT_BYTES * 4 // 3 + 1


class InvalidReceipt(InvalidData):
    """A receipt that obliges nobody. `rule` is a stable name, `detail` has the facts.

    Rules: chain, parties, payer-signature, payee-signature, not-a-party.
    """

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule = rule
        self.detail = detail


class ServiceReceipt(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """A receipt with the signatures it has so far; an empty one is missing."""

    body: ReceiptBody
    payer_signature: OptionalSignature = b""
    payee_signature: OptionalSignature = b""

    @property
    def is_complete(self) -> bool:
        """Whether both have signed (not whether the signatures hold: see `verify_receipt`)."""
        return bool(self.payer_signature and self.payee_signature)

    def encode(self) -> bytes:
        """The wire form."""
        return encode(self)

    def to_text(self) -> str:
        """The text form."""
        text = base64.urlsafe_b64encode(encode(self)).rstrip(b"=")
        return TEXT_PREFIX + text.decode("ascii")


_codec = Codec[ServiceReceipt]("service receipt", ServiceReceipt, RECEIPT_LIMIT_BYTES)
decode_service_receipt = _codec.decode
"""The receipt in wire form; signatures are not checked. Raises MalformedData."""


def parse_service_receipt(text: str) -> ServiceReceipt:
    """The receipt in text form; signatures are not checked. Raises MalformedData."""
    text = text.strip()
    if len(text) > _TEXT_LIMIT_CHARACTERS:
        raise Oversized("service receipt", len(text), _TEXT_LIMIT_CHARACTERS)
    if not text.startswith(TEXT_PREFIX):
        raise MalformedData("service receipt", f"the text does not begin with {TEXT_PREFIX}")
    body = text.removeprefix(TEXT_PREFIX)
    try:
        raw = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedData("service receipt", f"not base64url: {error}") from error
    receipt = decode_service_receipt(raw)
    if receipt.to_text() != text:
        raise NotCanonical("service receipt", "another spelling of the same bytes")
    return receipt


def sign_as_payer(body: ReceiptBody, key: PrivateKey, genesis_hash: bytes) -> ServiceReceipt:
    """The proposal. Use ReceiptStore.propose unless the number is known to be fresh."""
    return ServiceReceipt(body, payer_signature=key.sign(receipt_digest(body, genesis_hash)))


def sign_as_payee(receipt: ServiceReceipt, key: PrivateKey, genesis_hash: bytes) -> ServiceReceipt:
    """The receipt countersigned. Use ReceiptStore.countersign, which also checks it."""
    return ServiceReceipt(
        receipt.body,
        receipt.payer_signature,
        key.sign(receipt_digest(receipt.body, genesis_hash)),
    )


def verify_receipt(
    receipt: ServiceReceipt,
    chain: ChainIdentity,
    *,
    payer_key: bytes | None = None,
    payee_key: bytes | None = None,
) -> None:
    """Raise InvalidReceipt unless it is of this chain and every signature on it holds.

    At least one signature must be there. The keys are those active on the chain, by default the
    parties' addresses.
    """
    body = receipt.body
    if body.chain_id != chain.chain_id:
        raise InvalidReceipt("chain", f"{body.chain_id!r} instead of {chain.chain_id!r}")
    if body.payer == body.payee:
        raise InvalidReceipt("parties", "payer and payee are the same")
    if not (receipt.payer_signature or receipt.payee_signature):
        raise InvalidReceipt("payer-signature", "nobody has signed")
    digest = receipt_digest(body, chain.genesis_hash)
    for rule, signature, key in (
        ("payer-signature", receipt.payer_signature, payer_key or body.payer),
        ("payee-signature", receipt.payee_signature, payee_key or body.payee),
    ):
        if signature and not verify(key, digest, signature):
            raise InvalidReceipt(rule, f"does not verify under {key.hex()}")


def to_settle(
    receipt: ServiceReceipt, *, sender: bytes, nonce: int, fee: int, expiry_height: int = 0
) -> Settle:
    """The transaction that puts the receipt on the ledger, yet to be signed by the sender.

    The sender does not sign the receipt a second time, so only the other party's signature travels.
    A payee needs the payer's; a payer may go without the payee's, which pays but earns the payee
    no points. Raises InvalidReceipt.
    """
    body = receipt.body
    if sender == body.payee:
        counterparty_signature = receipt.payer_signature
        if len(counterparty_signature) != SIGNATURE_BYTES:
            raise InvalidReceipt("payer-signature", "the payee cannot settle without it")
    elif sender == body.payer:
        counterparty_signature = receipt.payee_signature
    else:
        raise InvalidReceipt("not-a-party", "only payer or payee can settle a receipt")
    settle = Settle(
        body.chain_id,
        sender,
        nonce,
        fee,
        expiry_height,
        body.payer,
        body.payee,
        body.service,
        body.channel,
        body.seq,
        body.cum_units,
        body.cum_paid,
        counterparty_signature,
    )
    check_fields(settle)
    return settle

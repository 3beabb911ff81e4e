"""Claims: what a transaction asserts that only costly computation can check.

A claim holds or fails once and for ever *under its terms*: the key a signature is checked with, the
parameters of a proof of work. Whoever remembers that a claim held remembers its terms too
(ledger.verification.SignatureCache), and a changed key or parameter makes it unchecked again on
every node alike.

The work of a registration is scrypt (RFC 7914), which needs memory, so that special hardware gains
little over a phone:

    scrypt(password = registrant ‖ work nonce (u64, big-endian), salt = tag ‖ genesis hash)

must begin with `register_work_bits` zero bits. It is bound to registrant and network, and a
registrant enters once, so work cannot be used twice. A difficulty of 0 asks for no hash at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Protocol

from ledger import domains
from ledger.crypto import HASH_BYTES, is_public_key, verify
from ledger.identity import peer_id
from ledger.params import ChainParams
from ledger.reasons import TransactionRefused

ActiveKey = Callable[[bytes], bytes]
"""address (33) → the key that signs for it now (33): the address itself until it is rotated."""

# scrypt needs 128 · N · r bytes; the bounds of the parameters allow 1 MiB, OpenSSL wants slack.
_SCRYPT_MAX_MEMORY_BYTES = 4 << 20


class Claim(Protocol):
    """Something to check once."""

    @property
    def terms(self) -> bytes:
        """What the result depends on besides the transaction's bytes and the network."""

    @property
    def signature_count(self) -> int:
        """How many signature checks `check` makes."""

    def check(self) -> None:
        """Raise TransactionRefused unless it holds."""


class SignatureClaim:
    """`signature` over `digest` by `public_key`; `reason` names the refusal, `signer` the fact."""

    __slots__ = ("digest", "reason", "signature", "signer", "terms")

    signature_count = 1

    def __init__(
        self, public_key: bytes, digest: bytes, signature: bytes, reason: str, signer: bytes
    ) -> None:
        self.terms = public_key
        self.digest = digest
        self.signature = signature
        self.reason = reason
        self.signer = signer

    def check(self) -> None:
        """Raise TransactionRefused unless the signature verifies."""
        if not verify(self.terms, self.digest, self.signature):
            raise TransactionRefused(self.reason, signer=_name(self.signer))


class AddressClaim:
    """`address` is a public key, so that what is sent there is not lost to a slip of the pen."""

    __slots__ = ("address", "field")

    terms = b""
    signature_count = 0

    def __init__(self, field: str, address: bytes) -> None:
        self.field = field
        self.address = address

    def check(self) -> None:
        """Raise TransactionRefused unless the 33 bytes are a point on the curve."""
        if not is_public_key(self.address):
            raise TransactionRefused("INVALID_ADDRESS", field=self.field)


class WorkClaim:
    """The registrant's proof of work reaches the difficulty."""

    __slots__ = ("genesis_hash", "params", "registrant", "work_nonce")

    signature_count = 0

    def __init__(
        self, registrant: bytes, work_nonce: int, genesis_hash: bytes, params: ChainParams
    ) -> None:
        self.registrant = registrant
        self.work_nonce = work_nonce
        self.genesis_hash = genesis_hash
        self.params = params

    @property
    def terms(self) -> bytes:
        """The parameters of the work."""
        return work_terms(self.params)

    def check(self) -> None:
        """Raise TransactionRefused unless enough leading bits are zero."""
        bits = self.params.register_work_bits
        if bits == 0:
            return
        found = work_bits(self.registrant, self.work_nonce, self.genesis_hash, self.params)
        if found < bits:
            raise TransactionRefused("INVALID_WORK", required_bits=bits, found_bits=found)


def work_terms(params: ChainParams) -> bytes:
    """The four parameters that decide whether a nonce is good enough."""
    return b"scrypt:%d:%d:%d:%d" % (
        params.register_work_n,
        params.register_work_r,
        params.register_work_p,
        params.register_work_bits,
    )


def work_bits(registrant: bytes, work_nonce: int, genesis_hash: bytes, params: ChainParams) -> int:
    """How many leading zero bits the work has, 0…256."""
    digest = hashlib.scrypt(
        registrant + work_nonce.to_bytes(8, "big"),
        salt=domains.REGISTRATION_WORK + genesis_hash,
        n=params.register_work_n,
        r=params.register_work_r,
        p=params.register_work_p,
        maxmem=_SCRYPT_MAX_MEMORY_BYTES,
        dklen=HASH_BYTES,
    )
    return 8 * HASH_BYTES - int.from_bytes(digest, "big").bit_length()


def find_work_nonce(
    registrant: bytes, genesis_hash: bytes, params: ChainParams, start: int = 0
) -> int:
    """The first nonce from `start` on that reaches the difficulty.

    Takes 2^register_work_bits hashes of about half a millisecond on average.
    """
    nonce = start
    if params.register_work_bits:
        while work_bits(registrant, nonce, genesis_hash, params) < params.register_work_bits:
            nonce += 1
    return nonce


def _name(address: bytes) -> str:
    """PeerID of an address, or hex where the bytes are no key."""
    return peer_id(address) if is_public_key(address) else address.hex()

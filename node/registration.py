"""The fields of a Register transaction, with the registrant's work and signature."""

from __future__ import annotations

from typing import Any

from ledger.crypto import PrivateKey
from ledger.execution.claims import find_work_nonce
from ledger.params import ChainParams
from ledger.transactions import ChainIdentity, Register, registration_digest


def registration(
    registrant: PrivateKey,
    sponsor: bytes,
    chain: ChainIdentity,
    params: ChainParams,
    *,
    service_mask: int,
    endpoint_hash: bytes = bytes(32),
    deposit: int | None = None,
) -> dict[str, Any]:
    """Keyword arguments for Register beyond its header.

    `sponsor` is the sender's address, which may be the registrant itself. `deposit` in µT is by
    default what the parameters require. Finding the work takes 2^register_work_bits hashes.
    """
    own = registrant.public_key == sponsor
    register = Register(
        chain_id=chain.chain_id,
        sender=sponsor,
        nonce=0,
        fee=0,
        expiry_height=0,
        registrant=registrant.public_key,
        registrant_signature=b"",
        service_mask=service_mask,
        endpoint_hash=endpoint_hash,
        deposit=params.register_deposit if deposit is None else deposit,
        work_nonce=find_work_nonce(registrant.public_key, chain.genesis_hash, params),
    )
    digest = registration_digest(register, chain.genesis_hash)
    return {
        "registrant": register.registrant,
        "registrant_signature": b"" if own else registrant.sign(digest),
        "service_mask": register.service_mask,
        "endpoint_hash": register.endpoint_hash,
        "deposit": register.deposit,
        "work_nonce": register.work_nonce,
    }

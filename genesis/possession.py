"""Proofs of possession: a validator shows that it holds the keys that its entry names.

Without them an entry could name somebody else's key, and its owner would be blamed for votes that
the entry's author answers for, or a set would contain a voter that nobody can speak for. Each of
the consensus and the node key signs

    SHA-256("tally/possess/1" ‖ 32 zero bytes ‖
            encode([chain id, role, operator, consensus key, node key]))

The place where every other signature has the genesis hash holds zeros: the definition that the
proofs stand in does not exist yet when they are made. The chain id and the three keys bind a proof
to one seat of one network; the role keeps the two proofs apart.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from ledger import domains
from ledger.codec import Address, ChainId, encode
from ledger.crypto import HASH_BYTES, PrivateKey, verify

Role = Literal["consensus", "node"]


class PossessionBody(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """What a proof signs. Keys are 33-byte compressed secp256k1 keys."""

    chain_id: ChainId
    role: Role
    operator: Address
    consensus_key: Address
    node_key: Address


def possession_digest(body: PossessionBody) -> bytes:
    """The 32 bytes that the key of `body.role` signs."""
    return domains.signing_digest(domains.POSSESSION, bytes(HASH_BYTES), encode(body))


def prove(body: PossessionBody, key: PrivateKey) -> bytes:
    """The proof, 64 bytes."""
    return key.sign(possession_digest(body))


def verify_possession(body: PossessionBody, signature: bytes) -> bool:
    """Whether the key that `body.role` names made the proof."""
    key = body.consensus_key if body.role == "consensus" else body.node_key
    return verify(key, possession_digest(body), signature)

"""Reading the votes out of consensus payloads, independently of the engine that made them."""

from __future__ import annotations

from consensus.pbft.messages import (
    AnyMessage,
    CommitVote,
    Prepare,
    PrePrepare,
    ViewChange,
    decode_message,
    encode_message,
)
from ledger.certificate import Vote
from node.simulation.ledger import Genesis

ENGINE_MESSAGE = b"\x00"
"""First byte of a payload that carries an engine message (consensus.replica)."""


def decode_payload(payload: bytes) -> AnyMessage | None:
    """The engine message in a payload, None for other payloads."""
    if payload[:1] != ENGINE_MESSAGE:
        return None
    message: AnyMessage = decode_message(payload[1:])
    return message


def encode_payload(message: AnyMessage) -> bytes:
    """The payload that carries a message."""
    return ENGINE_MESSAGE + encode_message(message)


def votes_in(payload: bytes, genesis: Genesis) -> list[tuple[bytes, Vote, bytes]]:
    """(consensus key, vote, signature) of the vote that a payload casts.

    Claims inside a justification are not cast by it: they were on the wire before.
    """
    message = decode_payload(payload)
    if not isinstance(message, PrePrepare | Prepare | CommitVote | ViewChange):
        return []
    validators = genesis.validators_at(message.height)
    if message.validator >= len(validators):
        return []
    key = validators[message.validator].consensus_key
    return [(key, message.vote(genesis.chain.chain_id), message.signature)]

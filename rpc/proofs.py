"""Answers that prove themselves: how proofs travel in JSON, for the methods and the light client.

    anchor    {header, certificate}                 encoded, hexadecimal
    object    {value, proof}                        one state object under the anchor's state root;
                                                    value null is proven absence
    leaf      {leaf, index, size, path}             one leaf under a Merkle root of the header

The anchor's certificate is that of the header itself, by the validator set of its height.
Everything is given in the ledger's canonical encoding, so that a verifier hashes what it was given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ledger.codec import Codec, encode
from ledger.state_proof import (
    BUCKET_MAX,
    ENTRY_BYTES,
    HASH_BYTES,
    LEVELS_MAX,
    SIBLINGS,
    StateProof,
)
from rpc.errors import Unavailable
from rpc.ports import NodeApi, Tip
from rpc.values import hexed

STATE_PROOF_LIMIT_BYTES = LEVELS_MAX * SIBLINGS * (HASH_BYTES + 2) + BUCKET_MAX * ENTRY_BYTES + 16
"""Every sibling, one whole bucket, and the encoding's framing."""

state_proof_codec: Codec[StateProof] = Codec("state proof", StateProof, STATE_PROOF_LIMIT_BYTES)


def anchor_form(node: NodeApi, height: int) -> dict[str, Any]:
    """The header of a height with its certificate. Raises Unavailable (NOT_PROVABLE).

    The network definition itself, height 0, has no certificate: there is nothing to anchor yet.
    """
    header = node.header(height)
    certificate = node.certificate(height)
    if header is None or certificate is None:
        raise Unavailable(
            "no certified header stands for this height yet",
            reason="NOT_PROVABLE",
            facts={"height": height},
        )
    return {"header": hexed(header), "certificate": hexed(certificate)}


def object_forms(node: NodeApi, keys: Sequence[bytes]) -> list[dict[str, Any]]:
    """The state objects of the tip at these keys, each with its proof."""
    view = node.state()
    forms = []
    for key, proof in zip(keys, node.prove(keys), strict=True):
        value = view.get(key)
        forms.append(
            {
                "value": None if value is None else hexed(value),
                "proof": hexed(encode(proof)),
            }
        )
    return forms


def leaf_form(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> dict[str, Any]:
    """A leaf of a Merkle list with its audit path."""
    return {
        "leaf": hexed(leaf),
        "index": index,
        "size": size,
        "path": [hexed(each) for each in path],
    }


def anchored_tip(node: NodeApi) -> tuple[Tip, dict[str, Any]]:
    """The tip and its anchor, for proofs about the present state."""
    tip = node.tip()
    return tip, anchor_form(node, tip.height)

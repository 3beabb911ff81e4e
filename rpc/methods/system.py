"""system_*: the node and the network it belongs to."""

from __future__ import annotations

from rpc.context import Call
from rpc.dispatcher import Raw
from rpc.registry import method
from rpc.values import hexed


@method("system_health")
def system_health(call: Call) -> object:
    """Whether the node can be asked: {status: "ok" | "behind" | "not ready", …}."""
    tip = call.node.tip()
    sync = call.node.sync_status()
    if sync.not_ready is not None:
        status = "not ready"
    else:
        status = "ok" if sync.target_height is None else "behind"
    return {
        "status": status,
        "reason": sync.not_ready,
        "height": tip.height,
        "targetHeight": sync.target_height,
        "tipAgeMs": max(0, call.node.now_ms() - tip.time_ms),
    }


@method("system_status")
def system_status(call: Call) -> object:
    """Everything about the node at one glance."""
    node = call.node
    tip = node.tip()
    sync = node.sync_status()
    return {
        "chainId": node.chain.chain_id,
        "genesisHash": hexed(node.chain.genesis_hash),
        "version": node.version,
        "height": tip.height,
        "blockHash": hexed(tip.block_hash),
        "blockTimeMs": tip.time_ms,
        "earliestHeight": node.earliest_height(),
        "targetHeight": sync.target_height,
        "mode": node.consensus().mode,
        "peers": len(node.peers()),
        "mempoolCount": node.mempool().count,
        "timeMs": node.now_ms(),
    }


@method("system_version")
def system_version(call: Call) -> object:
    """The program's version."""
    return {"name": "tallystick", "version": call.node.version}


@method("system_genesis", cost=5)
def system_genesis(call: Call) -> object:
    """The network definition and its hash. Whoever trusts the hash can check the definition."""
    return {
        "genesisHash": hexed(call.node.chain.genesis_hash),
        "document": Raw(call.node.genesis_document()),
    }


METHODS = (system_health, system_status, system_version, system_genesis)

"""Making the validators' homes of a devnet, and their settings at every start."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

from genesis.definition import genesis_hash
from genesis.devnet import devnet_document
from genesis.document import Document, dump
from genesis.wellknown import VALIDATORS_MAX_COUNT, validator_keys, validator_name
from ledger.identity import peer_id
from node.config_file import render
from node.devnet.state import DevnetState, ValidatorFacts
from node.home import FOLDER_MODE, Home, write_file, write_secret
from node.keys import CONSENSUS, NODE, OPERATOR
from node.keystore import DEVNET_SCRYPT_N, seal

PASSPHRASE = "devnet"  # noqa: S105 - the keys are published, so nothing is protected by it

BASE_PORT = 8700
"""RPC of validator 1, which is also where commands ask by default."""

P2P_PORT_OFFSET = 1_000

_LOOPBACK = "127.0.0.1"

# Larger than a node's own defaults: load tests are what a devnet is for.
_MEMPOOL = {
    "mempool.max_txs": 200_000,
    "mempool.max_bytes": 128 << 20,
    "mempool.max_per_sender": 4_096,
}


def create(root: Path, count: int, base_port: int, now_ms: int) -> DevnetState:
    """Make the homes and the network, dated now. Raises ValueError for a bad count."""
    if not 1 <= count <= VALIDATORS_MAX_COUNT:
        raise ValueError(f"a devnet has 1 to {VALIDATORS_MAX_COUNT} validators, not {count}")
    return create_of(
        devnet_document(validators=count, genesis_time_ms=now_ms), root, count, base_port
    )


def create_of(document: Document, root: Path, count: int, base_port: int) -> DevnetState:
    """Make the homes of a definition whose validators have the published keys, in their order."""
    root.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    validators = []
    for index in range(count):
        keys = validator_keys(index)
        home = Home(root / validator_name(index))
        home.create()
        for name, key in (
            (OPERATOR, keys.operator),
            (CONSENSUS, keys.consensus),
            (NODE, keys.node),
        ):
            store = seal(key, PASSPHRASE, n=DEVNET_SCRYPT_N, description=f"published devnet {name}")
            write_secret(home.key_file(name), store.dump(), replace=True)
        write_secret(home.passphrase_file, PASSPHRASE.encode(), replace=True)
        write_file(home.genesis_file, dump(document).encode(), replace=True)
        validators.append(
            ValidatorFacts(
                index=index,
                name=validator_name(index),
                home=str(home.root),
                rpc_port=base_port + index,
                p2p_port=base_port + P2P_PORT_OFFSET + index,
                node_id=peer_id(keys.node.public_key),
                operator=peer_id(keys.operator.public_key),
            )
        )
    hashed = "0x" + genesis_hash(document).hex()
    return DevnetState(root, document.chain_id, hashed, tuple(validators))


def with_free_ports(state: DevnetState) -> DevnetState:
    """The state with another port wherever somebody else has taken one of a stopped validator."""
    held: list[socket.socket] = []
    try:
        validators = tuple(
            each
            if each.pid is not None
            else replace(
                each,
                rpc_port=_free_port(each.rpc_port, held),
                p2p_port=_free_port(each.p2p_port, held),
            )
            for each in state.validators
        )
    finally:
        for each in held:
            each.close()
    return replace(state, validators=validators)


def write_settings(state: DevnetState) -> None:
    """config.toml of every validator that does not run: ports, and all others as its peers."""
    for each in state.validators:
        if each.pid is not None:
            continue
        others = tuple(
            f"{other.node_id}@{_LOOPBACK}:{other.p2p_port}"
            for other in state.validators
            if other.index != each.index
        )
        settings = {
            "node.name": each.name,
            "p2p.host": _LOOPBACK,
            "p2p.port": each.p2p_port,
            "p2p.persistent_peers": others,
            "rpc.port": each.rpc_port,
            **_MEMPOOL,
            "log.format": "text",
        }
        write_file(each.place.config_file, render(settings).encode(), replace=True)


def _free_port(wanted: int, held: list[socket.socket]) -> int:
    """`wanted` if it is free, else any free one; held open so that no two get the same."""
    for port in (wanted, 0):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        # As the nodes' servers do, so that a port in TIME_WAIT counts as free here too.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((_LOOPBACK, port))
            listener.listen(1)
        except (OSError, OverflowError):
            listener.close()
            continue
        held.append(listener)
        chosen: int = listener.getsockname()[1]
        return chosen
    raise OSError(f"no free port on {_LOOPBACK}")

"""The keys a running node needs: its node key always, its consensus key when it votes.

The operator key stays out of the process: fees and blame follow its address, which the network
definition names, and a machine that does not hold it cannot lose it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from genesis.definition import NetworkDefinition
from ledger.crypto import PrivateKey
from ledger.identity import peer_id
from node.config import Config
from node.home import Home
from node.keystore import KeystoreError, find_passphrase, read_keystore

OPERATOR = "operator"
CONSENSUS = "consensus"
NODE = "node"
NODE_KEY_NAMES = (OPERATOR, CONSENSUS, NODE)


class MissingKey(KeystoreError):
    """The home has no key store of a name that a node needs."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} does not exist; `tally init` makes it, `tally keys import` too")
        self.path = path


class ForeignKey(KeystoreError):
    """The home's keys are not those of one validator of the network."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


@dataclass(frozen=True, slots=True)
class NodeKeys:
    """`consensus` is None for an observer."""

    node: PrivateKey
    consensus: PrivateKey | None


def load_node_keys(
    home: Home,
    config: Config,
    network: NetworkDefinition,
    environment: Mapping[str, str],
    prompt: Callable[[str], str] | None,
    *,
    passphrase_file: Path | None = None,
) -> NodeKeys:
    """Open the node's keys. Raises KeystoreError, InsecureFile, OSError.

    A node votes when `consensus.vote` is on and its consensus key is that of a validator of the
    network definition or may become one: whether it is one now, the ledger says.
    """
    passphrase: list[str] = []

    def ask() -> str:
        if not passphrase:
            file = passphrase_file or passphrase_path(home, config)
            question = f"Passphrase of the keys in {home.keys}"
            passphrase.append(find_passphrase(file, environment, prompt, question=question))
        return passphrase[0]

    node = _open(home.key_file(NODE), ask, network)
    consensus: PrivateKey | None = None
    if config.consensus.vote and home.key_file(CONSENSUS).exists():
        consensus = _open(home.key_file(CONSENSUS), ask, network)
        _check_belong_together(node, consensus, network)
    return NodeKeys(node, consensus)


def passphrase_path(home: Home, config: Config) -> Path | None:
    """The passphrase file of the settings, else the home's own if it is there."""
    if config.keys.passphrase_file:
        return home.root / Path(config.keys.passphrase_file).expanduser()
    return home.passphrase_file if home.passphrase_file.exists() else None


def _open(path: Path, ask: Callable[[], str], network: NetworkDefinition) -> PrivateKey:
    if not path.exists():
        raise MissingKey(path)
    store = read_keystore(path)
    if not network.is_devnet:
        store.require_cost(str(path))
    return store.open_key(ask(), str(path))


def _check_belong_together(
    node: PrivateKey, consensus: PrivateKey, network: NetworkDefinition
) -> None:
    """A consensus key of one validator under the node key of another is a copied folder."""
    by_consensus = network.validators.index_of_consensus_key.get(consensus.public_key)
    by_node = network.validators.index_of_node_key.get(node.public_key)
    if by_consensus != by_node and None not in (by_consensus, by_node):
        raise ForeignKey(
            f"the consensus key is that of validator {by_consensus} and the node key "
            f"{peer_id(node.public_key)} that of validator {by_node}; one home holds one validator"
        )

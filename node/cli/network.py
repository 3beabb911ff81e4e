"""Which network a command speaks of, and as whom: from a node, or offline from its definition."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genesis.definition import NetworkDefinition, load_network, parse_network
from ledger.params import ChainParams
from ledger.transactions import ChainIdentity
from node.cli.common import ask
from node.cli.keyring import Keyring
from node.cli.output import CliError, usage
from node.home import resolve_home

if TYPE_CHECKING:
    from rpc.client import RpcClient
    from rpc.light import TrustRoot
    from rpc.session import Account


class Network:
    """One network as a command sees it. With `genesis` (a file) nothing is asked of any node."""

    def __init__(
        self,
        node: str | None,
        home: str | None,
        *,
        genesis: Path | None = None,
        passphrase_file: str | None = None,
    ) -> None:
        self.node = node
        self.home = home
        self.genesis = genesis
        self.ring = Keyring(home, passphrase_file, is_devnet=lambda: self.is_devnet)

    @cached_property
    def definition(self) -> NetworkDefinition:
        """The whole definition, from the file or, unproven, from the node."""
        if self.genesis is not None:
            return load_network(self.genesis)
        return ask(_definition_of, self.node, self.home)

    @cached_property
    def chain(self) -> ChainIdentity:
        """Chain id and genesis hash."""
        if self.genesis is not None:
            return self.definition.identity
        return ask(_identity_of, self.node, self.home)

    @cached_property
    def params(self) -> ChainParams:
        """The parameters in force; offline, those the network began with."""
        if self.genesis is not None:
            return self.definition.params
        return ask(_params_of, self.node, self.home)

    @property
    def is_devnet(self) -> bool:
        """Whether the network says that its keys may be public."""
        return self.definition.is_devnet

    def account(
        self, key_name: str, client: RpcClient | None = None, nonce: int | None = None
    ) -> Account:
        """A signing session of a named key."""
        from rpc.session import Account

        return Account(
            self.ring.key(key_name),
            self.chain,
            client=client,
            nonce=nonce,
            fee_base=self.params.fee_base,
            fee_per_byte=self.params.fee_per_byte,
        )


def trust_root(node: str | None, home: str | None, genesis: Path | None, hash_: str | None) -> Any:
    """What a proof is checked against: never something that the asked node says by itself.

    From a definition file, the home's definition, or a genesis hash. Raises CliError.
    """
    from node.devnet.state import running_genesis_file

    chosen = genesis
    if chosen is None and hash_ is not None:
        wanted = _hash(hash_)

        async def fetch(client: RpcClient) -> TrustRoot:
            from rpc.light_client import fetch_trust

            return await fetch_trust(client, wanted, _trust)

        return ask(fetch, node, home)
    if chosen is None:
        here = resolve_home(home).genesis_file
        chosen = here if here.exists() else running_genesis_file()
    if chosen is None:
        raise usage(
            "proofs need a starting point that you trust",
            "--genesis FILE, --genesis-hash 0x…, or a home with the network's definition",
        )
    return _trust(chosen.read_bytes())


def _trust(text: bytes) -> TrustRoot:
    from rpc.light import TrustRoot

    network = parse_network(text)
    return TrustRoot(network.identity, network.validators)


def _hash(text: str) -> bytes:
    try:
        raw = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise usage(f"{text!r} is no hash: 0x and 64 hexadecimal digits")
    return raw


async def _identity_of(client: RpcClient) -> ChainIdentity:
    said = await client.status()
    return ChainIdentity(said.chain_id, said.genesis_hash)


async def _params_of(client: RpcClient) -> ChainParams:
    said = await client.parameters()
    try:
        return ChainParams(**said)
    except TypeError as error:
        raise CliError(
            f"{client.url} has other parameters than this version of tally knows: {error}",
            reason="VERSION_MISMATCH",
        ) from error


async def _definition_of(client: RpcClient) -> NetworkDefinition:
    import orjson

    said = await client.call("system_genesis")
    return parse_network(orjson.dumps(said["document"]))

"""The methods, a module for each namespace and a line for each module."""

from __future__ import annotations

from rpc.context import Call
from rpc.methods import (
    account,
    admin,
    chain,
    consensus,
    mempool,
    net,
    rating,
    reputation,
    subscription,
    system,
    tx,
    validator,
)
from rpc.openrpc import with_discovery
from rpc.registry import Method, Registry

NAMESPACES = (
    account,
    admin,
    chain,
    consensus,
    mempool,
    net,
    rating,
    reputation,
    subscription,
    system,
    tx,
    validator,
)


def all_methods() -> Registry[Call]:
    """Every method this program knows, rpc.discover among them."""
    methods: list[Method[Call]] = [each for namespace in NAMESPACES for each in namespace.METHODS]
    return with_discovery(methods)

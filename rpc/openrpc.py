"""The OpenRPC document: the registry as data, for consoles, generators and people.

Source: OpenRPC Specification 1.3.2, https://spec.open-rpc.org. What OpenRPC has no place for stands
in extensions: `x-cost` (tokens of the caller's bucket), `x-auth`, and `x-events`, the events of
each topic.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from rpc.dispatcher import Raw
from rpc.registry import C, Method, Registry, method
from rpc.schemas import EVENTS, RESULTS

OPENRPC_VERSION = "1.3.2"

# The interface's own version: it changes with the methods, not with the program.
INTERFACE_VERSION = "1.0.0"


def openrpc_document(registry: Registry[C]) -> dict[str, Any]:
    """The document, methods in the order of their names."""
    return {
        "openrpc": OPENRPC_VERSION,
        "info": {
            "title": "Tallystick node",
            "version": INTERFACE_VERSION,
            "description": (
                "JSON-RPC 2.0 over HTTP POST, and over WebSocket at /ws with subscriptions. Bytes "
                "are 0x and lower-case hexadecimal, addresses are PeerIDs, heights, nonces and "
                "times (ms) are integers, amounts (µT) and scores decimal strings. Every error has "
                "data {reason, retryable, …}."
            ),
        },
        "methods": [_method_form(registry[name]) for name in sorted(registry)],
        "x-events": {topic: EVENTS[topic] for topic in sorted(EVENTS)},
    }


def encoded_document(registry: Registry[C]) -> bytes:
    """The document as JSON, for GET /openrpc.json."""
    return orjson.dumps(openrpc_document(registry))


def _method_form(described: Method[Any]) -> dict[str, Any]:
    schema = described.params.model_json_schema(by_alias=True)
    required = schema.get("required", [])
    summary, _, rest = described.summary.partition("\n")
    form: dict[str, Any] = {
        "name": described.name,
        "summary": summary,
        "paramStructure": "either",
        "params": [
            {
                "name": name,
                "required": name in required,
                "schema": {key: value for key, value in part.items() if key != "title"},
            }
            for name, part in schema.get("properties", {}).items()
        ],
        "result": {"name": "result", "schema": RESULTS.get(described.name, {})},
        "errors": [
            {"code": error.code, "message": (error.__doc__ or "").partition("\n")[0]}
            for error in described.errors
        ],
        "x-cost": described.cost,
        "x-auth": described.auth,
    }
    if rest.strip():
        form["description"] = rest.strip()
    return form


def with_discovery(methods: Iterable[Method[C]]) -> Registry[C]:
    """The methods and rpc.discover, which describes all of them including itself."""
    document: list[bytes] = []

    @method("rpc.discover", cost=5)
    def rpc_discover(_call: object) -> object:
        """The OpenRPC document of this node."""
        return Raw(document[0])

    registry = Registry([*methods, rpc_discover])
    document.append(encoded_document(registry))
    return registry

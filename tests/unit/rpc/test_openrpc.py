"""The published description of the interface: reviewed as a snapshot, and true.

After an intended change: `python -m tests.unit.rpc.test_openrpc` rewrites the snapshot.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson

from rpc.errors import RpcError
from rpc.methods import all_methods
from rpc.methods.subscription import LOGS, STATES
from rpc.openrpc import encoded_document
from rpc.schemas import RESULTS
from tests.kit.rpc_asking import Asking
from tests.kit.schema import check_schema

SNAPSHOT = Path(__file__).parents[2] / "vectors" / "jsonrpc" / "openrpc.json"


def current() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(encoded_document(all_methods()))
    return document


def test_the_interface_is_the_reviewed_one() -> None:
    assert current() == json.loads(SNAPSHOT.read_text())


async def test_discovery_gives_the_same_document(ask: Asking) -> None:
    assert await ask("rpc.discover") == current()


def test_the_document_has_what_openrpc_requires() -> None:
    """OpenRPC 1.3.2: required members and unique names (no meta-schema validator is bundled)."""
    document = current()
    assert document["openrpc"] == "1.3.2"
    assert document["info"].keys() >= {"title", "version"}
    names = [each["name"] for each in document["methods"]]
    assert len(set(names)) == len(names)
    for each in document["methods"]:
        assert each["result"].keys() >= {"name", "schema"}
        params = [param["name"] for param in each["params"]]
        assert len(set(params)) == len(params)
        assert all("schema" in param for param in each["params"])
        # Required parameters come first, or positional calls could not leave the others out.
        flags = [param["required"] for param in each["params"]]
        assert flags == sorted(flags, reverse=True)
        for error in each["errors"]:
            assert type(error["code"]) is int
            assert error["message"]


def test_results_and_events_are_described_by_schemas_that_can_be_checked() -> None:
    """A member that no answer has, or a keyword that is misspelt, would promise nothing."""
    document = current()
    described = [each for each in document["methods"] if each["result"]["schema"]]
    assert {each["name"] for each in described} == set(RESULTS)
    assert set(document["x-events"]) == {*LOGS, *STATES}
    for each in described:
        check_schema(each["result"]["schema"], each["name"])
    for topic, schema in document["x-events"].items():
        check_schema(schema, topic)


def test_references_within_schemas_can_be_followed() -> None:
    assert "$ref" not in orjson.dumps(current()).decode()


def test_every_error_has_its_own_code() -> None:
    codes = [kind.code for kind in RpcError.__subclasses__()]
    assert sorted(codes) == sorted(set(codes))
    assert set(codes) == {
        -32700, -32600, -32601, -32602, -32603,
        -32001, -32002, -32003, -32004, -32005, -32010,
    }  # fmt: skip


if __name__ == "__main__":
    SNAPSHOT.write_text(json.dumps(current(), indent=1, ensure_ascii=False) + "\n")

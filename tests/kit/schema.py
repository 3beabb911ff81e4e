"""Holding JSON against the part of JSON Schema that rpc.schemas uses.

Stricter than JSON Schema in one point: a member that the schema does not name is a failure, so that
documents do not fall behind the answers. An object whose schema names no members may have any.
"""

from __future__ import annotations

import re
from typing import Any

_KINDS: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "boolean": bool,
    "null": type(None),
}

_KEYWORDS = {
    "type", "properties", "required", "items", "enum", "oneOf", "pattern", "minimum",
}  # fmt: skip

# Payloads and scores of one place differ by their type; the schema names what all have.
_OPEN = ({"type", "chainId", "sender"}, {"epoch", "root", "held"})


def check(value: Any, schema: dict[str, Any], where: str) -> None:
    """Raises AssertionError that names the place."""
    if "oneOf" in schema:
        fitting = [each for each in schema["oneOf"] if _fits(value, each)]
        assert len(fitting) == 1, f"{where}: {len(fitting)} of the alternatives fit {value!r}"
        return
    if "enum" in schema:
        assert value in schema["enum"], f"{where}: {value!r} is none of {schema['enum']}"
    if "type" in schema:
        kind = schema["type"]
        fits = isinstance(value, _KINDS[kind]) and (kind != "integer" or type(value) is int)
        assert fits, f"{where}: {value!r} is no {kind}"
    if "pattern" in schema:
        assert re.search(schema["pattern"], value), f"{where}: {value!r} has another form"
    if "minimum" in schema:
        assert value >= schema["minimum"], f"{where}: {value!r} is too small"
    if "items" in schema:
        for place, each in enumerate(value):
            check(each, schema["items"], f"{where}[{place}]")
    if "properties" in schema:
        _check_members(value, schema, where)


def _check_members(value: dict[str, Any], schema: dict[str, Any], where: str) -> None:
    properties = schema["properties"]
    for name in schema["required"]:
        assert name in value, f"{where} has no {name}"
    if not any(names <= properties.keys() for names in _OPEN):
        assert value.keys() <= properties.keys(), f"{where}: {value.keys() - properties.keys()}"
    for name, each in value.items():
        if name in properties:
            check(each, properties[name], f"{where}.{name}")


def _fits(value: Any, schema: dict[str, Any]) -> bool:
    try:
        check(value, schema, "")
    except AssertionError:
        return False
    return True


def check_schema(schema: dict[str, Any], where: str) -> None:
    """Every keyword is known and used as JSON Schema has it. Raises AssertionError."""
    assert schema.keys() <= _KEYWORDS, f"{where}: {schema.keys() - _KEYWORDS}"
    assert schema.get("type", "object") in _KINDS, where
    re.compile(schema.get("pattern", ""))
    properties = schema.get("properties", {})
    assert set(schema.get("required", ())) <= properties.keys(), where
    assert len(set(schema.get("required", ()))) == len(schema.get("required", ())), where
    for name, each in properties.items():
        check_schema(each, f"{where}.{name}")
    for each in (*schema.get("oneOf", ()), *([schema["items"]] if "items" in schema else ())):
        check_schema(each, where)

"""A transaction's payload as JSON, read back: the inverse of rpc.forms.payload_form."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from pydantic.alias_generators import to_snake

from genesis.problems import suggestion
from ledger.identity import public_key_of
from ledger.transactions import Rate, Register, Settle, Transaction, Transfer
from node.cli.output import usage

FAMILIES: dict[str, type[Transaction]] = {
    each.__name__: each for each in (Register, Transfer, Settle, Rate)
}

_ADDRESSES = frozenset({"sender", "registrant", "to", "payer", "payee", "subject"})
_AMOUNTS = frozenset({"fee", "amount", "deposit", "cum_paid"})


def payload_from_json(text: str) -> Transaction:
    """The payload. `{payload: …}` around it is allowed. Raises CliError, InvalidPeerId."""
    try:
        written = json.loads(text)
    except ValueError as error:
        raise usage(f"the payload is not JSON: {error}") from error
    if isinstance(written, dict) and isinstance(written.get("payload"), dict):
        written = written["payload"]
    if not isinstance(written, dict) or "type" not in written:
        raise usage("a payload is a JSON object with a type")
    family = FAMILIES.get(str(written["type"]))
    if family is None:
        raise usage(
            f"there is no type {written['type']!r}", suggestion(str(written["type"]), FAMILIES)
        )
    names = family.__struct_fields__
    fields: dict[str, Any] = {}
    for shown, value in written.items():
        name = to_snake(shown)
        if shown == "type":
            continue
        if name not in names:
            raise usage(f"{family.__name__} has no {shown!r}", suggestion(name, names))
        fields[name] = _value(name, value)
    missing = [name for name in names if name not in fields]
    if missing:
        raise usage(f"{family.__name__} needs {', '.join(missing)}")
    try:
        return msgspec.convert([family.__struct_config__.tag, *map(fields.get, names)], family)
    except msgspec.ValidationError as error:
        raise usage(f"the payload does not fit: {error}") from error


def _value(name: str, value: Any) -> Any:
    try:
        if name in _ADDRESSES:
            return public_key_of(value)
        if name in _AMOUNTS:
            return int(value)
        if isinstance(value, str) and name != "chain_id":
            return bytes.fromhex(value.removeprefix("0x"))
    except (TypeError, ValueError) as error:
        raise usage(f"{name}: {error}") from error
    return value

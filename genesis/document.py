"""The network definition as it is written: typed JSON, strict in every field.

    {
      "format": 1,
      "chain_id": "market-1",
      "devnet": false,
      "genesis_time_ms": 1767225600000,
      "mode": "pbft",
      "parameters": {"pbft_base_timeout_ms": 2000, …},     every row of ledger.params.PARAMETERS
      "validators": [{"name": …, "operator": PeerID, "consensus_key": "0x…", "node_id": PeerID,
                      "power": 1, "consensus_proof": "0x…", "node_proof": "0x…"}, …],
      "accounts": {PeerID: "µT in decimal", …},
      "seeds": [PeerID, …]
    }

All parameters stand in the document, so that nobody's defaults can drift away from the network's.
`seeds` are the 1–21 governed accounts that trust starts from; the builder makes them the
validators' operators. `devnet` says that private keys of this network are public: it permits the
bundled well-known keys, low key-store cost and the dev_* calls, and nothing else does.

This module reads and writes the text; the rules that tie fields together, the canonical hash and
the core types are in genesis.definition.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, create_model

from genesis.errors import InvalidDefinition, InvalidEntry, MalformedDefinition
from genesis.problems import problems_of
from ledger.codec import LIMIT_53
from ledger.crypto import SIGNATURE_BYTES, is_public_key
from ledger.identity import InvalidPeerId, public_key_of
from ledger.params import PARAMETERS
from ledger.state import SEEDS_MAX_COUNT
from ledger.validators import MAX_VALIDATORS

FORMAT_VERSION = 1

# 1,000 validators take 600 KiB, 100,000 accounts 8 MiB: more than anybody writes by hand.
DOCUMENT_LIMIT_BYTES = 16 << 20
ACCOUNTS_MAX_COUNT = 100_000

_AMOUNT_PATTERN = "^(0|[1-9][0-9]{0,15})$"
_HEX_PATTERN = "^0x[0-9a-f]*$"

# Plain characters only: names appear in terminals, logs and pages.
NAME_PATTERN = "^[A-Za-z0-9][A-Za-z0-9 ._-]{0,31}$"


def _check_peer_id(text: str) -> str:
    try:
        public_key_of(text)
    except InvalidPeerId as error:
        raise ValueError(str(error)) from error
    return text


def _check_key(text: str) -> str:
    if not is_public_key(bytes.fromhex(text[2:]) if len(text) % 2 == 0 else b""):
        raise ValueError("needs 0x and the 66 hex digits of a compressed secp256k1 key")
    return text


def _check_signature(text: str) -> str:
    if len(text) != 2 + 2 * SIGNATURE_BYTES:
        raise ValueError("needs 0x and the 128 hex digits of a signature")
    return text


def _check_amount(text: str) -> str:
    if int(text) >= LIMIT_53:
        raise ValueError(f"{text} µT is not below 2^53")
    return text


PeerIdText = Annotated[str, AfterValidator(_check_peer_id)]
KeyText = Annotated[str, Field(pattern=_HEX_PATTERN), AfterValidator(_check_key)]
SignatureText = Annotated[str, Field(pattern=_HEX_PATTERN), AfterValidator(_check_signature)]
AmountText = Annotated[str, Field(pattern=_AMOUNT_PATTERN), AfterValidator(_check_amount)]
ChainIdText = Annotated[str, Field(pattern="^[a-z0-9-]+$", min_length=1, max_length=64)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ValidatorEntry(_Strict):
    """One validator's seat, with the proofs that it holds the keys (genesis.possession)."""

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    operator: PeerIdText
    consensus_key: KeyText
    node_id: PeerIdText
    power: Annotated[int, Field(ge=1, lt=LIMIT_53)]
    consensus_proof: SignatureText
    node_proof: SignatureText


_parameter_fields: dict[str, Any] = {
    each.name: (Annotated[int, Field(ge=each.low, le=each.high, description=each.unit)], ...)
    for each in PARAMETERS
}
ParametersModel = create_model("ParametersModel", __base__=_Strict, **_parameter_fields)
"""Every parameter by name, required, within its own bounds."""


class Document(_Strict):
    """The whole file. `validators` may be empty only in a draft (see `genesis.ceremony`)."""

    format: Literal[1]
    chain_id: ChainIdText
    devnet: bool
    genesis_time_ms: Annotated[int, Field(ge=1, lt=LIMIT_53)]
    mode: Literal["pbft"]
    parameters: ParametersModel
    validators: Annotated[list[ValidatorEntry], Field(max_length=MAX_VALIDATORS)]
    accounts: Annotated[dict[PeerIdText, AmountText], Field(max_length=ACCOUNTS_MAX_COUNT)]
    seeds: Annotated[list[PeerIdText], Field(max_length=SEEDS_MAX_COUNT)]


def parse_document(text: str | bytes) -> Document:
    """The document of a JSON text. Raises InvalidDefinition with every problem of shape."""
    value = _loads(text)
    try:
        return Document.model_validate(value)
    except ValidationError as error:
        raise InvalidDefinition(problems_of(error, Document)) from error


def parse_entry(text: str | bytes) -> ValidatorEntry:
    """One validator's entry, as its operator sent it. Raises InvalidDefinition."""
    value = _loads(text)
    try:
        return ValidatorEntry.model_validate(value)
    except ValidationError as error:
        raise InvalidEntry(problems_of(error, ValidatorEntry)) from error


def read_document(path: Path) -> Document:
    """The document in a file. Raises InvalidDefinition, OSError."""
    if path.stat().st_size > DOCUMENT_LIMIT_BYTES:
        raise _too_large(path.stat().st_size)
    return parse_document(path.read_bytes())


def dump(model: BaseModel) -> str:
    """JSON text in the spelling of the bundled files. Any other spelling means the same."""
    return json.dumps(model.model_dump(), indent=2, ensure_ascii=False) + "\n"


def _too_large(size_bytes: int) -> MalformedDefinition:
    return MalformedDefinition("size", f"{size_bytes} bytes, at most {DOCUMENT_LIMIT_BYTES}")


def _loads(text: str | bytes) -> object:
    if len(text) > DOCUMENT_LIMIT_BYTES:
        raise _too_large(len(text))
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise MalformedDefinition("json", "the text is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise MalformedDefinition(
            "json", f"not JSON: {error.msg} (line {error.lineno}, column {error.colno})"
        ) from error
    except RecursionError as error:
        raise MalformedDefinition("json", "nested too deeply") from error
    if not isinstance(value, dict):
        raise MalformedDefinition("json", "the document must be a JSON object")
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Readers disagree on which of two equal names counts, so a network could split over it."""
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise MalformedDefinition(
                "duplicate", f'the name "{name}" stands twice in one object', "remove one of them"
            )
        found[name] = value
    return found


def _no_constant(text: str) -> object:
    raise MalformedDefinition("json", f"{text} is not JSON")

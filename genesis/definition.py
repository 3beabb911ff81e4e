"""The network definition as the node uses it: checked, hashed, in core types.

The genesis hash names the network: every signature covers it, peers compare it at handshake, and
block 1 has it as its parent. It is SHA-256("tally/genesis/1" ‖ encode(content)), where the content
is the typed document with validators, accounts and seeds in ascending order of their keys. JSON
spelling (order, spaces, escapes) therefore cannot change it, and everything that stands in the
document does.

Rules beyond the shape of single fields, each with a stable name:

    parameters        rules between parameters (ledger.params.ChainParams.check)
    no-validators     at least one validator
    key-reused        no key serves two purposes or two validators
    name-reused       names are unique, since people choose by them
    possession        both proofs of every validator verify
    power             total power below 2^53
    no-supply, supply the accounts hold something, and less than 2^53 µT together
    seeds             1–21 distinct accounts
    public-key        no well-known devnet key in a network that is not a devnet
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import msgspec

from genesis.document import Document, ValidatorEntry, parse_document, read_document
from genesis.errors import InvalidDefinition, Problem
from genesis.possession import PossessionBody, Role, verify_possession
from genesis.problems import REPORTED_PROBLEMS_COUNT
from genesis.wellknown import name_of_public_key
from ledger import domains
from ledger.codec import LIMIT_53, encode
from ledger.identity import public_key_of
from ledger.params import ChainParams, InvalidParameter
from ledger.transactions import ChainIdentity
from ledger.validators import Validator, ValidatorSet


@dataclass(frozen=True, slots=True)
class NetworkDefinition:
    """What the other rooms need to know of a network.

    `balances` are (address, µT) and `validator_names` (operator, name), ascending by address;
    `seeds` ascending addresses. `supply` is the sum of the balances, µT.
    """

    identity: ChainIdentity
    mode: Literal["pbft"]
    is_devnet: bool
    genesis_time_ms: int
    params: ChainParams
    validators: ValidatorSet
    validator_names: tuple[tuple[bytes, str], ...]
    balances: tuple[tuple[bytes, int], ...]
    seeds: tuple[bytes, ...]

    @property
    def chain_id(self) -> str:
        """The network's name."""
        return self.identity.chain_id

    @property
    def genesis_hash(self) -> bytes:
        """The network's identity, 32 bytes."""
        return self.identity.genesis_hash

    @property
    def supply(self) -> int:
        """All µT there ever are."""
        return sum(amount for _, amount in self.balances)


class _ValidatorContent(msgspec.Struct, array_like=True, frozen=True):
    operator: bytes
    consensus_key: bytes
    node_key: bytes
    power: int
    name: str
    consensus_proof: bytes
    node_proof: bytes


class _Content(msgspec.Struct, array_like=True, frozen=True):
    """The hashed content; the order of the fields is part of the format."""

    format: int
    chain_id: str
    devnet: bool
    genesis_time_ms: int
    mode: str
    parameters: ChainParams
    validators: tuple[_ValidatorContent, ...]
    accounts: tuple[tuple[bytes, int], ...]
    seeds: tuple[bytes, ...]


def load_network(path: Path) -> NetworkDefinition:
    """The definition in a file. Raises InvalidDefinition, OSError."""
    return to_core(read_document(path))


def parse_network(text: str | bytes) -> NetworkDefinition:
    """The definition in a JSON text. Raises InvalidDefinition."""
    return to_core(parse_document(text))


def to_core(document: Document) -> NetworkDefinition:
    """The checked definition. Raises InvalidDefinition with every broken rule."""
    problems = tuple(islice(_problems(document), REPORTED_PROBLEMS_COUNT))
    if problems:
        raise InvalidDefinition(problems)
    content = _content(document)
    return NetworkDefinition(
        identity=ChainIdentity(document.chain_id, _hash(content)),
        mode=document.mode,
        is_devnet=document.devnet,
        genesis_time_ms=document.genesis_time_ms,
        params=content.parameters,
        validators=_validator_set(document.validators),
        validator_names=tuple((each.operator, each.name) for each in content.validators),
        balances=content.accounts,
        seeds=content.seeds,
    )


def genesis_hash(document: Document) -> bytes:
    """The hash of the document's content, 32 bytes, whether or not it obeys the rules."""
    return _hash(_content(document))


def canonical_bytes(document: Document) -> bytes:
    """The bytes that are hashed after the tag."""
    return encode(_content(document))


def check_entry(entry: ValidatorEntry, chain_id: str) -> Iterator[Problem]:
    """What is wrong with one validator's entry on its own."""
    operator, node_key = public_key_of(entry.operator), public_key_of(entry.node_id)
    consensus_key = _bytes(entry.consensus_key)
    if len({operator, consensus_key, node_key}) < 3:
        yield Problem(
            "",
            "key-reused",
            "operator, consensus and node key must be three different keys",
            "a leaked node key must not be able to vote or to spend; `tally init` makes all three",
        )
    proofs: tuple[tuple[Role, str], ...] = (
        ("consensus", entry.consensus_proof),
        ("node", entry.node_proof),
    )
    for role, proof in proofs:
        body = PossessionBody(chain_id, role, operator, consensus_key, node_key)
        if not verify_possession(body, _bytes(proof)):
            yield Problem(
                f"{role}_proof",
                "possession",
                f"is no signature by the {role} key for this seat in {chain_id!r}",
                "the operator makes it anew with `tally genesis add-validator`",
            )


def _problems(document: Document) -> Iterator[Problem]:
    yield from _parameter_problems(document)
    yield from _validator_problems(document)
    yield from _supply_problems(document)
    yield from _seed_problems(document)
    if not document.devnet:
        yield from _public_key_problems(document)


def _parameter_problems(document: Document) -> Iterator[Problem]:
    try:
        _params(document).check()
    except InvalidParameter as error:
        yield Problem(
            f"parameters.{error.name}", "parameters", f"{error.rule}, not {error.value:,}"
        )


def _validator_problems(document: Document) -> Iterator[Problem]:
    if not document.validators:
        yield Problem(
            "validators",
            "no-validators",
            "a network needs at least one validator",
            "add them with `tally genesis add-validator`",
        )
        return
    keys_seen: dict[bytes, str] = {}
    names_seen: dict[str, str] = {}
    for index, entry in enumerate(document.validators):
        place = f"validators.{index}"
        if entry.name in names_seen:
            detail = f'"{entry.name}" is already the name of {names_seen[entry.name]}'
            yield Problem(f"{place}.name", "name-reused", detail)
        names_seen.setdefault(entry.name, place)
        for problem in check_entry(entry, document.chain_id):
            where = f"{place}.{problem.where}" if problem.where else place
            yield Problem(where, problem.rule, problem.detail, problem.hint)
        # Against the other validators only: reuse within one entry has been named above.
        own = dict(_keys(entry))
        for field, key in own.items():
            if key in keys_seen:
                detail = f"is the same key as {keys_seen[key]}"
                yield Problem(f"{place}.{field}", "key-reused", detail)
        for field, key in own.items():
            keys_seen.setdefault(key, f"{place}.{field}")
    total_power = sum(each.power for each in document.validators)
    if total_power >= LIMIT_53:
        yield Problem("validators", "power", f"total power {total_power} is not below 2^53")


def _supply_problems(document: Document) -> Iterator[Problem]:
    supply = sum(map(int, document.accounts.values()))
    if supply == 0:
        yield Problem(
            "accounts",
            "no-supply",
            "no account holds anything, and µT are never made later",
            'give at least one, for example "16Uiu2HA…": "1000000000000"',
        )
    if supply >= LIMIT_53:
        yield Problem("accounts", "supply", f"{supply} µT together are not below 2^53")


def _seed_problems(document: Document) -> Iterator[Problem]:
    if not document.seeds:
        yield Problem(
            "seeds",
            "seeds",
            "at least one account must be a seed of trust",
            "the usual choice is the validators' operators",
        )
    if len(set(document.seeds)) != len(document.seeds):
        yield Problem("seeds", "seeds", "an account stands twice")


def _public_key_problems(document: Document) -> Iterator[Problem]:
    hint = "make keys of your own, or set devnet to true"
    for index, entry in enumerate(document.validators):
        for field, key in _keys(entry):
            owner = name_of_public_key(key)
            if owner:
                detail = f"the private key of {owner} is published"
                yield Problem(f"validators.{index}.{field}", "public-key", detail, hint)
    for place, addresses in (("accounts", document.accounts), ("seeds", document.seeds)):
        for address in addresses:
            owner = name_of_public_key(public_key_of(address))
            if owner:
                detail = f"the private key of {owner} is published"
                yield Problem(f"{place}.{address}", "public-key", detail, hint)


def _keys(entry: ValidatorEntry) -> tuple[tuple[str, bytes], ...]:
    return (
        ("operator", public_key_of(entry.operator)),
        ("consensus_key", _bytes(entry.consensus_key)),
        ("node_id", public_key_of(entry.node_id)),
    )


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text[2:])


def _params(document: Document) -> ChainParams:
    return ChainParams(**document.parameters.model_dump())


def _validator_set(entries: list[ValidatorEntry]) -> ValidatorSet:
    return ValidatorSet.make(
        [
            Validator(
                operator=public_key_of(each.operator),
                consensus_key=_bytes(each.consensus_key),
                node_key=public_key_of(each.node_id),
                power=each.power,
            )
            for each in entries
        ]
    )


def _content(document: Document) -> _Content:
    validators = [
        _ValidatorContent(
            operator=public_key_of(each.operator),
            consensus_key=_bytes(each.consensus_key),
            node_key=public_key_of(each.node_id),
            power=each.power,
            name=each.name,
            consensus_proof=_bytes(each.consensus_proof),
            node_proof=_bytes(each.node_proof),
        )
        for each in document.validators
    ]
    accounts = [(public_key_of(name), int(amount)) for name, amount in document.accounts.items()]
    return _Content(
        format=document.format,
        chain_id=document.chain_id,
        devnet=document.devnet,
        genesis_time_ms=document.genesis_time_ms,
        mode=document.mode,
        parameters=_params(document),
        validators=tuple(sorted(validators, key=lambda each: each.operator)),
        accounts=tuple(sorted(accounts)),
        seeds=tuple(sorted(map(public_key_of, document.seeds))),
    )


def _hash(content: _Content) -> bytes:
    return domains.tagged_hash(domains.NETWORK, encode(content))

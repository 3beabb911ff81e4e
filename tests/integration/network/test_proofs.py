"""A live network's answers, believed for the network definition alone, and refused when bent."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from genesis.definition import parse_network
from genesis.wellknown import account_address, validator_keys, well_known_key
from ledger.block import decode_header
from ledger.certificate import VOTE_COMMIT, Vote, decode_certificate, make_certificate
from ledger.identity import public_key_of
from rpc.light import LightVerifier, TrustRoot
from rpc.light_client import LightClient
from rpc.light_errors import CertificateRefused, LightError
from rpc.session import Account
from tests.integration.network.conftest import Network

pytestmark = [pytest.mark.processes]

ALICE = account_address("alice")

Check = Callable[[LightVerifier, dict[str, Any]], object]


def trust_of(network: Network) -> TrustRoot:
    """From the text of the document, as somebody has it who was handed nothing else."""
    definition = parse_network(network.processes.state.genesis_file.read_bytes())
    return TrustRoot(definition.identity, definition.validators)


async def ask(network: Network, method: str, **params: Any) -> dict[str, Any]:
    async with network.processes.client(0) as client:
        answer: dict[str, Any] = await client.call(method, params)
        return answer


@pytest.fixture
async def committed(network: Network) -> bytes:
    """The id of a committed transfer; the chain is past its genesis."""
    async with network.processes.client(0) as client:
        account = Account(
            well_known_key("oscar"), network.processes.definition.identity, client=client
        )
        status = await account.transfer(
            public_key_of(ALICE), 9, wait="committed", timeout_ms=30_000
        )
        assert status.is_committed
        return status.transaction_id


async def test_every_validators_answers_prove_themselves(
    network: Network, committed: bytes
) -> None:
    await network.processes.until_level()
    for index in network.processes.indexes:
        async with network.processes.client(index) as client:
            light = LightClient(client, trust_of(network))

            account = await light.account(ALICE)
            proven = await light.transaction(committed)
            score = await light.score(ALICE)

            assert account.account is not None
            assert account.account.balance == (await client.account(ALICE)).balance
            assert proven.receipt.ok
            assert proven.signed.transaction_id == committed
            assert score.score is None


def hex_places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where in an answer bytes stand."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from hex_places(each, (*path, name))
    elif isinstance(value, list):
        for place, each in enumerate(value):
            yield from hex_places(each, (*path, place))
    elif isinstance(value, str) and value.startswith("0x"):
        yield path


def bent(answer: dict[str, Any], path: tuple[str | int, ...], byte: int, bit: int) -> Any:
    """The answer with one bit of one byte changed."""
    answer = copy.deepcopy(answer)
    holder: Any = answer
    for step in path[:-1]:
        holder = holder[step]
    data = bytearray.fromhex(holder[path[-1]][2:])
    data[byte] ^= 1 << bit
    holder[path[-1]] = "0x" + data.hex()
    return answer


async def test_a_changed_bit_in_any_byte_is_refused(network: Network, committed: bytes) -> None:
    rng = random.Random(1)
    owner = public_key_of(ALICE)
    account = await ask(network, "account_get", address=ALICE, proof=True)
    score = await ask(network, "reputation_get", subject=ALICE, proof=True)
    transaction = await ask(network, "tx_getProof", hash="0x" + committed.hex())
    trust = trust_of(network)
    checks: tuple[tuple[dict[str, Any], Check], ...] = (
        (account, lambda verifier, answer: verifier.verify_account(answer, owner)),
        (score, lambda verifier, answer: verifier.verify_score(answer, owner)),
        (transaction, lambda verifier, answer: verifier.verify_transaction(answer, committed)),
    )

    for answer, check in checks:
        check(LightVerifier(trust), answer)
        places = list(hex_places(answer))
        assert len(places) >= 3
        for path in places:
            holder: Any = answer
            for step in path:
                holder = holder[step]
            for byte in range(len(holder) // 2 - 1):
                changed = bent(answer, path, byte, rng.randrange(8))
                with pytest.raises(LightError):
                    check(LightVerifier(trust), changed)


async def test_a_certificate_of_too_little_power_is_refused(
    network: Network, committed: bytes
) -> None:
    answer = await ask(network, "account_get", address=ALICE, proof=True)
    trust = trust_of(network)
    anchor = answer["proof"]["anchor"]
    header = decode_header(bytes.fromhex(anchor["header"][2:]))
    honest = decode_certificate(bytes.fromhex(anchor["certificate"][2:]))
    vote = Vote(header.chain_id, "pbft", VOTE_COMMIT, header.height, honest.round, header.hash())
    keys = {key.public_key: key for key in (validator_keys(each).consensus for each in range(4))}
    digest = vote.digest(trust.chain.genesis_hash)
    signatures = {
        index: keys[validator.consensus_key].sign(digest)
        for index, validator in enumerate(trust.validators.validators)
    }

    def certified_by(*signers: int) -> dict[str, Any]:
        certificate = make_certificate(
            mode="pbft",
            chain_id=header.chain_id,
            height=header.height,
            round=honest.round,
            block_hash=header.hash(),
            validators=trust.validators,
            signatures={index: signatures[index] for index in signers},
        )
        changed = copy.deepcopy(answer)
        changed["proof"]["anchor"]["certificate"] = "0x" + certificate.encode().hex()
        return changed

    owner = public_key_of(ALICE)
    LightVerifier(trust).verify_account(certified_by(0, 1, 2), owner)
    LightVerifier(trust).verify_account(certified_by(0, 1, 2, 3), owner)
    for signers in ((0, 1), (2, 3), (1,)):
        with pytest.raises(CertificateRefused) as refused:
            LightVerifier(trust).verify_account(certified_by(*signers), owner)
        assert refused.value.rule == "power"

"""The light client's fetching half: asks one node, believes none of it (rpc.light checks).

    trust = await fetch_trust(client, genesis_hash, parse)      # or made from a local definition
    light = LightClient(client, trust)
    proven = await light.score("16Uiu2HA…")

An answer whose validator set is unknown means that validators have changed since: the client then
follows the changes from where it stands, and checks the same answer again, once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import orjson

from ledger.identity import public_key_of
from rpc.client import RpcClient
from rpc.light import (
    LightVerifier,
    ProvenAccount,
    ProvenScore,
    ProvenTransaction,
    TrustRoot,
)
from rpc.light_errors import MalformedAnswer, TooFarBehind, UnknownValidatorSet, WrongChain
from rpc.values import PAGE_COUNT, hexed

# Changes of validators followed in one go. A chain that changes them daily has 3,650 in ten years;
# each costs a certificate, some 5 ms at 100 validators.
CHANGES_FOLLOWED_COUNT = 10_000

T = TypeVar("T")

ParseGenesis = Callable[[bytes], TrustRoot]
"""A network definition as JSON text → what it says; genesis/ has the parser."""


async def fetch_trust(client: RpcClient, genesis_hash: bytes, parse: ParseGenesis) -> TrustRoot:
    """The definition behind a trusted genesis hash, from a node that is not trusted.

    Raises WrongChain unless the definition has this hash, ClientError, or what `parse` raises.
    """
    said = await client.call("system_genesis")
    if not isinstance(said, dict) or "document" not in said:
        raise MalformedAnswer("document", "is missing")
    trust = parse(orjson.dumps(said["document"]))
    if trust.chain.genesis_hash != genesis_hash:
        raise WrongChain(
            "the network definition", genesis_hash.hex(), trust.chain.genesis_hash.hex()
        )
    return trust


class LightClient:
    """Asks a node and returns only what was proven."""

    def __init__(
        self, client: RpcClient, trust: TrustRoot, *, accept_crash_fault: bool = False
    ) -> None:
        self._client = client
        self.verifier = LightVerifier(trust, accept_crash_fault=accept_crash_fault)

    async def account(self, address: str) -> ProvenAccount:
        """An account at the node's tip. Raises LightError, ClientError, InvalidPeerId."""
        owner = public_key_of(address)
        answer = await self._ask("account_get", {"address": address, "proof": True})
        return await self._checked(lambda: self.verifier.verify_account(answer, owner))

    async def score(self, subject: str) -> ProvenScore:
        """A subject's score. Raises LightError, ClientError, InvalidPeerId."""
        address = public_key_of(subject)
        answer = await self._ask("reputation_get", {"subject": subject, "proof": True})
        return await self._checked(lambda: self.verifier.verify_score(answer, address))

    async def scores(self, subjects: Sequence[str]) -> list[ProvenScore]:
        """Scores of up to 200 subjects, all at one height."""
        addresses = [public_key_of(subject) for subject in subjects]
        answer = await self._ask("reputation_get", {"subject": list(subjects), "proof": True})
        return await self._checked(lambda: self.verifier.verify_scores(answer, addresses))

    async def transaction(self, transaction_id: bytes) -> ProvenTransaction:
        """A committed transaction with its receipt. Raises LightError, ClientError."""
        answer = await self._ask("tx_getProof", {"hash": hexed(transaction_id)})
        return await self._checked(lambda: self.verifier.verify_transaction(answer, transaction_id))

    async def follow(self) -> int:
        """Follow the changes of validators to the last one; how many there were.

        Raises LightError, ClientError; TooFarBehind after CHANGES_FOLLOWED_COUNT, which a further
        call continues.
        """
        followed = 0
        while True:
            after = self.verifier.followed_height
            page = await self._ask(
                "validator_listChanges", {"afterHeight": after, "limit": PAGE_COUNT}
            )
            items = page.get("items")
            if not isinstance(items, list):
                raise MalformedAnswer("items", "is no list")
            for item in items:
                if not isinstance(item, dict):
                    raise MalformedAnswer("items", "holds something else than objects")
                if followed >= CHANGES_FOLLOWED_COUNT:
                    raise TooFarBehind(CHANGES_FOLLOWED_COUNT)
                self.verifier.follow(item)
                followed += 1
            if not items or page.get("nextAfterHeight") is None:
                return followed

    async def _checked(self, check: Callable[[], T]) -> T:
        try:
            return check()
        except UnknownValidatorSet:
            if await self.follow() == 0:
                raise
            return check()

    async def _ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        answer = await self._client.call(method, params)
        if not isinstance(answer, dict):
            raise MalformedAnswer(method, "the result is no object")
        return answer

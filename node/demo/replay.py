"""The replay as steps: sign, open, rate, wait for the scores, read them with proofs, compare.

On its own network (`tally demo otc`) trust starts from seven people of the data, who are seeds in
the definition. On a running devnet (`--node`) it starts from that network's seeds, the operators:
each of them then pays and rates these seven first, so that trust reaches them along real service.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import Protocol

import orjson

from genesis.definition import NetworkDefinition, parse_network
from genesis.wellknown import ACCOUNT_NAMES, TREASURY, account_names, well_known_key
from genesis.wellknown import account_key as well_known_account
from ledger.crypto import PrivateKey
from ledger.execution.context import epoch_at
from ledger.identity import peer_id
from node import otc
from node.demo import plan, submit
from node.demo.dataset import Dataset
from node.demo.definition import REPLAY
from node.demo.outcome import Outcome, counts
from node.demo.plan import Chain, Signer, person_key
from rpc.client import CallFailed, RpcClient
from rpc.light import ProvenScore, TrustRoot
from rpc.light_client import LightClient

SPONSORS = (*ACCOUNT_NAMES, TREASURY)

PRAISE = 10
"""What an operator thinks of the people it introduces."""

# Replays of one running network, each with people of its own.
REPLAYS_MAX_COUNT = 1_000

# Scores in one answer: a proof is about 1.5 kB.
SCORES_COUNT = 100

# Beyond an epoch and the score delay: a change of view, a busy machine.
SCORES_MARGIN_S = 60.0
_POLL_S = 0.25


class CannotReplay(Exception):
    """The network is not one a replay can run on, or what it needs did not happen."""

    reason = "CANNOT_REPLAY"


class Stages(Protocol):
    """Who shows progress."""

    def stage(self, title: str, total: int | None) -> AbstractContextManager[Callable[[int], None]]:
        """A part of the work; the callable adds to what is done of `total`."""


@dataclass(frozen=True, slots=True)
class Signed:
    """All transactions of a replay, lane by lane."""

    introductions: plan.Lanes
    opening: plan.Lanes
    services: plan.Lanes

    @property
    def count(self) -> int:
        """All of them."""
        return sum(map(plan.count_of, (self.introductions, self.opening, self.services)))


def transactions_of(data: Dataset) -> int:
    """How many transactions a replay takes on its own network."""
    raters = {rating.rater for rating in data.ratings}
    return len(data.people) + len(raters) + 2 * len(data.ratings)


def sign_all(
    data: Dataset,
    chain: Chain,
    replay: str,
    sponsors: Sequence[Signer],
    operators: Sequence[Signer],
    lanes: int,
    stages: Stages,
) -> Signed:
    """Sign everything beforehand. `operators` introduce the seeds where there are any."""
    people = data.people
    keys = {person: person_key(replay, person) for person in people}
    needs = plan.needs_of(chain, data.ratings, people)
    signers = {person: Signer(key, chain) for person, key in keys.items()}
    with stages.stage("signing", transactions_of(data)) as advance:
        opening = plan.opening(sponsors, list(keys.values()), needs, lanes, advance)
        services = plan.services(data.ratings, signers, lanes, advance)
    introductions: plan.Lanes = [[] for _ in range(lanes)]
    for index, operator in enumerate(operators):
        lane = introductions[index % lanes]
        for seed in data.seeds:
            lane.append(operator.settle(keys[seed], 1))
            lane.append(operator.rate(keys[seed].public_key, 1, PRAISE))
    return Signed(introductions, opening, services)


class Network:
    """A network under replay: its definition and a client for each validator that is asked."""

    def __init__(self, definition: NetworkDefinition, urls: Sequence[str]) -> None:
        self.definition = definition
        self.urls = tuple(urls)
        self.chain = Chain(definition.identity, definition.params)
        self._closing = AsyncExitStack()
        self.clients = [RpcClient(url) for url in urls]
        for client in self.clients:
            self._closing.push_async_callback(client.close)

    async def close(self) -> None:
        """Close the connections."""
        await self._closing.aclose()

    async def replay(self, data: Dataset, signed: Signed, replay: str, stages: Stages) -> Outcome:
        """Send everything, wait, read, judge. Raises Stalled, CannotReplay, ClientError."""
        tally = submit.Tally()
        began = time.monotonic()
        for title, lanes in (
            ("registering people", signed.opening),
            ("introducing the seeds", signed.introductions),
            ("services and ratings", signed.services),
        ):
            if total := plan.count_of(lanes):
                with stages.stage(title, total) as advance:
                    await submit.send(self.clients, lanes, tally, advance)
        seconds = time.monotonic() - began
        epoch = await self._epoch_of(tally.height)
        with stages.stage(f"waiting for the scores of epoch {epoch}", None):
            await self._until_scored(epoch)
        labelled = sorted(data.labels)
        with stages.stage("reading scores with proofs", len(labelled)) as advance:
            scores = await self._proven_scores(labelled, replay, advance)
        height, roots = await self._state_roots()
        verdicts = {
            person: otc.Verdict(score.score.trust, score.score.quality, score.score.standing)
            for person, score in zip(labelled, scores, strict=True)
            if score.score is not None
        }
        return Outcome(
            people=len(data.people),
            ratings=len(data.ratings),
            transactions=tally.sent,
            committed=tally.committed,
            failed=counts(tally.failed),
            refused=counts(tally.refused),
            seconds=seconds,
            figures=otc.judge(data.ratings, data.labels, verdicts),
            proven=len(scores),
            epoch=scores[0].epoch or 0,
            height=height,
            urls=self.urls,
            state_roots=tuple(roots),
        )

    async def _epoch_of(self, height: int) -> int:
        """The epoch in which the last transactions were committed."""
        header = await self.clients[0].call("chain_getHeader", {"block": height})
        definition = self.definition
        return epoch_at(int(header["timeMs"]), definition.genesis_time_ms, definition.params)

    async def _until_scored(self, epoch: int) -> None:
        """Wait until the scores of `epoch` or a later one can be read."""
        params = self.definition.params
        patience_s = (params.epoch_ms + params.score_delay_ms) / 1_000 + SCORES_MARGIN_S
        subject = peer_id(self.definition.seeds[0])
        try:
            async with asyncio.timeout(patience_s):
                while not await self._is_scored(epoch, subject):  # noqa: ASYNC110 - a node's state
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise CannotReplay(
                f"the scores of epoch {epoch} do not stand after {patience_s:g} s"
            ) from None

    async def _is_scored(self, epoch: int, subject: str) -> bool:
        try:
            answer = await self.clients[0].call("reputation_get", {"subject": subject})
        except CallFailed as failed:
            if failed.reason != "SCORES_NOT_HELD":
                raise
            return False
        return answer["epoch"] is not None and answer["epoch"] >= epoch

    async def _proven_scores(
        self, people: Sequence[int], replay: str, advance: Callable[[int], None]
    ) -> list[ProvenScore]:
        """Scores with proofs down to the definition, all of one epoch."""
        trust = TrustRoot(self.definition.identity, self.definition.validators)
        light = LightClient(self.clients[0], trust)
        while True:
            found: list[ProvenScore] = []
            for start in range(0, len(people), SCORES_COUNT):
                portion = people[start : start + SCORES_COUNT]
                names = plan.addresses(person_key(replay, person) for person in portion)
                found += await light.scores(names)
                advance(len(portion))
            if len({score.epoch for score in found}) == 1:
                return found

    async def _state_roots(self) -> tuple[int, list[str]]:
        """(a height that all have, the state root each has there)."""
        height = min([(await client.status()).height for client in self.clients])
        roots = []
        for client in self.clients:
            header = await client.call("chain_getHeader", {"block": height})
            roots.append(str(header["stateRoot"]))
        return height, roots


def own_sponsors(chain: Chain) -> list[Signer]:
    """The funded accounts of a network that was just made."""
    return [Signer(well_known_key(name), chain) for name in SPONSORS]


async def connect(urls: Sequence[str]) -> Network:
    """A running network. Raises CannotReplay, ClientError, InvalidDefinition.

    The definition is taken from the first node: here proofs show that the nodes' answers follow
    from it, not that it is the right one.
    """
    async with RpcClient(urls[0]) as client:
        said = await client.call("system_genesis")
    definition = parse_network(orjson.dumps(said["document"]))
    if not definition.is_devnet:
        raise CannotReplay(
            f"{definition.chain_id} is no devnet: a replay spends from published accounts"
        )
    return Network(definition, urls)


async def find_sponsors(network: Network, cost: int) -> list[Signer]:
    """Published accounts that can pay `cost` µT together in equal shares. Raises CannotReplay."""
    rich = []
    for name in SPONSORS:
        key = well_known_key(name)
        account = await network.clients[0].account(peer_id(key.public_key))
        rich.append((account.balance, name, Signer(key, network.chain, account.next_nonce)))
    rich.sort(key=lambda each: (-each[0], each[1]))
    for number in range(len(rich), 0, -1):
        if rich[number - 1][0] >= -(-cost // number):
            return [signer for _, _, signer in rich[:number]]
    raise CannotReplay(f"no published account of {network.definition.chain_id} has the µT for it")


async def find_operators(network: Network) -> list[Signer]:
    """The network's seeds, registered and ready to introduce people. Raises CannotReplay."""
    keys = {}
    for name in account_names():
        key = well_known_account(name)
        assert key is not None
        keys[key.public_key] = key
    operators = []
    registrations: plan.Lanes = [[] for _ in network.clients]
    for index, seed in enumerate(network.definition.seeds):
        if seed not in keys:
            raise CannotReplay(f"the key of seed {peer_id(seed)} is not published")
        account = await network.clients[0].account(peer_id(seed))
        operator = Signer(keys[seed], network.chain, account.next_nonce)
        operators.append(operator)
        if not account.is_registered:
            registrations[index % len(registrations)].append(operator.register(operator.key))
    tally = submit.Tally()
    await submit.send(network.clients, registrations, tally)
    if tally.failed or tally.refused:
        raise CannotReplay(f"operators cannot be registered: {tally.last_word}")
    return operators


async def free_replay(network: Network, data: Dataset) -> str:
    """A name under which nobody has been replayed yet. Raises CannotReplay, ClientError."""
    first = data.people[0]
    for number in range(1, REPLAYS_MAX_COUNT + 1):
        name = REPLAY if number == 1 else f"{REPLAY}-{number}"
        account = await network.clients[0].account(_name(person_key(name, first)))
        if not account.exists:
            return name
    raise CannotReplay(f"{REPLAYS_MAX_COUNT} replays stand in {network.definition.chain_id}")


def _name(key: PrivateKey) -> str:
    return peer_id(key.public_key)

"""Epochs on real validators: everybody computes the same scores, also who was away or starts anew.

One story in the order of the tests, on one network with epochs of 1.5 s: peers register, serve and
rate each other; then validators fail, and their scores must be those of the others.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec
import pytest

from genesis.wellknown import account_key
from ledger.crypto import PrivateKey
from ledger.identity import peer_id
from ledger.params import DEVNET_PARAMS, MICRO
from ledger.reputation.score_tree import Score
from ledger.transactions import Rate, ReceiptBody, Register, Settle, receipt_digest
from node.registration import registration
from rpc.client import RpcClient, TransactionStatus
from rpc.light import LightVerifier, ProvenScore, TrustRoot
from rpc.light_client import LightClient
from rpc.light_errors import LightError
from rpc.session import Account
from tests.integration.network.test_proofs import bent, hex_places
from tests.kit.processes import Processes

pytestmark = [pytest.mark.processes]

PARAMS = msgspec.structs.replace(
    DEVNET_PARAMS, epoch_ms=1_500, score_delay_ms=300, heartbeat_block_ms=1_000
)

SEEDS = ("validator-1", "validator-2")
PEERS = ("alice", "bob", "carol")
STRANGER = "mallory"


def key_of(name: str) -> PrivateKey:
    key = account_key(name)
    assert key is not None
    return key


def name_of(name: str) -> str:
    return peer_id(key_of(name).public_key)


@dataclass
class Society:
    """The network and who owes whom: receipts are cumulative."""

    processes: Processes
    receipts: dict[tuple[str, str], tuple[int, int, int]] = field(default_factory=dict)

    def account(self, name: str, client: RpcClient) -> Account:
        return Account(key_of(name), self.processes.definition.identity, client=client)

    async def register(self, names: Iterable[str]) -> None:
        definition = self.processes.definition
        async with self.processes.client(0) as client:
            for name in names:
                account = self.account(name, client)
                fields = registration(
                    key_of(name),
                    account.address,
                    definition.identity,
                    definition.params,
                    service_mask=1,
                )
                committed(
                    await account.send(Register, wait="committed", timeout_ms=30_000, **fields)
                )

    async def settle(self, payer: str, payee: str, units: int, paid: int) -> int:
        """A receipt that both have signed, submitted by the payee; its number."""
        seq, cum_units, cum_paid = self.receipts.get((payer, payee), (0, 0, 0))
        seq, cum_units, cum_paid = seq + 1, cum_units + units, cum_paid + paid
        self.receipts[payer, payee] = seq, cum_units, cum_paid
        identity = self.processes.definition.identity
        body = ReceiptBody(
            identity.chain_id,
            key_of(payer).public_key,
            key_of(payee).public_key,
            0,
            b"",
            seq,
            cum_units,
            cum_paid,
        )
        signature = key_of(payer).sign(receipt_digest(body, identity.genesis_hash))
        async with self.processes.client(0) as client:
            status = await self.account(payee, client).send(
                Settle,
                wait="committed",
                timeout_ms=30_000,
                payer=body.payer,
                payee=body.payee,
                service=body.service,
                channel=body.channel,
                seq=seq,
                cum_units=cum_units,
                cum_paid=cum_paid,
                counterparty_signature=signature,
            )
        committed(status)
        return seq

    async def rate(self, payer: str, payee: str, score: int) -> None:
        async with self.processes.client(0) as client:
            status = await self.account(payer, client).send(
                Rate,
                wait="committed",
                timeout_ms=30_000,
                subject=key_of(payee).public_key,
                service=0,
                receipt_seq=self.receipts[payer, payee][0],
                score=score,
                code=0,
                evidence_hash=b"",
            )
        committed(status)

    # ---- reading ---------------------------------------------------------------------------------

    def trust(self) -> TrustRoot:
        definition = self.processes.definition
        return TrustRoot(definition.identity, definition.validators)

    async def proven(self, index: int, *names: str) -> list[ProvenScore]:
        """What validator `index` can prove of these."""
        async with self.processes.client(index) as client:
            light = LightClient(client, self.trust())
            return await light.scores([name_of(name) for name in names])

    async def epoch(self, index: int) -> int:
        """The last scored epoch, −1 for none."""
        (score,) = await self.proven(index, STRANGER)
        return -1 if score.epoch is None else score.epoch

    async def until_epoch(self, epoch: int, index: int = 0) -> None:
        async def reached() -> bool:
            return await self.epoch(index) >= epoch

        await self.processes.until(reached, f"epoch {epoch} is scored at validator {index}")

    async def agreed(self, *names: str, above: int = -1) -> dict[str, Score | None]:
        """The scores of one epoch above `above`, once every validator has proven the same ones."""
        seen: dict[int, dict[int, list[Score | None]]] = {}

        async def all_of_one_epoch() -> dict[str, Score | None] | None:
            for index in self.processes.running:
                answer = await self.proven(index, *names)
                if answer[0].epoch is not None and answer[0].epoch > above:
                    at = seen.setdefault(answer[0].epoch, {})
                    at[index] = [each.score for each in answer]
            for epoch, at in seen.items():
                for one, other in itertools.combinations(at, 2):
                    assert at[one] == at[other], f"{one} and {other} differ in epoch {epoch}"
                if len(at) == len(self.processes.running):
                    return dict(zip(names, next(iter(at.values())), strict=True))
            return None

        return await self.processes.until(all_of_one_epoch, "all validators prove one epoch")


def committed(status: TransactionStatus) -> None:
    assert status.is_committed and status.ok, status


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Society]:
    with Processes(tmp_path_factory.mktemp("society"), PARAMS) as processes:
        yield Society(processes)


@pytest.fixture
async def society(network: Society) -> Society:
    await network.processes.heal()
    return network


async def work(society: Society) -> None:
    """Everybody is paid once more for service: seeds pay alice, alice pays bob, bob pays carol."""
    for payer, payee in (*((seed, "alice") for seed in SEEDS), ("alice", "bob"), ("bob", "carol")):
        await society.settle(payer, payee, units=10, paid=MICRO)


async def test_service_earns_trust_that_every_validator_proves_alike(society: Society) -> None:
    await society.register((*SEEDS, *PEERS))
    await work(society)
    await society.rate("validator-1", "alice", 10)
    done = await society.epoch(0)

    scores = await society.agreed(*PEERS, STRANGER, above=done + 1)

    alice, bob, carol = (scores[name] for name in PEERS)
    assert alice is not None and bob is not None and carol is not None
    # Trust comes from the seeds and wears off on its way.
    assert alice.trust > bob.trust > carol.trust > 0
    assert alice.raters == 2
    # A newcomer is absent, provably: `proven` has checked the neighbours of the empty place.
    assert scores[STRANGER] is None


async def test_blame_lowers_quality_everywhere_also_that_of_seeds(society: Society) -> None:
    await work(society)
    names = ("bob", "validator-1")
    before = await society.agreed(*names, above=await society.epoch(0) + 1)
    for name in names:
        await society.settle("alice", name, units=10, paid=MICRO)
        await society.rate("alice", name, -10)

    # The seeds' qualities go into the next epoch: several are looked at, whoever scored them.
    last = await society.epoch(0)
    for _ in range(3):
        after = await society.agreed(*names, above=last + 1)
        last += 1

    for name in names:
        old, new = before[name], after[name]
        assert old is not None and new is not None
        assert new.quality < old.quality


async def test_a_changed_bit_in_a_proof_of_score_or_absence_is_refused(society: Society) -> None:
    async with society.processes.client(1) as client:
        for name in ("alice", STRANGER):
            answer = await client.call("reputation_get", {"subject": name_of(name), "proof": True})
            address = key_of(name).public_key
            LightVerifier(society.trust()).verify_score(answer, address)
            for path in hex_places(answer):
                holder = answer
                for step in path:
                    holder = holder[step]
                for byte in range(len(holder) // 2 - 1):
                    changed = bent(answer, path, byte, byte % 8)
                    with pytest.raises(LightError):
                        LightVerifier(society.trust()).verify_score(changed, address)
            # One peer's proof is no proof about another.
            with pytest.raises(LightError):
                LightVerifier(society.trust()).verify_score(answer, key_of("carol").public_key)


async def test_who_missed_epochs_computes_them_alike_while_catching_up(society: Society) -> None:
    away = 3
    missed_from = await society.epoch(0)
    society.processes.kill(away)

    for _ in range(2):
        await work(society)
        await society.until_epoch(await society.epoch(0) + 1)
    await society.rate("validator-2", "alice", -5)
    await society.until_epoch(missed_from + 3)

    society.processes.start(away)
    await society.processes.until_ready(away)
    await society.processes.until_level()
    await society.agreed(*PEERS, STRANGER, above=await society.epoch(0) - 1)
    await society.processes.assert_same_chain()


async def test_a_wiped_validator_computes_the_whole_history_again(society: Society) -> None:
    wiped = 2
    assert society.processes.terminate(wiped) == 0
    society.processes.wipe(wiped)

    society.processes.start(wiped)
    await society.processes.until_ready(wiped)
    await society.processes.until_level()

    await society.agreed(*PEERS, STRANGER, above=await society.epoch(0) - 1)
    await society.processes.assert_same_chain()
    held = list((society.processes.facts(wiped).place.data / "scores").glob("epoch-*.scores"))
    assert len(held) > 5


async def test_all_killed_in_the_middle_of_an_epoch_go_on_scoring(society: Society) -> None:
    await work(society)
    last = await society.epoch(0)
    society.processes.kill(*society.processes.indexes)

    society.processes.start()
    await society.processes.until_ready()
    await work(society)

    scores = await society.agreed(*PEERS, STRANGER, above=last + 2)
    assert scores["carol"] is not None
    await society.processes.assert_same_chain()
    assert not society.processes.orphans()

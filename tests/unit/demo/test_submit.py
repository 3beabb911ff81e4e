"""Lanes reach their validators whole and in order, whatever validators answer on the way."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from node.demo import submit
from node.demo.submit import BATCH_COUNT, Stalled, Tally, send
from rpc.client import AnswerTimeout, CallFailed, ConnectionFailed, TransactionStatus

URL = "http://validator"
Answer = list[TransactionStatus | CallFailed]


def committed(raw: bytes, *, height: int = 5, reason: str = "") -> TransactionStatus:
    return TransactionStatus(raw, "committed", height, not reason, reason)


def refused(reason: str, *, retryable: bool) -> CallFailed:
    data = {"reason": reason, "retryable": retryable}
    return CallFailed(URL, "tx_submit", {"code": -32003, "message": "no", "data": data})


class Validator:
    """Answers by `behave(call number, raws)`; remembers what it was sent."""

    def __init__(self, behave: Callable[[int, Sequence[bytes]], Answer] | None = None) -> None:
        self.batches: list[list[bytes]] = []
        self.most_open = 0
        self._open = 0
        self._behave = behave or (lambda _, raws: [committed(raw) for raw in raws])

    async def submit_many(self, raws: Sequence[bytes], **_: Any) -> Answer:
        self.batches.append(list(raws))
        number = len(self.batches)
        self._open += 1
        self.most_open = max(self.most_open, self._open)
        await asyncio.sleep(0)
        self._open -= 1
        return self._behave(number, raws)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit, "PAUSE_S", 0.0)


def lane(count: int, name: str = "tx") -> list[bytes]:
    return [f"{name} {number}".encode() for number in range(count)]


async def test_every_lane_goes_to_its_validator_in_batches_in_order() -> None:
    validators = [Validator(), Validator()]
    lanes = [lane(2 * BATCH_COUNT + 1, "a"), lane(3, "b")]
    tally, done = Tally(), []
    await send(validators, lanes, tally, done.append)
    assert [
        [raw for batch in validator.batches for raw in batch] for validator in validators
    ] == lanes
    assert [len(batch) for batch in validators[0].batches] == [BATCH_COUNT, BATCH_COUNT, 1]
    assert tally.sent == tally.committed == sum(done) == 2 * BATCH_COUNT + 4
    assert tally.height == 5


async def test_few_batches_are_in_flight() -> None:
    validator = Validator()
    await send([validator], [lane(BATCH_COUNT * 100)], Tally())
    assert 1 < validator.most_open <= submit.IN_FLIGHT_COUNT


async def test_only_what_a_full_pool_refused_is_sent_again() -> None:
    def full_at_first(number: int, raws: Sequence[bytes]) -> Answer:
        if number > 1:
            return [committed(raw) for raw in raws]
        full = refused("MEMPOOL_FULL", retryable=True)
        return [committed(raws[0]), full, committed(raws[2]), full]

    validator, tally = Validator(full_at_first), Tally()
    await send([validator], [lane(4)], tally)
    assert validator.batches == [lane(4), [b"tx 1", b"tx 3"]]
    assert (tally.committed, tally.retries, tally.refused) == (4, 2, {})


@pytest.mark.parametrize(
    "failure",
    [
        ConnectionFailed(URL, "tx_submit", "reset"),
        AnswerTimeout(URL, "tx_submit", "late"),
        refused("TOO_MANY_WAITING", retryable=True),
    ],
)
async def test_a_call_that_broke_is_made_again(failure: Exception) -> None:
    def broken_at_first(number: int, raws: Sequence[bytes]) -> Answer:
        if number == 1:
            raise failure
        return [committed(raw) for raw in raws]

    validator, tally = Validator(broken_at_first), Tally()
    await send([validator], [lane(3)], tally)
    assert validator.batches == [lane(3), lane(3)]
    assert tally.committed == 3


async def test_pending_is_not_committed() -> None:
    def pending_at_first(number: int, raws: Sequence[bytes]) -> Answer:
        if number == 1:
            return [TransactionStatus(raw, "pending") for raw in raws]
        return [committed(raw) for raw in raws]

    validator, tally = Validator(pending_at_first), Tally()
    await send([validator], [lane(2)], tally)
    assert len(validator.batches) == 2
    assert tally.committed == 2


async def test_refusals_and_failures_are_counted_by_reason() -> None:
    def mixed(_: int, raws: Sequence[bytes]) -> Answer:
        return [
            refused("INVALID_SIGNATURE", retryable=False),
            committed(raws[1], reason="ALREADY_RATED"),
            committed(raws[2]),
        ]

    tally = Tally()
    await send([Validator(mixed)], [lane(3)], tally)
    assert tally.refused == {"INVALID_SIGNATURE": 1}
    assert tally.failed == {"ALREADY_RATED": 1}
    assert (tally.committed, tally.done) == (2, 3)


async def test_a_call_refused_for_good_ends_the_run() -> None:
    def no(_: int, __: Sequence[bytes]) -> Answer:
        raise refused("METHOD_DISABLED", retryable=False)

    with pytest.raises(ExceptionGroup) as caught:
        await send([Validator(no)], [lane(1)], Tally())
    assert caught.group_contains(CallFailed, match="METHOD_DISABLED")


async def test_a_network_that_commits_nothing_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit, "STALL_S", -1.0)
    full = Validator(lambda _, raws: [refused("MEMPOOL_FULL", retryable=True) for _ in raws])
    with pytest.raises(ExceptionGroup) as caught:
        await send([full], [lane(7)], Tally())
    assert caught.group_contains(Stalled, match="7 transactions wait.*MEMPOOL_FULL")

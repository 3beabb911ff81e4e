"""Sending lanes of signed transactions, and learning what became of every one of them.

Each lane goes to one validator in batches, with a few batches in flight, and a batch is answered
when all of it is in blocks: so what is in flight is bounded by what the network commits, and the
mempool stays far from full. Batches of a lane may overtake each other on the way; a nonce that
comes early waits in the mempool until the gap before it is filled.

What can be mended by waiting (a full pool, a nonce too far ahead, a connection that broke, an
answer that says "pending") is sent again after a pause that doubles; submitting the same bytes
again is always harmless. Nothing committed anywhere for STALL_S seconds ends the run.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rpc.client import AnswerTimeout, CallFailed, ConnectionFailed, RpcClient, TransactionStatus

# The most that one tx_submit takes.
BATCH_COUNT = 100

# Batches in flight in one lane. With four lanes 6,400 transactions are under way, about what one
# block takes; more would only wait. A sender's share of it stays below the mempool's limit.
IN_FLIGHT_COUNT = 16

# How long a validator holds an answer back for its commit.
WAIT_MS = 30_000

# Pauses before a refused batch is sent again: they double up to the longest.
PAUSE_S = 0.05
LONGEST_PAUSE_S = 2.0

# The longest time without any commit: several changes of the view.
STALL_S = 120.0


class Stalled(Exception):
    """The network stopped committing. `last_word` is the last refusal or failure seen."""

    reason = "STALLED"

    def __init__(self, waiting: int, last_word: str) -> None:
        super().__init__(
            f"nothing was committed for {STALL_S:g} s while {waiting:,} transactions wait "
            f"(last word: {last_word or 'none'})"
        )
        self.waiting = waiting
        self.last_word = last_word


@dataclass(slots=True)
class Tally:
    """What became of the transactions sent so far.

    `committed` counts those in blocks, with or without effect; `failed` those without, by reason;
    `refused` those that no validator takes, by reason. `height` is the highest block seen.
    """

    sent: int = 0
    committed: int = 0
    height: int = 0
    retries: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    last_word: str = ""

    @property
    def done(self) -> int:
        """Transactions with a final answer."""
        return self.committed + sum(self.refused.values())


OnProgress = Callable[[int], None]
"""Called with the number of transactions that were just finished."""


async def send(
    clients: Sequence[RpcClient],
    lanes: Sequence[Sequence[bytes]],
    tally: Tally,
    on_progress: OnProgress = lambda _: None,
) -> None:
    """Send every lane, lane i to client i, until all is committed or refused. Raises Stalled."""
    sender = _Sender(tally, sum(map(len, lanes)) + tally.done, on_progress)
    async with asyncio.TaskGroup() as group:
        for client, lane in zip(clients, lanes, strict=True):
            group.create_task(sender.send_lane(client, lane))


class _Sender:
    def __init__(self, tally: Tally, goal: int, on_progress: OnProgress) -> None:
        self._tally = tally
        self._goal = goal
        self._on_progress = on_progress
        self._last_commit_s = time.monotonic()

    async def send_lane(self, client: RpcClient, lane: Sequence[bytes]) -> None:
        """All of one lane, a bounded number of batches at a time."""
        places = asyncio.Semaphore(IN_FLIGHT_COUNT)
        async with asyncio.TaskGroup() as group:
            for start in range(0, len(lane), BATCH_COUNT):
                await places.acquire()
                batch = lane[start : start + BATCH_COUNT]
                self._tally.sent += len(batch)
                task = group.create_task(self._send_batch(client, batch))
                task.add_done_callback(lambda _: places.release())

    async def _send_batch(self, client: RpcClient, batch: Sequence[bytes]) -> None:
        pause_s = PAUSE_S
        left = list(batch)
        while left:
            left = await self._try(client, left)
            if not left:
                break
            if time.monotonic() - self._last_commit_s > STALL_S:
                raise Stalled(self._goal - self._tally.done, self._tally.last_word)
            self._tally.retries += len(left)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _try(self, client: RpcClient, batch: list[bytes]) -> list[bytes]:
        """Submit once; what has to be sent again."""
        tally = self._tally
        try:
            answers = await client.submit_many(batch, wait="committed", timeout_ms=WAIT_MS)
        except (ConnectionFailed, AnswerTimeout) as failure:
            tally.last_word = str(failure)
            return batch
        except CallFailed as failure:
            if not failure.retryable:
                raise
            tally.last_word = str(failure)
            return batch
        again = [raw for raw, answer in zip(batch, answers, strict=True) if not self._final(answer)]
        finished = len(batch) - len(again)
        if finished:
            self._last_commit_s = time.monotonic()
            self._on_progress(finished)
        return again

    def _final(self, answer: TransactionStatus | CallFailed) -> bool:
        """Count a final answer; whether it is one."""
        tally = self._tally
        if isinstance(answer, CallFailed):
            tally.last_word = str(answer)
            if answer.retryable:
                return False
            tally.refused[answer.reason] += 1
            return True
        if not answer.is_committed:
            return False
        tally.committed += 1
        tally.height = max(tally.height, answer.height or 0)
        if not answer.ok:
            tally.failed[answer.reason] += 1
        return True

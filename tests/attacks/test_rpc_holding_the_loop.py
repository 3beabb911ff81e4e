"""Attacks on the event loop, by calls that are cheap to make and dear to answer.

Votes and proposals share the loop with whoever asks. Turns of the loop are counted, not time: an
answer that holds the loop gives nobody a turn, however fast the machine.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson
import pytest

from rpc.dispatcher import TURN_S, Dispatcher
from rpc.registry import Registry, method


class Caller:
    """A context without limits."""

    admin = False

    def charge(self, _cost: int) -> None:
        """Free."""


@method("proof_like")
def proof_like(_call: Caller) -> object:
    """Takes a third of a slice, as a transaction's proof in a full block does."""
    end_s = time.perf_counter() + TURN_S / 3
    while time.perf_counter() < end_s:
        pass
    return 1


@method("waits", waits=True)
async def waits(_call: Caller) -> object:
    """Makes the members of a batch run side by side."""
    await asyncio.sleep(0)
    return 2


async def turns_during(body: bytes) -> tuple[int, Any]:
    """How many turns everybody else had while the body was answered, and the answer."""
    failures: list[object] = []
    dispatcher: Dispatcher[Any] = Dispatcher(
        Registry([proof_like, waits]), on_failure=lambda *failed: failures.append(failed)
    )
    answering = asyncio.get_running_loop().create_task(dispatcher.dispatch(body, Caller()))
    turns = 0
    while not answering.done():
        await asyncio.sleep(0)
        turns += 1
    answer = await answering
    assert answer is not None
    assert failures == []
    return turns, orjson.loads(answer)


def batch(*names: str) -> bytes:
    return orjson.dumps(
        [{"jsonrpc": "2.0", "id": place, "method": name} for place, name in enumerate(names)]
    )


@pytest.mark.parametrize("first", ["proof_like", "waits"])
async def test_a_batch_of_dear_calls_leaves_everybody_their_turns(first: str) -> None:
    names = (first, *("proof_like",) * 59)
    turns, answers = await turns_during(batch(*names))
    assert turns >= len(names) / 4
    assert [each["id"] for each in answers] == list(range(len(names))), "and stays in order"


async def test_a_batch_of_cheap_calls_is_one_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    # A turn between any two members would double what a batch of twenty reads costs.
    monkeypatch.setattr("rpc.dispatcher.TURN_S", 60.0)
    turns, _ = await turns_during(batch(*("proof_like",) * 10))
    assert turns <= 2

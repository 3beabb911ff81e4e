"""The budget of subscriptions: slices rest, in turn, whoever works."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from rpc.subscriptions.pace import Budget


def test_work_rests_three_times_as_long_as_it_took() -> None:
    budget = Budget(3)
    assert budget.wait_s(100.0) == 0
    budget.spend(100.0, 0.25)
    assert budget.wait_s(100.0) == 0.75
    assert budget.wait_s(101.0) == 0
    # Work that was not waited for adds up, so the share holds over time.
    budget.spend(100.25, 0.25)
    assert budget.wait_s(100.25) == 1.25
    # Rest that nobody used is not saved up.
    budget.spend(200.0, 0.25)
    assert budget.wait_s(200.0) == 0.75


async def test_slices_come_one_at_a_time_and_in_turn() -> None:
    budget = Budget(1)
    loop = asyncio.get_running_loop()
    order: list[int] = []
    began: list[float] = []

    async def work(number: int) -> None:
        async with budget.slice():
            began.append(loop.time())
            order.append(number)
            while loop.time() - began[-1] < 0.004:
                pass

    await asyncio.gather(*(work(number) for number in range(4)))
    assert order == [0, 1, 2, 3]
    gaps = [later - earlier for earlier, later in pairwise(began)]
    # Each works 4 ms and rests as long; timers have a resolution of about a millisecond.
    assert min(gaps) > 0.006

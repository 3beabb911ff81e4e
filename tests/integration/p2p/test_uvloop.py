"""The same scenarios on uvloop, which the node runs on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from tests.integration.p2p import test_failures, test_host, test_persistent, test_refusals

SCENARIOS: list[Callable[[], Coroutine[Any, Any, None]]] = [
    test_host.test_messages_arrive_in_order_both_ways,
    test_host.test_big_payloads_pass_with_back_pressure,
    test_host.test_requests_are_answered_refused_and_time_out,
    test_failures.test_a_slow_reader_fills_the_queue_not_the_memory,
    test_failures.test_a_bug_in_a_message_handler_fails_the_host,
    test_failures.test_last_messages_before_close_arrive,
    test_failures.test_close_leaves_nothing_running,
    test_persistent.test_four_nodes_form_a_full_mesh,
    test_persistent.test_a_restarted_peer_is_found_again,
    test_persistent.test_a_silent_peer_is_dropped,
    test_refusals.test_a_wrong_peer_id_is_refused,
    test_refusals.test_a_listener_that_dies_while_dialled_is_link_lost,
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_on_uvloop(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())

"""The subscriptions of one connection, and the one loop that serves them.

`run` reads what each subscription may send next and hands it to `send`, which waits while the
client does not read. Everything else about slowness follows from that: a subscription whose client
is slow simply stays where it is.

The usual case is spared the loop: a subscription that had caught up, on a connection that takes
whatever is written, is sent its new event at once through the `Outlet`, without waking a task. It
is the same read from the same cursor; only who waits differs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from rpc.errors import LimitExceeded, NotFound
from rpc.subscriptions.hub import Hub
from rpc.subscriptions.logs import BlocksGone, Log, Place
from rpc.subscriptions.states import State
from rpc.subscriptions.subscription import LogSubscription, StateSubscription, Subscription

# A page of an explorer needs four or five; a gateway for many users opens more connections.
SUBSCRIPTIONS_COUNT = 32

# Waiting transactions sent in one go.
PORTION_COUNT = 32

# To make and write one frame.
FRAME_S = 20e-6

# Tokens of the caller's network for one replayed portion, about a millisecond of the node's time.
PORTION_COST = 1


@dataclass(frozen=True, slots=True)
class Notice:
    """One message to the client: an event, or the end of the subscription.

    `place` is where a log's event stands. `is_end`: `event` is {lagged, resumeFrom, …}, the last.
    """

    subscription: Subscription
    event: bytes
    place: Place | None = None
    is_end: bool = False


Send = Callable[[Notice], Awaitable[None]]


class Outlet(Protocol):
    """A connection that can be written to without waiting."""

    def frame(self, subscription: Subscription, event: bytes) -> bytes:
        """A finished frame."""

    def is_ready(self) -> bool:
        """Whether everything written so far has left, and more may be written."""

    def write(self, frames: bytes) -> None:
        """Write finished frames. Only when ready."""


class Session:
    """See the module. `charge` takes tokens and raises LimitExceeded (RATE_LIMITED)."""

    def __init__(
        self, hub: Hub, charge: Callable[[int], None], outlet: Outlet | None = None
    ) -> None:
        self._hub = hub
        self._charge = charge
        self._outlet = outlet
        self._subscriptions: dict[int, Subscription] = {}
        # Those that begin once the answer that names them is sent.
        self._opening: list[Subscription] = []
        self._last_id = 0
        self._woken = asyncio.Event()
        self._idle = False

    # ---- what the client asks --------------------------------------------------------------------

    def follow_log(self, log: Log, cursor: Place, *, pending: bool = False) -> LogSubscription:
        """Subscribe to a log; it begins at the next `begin`. Raises LimitExceeded."""
        self._hub.check_room(pending=pending)
        made = LogSubscription(self._next_id(), self._tell, log, cursor, pending=pending)
        self._open(made)
        return made

    def follow_state(self, state: State) -> StateSubscription:
        """Subscribe to a state; it begins at the next `begin`. Raises LimitExceeded."""
        self._hub.check_room(pending=False)
        made = StateSubscription(self._next_id(), self._tell, state)
        self._open(made)
        return made

    def unsubscribe(self, id_: int) -> None:
        """End a subscription. Raises NotFound."""
        subscription = self._subscriptions.get(id_)
        if subscription is None:
            raise NotFound(
                "this connection has no such subscription", reason="SUBSCRIPTION_NOT_FOUND"
            )
        self._end(subscription)

    def begin(self) -> None:
        """The answers are sent: what was opened may send events."""
        for subscription in self._opening:
            self._hub.add(subscription)
        self._opening.clear()
        self._woken.set()

    def close(self) -> None:
        """Forget every subscription."""
        for subscription in list(self._subscriptions.values()):
            self._end(subscription)

    def _is_open(self, subscription: Subscription) -> bool:
        """Whether the client still wants it; it may have unsubscribed while we waited."""
        return subscription.id in self._subscriptions

    def _next_id(self) -> int:
        if len(self._subscriptions) >= SUBSCRIPTIONS_COUNT:
            raise LimitExceeded(
                f"a connection has at most {SUBSCRIPTIONS_COUNT} subscriptions",
                reason="TOO_MANY_SUBSCRIPTIONS",
                facts={"limit": SUBSCRIPTIONS_COUNT},
            )
        self._last_id += 1
        return self._last_id

    def _open(self, subscription: Subscription) -> None:
        self._subscriptions[subscription.id] = subscription
        self._opening.append(subscription)

    def _end(self, subscription: Subscription) -> None:
        del self._subscriptions[subscription.id]
        if subscription in self._opening:
            self._opening.remove(subscription)
        else:
            self._hub.drop(subscription)

    # ---- serving ---------------------------------------------------------------------------------

    async def run(self, send: Send) -> None:
        """Serve until cancelled. Raises what `send` raises."""
        while True:
            self._woken.clear()
            more = False
            for subscription in list(self._subscriptions.values()):
                if subscription in self._opening or not self._is_open(subscription):
                    continue
                if isinstance(subscription, StateSubscription):
                    await self._serve_state(subscription, send)
                else:
                    more |= await self._serve_log(subscription, send)
            if more:
                await asyncio.sleep(0)
            else:
                self._idle = True
                await self._woken.wait()
                self._idle = False

    def _tell(self, subscription: Subscription) -> None:
        """A subscription has something new: send it at once where nothing waits, else wake."""
        if self._woken.is_set():
            return
        outlet = self._outlet
        if not self._idle or outlet is None or not outlet.is_ready():
            self._woken.set()
        elif isinstance(subscription, StateSubscription):
            subscription.touched = False
            event = self._hub.state_event(subscription.state)
            outlet.write(self._hub.frame(subscription, event, outlet.frame))
        elif not self._send_at_once(subscription, outlet):
            self._woken.set()

    def _send_at_once(self, subscription: LogSubscription, outlet: Outlet) -> bool:
        """Send what comes next; False where there is more than that, or it takes the loop."""
        tip = self._hub.node.tip().height
        if not subscription.caught_up or subscription.lags(tip):
            return False
        events = subscription.take_waiting(PORTION_COUNT)
        if not events and subscription.cursor[0] <= tip:
            try:
                portion = self._hub.read(subscription.log, subscription.cursor)
            except BlocksGone:
                return False
            events = [event for _, event in portion.events]
            subscription.cursor = portion.following
        if events:
            frames = [self._hub.frame(subscription, event, outlet.frame) for event in events]
            outlet.write(b"".join(frames))
        return not subscription.waiting and subscription.cursor[0] > tip

    async def _serve_state(self, subscription: StateSubscription, send: Send) -> None:
        if subscription.touched:
            subscription.touched = False
            await send(Notice(subscription, self._hub.state_event(subscription.state)))

    async def _serve_log(self, subscription: LogSubscription, send: Send) -> bool:
        """Send what comes next; whether there is more."""
        if subscription.lags(self._hub.node.tip().height):
            await self._end_lagged(subscription, send)
            return False
        if subscription.waiting:
            async with self._hub.telling.slice():
                events = subscription.take_waiting(PORTION_COUNT)
            return await self._send_all(subscription, [(None, each) for each in events], send)
        if subscription.cursor[0] > self._hub.node.tip().height:
            subscription.caught_up = True
            return False
        budget = self._hub.telling if subscription.caught_up else self._hub.replaying
        if not subscription.caught_up:
            await self._pay()
        try:
            async with budget.slice():
                portion = self._hub.read(subscription.log, subscription.cursor)
        except BlocksGone as gone:
            facts = {"reason": "PRUNED", "earliestHeight": gone.earliest_height}
            await self._end_lagged(subscription, send, **facts)
            return False
        if not await self._send_all(subscription, portion.events, send):
            return False
        subscription.cursor = portion.following
        return True

    async def _send_all(
        self,
        subscription: LogSubscription,
        events: Sequence[tuple[Place | None, bytes]],
        send: Send,
    ) -> bool:
        """Send these in order; False where the client has unsubscribed meanwhile."""
        budget = self._hub.telling if subscription.caught_up else self._hub.replaying
        for place, event in events:
            if not self._is_open(subscription):
                return False
            await send(Notice(subscription, event, place))
            if place is not None:
                subscription.cursor = (place[0], place[1] + 1)
        # How long the client took to read is no work of ours; what a frame costs is known.
        budget.spend(asyncio.get_running_loop().time(), len(events) * FRAME_S)
        return self._is_open(subscription)

    async def _pay(self) -> None:
        """Take the tokens for a replayed portion, waiting until the network has them."""
        while True:
            try:
                self._charge(PORTION_COST)
                return
            except LimitExceeded as error:
                retry_after_ms = error.facts["retryAfterMs"]
                assert isinstance(retry_after_ms, int)
                await asyncio.sleep(retry_after_ms / 1_000)

    async def _end_lagged(self, subscription: LogSubscription, send: Send, **facts: Any) -> None:
        height, index = subscription.cursor
        resume: dict[str, Any] = {"resumeFrom": height}
        if index:
            resume["resumeIndex"] = index
        event = orjson.dumps({"lagged": True, **resume, **facts})
        self._end(subscription)
        await send(Notice(subscription, event, is_end=True))

"""What all subscriptions of a node share.

The hub listens to the node's feed. While the node calls it, it only notes whom the news concerns:
for a block everybody who follows a log, and whoever follows an account that the block changed,
found by its address. They are told afterwards, in slices between turns of the event loop. States
that change quickly (the round, five times a block) are told at most every STATE_PAUSE_S.

Neither many clients nor fast ones slow the node: telling has a budget of a quarter of a core, and
replays, which read blocks that nobody has in memory, have another. Who gets no turn in time falls
behind and is ended with `lagged`, as a client that does not read.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Callable

from rpc.errors import LimitExceeded
from rpc.feed import (
    BlockStands,
    Feed,
    FeedEvent,
    PeersChanged,
    RoundMoved,
    TransactionLeft,
    TransactionsWait,
)
from rpc.ports import NodeApi
from rpc.subscriptions.arrivals import Arrivals
from rpc.subscriptions.encodings import Encodings
from rpc.subscriptions.logs import Log, Place, Portion, Source
from rpc.subscriptions.pace import Budget
from rpc.subscriptions.states import AccountState, PeersState, RoundState, State
from rpc.subscriptions.subscription import LogSubscription, StateSubscription, Subscription

# Connections that carry subscriptions, over WebSocket and server-sent events. Each holds at most
# some 300 KiB: unread requests, unsent frames, a task.
SESSIONS_COUNT = 512

# Of those, from one network (a /24 or /48); the operator's own machine is not counted.
SESSIONS_PER_NETWORK_COUNT = 32

# Subscriptions of all connections: noting that a block concerns them takes half a millisecond.
SUBSCRIPTIONS_COUNT = 8_192

# Of those, with the news of the mempool: each is matched with every transaction.
PENDING_COUNT = 64

# Times as long as it took that telling and replaying rest: a quarter of a core each.
REST = 3

# A slice of telling: votes wait no longer than this.
SLICE_S = 0.001

# Between two events of a state: what a person can follow.
STATE_PAUSE_S = 0.05

# Finished frames of one block, by subscription id and topic. Most connections have one subscription
# with the id 1, so one frame serves them all. Large ones are joined anew for each.
FRAMES_COUNT = 64
FRAME_BYTES = 16 * 1024


MakeFrame = Callable[[Subscription, bytes], bytes]


class Hub:
    """See the module. Made once, by node/."""

    def __init__(self, node: NodeApi, feed: Feed) -> None:
        self.node = node
        self.source = Source(node, Encodings())
        self.telling = Budget(REST)
        self.replaying = Budget(REST)
        self._logs: dict[LogSubscription, None] = {}
        self._arrivals = Arrivals(node)
        self._states: defaultdict[State, dict[StateSubscription, None]] = defaultdict(dict)
        self._encoded_states: dict[State, bytes] = {}
        self._sessions: dict[str, int] = {}
        self._count = 0
        # Who is to be told, first noted first; and whose state changed since it was last told.
        self._due: OrderedDict[Subscription, None] = OrderedDict()
        self._due_states: dict[StateSubscription, None] = {}
        self._next_slice: asyncio.TimerHandle | None = None
        self._pausing: asyncio.TimerHandle | None = None
        self._states_told_s = float("-inf")
        self._frames: dict[tuple[int, str, bytes], bytes] = {}
        feed.listen(self._on_event)

    # ---- places ----------------------------------------------------------------------------------

    @property
    def sessions_count(self) -> int:
        """Connections that carry subscriptions now."""
        return sum(self._sessions.values())

    def enter(self, network: str, *, metered: bool) -> None:
        """Take a place for a connection. Raises LimitExceeded (TOO_MANY_STREAMS)."""
        here = self._sessions.get(network, 0)
        if self.sessions_count >= SESSIONS_COUNT or (
            metered and here >= SESSIONS_PER_NETWORK_COUNT
        ):
            raise LimitExceeded(
                "too many connections carry subscriptions",
                reason="TOO_MANY_STREAMS",
                retryable=True,
                facts={"retryAfterMs": 5_000},
            )
        self._sessions[network] = here + 1

    def leave(self, network: str) -> None:
        """Give the place back."""
        left = self._sessions[network] - 1
        if left:
            self._sessions[network] = left
        else:
            del self._sessions[network]

    # ---- subscriptions ---------------------------------------------------------------------------

    def check_room(self, *, pending: bool) -> None:
        """Raises LimitExceeded where one more subscription would be one too many for the node."""
        for count, limit in (
            (self._count, SUBSCRIPTIONS_COUNT),
            (len(self._arrivals.followers) if pending else 0, PENDING_COUNT),
        ):
            if count >= limit:
                raise LimitExceeded(
                    f"the node carries {limit} such subscriptions already",
                    reason="TOO_MANY_SUBSCRIPTIONS",
                    retryable=True,
                    facts={"limit": limit, "retryAfterMs": 5_000},
                )

    def add(self, subscription: Subscription) -> None:
        """Tell it from now on."""
        self._count += 1
        if isinstance(subscription, StateSubscription):
            self._states[subscription.state][subscription] = None
            # The first event shall be the present, not what it was at the last change.
            self._encoded_states.pop(subscription.state, None)
            return
        self._logs[subscription] = None
        if subscription.waiting is not None:
            self._arrivals.followers[subscription] = None

    def drop(self, subscription: Subscription) -> None:
        """Forget one that was added."""
        self._count -= 1
        self._due.pop(subscription, None)
        if isinstance(subscription, StateSubscription):
            self._due_states.pop(subscription, None)
            state = subscription.state
            del self._states[state][subscription]
            if not self._states[state]:
                del self._states[state]
                self._encoded_states.pop(state, None)
            return
        del self._logs[subscription]
        self._arrivals.followers.pop(subscription, None)

    def state_event(self, state: State) -> bytes:
        """The present of a subscribed state."""
        encoded = self._encoded_states.get(state)
        if encoded is None:
            encoded = self._encoded_states[state] = state.event(self.node)
        return encoded

    def read(self, log: Log, cursor: Place) -> Portion:
        """The next portion of a log. Raises BlocksGone."""
        return log.read(self.source, cursor, self.node.tip().height)

    def frame(self, subscription: Subscription, event: bytes, make: MakeFrame) -> bytes:
        """The finished frame of an event, shared by subscriptions of the same id and topic."""
        key = (subscription.id, subscription.topic, event)
        frame = self._frames.get(key)
        if frame is None:
            frame = make(subscription, event)
            if len(frame) <= FRAME_BYTES and len(self._frames) < FRAMES_COUNT:
                self._frames[key] = frame
        return frame

    # ---- the node's news -------------------------------------------------------------------------

    def _on_event(self, event: FeedEvent) -> None:
        match event:
            case BlockStands():
                self._on_block(event)
            case TransactionsWait():
                self._arrivals.note(event.raws)
                self._tell_soon()
            case TransactionLeft():
                self._arrivals.note([event])
                self._tell_soon()
            case RoundMoved():
                self._on_state(RoundState())
            case PeersChanged():
                self._on_state(PeersState())

    def _on_block(self, event: BlockStands) -> None:
        if event.scored_epoch is not None:
            self.source.last_scored_height = event.height
        if event.set_changed:
            self.source.last_set_height = event.height
        self._frames.clear()
        self._due.update(dict.fromkeys(self._logs))
        self._tell_soon()
        if self._states:
            for address in event.changed:
                self._on_state(AccountState(address))

    def _on_state(self, state: State) -> None:
        subscriptions = self._states.get(state)
        if subscriptions is None:
            return
        self._encoded_states.pop(state, None)
        for subscription in subscriptions:
            subscription.touched = True
        self._due_states.update(subscriptions)
        if self._pausing is None:
            loop = asyncio.get_running_loop()
            when_s = max(loop.time(), self._states_told_s + STATE_PAUSE_S)
            self._pausing = loop.call_at(when_s, self._tell_states)

    # ---- telling ---------------------------------------------------------------------------------

    def _tell_states(self) -> None:
        self._pausing = None
        self._states_told_s = asyncio.get_running_loop().time()
        self._due.update(dict.fromkeys(self._due_states))
        self._due_states.clear()
        self._tell_soon()

    def _tell_soon(self) -> None:
        if self._next_slice is None and (self._due or self._arrivals):
            loop = asyncio.get_running_loop()
            wait_s = self.telling.wait_s(loop.time())
            self._next_slice = loop.call_later(wait_s, self._tell)

    def _tell(self) -> None:
        """One slice: news of the mempool goes to its followers, then who is due is told."""
        self._next_slice = None
        loop = asyncio.get_running_loop()
        began_s = now_s = loop.time()
        while now_s - began_s < SLICE_S and (self._due or self._arrivals):
            if self._arrivals:
                self._due.update(dict.fromkeys(self._arrivals.tell_next()))
            else:
                subscription, _ = self._due.popitem(last=False)
                subscription.tell()
            now_s = loop.time()
        self.telling.spend(now_s, now_s - began_s)
        self._tell_soon()

"""What all subscriptions of a node share.

The hub listens to the node's feed. While the node calls it, it only notes whom the news concerns:
for a block everybody who follows a log, and whoever follows an account that the block changed,
found by its address. They are told afterwards, some in each turn of the event loop, so that any
number of subscribers never holds up a vote by more than a slice. States that change quickly (the
round, five times a block) are told at most every STATE_PAUSE_S.

Replays read blocks that nobody has in memory. They take turns, one portion at a time for the whole
node, and after each portion rest REPLAY_REST times as long as it took: however many clients replay,
they get at most a quarter of a core.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable

from ledger.transactions import SignedTransaction, decode_transaction
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
from rpc.ports import NodeApi, Pending
from rpc.subscriptions.encodings import Encodings
from rpc.subscriptions.logs import (
    Log,
    Place,
    Portion,
    Source,
    dropped_event,
    waiting_event,
)
from rpc.subscriptions.states import AccountState, PeersState, RoundState, State
from rpc.subscriptions.subscription import LogSubscription, StateSubscription, Subscription

# Connections that carry subscriptions, over WebSocket and server-sent events. Each holds at most
# some 300 KiB: unread requests, unsent frames, a task.
SESSIONS_COUNT = 512

# Of those, from one network (a /24 or /48); the operator's own machine is not counted.
SESSIONS_PER_NETWORK_COUNT = 32

REPLAY_REST = 3

# Told in one turn of the event loop, some 10 µs each when their sockets take it.
TOLD_PER_TURN_COUNT = 64

# Between two events of a state: what a person can follow.
STATE_PAUSE_S = 0.05

# Finished frames of one block, by subscription id and topic. Most connections have one subscription
# with the id 1, so one frame serves them all.
FRAMES_COUNT = 64


MakeFrame = Callable[[Subscription, bytes], bytes]


class Hub:
    """See the module. Made once, by node/."""

    def __init__(self, node: NodeApi, feed: Feed) -> None:
        self.node = node
        self.source = Source(node, Encodings())
        self._logs: dict[LogSubscription, None] = {}
        self._pending: dict[LogSubscription, None] = {}
        self._states: defaultdict[State, dict[StateSubscription, None]] = defaultdict(dict)
        self._encoded_states: dict[State, bytes] = {}
        self._turn = asyncio.Lock()
        self._sessions: dict[str, int] = {}
        # Who is to be told, first noted first; and whose state changed since it was last told.
        self._due: OrderedDict[Subscription, None] = OrderedDict()
        self._due_states: dict[StateSubscription, None] = {}
        self._telling: asyncio.Handle | None = None
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

    def add(self, subscription: Subscription) -> None:
        """Wake it from now on."""
        if isinstance(subscription, StateSubscription):
            self._states[subscription.state][subscription] = None
            # The first event shall be the present, not what it was at the last change.
            self._encoded_states.pop(subscription.state, None)
            return
        self._logs[subscription] = None
        if subscription.waiting is not None:
            self._pending[subscription] = None

    def drop(self, subscription: Subscription) -> None:
        """Forget it."""
        self._due.pop(subscription, None)
        if isinstance(subscription, StateSubscription):
            self._due_states.pop(subscription, None)
            state = subscription.state
            self._states[state].pop(subscription, None)
            if not self._states[state]:
                del self._states[state]
                self._encoded_states.pop(state, None)
            return
        self._logs.pop(subscription, None)
        self._pending.pop(subscription, None)

    def state_event(self, state: State) -> bytes:
        """The present of a subscribed state."""
        encoded = self._encoded_states.get(state)
        if encoded is None:
            encoded = self._encoded_states[state] = state.event(self.node)
        return encoded

    def read(self, log: Log, cursor: Place) -> Portion:
        """The next portion of a log that is followed live. Raises BlocksGone."""
        return log.read(self.source, cursor, self.node.tip().height)

    def frame(self, subscription: Subscription, event: bytes, make: MakeFrame) -> bytes:
        """The finished frame of an event, shared by subscriptions of the same id and topic."""
        key = (subscription.id, subscription.topic, event)
        frame = self._frames.get(key)
        if frame is None:
            frame = make(subscription, event)
            if len(self._frames) < FRAMES_COUNT:
                self._frames[key] = frame
        return frame

    async def replay(self, log: Log, cursor: Place) -> Portion:
        """The next portion of a log that is replayed, in turn. Raises BlocksGone."""
        loop = asyncio.get_running_loop()
        async with self._turn:
            began_s = loop.time()
            portion = self.read(log, cursor)
            await asyncio.sleep((loop.time() - began_s) * REPLAY_REST)
        return portion

    # ---- the node's news -------------------------------------------------------------------------

    def _on_event(self, event: FeedEvent) -> None:
        match event:
            case BlockStands():
                self._on_block(event)
            case TransactionsWait():
                self._on_waiting(event.raws)
            case TransactionLeft():
                self._on_dropped(event)
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

    def _on_waiting(self, raws: Iterable[bytes]) -> None:
        if not self._pending:
            return
        genesis_hash = self.node.chain.genesis_hash
        for raw in raws:
            signed = decode_transaction(raw, genesis_hash)
            self._tell_waiting(signed)

    def _tell_waiting(self, signed: SignedTransaction) -> None:
        if not isinstance(self.node.transaction_state(signed.transaction_id), Pending):
            # Dropped before anybody was told that it waits.
            return
        encoded: bytes | None = None
        for subscription in self._pending:
            if subscription.concerns(signed):
                encoded = waiting_event(signed) if encoded is None else encoded
                subscription.put(signed.transaction_id, encoded)
                subscription.tell()

    def _on_dropped(self, event: TransactionLeft) -> None:
        encoded: bytes | None = None
        for subscription in self._pending:
            if subscription.has_told(event.transaction_id):
                if encoded is None:
                    encoded = dropped_event(event.transaction_id, event.reason)
                subscription.put(event.transaction_id, encoded)
                subscription.tell()

    # ---- telling ---------------------------------------------------------------------------------

    def _tell_states(self) -> None:
        self._pausing = None
        self._states_told_s = asyncio.get_running_loop().time()
        self._due.update(dict.fromkeys(self._due_states))
        self._due_states.clear()
        self._tell_soon()

    def _tell_soon(self) -> None:
        if self._telling is None and self._due:
            self._telling = asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._telling = None
        for _ in range(min(TOLD_PER_TURN_COUNT, len(self._due))):
            subscription, _ = self._due.popitem(last=False)
            subscription.tell()
        self._tell_soon()

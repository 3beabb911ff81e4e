"""One subscription: a cursor into a log, or a bit for a state."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

from ledger.transactions import SignedTransaction
from rpc.subscriptions.logs import Log, Place, Transactions
from rpc.subscriptions.states import State

# A log that had caught up and falls this far behind the tip is ended with `lagged`: the node reads
# no old blocks for a client that does not read. At a block a second, four minutes.
LAG_BLOCKS = 256

# Waiting and dropped transactions kept for a client: some 500 bytes each.
WAITING_COUNT = 1_000

# Ids of waiting transactions it was told of, for which it is told when they are dropped.
TOLD_COUNT = 10_000


class _Base:
    """What both kinds have."""

    __slots__ = ("_tell", "id")

    def __init__(self, id_: int, tell: Callable[[Any], None]) -> None:
        self.id = id_
        self._tell = tell

    def tell(self) -> None:
        """There may be something new to send."""
        self._tell(self)


class StateSubscription(_Base):
    """Follows a state. It begins touched, since the first event is the present."""

    __slots__ = ("state", "touched")

    def __init__(self, id_: int, tell: Callable[[Any], None], state: State) -> None:
        super().__init__(id_, tell)
        self.state = state
        self.touched = True

    @property
    def topic(self) -> str:
        """The topic's name."""
        return self.state.topic


class LogSubscription(_Base):
    """Follows a log from `cursor`. With `waiting`, transactions outside of the chain as well."""

    __slots__ = ("_told", "caught_up", "cursor", "log", "overflowed", "waiting")

    def __init__(
        self, id_: int, tell: Callable[[Any], None], log: Log, cursor: Place, *, pending: bool
    ) -> None:
        super().__init__(id_, tell)
        self.log = log
        self.cursor = cursor
        self.caught_up = False
        self.overflowed = False
        self.waiting: deque[bytes] | None = deque() if pending else None
        self._told: OrderedDict[bytes, None] = OrderedDict()

    @property
    def topic(self) -> str:
        """The topic's name."""
        return self.log.topic

    def lags(self, tip: int) -> bool:
        """Whether the client has fallen too far behind what is live."""
        return self.overflowed or (self.caught_up and tip - self.cursor[0] >= LAG_BLOCKS)

    def concerns(self, signed: SignedTransaction) -> bool:
        """Whether a waiting transaction passes the filter."""
        return isinstance(self.log, Transactions) and self.log.matches(signed)

    def has_told(self, transaction_id: bytes) -> bool:
        """Whether the client was told that this transaction waits."""
        return transaction_id in self._told

    def take_waiting(self, most: int) -> list[bytes]:
        """The oldest events from outside of the chain, which are then no longer kept."""
        waiting = self.waiting
        if not waiting:
            return []
        return [waiting.popleft() for _ in range(min(most, len(waiting)))]

    def put(self, transaction_id: bytes, event: bytes) -> None:
        """Keep an event from outside of the chain for the client."""
        assert self.waiting is not None
        self._told[transaction_id] = None
        if len(self._told) > TOLD_COUNT:
            self._told.popitem(last=False)
        if len(self.waiting) >= WAITING_COUNT:
            self.overflowed = True
        else:
            self.waiting.append(event)


Subscription = StateSubscription | LogSubscription

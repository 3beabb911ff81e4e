"""News of the mempool for those who follow `tx` with `pending`.

The node hands in thousands of transactions a second and must not wait: here they are only noted.
They are decoded, matched and told later, as the budget for telling allows. When more wait than
NOTED_COUNT, nobody can say any more what was missed: everybody who follows is told `lagged`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from ledger.transactions import decode_transaction
from rpc.feed import TransactionLeft
from rpc.ports import NodeApi, Pending
from rpc.subscriptions.logs import dropped_event, waiting_event
from rpc.subscriptions.subscription import LogSubscription

# Some two seconds of a saturated network.
NOTED_COUNT = 10_000


class Arrivals:
    """What entered and left the mempool, in order, and who wants to know."""

    def __init__(self, node: NodeApi) -> None:
        self._node = node
        self._noted: deque[bytes | TransactionLeft] = deque()
        self.followers: dict[LogSubscription, None] = {}

    def __len__(self) -> int:
        return len(self._noted)

    def note(self, news: Sequence[bytes | TransactionLeft]) -> None:
        """Wire bytes that entered, or a transaction that was dropped."""
        if not self.followers:
            self._noted.clear()
        elif len(self._noted) + len(news) > NOTED_COUNT:
            self._noted.clear()
            for each in self.followers:
                each.overflowed = True
        else:
            self._noted.extend(news)

    def tell_next(self) -> Iterable[LogSubscription]:
        """Give the oldest news to its followers; who has something to send now."""
        news = self._noted.popleft()
        if isinstance(news, TransactionLeft):
            return self._tell_dropped(news)
        return self._tell_waiting(news)

    def _tell_waiting(self, raw: bytes) -> list[LogSubscription]:
        signed = decode_transaction(raw, self._node.chain.genesis_hash)
        if not isinstance(self._node.transaction_state(signed.transaction_id), Pending):
            # Committed, which the log tells, or dropped before anybody was told that it waits.
            return []
        concerned = [each for each in self.followers if each.concerns(signed)]
        if concerned:
            event = waiting_event(signed)
            for each in concerned:
                each.put(signed.transaction_id, event)
        return concerned

    def _tell_dropped(self, dropped: TransactionLeft) -> list[LogSubscription]:
        concerned = [each for each in self.followers if each.has_told(dropped.transaction_id)]
        if concerned:
            event = dropped_event(dropped.transaction_id, dropped.reason)
            for each in concerned:
                each.put(dropped.transaction_id, event)
        return concerned

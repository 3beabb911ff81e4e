"""The context of one body: who asks, the node that answers, and what the caller may still spend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rpc.errors import LimitExceeded
from rpc.forms import BlockCache
from rpc.limits import RateLimiter, network_of
from rpc.ports import AdminApi, NodeApi
from rpc.subscriptions.session import Session

# Calls that wait for a commit, over all clients. Half of what the server holds in flight, so that
# waiting callers cannot keep out those who only ask.
WAITING_COUNT = 1_024

# The operator's own machine is not metered: whoever is on it can do worse than ask.
UNMETERED_NETWORKS = frozenset({"127.0.0.0/24", "::/48", ""})


class Desk:
    """What all calls of one server share. Made once, by node/."""

    __slots__ = ("admin", "blocks", "limiter", "monotonic_ms", "node", "unmetered", "waiting")

    def __init__(
        self,
        node: NodeApi,
        *,
        limiter: RateLimiter,
        monotonic_ms: Callable[[], int],
        unmetered: frozenset[str] = UNMETERED_NETWORKS,
        admin: AdminApi | None = None,
    ) -> None:
        self.node = node
        self.admin = admin
        self.limiter = limiter
        self.monotonic_ms = monotonic_ms
        self.unmetered = unmetered
        self.waiting = 0
        self.blocks = BlockCache()

    def context(self, client: str, admin: bool) -> Call:  # noqa: FBT001 - the server's signature
        """The context of one body from `client` (an IP address, or "" for the unix socket)."""
        return Call(self, network_of(client), admin=admin)


class Call:
    """Handed to every handler as its first argument."""

    __slots__ = ("admin", "desk", "network", "node", "session")

    def __init__(self, desk: Desk, network: str, *, admin: bool) -> None:
        self.desk = desk
        self.node = desk.node
        self.network = network
        self.admin = admin
        # The connection's subscriptions, where there is a connection that can carry events.
        self.session: Session | None = None

    @property
    def metered(self) -> bool:
        """Whether this caller pays with tokens."""
        return not self.admin and self.network not in self.desk.unmetered

    def charge(self, cost: int) -> None:
        """Takes tokens from the caller's network. Raises LimitExceeded (RATE_LIMITED)."""
        desk = self.desk
        if self.metered:
            desk.limiter.charge(self.network, cost, desk.monotonic_ms())

    @contextmanager
    def waiting_place(self) -> Iterator[None]:
        """A place among the calls that wait. Raises LimitExceeded (TOO_MANY_WAITING)."""
        desk = self.desk
        if desk.waiting >= WAITING_COUNT:
            raise LimitExceeded(
                "too many calls wait for a commit; submit without waiting and ask later",
                reason="TOO_MANY_WAITING",
                retryable=True,
                facts={"retryAfterMs": 1_000},
            )
        desk.waiting += 1
        try:
            yield
        finally:
            desk.waiting -= 1

"""Block sync: how a node that was away comes back, block by block.

Rules
- A height counts as reached elsewhere only as a *hint*: peers state heights freely. A hint starts a
  request; only blocks with a valid certificate under the set of their height are applied. A peer
  that claims a height and does not deliver is set aside, so a liar costs one request per
  PEER_RETRY_MS.
- One request is in flight at a time, to one peer; it has a deadline. Blocks of an answer are
applied
  one after the other, because the certificate of height h+1 is checked under the set which block h
  names.
- Everything is bounded: hints by the number of peers, blocks held by one answer's limits.

States: idle (no hint above our height) → asked (request in flight) → applying (blocks left of the
last answer) → idle or asked. The replica drives it: `next_step` says what to do, in one place.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

# An honest peer answers within this time or is overloaded; then another one is asked.
REQUEST_DEADLINE_MS = 5_000

# How long a peer that did not deliver is not asked again; doubled at each further failure.
PEER_RETRY_MS = 1_000
PEER_RETRY_MAX_MS = 60_000

# A node that is one block behind is usually about to commit that block itself; only when it has not
# moved for this long does it ask for the bytes.
ONE_BEHIND_GRACE_MS = 1_000

# What one answer may carry: a few full blocks, so that memory stays small and progress visible.
ANSWER_MAX_BLOCKS = 128
ANSWER_MAX_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class CertifiedBlock:
    """Encoded block and encoded certificate of one height."""

    block: bytes
    certificate: bytes


@dataclass(frozen=True, slots=True)
class Ask:
    """Send this request; `deadline_ms` is wall time."""

    node_key: bytes
    request_id: int
    from_height: int


class BlockSync:
    """See the module. Heights are block heights, times wall ms."""

    def __init__(self) -> None:
        self._claims: dict[bytes, int] = {}
        self._set_aside_until: dict[bytes, int] = {}
        self._failures: dict[bytes, int] = {}
        self._height = -1
        self._height_since_ms = 0
        self._request: Ask | None = None
        self._deadline_ms = 0
        self._next_request_id = 1
        self._queue: deque[CertifiedBlock] = deque()
        self._source: bytes | None = None

    @property
    def target_height(self) -> int:
        """The highest height any peer claims, 0 for none."""
        return max(self._claims.values(), default=0)

    @property
    def is_applying(self) -> bool:
        """Whether blocks of an answer wait to be applied."""
        return bool(self._queue)

    @property
    def deadline_ms(self) -> int | None:
        """When the request in flight gives up, None for none."""
        return None if self._request is None else self._deadline_ms

    def claim(self, node_key: bytes, height: int) -> None:
        """A peer says it has blocks up to `height`."""
        if height > self._claims.get(node_key, 0):
            self._claims[node_key] = height

    def forget(self, node_key: bytes) -> None:
        """The peer is gone; its claims with it."""
        self._claims.pop(node_key, None)
        self._set_aside_until.pop(node_key, None)
        self._failures.pop(node_key, None)
        if self._request is not None and self._request.node_key == node_key:
            self._request = None

    def next_request(self, own_height: int, now_ms: int) -> Ask | None:
        """The request to send now, if any. Peers are asked in order of claim, then key."""
        if self._queue:
            return None
        if self._request is not None:
            if now_ms < self._deadline_ms:
                return None
            self.fail(self._request.node_key, now_ms)
        if own_height != self._height:
            self._height, self._height_since_ms = own_height, now_ms
        may_commit_itself = now_ms - self._height_since_ms < ONE_BEHIND_GRACE_MS
        best: tuple[int, bytes] | None = None
        for node_key, height in self._claims.items():
            if height <= own_height or self._set_aside_until.get(node_key, 0) > now_ms:
                continue
            if best is None or (height, node_key) > best:
                best = (height, node_key)
        if best is None or (may_commit_itself and best[0] == own_height + 1):
            return None
        self._request = Ask(best[1], self._next_request_id, own_height + 1)
        self._next_request_id += 1
        self._deadline_ms = now_ms + REQUEST_DEADLINE_MS
        return self._request

    def answer(self, request_id: int, blocks: list[CertifiedBlock]) -> bool:
        """Take the blocks of an answer. False when it is not the one awaited, or too large."""
        request = self._request
        if request is None or request.request_id != request_id:
            return False
        self._request = None
        size_bytes = sum(len(each.block) for each in blocks)
        # One block alone may exceed the byte limit: it is bounded by the block's own limit.
        if not blocks or len(blocks) > ANSWER_MAX_BLOCKS:
            return False
        if len(blocks) > 1 and size_bytes - len(blocks[-1].block) > ANSWER_MAX_BYTES:
            return False
        self._source = request.node_key
        self._queue.extend(blocks)
        return True

    def next_block(self) -> tuple[CertifiedBlock, bytes] | None:
        """The next block to verify and apply, with the key of the peer it came from."""
        if not self._queue or self._source is None:
            return None
        return self._queue.popleft(), self._source

    def delivered(self, node_key: bytes) -> None:
        """A block of this peer was verified: earlier failures are forgiven."""
        self._failures.pop(node_key, None)

    def fail(self, node_key: bytes, now_ms: int) -> None:
        """The peer did not deliver: drop what it sent, ask it again later."""
        self._queue.clear()
        failures = min(self._failures.get(node_key, 0) + 1, 16)
        self._failures[node_key] = failures
        wait_ms = min(PEER_RETRY_MS << (failures - 1), PEER_RETRY_MAX_MS)
        self._set_aside_until[node_key] = now_ms + wait_ms
        if self._request is not None and self._request.node_key == node_key:
            self._request = None

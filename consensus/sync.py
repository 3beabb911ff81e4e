"""Block sync: how a node that was away comes back, block by block.

Rules
- A height counts as reached elsewhere only as a *hint*: peers state heights freely. A hint starts
  a request; only blocks with a valid certificate under the set of their height are applied.
- One request is in flight at a time, to one peer; it has a deadline. Blocks of an answer are
  applied one after the other, because the certificate of height h+1 is checked under the set which
  block h names.
- Who is asked never depends on how high a claim is, or the boldest liar would be asked first and
  for ever. Validators come before others, of which there can be any number; then those with fewer
  failures, then whoever was not asked for longest. So a peer that stalls, or answers just in time
  with next to nothing, costs one turn of many.
- A peer whose answer brings us no block further is set aside, so a liar costs one request per
  PEER_RETRY_MS, and after each further failure one in twice that time.
- What a peer did is remembered when it goes, or it would begin anew by coming again.
- Everything is bounded: hints by the number of peers, blocks held by one answer's limits.

States: idle (no hint above our height) → asked (request in flight) → applying (blocks left of the
last answer) → idle or asked. The replica drives it: `next_block` and `next_request` say what to do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container
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


# Peers whose conduct is remembered; the one seen first is forgotten first. p2p connects 256.
PEERS_REMEMBERED_COUNT = 1_024


@dataclass(frozen=True, slots=True)
class CertifiedBlock:
    """Encoded block and encoded certificate of one height."""

    block: bytes
    certificate: bytes


@dataclass(frozen=True, slots=True)
class Ask:
    """Send this request."""

    node_key: bytes
    request_id: int
    from_height: int


@dataclass(slots=True)
class _Conduct:
    """How a peer has answered so far. `asked` is the id of the last request it got."""

    asked: int = 0
    failures: int = 0
    set_aside_until_ms: int = 0


class BlockSync:
    """See the module. Heights are block heights, times wall ms."""

    def __init__(self) -> None:
        self._claims: dict[bytes, int] = {}
        self._conduct: dict[bytes, _Conduct] = {}
        self._height = -1
        self._height_since_ms = 0
        self._request: Ask | None = None
        self._deadline_ms = 0
        self._next_request_id = 1
        self._queue: deque[CertifiedBlock] = deque()
        self._source: bytes | None = None
        self._source_delivered = False

    @property
    def target_height(self) -> int:
        """The highest height any peer claims, 0 for none."""
        return max(self._claims.values(), default=0)

    def claimed_by(self, node_key: bytes) -> int:
        """The height that a peer claims, 0 for none."""
        return self._claims.get(node_key, 0)

    def claim(self, node_key: bytes, height: int) -> None:
        """A peer says it has blocks up to `height`."""
        if height > self._claims.get(node_key, 0):
            self._claims[node_key] = height

    def forget(self, node_key: bytes) -> None:
        """The peer is gone; its claims with it."""
        self._claims.pop(node_key, None)
        if self._request is not None and self._request.node_key == node_key:
            self._request = None

    def next_request(
        self, own_height: int, now_ms: int, validators: Container[bytes] = ()
    ) -> Ask | None:
        """The request to send now, if any. `validators`: node keys of those who come first."""
        if self._queue:
            return None
        if self._source is not None:
            source, self._source = self._source, None
            if not self._source_delivered:
                self.fail(source, now_ms)
        if self._request is not None:
            if now_ms < self._deadline_ms:
                return None
            self.fail(self._request.node_key, now_ms)
        if own_height != self._height:
            self._height, self._height_since_ms = own_height, now_ms
        least = own_height + 1
        if now_ms - self._height_since_ms < ONE_BEHIND_GRACE_MS:
            least += 1
        if self.target_height < least:
            return None
        candidates = []
        for node_key, height in self._claims.items():
            conduct = self._conduct_of(node_key)
            if height > own_height and conduct.set_aside_until_ms <= now_ms:
                rank = (node_key not in validators, conduct.failures, conduct.asked)
                candidates.append((rank, node_key))
        if not candidates:
            return None
        _, node_key = min(candidates)
        self._request = Ask(node_key, self._next_request_id, own_height + 1)
        self._conduct_of(node_key).asked = self._next_request_id
        self._next_request_id += 1
        self._deadline_ms = now_ms + REQUEST_DEADLINE_MS
        return self._request

    def answer(self, request_id: int, blocks: list[CertifiedBlock]) -> bool:
        """Take the blocks of an answer. False when the request awaited got nothing of use.

        An answer that is not awaited any more is passed over: its peer has paid for being late.
        """
        request = self._request
        if request is None or request.request_id != request_id:
            return True
        self._request = None
        size_bytes = sum(len(each.block) for each in blocks)
        # One block alone may exceed the byte limit: it is bounded by the block's own limit.
        if not blocks or len(blocks) > ANSWER_MAX_BLOCKS:
            return False
        if len(blocks) > 1 and size_bytes - len(blocks[-1].block) > ANSWER_MAX_BYTES:
            return False
        self._source = request.node_key
        self._source_delivered = False
        self._queue.extend(blocks)
        return True

    def next_block(self) -> tuple[CertifiedBlock, bytes] | None:
        """The next block to verify and apply, with the key of the peer it came from."""
        if not self._queue or self._source is None:
            return None
        return self._queue.popleft(), self._source

    def delivered(self, node_key: bytes) -> None:
        """A block of this peer was verified: earlier failures are forgiven."""
        self._conduct_of(node_key).failures = 0
        if node_key == self._source:
            self._source_delivered = True

    def fail(self, node_key: bytes, now_ms: int) -> None:
        """The peer did not deliver: drop what it sent, ask it again later."""
        if node_key == self._source:
            self._queue.clear()
            self._source = None
        conduct = self._conduct_of(node_key)
        conduct.failures = min(conduct.failures + 1, 16)
        wait_ms = min(PEER_RETRY_MS << (conduct.failures - 1), PEER_RETRY_MAX_MS)
        conduct.set_aside_until_ms = now_ms + wait_ms
        if self._request is not None and self._request.node_key == node_key:
            self._request = None

    def _conduct_of(self, node_key: bytes) -> _Conduct:
        conduct = self._conduct.get(node_key)
        if conduct is None:
            conduct = self._conduct[node_key] = _Conduct()
            if len(self._conduct) > PEERS_REMEMBERED_COUNT:
                del self._conduct[next(iter(self._conduct))]
        return conduct

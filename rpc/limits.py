"""Token buckets on method cost, one per client network (IPv4 /24, IPv6 /48).

A caller's network starts with a full bucket and gains `rate_per_s` tokens a second. Costs are those
of the method registry. Time is handed in as integer milliseconds; nothing here reads a clock.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from functools import lru_cache

from rpc.errors import rate_limited

# Networks remembered: about 200 bytes each. The least recently seen is forgotten first, which hands
# it a full bucket again; an attacker who holds that many /24 networks is not stopped by buckets.
NETWORKS_COUNT = 16_384

_IPV4_PREFIX_BITS = 24
_IPV6_PREFIX_BITS = 48

# Tokens are kept in thousandths, so that one millisecond at 1 token a second is one unit.
_UNIT = 1_000


@lru_cache(maxsize=NETWORKS_COUNT)
def network_of(address: str) -> str:
    """The network that shares a bucket with `address`; the text itself where it is no IP."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is None:
            return str(ipaddress.IPv6Network((parsed, _IPV6_PREFIX_BITS), strict=False))
        parsed = parsed.ipv4_mapped
    return str(ipaddress.IPv4Network((parsed, _IPV4_PREFIX_BITS), strict=False))


class RateLimiter:
    """All buckets of one server.

    `rate_per_s` tokens flow in each second, `burst` is the size of a bucket. The defaults let one
    network make 200 cheap reads a second for ever and 2,000 at once.
    """

    __slots__ = ("_buckets", "_burst", "_rate")

    def __init__(self, *, rate_per_s: int = 200, burst: int = 2_000) -> None:
        assert rate_per_s > 0
        assert burst > 0
        self._rate = rate_per_s
        self._burst = burst * _UNIT
        # network -> (tokens · 1000, time of that figure in ms); oldest use first.
        self._buckets: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def charge(self, network: str, cost: int, now_ms: int) -> None:
        """Takes `cost` tokens. Raises LimitExceeded (RATE_LIMITED, retryAfterMs) and takes none."""
        tokens, then_ms = self._buckets.get(network, (self._burst, now_ms))
        tokens = min(self._burst, tokens + max(0, now_ms - then_ms) * self._rate)
        price = cost * _UNIT
        # A call dearer than a whole bucket is let through when the bucket is full and leaves a
        # debt; otherwise it could never be made.
        enough = tokens >= min(price, self._burst)
        self._buckets[network] = (tokens - price if enough else tokens, now_ms)
        self._buckets.move_to_end(network)
        if len(self._buckets) > NETWORKS_COUNT:
            self._buckets.popitem(last=False)
        if not enough:
            missing = min(price, self._burst) - tokens
            raise rate_limited(-(-missing // self._rate))

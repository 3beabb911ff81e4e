"""Fault points and back-off of peers: a leaky bucket per identity.

Points decay with time; a peer past the limit is refused for a while, twice as long at each
repetition. The table is bounded: the identity charged longest ago is forgotten first.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from p2p.limits import Limits


@dataclass(slots=True)
class _Record:
    points: float = 0.0
    charged_s: float = 0.0
    bans_count: int = 0
    banned_until_s: float = 0.0


class Offenders:
    """All times are monotonic seconds."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def charge(self, peer_id: str, points: float, now_s: float) -> tuple[float, float]:
        """(points now, seconds of the ban this brought; 0 when below the limit)."""
        record = self._records.setdefault(peer_id, _Record())
        self._records.move_to_end(peer_id)
        if len(self._records) > self._limits.offenders_max_count:
            self._records.popitem(last=False)
        decayed = (now_s - record.charged_s) * self._limits.fault_decay_per_s
        record.points = max(0.0, record.points - decayed) + points
        record.charged_s = now_s
        total = record.points
        if total < self._limits.fault_limit_points:
            return total, 0.0
        seconds = min(self._limits.ban_first_s * 2**record.bans_count, self._limits.ban_cap_s)
        # The count stops where the cap does, so the power stays small.
        if seconds < self._limits.ban_cap_s:
            record.bans_count += 1
        record.points = 0.0
        record.banned_until_s = now_s + seconds
        return total, seconds

    def banned_for_s(self, peer_id: str, now_s: float) -> float:
        """Seconds until the peer is welcome again; 0 when it is now."""
        record = self._records.get(peer_id)
        return 0.0 if record is None else max(0.0, record.banned_until_s - now_s)

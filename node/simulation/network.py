"""A virtual network: authenticated links that lose, delay, reorder, repeat and block.

A packet goes from one machine to another. Latency is drawn per packet, so packets overtake each
other. Faults lie on directed links and add up: a link is blocked while any fault blocks it, loss
and duplication are the largest in force, delay the sum. What travelled lately is remembered, and a
replay fault delivers some of it again, also after restarts and at later heights.

Reachability of peers (the PeerUp and PeerDown of a real link) is the machine's business; the
network only says whether a pair can talk.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from node.simulation.schedule import MS, Schedule

LATENCY_MIN_US = 1 * MS
LATENCY_MAX_US = 12 * MS

# How many packets a replay can reach back to: some ten heights of a small network.
REMEMBERED_PACKETS = 2_000

PPM = 1_000_000


@dataclass(frozen=True, slots=True)
class Packet:
    """`kind` names what `body` is; `sender` and `receiver` are machine numbers."""

    sender: int
    receiver: int
    kind: str
    body: Any


@dataclass(slots=True)
class Weather:
    """A disturbance of the directed links for which `concerns(sender, receiver)` holds."""

    concerns: Callable[[int, int], bool]
    blocks: bool = False
    loss_ppm: int = 0
    duplicate_ppm: int = 0
    delay_ms: int = 0


class Network:
    """See the module.

    `latency_ms` is added to every packet; `deliver` hands a packet that arrived to its machine.
    """

    def __init__(
        self,
        schedule: Schedule,
        random_stream: random.Random,
        deliver: Callable[[Packet], None],
        latency_ms: int = 0,
    ) -> None:
        self.weather: list[Weather] = []
        self.sent = 0
        self._schedule = schedule
        self._random = random_stream
        self._deliver = deliver
        self._latency_us = latency_ms * MS
        self._remembered: deque[Packet] = deque(maxlen=REMEMBERED_PACKETS)

    def is_blocked(self, sender: int, receiver: int) -> bool:
        """Whether nothing goes from `sender` to `receiver` now."""
        return any(each.blocks and each.concerns(sender, receiver) for each in self.weather)

    def send(self, packet: Packet) -> None:
        """Let a packet travel, or get lost."""
        self.sent += 1
        self._remembered.append(packet)
        draw = self._random
        loss_ppm = duplicate_ppm = delay_ms = 0
        for each in self.weather:
            if each.concerns(packet.sender, packet.receiver):
                if each.blocks:
                    return
                loss_ppm = max(loss_ppm, each.loss_ppm)
                duplicate_ppm = max(duplicate_ppm, each.duplicate_ppm)
                delay_ms += each.delay_ms
        if loss_ppm and draw.randrange(PPM) < loss_ppm:
            return
        copies = 2 if duplicate_ppm and draw.randrange(PPM) < duplicate_ppm else 1
        for _ in range(copies):
            latency_us = self._latency_us + draw.randint(LATENCY_MIN_US, LATENCY_MAX_US)
            if delay_ms:
                latency_us += draw.randint(0, delay_ms * MS)
            self._schedule.after(latency_us, lambda: self._arrive(packet))

    def replay(self, count: int, random_stream: random.Random) -> None:
        """Deliver `count` remembered packets once more, over the next second."""
        if not self._remembered:
            return
        for _ in range(count):
            packet = self._remembered[random_stream.randrange(len(self._remembered))]
            delay_us = random_stream.randint(0, 1_000 * MS)
            self._schedule.after(delay_us, lambda packet=packet: self._arrive(packet))  # type: ignore[misc]

    def _arrive(self, packet: Packet) -> None:
        # A partition also cuts off what was on its way.
        if not self.is_blocked(packet.sender, packet.receiver):
            self._deliver(packet)

"""Which link of a pair of nodes stays when both dial: exactly one per connection class.

Both nodes of a pair may dial both classes at any time. The node with the lower PeerID (compared as
text) is the arbiter, and it decides while it judges the other's Hello, before the link is used:

    I am lower and have said Hello on a dial of mine      refuse theirs: mine wins
    I am lower, and a link that I dialled stands           refuse theirs, unless their process is
                                                           another than the one on that link; ping
                                                           mine, for they seem to have lost it
    otherwise                                              accept theirs, it replaces what stood

and nobody says Hello on a dial of its own while a link of that class stands or is being accepted.
So a simultaneous dial ends with the link that the lower one dialled, no link is replaced while in
use on both sides, and a node that restarted or lost its link gets a new one.

The module is pure: links are opaque to it but for who dialled them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from p2p.status import ConnectionClass, Refusal

REFUSED_DUPLICATE = "duplicate"


class _Link(Protocol):
    dialed: bool

    def suspect(self) -> None:
        """Somebody doubts that this link lives."""


L = TypeVar("L", bound=_Link)

SlotKey = tuple[str, ConnectionClass]


@dataclass(slots=True)
class _Slot(Generic[L]):
    standing: L | None = None
    instance: bytes = b""
    accepting: L | None = None
    greeting: L | None = None

    @property
    def empty(self) -> bool:
        return self.standing is None and self.accepting is None and self.greeting is None


class Settlement(Generic[L]):
    """The slots of all peers. At most three links a slot are known at a time."""

    def __init__(self, own_peer_id: str) -> None:
        self._own_peer_id = own_peer_id
        self._slots: dict[SlotKey, _Slot[L]] = {}

    def standing(self, key: SlotKey) -> L | None:
        """The link of the slot that both sides accepted."""
        slot = self._slots.get(key)
        return None if slot is None else slot.standing

    def try_greet(self, key: SlotKey, link: L) -> bool:
        """Whether we may say Hello on `link`, which we dialled."""
        slot = self._slots.setdefault(key, _Slot())
        if slot.standing is not None or slot.accepting is not None or slot.greeting is not None:
            self._forget_empty(key)
            return False
        slot.greeting = link
        return True

    def judge(self, key: SlotKey, link: L, instance: bytes) -> Refusal | None:
        """Judges the Hello of a peer's process `instance` on `link`, which the peer dialled."""
        slot = self._slots.setdefault(key, _Slot())
        if self._own_peer_id < key[0]:
            if slot.greeting is not None:
                return Refusal(REFUSED_DUPLICATE, "we are dialling you")
            standing = slot.standing
            if standing is not None and standing.dialed and slot.instance == instance:
                standing.suspect()
                return Refusal(REFUSED_DUPLICATE, "a link that we dialled stands")
        slot.accepting = link
        return None

    def accept(self, key: SlotKey, link: L, instance: bytes) -> L | None:
        """`link` stands; returns the link that it replaces, which must be closed."""
        slot = self._slots.setdefault(key, _Slot())
        replaced = slot.standing
        slot.standing = link
        slot.instance = instance
        if slot.accepting is link:
            slot.accepting = None
        if slot.greeting is link:
            slot.greeting = None
        return replaced if replaced is not link else None

    def forget(self, key: SlotKey, link: L) -> None:
        """`link` is gone or refused."""
        slot = self._slots.get(key)
        if slot is None:
            return
        if slot.standing is link:
            slot.standing = None
        if slot.accepting is link:
            slot.accepting = None
        if slot.greeting is link:
            slot.greeting = None
        self._forget_empty(key)

    def _forget_empty(self, key: SlotKey) -> None:
        if self._slots[key].empty:
            del self._slots[key]

"""One machine: a disk that survives and a process that does not.

The process hosts the production replica on virtual ports. Everything that reaches it goes through
`_enter`, which drops what was meant for an earlier life, keeps what arrives during a pause, and
turns a power loss (raised at any boundary, deep inside the replica's step) into the end of the
process. Nothing of a dead process is ever called again.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from consensus.engine import Engine, Proposal
from consensus.errors import JournalDamaged, WrongJournal
from consensus.first_vote import FirstVote
from consensus.journal import JournalTag, SigningForbidden
from consensus.replica import Replica
from consensus.sync import CertifiedBlock
from ledger.certificate import CommitCertificate
from ledger.trace import TraceEvent, Tracer
from node.simulation.application import SimulatedApplication
from node.simulation.disk import JournalDisk
from node.simulation.faults import Crash
from node.simulation.keys import KeyRing, SimulatedKey
from node.simulation.ledger import Genesis, Ledger, Store, StoredBlock
from node.simulation.network import Packet
from node.simulation.schedule import MS, SECOND, Action, Handle, Schedule
from node.simulation.setup import Setup

TICK_US = SECOND // 2
"""As consensus.driver: how often sync looks at its deadlines, here also at who can be reached."""

ANSWER_BLOCKS = 8
"""Blocks per answer to a peer that is behind; few, so that catching up takes several answers."""


class PowerLoss(BaseException):
    """Raised where an armed crash strikes."""


@dataclass(frozen=True)
class Parts:
    """The production classes under test. A mutant is a `Parts` with one of them replaced."""

    engine: Callable[[Tracer], Engine]
    replica: type[Replica] = Replica


class Observer(Protocol):
    """What the invariants see (node.simulation.invariants)."""

    def signed(self, machine: Machine, digest: bytes) -> None:
        """A vote's digest was signed."""

    def apply_asked(
        self, machine: Machine, proposal: Proposal, certificate: CommitCertificate
    ) -> None:
        """The replica asks for a block to be written."""

    def apply_failed(self, machine: Machine, detail: str) -> None:
        """A decided block did not execute to its header."""

    def block_applied(self, machine: Machine, stored: StoredBlock) -> None:
        """A block became durable."""

    def charged(self, machine: Machine, node_key: bytes, kind: str) -> None:
        """A peer is accused before p2p."""

    def traced(self, machine: Machine, event: TraceEvent) -> None:
        """A trace event of production code."""

    def stepped(self, machine: Machine) -> None:
        """The process handled one thing."""


class Surroundings(Protocol):
    """The world, as a machine sees it."""

    schedule: Schedule
    genesis: Genesis
    ring: KeyRing
    parts: Parts
    journal_tag: JournalTag
    setup: Setup

    @property
    def observer(self) -> Observer:
        """Who watches."""

    def stream(self, label: str) -> random.Random:
        """A stream of chance."""

    def note(self, machine: int, kind: str, *facts: object) -> None:
        """Into the trace."""

    def trace(self, machine: int, event: TraceEvent) -> None:
        """Into the trace."""

    def transmit(self, sender: Machine, node_key: bytes, kind: str, body: object) -> None:
        """Into the network."""

    def peers_of(self, machine: Machine) -> list[Machine]:
        """Every other machine, in order."""

    def claimed_height(self, machine: Machine) -> int:
        """How high a machine says its chain is."""

    def can_talk(self, one: Machine, other: Machine) -> bool:
        """Whether both run and packets pass both ways."""


class Machine:
    """See the module. `number` is unique, `validator` the identity it runs under."""

    def __init__(
        self,
        world: Surroundings,
        number: int,
        *,
        validator: int,
        consensus_key: SimulatedKey,
        node_key: bytes,
        operator: bytes,
        honest: bool,
    ) -> None:
        self.number = number
        self.validator = validator
        self.consensus_key = consensus_key
        self.node_key = node_key
        self.operator = operator
        self.honest = honest
        self.store = Store(world.genesis)
        self.disk = JournalDisk(world.schedule, world.stream(f"disk {number}"), world.journal_tag)
        self.clock_offset_ms = 0
        self.signer_refuses = False
        self.wrong_execution = False
        self.process: Process | None = None
        self.lives = 0
        self.armed: list[Crash] = []
        self._world = world
        self._paused_until_us = 0
        self._backlog: list[tuple[Process, Action]] = []
        self._restart: Handle | None = None

    # ---- power and pauses ------------------------------------------------------------------------

    def start(self) -> None:
        """Begin a new process on what the disk holds; nothing if one runs."""
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None
        if self.process is not None:
            return
        self.lives += 1
        self._world.note(self.number, "start", self.lives, self.store.tip.height)
        process = Process(self._world, self)
        self.process = process
        self.enter(process, process.begin)

    def lose_power(self, down_ms: int | None) -> None:
        """End the process at once; start again after `down_ms`, or never."""
        if self.process is not None:
            self._world.note(self.number, "power loss", down_ms)
            self.process.end()
            self.process = None
            self.disk.lose_power()
            self._backlog.clear()
            self._paused_until_us = 0
        if down_ms is not None and self._restart is None:
            self._restart = self._world.schedule.after(down_ms * MS, self.start)

    def is_silent_at(self, height: int) -> bool:
        """Whether its validator must not vote at `height` yet (consensus.first_vote)."""
        if self.process is not None:
            return self.process.replica.is_silent_at(height)
        first_vote = FirstVote()
        first_vote.restore(self.disk.peek())
        return not first_vote.allows(height)

    def lose_disk(self, *, is_wiped: bool, is_damaged: bool) -> None:
        """Lose power, and what was on the disk; start again at once."""
        self.lose_power(1)
        if is_damaged:
            self.disk.damage()
        else:
            self.disk.lose()
        if is_wiped:
            self.store = Store(self._world.genesis)

    def stay_down(self) -> None:
        """No restart that is due takes place."""
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None

    def pause(self, for_ms: int) -> None:
        """The process stands still; what arrives is handled afterwards."""
        self._world.note(self.number, "pause", for_ms)
        schedule = self._world.schedule
        self._paused_until_us = max(self._paused_until_us, schedule.now_us + for_ms * MS)
        schedule.at(self._paused_until_us, self._end_pause)

    def resume(self) -> None:
        """End any pause."""
        self._paused_until_us = 0
        self._end_pause()

    def _end_pause(self) -> None:
        if self._world.schedule.now_us < self._paused_until_us:
            return
        backlog, self._backlog = self._backlog, []
        for process, action in backlog:
            self.enter(process, action)

    def enter(self, process: Process, action: Action) -> None:
        """Do `action` in `process`, if that still lives, when it is not paused."""
        if process is not self.process:
            return
        if self._world.schedule.now_us < self._paused_until_us:
            self._backlog.append((process, action))
            return
        try:
            action()
        except PowerLoss:
            crash = self.armed.pop(0)
            self.lose_power(crash.down_ms)
        else:
            self._world.observer.stepped(self)

    def at_boundary(self, point: str) -> None:
        """Raises PowerLoss when an armed crash strikes here."""
        for place, crash in enumerate(self.armed):
            if crash.point != point:
                continue
            if crash.nth > 1:
                self.armed[place] = Crash(
                    crash.at_ms, crash.machine, crash.point, crash.nth - 1, crash.down_ms
                )
                continue
            self.armed.insert(0, self.armed.pop(place))
            self._world.note(self.number, "crash", point)
            raise PowerLoss

    # ---- what arrives ----------------------------------------------------------------------------

    def receive(self, packet: Packet, node_key: bytes) -> None:
        """A packet from the peer that owns `node_key`."""
        process = self.process
        if process is not None:
            self.enter(process, lambda: process.receive(node_key, packet.kind, packet.body))

    def submit(self, raw: bytes) -> None:
        """A transaction from a client or by gossip."""
        process = self.process
        if process is not None:
            self.enter(process, lambda: process.application.submit(raw))


class Process:
    """One life of a node: the replica and its ports."""

    def __init__(self, world: Surroundings, machine: Machine) -> None:
        self._world = world
        self._machine = machine
        self._timers: dict[int, Handle] = {}
        self._visible: set[int] = set()
        label = f"{machine.number}.{machine.lives}"
        self._random = world.stream(f"process {label}")
        self.public_key = machine.consensus_key.public_key
        application = SimulatedApplication(
            ledger=Ledger(machine.store, world.ring.verify),
            store=machine.store,
            host=self,
            operator=machine.operator,
            random_stream=world.stream(f"application {label}"),
        )

        def tracer(event: TraceEvent) -> None:
            world.trace(machine.number, event)
            world.observer.traced(machine, event)

        self.engine = world.parts.engine(tracer)
        self.replica = world.parts.replica(
            engine=self.engine,
            chain=world.genesis.chain,
            application=application,
            transport=self,
            journal=self,
            timers=self,
            clock=self,
            signer=self,
            seed=self._random.getrandbits(32),
            verify_signature=world.ring.verify,
            tracer=tracer,
            journal_keep_bytes=world.setup.journal_keep_bytes,
        )
        self.application = application
        application.replica = self.replica

    def begin(self) -> None:
        """Read the journal and start."""
        disk = self._machine.disk
        try:
            records = disk.open()
        except (JournalDamaged, WrongJournal) as error:
            # As node.runner: the file is put aside, and the validator listens before it votes.
            self._world.note(self._machine.number, "journal put aside", str(error))
            disk.lose()
            records = disk.open()
        disk.on_durable = self._fsync_completed
        self.replica.start(records)
        self._look_around()

    def end(self) -> None:
        """The process is gone."""
        for handle in self._timers.values():
            handle.cancel()
        self._timers.clear()

    # ---- consensus.ports: clock, timers, signer --------------------------------------------------

    def now_ms(self) -> int:
        """Wall time."""
        world, machine = self._world, self._machine
        started_ms = world.genesis.time_ms
        return started_ms + world.schedule.now_us // MS + machine.clock_offset_ms

    def set_timer(self, timer_id: int, delay_ms: int) -> None:
        """A monotonic timer: jumps of the wall clock do not move it."""
        assert timer_id not in self._timers
        self._timers[timer_id] = self.later(delay_ms * MS, lambda: self._fire(timer_id))

    def cancel_timer(self, timer_id: int) -> None:
        """Forget a timer."""
        handle = self._timers.pop(timer_id, None)
        if handle is not None:
            handle.cancel()

    def _fire(self, timer_id: int) -> None:
        # Cancelled while the firing waited out a pause.
        if self._timers.pop(timer_id, None) is not None:
            self.replica.on_timer(timer_id)

    def sign(self, digest: bytes) -> bytes:
        """The consensus key's signature, unless the key store fails."""
        if self._machine.signer_refuses:
            raise SigningForbidden("the key store does not answer")
        self._world.observer.signed(self._machine, digest)
        signature = self._machine.consensus_key.sign(digest)
        self.at_boundary("sign")
        return signature

    # ---- consensus.ports: journal ----------------------------------------------------------------

    def append(self, sequence: int, record: bytes) -> None:
        """Queue a record for the next fsync."""
        self.at_boundary("persist")
        self._machine.disk.append(sequence, record)
        self.at_boundary("persisted")

    def reset(self, records: tuple[bytes, ...]) -> None:
        """Replace the journal."""
        self.at_boundary("persist")
        self._machine.disk.reset(records)
        self.at_boundary("persisted")

    def _fsync_completed(self, sequence: int) -> None:
        def heard() -> None:
            self.at_boundary("durable")
            self.replica.on_durable(sequence)
            self.at_boundary("settled")

        self._machine.enter(self, heard)

    # ---- consensus.ports: transport --------------------------------------------------------------

    def send(self, node_key: bytes, payload: bytes, *, bulk: bool) -> None:  # noqa: ARG002
        """One message to one peer."""
        self.at_boundary("send")
        self._world.transmit(self._machine, node_key, "consensus", payload)
        self.at_boundary("sent")

    def request_blocks(self, node_key: bytes, request_id: int, from_height: int) -> None:
        """Ask a peer for blocks."""
        if not any(
            peer.node_key == node_key and peer.number in self._visible
            for peer in self._world.peers_of(self._machine)
        ):
            # As in a node, a request without a link fails at once.
            self.later(MS, lambda: self.replica.on_blocks(node_key, request_id, None))
            return
        # A link dies with the process, so an answer never reaches another life.
        asked = (self._machine.lives, request_id, from_height)
        self._world.transmit(self._machine, node_key, "ask", asked)

    def charge(self, node_key: bytes, kind: str) -> None:
        """A peer's fault; nobody is disconnected in a simulation."""
        self._world.note(self._machine.number, "charge", node_key[:4], kind)
        self._world.observer.charged(self._machine, node_key, kind)

    # ---- what the application needs (node.simulation.application.Host) ---------------------------

    def later(self, delay_us: int, action: Action) -> Handle:
        """Do `action` in this process after a while."""
        machine = self._machine
        return self._world.schedule.after(delay_us, lambda: machine.enter(self, action))

    def at_boundary(self, point: str) -> None:
        """The power may go here."""
        self._machine.at_boundary(point)

    def disk_delay_us(self) -> int:
        """What a slow disk adds to a synced write."""
        return self._machine.disk.delay_us()

    def executes_wrongly(self) -> bool:
        """Whether this machine computes other results than it should."""
        return self._machine.wrong_execution

    def apply_asked(self, proposal: Proposal, certificate: CommitCertificate) -> None:
        """The replica asks for a block to be written."""
        self._world.observer.apply_asked(self._machine, proposal, certificate)

    def apply_failed(self, detail: str) -> None:
        """A decided block did not execute to its header."""
        self._world.observer.apply_failed(self._machine, detail)

    def block_applied(self, stored: StoredBlock) -> None:
        """A block became durable."""
        self._world.observer.block_applied(self._machine, stored)

    # ---- peers -----------------------------------------------------------------------------------

    def receive(self, node_key: bytes, kind: str, body: object) -> None:
        """A packet arrived."""
        match kind, body:
            case "consensus", bytes(payload):
                self.replica.on_message(node_key, payload)
            case "ask", (int(life), int(request_id), int(from_height)):
                answer = (life, request_id, self._blocks_from(from_height))
                self._world.transmit(self._machine, node_key, "blocks", answer)
            case "blocks", (int(life), int(request_id), list(blocks)):
                if life == self._machine.lives:
                    self.replica.on_blocks(node_key, request_id, blocks)
            case _:
                raise AssertionError(kind)

    def _blocks_from(self, height: int) -> list[CertifiedBlock]:
        stored = self._machine.store.blocks[height - 1 : height - 1 + ANSWER_BLOCKS]
        return [CertifiedBlock(each.encoded, each.certificate.encode()) for each in stored]

    def _look_around(self) -> None:
        """Notice which peers came and went, let sync look at its deadlines, and come again."""
        for peer in self._world.peers_of(self._machine):
            reachable = self._world.can_talk(self._machine, peer)
            if reachable and peer.number not in self._visible:
                self._visible.add(peer.number)
                self.replica.on_peer_up(peer.node_key, self._world.claimed_height(peer))
            elif not reachable and peer.number in self._visible:
                self._visible.discard(peer.number)
                self.replica.on_peer_down(peer.node_key)
            elif reachable:
                self.replica.on_peer_height(peer.node_key, self._world.claimed_height(peer))
        self.replica.on_sync_tick()
        self.later(self._random.randint(TICK_US // 2, TICK_US), self._look_around)

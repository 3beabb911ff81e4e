"""A simulated network of validators: everything of one run, wired.

Routing knows identities: a packet for a node key reaches every machine that runs under it, which
are two for a validator with a twin. What a Byzantine machine sends passes through its adversary.
"""

from __future__ import annotations

import random

from consensus.journal import JournalTag
from ledger.trace import TraceEvent
from node.simulation.adversaries import make_adversary
from node.simulation.byzantine import Adversary
from node.simulation.clients import Clients
from node.simulation.invariants import Invariants
from node.simulation.keys import KeyRing
from node.simulation.machine import Machine, Parts
from node.simulation.network import Network, Packet, Weather
from node.simulation.randomness import stream
from node.simulation.schedule import Schedule
from node.simulation.setup import Setup, make_genesis, operator_label
from node.simulation.tracelog import TraceLog
from node.simulation.wire import decode_payload, votes_in

WORLD = -1
"""The machine number of events that are nobody's."""


class World:
    """See the module. Implements node.simulation.machine.Surroundings."""

    def __init__(self, setup: Setup, parts: Parts) -> None:
        self.setup = setup
        self.parts = parts
        self.ring = KeyRing()
        genesis = make_genesis(setup, self.ring)
        self.genesis = genesis
        self.journal_tag = JournalTag("pbft", genesis.chain.genesis_hash)
        self.log = TraceLog()
        self.schedule = Schedule(self.stream("ties"))
        self.network = Network(
            self.schedule, self.stream("network"), self._deliver, setup.latency_ms
        )
        self.observer = Invariants(
            genesis,
            self.ring,
            lambda payload: votes_in(payload, genesis),
            lambda machine, stored: self.clients.acknowledge(machine, stored),
        )
        self.machines: list[Machine] = []
        self.forgetful: set[int] = set()
        """Validators that have lost their journal."""
        self._by_key: dict[bytes, list[Machine]] = {}
        self._adversaries: dict[int, Adversary] = {}
        self._add_machines()
        self.honest = [each for each in self.machines if each.honest]
        self.clients = Clients(
            genesis=genesis,
            schedule=self.schedule,
            machines=list(self.honest),
            random_stream=self.stream("clients"),
            pause_ms=setup.client_pause_ms,
        )

    def _add_machines(self) -> None:
        """Machine v runs under validator v; the second machines of twins follow behind."""
        behaviours = dict(self.setup.byzantine)
        twins = [each for each in behaviours if behaviours[each] == "twins"]
        for validator in [*range(self.setup.validators), *twins]:
            copy = int(len(self.machines) >= self.setup.validators)
            behaviour = behaviours.get(validator)
            machine = self._add_machine(validator, honest=behaviour is None)
            if behaviour is not None:
                self._adversaries[machine.number] = make_adversary(
                    behaviour,
                    genesis=self.genesis,
                    key=machine.consensus_key,
                    copy=copy,
                    random_stream=self.stream(f"adversary {validator} {copy}"),
                )

    def _add_machine(self, validator: int, *, honest: bool) -> Machine:
        machine = Machine(
            self,
            len(self.machines),
            validator=validator,
            consensus_key=self.ring.key(f"consensus {validator}"),
            node_key=self.ring.key(f"node {validator}").public_key,
            operator=self.ring.key(operator_label(validator)).public_key,
            honest=honest,
        )
        self.machines.append(machine)
        self._by_key.setdefault(machine.node_key, []).append(machine)
        self.observer.add_machine(machine)
        return machine

    # ---- node.simulation.machine.Surroundings ----------------------------------------------------

    def stream(self, label: str) -> random.Random:
        """A stream of chance of this run."""
        return stream(self.setup.seed, label)

    def note(self, machine: int, kind: str, *facts: object) -> None:
        """Into the trace."""
        self.log.note(self.schedule.now_us, machine, kind, *facts)

    def trace(self, machine: int, event: TraceEvent) -> None:
        """A production trace event, into the trace."""
        self.log.event(self.schedule.now_us, machine, event)

    def transmit(self, sender: Machine, node_key: bytes, kind: str, body: object) -> None:
        """Put what a machine sends on the network, after its adversary, if it has one."""
        adversary = self._adversaries.get(sender.number)
        bodies = [body] if adversary is None else adversary.rewrite(node_key, kind, body)
        for each in bodies:
            if kind == "consensus":
                assert isinstance(each, bytes)
                self.observer.message_sent(sender, each)
            for receiver in self._by_key[node_key]:
                if receiver is not sender:
                    self._send(sender, receiver, kind, each)

    def peers_of(self, machine: Machine) -> list[Machine]:
        """Every machine under another identity, in order."""
        return [each for each in self.machines if each.validator != machine.validator]

    def claimed_height(self, machine: Machine) -> int:
        """How high a machine says its chain is."""
        adversary = self._adversaries.get(machine.number)
        height = machine.store.tip.height
        return height if adversary is None else adversary.claim(height)

    def can_talk(self, one: Machine, other: Machine) -> bool:
        """Whether both run and packets pass both ways."""
        if one.process is None or other.process is None:
            return False
        blocked = self.network.is_blocked
        return not (blocked(one.number, other.number) or blocked(other.number, one.number))

    # ---- packets ---------------------------------------------------------------------------------

    def _send(self, sender: Machine, receiver: Machine, kind: str, body: object) -> None:
        self.network.send(Packet(sender.number, receiver.number, kind, body))

    def _deliver(self, packet: Packet) -> None:
        receiver = self.machines[packet.receiver]
        sender = self.machines[packet.sender]
        self.note(packet.receiver, "packet", packet.sender, packet.kind, _size(packet.body))
        adversary = self._adversaries.get(packet.receiver)
        if adversary is not None and isinstance(packet.body, bytes):
            message = decode_payload(packet.body)
            if message is not None:
                adversary.hear(message)
        receiver.receive(packet, sender.node_key)

    def begin(self) -> None:
        """Start every machine within the first moments, and the clients."""
        draw = self.stream("start")
        for machine in self.machines:
            self.schedule.after(draw.randint(0, 50_000), machine.start)
        self.schedule.after(draw.randint(0, 50_000), self.clients.begin)

    def disturb(self, weather: Weather, for_us: int) -> None:
        """Let a disturbance last a while."""
        self.network.weather.append(weather)

        def end() -> None:
            if weather in self.network.weather:
                self.network.weather.remove(weather)

        self.schedule.after(for_us, end)


def _size(body: object) -> int:
    return len(body) if isinstance(body, bytes) else 0

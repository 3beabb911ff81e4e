"""Which adversary belongs to which behaviour."""

from __future__ import annotations

import random

from node.simulation.byzantine import Adversary, Flooder, Selective, SyncLiar, Twin
from node.simulation.forger import Forger
from node.simulation.keys import SimulatedKey
from node.simulation.ledger import Genesis
from node.simulation.setup import Behaviour


def make_adversary(
    behaviour: Behaviour,
    *,
    genesis: Genesis,
    key: SimulatedKey,
    copy: int,
    random_stream: random.Random,
) -> Adversary:
    """The adversary of a machine; `copy` numbers the machines of one identity."""
    match behaviour:
        case "twins":
            return Twin(genesis, key, random_stream, copy)
        case "selective":
            return Selective(genesis, key, random_stream)
        case "forger":
            return Forger(genesis, key, random_stream)
        case "sync_liar":
            return SyncLiar(genesis, key, random_stream)
        case "flooder":
            return Flooder(genesis, key, random_stream)

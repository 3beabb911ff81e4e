"""consensus_*: the round in progress, and the parameters in force."""

from __future__ import annotations

from ledger.identity import peer_id
from ledger.params import PARAMETERS
from ledger.state import read_params
from rpc.context import Call
from rpc.registry import method
from rpc.values import hexed


@method("consensus_status")
def consensus_status(call: Call) -> object:
    """The engine and its round: {mode, tolerates, quorum, height, round, phase, leader, …}."""
    status = call.node.consensus()
    return {
        "mode": status.mode,
        "tolerates": status.tolerates,
        "quorum": status.quorum,
        "height": status.height,
        "round": status.round,
        "phase": status.phase,
        "leader": None if status.leader is None else peer_id(status.leader),
        "ownIndex": status.own_index,
    }


@method("consensus_getParams", cost=2)
def consensus_get_params(call: Call) -> object:
    """The chain parameters by name, each with unit and bounds: {height, hash, items}."""
    params = read_params(call.node.state())
    items = [
        {
            "name": row.name,
            "unit": row.unit,
            "value": _shown(row.unit, getattr(params, row.name)),
            "low": _shown(row.unit, row.low),
            "high": _shown(row.unit, row.high),
        }
        for row in PARAMETERS
    ]
    return {"height": call.node.tip().height, "hash": hexed(params.hash()), "items": items}


def _shown(unit: str, value: int) -> int | str:
    """Amounts are decimal strings, everything else an integer."""
    return str(value) if unit == "µT" else value


METHODS = (consensus_status, consensus_get_params)

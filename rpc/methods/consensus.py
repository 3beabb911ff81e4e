"""consensus_*: the round in progress, and the parameters in force."""

from __future__ import annotations

from ledger.params import PARAMETERS
from ledger.state import read_params
from rpc.context import Call
from rpc.forms import round_form
from rpc.registry import method
from rpc.values import hexed


@method("consensus_status")
def consensus_status(call: Call) -> object:
    """The engine and its round: {mode, tolerates, quorum, height, round, phase, leader, …}."""
    return round_form(call.node.consensus())


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

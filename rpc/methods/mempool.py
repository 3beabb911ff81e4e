"""mempool_*: how full the mempool is."""

from __future__ import annotations

from rpc.context import Call
from rpc.registry import method


@method("mempool_status")
def mempool_status(call: Call) -> object:
    """{count, sizeBytes, limitCount, limitBytes, floorFee}; floorFee in µT, "0" when not full."""
    status = call.node.mempool()
    return {
        "count": status.count,
        "sizeBytes": status.size_bytes,
        "limitCount": status.limit_count,
        "limitBytes": status.limit_bytes,
        "floorFee": str(status.floor_fee),
    }


METHODS = (mempool_status,)

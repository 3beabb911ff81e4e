"""Writes the reputation vectors to standard output: `python tests/vectors/reputation/generate.py`.

A change of the output is a change of the consensus rules; it is reviewed line by line.
"""

import json
from typing import Any

from ledger.codec import encode
from ledger.reputation import edges, trust
from ledger.reputation.edges import PairState
from ledger.reputation.epoch import (
    PairEdge,
    ReputationParams,
    build_graph,
    compute,
    compute_epoch,
    leaves_of,
)

P_MIN = 1_000
PARAMS = ReputationParams(p_min=P_MIN, n0=64, n_ref=8)
EPOCH = 7

# kind, epoch, then (paid µT, co-signed, taken by the payee) or (receipt, score)
HISTORY: list[tuple[str, int, tuple[int, ...]]] = [
    ("settle", 1, (255_000, 1, 1)),
    ("settle", 1, (10_000, 0, 0)),
    ("rate", 1, (1, 7)),
    ("settle", 2, (3_000, 1, 1)),
    ("settle", 3, (65_535_000, 1, 0)),
    ("rate", 4, (2, -4)),
    ("settle", 5, (1_000, 1, 1)),
    ("settle", 40, (999, 1, 1)),
    ("settle", 40, (1, 1, 1)),
]


def address(number: int) -> bytes:
    return b"\x02" + bytes((number,)) * 32


# rater, ratee, service, pos, neg: two seeds (1, 2), honest peers (3, 4), one that turned bad (5),
# its Sybils (8, 9), and a rater nobody trusts (7).
NETWORK = [
    (1, 3, 0, 128, 0),
    (1, 4, 0, 64, 0),
    (1, 5, 0, 90, 12),
    (2, 3, 0, 100, 0),
    (2, 3, 1, 28, 0),
    (2, 5, 0, 0, 128),
    (3, 4, 0, 250, 3),
    (3, 1, 0, 64, 0),
    (4, 3, 2, 17, 0),
    (4, 5, 0, 10, 50),
    (5, 8, 0, 4_096, 0),
    (5, 9, 0, 4_096, 0),
    (8, 5, 0, 4_096, 0),
    (9, 5, 0, 4_096, 0),
    (7, 3, 0, 0, 4_096),
    (7, 5, 0, 4_096, 0),
    (3, 7, 0, 0, 0),
]


def pair_vectors() -> list[dict[str, Any]]:
    """The pair object after each event, and the edge at the end of that epoch."""
    pair: PairState | None = None
    vectors: list[dict[str, Any]] = []
    for kind, epoch, facts in HISTORY:
        event: dict[str, Any] = {"event": kind, "epoch": epoch}
        if kind == "settle":
            paid, cosigned, ratable = facts
            seq, units, total = (pair.seq, pair.cum_units, pair.cum_paid) if pair else (0, 0, 0)
            receipt = {"seq": seq + 1, "cum_units": units + 2, "cum_paid": total + paid}
            event |= receipt
            event |= {"cosigned": bool(cosigned), "ratable": bool(ratable)}
            pair = edges.settle_edge(
                pair,
                epoch=epoch,
                p_min=P_MIN,
                cosigned=bool(cosigned),
                ratable=bool(ratable),
                **receipt,
            )
        else:
            rating = {"receipt_seq": facts[0], "score": facts[1]}
            event |= rating
            pair = edges.rate_edge(pair, epoch=epoch, p_min=P_MIN, **rating)
        event["pair"] = encode(pair).hex()
        event["edge_at_end"] = edges.edge_at_end_of(pair, epoch)
        vectors.append(event)
    return vectors


def epoch_vectors() -> dict[str, Any]:
    """Every intermediate value of a small network, by peer in ascending order of address."""
    pairs: list[PairEdge] = [(address(a), address(b), s, p, n) for a, b, s, p, n in NETWORK]
    seeds = [address(1), address(2)]
    result = compute(build_graph(pairs, seeds, seeds), PARAMS)
    graph = result.graph
    scores = compute_epoch(pairs, seeds, PARAMS, EPOCH, {})
    newcomers = [address(0), address(6), address(255)]
    return {
        "params": {"p_min": PARAMS.p_min, "n0": PARAMS.n0, "n_ref": PARAMS.n_ref},
        "epoch": EPOCH,
        "seeds": [seed.hex() for seed in seeds],
        "pairs": [[a.hex(), b.hex(), s, p, n] for a, b, s, p, n in pairs],
        "addresses": [name.hex() for name in graph.addresses],
        "kept_edges": graph.edges,
        "first_rows": trust.trust_rows(graph.edges),
        "first_round": trust.step(
            trust.trust_rows(graph.edges),
            trust.spread_over_seeds(len(graph.addresses), graph.seeds, trust.TRUST_TOTAL),
            graph.seeds,
        ),
        "first_trust": result.first_trust,
        "weights": result.weights,
        "qualities": result.qualities,
        "raters": result.raters,
        "gains": result.gains,
        "second_rows": trust.trust_rows(graph.edges, result.gains),
        "trust": result.trust,
        "standings": result.standings,
        "ranks": result.ranks,
        "leaves": [score.encode().hex() for score in leaves_of(result, EPOCH)],
        "root": scores.commitment.root.hex(),
        "blob": scores.blob.hex(),
        "proofs": {
            name.hex(): encode(scores.table.prove(name)).hex()
            for name in (*graph.addresses, *newcomers)
        },
    }


def document() -> dict[str, Any]:
    return {"pair": pair_vectors(), "epoch": epoch_vectors()}


if __name__ == "__main__":
    print(json.dumps(document(), indent=1))

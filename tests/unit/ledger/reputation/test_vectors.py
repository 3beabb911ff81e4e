"""The committed vectors: an accidental change of the rules shows here, step by step."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ledger.reputation import edges, quality, trust
from ledger.reputation.edge_table import EdgeTable
from ledger.reputation.epoch import ReputationParams, build_graph, compute, compute_epoch
from ledger.reputation.score_tree import (
    ScoreCommitment,
    ScoreTable,
    decode_score,
    score_proof_codec,
    verify_score_proof,
)
from ledger.state import pair_key

ROOT = Path(__file__).parents[4]
FOLDER = ROOT / "tests" / "vectors" / "reputation"


@pytest.fixture(scope="module")
def vectors() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FOLDER / "small_network.json").read_text())
    return loaded


def test_the_pair_object_step_by_step(vectors: dict[str, Any]) -> None:
    pair: edges.PairState | None = None
    table = EdgeTable()
    key = pair_key(b"\x02" * 33, b"\x03" * 33, 0)
    for event in vectors["pair"]:
        kind, epoch = event.pop("event"), event["epoch"]
        raw, edge = bytes.fromhex(event.pop("pair")), tuple(event.pop("edge_at_end"))
        apply = edges.settle_edge if kind == "settle" else edges.rate_edge
        pair = apply(pair, p_min=1_000, **event)
        assert pair == edges.pair_codec.decode(raw)
        assert edges.edge_at_end_of(pair, epoch) == edge
        table.apply([(key, raw)])
        assert [row[3:] for row in table.edges_at_end_of(epoch)] == [edge]


def test_every_intermediate_value(vectors: dict[str, Any]) -> None:
    want = vectors["epoch"]
    pairs = [(bytes.fromhex(a), bytes.fromhex(b), s, p, n) for a, b, s, p, n in want["pairs"]]
    seeds = [bytes.fromhex(seed) for seed in want["seeds"]]
    params = ReputationParams(**want["params"])
    graph = build_graph(pairs, seeds, seeds)
    assert [name.hex() for name in graph.addresses] == want["addresses"]
    assert listed(graph.edges) == want["kept_edges"]
    rows = trust.trust_rows(graph.edges)
    assert listed(rows) == want["first_rows"]
    start = trust.spread_over_seeds(len(rows), graph.seeds, trust.TRUST_TOTAL)
    assert trust.step(rows, start, graph.seeds) == want["first_round"]
    result = compute(graph, params)
    for field in ("first_trust", "weights", "qualities", "raters", "gains", "trust"):
        assert getattr(result, field) == want[field], field
    assert listed(trust.trust_rows(graph.edges, result.gains)) == want["second_rows"]
    assert result.standings == want["standings"]
    assert result.ranks == want["ranks"]
    assert quality.ranks(result.standings) == want["ranks"]
    scores = compute_epoch(pairs, seeds, params, want["epoch"], {})
    assert scores.blob.hex() == want["blob"]


def test_leaves_and_proofs(vectors: dict[str, Any]) -> None:
    want = vectors["epoch"]
    leaves = [decode_score(bytes.fromhex(leaf)) for leaf in want["leaves"]]
    commitment = ScoreCommitment(want["epoch"], bytes.fromhex(want["root"]), len(leaves))
    ScoreTable(bytes.fromhex(want["blob"])).check(commitment)
    by_name = {leaf.address: leaf for leaf in leaves}
    assert len(want["proofs"]) == len(leaves) + 3
    for name, raw in want["proofs"].items():
        proof = score_proof_codec.decode(bytes.fromhex(raw))
        address = bytes.fromhex(name)
        assert verify_score_proof(commitment, address, proof) == by_name.get(address)


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_the_order_of_sets_and_dicts_reaches_nothing(hash_seed: str) -> None:
    run = subprocess.run(
        [sys.executable, str(FOLDER / "generate.py")],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert run.stdout == (FOLDER / "small_network.json").read_bytes()


def listed(value: object) -> object:
    """Tuples as lists, as JSON gives them back."""
    return json.loads(json.dumps(value))

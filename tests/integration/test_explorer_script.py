"""A replay on a running devnet, and the script that asks about its people.

The four validators are real processes. One network serves all tests here: it is only read after the
replay.
"""

import asyncio
import http.server
import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from explorer import script
from genesis.devnet import devnet_document
from genesis.document import dump
from ledger.identity import peer_id
from ledger.params import DEVNET_PARAMS
from node.demo.network import TemporaryNetwork
from node.demo.plan import person_key

pytestmark = [pytest.mark.processes, pytest.mark.slow]

# Short epochs: each of two replays waits for one. No heartbeat helps the scores into a block.
PARAMS = msgspec.structs.replace(
    DEVNET_PARAMS, epoch_ms=5_000, score_delay_ms=500, heartbeat_block_ms=600_000
)

# 11 is praised by all others, 12 is called a fraud by them, and 13 praises him.
RATINGS = """\
21,11,9,0
22,11,8,0
23,11,10,0
21,12,-10,0
22,12,-9,0
23,12,-10,0
11,21,7,0
11,22,6,0
11,23,8,0
13,12,10,0
21,14,9,0
22,15,-8,0
"""
LABELS = "11,1\n14,1\n12,-1\n15,-1\n"


def person(number: int, replay: str = "otc") -> str:
    return peer_id(person_key(replay, number).public_key)


class Replayed:
    """The network and what the replay reported."""

    def __init__(self, network: TemporaryNetwork, genesis: Path, report: dict) -> None:
        self.urls = network.urls
        self.genesis = genesis
        self.genesis_hash = "0x" + network.definition.genesis_hash.hex()
        self.report = report

    def ask(self, *arguments: str, node: str | None = None) -> tuple[int, str]:
        """(exit code, what the script printed)."""
        out = StringIO()
        console = Console(file=out, width=200, color_system=None)
        code = script.main([*arguments, "--node", node or self.urls[1]], console)
        return code, out.getvalue()

    def ask_json(self, *arguments: str) -> dict:
        """The object that the script printed."""
        code, text = self.ask(*arguments, "--json")
        assert code == script.DONE
        return json.loads(text)


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replayed]:
    folder = tmp_path_factory.mktemp("script")
    (folder / "ratings.csv").write_text(RATINGS)
    (folder / "labels.csv").write_text(LABELS)
    document = devnet_document(genesis_time_ms=time.time_ns() // 1_000_000, params=PARAMS)
    (folder / "genesis.json").write_text(dump(document))
    network = TemporaryNetwork(document)
    asyncio.run(network.start())
    try:
        yield Replayed(network, folder / "genesis.json", replay_on(network, folder))
    finally:
        asyncio.run(network.stop())


def replay_on(network: TemporaryNetwork, folder: Path) -> dict:
    """`tally demo otc` on a running network: the object on its last line."""
    command = [sys.executable, "-m", "node.cli", "demo", "otc", "--json"]
    command += ["--ratings", str(folder / "ratings.csv"), "--labels", str(folder / "labels.csv")]
    for url in network.urls:
        command += ["--node", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_running_devnet_scores_the_people_its_operators_introduce(replayed: Replayed) -> None:
    report = replayed.report
    # Seven people, a transfer for each of five raters, two for each rating; four operators rate
    # the three people that can be seeds here.
    assert report["transactions"] == report["committed"]
    assert report["failed"] == report["refused"] == {}
    assert report["auc_quality"] == report["auc_standing"] == 1.0
    assert report["frauds_at_zero"] == 1.0
    assert len(report["state_roots"]) == 4
    assert len(set(report["state_roots"])) == 1


def test_the_same_people_are_not_replayed_twice_on_one_network(
    replayed: Replayed, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "node.cli", "demo", "otc", "--json"]
    (tmp_path / "ratings.csv").write_text(RATINGS)
    (tmp_path / "labels.csv").write_text(LABELS)
    command += ["--ratings", str(tmp_path / "ratings.csv")]
    command += ["--labels", str(tmp_path / "labels.csv"), "--node", replayed.urls[2]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    second = json.loads(done.stdout.splitlines()[-1])
    assert second["committed"] == second["transactions"]
    assert second["failed"] == {}, "a second run has people, pairs and receipts of its own"
    assert replayed.ask_json(person(11, "otc-2"))["newcomer"] is False


def test_the_praised_one_has_rank_and_evidence(replayed: Replayed) -> None:
    said = replayed.ask_json(person(11))
    assert not said["newcomer"]
    assert int(said["standing"]) > 0
    assert said["rank"] is not None
    assert {(each["rater"], each["score"]) for each in said["ratings"]} == {
        (person(21), 9),
        (person(22), 8),
        (person(23), 10),
    }
    assert {each["subject"] for each in said["ratedBy"]} == {person(21), person(22), person(23)}
    # Three services given and three taken.
    assert len(said["services"]) == 6
    assert all(each["cosigned"] and each["paid"] == "255000" for each in said["services"])


def test_the_fraud_has_no_standing_however_a_stranger_praises_him(replayed: Replayed) -> None:
    said = replayed.ask_json(person(12))
    assert said["standing"] == "0"
    assert int(said["quality"]) < 0.6 * 65_536
    assert {each["subject"]: each["trust"] for each in said["ratedBy"]}[person(13)] == "0"


@pytest.mark.parametrize("by_hash", [False, True])
def test_everything_shown_can_be_proven(replayed: Replayed, by_hash: bool) -> None:
    trust = replayed.genesis_hash if by_hash else str(replayed.genesis)
    proven = replayed.ask_json(person(11), "--verify", "--genesis", trust)
    assert proven.pop("proven") is True
    said = replayed.ask_json(person(11))
    if said["epoch"] == proven["epoch"] and said["height"] == proven["height"]:
        said.pop("proven")
        assert proven == said
    code, text = replayed.ask(person(11), "--verify", "--genesis", trust)
    assert code == script.DONE
    assert "proven from the network definition" in text
    assert person(23) in text


def test_that_somebody_has_no_score_is_proven_too(replayed: Replayed) -> None:
    stranger = person(999)
    code, text = replayed.ask(stranger, "--verify", "--genesis", str(replayed.genesis))
    assert code == script.DONE
    assert "newcomer" in text
    assert "proven" in text


def test_the_best_stand_first(replayed: Replayed) -> None:
    said = replayed.ask_json("--top", "5", "--verify", "--genesis", str(replayed.genesis))
    assert said["proven"]
    standings = [int(each["standing"]) for each in said["items"]]
    assert len(standings) == 5
    assert standings == sorted(standings, reverse=True)
    assert [each["rank"] for each in said["items"]] == sorted(
        each["rank"] for each in said["items"]
    )


def test_another_networks_hash_proves_nothing(
    replayed: Replayed, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = replayed.ask(person(11), "--verify", "--genesis", "0x" + "11" * 32)
    assert (code, text) == (script.FAILED, "")
    assert "NOT PROVEN" in capsys.readouterr().err


@contextmanager
def liar(url: str, lie: Callable[[bytes], bytes]) -> Iterator[str]:
    """A server that passes questions on and changes the answers."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            request = urllib.request.Request(
                url, data=body, headers={"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=10) as answer:
                said = lie(answer.read())
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def better_quality(said: bytes) -> bytes:
    """Every score with the quality of the flawless."""
    answer = json.loads(said)
    for item in answer["result"].get("items", []):
        if "quality" in item:
            item["quality"] = "65536"
    return json.dumps(answer).encode()


def another_rating(said: bytes) -> bytes:
    """The transaction that a proof is about, one bit changed."""
    answer = json.loads(said)
    raw = answer["result"].get("raw")
    if raw is not None:
        answer["result"]["raw"] = raw[:80] + ("0" if raw[80] != "0" else "1") + raw[81:]
    return json.dumps(answer).encode()


@pytest.mark.parametrize("lie", [better_quality, another_rating])
def test_a_lying_node_is_found_out(
    replayed: Replayed, lie: Callable[[bytes], bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (person(12), "--verify", "--genesis", str(replayed.genesis))
    with liar(replayed.urls[0], lambda said: said) as url:
        assert replayed.ask(*arguments, node=url)[0] == script.DONE
    with liar(replayed.urls[0], lie) as url:
        assert replayed.ask(*arguments, node=url) == (script.FAILED, "")
    assert "NOT PROVEN" in capsys.readouterr().err

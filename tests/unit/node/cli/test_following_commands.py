"""tally events, tally reputation history | explain, and the operator's commands, against a server.

The server runs in a thread of its own, since a command runs an event loop itself.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ledger.identity import peer_id
from ledger.params import MICRO
from node.home import Home
from rpc.ports import LogLevel
from rpc.server import ServerSettings
from tests.kit.chain import address_of
from tests.kit.command_line import Ran, tally
from tests.kit.rpc_node import RpcNode, ascending, score
from tests.kit.rpc_serving import serving

ALICE, BOB, CAROL = (peer_id(address_of(name)) for name in ("alice", "bob", "carol"))
DEADLINE_S = 20


class Commands:
    def __init__(self) -> None:
        self.given: list[str] = []

    def add_peer(self, address: str) -> str:
        self.given.append(f"add {address}")
        return address.partition("@")[0]

    def remove_peer(self, peer_id: str) -> bool:
        self.given.append(f"rm {peer_id}")
        return True

    def set_log_level(self, level: LogLevel) -> None:
        self.given.append(f"level {level}")

    def stop(self) -> None:
        self.given.append("stop")


@dataclass
class Served:
    url: str
    home: Home
    commands: Commands

    def ask(self, *words: str) -> Ran:
        return tally(*words, "--node", self.url)

    def command(self, *words: str) -> Ran:
        return tally(*words, "--home", str(self.home.root))


def make_chain(folder: Path) -> RpcNode:
    """Three transfers in two blocks, a settlement that is praised, and its epoch's scores."""
    people = ("alice", "bob", "carol", "val-0")
    node = RpcNode(folder, dict.fromkeys(people, 10_000 * MICRO))
    node.make_block(*(node.register(name) for name in people))
    node.make_block(node.transfer("alice", "bob", 1), node.transfer("carol", "bob", 20_000 * MICRO))
    node.make_block(node.settle("val-0", "alice", 1, 1, 255 * node.params.reputation_p_min))
    node.make_block(node.rate("val-0", "alice", 1, 10))
    node.score_block(0, ascending(score("alice", 0, 1), score("val-0", 0, 2)))
    return node


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    home = Home(folder / "home")
    home.create()
    commands = Commands()
    node = make_chain(folder)
    ready = threading.Event()
    stopping = asyncio.Event()
    loop = asyncio.new_event_loop()
    urls: list[str] = []

    async def serve() -> None:
        async with serving(node, ServerSettings(unix_path=home.admin_socket)) as server:
            server.desk.admin = commands
            urls.append(server.server.url)
            ready.set()
            await stopping.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(DEADLINE_S)
    yield Served(urls[0].rstrip("/"), home, commands)
    loop.call_soon_threadsafe(stopping.set)
    thread.join(DEADLINE_S)
    loop.close()
    node.close()


def test_blocks_come_as_lines_for_people_and_for_programs(served: Served) -> None:
    ran = served.ask("events", "blocks", "--from", "1", "--count", "5")
    assert ran.code == 0
    assert [line.split()[1] for line in ran.out.splitlines()] == ["1", "2", "3", "4", "5"]
    ran = served.ask("events", "blocks", "--from", "4", "--count", "2", "--json")
    assert [json.loads(line)["height"] for line in ran.out.splitlines()] == [4, 5]


def test_transactions_say_what_became_of_them(served: Served) -> None:
    words = ("events", "tx", "--from", "1", "--type", "Transfer", "--count", "2")
    ok, failed = served.ask(*words).out.splitlines()
    assert ok.startswith("2.0")
    assert ok.endswith(f"Transfer by {ALICE}  ok")
    assert failed.endswith(f"Transfer by {CAROL}  failed: INSUFFICIENT_FUNDS")
    (of_carol,) = served.ask(*words[:-1], "1", "--account", CAROL).out.splitlines()
    assert CAROL in of_carol


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("account", "--account", ALICE), "balance"),
        (("consensus",), "height 6  round 0  idle"),
        (("peers",), "0 peers: -"),
        (("reputation", "--from", "1", "--subject", ALICE), "epoch 0 in block 5  2 scores"),
    ],
)
def test_other_topics(served: Served, words: tuple[str, ...], expected: str) -> None:
    ran = served.ask("events", *words, "--count", "1")
    assert ran.code == 0
    assert expected in ran.out


def test_what_cannot_be_followed(served: Served) -> None:
    assert served.ask("events", "weather").code == 2
    refused = served.ask("events", "blocks", "--account", ALICE, "--count", "1")
    assert (refused.code, "INVALID_FILTER" in refused.err) == (1, True)
    gone = tally("events", "blocks", "--node", "http://127.0.0.1:9")
    assert gone.code == 3
    assert "cannot reach" in gone.err


def test_a_history_and_an_explanation(served: Served) -> None:
    ran = served.ask("reputation", "history", ALICE)
    assert ran.code == 0
    row = ran.out.splitlines()[-1].split()
    assert row[:3] == ["0", "5", "1"]
    said = served.ask("reputation", "history", ALICE, "--json").json
    assert said["items"][0]["held"] is True
    newcomer = served.ask("reputation", "history", CAROL)
    assert "newcomer" in newcomer.out
    ran = served.ask("reputation", "explain", ALICE)
    assert ran.code == 0
    assert peer_id(address_of("val-0")) in ran.out
    assert "nobody has rated it" in served.ask("reputation", "explain", BOB).out


def test_the_operator_commands(served: Served) -> None:
    for words, given in (
        (("peers", "add", f"{BOB}@192.0.2.1:1"), f"add {BOB}@192.0.2.1:1"),
        (("peers", "rm", BOB), f"rm {BOB}"),
        (("log-level", "debug"), "level debug"),
        (("stop",), "stop"),
    ):
        ran = served.command(*words)
        assert (ran.code, served.commands.given.pop()) == (0, given), ran.err
    assert served.command("log-level", "loud").code == 1


def test_a_home_whose_node_does_not_run(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.create()
    ran = tally("stop", "--home", str(tmp_path))
    assert ran.code == 3
    assert "no node runs" in ran.err

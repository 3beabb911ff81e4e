"""python -m explorer.script PEER: a peer's score, rank and evidence, proven if wanted.

    python -m explorer.script PEER [--verify --genesis FILE|0xHASH] [--node URL] [--json]
    python -m explorer.script --top 20 [--verify --genesis FILE|0xHASH] [--node URL] [--json]

With --verify nothing that the node says is believed: scores, their absence and the transactions
behind them are proven by the light client, beginning with the network definition, which is a file
or is fetched and held against its hash. Exit codes: 0 shown, 1 failed or a proof refused, 2 wrong
use, 3 the node cannot be reached.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from explorer import show
from explorer.peer import (
    EVIDENCE_MAX_COUNT,
    Ranking,
    Report,
    UnexpectedAnswer,
    look_up,
    top,
)
from genesis.definition import parse_network
from genesis.errors import InvalidDefinition
from ledger.identity import InvalidPeerId, public_key_of
from rpc.client import AnswerTimeout, ClientError, ConnectionFailed, RpcClient
from rpc.light import TrustRoot
from rpc.light_client import LightClient, fetch_trust
from rpc.light_errors import LightError

DEFAULT_URL = "http://127.0.0.1:8700"
NODE_VARIABLE = "TALLY_NODE"

TOP_MAX_COUNT = 200
_HASH_BYTES = 32
_FILE_WIDTH = 160

DONE, FAILED, USAGE, UNREACHABLE = 0, 1, 2, 3


def main(arguments: Sequence[str] | None = None, console: Console | None = None) -> int:
    """The exit code."""
    options = _parse(arguments)
    try:
        found = asyncio.run(_ask(options))
    except (ConnectionFailed, AnswerTimeout) as error:
        return _fail(error, UNREACHABLE)
    except InvalidPeerId as error:
        return _fail(error, USAGE)
    except LightError as error:
        return _fail(f"NOT PROVEN: {type(error).__name__}: {error}", FAILED)
    except (ClientError, InvalidDefinition, UnexpectedAnswer, OSError) as error:
        return _fail(error, FAILED)
    console = console or _console()
    if options.json:
        console.file.write(json.dumps(found.as_object(), ensure_ascii=False) + "\n")
    elif isinstance(found, Report):
        console.print(show.report(found))
    else:
        console.print(show.ranking(found))
    return DONE


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m explorer.script",
        description="A peer's score, rank and evidence.",
        epilog="The definition of a running `tally devnet` is in its homes: config/genesis.json.",
    )
    parser.add_argument("peer", nargs="?", metavar="PEER", help="PeerID, 16Uiu2HA…")
    parser.add_argument("--top", type=int, metavar="N", help="the N peers with highest standing")
    parser.add_argument("--verify", action="store_true", help="believe nothing, check proofs")
    parser.add_argument(
        "--genesis", metavar="FILE|0xHASH", help="for --verify: the network definition or its hash"
    )
    parser.add_argument(
        "--node",
        metavar="URL",
        default=os.environ.get(NODE_VARIABLE) or DEFAULT_URL,
        help=f"node to ask (else {NODE_VARIABLE}, {DEFAULT_URL})",
    )
    parser.add_argument(
        "--evidence", type=int, default=20, metavar="N", help="rows of ratings and services (20)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args(arguments)
    if (options.peer is None) == (options.top is None):
        parser.error("name one PEER, or --top N")
    if options.top is not None and not 1 <= options.top <= TOP_MAX_COUNT:
        parser.error(f"--top is 1 to {TOP_MAX_COUNT}")
    if not 0 <= options.evidence <= EVIDENCE_MAX_COUNT:
        parser.error(f"--evidence is 0 to {EVIDENCE_MAX_COUNT}")
    if options.verify and options.genesis is None:
        parser.error("--verify needs a beginning that you trust: --genesis FILE or 0xHASH")
    if "://" not in options.node:
        options.node = f"http://{options.node}"
    return options


async def _ask(options: argparse.Namespace) -> Report | Ranking:
    if options.peer is not None:
        public_key_of(options.peer)
    async with RpcClient(options.node) as client:
        light = None
        if options.verify:
            light = LightClient(client, await _trust(client, options.genesis))
        if options.top is not None:
            return await top(client, light, options.top)
        return await look_up(client, light, options.peer, options.evidence)


async def _trust(client: RpcClient, genesis: str) -> TrustRoot:
    """From a file, or from the node if what it says has the hash. Raises LightError, OSError."""
    text = genesis.removeprefix("0x")
    try:
        hashed = bytes.fromhex(text)
    except ValueError:
        hashed = b""
    if len(hashed) == _HASH_BYTES:
        return await fetch_trust(client, hashed, trust_in)
    return trust_in(await asyncio.to_thread(Path(genesis).read_bytes))


def trust_in(document: bytes) -> TrustRoot:
    """What a network definition says is to be believed. Raises InvalidDefinition."""
    network = parse_network(document)
    return TrustRoot(network.identity, network.validators)


def _console() -> Console:
    """As wide as the terminal; files and pipes get lines that are not broken."""
    return Console() if sys.stdout.isatty() else Console(width=_FILE_WIDTH)


def _fail(error: object, code: int) -> int:
    print(f"error: {show.clean(error).plain}", file=sys.stderr)  # noqa: T201 - the script's voice
    return code


if __name__ == "__main__":
    sys.exit(main())

"""How a node begins with what it finds on its disk."""

from __future__ import annotations

import io
from pathlib import Path

from consensus.journal import JournalTag, encode_journal
from genesis.definition import to_core
from genesis.devnet import devnet_document
from genesis.wellknown import validator_keys
from node.config import Config
from node.home import Home
from node.keys import NodeKeys
from node.runner import _open_journal, _Setup
from node.telemetry import Telemetry, make_logger


async def test_a_damaged_journal_is_put_aside_whole_and_the_next_one_is_empty(
    tmp_path: Path,
) -> None:
    """Empty, so that the validator listens before it votes again (consensus.first_vote)."""
    network = to_core(devnet_document())
    home = Home(tmp_path)
    home.create()
    content = bytearray(
        encode_journal(JournalTag("pbft", network.genesis_hash), [b"first", b"second"])
    )
    content[80] ^= 1
    (home.data / "journal").write_bytes(content)
    lines = io.StringIO()
    keys = validator_keys(0)
    telemetry = Telemetry(make_logger("warning", "json", lines))
    setup = _Setup(home, Config(), network, NodeKeys(keys.node, keys.consensus), telemetry)

    journal = _open_journal(setup)

    assert journal.records == ()
    assert bytes(content) in [each.read_bytes() for each in home.data.iterdir()]
    assert "journal damaged" in lines.getvalue()
    await journal.close()

"""The script's command line, without a node."""

import socket

import pytest

from explorer import script
from genesis.devnet import bundled_text
from ledger.crypto import PrivateKey, sha256
from ledger.identity import peer_id

PEER = peer_id(PrivateKey(sha256(b"alice")).public_key)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        [PEER, "--top", "3"],
        ["--top", "0"],
        ["--top", "201"],
        [PEER, "--verify"],
        [PEER, "--evidence", "201"],
        [PEER, "--nonsense"],
    ],
)
def test_wrong_use_is_told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        script.main(arguments)
    assert ended.value.code == script.USAGE
    assert "usage" in capsys.readouterr().err


def test_a_name_that_is_no_peer(capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["16Uiu2HAnonsense"]) == script.USAGE
    assert "16Uiu2HAnonsense" in capsys.readouterr().err


def test_a_node_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        assert script.main([PEER, "--node", f"127.0.0.1:{port}"]) == script.UNREACHABLE
    assert f"http://127.0.0.1:{port}" in capsys.readouterr().err


def test_a_definition_that_is_none(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "genesis.json"
    file.write_text("{}")
    arguments = [PEER, "--verify", "--genesis"]
    assert script.main([*arguments, str(file)]) == script.FAILED
    assert script.main([*arguments, str(tmp_path / "absent")]) == script.FAILED
    assert "absent" in capsys.readouterr().err


def test_trust_comes_from_the_definition() -> None:
    trust = script.trust_in(bundled_text("devnet"))
    assert trust.chain.chain_id == "tally-devnet"
    assert len(trust.validators) == 4

"""The home: folders nobody else enters, secrets nobody else reads, one process at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from node.home import (
    FOLDERS,
    Home,
    HomeLock,
    HomeLocked,
    InsecureFile,
    NoHome,
    lock_owner,
    resolve_home,
    write_file,
    write_secret,
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.create()
    return made


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_folders_and_secrets_are_ours_alone(home: Home) -> None:
    previous = os.umask(0)
    try:
        again = Home(home.root.parent / "again")
        again.create()
        write_secret(again.key_file("node"), b"{}")
    finally:
        os.umask(previous)
    assert mode(again.root) == 0o700
    assert {mode(again.root / folder) for folder in FOLDERS} == {0o700}
    assert mode(again.key_file("node")) == 0o600
    again.require()


def test_a_strict_umask_does_not_lock_us_out(tmp_path: Path) -> None:
    previous = os.umask(0o777)
    try:
        write_secret(tmp_path / "secret", b"x")
    finally:
        os.umask(previous)
    assert mode(tmp_path / "secret") == 0o600


def test_a_folder_that_is_no_home(tmp_path: Path) -> None:
    with pytest.raises(NoHome, match="tally init --home"):
        Home(tmp_path).require()


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620, 0o644])
def test_readable_keys_are_refused_with_the_remedy(home: Home, bits: int) -> None:
    write_secret(home.key_file("node"), b"{}")
    home.key_file("node").chmod(bits)
    with pytest.raises(InsecureFile, match=f"chmod 600 {home.key_file('node')}"):
        home.require()


def test_readable_passphrase_and_open_folders_are_refused(home: Home) -> None:
    write_secret(home.passphrase_file, b"x")
    home.passphrase_file.chmod(0o644)
    with pytest.raises(InsecureFile):
        home.require()
    home.passphrase_file.chmod(0o600)
    home.keys.chmod(0o755)
    with pytest.raises(InsecureFile, match="chmod 700"):
        home.require()


def test_writing_never_replaces_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_secret(path, b"first")
    with pytest.raises(FileExistsError):
        write_secret(path, b"second")
    assert path.read_bytes() == b"first"
    write_secret(path, b"third", replace=True)
    assert path.read_bytes() == b"third"
    assert [each.name for each in tmp_path.iterdir()] == ["secret"]


def test_plain_files_are_readable(tmp_path: Path) -> None:
    write_file(tmp_path / "genesis.json", b"{}")
    assert mode(tmp_path / "genesis.json") == 0o644


HOLDER = """
import sys
from pathlib import Path
from node.home import Home, HomeLock
with HomeLock(Home(Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_lock_is_held_by_one_process_and_names_it(home: Home) -> None:
    assert lock_owner(home) is None
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(home.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    with holder, holder.stdin:
        assert holder.stdout.readline() == "held\n"
        assert lock_owner(home) == holder.pid
        with pytest.raises(HomeLocked, match=f"process {holder.pid}"), HomeLock(home):
            pass
        holder.kill()
        holder.wait()
        # The kernel lets go with the process, however it ended.
        assert lock_owner(home) is None
        with HomeLock(home):
            assert lock_owner(home) == os.getpid()
    assert lock_owner(home) is None


def test_where_the_home_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLY_HOME", "/somewhere")
    assert resolve_home(None).root == Path("/somewhere")
    assert resolve_home("/else").root == Path("/else")
    monkeypatch.delenv("TALLY_HOME")
    assert resolve_home(None).root == Path.home() / ".tally"
    assert resolve_home("here").root == Path.cwd() / "here"

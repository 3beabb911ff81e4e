"""devnet.json: which validators there are, where they live and on which ports.

Whether a validator runs is not in the file but in its home's lock, which the kernel keeps: a pid
read from a file could meanwhile be somebody else's.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from node.home import Home, lock_owner, write_file

DEVNET_VARIABLE = "TALLY_DEVNET_HOME"
DEFAULT_ROOT = "~/.tally-devnet"
STATE_FILE = "devnet.json"
STATE_FORMAT = 1


class DevnetError(Exception):
    """A devnet that cannot be used. The message says what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class ValidatorFacts:
    """One validator. `index` counts from 0, people count from 1 (`number`)."""

    index: int
    name: str
    home: str
    rpc_port: int
    p2p_port: int
    node_id: str
    operator: str

    @property
    def number(self) -> int:
        """As people count."""
        return self.index + 1

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.rpc_port}"

    @property
    def place(self) -> Home:
        """Its home."""
        return Home(Path(self.home))

    @property
    def log(self) -> Path:
        """Where it writes."""
        return self.place.logs / "node.log"

    @property
    def pid(self) -> int | None:
        """The pid of its process, None where it does not run."""
        return lock_owner(self.place)


@dataclass(frozen=True, slots=True)
class DevnetState:
    """The network. `root` is its folder."""

    root: Path
    chain_id: str
    genesis_hash: str
    validators: tuple[ValidatorFacts, ...]

    @property
    def genesis_file(self) -> Path:
        """The network definition, as every validator has it."""
        return self.validators[0].place.genesis_file

    def validator(self, number: int) -> ValidatorFacts:
        """Validator `number`, from 1. Raises DevnetError."""
        if not 1 <= number <= len(self.validators):
            raise DevnetError(f"there is no validator {number}: 1 to {len(self.validators)}")
        return self.validators[number - 1]

    def save(self) -> None:
        """Write devnet.json."""
        content: dict[str, Any] = {
            "format": STATE_FORMAT,
            "chain_id": self.chain_id,
            "genesis_hash": self.genesis_hash,
            "validators": [asdict(each) for each in self.validators],
        }
        text = json.dumps(content, indent=2) + "\n"
        write_file(self.root / STATE_FILE, text.encode(), replace=True)


def resolve_root(text: str | None) -> Path:
    """The folder of `--home`, TALLY_DEVNET_HOME, or ~/.tally-devnet."""
    chosen = text or os.environ.get(DEVNET_VARIABLE) or DEFAULT_ROOT
    return Path(chosen).expanduser().absolute()


def load_state(root: Path) -> DevnetState | None:
    """The network in a folder, None where there is none. Raises DevnetError."""
    file = root / STATE_FILE
    if not file.exists():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["format"] != STATE_FORMAT:
            raise DevnetError(
                f"{file} has format {content['format']}, this program knows {STATE_FORMAT}",
                f"remove {root}",
            )
        return DevnetState(
            root,
            content["chain_id"],
            content["genesis_hash"],
            tuple(ValidatorFacts(**each) for each in content["validators"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DevnetError(f"{file} is damaged: {error}", f"remove {root}") from error


def require_state(root: Path) -> DevnetState:
    """The network in a folder. Raises DevnetError where there is none."""
    state = load_state(root)
    if state is None:
        raise DevnetError(f"there is no devnet in {root}", "`tally devnet up` makes one")
    return state


def running_url() -> str | None:
    """Where the usual devnet answers, None where it does not run."""
    state = _usual()
    if state is None:
        return None
    return next((each.url for each in state.validators if each.pid is not None), None)


def running_genesis_file() -> Path | None:
    """The definition of the usual devnet, None where it does not run."""
    return None if (state := _usual()) is None or running_url() is None else state.genesis_file


def _usual() -> DevnetState | None:
    try:
        return load_state(resolve_root(None))
    except (DevnetError, OSError):
        return None

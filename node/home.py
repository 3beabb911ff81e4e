"""The home folder of a node: where things are, who may read them, and one owner at a time.

    config/config.toml      settings                    (node.config)
    config/genesis.json     the network definition      (genesis.document)
    config/keys/NAME.json   encrypted keys              (node.keystore)
    config/passphrase       optional, opens the keys without asking
    data/                   ledger, journal, score tables
    run/lock                held while a node runs; names its pid
    run/admin.sock, admin.token
    logs/                   what `tally devnet` lets its nodes write

Folders are 0700, secrets 0600. A key or passphrase that others can read is refused rather than
used: by the time a node could warn, it has been read. The lock is the kernel's (flock), so it ends
with its process, also by SIGKILL; two nodes on one home would sign with the same keys.
"""

from __future__ import annotations

import fcntl
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

FOLDER_MODE = 0o700
SECRET_MODE = 0o600
FOLDERS = ("config", "config/keys", "data", "run", "logs")

DEFAULT_HOME = "~/.tally"
HOME_VARIABLE = "TALLY_HOME"

# The lock file holds a pid and a line feed.
_LOCK_LIMIT_BYTES = 64


class HomeError(Exception):
    """A home that cannot be used. Messages say what to do."""


class NoHome(HomeError):
    """There is no home at `path`."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is no home of a node; `tally init --home {path}` makes one")
        self.path = path


class HomeExists(HomeError):
    """`tally init` was asked to write over something."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path} already has {what}; nothing was changed")
        self.path = path
        self.what = what


class InsecureFile(HomeError):
    """`path` can be read or written by others, or belongs to somebody else."""

    def __init__(self, path: Path, detail: str, remedy: str) -> None:
        super().__init__(f"{path} {detail}; mend it with `{remedy}`")
        self.path = path
        self.detail = detail


class HomeLocked(HomeError):
    """Another process uses the home. `pid` is None where the lock file does not say."""

    def __init__(self, path: Path, pid: int | None) -> None:
        owner = "another process" if pid is None else f"process {pid}"
        super().__init__(
            f"{path} is in use by {owner}; stop it first (two nodes with the same keys would "
            "contradict each other and be slashed)"
        )
        self.path = path
        self.pid = pid


@dataclass(frozen=True, slots=True)
class Home:
    """Paths below `root`. Nothing is created until `create`."""

    root: Path

    @property
    def config_file(self) -> Path:
        """Settings."""
        return self.root / "config" / "config.toml"

    @property
    def genesis_file(self) -> Path:
        """The network definition."""
        return self.root / "config" / "genesis.json"

    @property
    def keys(self) -> Path:
        """The folder of key stores."""
        return self.root / "config" / "keys"

    @property
    def passphrase_file(self) -> Path:
        """Where `tally init` puts a passphrase when asked to keep one."""
        return self.root / "config" / "passphrase"

    @property
    def data(self) -> Path:
        """What the node keeps: ledger, journal, scores."""
        return self.root / "data"

    @property
    def run(self) -> Path:
        """What lives as long as the process: lock, admin socket and token, ports."""
        return self.root / "run"

    @property
    def logs(self) -> Path:
        """Log files."""
        return self.root / "logs"

    @property
    def lock_file(self) -> Path:
        """Held while a node runs."""
        return self.run / "lock"

    @property
    def admin_socket(self) -> Path:
        """The operator's RPC socket."""
        return self.run / "admin.sock"

    @property
    def admin_token_file(self) -> Path:
        """The operator's RPC token, new at each start."""
        return self.run / "admin.token"

    def key_file(self, name: str) -> Path:
        """The key store of a name."""
        return self.keys / f"{name}.json"

    def exists(self) -> bool:
        """Whether `create` was called here once."""
        return (self.root / "config").is_dir()

    def create(self) -> None:
        """Make the folders, 0700. Existing ones stay. Raises OSError."""
        self.root.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        for folder in FOLDERS:
            (self.root / folder).mkdir(mode=FOLDER_MODE, exist_ok=True)

    def require(self) -> None:
        """Raise NoHome unless this is a home, InsecureFile where secrets lie open."""
        if not self.exists():
            raise NoHome(self.root)
        check_folder(self.root / "config")
        if self.keys.is_dir():
            check_folder(self.keys)
        for secret in self.secrets():
            check_secret(secret)

    def secrets(self) -> list[Path]:
        """The files that nobody else may read, in a fixed order."""
        found = sorted(self.keys.glob("*.json")) if self.keys.is_dir() else []
        return [*found, *(path for path in (self.passphrase_file,) if path.exists())]


def resolve_home(text: str | None) -> Home:
    """The home of `--home` or TALLY_HOME, else ~/.tally."""
    chosen = text or os.environ.get(HOME_VARIABLE) or DEFAULT_HOME
    return Home(Path(chosen).expanduser().absolute())


def check_secret(path: Path) -> None:
    """Raise InsecureFile unless only our user can read and write `path`."""
    _check(path, SECRET_MODE)


def check_folder(path: Path) -> None:
    """Raise InsecureFile unless only our user can enter `path`."""
    _check(path, FOLDER_MODE)


def _check(path: Path, mode: int) -> None:
    found = path.stat()
    if found.st_uid != os.geteuid():
        detail = f"belongs to user {found.st_uid}, not to {os.geteuid()}"
        raise InsecureFile(path, detail, f"chown {os.geteuid()} {path}")
    open_bits = stat.S_IMODE(found.st_mode) & 0o077
    if open_bits:
        detail = f"is open to others (mode {stat.S_IMODE(found.st_mode):04o})"
        raise InsecureFile(path, detail, f"chmod {mode:o} {path}")


def write_secret(path: Path, content: bytes, *, replace: bool = False) -> None:
    """Write a 0600 file, whole or not at all. Raises FileExistsError unless `replace`."""
    _write(path, content, SECRET_MODE, replace=replace)


def write_file(path: Path, content: bytes, *, replace: bool = False) -> None:
    """Write a file that is no secret, whole or not at all. Raises FileExistsError."""
    _write(path, content, 0o644, replace=replace)


def _write(path: Path, content: bytes, mode: int, *, replace: bool) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            draft.replace(path)
        else:
            # A link, unlike a rename, fails where the name is taken.
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class HomeLock:
    """The lock on a home, as a context manager. Raises HomeLocked on entry."""

    __slots__ = ("_handle", "_home")

    def __init__(self, home: Home) -> None:
        self._home = home
        self._handle = -1

    def __enter__(self) -> Self:
        path = self._home.lock_file
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, SECRET_MODE)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise HomeLocked(self._home.root, _read_pid(path)) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        self._handle = handle
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # The file stays: removing it would let a second process lock another file of that name.
        os.ftruncate(self._handle, 0)
        os.close(self._handle)
        self._handle = -1


def lock_owner(home: Home) -> int | None:
    """The pid of the process that holds the home's lock now, None where nobody does."""
    try:
        handle = os.open(home.lock_file, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_pid(home.lock_file)
    finally:
        os.close(handle)
    return None


def _read_pid(path: Path) -> int | None:
    with path.open("rb") as file:
        text = file.read(_LOCK_LIMIT_BYTES).strip()
    return int(text) if text.isdigit() else None

"""What can go wrong with the store; all of it stops the node, none of it is a peer's fault.

StorageError
  WrongGenesis           the database is of another network
  SchemaVersionMismatch  written by another version of the store
  StoreLocked            another process has it open
  StoreCorrupt           bytes on disk are not what was written
  StoreFailed            the file system refused; also everything after a failed write
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import plyvel

from ledger.errors import StorageError


class WrongGenesis(StorageError):
    """The database belongs to another network."""

    def __init__(self, path: str, expected: bytes, found: bytes) -> None:
        super().__init__(f"{path}: of genesis {found.hex()}, not {expected.hex()}")
        self.path = path
        self.expected = expected
        self.found = found


class SchemaVersionMismatch(StorageError):
    """The database was written by another version of the store."""

    def __init__(self, path: str, expected: int, found: int) -> None:
        super().__init__(f"{path}: schema {found}, this program reads {expected}")
        self.path = path
        self.expected = expected
        self.found = found


class StoreLocked(StorageError):
    """Another process, or this one, has the database open."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path}: in use by another process")
        self.path = path


class StoreCorrupt(StorageError):
    """Bytes on disk are not what was written."""

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(f"{path}: {detail}")
        self.path = path
        self.detail = detail


class StoreFailed(StorageError):
    """The file system refused: full, failing, gone, not permitted."""

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(f"{path}: {detail}")
        self.path = path
        self.detail = detail


@contextmanager
def storage_errors(path: str) -> Iterator[None]:
    """Turns LevelDB's errors into ours."""
    try:
        yield
    except plyvel.CorruptionError as error:
        raise StoreCorrupt(path, _message(error)) from error
    except plyvel.Error as error:
        raise StoreFailed(path, _message(error)) from error


def _message(error: Exception) -> str:
    raw = error.args[0] if error.args else ""
    return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)

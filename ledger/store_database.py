"""Opening and closing LevelDB: its settings, and its lock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import plyvel

from ledger.store_errors import StoreFailed, StoreLocked, storage_errors

# LevelDB keeps two write buffers. 8 MB hold the batches of a few full blocks, so that level 0 does
# not get a file for each block.
_WRITE_BUFFER_BYTES = 8 << 20

# Uncompressed 4 kB blocks of table files that were read lately.
_BLOCK_CACHE_BYTES = 32 << 20

# 2 MB each: 2 GB of database without reopening files.
_OPEN_FILES_MAX = 1_000

# Ten bits a key: one absent key in a hundred costs a read from disk.
_BLOOM_BITS = 10

# Databases open in this process. LevelDB knows too, but finds out only after opening the lock file,
# and closing that again drops the process's lock on it (POSIX fcntl): a second opening would fail
# and let another process in.
_open_paths: set[str] = set()


def open_database(path: str, *, create: bool) -> Any:
    """The LevelDB database in the folder `path`, with damage in its log reported instead of passed
    over. Raises StoreLocked, StoreCorrupt, StoreFailed."""
    real_path = str(Path(path).resolve())
    if real_path in _open_paths:
        raise StoreLocked(path)
    try:
        with storage_errors(path):
            database = plyvel.DB(
                path,
                create_if_missing=create,
                # Without it a damaged record of the log ends recovery early, and blocks that were
                # committed would be missing without a word. A tail torn by a crash is no damage.
                paranoid_checks=True,
                write_buffer_size=_WRITE_BUFFER_BYTES,
                lru_cache_size=_BLOCK_CACHE_BYTES,
                max_open_files=_OPEN_FILES_MAX,
                bloom_filter_bits=_BLOOM_BITS,
                # Hashes, keys and signatures do not compress; trying costs time on every read.
                compression=None,
            )
    except StoreFailed as error:
        if f"lock {path}" in error.detail:
            raise StoreLocked(path) from error
        raise
    _open_paths.add(real_path)
    return database


def close_database(path: str, database: Any) -> None:
    """Close it and let others open it. Closing twice is allowed."""
    if not database.closed:
        database.close()
        _open_paths.discard(str(Path(path).resolve()))

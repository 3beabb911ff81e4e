"""The state root by its definition in ledger.state_proof, word for word and nothing shared."""

from __future__ import annotations

import hashlib


def _sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def state_root_by_definition(state: dict[bytes, bytes]) -> bytes:
    """The root of a plain dict, 32 bytes."""

    def digit(hashed_key: bytes, level: int) -> int:
        return int.from_bytes(hashed_key) >> (254 - 2 * level) & 3

    def subtree(entries: list[tuple[bytes, bytes]], level: int) -> bytes:
        if not entries:
            return bytes(32)
        if level >= 8 and len(entries) <= 32:
            return _sha(b"\x02" + b"".join(key + value for key, value in sorted(entries)))
        quarters = [[e for e in entries if digit(e[0], level) == n] for n in range(4)]
        return _sha(b"\x01" + b"".join(subtree(quarter, level + 1) for quarter in quarters))

    return subtree([(_sha(b"\x03" + key), _sha(b"\x00" + v)) for key, v in state.items()], 0)

"""Domain separation: what each hash and signature is about, so that none can pass for another.

A signed digest is SHA-256(tag ‖ genesis hash ‖ parts). The tag is 16 bytes (ASCII, zero padded),
the genesis hash 32 bytes, so the parts begin at a fixed place; a part is either fixed-size or the
canonical encoding of one value, which delimits itself. The protocol version is in the tag.
Plain hashes of structures (block, certificate, validator set) use SHA-256(tag ‖ bytes).
"""

from __future__ import annotations

from ledger.crypto import sha256

TAG_BYTES = 16


def _tag(name: str) -> bytes:
    raw = name.encode("ascii")
    assert len(raw) <= TAG_BYTES
    return raw.ljust(TAG_BYTES, b"\0")


TRANSACTION = _tag("tally/tx/1")
REGISTRATION = _tag("tally/regist/1")
RECEIPT = _tag("tally/receipt/1")
REGISTRATION_WORK = _tag("tally/scrypt/1")
VOTE = _tag("tally/vote/1")
BLOCK = _tag("tally/block/1")
CERTIFICATE = _tag("tally/cert/1")
VALIDATORS = _tag("tally/valset/1")
PARAMETERS = _tag("tally/params/1")
NETWORK = _tag("tally/genesis/1")
POSSESSION = _tag("tally/possess/1")


def tagged_hash(tag: bytes, data: bytes) -> bytes:
    """SHA-256(tag ‖ data)."""
    return sha256(tag + data)


def signing_digest(tag: bytes, genesis_hash: bytes, data: bytes) -> bytes:
    """The digest that is signed: SHA-256(tag ‖ genesis hash ‖ data)."""
    return sha256(tag + genesis_hash + data)

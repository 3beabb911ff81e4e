"""The exception tree of the ledger.

    LedgerError
      InvalidData            what somebody handed in is wrong; never our fault, never fatal
        MalformedData        bytes that do not decode to the expected shape
          TrailingBytes      a valid value followed by more bytes
          NotCanonical       decodes, but is not the one spelling of its value
          Oversized          longer than the limit for its kind
        InvalidPeerId
        InvalidTransaction   refused before execution, with a stable reason (see ledger.reasons)
        InvalidBlock         a block that must not be voted for
        InvalidCertificate   a commit certificate that proves nothing
        InvalidProof         a state, score or Merkle proof that does not lead to its root
      StorageError           the environment failed (disk, LevelDB): stop cleanly, lose nothing

Modules that own a leaf define it next to the code that raises it; this page defines the branches.
Every leaf carries its facts as attributes.
"""

from __future__ import annotations


class LedgerError(Exception):
    """Anything the ledger raises on purpose."""


class InvalidData(LedgerError):
    """Data from outside is wrong."""


class MalformedData(InvalidData):
    """Bytes that do not decode. `kind` names what was expected, `detail` what was found."""

    reason = "MALFORMED"

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail


class TrailingBytes(MalformedData):
    """A complete value was followed by more bytes."""

    reason = "TRAILING_BYTES"


class NotCanonical(MalformedData):
    """The bytes decode, but encoding the value again gives other bytes."""

    reason = "NOT_CANONICAL"


class Oversized(MalformedData):
    """Longer than allowed. `size_bytes` and `limit_bytes` are the facts."""

    reason = "OVERSIZED"

    def __init__(self, kind: str, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(kind, f"{size_bytes} bytes, at most {limit_bytes} are allowed")
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class InvalidBlock(InvalidData):
    """A block that must not be voted for. `rule` is a stable name, `detail` the facts in words."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule = rule
        self.detail = detail


class StorageError(LedgerError):
    """The environment failed; the node stops cleanly and nothing is lost."""

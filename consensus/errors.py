"""What can be wrong with consensus messages and the journal.

ConsensusError
  InvalidMessage     a peer's message breaks a rule; `rule` names it, the peer is charged
  JournalDamaged     a complete record with a bad checksum: quarantine, resync as an observer
  WrongJournal       the journal belongs to another engine, version or network
  JournalFailed      the environment failed (disk full, I/O error): the node stops, nothing is lost
  JournalInUse       another process has the journal open: two would vote against each other
"""

from __future__ import annotations


class ConsensusError(Exception):
    """Anything the consensus room raises on purpose."""


class InvalidMessage(ConsensusError):
    """A message that no correct validator sends. That message only is discarded."""

    def __init__(self, rule: str, detail: str = "") -> None:
        super().__init__(f"{rule}: {detail}" if detail else rule)
        self.rule = rule
        self.detail = detail


class JournalDamaged(ConsensusError):
    """A complete record whose checksum is wrong. `offset_bytes` is where it starts."""

    def __init__(self, offset_bytes: int, detail: str) -> None:
        super().__init__(f"journal damaged at byte {offset_bytes}: {detail}")
        self.offset_bytes = offset_bytes
        self.detail = detail


class WrongJournal(ConsensusError):
    """The file is a journal of something else."""


class JournalFailed(ConsensusError):
    """Writing the journal failed. What was reported durable is; nothing is written any more."""

    def __init__(self, path: str, cause: OSError) -> None:
        super().__init__(f"cannot write the journal {path}: {cause.strerror or cause}")
        self.path = path
        self.errno = cause.errno
        self.cause = cause


class JournalInUse(ConsensusError):
    """Another process holds the journal's lock."""

    def __init__(self, path: str) -> None:
        super().__init__(f"the journal {path} is in use by another process")
        self.path = path

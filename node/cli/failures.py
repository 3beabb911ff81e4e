"""From exceptions of the rooms to what the user reads: one table of conditions and next steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from genesis.errors import InvalidDefinition, InvalidEntry
from ledger.crypto import InvalidKey
from ledger.errors import InvalidData, LedgerError
from ledger.identity import InvalidPeerId
from ledger.receipt_store import ReceiptStoreLocked, SequenceUsed
from ledger.receipts import InvalidReceipt
from node.cli.output import CliError, Exit
from node.config import ConfigError
from node.config_file import CannotEdit
from node.devnet.state import DevnetError
from node.home import HomeError, HomeLocked, NoHome
from node.keystore import KeystoreError, NoPassphrase, WrongPassphrase
from rpc.client import BadAnswer, CallFailed, ClientError, HttpRefused
from rpc.light_errors import LightError

_REJECTED_CODE = -32003

REASON_HINTS = {
    "NOT_REGISTERED": "both parties must be registered peers: `tally tx register --from NAME`",
    "ALREADY_REGISTERED": "nothing to do; the peer is known to the ledger",
    "INSUFFICIENT_FEE_FUNDS": "the sender's balance does not cover the fee",
    "INSUFFICIENT_FUNDS": "look at the balance with `tally rpc account_get address=PEERID`",
    "NONCE_TOO_LOW": "the nonce is used; leave --nonce out to take the next one",
    "NONCE_TOO_HIGH": "an earlier transaction of the sender is missing; leave --nonce out",
    "RECEIPT_NOT_NEWER": "a newer one is settled already; make the next with `tally receipt new`",
    "NOTHING_TO_RATE": "only the payer of a receipt that both parties signed can rate it",
    "FEE_TOO_LOW": "leave --fee out to pay exactly what is asked",
    "REPLACEMENT_FEE_TOO_LOW": "wait for the earlier transaction, or pay more with --fee",
    "WRONG_CHAIN": "the transaction was made for another network",
    "INVALID_SIGNATURE": "signed with another key, or for another network's genesis hash",
    "METHOD_NOT_FOUND": "`tally rpc rpc.discover` lists the methods",
    "RATE_LIMITED": "wait a moment and try again",
}


def explain(error: BaseException) -> CliError | None:
    """The message for a foreseen failure; None for our own bugs, whose trace should be seen."""
    if isinstance(error, BaseExceptionGroup):
        # A task group wraps what ended it; the first foreseen failure says why.
        explained = [explain(each) for each in error.exceptions]
        return next((each for each in explained if each is not None), None)
    for kind, make in _TABLE:
        if isinstance(error, kind):
            return make(error)
    named = _ENDS_OF_A_NODE.get(type(error).__name__)
    return None if named is None else named(error)


def rejected(reason: str, message: str, facts: dict[str, Any], *, committed: bool) -> CliError:
    """A transaction that the ledger refused, or that failed in its block."""
    return CliError(
        message,
        code=Exit.REJECTED,
        reason=reason,
        hint=REASON_HINTS.get(reason, ""),
        facts={"committed": committed, "facts": facts},
    )


def _problems(error: Any) -> CliError:
    what = {
        InvalidEntry: "the validator's entry cannot be used",
        ConfigError: "the settings cannot be used",
    }.get(type(error), "the network definition cannot be used")
    lines = [f"{what}:", *(f"  {problem}" for problem in error.problems)]
    listed = [
        {"where": each.where, "rule": each.rule, "detail": each.detail, "hint": each.hint}
        for each in error.problems
    ]
    kind = "INVALID_CONFIG" if isinstance(error, ConfigError) else "INVALID_DEFINITION"
    return CliError("\n".join(lines), reason=kind, facts={"problems": listed})


def _call_failed(error: CallFailed) -> CliError:
    facts = {name: value for name, value in error.data.items() if name != "reason"}
    if error.code == _REJECTED_CODE:
        details = {name: value for name, value in facts.items() if name != "retryable"}
        shown = ", ".join(f"{name} {value}" for name, value in details.items())
        message = f"rejected: {error.reason}: {error.message}" + (f" ({shown})" if shown else "")
        return rejected(error.reason, message, details, committed=False)
    hint = REASON_HINTS.get(error.reason, "")
    facts |= {"rpcCode": error.code, "url": error.url}
    return CliError(str(error), reason=error.reason, hint=hint, facts=facts)


def _named(reason: str, hint: str = "") -> Callable[[Any], CliError]:
    return lambda error: CliError(str(error), reason=reason, hint=hint)


def _os_error(error: OSError) -> CliError:
    place = f"{error.filename}: " if error.filename else ""
    return CliError(f"{place}{error.strerror or error}", reason="OS_ERROR")


_TABLE: tuple[tuple[type[BaseException], Callable[[Any], CliError]], ...] = (
    (InvalidDefinition, _problems),
    (ConfigError, _problems),
    (CannotEdit, _named("CANNOT_EDIT")),
    (NoHome, _named("NO_HOME")),
    (HomeLocked, _named("HOME_LOCKED")),
    (HomeError, _named("HOME")),
    (WrongPassphrase, _named("WRONG_PASSPHRASE")),
    (NoPassphrase, _named("NO_PASSPHRASE", "name a file with --passphrase-file")),
    (KeystoreError, _named("KEYSTORE")),
    (DevnetError, lambda error: CliError(str(error), reason="DEVNET", hint=error.hint)),
    (InvalidPeerId, _named("INVALID_PEER_ID")),
    (InvalidKey, _named("INVALID_KEY")),
    (
        ReceiptStoreLocked,
        _named("RECEIPT_STORE_LOCKED", "another command is signing receipts; try again"),
    ),
    (
        SequenceUsed,
        _named("SEQUENCE_USED", "signing two receipts with one number is fraud and is slashed"),
    ),
    (InvalidReceipt, _named("INVALID_RECEIPT")),
    (InvalidData, _named("INVALID_DATA")),
    (LedgerError, _named("LEDGER")),
    (CallFailed, _call_failed),
    (HttpRefused, _named("HTTP_REFUSED")),
    (BadAnswer, _named("BAD_ANSWER", "is this the RPC address of a Tallystick node?")),
    (ClientError, _named("CLIENT")),
    (
        LightError,
        _named("NOT_PROVEN", "do not trust this node's answer; ask another with --node URL"),
    ),
    (OSError, _os_error),
)
"""Most specific first."""

_ENDS_OF_A_NODE: dict[str, Callable[[Any], CliError]] = {
    "JournalInUse": _named("JOURNAL_IN_USE", "another process votes with this journal"),
    "JournalFailed": _named("JOURNAL_FAILED", "look at the disk; nothing acknowledged is lost"),
    "WrongJournal": _named("WRONG_JOURNAL", "the journal belongs to another network or version"),
    "StateDiverged": _named(
        "STATE_DIVERGED", "this node computes otherwise than the others; keep its data and report"
    ),
    "ScoreWorkerFailed": _named("SCORE_WORKER_FAILED", "start the node again; look at its memory"),
    "HostFailed": _named("NETWORK_FAILED", "start the node again; the log has the reason"),
}
"""By class name, because importing the rooms they come from would slow every command down."""

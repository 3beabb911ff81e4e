"""From a command's words to a transaction in a block: build, sign, submit, wait, tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from ledger.reasons import REASONS
from ledger.transactions import SignedTransaction, Transaction
from node.cli.amounts import format_amount, parse_amount
from node.cli.common import ask
from node.cli.failures import rejected
from node.cli.network import Network
from node.cli.output import CliError, Exit, bold, clean, pairs, show, usage

if TYPE_CHECKING:
    from rpc.client import RpcClient, TransactionStatus, Wait


@dataclass(frozen=True, slots=True)
class Sending:
    """How a transaction is to be signed and sent; the options that all of them share."""

    network: Network
    key_name: str
    wait: bool
    timeout_s: float
    fee: str | None
    nonce: int | None
    offline: bool
    as_json: bool


def send(sending: Sending, family: type[Transaction], what: str, **fields: Any) -> None:
    """Build, sign and submit, and tell what became of it. Raises CliError."""
    fee = None if sending.fee is None else parse_amount(sending.fee)
    if sending.offline:
        _sign_offline(sending, family, what, fee, fields)
        return
    network = sending.network
    # What asks the user or the node by itself is done before the event loop runs.
    account = network.account(sending.key_name, nonce=sending.nonce)
    until: Wait = "committed" if sending.wait else "accepted"
    timeout_ms = round(sending.timeout_s * 1000)

    async def submit(client: RpcClient) -> TransactionStatus:
        if sending.nonce is not None:
            # A session would take another nonce where this one does not fit.
            signed = account.sign(account.build(family, fee=fee, **fields))
            return await client.submit(signed.raw, wait=until, timeout_ms=timeout_ms)
        session = network.account(sending.key_name, client)
        return await session.send(family, wait=until, timeout_ms=timeout_ms, fee=fee, **fields)

    status = ask(submit, network.node, network.home)
    tell(status, what, waited=sending.wait, timeout_s=sending.timeout_s, as_json=sending.as_json)


def _sign_offline(
    sending: Sending, family: type[Transaction], what: str, fee: int | None, fields: dict[str, Any]
) -> None:
    if sending.network.genesis is None or sending.nonce is None:
        raise usage("--offline needs --genesis FILE (which network) and --nonce (which number)")
    account = sending.network.account(sending.key_name, nonce=sending.nonce)
    signed = account.sign(account.build(family, fee=fee, **fields))
    show_signed(signed, what, as_json=sending.as_json)


def show_signed(signed: SignedTransaction, what: str, *, as_json: bool) -> None:
    """Print signed bytes, ready for `tally tx submit`."""
    facts = {
        "hash": "0x" + signed.transaction_id.hex(),
        "fee": str(signed.transaction.fee),
        "raw": "0x" + signed.raw.hex(),
    }
    show(facts, str(facts["raw"]), as_json=as_json)
    if not as_json:
        typer.echo(f"{what}, fee {format_amount(signed.transaction.fee)}", err=True)
        typer.echo("submit it with: tally tx submit RAW", err=True)


def tell(
    status: TransactionStatus, what: str, *, waited: bool, timeout_s: float, as_json: bool
) -> None:
    """Show where a transaction is. Raises CliError where it failed (4) or still waits (5)."""
    hashed = "0x" + status.transaction_id.hex()
    if not status.is_committed:
        if waited:
            raise CliError(
                f"{what}: still pending after {timeout_s:g} s; it may still be committed",
                code=Exit.PENDING,
                reason="PENDING",
                hint=f"ask again: tally tx wait {hashed}",
                facts={"hash": hashed, "status": "pending"},
            )
        lines = [f"{bold('accepted')}: {what}", f"  {hashed}"]
        show({"hash": hashed, "status": "pending"}, lines, as_json=as_json)
        return
    if not status.ok:
        facts = dict(status.facts)
        shown = ", ".join(f"{name} {value}" for name, value in facts.items())
        meaning = REASONS.get(status.reason, "")
        error = rejected(
            status.reason,
            f"{what}: in block {status.height}, but without effect: {status.reason}"
            + (f": {meaning}" if meaning else "")
            + (f" ({shown})" if shown else "")
            + "; the fee is paid",
            facts,
            committed=True,
        )
        error.facts |= {"hash": hashed, "height": status.height}
        raise error
    facts_json = {"hash": hashed, "status": "committed", "height": status.height, "ok": True}
    lines = [f"{bold('committed')} in block {status.height}: {what}", f"  {hashed}"]
    show(facts_json, lines, as_json=as_json)


_AMOUNT_FIELDS = {"fee", "amount", "deposit", "cumPaid", "balance"}


def describe_payload(payload: dict[str, Any]) -> list[str]:
    """A decoded transaction's fields for people; amounts in T."""

    def shown(name: str, value: Any) -> object:
        if name in _AMOUNT_FIELDS:
            return format_amount(int(value))
        return "-" if value in ("0x", "") else value

    return pairs(((name, shown(name, value)) for name, value in payload.items()), "  ")


def parse_hash(text: str) -> str:
    """A transaction hash as the protocol writes it. Raises CliError."""
    digits = text.lower().removeprefix("0x")
    if len(digits) != 64 or not all(each in "0123456789abcdef" for each in digits):
        raise usage(f"{clean(text)!r} is no hash: 0x and 64 hexadecimal digits")
    return "0x" + digits


def label(name: str) -> str:
    """How to speak of a name or PeerID in a sentence."""
    return short(name) if name.startswith("16Uiu2HA") else clean(name)


def short(peer: str) -> str:
    """A PeerID, shortened: all begin alike, so the end is what differs."""
    return f"…{peer[-8:]}"

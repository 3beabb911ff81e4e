"""tally tx: make, sign, submit and look up transactions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli.common import (
    HomeOption,
    JsonOption,
    NodeOption,
    PassphraseOption,
    ask,
    group,
    guarded,
    reads_answers,
)
from node.cli.output import CliError, bold, clean, pairs, show, usage
from node.cli.tx_options import (
    DEFAULT_TIMEOUT_S,
    FeeOption,
    FromOption,
    GenesisOption,
    NonceOption,
    OfflineOption,
    TimeoutOption,
    WaitOption,
)

if TYPE_CHECKING:
    from rpc.client import RpcClient, TransactionStatus

app = group("tx", "Make, sign, submit and look up transactions.")

HashArgument = Annotated[str, typer.Argument(metavar="HASH", help="The transaction's hash.")]
ServiceOption = Annotated[int, typer.Option(min=0, max=31, help="Which service, 0 to 31.")]


@app.command("send")
@guarded
def send_(
    to: Annotated[str, typer.Argument(metavar="TO", help="PeerID or name.")],
    amount: Annotated[str, typer.Argument(metavar="AMOUNT", help="With its unit: 5T, 250uT.")],
    *,
    sender: FromOption,
    wait: WaitOption = True,
    timeout: TimeoutOption = DEFAULT_TIMEOUT_S,
    fee: FeeOption = None,
    nonce: NonceOption = None,
    offline: OfflineOption = False,
    genesis: GenesisOption = None,
    node: NodeOption = None,
    home: HomeOption = None,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send T to an account."""
    from ledger.transactions import Transfer
    from node.cli.amounts import format_amount, parse_amount
    from node.cli.network import Network
    from node.cli.tx_support import Sending, label, send

    parsed = parse_amount(amount)
    if parsed == 0:
        raise usage("there is nothing to send")
    network = Network(node, home, genesis=genesis, passphrase_file=passphrase_file)
    address = network.ring.address(to)
    sending = Sending(network, sender, wait, timeout, fee, nonce, offline, as_json)
    what = f"{format_amount(parsed)} from {label(sender)} to {label(to)}"
    send(sending, Transfer, what, to=address, amount=parsed)


@app.command()
@guarded
def register(
    *,
    sender: FromOption,
    peer: Annotated[
        str | None,
        typer.Option(
            metavar="KEY", help="Register this peer instead and pay for it.", show_default=False
        ),
    ] = None,
    services: Annotated[
        str, typer.Option(metavar="LIST", help="Services offered, for example 0,3.")
    ] = "0",
    endpoint: Annotated[
        str, typer.Option(metavar="TEXT", help="Where the service is; its hash is recorded.")
    ] = "",
    deposit: Annotated[
        str | None,
        typer.Option(metavar="AMOUNT", help="Default: what is required.", show_default=False),
    ] = None,
    wait: WaitOption = True,
    timeout: TimeoutOption = DEFAULT_TIMEOUT_S,
    fee: FeeOption = None,
    nonce: NonceOption = None,
    offline: OfflineOption = False,
    genesis: GenesisOption = None,
    node: NodeOption = None,
    home: HomeOption = None,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an account a known peer, which can be paid and rated for service."""
    from ledger.crypto import sha256
    from ledger.transactions import Register
    from node.cli.amounts import parse_amount
    from node.cli.network import Network
    from node.cli.tx_support import Sending, label, send
    from node.registration import registration

    network = Network(node, home, genesis=genesis, passphrase_file=passphrase_file)
    name = sender if peer is None else peer
    fields = registration(
        network.ring.key(name),
        network.ring.key(sender).public_key,
        network.chain,
        network.params,
        service_mask=_service_mask(services),
        endpoint_hash=sha256(endpoint.encode()) if endpoint else bytes(32),
        deposit=None if deposit is None else parse_amount(deposit),
    )
    sending = Sending(network, sender, wait, timeout, fee, nonce, offline, as_json)
    send(sending, Register, f"{label(name)} registered", **fields)


@app.command()
@guarded
def settle(
    receipt: Annotated[
        str | None,
        typer.Argument(
            metavar="[RECEIPT]", help="A receipt's text; - is stdin.", show_default=False
        ),
    ] = None,
    *,
    payer: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Without RECEIPT: who pays.", show_default=False),
    ] = None,
    payee: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Without RECEIPT: who served.", show_default=False),
    ] = None,
    amount: Annotated[
        str | None,
        typer.Option(metavar="AMOUNT", help="Without RECEIPT: what is paid.", show_default=False),
    ] = None,
    units: Annotated[int, typer.Option(min=1, help="Without RECEIPT: units served.")] = 1,
    service: ServiceOption = 0,
    sender: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="KEY", help="Who submits: payee or payer.", show_default=False
        ),
    ] = None,
    wait: WaitOption = True,
    timeout: TimeoutOption = DEFAULT_TIMEOUT_S,
    fee: FeeOption = None,
    nonce: NonceOption = None,
    offline: OfflineOption = False,
    genesis: GenesisOption = None,
    node: NodeOption = None,
    home: HomeOption = None,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Settle a service receipt: one that both signed, or a new one when both keys are here."""
    from node.cli.network import Network
    from node.cli.receipt_support import read_receipt, sign_by_both, submit_receipt
    from node.cli.tx_support import Sending

    network = Network(node, home, genesis=genesis, passphrase_file=passphrase_file)
    if receipt is not None:
        if payer or payee or amount:
            raise usage("either RECEIPT, or --payer, --payee and --amount to make a new one")
        if sender is None:
            raise usage("--from says which of the two parties submits RECEIPT")
        signed = read_receipt(receipt)
    else:
        if not (payer and payee and amount):
            raise usage("RECEIPT, or --payer, --payee and --amount to make a new one")
        signed = sign_by_both(network, payer, payee, service, units, amount)
        sender = sender or payee
    sending = Sending(network, sender, wait, timeout, fee, nonce, offline, as_json)
    submit_receipt(sending, signed)


@app.command()
@guarded
def rate(
    subject: Annotated[str, typer.Argument(metavar="SUBJECT", help="Who served: PeerID or name.")],
    *,
    score: Annotated[
        int, typer.Option(min=-10, max=10, help="-10 (fraud) to 10 (perfect), never 0.")
    ],
    sender: FromOption,
    service: ServiceOption = 0,
    seq: Annotated[
        int | None,
        typer.Option(
            min=1, help="The receipt's number. Default: the newest signed here.", show_default=False
        ),
    ] = None,
    code: Annotated[int, typer.Option(min=0, max=255, help="A reason's number.")] = 0,
    evidence: Annotated[
        str, typer.Option(metavar="TEXT", help="Evidence; its hash is recorded.")
    ] = "",
    wait: WaitOption = True,
    timeout: TimeoutOption = DEFAULT_TIMEOUT_S,
    fee: FeeOption = None,
    nonce: NonceOption = None,
    offline: OfflineOption = False,
    genesis: GenesisOption = None,
    node: NodeOption = None,
    home: HomeOption = None,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rate a service that you paid for."""
    from ledger.crypto import sha256
    from ledger.transactions import Rate
    from node.cli.network import Network
    from node.cli.receipt_support import newest_seq
    from node.cli.tx_support import Sending, label, send

    if score == 0:
        raise usage("0 says nothing: praise from 1 to 10, blame from -1 to -10")
    network = Network(node, home, genesis=genesis, passphrase_file=passphrase_file)
    address = network.ring.address(subject)
    number = newest_seq(network, sender, address, service) if seq is None else seq
    sending = Sending(network, sender, wait, timeout, fee, nonce, offline, as_json)
    send(
        sending,
        Rate,
        f"{label(sender)} rates {label(subject)} {score:+} for receipt {number}",
        subject=address,
        service=service,
        receipt_seq=number,
        score=score,
        code=code,
        evidence_hash=sha256(evidence.encode()) if evidence else b"",
    )


@app.command()
@guarded
@reads_answers
def get(
    hash_: HashArgument,
    *,
    node: NodeOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a transaction and what became of it."""
    from node.cli.tx_support import parse_hash

    hashed = parse_hash(hash_)
    said = ask(lambda client: client.call("tx_get", {"hash": hashed}), node, home)
    show(said, _transaction_text(said), as_json=as_json)


@app.command()
@guarded
def wait(
    hash_: HashArgument,
    *,
    timeout: TimeoutOption = DEFAULT_TIMEOUT_S,
    node: NodeOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Wait until a transaction is in a block."""
    from node.cli.tx_support import parse_hash, tell

    hashed = parse_hash(hash_)

    async def until_committed(client: RpcClient) -> TransactionStatus | None:
        import asyncio

        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while True:
            status = await client.transaction(bytes.fromhex(hashed[2:]))
            if status is None or status.is_committed or loop.time() >= deadline:
                return status
            await asyncio.sleep(_POLL_S)

    status = ask(until_committed, node, home)
    if status is None:
        raise CliError(
            f"no transaction {hashed} waits here or is in a block that this node keeps",
            reason="TRANSACTION_NOT_FOUND",
            hint="it may have been dropped; submit it again, which is harmless",
        )
    tell(status, "transaction", waited=True, timeout_s=timeout, as_json=as_json)


# Between two looks at a transaction that waits: well below a block's time.
_POLL_S = 0.25


@app.command()
@guarded
def decode(
    raw: Annotated[str, typer.Argument(metavar="RAW", help="0x and hexadecimal; - is stdin.")],
    *,
    genesis: GenesisOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what is in a transaction's bytes; with --genesis also its hash, and check signatures."""
    from genesis.definition import load_network
    from ledger.crypto import verify
    from ledger.transactions import decode_transaction
    from node.cli.tx_support import describe_payload
    from rpc.forms import transaction_form

    network = None if genesis is None else load_network(genesis)
    genesis_hash = bytes(32) if network is None else network.genesis_hash
    signed = decode_transaction(_raw(raw), genesis_hash)
    form = transaction_form(signed)
    if network is None:
        del form["hash"]
    else:
        form["signatureValid"] = verify(
            signed.transaction.sender, signed.transaction_id, signed.signature
        )
    lines = [f"{bold(form['payload']['type'])}, {form['sizeBytes']} bytes"]
    lines += describe_payload({k: v for k, v in form["payload"].items() if k != "type"})
    if network is not None:
        valid = "valid for the founding key" if form["signatureValid"] else "NOT valid"
        lines += pairs([("hash", form["hash"]), ("signature", valid)], "  ")
    show(form, lines, as_json=as_json)


@app.command()
@guarded
def sign(
    payload: Annotated[
        str, typer.Argument(metavar="PAYLOAD", help="A payload's JSON in a file; - is stdin.")
    ],
    *,
    sender: FromOption,
    offline: Annotated[
        bool,
        typer.Option("--offline", help="Ask no node: needs --genesis.", show_default=False),
    ] = False,
    genesis: GenesisOption = None,
    node: NodeOption = None,
    home: HomeOption = None,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign a payload in JSON, as `tx decode --json` and `tx get --json` show them."""
    from ledger.transactions import sign_transaction
    from node.cli.network import Network
    from node.cli.payload import payload_from_json
    from node.cli.tx_support import label, show_signed

    if offline and genesis is None:
        raise usage("--offline needs --genesis FILE, which says for which network")
    network = Network(node, home, genesis=genesis, passphrase_file=passphrase_file)
    text = sys.stdin.read() if payload == "-" else Path(payload).read_text(encoding="utf-8")
    transaction = payload_from_json(text)
    if transaction.chain_id != network.chain.chain_id:
        raise CliError(
            f"the payload is for {transaction.chain_id!r}, not for {network.chain.chain_id!r}",
            reason="WRONG_CHAIN",
        )
    key = network.ring.key(sender)
    if transaction.sender != key.public_key:
        raise CliError(
            f"the payload's sender is not the key of {label(sender)}", reason="WRONG_SENDER"
        )
    signed = sign_transaction(transaction, key, network.chain.genesis_hash)
    show_signed(signed, type(transaction).__name__, as_json=as_json)


@app.command()
@guarded
def submit(
    raw: Annotated[str, typer.Argument(metavar="RAW", help="0x and hexadecimal; - is stdin.")],
    *,
    wait: WaitOption = True,
    timeout: TimeoutOption = DEFAULT_TIMEOUT_S,
    node: NodeOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Submit a signed transaction. Submitting it again is harmless."""
    from node.cli.tx_support import tell
    from rpc.client import Wait

    signed = _raw(raw)
    until: Wait = "committed" if wait else "accepted"
    status = ask(
        lambda client: client.submit(signed, wait=until, timeout_ms=round(timeout * 1000)),
        node,
        home,
    )
    tell(status, "transaction", waited=wait, timeout_s=timeout, as_json=as_json)


def _transaction_text(said: dict[str, Any]) -> list[str]:
    from node.cli.tx_support import describe_payload

    payload = said["payload"]
    lines = [f"{bold(payload['type'])} {clean(said['hash'])}"]
    if said["status"] == "pending":
        lines.append("  pending")
    else:
        receipt = said.get("receipt") or {}
        outcome = "done" if receipt.get("ok") else f"failed: {receipt.get('reason')}"
        lines.append(clean(f"  in block {said['height']:,}, {outcome}"))
    return lines + describe_payload({k: v for k, v in payload.items() if k != "type"})


def _raw(text: str) -> bytes:
    content = (sys.stdin.read() if text == "-" else text).strip()
    try:
        return bytes.fromhex(content.removeprefix("0x"))
    except ValueError:
        raise usage("the bytes are not hexadecimal") from None


def _service_mask(text: str) -> int:
    mask = 0
    for part in filter(None, (each.strip() for each in text.split(","))):
        if not part.isdigit() or int(part) > 31:
            raise usage(f"--services {text}: numbers from 0 to 31 with commas")
        mask |= 1 << int(part)
    return mask

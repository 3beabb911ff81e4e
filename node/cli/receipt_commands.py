"""tally receipt: keep account of service off the chain (ledger.receipts)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli.common import HomeOption, JsonOption, NodeOption, PassphraseOption, group, guarded
from node.cli.output import bold, note, pairs, show
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
    from ledger.receipts import ServiceReceipt

app = group("receipt", "Service receipts: made and signed off the chain, settled on it.")

ReceiptArgument = Annotated[
    str, typer.Argument(metavar="RECEIPT", help="The receipt's text; - is stdin.")
]


@app.command()
@guarded
def new(
    *,
    payer: Annotated[str, typer.Option(metavar="KEY", help="Who pays and signs.")],
    payee: Annotated[str, typer.Option(metavar="PEER", help="Who served: PeerID or name.")],
    amount: Annotated[str, typer.Option(metavar="AMOUNT", help="What this service adds.")],
    units: Annotated[int, typer.Option(min=1, help="Units this service adds.")] = 1,
    service: Annotated[int, typer.Option(min=0, max=31, help="Which service.")] = 0,
    genesis: GenesisOption = None,
    node: NodeOption = None,
    home: HomeOption = None,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Propose the next receipt: the payer's signature over what it owes in all."""
    from node.cli.network import Network
    from node.cli.receipt_support import propose

    network = Network(node, home, genesis=genesis, passphrase_file=passphrase_file)
    _show(propose(network, payer, payee, service, units, amount), as_json=as_json)


@app.command()
@guarded
def countersign(
    receipt: ReceiptArgument,
    *,
    payee: Annotated[str, typer.Option("--from", metavar="KEY", help="The payee's key.")],
    genesis: GenesisOption = None,
    node: NodeOption = None,
    home: HomeOption = None,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign the payer's receipt as payee. Check the sums first: `receipt verify` shows them."""
    from node.cli.network import Network
    from node.cli.receipt_support import countersign as sign
    from node.cli.receipt_support import read_receipt

    network = Network(node, home, genesis=genesis, passphrase_file=passphrase_file)
    _show(sign(network, read_receipt(receipt), payee), as_json=as_json)


@app.command()
@guarded
def adopt(
    receipt: ReceiptArgument,
    *,
    party: Annotated[str, typer.Option("--from", metavar="KEY", help="Payer's or payee's key.")],
    genesis: GenesisOption = None,
    node: NodeOption = None,
    home: HomeOption = None,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Note a receipt that both have signed; after a loss, do this before signing anything."""
    from node.cli.network import Network
    from node.cli.receipt_support import adopt as note_receipt
    from node.cli.receipt_support import read_receipt

    network = Network(node, home, genesis=genesis, passphrase_file=passphrase_file)
    complete = read_receipt(receipt)
    note_receipt(network, complete, party)
    show(_facts(complete), f"{bold('noted')} receipt {complete.body.seq}", as_json=as_json)


@app.command()
@guarded
def verify(
    receipt: ReceiptArgument,
    *,
    genesis: GenesisOption = None,
    node: NodeOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a receipt's signatures and show what it says."""
    from ledger.receipts import verify_receipt
    from node.cli.network import Network
    from node.cli.receipt_support import read_receipt

    network = Network(node, home, genesis=genesis)
    checked = read_receipt(receipt)
    verify_receipt(checked, network.chain)
    facts = _facts(checked)
    signers = "both" if checked.is_complete else "the payer only"
    if not checked.payer_signature:
        signers = "the payee only"
    lines = [f"{bold('valid')}, signed by {signers}", *_text(checked)]
    show({"valid": True, **facts}, lines, as_json=as_json)


@app.command()
@guarded
def settle(
    receipt: ReceiptArgument,
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
    """Put a receipt on the ledger; the same as `tally tx settle RECEIPT`."""
    from node.cli.network import Network
    from node.cli.receipt_support import read_receipt, submit_receipt
    from node.cli.tx_support import Sending

    network = Network(node, home, genesis=genesis, passphrase_file=passphrase_file)
    sending = Sending(network, sender, wait, timeout, fee, nonce, offline, as_json)
    submit_receipt(sending, read_receipt(receipt))


def _show(receipt: ServiceReceipt, *, as_json: bool) -> None:
    show(_facts(receipt), receipt.to_text(), as_json=as_json)
    if as_json:
        return
    for line in _text(receipt):
        note(line)
    following = "settle" if receipt.is_complete else "countersign"
    who = "payee or payer" if receipt.is_complete else "payee"
    note(f"next, by {who}: tally receipt {following} RECEIPT --from KEY")


def _facts(receipt: ServiceReceipt) -> dict[str, Any]:
    from ledger.identity import peer_id

    body = receipt.body
    return {
        "receipt": receipt.to_text(),
        "chainId": body.chain_id,
        "payer": peer_id(body.payer),
        "payee": peer_id(body.payee),
        "service": body.service,
        "seq": body.seq,
        "cumUnits": body.cum_units,
        "cumPaid": str(body.cum_paid),
        "payerSigned": bool(receipt.payer_signature),
        "payeeSigned": bool(receipt.payee_signature),
    }


def _text(receipt: ServiceReceipt) -> list[str]:
    from node.cli.amounts import format_amount

    facts = _facts(receipt)
    return pairs(
        [
            ("payer", facts["payer"]),
            ("payee", facts["payee"]),
            ("service", facts["service"]),
            ("number", facts["seq"]),
            ("units in all", f"{facts['cumUnits']:,}"),
            ("paid in all", format_amount(int(facts["cumPaid"]))),
        ],
        "  ",
    )

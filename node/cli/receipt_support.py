"""Receipts in a home: one store for each key and network (ledger.receipt_store)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ledger.identity import peer_id
from ledger.receipt_store import ReceiptStore
from ledger.receipts import ServiceReceipt, parse_service_receipt
from ledger.transactions import Settle
from node.cli.amounts import format_amount, parse_amount
from node.cli.network import Network
from node.cli.output import usage
from node.cli.tx_support import Sending, label, send, short
from node.home import FOLDER_MODE

if TYPE_CHECKING:
    from ledger.crypto import PrivateKey


def receipt_store(network: Network, key: PrivateKey) -> ReceiptStore:
    """The store of a key in this network; a context manager. Raises StorageError."""
    folder = network.ring.home.data / "receipts" / network.chain.genesis_hash.hex()[:16]
    _make_folders(folder, network.ring.home.root)
    return ReceiptStore(folder / f"{peer_id(key.public_key)}.db", network.chain, key)


def read_receipt(text: str) -> ServiceReceipt:
    """A receipt's text, or standard input for -. Raises MalformedData."""
    return parse_service_receipt(sys.stdin.read() if text == "-" else text)


def propose(
    network: Network, payer: str, payee: str, service: int, units: int, amount: str
) -> ServiceReceipt:
    """The payer's next receipt, noted and signed."""
    added = parse_amount(amount)
    key, address = network.ring.key(payer), network.ring.address(payee)
    if key.public_key == address:
        raise usage("payer and payee are the same")
    with receipt_store(network, key) as store:
        try:
            body = store.next_body(key.public_key, address, service, units=units, paid=added)
        except ValueError as error:
            raise usage(str(error)) from error
        return store.propose(body)


def countersign(network: Network, receipt: ServiceReceipt, payee: str) -> ServiceReceipt:
    """The receipt with the payee's signature, noted first."""
    with receipt_store(network, network.ring.key(payee)) as store:
        return store.countersign(receipt)


def adopt(network: Network, receipt: ServiceReceipt, party: str) -> None:
    """Note a receipt that both have signed."""
    with receipt_store(network, network.ring.key(party)) as store:
        store.adopt(receipt)


def sign_by_both(
    network: Network, payer: str, payee: str, service: int, units: int, amount: str
) -> ServiceReceipt:
    """A new receipt, signed by both; both private keys are at hand."""
    proposed = propose(network, payer, payee, service, units, amount)
    signed = countersign(network, proposed, payee)
    adopt(network, signed, payer)
    return signed


def newest_seq(network: Network, payer: str, payee: bytes, service: int) -> int:
    """The number of the newest receipt that the payer signed here. Raises CliError."""
    key = network.ring.key(payer)
    with receipt_store(network, key) as store:
        body = store.newest_body(key.public_key, payee, service)
    if body is None:
        raise usage(
            f"{label(payer)} has signed no receipt for {short(peer_id(payee))} here",
            "say which receipt with --seq",
        )
    return body.seq


def submit_receipt(sending: Sending, receipt: ServiceReceipt) -> None:
    """Settle a receipt. Raises CliError, InvalidReceipt."""
    from ledger.receipts import to_settle, verify_receipt

    body = receipt.body
    verify_receipt(receipt, sending.network.chain)
    sender = sending.network.ring.key(sending.key_name).public_key
    settle = to_settle(receipt, sender=sender, nonce=0, fee=0)
    what = (
        f"receipt {body.seq} settled: {short(peer_id(body.payer))} has paid "
        f"{short(peer_id(body.payee))} {format_amount(body.cum_paid)} in all "
        f"for {body.cum_units:,} units of service {body.service}"
    )
    send(
        sending,
        Settle,
        what,
        payer=settle.payer,
        payee=settle.payee,
        service=settle.service,
        channel=settle.channel,
        seq=settle.seq,
        cum_units=settle.cum_units,
        cum_paid=settle.cum_paid,
        counterparty_signature=settle.counterparty_signature,
    )


def _make_folders(folder: Path, root: Path) -> None:
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    assert root in (folder, *folder.parents)
    for each in reversed(missing):
        each.mkdir(mode=FOLDER_MODE)

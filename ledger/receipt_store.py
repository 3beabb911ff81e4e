"""Which receipts a peer has signed: durable before the signature exists.

A payer or payee that signs two receipts with one (payer, payee, service, number) and different
content is slashed, whatever the reason: a crash, a restored backup, two processes with one key. So

    1. the receipt's body, with what the counterparty signed of it, is written and synced,
    2. then it is signed,
    3. then the signature is handed out. It need not be kept: the same body and key give it again.

One row per (signer, payer, payee, service): the newest receipt. A body is signed if it is exactly
the row's (a repeat after a crash or a lost answer) or strictly newer in number, units and sum;
anything else is refused. Older numbers are refused by being older, so nothing else need be kept.
The number is not counted per channel, since the ledger does not.

The file is a SQLite database with a write-ahead log and synchronous=FULL (one fsync a signature),
locked exclusively while the store is open, so that a second process is refused at the door. A
deleted or restored file cannot be noticed here: adopt the counterparties' newest receipts
(`adopt`) before signing again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from ledger.codec import LIMIT_53
from ledger.crypto import PrivateKey
from ledger.errors import InvalidData, MalformedData, StorageError
from ledger.receipts import (
    InvalidReceipt,
    ServiceReceipt,
    decode_service_receipt,
    sign_as_payee,
    sign_as_payer,
    verify_receipt,
)
from ledger.transactions import ChainIdentity, ReceiptBody

SCHEMA_VERSION = 1
_APPLICATION_ID = 0x54414C4C  # "TALL": file(1) and we ourselves can tell the file from others

_SCHEMA = f"""
CREATE TABLE receipts (
    signer BLOB NOT NULL,
    payer BLOB NOT NULL,
    payee BLOB NOT NULL,
    service INTEGER NOT NULL,
    receipt BLOB NOT NULL,
    PRIMARY KEY (signer, payer, payee, service)
) WITHOUT ROWID;
CREATE TABLE chain (chain_id TEXT NOT NULL, genesis_hash BLOB NOT NULL);
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""


class SequenceUsed(InvalidData):
    """The number, or a newer one, was signed with another content. Signing this one is fraud.

    `field` is what does not grow: "seq", "cum_units" or "cum_paid"; `signed` the newest signed
    value, `offered` the refused one.
    """

    def __init__(self, field: str, signed: int, offered: int) -> None:
        super().__init__(f"{field} {offered} is not above {signed}, which is signed already")
        self.field = field
        self.signed = signed
        self.offered = offered


class ReceiptStoreLocked(StorageError):
    """Another process has the store open."""


class ReceiptStoreDamaged(StorageError):
    """The file is no receipt store, is of another network or version, or is corrupt."""


class ReceiptStore:
    """Signs receipts with one peer's key and remembers what it signed. Close it after use.

    `key` is the peer's active key; `address` its address, by default the key itself. Blocking: call
    it from a thread that may wait for the disk, always the same one.
    """

    def __init__(
        self, path: Path, chain: ChainIdentity, key: PrivateKey, address: bytes | None = None
    ) -> None:
        self.chain = chain
        self.address = key.public_key if address is None else address
        self._key = key
        self._path = path
        with _errors_named(path):
            # A lock is held for long by another store only, so there is no use in waiting for it.
            self._database = sqlite3.connect(path, timeout=0, isolation_level=None)
        try:
            with _errors_named(path):
                self._open(path)
        except BaseException:
            self._database.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the lock back."""
        self._database.close()

    def next_body(
        self, payer: bytes, payee: bytes, service: int, *, units: int, paid: int
    ) -> ReceiptBody:
        """The body that follows the newest signed one, `units` and `paid` (µT) added to its sums.

        Raises ValueError unless both are above 0 and the sums stay below 2^53.
        """
        if units <= 0 or paid <= 0:
            raise ValueError("a receipt adds at least one unit and one µT")
        newest = self.newest_body(payer, payee, service)
        seq, cum_units, cum_paid = (
            (0, 0, 0) if newest is None else (newest.seq, newest.cum_units, newest.cum_paid)
        )
        if cum_units + units >= LIMIT_53 or cum_paid + paid >= LIMIT_53:
            raise ValueError("the sums of a receipt stay below 2^53")
        return ReceiptBody(
            self.chain.chain_id,
            payer,
            payee,
            service,
            b"",
            seq + 1,
            cum_units + units,
            cum_paid + paid,
        )

    def propose(self, body: ReceiptBody) -> ServiceReceipt:
        """The body signed as payer, durably noted first.

        Raises InvalidReceipt, SequenceUsed or StorageError.
        """
        if body.payer != self.address:
            raise InvalidReceipt("not-a-party", "we are not its payer")
        self._check_body(body)
        return self._signed(self._reserve(ServiceReceipt(body)))

    def countersign(
        self, receipt: ServiceReceipt, *, payer_key: bytes | None = None
    ) -> ServiceReceipt:
        """The payer's receipt signed as payee too, durably noted first.

        `payer_key`: the payer's active key where it is not its address. Whether the sums are what
        is owed is for the caller to judge. Raises InvalidReceipt, SequenceUsed or StorageError.
        """
        body = receipt.body
        if body.payee != self.address:
            raise InvalidReceipt("not-a-party", "we are not its payee")
        if not receipt.payer_signature:
            raise InvalidReceipt("payer-signature", "the payer signs first")
        self._check_body(body)
        offered = ServiceReceipt(body, receipt.payer_signature)
        verify_receipt(offered, self.chain, payer_key=payer_key)
        return self._signed(self._reserve(offered))

    def adopt(
        self,
        receipt: ServiceReceipt,
        *,
        payer_key: bytes | None = None,
        payee_key: bytes | None = None,
    ) -> None:
        """Take in a receipt with both signatures: the counterparty's answer, or after a loss.

        The newest one is what next_body goes on from. An older one than ours changes nothing.
        Raises InvalidReceipt, SequenceUsed (another content under our newest number) or
        StorageError.
        """
        body = receipt.body
        if self.address not in (body.payer, body.payee):
            raise InvalidReceipt("not-a-party", "we are neither its payer nor its payee")
        if not receipt.is_complete:
            raise InvalidReceipt("payee-signature", "both must have signed")
        verify_receipt(receipt, self.chain, payer_key=payer_key, payee_key=payee_key)
        newest = self.newest_body(body.payer, body.payee, body.service)
        if newest is not None and body.seq < newest.seq:
            return
        self._reserve(receipt)

    def newest_body(self, payer: bytes, payee: bytes, service: int) -> ReceiptBody | None:
        """What was signed (or was about to be) last."""
        receipt = self._row(payer, payee, service)
        return None if receipt is None else receipt.body

    def newest_receipt(self, payer: bytes, payee: bytes, service: int) -> ServiceReceipt | None:
        """The newest body with our signature and, where we hold it, the counterparty's."""
        receipt = self._row(payer, payee, service)
        return None if receipt is None else self._signed(receipt)

    # ---- inside ----------------------------------------------------------------------------------

    def _check_body(self, body: ReceiptBody) -> None:
        if body.chain_id != self.chain.chain_id:
            raise InvalidReceipt("chain", f"{body.chain_id!r} instead of {self.chain.chain_id!r}")
        if body.payer == body.payee:
            raise InvalidReceipt("parties", "payer and payee are the same")

    def _reserve(self, offered: ServiceReceipt) -> ServiceReceipt:
        """Make the body the one signed under its number, durably; with all signatures we hold."""
        body = offered.body
        held = self._row(body.payer, body.payee, body.service)
        if held is not None and held.body == body:
            merged = ServiceReceipt(
                body,
                offered.payer_signature or held.payer_signature,
                offered.payee_signature or held.payee_signature,
            )
            if merged == held:
                return held
            offered = merged
        elif held is not None:
            for field in ("seq", "cum_units", "cum_paid"):
                signed, value = getattr(held.body, field), getattr(body, field)
                if value <= signed:
                    raise SequenceUsed(field, signed, value)
        with _errors_named(self._path):
            self._database.execute(
                "INSERT OR REPLACE INTO receipts VALUES (?, ?, ?, ?, ?)",
                (self.address, body.payer, body.payee, body.service, offered.encode()),
            )
        return offered

    def _signed(self, reserved: ServiceReceipt) -> ServiceReceipt:
        """A reserved receipt with our signature on it."""
        body, genesis_hash = reserved.body, self.chain.genesis_hash
        if body.payee == self.address:
            return sign_as_payee(reserved, self._key, genesis_hash)
        proposal = sign_as_payer(body, self._key, genesis_hash)
        return ServiceReceipt(body, proposal.payer_signature, reserved.payee_signature)

    def _row(self, payer: bytes, payee: bytes, service: int) -> ServiceReceipt | None:
        with _errors_named(self._path):
            row = self._database.execute(
                "SELECT receipt FROM receipts "
                "WHERE signer = ? AND payer = ? AND payee = ? AND service = ?",
                (self.address, payer, payee, service),
            ).fetchone()
        if row is None:
            return None
        try:
            return decode_service_receipt(row[0])
        except MalformedData as error:
            raise ReceiptStoreDamaged(f"{self._path}: {error}") from error

    def _open(self, path: Path) -> None:
        execute = self._database.execute
        execute("PRAGMA locking_mode = EXCLUSIVE")
        execute("PRAGMA synchronous = FULL")
        # The first write takes the lock, which exclusive mode keeps until the store is closed.
        if execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
            raise ReceiptStoreDamaged(f"{path}: this file system cannot hold a write-ahead log")
        execute("BEGIN IMMEDIATE")
        version = execute("PRAGMA user_version").fetchone()[0]
        if version == 0 and not execute("SELECT name FROM sqlite_schema").fetchone():
            for statement in _SCHEMA.strip().split(";\n"):
                execute(statement)
            execute(
                "INSERT INTO chain VALUES (?, ?)", (self.chain.chain_id, self.chain.genesis_hash)
            )
        execute("COMMIT")
        if execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
            raise ReceiptStoreDamaged(f"{path} is no receipt store")
        if execute("PRAGMA user_version").fetchone()[0] != SCHEMA_VERSION:
            raise ReceiptStoreDamaged(f"{path} has version {version}, not {SCHEMA_VERSION}")
        if execute("SELECT chain_id, genesis_hash FROM chain").fetchone() != (
            self.chain.chain_id,
            self.chain.genesis_hash,
        ):
            raise ReceiptStoreDamaged(f"{path} belongs to another network")


@contextmanager
def _errors_named(path: Path) -> Iterator[None]:
    """SQLite's errors as the ledger's."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise ReceiptStoreLocked(f"{path} is open in another process") from error
        raise StorageError(f"{path}: {error}") from error
    except sqlite3.Error as error:
        raise ReceiptStoreDamaged(f"{path}: {error}") from error

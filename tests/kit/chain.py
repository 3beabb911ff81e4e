"""A small chain without consensus: keys, a genesis state, signed transactions, executed blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from ledger.crypto import PrivateKey, sha256
from ledger.execution.block import Mode, Outcome, execute_block
from ledger.execution.claims import find_work_nonce
from ledger.execution.context import BlockFacts
from ledger.genesis_state import genesis_writes
from ledger.params import DEVNET_PARAMS, MICRO, ChainParams
from ledger.receipt import Receipt, decode_receipt
from ledger.state import Account, ScoredEpoch, Totals, read_account, read_totals
from ledger.state_tree import StateTree
from ledger.transactions import (
    ChainIdentity,
    Rate,
    ReceiptBody,
    Register,
    Settle,
    SignedTransaction,
    Transaction,
    Transfer,
    receipt_digest,
    registration_digest,
    sign_transaction,
)
from ledger.validators import Validator, ValidatorSet
from ledger.view import EmptyView, OverlayView

GENESIS_HASH = sha256(b"tests: network definition")
CHAIN = ChainIdentity("tally-test", GENESIS_HASH)
GENESIS_TIME_MS = 1_700_000_000_000
FEE = 1_000
"""Above the minimum of any transaction the tests make, below any balance."""


@lru_cache(maxsize=4_096)
def key_of(name: str) -> PrivateKey:
    """The same key for the same name, everywhere."""
    return PrivateKey(sha256(b"tests: key of " + name.encode()))


def address_of(name: str) -> bytes:
    """The address of `key_of(name)`."""
    return key_of(name).public_key


def make_validators(names: Sequence[str] = ("val-0", "val-1", "val-2", "val-3")) -> ValidatorSet:
    """One power each; operator, consensus and node keys all differ."""
    return ValidatorSet.make(
        [
            Validator(
                address_of(name), address_of(f"{name} consensus"), address_of(f"{name} node"), 1
            )
            for name in names
        ]
    )


@dataclass
class SmallChain:
    """Balances by name; blocks are executed and kept in memory."""

    balances: dict[str, int] = field(default_factory=lambda: {"alice": 1_000 * MICRO})
    params: ChainParams = DEVNET_PARAMS
    height: int = 0
    time_ms: int = GENESIS_TIME_MS

    def __post_init__(self) -> None:
        self.validators = make_validators()
        self.proposer = address_of("val-0")
        writes = genesis_writes(
            params=self.params,
            validators=self.validators,
            balances=[(address_of(name), amount) for name, amount in self.balances.items()],
            seeds=[each.operator for each in self.validators.validators],
        )
        self.view = OverlayView(EmptyView(), writes)
        self.tree = StateTree()
        self.tree.apply(self.tree.update(writes))

    # ---- transactions ----------------------------------------------------------------------------

    def sign(self, transaction: Transaction, signer: str) -> SignedTransaction:
        """Signed for this chain."""
        return sign_transaction(transaction, key_of(signer), GENESIS_HASH)

    def nonce(self, name: str) -> int:
        """The next nonce in the state."""
        return self.account(name).nonce

    def transfer(
        self,
        sender: str,
        to: str,
        amount: int,
        *,
        nonce: int | None = None,
        fee: int = FEE,
        expiry_height: int = 0,
        chain_id: str = CHAIN.chain_id,
    ) -> SignedTransaction:
        """A signed transfer."""
        nonce = self.nonce(sender) if nonce is None else nonce
        return self.sign(
            Transfer(
                chain_id, address_of(sender), nonce, fee, expiry_height, address_of(to), amount
            ),
            sender,
        )

    def register(
        self,
        sender: str,
        registrant: str | None = None,
        *,
        nonce: int | None = None,
        deposit: int | None = None,
        work_nonce: int | None = None,
        fee: int = FEE,
    ) -> SignedTransaction:
        """A signed registration; sponsored where `registrant` is another."""
        registrant = registrant or sender
        who = address_of(registrant)
        if work_nonce is None:
            work_nonce = find_work_nonce(who, GENESIS_HASH, self.params)
        unsigned = Register(
            CHAIN.chain_id,
            address_of(sender),
            self.nonce(sender) if nonce is None else nonce,
            fee,
            0,
            who,
            b"",
            0b1011,
            sha256(b"endpoint"),
            self.params.register_deposit if deposit is None else deposit,
            work_nonce,
        )
        if registrant == sender:
            return self.sign(unsigned, sender)
        signature = key_of(registrant).sign(registration_digest(unsigned, GENESIS_HASH))
        return self.sign(_replace(unsigned, registrant_signature=signature), sender)

    def settle(
        self,
        payer: str,
        payee: str,
        seq: int,
        cum_units: int,
        cum_paid: int,
        *,
        sender: str | None = None,
        cosigned: bool = True,
        service: int = 1,
        channel: bytes = b"",
        nonce: int | None = None,
        fee: int = FEE,
    ) -> SignedTransaction:
        """A signed settle, by the payee unless said otherwise."""
        sender = payee if sender is None else sender
        other = payer if sender == payee else payee
        body = ReceiptBody(
            CHAIN.chain_id,
            address_of(payer),
            address_of(payee),
            service,
            channel,
            seq,
            cum_units,
            cum_paid,
        )
        signature = key_of(other).sign(receipt_digest(body, GENESIS_HASH)) if cosigned else b""
        return self.sign(
            Settle(
                CHAIN.chain_id,
                address_of(sender),
                self.nonce(sender) if nonce is None else nonce,
                fee,
                0,
                body.payer,
                body.payee,
                service,
                channel,
                seq,
                cum_units,
                cum_paid,
                signature,
            ),
            sender,
        )

    def rate(
        self,
        sender: str,
        subject: str,
        receipt_seq: int,
        score: int,
        *,
        service: int = 1,
        nonce: int | None = None,
        fee: int = FEE,
    ) -> SignedTransaction:
        """A signed rating."""
        return self.sign(
            Rate(
                CHAIN.chain_id,
                address_of(sender),
                self.nonce(sender) if nonce is None else nonce,
                fee,
                0,
                address_of(subject),
                service,
                receipt_seq,
                score,
                0,
                b"",
            ),
            sender,
        )

    # ---- blocks ----------------------------------------------------------------------------------

    def facts(self, time_ms: int | None = None) -> BlockFacts:
        """The next block's, one second later unless said otherwise."""
        return BlockFacts(
            CHAIN.chain_id,
            GENESIS_TIME_MS,
            self.height + 1,
            self.time_ms + 1_000 if time_ms is None else time_ms,
            self.proposer,
        )

    def execute(
        self,
        *transactions: SignedTransaction,
        mode: Mode = "validate",
        time_ms: int | None = None,
        scores: ScoredEpoch | None = None,
    ) -> Outcome:
        """The outcome of a next block; nothing is kept."""
        return execute_block(
            self.view, self.tree, self.facts(time_ms), transactions, scores=scores, mode=mode
        )

    def commit(
        self,
        *transactions: SignedTransaction,
        mode: Mode = "validate",
        time_ms: int | None = None,
        scores: ScoredEpoch | None = None,
    ) -> list[Receipt]:
        """Execute a next block and keep it; its receipts."""
        outcome = self.execute(*transactions, mode=mode, time_ms=time_ms, scores=scores)
        self.keep(outcome, time_ms)
        return [decode_receipt(each) for each in outcome.receipts]

    def keep(self, outcome: Outcome, time_ms: int | None = None) -> None:
        """Let an outcome be the state."""
        facts = self.facts(time_ms)
        self.height, self.time_ms = facts.height, facts.time_ms
        self.view = OverlayView(self.view, outcome.writes)
        self.tree.apply(outcome.tree_update)

    # ---- state -----------------------------------------------------------------------------------

    def account(self, name: str) -> Account:
        """The account of a name."""
        return read_account(self.view, address_of(name))

    def balance(self, name: str) -> int:
        """µT."""
        return self.account(name).balance

    @property
    def totals(self) -> Totals:
        """Supply, burned, pool, registered."""
        return read_totals(self.view)


def _replace(register: Register, *, registrant_signature: bytes) -> Register:
    fields = {name: getattr(register, name) for name in register.__struct_fields__}
    return Register(**{**fields, "registrant_signature": registrant_signature})

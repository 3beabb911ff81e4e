"""A trust network as signed transactions. Pure: nothing here asks a node or looks at a clock.

    opening    every person is registered by a sponsor and gets the µT it will pay
    ratings    each rating becomes a Settle that both sign and a Rate, in the order of the data

Every person has a key of its own, derived from its number and the replay's name, so a run can be
repeated and anybody can look a person up. One service costs 255 * p_min (node.otc says why).

A *lane* is what one validator is sent, in order. A sender's transactions stay in one lane, so that
nonces arrive in order without any waiting; heavy raters are dealt out first, so that lanes come out
about equally long.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ledger.crypto import HASH_BYTES, PrivateKey, sha256
from ledger.execution.claims import find_work_nonce
from ledger.identity import peer_id
from ledger.params import ChainParams
from ledger.transactions import (
    ChainIdentity,
    Rate,
    ReceiptBody,
    Register,
    Settle,
    Transaction,
    Transfer,
    receipt_digest,
    registration_digest,
    sign_transaction,
)
from node import otc

# Above the longest transaction made here (a sponsored registration under a long chain id), so that
# one fee does for all. What is overpaid, some 150 µT, is a thousandth of a service.
SIZE_BOUND_BYTES = 448

SERVICE = 0
"""The kind of service that is settled."""

PRICE_IN_P_MIN = otc.ORDINARY_SERVICE // otc.P_MIN

# Transactions between two calls of `on_signed`: some 30 ms of signing.
PROGRESS_EVERY_COUNT = 500

_KEY_PHRASE = "tallystick OTC replay, public and worthless"

Lanes = list[list[bytes]]
OnSigned = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Chain:
    """What signing depends on."""

    identity: ChainIdentity
    params: ChainParams

    @property
    def fee(self) -> int:
        """Of every transaction made here, µT."""
        return self.params.fee_base + self.params.fee_per_byte * SIZE_BOUND_BYTES

    @property
    def price(self) -> int:
        """Of one rated service, µT."""
        return PRICE_IN_P_MIN * self.params.reputation_p_min


def person_key(replay: str, person: int) -> PrivateKey:
    """The key of a person in the replay of this name."""
    return PrivateKey(sha256(f"{_KEY_PHRASE}: {replay}: {person}".encode()))


class Signer:
    """An account that signs one transaction after the other. Not registered, it can only pay."""

    __slots__ = ("_chain", "_nonce", "address", "key")

    def __init__(self, key: PrivateKey, chain: Chain, nonce: int = 0) -> None:
        self.key = key
        self.address = key.public_key
        self._chain = chain
        self._nonce = nonce

    def register(self, registrant: PrivateKey) -> bytes:
        """A sponsored registration, or the signer's own, with the smallest deposit."""
        own = registrant.public_key == self.address
        signature = b"" if own else self._registrant_signature(registrant)
        return self._sign(
            Register(
                *self._header(),
                registrant=registrant.public_key,
                registrant_signature=signature,
                service_mask=1 << SERVICE,
                endpoint_hash=bytes(HASH_BYTES),
                deposit=self._chain.params.register_deposit,
                work_nonce=find_work_nonce(
                    registrant.public_key, self._chain.identity.genesis_hash, self._chain.params
                ),
            )
        )

    def transfer(self, to: bytes, amount: int) -> bytes:
        """A payment, µT."""
        return self._sign(Transfer(*self._header(), to=to, amount=amount))

    def settle(self, payee: PrivateKey, seq: int) -> bytes:
        """The `seq`-th service by `payee`, paid by the signer; both sign the receipt."""
        chain, paid = self._chain.identity, seq * self._chain.price
        body = ReceiptBody(
            chain.chain_id, self.address, payee.public_key, SERVICE, b"", seq, seq, paid
        )
        consent = payee.sign(receipt_digest(body, chain.genesis_hash))
        return self._sign(
            Settle(
                *self._header(),
                self.address,
                payee.public_key,
                SERVICE,
                b"",
                seq,
                seq,
                paid,
                consent,
            )
        )

    def rate(self, subject: bytes, seq: int, score: int) -> bytes:
        """The signer's judgement of the `seq`-th service by `subject`."""
        return self._sign(Rate(*self._header(), subject, SERVICE, seq, score, 0, b""))

    def _registrant_signature(self, registrant: PrivateKey) -> bytes:
        chain = self._chain.identity
        register = Register(
            *self._header(),
            registrant=registrant.public_key,
            registrant_signature=b"",
            service_mask=1 << SERVICE,
            endpoint_hash=bytes(HASH_BYTES),
            deposit=0,
            work_nonce=0,
        )
        return registrant.sign(registration_digest(register, chain.genesis_hash))

    def _header(self) -> tuple[str, bytes, int, int, int]:
        return self._chain.identity.chain_id, self.address, self._nonce, self._chain.fee, 0

    def _sign(self, transaction: Transaction) -> bytes:
        self._nonce += 1
        raw = sign_transaction(transaction, self.key, self._chain.identity.genesis_hash).raw
        assert len(raw) <= SIZE_BOUND_BYTES
        return raw


def opening(
    sponsors: Sequence[Signer],
    people: Sequence[PrivateKey],
    needs: Sequence[int],
    lanes: int,
    on_signed: OnSigned = lambda _: None,
) -> Lanes:
    """Registrations and working capital of all people, shared out among the sponsors.

    `needs` are µT by person; who needs nothing is only registered.
    """
    made: Lanes = [[] for _ in range(lanes)]
    progress = _Progress(on_signed)
    for index, (person, need) in enumerate(zip(people, needs, strict=True)):
        place = index % len(sponsors)
        sponsor, lane = sponsors[place], made[place % lanes]
        lane.append(sponsor.register(person))
        if need:
            lane.append(sponsor.transfer(person.public_key, need))
        progress.count(1 + bool(need))
    progress.finish()
    return made


def needs_of(chain: Chain, ratings: Iterable[otc.Rating], people: Sequence[int]) -> list[int]:
    """What each person pays: a service and two fees for each rating it gives, µT."""
    given = Counter(rating.rater for rating in ratings)
    each = chain.price + 2 * chain.fee
    return [given[person] * each for person in people]


def opening_cost(chain: Chain, needs: Sequence[int]) -> int:
    """What all sponsors together pay for `opening`, µT."""
    params = chain.params
    each = params.register_fee + params.register_deposit + 2 * chain.fee
    return len(needs) * each + sum(needs)


def services(
    ratings: Sequence[otc.Rating],
    signers: dict[int, Signer],
    lanes: int,
    on_signed: OnSigned = lambda _: None,
) -> Lanes:
    """Two transactions a rating: the service settled, then judged. Receipts of a pair add up."""
    lane_of = deal(Counter(rating.rater for rating in ratings), lanes)
    made: Lanes = [[] for _ in range(lanes)]
    served: Counter[tuple[int, int]] = Counter()
    progress = _Progress(on_signed)
    for rater, ratee, score in ratings:
        served[rater, ratee] += 1
        seq = served[rater, ratee]
        payer, payee = signers[rater], signers[ratee]
        lane = made[lane_of[rater]]
        lane.append(payer.settle(payee.key, seq))
        lane.append(payer.rate(payee.address, seq, score))
        progress.count(2)
    progress.finish()
    return made


def deal(loads: Counter[int], lanes: int) -> dict[int, int]:
    """Who goes to which lane: the heaviest first, each to the lightest lane so far."""
    weights = [0] * lanes
    lane_of = {}
    for person, load in sorted(loads.items(), key=lambda item: (-item[1], item[0])):
        lightest = weights.index(min(weights))
        weights[lightest] += load
        lane_of[person] = lightest
    return lane_of


def count_of(lanes: Lanes) -> int:
    """Transactions in all lanes."""
    return sum(map(len, lanes))


def addresses(keys: Iterable[PrivateKey]) -> list[str]:
    """PeerIDs."""
    return [peer_id(key.public_key) for key in keys]


class _Progress:
    """Calls back with the number signed since the last call, not too often."""

    __slots__ = ("_on_signed", "_since")

    def __init__(self, on_signed: OnSigned) -> None:
        self._on_signed = on_signed
        self._since = 0

    def count(self, number: int) -> None:
        self._since += number
        if self._since >= PROGRESS_EVERY_COUNT:
            self.finish()

    def finish(self) -> None:
        self._on_signed(self._since)
        self._since = 0

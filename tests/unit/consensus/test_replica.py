"""The replica's rules: order, the guard, the way of a message, how blocks advance."""

from __future__ import annotations

import pytest

from consensus.engine import (
    Applied,
    Build,
    Candidate,
    Commit,
    Overheard,
    PeerDown,
    PeerFault,
    PeerUp,
    Persist,
    PersistDone,
    Received,
    Recheck,
    Send,
    SetTimer,
    Sign,
    Signed,
    SignRequest,
    Start,
    Timer,
    TransactionsWaiting,
    Validate,
    Validated,
    Wanted,
)
from consensus.replica import VERIFIED_SIGNATURES_COUNT, SignatureMemory
from consensus.trace import BlockApplied, MessageRefused, SigningRefused
from ledger.certificate import VOTE_COMMIT, VOTE_PREPARE, Vote
from ledger.crypto import verify
from tests.kit.chain import CHAIN, GENESIS_HASH, make_validators
from tests.unit.consensus.replica_world import (
    OWN,
    PRODUCES_INVALID,
    STRANGER,
    VALIDATORS,
    VOTED,
    World,
    chain_of,
    commit,
    consensus_key,
    node_key,
    note,
    tampered_block,
    wire,
)

OTHERS = [1, 2, 3]


@pytest.fixture
def world() -> World:
    return World().start(VOTED)


def vote(height: int = 1, round_number: int = 0, *, kind: int = VOTE_PREPARE, of: int = 1) -> Vote:
    return Vote(CHAIN.chain_id, "pbft", kind, height, round_number, bytes([of]) * 32)


def sent(world: World) -> list[tuple[int, bytes]]:
    return [(index, payload) for _, index, payload, _ in world.logged("send")]


# ---- start ---------------------------------------------------------------------------------------


def test_the_engine_learns_where_it_stands() -> None:
    world = World()
    world.replica.start((VOTED,))

    (start,) = world.engine.of(Start)
    assert (start.records, start.tip, start.own_index) == ((VOTED,), world.tip, OWN)
    assert (start.validators, start.genesis_hash) == (VALIDATORS, GENESIS_HASH)
    assert (start.chain_id, start.seed, start.now_ms) == (CHAIN.chain_id, 7, world.time_ms)


def test_an_observer_has_no_place_and_signs_nothing() -> None:
    world = World(observer=True).start()
    assert world.engine.of(Start)[0].own_index is None

    world.engine.on(Timer, Sign(SignRequest(vote())))
    world.replica.on_timer(1)

    assert [each.signature for each in world.engine.of(Signed)] == [None]


# ---- nothing is sent before its record is durable ------------------------------------------------


def test_a_message_waits_for_its_record(world: World) -> None:
    free, held = note(text=b"free"), note(text=b"held")
    world.engine.on(Timer, Persist(1, b"record"), Send(None, held, after=1), Send(2, free))

    world.replica.on_timer(1)

    assert world.logged("append") == [("append", 1, b"record")]
    assert sent(world) == [(2, wire(free))]

    world.replica.on_durable(1)

    assert sent(world)[1:] == [(index, wire(held)) for index in OTHERS], "to all, not to itself"
    # The engine hears of it after what it had already decided has left.
    assert world.log[-1] == ("event", "PersistDone")
    assert world.engine.of(PersistDone) == [PersistDone(1)]


def test_one_fsync_releases_what_waited_for_all_records_before_it_in_order(world: World) -> None:
    notes = [note(text=b"%d" % number) for number in range(4)]
    world.engine.on(
        Timer,
        Persist(1, b"one"),
        Send(1, notes[0], after=1),
        Persist(2, b"two"),
        Send(1, notes[2], after=2),
        Send(1, notes[1], after=1),
        Persist(3, b"three"),
        Send(1, notes[3], after=3),
    )
    world.replica.on_timer(1)

    world.replica.on_durable(2)
    assert sent(world) == [(1, wire(notes[0])), (1, wire(notes[1])), (1, wire(notes[2]))]

    world.replica.on_durable(1)
    world.replica.on_durable(2)
    assert world.engine.of(PersistDone) == [PersistDone(2)], "news is told once"

    world.replica.on_durable(3)
    assert sent(world)[3:] == [(1, wire(notes[3]))]


def test_what_waits_for_a_durable_record_leaves_at_once(world: World) -> None:
    world.engine.on(Timer, Persist(1, b"one"))
    world.replica.on_timer(1)
    world.replica.on_durable(1)
    world.engine.on(Timer, Send(1, note(), after=1))

    world.replica.on_timer(2)

    assert len(sent(world)) == 1


def test_a_decision_waits_for_its_record_too(world: World) -> None:
    ((proposal, certificate),) = chain_of(1)
    world.engine.on(Timer, Persist(1, b"one"), Commit(proposal, certificate, after=1))
    world.replica.on_timer(1)
    assert not world.applying

    world.replica.on_durable(1)

    assert world.applying == [(proposal, certificate)]


def test_messages_with_a_block_travel_in_bulk(world: World) -> None:
    world.engine.on(Timer, Send(1, note(), bulk=True), Send(1, note()))
    world.replica.on_timer(1)

    assert [bulk for *_, bulk in world.logged("send")] == [True, False]


# ---- the guard -----------------------------------------------------------------------------------


def sign(world: World, wanted: Vote) -> bytes | None:
    before = len(world.engine.of(Signed))
    world.engine.on(Timer, Sign(SignRequest(wanted)))
    world.replica.on_timer(1)
    (signed,) = world.engine.of(Signed)[before:]
    assert signed.request.vote == wanted
    signature = signed.signature
    assert signature is None or isinstance(signature, bytes)
    return signature


def test_a_vote_is_signed_and_its_opposite_is_not(world: World) -> None:
    signature = sign(world, vote(of=1))

    assert signature is not None
    assert verify(consensus_key(OWN).public_key, vote(of=1).digest(GENESIS_HASH), signature)
    assert sign(world, vote(of=2)) is None
    assert world.seen(SigningRefused) == [SigningRefused(1, 0, VOTE_PREPARE)]


def test_the_same_vote_again_gets_the_same_signature(world: World) -> None:
    first = sign(world, vote())
    assert first is not None
    world.engine.on(Timer, Persist(1, b"record", votes=((vote(), first),)))
    world.replica.on_timer(1)

    assert sign(world, vote()) == first
    assert world.signer.count == 1, "the key itself is not asked twice"


def test_a_vote_in_the_journal_is_not_contradicted_after_a_restart() -> None:
    before = World().start(VOTED)
    signature = sign(before, vote(kind=VOTE_COMMIT, of=1))
    assert signature is not None

    world = World()
    world.engine.records[b"record"] = ((vote(kind=VOTE_COMMIT, of=1), signature),)
    world.start(b"record")

    assert sign(world, vote(kind=VOTE_COMMIT, of=2)) is None
    assert sign(world, vote(kind=VOTE_PREPARE, of=1)) is None, "places only ascend"
    assert sign(world, vote(kind=VOTE_COMMIT, of=1)) == signature
    assert sign(world, vote(round_number=1, of=2)) is not None


def test_the_engine_is_not_reentered_by_answers_that_come_at_once(world: World) -> None:
    # The engine itself asserts it: Signed and Validated arrive while effects are carried out.
    world.engine.on(Timer, Sign(SignRequest(vote())), SetTimer(5, 100))
    world.engine.on(Signed, SetTimer(6, 200))

    world.replica.on_timer(1)

    assert world.log == [
        ("event", "Timer"),
        ("set timer", 5, 100),
        ("event", "Signed"),
        ("set timer", 6, 200),
    ]


# ---- the application's and the node's answers ----------------------------------------------------


def test_requests_and_answers_pass_through(world: World) -> None:
    ((proposal, _),) = chain_of(1)
    world.engine.on(Timer, Build(3, world.tip, allow_empty=True), Validate(proposal, fresh=True))
    world.replica.on_timer(1)
    assert world.logged("build", "validate") == [
        ("build", 3, 0, True),
        ("validate", proposal.block_hash, True),
    ]

    world.replica.on_built(3, proposal)
    world.replica.on_validated(proposal.block_hash, ok=False)

    assert world.engine.of(Candidate) == [Candidate(3, proposal, world.time_ms)]
    assert world.engine.of(Validated) == [Validated(proposal.block_hash, False, world.time_ms)]


def test_waiting_transactions_are_a_level(world: World) -> None:
    for waiting in (True, True, False, False, True):
        world.replica.on_transactions_waiting(waiting=waiting)

    assert [each.waiting for each in world.engine.of(TransactionsWaiting)] == [True, False, True]


def test_peers_are_their_places_in_the_set(world: World) -> None:
    world.replica.on_peer_up(node_key(2), 0)
    world.replica.on_peer_up(STRANGER, 0)
    world.replica.on_peer_down(node_key(2))
    world.replica.on_peer_down(STRANGER)

    assert [each.peer for each in world.engine.of(PeerUp)] == [2]
    assert [each.peer for each in world.engine.of(PeerDown)] == [2]


# ---- the way of a message ------------------------------------------------------------------------


def test_nothing_is_spent_on_an_unwanted_message(world: World) -> None:
    world.replica.on_message(node_key(1), wire(note(wanted=Wanted.NO)))

    assert world.checks == 0
    assert world.engine.of(Received) == world.engine.of(Overheard) == []
    assert world.logged("charge") == []


def test_an_unchecked_message_is_overheard(world: World) -> None:
    message = note(wanted=Wanted.UNCHECKED, signed=False)
    world.replica.on_message(node_key(1), wire(message))

    assert world.checks == 0
    assert world.engine.of(Overheard) == [Overheard(1, message, world.time_ms)]


def test_a_checked_message_is_received_with_its_block(world: World) -> None:
    ((proposal, _),) = chain_of(1)
    message = note(block=proposal.block)
    world.replica.on_message(node_key(2), wire(message))

    assert world.engine.of(Received) == [Received(2, message, world.time_ms, proposal)]


def test_a_signature_is_checked_once(world: World) -> None:
    for _ in range(3):
        world.replica.on_message(node_key(1), wire(note()))

    assert len(world.engine.of(Received)) == 3
    assert world.checks == 1


@pytest.mark.parametrize(
    ("payload", "rule"),
    [
        (wire(note(text=b"one", author=2, signed=True)).replace(b"one", b"two"), "signature"),
        (wire(note(signed=False)), "signature"),
        (wire(note(text=PRODUCES_INVALID)), "scripted"),
        (wire(note()) + b"\0", "TRAILING_BYTES"),
        (b"\x00", "MALFORMED"),
        (b"\x00\xc1", "MALFORMED"),
        (b"\x07" + wire(note()), "unknown_payload"),
        (b"", "unknown_payload"),
        (wire(note(block=b"no block")), "MALFORMED"),
        (wire(note(block=tampered_block())), "tx_root"),
        (b"\x01", "MALFORMED"),
        (b"\x01\xff\xff\xff\xff", "MALFORMED"),
    ],
)
def test_a_message_that_breaks_a_rule_is_dropped_and_charged(
    world: World, payload: bytes, rule: str
) -> None:
    world.replica.on_message(node_key(3), payload)

    assert world.engine.of(Received) == world.engine.of(Overheard) == []
    assert world.logged("charge") == [("charge", node_key(3), rule)]
    assert world.seen(MessageRefused) == [MessageRefused(3, rule)]


def test_a_strangers_words_are_not_even_decoded(world: World) -> None:
    for payload in (wire(note()), b"\x00\xc1", wire(note(height=10**9))):
        world.replica.on_message(STRANGER, payload)

    assert world.log == []


def test_what_was_kept_takes_the_whole_way_again(world: World) -> None:
    good, bad = note(text=b"good"), note(text=b"bad", signed=False)
    world.engine.on(Timer, Recheck(1, good), Recheck(2, bad))
    world.replica.on_timer(1)

    assert [each.message for each in world.engine.of(Received)] == [good]
    assert world.logged("charge") == [("charge", node_key(2), "signature")]


def test_a_fault_that_the_engine_finds_is_charged(world: World) -> None:
    world.engine.on(Timer, PeerFault(2, "fault"), PeerFault(None, "nobody's"))
    world.replica.on_timer(1)

    assert world.logged("charge") == [("charge", node_key(2), "fault")]


def test_the_memory_of_signatures_is_bounded_and_keeps_no_bad_one() -> None:
    asked = 0

    def check(_key: bytes, digest: bytes, _signature: bytes) -> bool:
        nonlocal asked
        asked += 1
        return digest != b"bad"

    memory = SignatureMemory(check)
    assert not memory(b"key", b"bad", b"")
    assert not memory(b"key", b"bad", b"")
    assert asked == 2
    for number in range(VERIFIED_SIGNATURES_COUNT + 1):
        assert memory(b"key", b"%d" % number, b"")
    asked = 0
    assert memory(b"key", b"1", b"")
    assert asked == 0
    assert memory(b"key", b"0", b""), "the oldest was forgotten"
    assert asked == 1


# ---- blocks advance one at a time, in order ------------------------------------------------------


def test_a_decided_block_is_applied_once_and_the_engine_told(world: World) -> None:
    (first, of_first), (second, of_second) = chain_of(2)
    commit(world, second, of_second)
    commit(world, first, of_first)
    commit(world, first, of_first)
    commit(world, second, of_second)
    assert world.logged("apply") == [("apply", 1)], "one at a time, none twice, none early"

    world.applied()

    (applied,) = world.engine.of(Applied)
    assert (applied.tip, applied.own_index) == (world.tip, OWN)
    assert world.seen(BlockApplied) == [BlockApplied(1, 0, first.block_hash, "agreed")]


def test_the_set_of_the_next_height_rules_after_a_block(world: World) -> None:
    (only, certificate), *_ = chain_of(1)
    commit(world, only, certificate)
    world.set = make_validators(("val-1", "val-2", "val-3"))
    world.applied()

    (applied,) = world.engine.of(Applied)
    assert applied.validators == world.set
    place = world.set.index_of_consensus_key.get(consensus_key(OWN).public_key)
    assert applied.own_index == place
    world.log.clear()
    world.engine.on(Timer, Send(None, note()))
    world.replica.on_timer(1)
    keys = {VALIDATORS.validators[index].node_key for _, index, *_ in world.logged("send")}
    own = {
        each.node_key
        for each in world.set.validators
        if each.consensus_key == consensus_key(OWN).public_key
    }
    assert keys == {each.node_key for each in world.set.validators} - own


# ---- the journal stays small ---------------------------------------------------------------------


def test_records_of_decided_heights_go_but_the_last() -> None:
    world = World(keep_bytes=10).start(VOTED)
    (first, of_first), (second, of_second) = chain_of(2)
    world.engine.on(Timer, Persist(1, b"one"), Persist(2, b"two"), Commit(first, of_first))
    world.replica.on_timer(1)
    world.replica.on_durable(1)
    world.applied()
    assert world.logged("reset") == [], "the last record is not durable yet"

    world.replica.on_durable(2)
    commit(world, second, of_second)
    world.applied()

    assert world.logged("reset") == [("reset", (b"two",))]


def test_a_small_journal_is_left_alone() -> None:
    world = World(keep_bytes=1_000).start(VOTED)
    (first, certificate), *_ = chain_of(1)
    world.engine.on(Timer, Persist(1, b"one"), Commit(first, certificate))
    world.replica.on_timer(1)
    world.replica.on_durable(1)
    world.applied()

    assert world.logged("reset") == []

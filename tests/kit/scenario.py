"""Scenario scripts: readable text drives engines, and what they did stands below each command.

A script is a sequence of blocks, separated by empty lines. A block is one command (with comment
lines above it), a line `----`, and the output that was reviewed:

    # The leader is cut off.
    partition 1 | 0,2,3
    ----

    timeout 0,2,3
    ----
    v0 leaves for 1/1, led by v2
    v0 sends VIEW-CHANGE 1/1 (nothing prepared)

`validators` are v0, v1, …; blocks are named A, B, … as they are first seen; h/r is a height and a
round. `run` gives the script with the actual output, so that a test compares and `--rewrite` saves.
The form is that of the data-driven tests of etcd's raft.

Commands. WHO is `all` or a list like 0,2; FILTER is any of: a message type, `from WHO`, `to WHO`,
`h/r`.

    validators POWER POWER …      start them (first command)
    work WHO · no work WHO        transactions wait · no longer wait
    deliver [FILTER] · drop [FILTER]    until nothing that matches flies
    flying                        what is on its way
    timeout WHO · tick WHO · heartbeat WHO    fire the round, repetition or heartbeat timer
    advance MS                    let time pass: timers fire, messages arrive; repetitions are
                                  only counted
    partition WHO | WHO … · heal
    crash WHO [keep N] · restart WHO    keep: so many unwritten records reach the disk
    slow KIND · release KIND WHO  KIND is writes, sign, build, validate or apply
    mute WHO · unmute WHO         the key store refuses to sign · signs again
    reject WHO BLOCK              the application finds the block invalid
    forge N TYPE h/r BLOCK|new|stray|none [to WHO]    a faulty validator signs and sends; a stray
                                  block has another parent
    claim N h/r BLOCK in round R [to WHO]       as forge VIEW-CHANGE, with a prepared certificate
                                  made of the PREPAREs that the validators have sent so far
    change POWER … at HEIGHT      the validator set from a height on
    journal WHO                   the votes on disk
    state WHO
    expect commit HEIGHT [WHO] · expect no commit HEIGHT [WHO]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from consensus.engine import (
    Build,
    Commit,
    Effect,
    Evidence,
    NeedSync,
    PeerFault,
    Send,
    ServeHeight,
    SetTimer,
    Status,
    Tip,
)
from consensus.pbft.engine import PbftEngine
from consensus.pbft.justification import make_prepared
from consensus.pbft.messages import (
    NO_HASH,
    NO_ROUND,
    UNSIGNED,
    BlockReply,
    BlockRequest,
    CommitVote,
    Decided,
    Prepare,
    PrePrepare,
    ViewChange,
)
from tests.kit.engines import (
    CHAIN_ID,
    GENESIS_HASH,
    Cluster,
    Host,
    Letter,
    make_proposal,
    sign,
    validator_set,
)

TYPES: dict[str, type] = {
    "PRE-PREPARE": PrePrepare,
    "PREPARE": Prepare,
    "COMMIT": CommitVote,
    "VIEW-CHANGE": ViewChange,
    "BLOCK-REQUEST": BlockRequest,
    "BLOCK-REPLY": BlockReply,
    "DECIDED": Decided,
}
NAMES = {kind: name for name, kind in TYPES.items()}
VOTE_NAMES = ("VIEW-CHANGE", "PRE-PREPARE", "PREPARE", "COMMIT")


class Script:
    """Runs the commands of one script."""

    def __init__(self) -> None:
        self.cluster: Cluster
        self.lines: list[str] = []
        self._names: dict[bytes, str] = {NO_HASH: "nothing"}
        self._status: dict[int, Status] = {}
        self._prepares: dict[int, Prepare] = {}

    # ---- the way in ------------------------------------------------------------------------------

    def do(self, line: str) -> list[str]:
        """Carry out one command; the output lines."""
        self.lines = []
        words = line.split()
        for size in (2, 1):
            name = "_".join(words[:size])
            method: Callable[[list[str]], None] | None = getattr(self, f"do_{name}", None)
            if method is not None:
                method(words[size:])
                return self.lines
        raise ValueError(f"unknown command: {line}")

    def say(self, line: str) -> None:
        self.lines.append(line)

    def who(self, word: str) -> list[int]:
        if word == "all":
            return [host.index for host in self.cluster.up()]
        return [int(part) for part in word.split(",")]

    # ---- what engines do -------------------------------------------------------------------------

    def name(self, block_hash: bytes) -> str:
        known = len(self._names) - 1
        return self._names.setdefault(block_hash, chr(ord("A") + known))

    def log(self, index: int, effect: Effect) -> None:
        match effect:
            case Build():
                self.say(f"v{index} builds{' (empty is fine)' if effect.allow_empty else ''}")
            case Send():
                to = "" if effect.to is None else f" v{effect.to}"
                self.say(f"v{index} sends{to} {self.describe(effect.message)}")
            case Commit():
                self.say(
                    f"v{index} commits {effect.certificate.height}"
                    f" {self.name(effect.certificate.block_hash)}"
                    f" by COMMITs of round {effect.certificate.round}"
                    f" from {_list(effect.certificate.signers())}"
                )
            case SetTimer() if self._is_round_timer(index, effect):
                self.say(f"v{index} times the round: {effect.delay_ms} ms")
            case NeedSync():
                self.say(f"v{index} needs blocks up to {effect.height}")
            case ServeHeight():
                self.say(f"v{index} serves v{effect.to} block {effect.height}")
            case Evidence():
                self.say(f"v{index} has evidence: v{effect.validator} {effect.kind}")
            case PeerFault():
                self.say(f"v{index} refuses it: {effect.kind}")
            case Status():
                self._log_status(index, effect)
            case _:
                pass

    def _is_round_timer(self, index: int, effect: SetTimer) -> bool:
        return self._height_state(index).round_timer == effect.timer_id

    def _height_state(self, index: int) -> Any:
        return self.cluster.host(index).engine._core.h

    def _log_status(self, index: int, status: Status) -> None:
        before = self._status.get(index)
        self._status[index] = status
        place = f"{status.height}/{status.round}"
        if before is None or before.height != status.height:
            self.say(f"v{index} is {status.phase} at {place}, led by v{status.leader}")
        elif before.round != status.round:
            self.say(f"v{index} moves to {place}, led by v{status.leader}: {status.phase}")
        else:
            self.say(f"v{index} is {status.phase}")

    def describe(self, message: Any) -> str:
        again = " again" if getattr(message, "again", False) else ""
        name = NAMES[type(message)]
        place = f"{message.height}/{getattr(message, 'round', '')}".rstrip("/")
        match message:
            case PrePrepare(claims=claims) if claims:
                by = _list([claim.validator for claim in claims])
                what = f"{self.name(message.block_hash)} (VIEW-CHANGEs of {by}"
                if message.prepared is not None:
                    what += f", prepared in round {message.prepared.round}"
                what += ")"
            case ViewChange():
                what = f"({self.name(message.prepared_hash)} prepared"
                what += f" in round {message.prepared_round})" if message.prepared else ")"
            case Decided():
                what = self.name(message.certificate.block_hash)
            case _:
                what = self.name(message.block_hash)
        return f"{name} {place} {what}{again}"

    # ---- commands --------------------------------------------------------------------------------

    def do_validators(self, words: list[str]) -> None:
        self.cluster = Cluster([int(word) for word in words], PbftEngine)
        self.cluster.log = self.log
        self.cluster.on_posted = self._remember
        self.cluster.start()
        self.lines = []

    def do_change(self, words: list[str]) -> None:
        place = words.index("at")
        powers = [int(word) for word in words[:place]]
        self.cluster.sets[int(words[place + 1])] = validator_set(powers)

    def do_work(self, words: list[str]) -> None:
        self.cluster.set_work(self.who(words[0]), waiting=True)

    def do_no_work(self, words: list[str]) -> None:
        self.cluster.set_work(self.who(words[0]), waiting=False)

    def _matching(self, words: list[str]) -> Callable[[Letter], bool]:
        tests: list[Callable[[Letter], bool]] = []
        rest = list(words)
        while rest:
            word = rest.pop(0)
            if word == "from":
                senders = self.who(rest.pop(0))
                tests.append(lambda letter, senders=senders: letter.sender in senders)
            elif word == "to":
                receivers = self.who(rest.pop(0))
                tests.append(lambda letter, receivers=receivers: letter.receiver in receivers)
            elif word in TYPES:
                tests.append(lambda letter, word=word: isinstance(letter.message, TYPES[word]))
            elif "/" in word:
                place = tuple(map(int, word.split("/")))
                tests.append(
                    lambda letter, place=place: (
                        (letter.message.height, getattr(letter.message, "round", -1)) == place
                    )
                )
            else:
                raise ValueError(f"unknown filter {word}")
        return lambda letter: all(test(letter) for test in tests)

    def do_deliver(self, words: list[str]) -> None:
        matches = self._matching(words)
        for _ in range(10_000):
            letter = next(filter(matches, self.cluster.flying), None)
            if letter is None:
                return
            self.cluster.flying.remove(letter)
            self.cluster.deliver(letter)
        raise AssertionError("a message storm")

    def do_drop(self, words: list[str]) -> None:
        matches = self._matching(words)
        self.cluster.flying = [each for each in self.cluster.flying if not matches(each)]

    def do_flying(self, _words: list[str]) -> None:
        for letter in self.cluster.flying:
            self.say(f"v{letter.sender} > v{letter.receiver} {self.describe(letter.message)}")

    def _fire(self, words: list[str], timer: str, name: str) -> None:
        for index in self.who(words[0]):
            timer_id = getattr(self._height_state(index), timer)
            host = self.cluster.host(index)
            if timer_id not in host.timers:
                self.say(f"v{index} has no {name} timer running")
                continue
            self.cluster.now_ms = max(self.cluster.now_ms, host.timers[timer_id])
            host.fire(timer_id)

    def do_timeout(self, words: list[str]) -> None:
        self._fire(words, "round_timer", "round")

    def do_tick(self, words: list[str]) -> None:
        self._fire(words, "tick_timer", "repetition")

    def do_heartbeat(self, words: list[str]) -> None:
        self._fire(words, "heartbeat_timer", "heartbeat")

    def do_advance(self, words: list[str]) -> None:
        self.cluster.advance(int(words[0]))
        repeated = sum(line.endswith(" again") for line in self.lines)
        self.lines = [line for line in self.lines if not line.endswith(" again")]
        if repeated:
            self.say(f"({repeated} messages were repeated)")

    def do_partition(self, words: list[str]) -> None:
        groups = " ".join(words).split("|")
        self.cluster.partition([set(self.who(group.strip())) for group in groups])

    def do_heal(self, _words: list[str]) -> None:
        self.cluster.partition(None)

    def do_crash(self, words: list[str]) -> None:
        keep = int(words[words.index("keep") + 1]) if "keep" in words else 0
        for index in self.who(words[0]):
            self.cluster.crash(index, keep)
            self._status.pop(index, None)

    def do_restart(self, words: list[str]) -> None:
        self.cluster.start(*self.who(words[0]))

    def do_slow(self, words: list[str]) -> None:
        if words[0] == "writes":
            self.cluster.write_at_once = False
        else:
            self.cluster.slow.add(words[0])

    def do_release(self, words: list[str]) -> None:
        kind = words[0]
        for index in self.who(words[1]):
            host = self.cluster.host(index)
            host.write() if kind == "writes" else host.release(kind)

    def do_mute(self, words: list[str]) -> None:
        self.cluster.mute_signers.update(self.who(words[0]))

    def do_unmute(self, words: list[str]) -> None:
        self.cluster.mute_signers.difference_update(self.who(words[0]))

    def do_reject(self, words: list[str]) -> None:
        by_name = {name: block_hash for block_hash, name in self._names.items()}
        for index in self.who(words[0]):
            self.cluster.refused.setdefault(index, set()).add(by_name[words[1]])

    def do_forge(self, words: list[str]) -> None:
        liar, kind, place, block = int(words[0]), words[1], words[2], words[3]
        height, round_ = map(int, place.split("/"))
        receivers = self.who(words[words.index("to") + 1]) if "to" in words else self.who("all")
        message = self._forged(liar, kind, height, round_, block)
        self._sign_and_deliver(liar, message, receivers)

    def _sign_and_deliver(self, liar: int, message: Any, receivers: list[int]) -> None:
        signature = sign(self.cluster.keys[liar], message.vote(CHAIN_ID).digest(GENESIS_HASH))
        fields = {name: getattr(message, name) for name in message.__struct_fields__}
        message = type(message)(**{**fields, "signature": signature})
        self._remember(Letter(liar, liar, message))
        for receiver in receivers:
            if receiver != liar:
                verdict = self.cluster.deliver(Letter(liar, receiver, message))
                if verdict in ("unwanted", "malformed"):
                    self.say(f"v{receiver} drops it: {verdict}")

    def _remember(self, letter: Letter) -> None:
        if isinstance(letter.message, Prepare):
            self._prepares[letter.sender] = letter.message

    def _forged(self, liar: int, kind: str, height: int, round_: int, block: str) -> Any:
        by_name = {name: block_hash for block_hash, name in self._names.items()}
        if kind == "VIEW-CHANGE":
            return ViewChange(height, liar, round_, NO_ROUND, NO_HASH, UNSIGNED, None, None)
        if kind == "PRE-PREPARE":
            tip = max((disk.tip for disk in self.cluster.disks), key=lambda each: each.height)
            if block == "stray":
                tip = Tip(tip.height, bytes(range(32)), tip.time_ms, tip.certificate)
            payload = b"forged %d" % self.cluster.next_payload()
            proposal = make_proposal(tip, self.cluster.keys[liar], self.cluster.now_ms + 1, payload)
            return PrePrepare(
                height, liar, round_, proposal.block_hash, UNSIGNED, (), None, proposal.block
            )
        assert kind in ("PREPARE", "COMMIT")
        return TYPES[kind](height, liar, round_, by_name[block], UNSIGNED)

    def do_claim(self, words: list[str]) -> None:
        liar, block, prepared_round = int(words[0]), words[2], int(words[5])
        height, round_ = map(int, words[1].split("/"))
        receivers = self.who(words[words.index("to") + 1]) if "to" in words else self.who("all")
        block_hash = {name: each for each, name in self._names.items()}[block]
        signatures = {
            index: sent.signature
            for (index, sent) in sorted(self._prepares.items())
            if (sent.height, sent.round, sent.block_hash) == (height, prepared_round, block_hash)
        }
        validators = self.cluster.validators_at(height)
        prepared = make_prepared(validators, prepared_round, block_hash, signatures)
        message = ViewChange(
            height, liar, round_, prepared_round, block_hash, UNSIGNED, prepared, None
        )
        self._sign_and_deliver(liar, message, receivers)

    def do_journal(self, words: list[str]) -> None:
        engine = PbftEngine()
        for index in self.who(words[0]):
            for record in self.cluster.disks[index].records:
                votes = [
                    f"{VOTE_NAMES[vote.type]} {vote.height}/{vote.round}"
                    f" {self.name(vote.block_hash if vote.type else vote.prepared_hash)}"
                    for vote, _ in engine.votes_of(record)
                ]
                self.say(f"v{index}: {', '.join(votes)}")

    def do_state(self, words: list[str]) -> None:
        for index in self.who(words[0]):
            core = self.cluster.host(index).engine._core
            prepared = core.h.prepared
            what = "nothing prepared"
            if prepared is not None:
                what = f"{self.name(prepared.block_hash)} prepared in round {prepared.round}"
            self.say(f"v{index} {core.height}/{core.h.round} {core.status.phase}, {what}")

    def _tips(self, words: list[str]) -> dict[int, int]:
        who: list[Host] = self.cluster.up()
        if len(words) > 1:
            who = [self.cluster.host(index) for index in self.who(words[1])]
        return {host.index: host.disk.tip.height for host in who}

    def do_expect_commit(self, words: list[str]) -> None:
        height = int(words[0])
        behind = [f"v{index}" for index, tip in self._tips(words).items() if tip < height]
        assert not behind, f"no block {height} at {', '.join(behind)}"

    def do_expect_no(self, words: list[str]) -> None:
        assert words[0] == "commit"
        height = int(words[1])
        there = [f"v{index}" for index, tip in self._tips(words[1:]).items() if tip >= height]
        assert not there, f"block {height} at {', '.join(there)}"


def run(text: str) -> str:
    """The script with its actual output."""
    script = Script()
    out: list[str] = []
    for block in text.strip("\n").split("\n\n"):
        head = block.split("\n----")[0].split("\n")
        out.extend(head)
        commands = [line for line in head if line and not line.startswith("#")]
        if commands:
            assert len(commands) == 1, f"one command a block: {commands}"
            try:
                lines = script.do(commands[0])
            except AssertionError as error:
                raise AssertionError(f"{commands[0]}: {error}") from error
            out.extend(["----", *lines])
        out.append("")
    return "\n".join(out)


def _list(indexes: list[int]) -> str:
    return ",".join(map(str, indexes))

"""One mechanism for seeing: trace events become log lines and Prometheus figures.

Every room calls the tracer it was given with typed events. `Telemetry.trace` looks the event's type
up in one table: how loud its line is, and which figures it moves. A type that is not in the table
is a debug line, so a new event needs no change here to be seen. Everything runs on the event
loop's thread.

Lines are JSON when standard error is no terminal. There is one INFO line a block; at that level an
idle node writes a line in ten to thirty seconds. What peers sent us is in some fields, so control
characters are escaped before anything reaches a terminal.

Figures are named `tally_*` and never labelled by account, transaction or peer: their number must
not grow with the network's users. Labels come from closed sets; a label value from outside such
a set (a peer's words) is counted as "other".
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TextIO

import orjson
import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.process_collector import ProcessCollector

from consensus import trace as consensus
from consensus.pbft import trace as pbft
from ledger.crypto import PUBLIC_KEY_BYTES
from ledger.identity import peer_id
from ledger.mempool import TransactionDropped
from ledger.trace import TraceEvent
from node import trace as own
from node.admission import TransactionRejected, TransactionsAdmitted
from node.application import BlockRefused
from p2p import trace as p2p

Level = Literal["debug", "info", "warning", "error"]

# Distinct values a label may take before the rest is "other": rules and kinds are a few dozen.
LABEL_VALUES_COUNT = 64

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}

# One series more for every counter, which nothing of ours reads.
disable_created_metrics()  # type: ignore[no-untyped-call]

# Seconds; a devnet commits in well under one, an idle chain every 10 to 30.
_INTERVAL_BUCKETS = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 35.0, 60.0, 300.0)


def make_logger(level: Level, format_: str, stream: TextIO | None = None) -> Any:
    """A structlog logger on `stream` (standard error), without any global configuration.

    `format_` is "json", "text", or "auto": text where the stream is a terminal.
    """
    stream = sys.stderr if stream is None else stream
    as_text = format_ == "text" or (format_ == "auto" and stream.isatty())
    processors: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _readable,
    ]
    if as_text:
        colors = stream.isatty()
        processors.append(
            structlog.dev.ConsoleRenderer(colors=colors, pad_event_to=12, sort_keys=False)
        )
    else:
        processors.append(structlog.processors.JSONRenderer(serializer=_json))
    return structlog.wrap_logger(
        structlog.PrintLogger(stream),
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        cache_logger_on_first_use=False,
    )


def _json(value: object, **_: object) -> str:
    return orjson.dumps(value, default=repr).decode()


def _readable(_logger: Any, _method: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Bytes as people write them, and no control characters from other people's words."""
    # A traceback has lines on purpose, and the names in it are ours.
    return {name: value if name == "exception" else _plain(value) for name, value in fields.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return peer_id(value) if len(value) == PUBLIC_KEY_BYTES else "0x" + value.hex()
    if isinstance(value, str) and not value.isprintable():
        return value.encode("unicode_escape").decode()
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value


class StandardLogging(logging.Handler):
    """Forwards what libraries say through `logging` (aiohttp, asyncio) to our logger."""

    def __init__(self, logger: Any) -> None:
        super().__init__(logging.WARNING)
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Forward one record."""
        level = "error" if record.levelno >= logging.ERROR else "warning"
        fields: dict[str, Any] = {"library": record.name}
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        getattr(self._logger, level)(record.getMessage(), **fields)


@dataclass(frozen=True, slots=True)
class Reaction:
    """What to do with one type of event: its line's level and words, and which figures it moves."""

    level: Level | Callable[[Any], Level]
    message: str
    count: Callable[[Figures, Any], object] | None = None


class _Labels:
    """A counter with one label whose values stay few."""

    __slots__ = ("_counter", "_seen")

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._seen: set[str] = set()

    def inc(self, value: str, amount: float = 1) -> None:
        """Count one."""
        if value not in self._seen:
            if len(self._seen) >= LABEL_VALUES_COUNT:
                value = "other"
            self._seen.add(value)
        self._counter.labels(value).inc(amount)


class Figures:
    """Every figure that events move. Names and help texts are what dashboards rely on."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.height = Gauge("tally_height", "Height of the last applied block", registry=registry)
        self.block_time = Gauge(
            "tally_block_time_seconds", "Unix time in the last applied block", registry=registry
        )
        self.interval = Histogram(
            "tally_block_interval_seconds",
            "Time between two blocks applied here",
            buckets=_INTERVAL_BUCKETS,
            registry=registry,
        )
        self.blocks = self._labelled("tally_blocks", "Blocks applied, by how they came", "how")
        self.transactions = self._labelled(
            "tally_transactions", "Transactions in applied blocks, by what became of them", "result"
        )
        self.block_bytes = self._counter("tally_block_bytes", "Transaction bytes in applied blocks")
        self.refused_blocks = self._counter(
            "tally_blocks_refused", "Proposed blocks that break a rule"
        )
        self.admitted = self._labelled(
            "tally_transactions_admitted", "Transactions that entered the mempool", "source"
        )
        self.rejected = self._labelled(
            "tally_transactions_rejected", "Transactions refused at the door, by reason", "reason"
        )
        self.dropped = self._labelled(
            "tally_transactions_dropped", "Waiting transactions that left uncommitted", "reason"
        )
        self.round = Gauge(
            "tally_consensus_round", "Round of the height being agreed on", registry=registry
        )
        self.late_rounds = self._counter(
            "tally_consensus_late_rounds", "Rounds beyond the first that blocks needed"
        )
        self.refused_votes = self._counter(
            "tally_signing_refused", "Votes that the double-sign guard refused to sign"
        )
        self.equivocations = self._labelled(
            "tally_equivocations", "Contradicting votes seen, by kind", "kind"
        )
        self.refused_messages = self._labelled(
            "tally_consensus_messages_refused", "Consensus messages discarded, by rule", "rule"
        )
        self.syncs = self._counter("tally_sync_started", "Times block sync was needed")
        self.sync_failures = self._labelled(
            "tally_sync_failures",
            "Peers that did not deliver blocks they claim, by reason",
            "reason",
        )
        self.peers = Gauge("tally_peers", "Connected peers", registry=registry)
        self.refused_links = self._labelled(
            "tally_links_refused", "Links that ended before they were secured, by kind", "kind"
        )
        self.closed_links = self._counter("tally_links_closed", "Secured links that ended")
        self.link_bytes = self._labelled(
            "tally_link_bytes", "Bytes of ended links, by direction", "direction"
        )
        self.refused_peers = self._labelled(
            "tally_peers_refused", "Links refused at the status exchange, by code", "code"
        )
        self.dial_failures = self._counter("tally_dial_failures", "Dials that failed")
        self.dropped_messages = self._labelled(
            "tally_messages_dropped", "Outgoing messages dropped, by rule", "rule"
        )
        self.charges = self._labelled(
            "tally_peer_faults", "Faults charged to peers, by kind", "kind"
        )
        self.bans = self._labelled("tally_peers_banned", "Bans, by the last fault's kind", "kind")
        self.failed_requests = self._labelled(
            "tally_requests_failed", "Requests to peers without an answer, by kind", "kind"
        )
        self.scored_epoch = Gauge(
            "tally_scored_epoch", "Last epoch whose scores are computed here", registry=registry
        )
        self.score_time = Gauge(
            "tally_score_duration_seconds", "How long its computation took", registry=registry
        )
        self.events = self._labelled("tally_trace_events", "Trace events, by type", "event")

    def _counter(self, name: str, help_: str) -> Counter:
        return Counter(name, help_, registry=self.registry)

    def _labelled(self, name: str, help_: str, label: str) -> _Labels:
        return _Labels(Counter(name, help_, (label,), registry=self.registry))


def _stored(figures: Figures, event: own.BlockStored) -> None:
    figures.block_time.set(event.time_ms / 1000)
    figures.transactions.inc("ok", event.transactions - event.failed)
    figures.transactions.inc("failed", event.failed)
    figures.block_bytes.inc(event.size_bytes)


def _applied(figures: Figures, event: consensus.BlockApplied) -> None:
    figures.height.set(event.height)
    figures.blocks.inc(event.how)
    if event.how == "agreed":
        figures.late_rounds.inc(event.round)


def _closed(figures: Figures, event: p2p.LinkClosed) -> None:
    figures.closed_links.inc()
    figures.link_bytes.inc("in", event.bytes_in)
    figures.link_bytes.inc("out", event.bytes_out)


def _scored(figures: Figures, event: own.ScoresReady) -> None:
    figures.scored_epoch.set(event.epoch)
    figures.score_time.set(event.duration_ms / 1000)


def _round_level(event: pbft.RoundEntered) -> Level:
    """Later rounds mean that a leader was slow or gone."""
    return "debug" if event.round == 0 else "info"


def _refusal_level(event: p2p.StatusRefused) -> Level:
    """Two links of one pair meeting and full slots are daily life; another network is not."""
    return "debug" if event.code in ("duplicate", "full", "self") else "warning"


REACTIONS: dict[type[TraceEvent], Reaction] = {
    own.BlockStored: Reaction("debug", "block stored", _stored),
    own.ScoresReady: Reaction("debug", "scores ready", _scored),
    own.ScoreTableDamaged: Reaction("error", "a score table is damaged; it was put aside"),
    consensus.BlockApplied: Reaction("info", "block", _applied),
    consensus.RoundStatus: Reaction("debug", "round", lambda f, e: f.round.set(e.round)),
    consensus.MessageRefused: Reaction(
        "debug", "consensus message refused", lambda f, e: f.refused_messages.inc(e.rule)
    ),
    BlockRefused: Reaction(
        "warning", "a proposed block is not valid", lambda f, _: f.refused_blocks.inc()
    ),
    TransactionsAdmitted: Reaction(
        "debug", "transactions admitted", lambda f, e: f.admitted.inc(e.source, e.count)
    ),
    TransactionRejected: Reaction(
        "debug", "transaction rejected", lambda f, e: f.rejected.inc(e.reason)
    ),
    TransactionDropped: Reaction(
        "debug", "transaction dropped", lambda f, e: f.dropped.inc(e.reason)
    ),
    pbft.RoundEntered: Reaction(_round_level, "round entered"),
    pbft.VoteCast: Reaction("debug", "vote cast"),
    pbft.VoteRefused: Reaction("warning", "a vote was not signed"),
    pbft.PeerAnswered: Reaction("debug", "told a peer that it is behind"),
    consensus.SigningRefused: Reaction(
        "warning", "the guard refused a contradicting vote", lambda f, _: f.refused_votes.inc()
    ),
    consensus.EquivocationSeen: Reaction(
        "warning", "a validator contradicts itself", lambda f, e: f.equivocations.inc(e.kind)
    ),
    consensus.SyncStarted: Reaction("info", "catching up", lambda f, _: f.syncs.inc()),
    consensus.SyncPeerFailed: Reaction(
        "warning", "a peer did not deliver blocks", lambda f, e: f.sync_failures.inc(e.reason)
    ),
    p2p.Listening: Reaction("info", "listening for peers"),
    p2p.LinkSecured: Reaction("debug", "link secured"),
    p2p.LinkRefused: Reaction("debug", "link refused", lambda f, e: f.refused_links.inc(e.kind)),
    p2p.LinkClosed: Reaction("debug", "link closed", _closed),
    p2p.StatusAccepted: Reaction("debug", "status accepted"),
    p2p.StatusRefused: Reaction(
        _refusal_level, "peer refused", lambda f, e: f.refused_peers.inc(e.code)
    ),
    p2p.ForeignPeer: Reaction("debug", "foreign peer"),
    p2p.PeerUp: Reaction("info", "peer up", lambda f, _: f.peers.inc()),
    p2p.PeerDown: Reaction("info", "peer down", lambda f, _: f.peers.dec()),
    p2p.DialFailed: Reaction("debug", "dial failed", lambda f, _: f.dial_failures.inc()),
    p2p.MessagesDropped: Reaction(
        "debug", "messages dropped", lambda f, e: f.dropped_messages.inc(e.rule, e.count)
    ),
    p2p.PeerCharged: Reaction("debug", "peer charged", lambda f, e: f.charges.inc(e.kind)),
    p2p.PeerBanned: Reaction("warning", "peer banned", lambda f, e: f.bans.inc(e.kind)),
    p2p.RequestFailed: Reaction(
        "debug", "request failed", lambda f, e: f.failed_requests.inc(e.kind)
    ),
    p2p.ResponseRefused: Reaction("debug", "request refused"),
}
"""The one table. Info is what an operator reads every day, warning what needs a look."""


class Telemetry:
    """A node's eyes: `trace` is the Tracer to hand out, `metrics_text` the page to serve.

    Each has a registry of its own, so that several nodes can live in one process.
    """

    def __init__(
        self,
        logger: Any,
        *,
        node: str = "",
        version: str = "",
        chain_id: str = "",
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.log = logger.bind(node=node) if node else logger
        self.registry = CollectorRegistry()
        self.figures = Figures(self.registry)
        # Its figures keep the names that every dashboard knows (process_*).
        ProcessCollector(registry=self.registry)
        build = Gauge(
            "tally_build_info", "Always 1", ("version", "chain_id"), registry=self.registry
        )
        build.labels(version, chain_id).set(1)
        self._monotonic_s = monotonic_s
        self._applied_s: float | None = None
        self._stored: own.BlockStored | None = None

    def trace(self, event: TraceEvent) -> None:
        """Take in one event (a ledger.trace.Tracer)."""
        kind = type(event)
        self.figures.events.inc(kind.__name__)
        reaction = REACTIONS.get(kind)
        if reaction is None:
            self.log.debug(kind.__name__, **_fields(event))
            return
        if reaction.count is not None:
            reaction.count(self.figures, event)
        if isinstance(event, own.BlockStored):
            self._stored = event
        if isinstance(event, consensus.BlockApplied):
            self._block_line(event, reaction)
        else:
            level = reaction.level if isinstance(reaction.level, str) else reaction.level(event)
            getattr(self.log, level)(reaction.message, **_fields(event))

    def set_level(self, level: Level) -> None:
        """Log from this level on."""
        logger = self.log.bind()
        # The level is a structlog logger's class, so this is another logger on the same parts.
        made: Any = structlog.make_filtering_bound_logger(_LEVELS[level])
        self.log = made(logger._logger, logger._processors, logger._context)

    def watch(self, name: str, help_: str, read: Callable[[], float]) -> None:
        """Serve a figure that is read when somebody asks, for example the mempool's fill."""
        assert name.startswith("tally_")
        Gauge(name, help_, registry=self.registry).set_function(read)

    def metrics_text(self) -> bytes:
        """The page for Prometheus, text format 0.0.4."""
        return generate_latest(self.registry)

    def metric_names(self) -> Iterable[str]:
        """Every exported name, for tests of dashboards and alert rules."""
        return sorted(
            sample.name for metric in self.registry.collect() for sample in metric.samples
        )

    def _block_line(self, event: consensus.BlockApplied, reaction: Reaction) -> None:
        """The one line a block, with what storing it told."""
        now_s = self._monotonic_s()
        if self._applied_s is not None:
            self.figures.interval.observe(now_s - self._applied_s)
        self._applied_s = now_s
        fields: dict[str, Any] = _fields(event)
        stored, self._stored = self._stored, None
        if stored is not None and stored.height == event.height:
            fields["txs"] = stored.transactions
            fields["failed"] = stored.failed
            fields["bytes"] = stored.size_bytes
            fields["state_root"] = stored.state_root
        self.log.info(reaction.message, **fields)


def _fields(event: TraceEvent) -> dict[str, Any]:
    return {name: getattr(event, name) for name in event.__struct_fields__}

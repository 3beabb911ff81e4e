"""subscribe / unsubscribe: over a WebSocket connection only (see rpc.subscriptions)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.alias_generators import to_camel

from rpc.context import Call
from rpc.errors import InvalidParams, LimitExceeded, MethodDisabled, NotFound, Unavailable
from rpc.registry import method
from rpc.subscriptions.logs import Blocks, Log, Scores, SetChanges, Transactions
from rpc.subscriptions.session import Session
from rpc.subscriptions.states import AccountState, PeersState, RoundState, State
from rpc.subscriptions.subscription import Subscription
from rpc.values import AddressText, HashText, Height, address_of, hash_of, pruned

Topic = Literal["blocks", "tx", "account", "reputation", "validators", "consensus", "peers"]
TransactionType = Literal["Transfer", "Settle", "Rate", "Register"]

# Subjects of one subscription: a page of people.
SUBJECTS_COUNT = 50


Given = Mapping[str, Any]
"""The parameters of subscribe by their names in Python, except `topic`."""


def _transactions(given: Given) -> Log:
    account, name = given["account"], given["hash"]
    return Transactions(
        account=None if account is None else address_of(account, "account"),
        transaction_id=None if name is None else hash_of(name, "hash"),
        kind=given["type"],
    )


def _account(given: Given) -> State:
    if given["account"] is None:
        raise InvalidParams("the topic needs an account", facts={"parameter": "account"})
    return AccountState(address_of(given["account"], "account"))


def _scores(given: Given) -> Log:
    return Scores(tuple(address_of(text, "subjects") for text in given["subjects"] or ()))


LOGS: dict[str, tuple[Callable[[Given], Log], frozenset[str]]] = {
    "blocks": (lambda given: Blocks(given["ids"]), frozenset({"ids"})),
    "tx": (_transactions, frozenset({"account", "hash", "type", "pending", "from_index"})),
    "reputation": (_scores, frozenset({"subjects"})),
    "validators": (lambda _: SetChanges(), frozenset()),
}
"""Topic -> how its log is made, and the parameters it understands beside fromHeight."""

STATES: dict[str, tuple[Callable[[Given], State], frozenset[str]]] = {
    "account": (_account, frozenset({"account"})),
    "consensus": (lambda _: RoundState(), frozenset()),
    "peers": (lambda _: PeersState(), frozenset()),
}


@method(
    "subscribe",
    errors=(InvalidParams, LimitExceeded, Unavailable, MethodDisabled),
    cost=5,
)
def subscribe(
    call: Call,
    topic: Topic,
    from_height: Annotated[Height, Field(ge=1)] | None = None,
    from_index: Annotated[int, Field(ge=0)] = 0,
    account: AddressText | None = None,
    hash: HashText | None = None,  # noqa: A002 - the parameter's public name
    type: TransactionType | None = None,  # noqa: A002 - as above
    pending: bool = False,  # noqa: FBT001, FBT002 - a JSON parameter
    ids: bool = False,  # noqa: FBT001, FBT002 - as above
    subjects: Annotated[list[AddressText], Field(max_length=SUBJECTS_COUNT)] | None = None,
) -> object:
    """Follows a topic on this WebSocket connection: {subscription, topic, fromHeight}.

    Events come as notifications `subscription` with params {subscription, topic, event}. Logs:
    `blocks` (ids), `tx` (account, hash, type, pending), `reputation` (subjects) and `validators`
    begin with the block after the latest one, or replay from `fromHeight` (in `tx` from
    `fromIndex` within it) and go live. States: `account` (account), `consensus` and `peers` begin
    with the present, and changes that come faster than they are read become one. The last event of
    a client that reads too slowly is {lagged, resumeFrom, resumeIndex?}.
    """
    session = _session_of(call)
    given = {
        "from_height": from_height,
        "from_index": from_index,
        "account": account,
        "hash": hash,
        "type": type,
        "pending": pending,
        "ids": ids,
        "subjects": subjects,
    }
    subscription, begins = open_subscription(call, session, topic, given)
    return {"subscription": subscription.id, "topic": topic, "fromHeight": begins}


def open_subscription(
    call: Call, session: Session, topic: Topic, given: Given
) -> tuple[Subscription, int | None]:
    """The subscription, and the height it begins with (None for states). Raises RpcError."""
    if topic in STATES:
        make_state, allowed = STATES[topic]
        _check_filters(topic, given, allowed)
        return session.follow_state(make_state(given)), None
    make_log, filters = LOGS[topic]
    _check_filters(topic, given, filters | {"from_height"})
    height = given["from_height"]
    if height is None:
        if given["from_index"]:
            raise InvalidParams("fromIndex is a place within fromHeight")
        height = call.node.tip().height + 1
    earliest = call.node.earliest_height()
    if height < earliest:
        raise pruned(earliest)
    log = make_log(given)
    cursor = (height, given["from_index"])
    return session.follow_log(log, cursor, pending=given["pending"]), height


def _check_filters(topic: str, given: Given, allowed: frozenset[str]) -> None:
    for name, value in given.items():
        if value and name not in allowed:
            raise InvalidParams(
                f"{topic} does not understand {to_camel(name)}",
                reason="INVALID_FILTER",
                facts={"topic": topic, "allowed": sorted(map(to_camel, allowed))},
            )


@method("unsubscribe", errors=(NotFound, MethodDisabled))
def unsubscribe(call: Call, subscription: Annotated[int, Field(ge=1)]) -> object:
    """Ends a subscription of this connection: {subscription}. No event follows the answer."""
    _session_of(call).unsubscribe(subscription)
    return {"subscription": subscription}


def _session_of(call: Call) -> Session:
    if call.session is None:
        raise MethodDisabled(
            "subscriptions need a WebSocket connection (GET /ws), or GET /events for one topic",
            reason="NEEDS_WEBSOCKET",
        )
    return call.session


METHODS = (subscribe, unsubscribe)

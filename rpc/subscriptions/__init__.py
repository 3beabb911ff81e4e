"""Subscriptions: what changes is told to whoever asked, over WebSocket or as server-sent events.

Theory
------
There are two kinds of topics.

*Logs* (blocks, tx, reputation, validators) are functions of the stored chain: every event has a
place (height, index), and the same place always gives the same event. A subscription to a log is
nothing but a cursor, the first place it has not sent. Replaying from `fromHeight` and following
live are therefore one and the same loop, "read from the cursor to the tip, send, move on", and
between them there is no seam at which an event could be missed or doubled.

*States* (account, consensus, peers) have only a present. The first event is the state as it is,
and each later one the state after a change. A subscription is one bit, "changed since last sent";
changes that follow each other faster than the client reads become one event.

So nothing is queued for a slow client but a cursor or a bit. It never slows the node: the one task
of its connection waits for its socket, everybody else goes on. Once a log that had caught up falls
LAG_BLOCKS behind, it is ended with `{lagged, resumeFrom}`: reading old blocks is replaying, which
is paced, and the client has to ask for it.

The exception are the waiting and dropped transactions that `tx` shows with `pending`: they are not
in the chain, so they wait in a bounded queue, and ending with `lagged` is what happens when it is
full.

    logs.py     where each log's events come from, and their JSON
    states.py   the same for states
    hub.py      everything subscriptions share: encodings made once, pace of replays, who is woken
    session.py  the subscriptions of one connection and the loop that serves them
    routes.py   GET /ws and GET /events
"""

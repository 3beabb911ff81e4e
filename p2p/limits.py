"""Every limit of the p2p room that an operator may have to know, with its reasoning."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one host. Times in seconds, sizes in bytes."""

    # TCP connect to multiplexed link takes three round trips; 10 s forgive a slow, lossy path and
    # cap what an idle stranger can hold.
    handshake_s: float = 10.0
    # The status exchange is three messages on a standing link.
    status_s: float = 5.0
    # Any byte received is a sign of life. Three pings fit into the time to death.
    ping_interval_s: float = 3.0
    silence_s: float = 10.0
    # A link that the peer seems to have lost must answer a ping in this time.
    suspicion_s: float = 2.0
    # A closed link lingers so that the last words (a refusal) reach the peer.
    linger_s: float = 2.0
    # Granularity of every deadline above.
    tick_s: float = 1.0

    # Strangers still in their handshake; each costs about 100 kB and 2 ms of CPU.
    pending_max_count: int = 64
    # Of one IP address: a machine full of validators dials two links each at once, and nobody can
    # keep the others out with a handful of idle connections.
    pending_per_host_max_count: int = 32
    # Tallystick peers; a full mesh of 100 validators with two links each fits.
    peers_max_count: int = 256
    # Foreign libp2p programs may identify and ping, no more.
    foreign_max_count: int = 16

    # Streams a peer may hold open on one link. Long-lived ones are a dozen, the rest requests.
    streams_max_count: int = 256
    # In flight per stream: 1 MiB moves 10 MB/s at 100 ms round trip.
    stream_window_bytes: int = 1024 * 1024
    # Incomplete messages held for one link, over all its streams.
    link_buffer_bytes: int = 64 * 1024 * 1024
    # A stream opened by a peer must name its protocol in this time, and bring a whole request in
    # this: 1 MiB at 150 kbit/s.
    stream_opening_s: float = 10.0
    request_s: float = 60.0

    # Hidden bytes are latency (see p2p.connection): unsent bytes in the kernel, and above them in
    # the event loop's buffer.
    bulk_unsent_bytes: int = 64 * 1024
    urgent_unsent_bytes: int = 16 * 1024
    write_buffer_bytes: int = 32 * 1024

    # Persistent peers are dialled for ever.
    backoff_first_s: float = 0.25
    backoff_cap_s: float = 15.0

    # Fault points: 60 for a broken frame, 10 for noise; they decay by one a second.
    fault_limit_points: float = 100.0
    fault_decay_per_s: float = 1.0
    # Back-off of a peer past the limit, doubled at each repetition.
    ban_first_s: float = 60.0
    ban_cap_s: float = 3600.0
    # Identities whose faults are remembered; the oldest is forgotten.
    offenders_max_count: int = 4096

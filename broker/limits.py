"""The broker's limits, in one place. Every queue that it keeps is bounded by one of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Defaults suit loopback and a local network. All times in seconds."""

    #: A worker that is silent this long is taken for dead (it beats every 0.25 s).
    heartbeat_timeout: float = 1.5
    #: A worker that is silent this long is asked who it is: sending shows at once if its process is gone.
    probe_after: float = 0.4
    #: Broken-off or failed attempts after which a frame is given up.
    max_attempts: int = 3
    #: Most frames and payload bytes queued for one stream; leases, bounded by the workers' room, come on top.
    queue_frames: int = 1024
    queue_bytes: int = 256 * 2**20
    #: Most payload bytes queued for all streams together.
    total_bytes: int = 1024 * 2**20
    #: Most streams and workers known at a time.
    streams: int = 512
    workers: int = 1024
    #: Most leases that one worker may hold, whatever room it claims (a Beat can list 4,096).
    leases: int = 1024
    #: Work that its worker has not confirmed this long after it was sent was lost on the way.
    lost_after: float = 1.0
    #: A started batch is overdue after ``overdue_factor`` times the worker's measured batch time, but not before
    #: ``overdue_least``; ``overdue_first`` while nothing is measured yet, since first batches compile and tune.
    overdue_least: float = 2.0
    overdue_factor: float = 8.0
    overdue_first: float = 60.0
    #: A worker that starts none of its leases this long, with no batch running, is stuck.
    unstarted: float = 10.0
    #: Turns that a stream may make up for in which it had no frame here.
    catch_up: int = 8
    #: A batch of live frames may take this share of their latency budget; longer only where that gains much.
    batch_share: float = 0.2
    #: Share of the budget that is left over for the way of the result, where it is foreseen whether it will be in time.
    margin: float = 0.1
    #: As long as live frames came lately, in seconds, the workers' batches suit them.
    live_memory: float = 2.0
    #: A stream that sends nothing this long is forgotten.
    forget_stream: float = 60.0

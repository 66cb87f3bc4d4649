"""Strangers that talk rubbish on every socket of a fleet."""

from __future__ import annotations

import contextlib
import random
import socket
import time
from collections.abc import Callable

import msgspec

from common import config
from common import messages as m
from common.transport import Hub
from common.wire import MAX_HEADER, encode

#: What must be said of it, and by whom.
REFUSALS = (
    ("broker", ("refused a frame",)),
    ("broker", ("refused a message of a worker",)),
    ("sink", ("refused a message of a producer",)),
    ("sink", ("refused a result",)),
)
#: Longest time for one message to be taken, in seconds.
TAKEN_S = 5.0


def noise() -> list[list[bytes]]:
    """Messages that are none."""
    chance = random.Random(5)
    found = [[chance.randbytes(size)] for size in (1, 2, 30, 1000, 100_000)]
    found += [[b""], [b"", b""], [b"\xc1"], [b"\x80"], [b"\x81\xa1t\xa5frame"], [b"\x91" * 5000], [b"a", b"b", b"c"]]
    return [*found, [chance.randbytes(MAX_HEADER + 1)]]


def spoilt(message: m.Head) -> list[list[bytes]]:
    """One message in forms that no part may take: cut off, of another version, with values out of range."""
    header = encode(message)
    fields = msgspec.msgpack.decode(header)
    wrong = {"epoch": -1, "worker": "", "video": 3, "index": "x"}
    return [[header[: len(header) // 2]], *([msgspec.msgpack.encode(fields | one)] for one in ({"v": 200}, wrong))]


def messages(stream: str) -> list[list[bytes]]:
    """Messages that no part may take: noise, wrong shapes, another version, headers that lie."""
    lies: list[m.Head] = [
        m.Packet(stream=stream, epoch=1, link=1, track=99, time_base=(1, 1)),
        m.Notice(stream=stream, epoch=1, link=10**9, index=3, out=3, fate="sent"),
        m.Beat(worker="worker-1", leases=[1, 2, 3], room=5),
        m.Done(worker="worker-1", incarnation="x", leases=[1, 2, 3], outcome="ok"),
        m.Result(stream="nobody", epoch=1, index=1, worker="w"),
        m.Result(stream=stream, epoch=99, index=60, worker="w"),
        m.Result(stream=stream, epoch=1, index=10**12, worker="w"),
    ]
    return noise() + [parts for lie in lies for parts in ([encode(lie)], *spoilt(lie))]


def throw(fleet: config.Fleet, stream: str, meanwhile: Callable[[float], None]) -> None:
    """Send all of it to each socket, raw bytes first. ``meanwhile`` is called between the messages."""
    kinds = {
        fleet.broker.frames: "push", fleet.broker.workers: "dealer", fleet.broker.news: "",
        fleet.sink.media: "dealer", fleet.sink.results: "push",
    }  # fmt: skip
    with Hub() as hub:
        for address, kind in kinds.items():
            _raw(address, b"GET / HTTP/1.1\r\n\r\n" + random.Random(1).randbytes(4000))
            if not kind:
                continue
            stranger = hub.connect(kind, address)
            for parts in messages(stream):
                deadline = time.monotonic() + TAKEN_S
                while not stranger.send(*parts) and time.monotonic() < deadline:
                    meanwhile(0.01)
            meanwhile(0.0)


def _raw(address: str, data: bytes) -> None:
    scheme, _, rest = address.partition("://")
    host, _, port = rest.rpartition(":")
    end = socket.socket(socket.AF_UNIX if scheme == "ipc" else socket.AF_INET)
    with contextlib.closing(end), contextlib.suppress(OSError):
        end.settimeout(1.0)
        end.connect(rest if scheme == "ipc" else (host, int(port)))
        end.sendall(data)

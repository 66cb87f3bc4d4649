"""What encryption costs: CPU with and without keys, in turn, for frames of 50 kB: ``python -m benchmarks.curve``.

Two definitions of "transport". *Bare*: a message of random bytes from a producer's socket through a broker's two to a
worker's, and nothing else. *Road*: the frame's way from the decoder to the model, as the fleet takes it: decode, scale
and code a JPEG, the same sockets, decode the JPEG. All sides are in this process, whose CPU is what is measured.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av

from benchmarks.chain import SHORT, clip
from common import codec
from common.config import Security
from common.media import prepare_decoder
from common.messages import Frame, InputSpec
from common.transport import Endpoint, Hub
from common.wire import encode
from deploy import keys_folder
from deploy.faults.report import machine
from producer.prepare import Preparer

#: Messages under way at a time, messages and frames of a round, and rounds of each kind.
BURST, MESSAGES, FRAMES, ROUNDS = 16, 1600, 96, 15
#: Size of a bare message in bytes; size and quality of a picture whose JPEG has about as many.
SIZE, PICTURE, QUALITY = 50_000, (960, 540), 85
#: Time that a message may take, in seconds.
WAIT_S = 10.0


class Sockets:
    """Producer, broker and worker, over loopback."""

    def __init__(self, security: Security) -> None:
        self._hubs = [Hub.of(security, role) for role in ("producer", "broker", "worker")]  # type: ignore[arg-type]
        producer, broker, worker = self._hubs
        self._pull = broker.bind("pull", "tcp://127.0.0.1:*", name="frames")
        self._router = broker.bind("router", "tcp://127.0.0.1:*", name="workers")
        self._push = producer.connect("push", self._pull.address, to="broker")
        self._dealer = worker.connect("dealer", self._router.address, to="broker")
        self._dealer.send(b"ready")
        self._route = taken(self._router)[0]

    def pass_on(self, header: bytes, payloads: list[bytes]) -> list[bytes]:
        """Each payload from the producer to the worker."""
        for payload in payloads:
            assert self._push.send(header, payload)
        for _ in payloads:
            assert self._router.send(self._route, *taken(self._pull))
        return [taken(self._dealer)[1] for _ in payloads]

    def close(self) -> None:
        for hub in self._hubs:
            hub.close(linger=False)


def taken(endpoint: Endpoint) -> list[bytes]:
    """The next message. It waits asleep, as parts do."""
    deadline = time.monotonic() + WAIT_S
    while (message := endpoint.receive()) is None:
        assert time.monotonic() < deadline, "no message came"
        endpoint.poll_handle().poll(100)
    return message


HEADER = encode(
    Frame(stream="cam", epoch=1, index=123456, model="objects", sink="sink", source=(1920, 1080), size=PICTURE)
)


def bare(sockets: Sockets) -> int:
    payload = os.urandom(SIZE)
    for _ in range(MESSAGES // BURST):
        sockets.pass_on(HEADER, [payload] * BURST)
    return MESSAGES // BURST * BURST


def road(sockets: Sockets, path: Path) -> int:
    prepare, count, waiting = Preparer(InputSpec(*PICTURE), "jpeg", QUALITY), 0, list[bytes]()
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        decoder = prepare_decoder(video, 1, True)
        for packet in container.demux(video):
            for frame in decoder.decode(packet if packet.size else None):
                waiting.append(bytes(prepare(frame)[0]))
                if len(waiting) == BURST:
                    for payload in sockets.pass_on(HEADER, waiting):
                        codec.decode_rgb(payload, codec="jpeg", size=PICTURE)
                    count += BURST
                    waiting.clear()
                if count >= FRAMES:
                    return count
    return count


def measured(work: Callable[[Sockets], int], security: Security) -> float:
    """CPU µs for one frame."""
    sockets = Sockets(security)
    try:
        sockets.pass_on(HEADER, [bytes(SIZE)] * BURST)  # connected, and warm
        start = time.process_time()
        count = work(sockets)
        return (time.process_time() - start) / count * 1e6
    finally:
        sockets.close()


def compare(name: str, work: Callable[[Sockets], int], keys: Security) -> None:
    plain, curve = [], []
    for number in range(ROUNDS):
        for security in (Security(), keys) if number % 2 else (keys, Security()):
            (curve if security is keys else plain).append(measured(work, security))
    shares = [100 * (b / a - 1) for a, b in zip(plain, curve, strict=True)]
    print(
        f"{name}: {statistics.median(plain):.0f} µs a frame without keys, {statistics.median(curve):.0f} with; "
        f"more by {statistics.median(shares):.1f} % ({min(shares):.1f} to {max(shares):.1f} in {ROUNDS} pairs)"
    )


def main() -> None:
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        keys_folder.make_all(Path(folder, "keys"))
        keys, path = Security(keys=str(Path(folder, "keys"))), clip(Path(folder), SHORT)
        compare(f"bare, {SIZE} bytes", bare, keys)
        with av.open(str(path)) as container:
            prepare = Preparer(InputSpec(*PICTURE), "jpeg", QUALITY)
            sizes = [len(prepare(frame)[0]) for frame in container.decode(video=0)]
        compare(
            f"road, JPEGs of {round(statistics.mean(sizes), -3):.0f} bytes", lambda sockets: road(sockets, path), keys
        )


if __name__ == "__main__":
    main()

"""The broker's shell, over real sockets: work flows, garbage is refused, a vanished worker is noticed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from broker.service import Broker
from common import messages as m
from common.config import Broker as BrokerSection
from common.config import Fleet, Output, Sink, Stream, Workers
from common.lifecycle import Stopper
from common.status import Status
from common.transport import Endpoint, Hub
from common.wire import Reader, encode

#: How long anything may take, in seconds, before the test fails.
PATIENCE_S = 10.0
SPEC = m.InputSpec(width=32, height=24)
T = TypeVar("T")


def until(ask: Callable[[], T | None]) -> T:
    """The first answer that is not None."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if (answer := ask()) is not None:
            return answer
        time.sleep(0.005)
    raise AssertionError("nothing came")


class Peers:
    """Everyone around a running broker."""

    def __init__(self, hub: Hub, config: BrokerSection, results: str) -> None:
        self.hub, self.config = hub, config
        self.producer = hub.connect("push", config.frames)
        self.worker = hub.connect("dealer", config.workers)
        self.sink = hub.bind("pull", results)
        self.listener = hub.connect("sub", config.news)
        self.listener.subscribe()

    def frame(self, index: int, sink: str = "sink") -> None:
        frame = m.Frame(
            stream="s", epoch=1, index=index, model="m", sink=sink, source=(64, 48), size=(32, 24), budget=None
        )
        assert self.producer.send(encode(frame), b"picture")

    def ready(self, room: int) -> None:
        assert self.worker.send(encode(m.Ready(worker="w", models={"m": SPEC}, room=room)))

    def done(self, work: m.Work, outcome: m.Outcome = "ok", name: str = "w", endpoint: Endpoint | None = None) -> None:
        message = m.Done(worker=name, incarnation=work.incarnation, leases=[work.lease], outcome=outcome, room=1)
        assert (endpoint or self.worker).send(encode(message))

    def work(self) -> tuple[m.Work, bytes | memoryview]:
        reader: Reader[m.ToWorker] = Reader(m.ToWorker)
        header, payload = reader.decode(until(self.worker.receive))
        assert isinstance(header, m.Work)
        return header, payload

    def news_when(self, wanted: Callable[[m.News], bool]) -> m.News:
        reader: Reader[m.News] = Reader(m.News)

        def ask() -> m.News | None:
            parts = self.listener.receive()
            news = reader.decode(parts)[0] if parts is not None else None
            return news if news is not None and wanted(news) else None

        return until(ask)


@pytest.fixture
def peers(tmp_path: Path) -> Iterator[Peers]:
    config = BrokerSection(
        frames=f"ipc://{tmp_path}/frames", workers=f"ipc://{tmp_path}/workers", news=f"ipc://{tmp_path}/news"
    )
    results = f"ipc://{tmp_path}/results"
    fleet = Fleet(
        broker=config,
        sink=Sink(media=f"ipc://{tmp_path}/media", results=results),
        workers=Workers(model="m"),
        streams=[Stream(name="s", source="x", outputs=[Output(path="y.mp4", kind="mp4")], model="m")],
    )
    stopper = Stopper()
    broker = Broker(fleet, Status(None, "broker"), stopper)
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(broker.run()))
    thread.start()
    with Hub() as hub:
        yield Peers(hub, config, results)
    stopper.stop()
    thread.join(PATIENCE_S)
    stopper.waker.close()
    assert codes == [0]
    broker._core.check()


def test_a_frame_goes_to_a_worker_and_the_news_follow(peers: Peers) -> None:
    peers.frame(0)
    assert peers.news_when(lambda news: bool(news.held)).held == {"s": (1, [(0, 0)])}
    peers.ready(room=1)
    work, payload = peers.work()
    assert (work.frame.index, bytes(payload)) == (0, b"picture")
    news = peers.news_when(lambda news: news.workers == 1)
    assert news.models == {"m": SPEC}
    assert news.incarnation == work.incarnation
    peers.done(work)
    assert peers.news_when(lambda news: not news.held).workers == 1


def test_failures_are_told_to_the_sink(peers: Peers) -> None:
    peers.ready(room=1)
    peers.frame(0, sink="nobody has this name")
    peers.frame(1)
    for _ in range(2):
        peers.done(peers.work()[0], "refused")
    reader: Reader[m.ToResults] = Reader(m.ToResults)
    message, _ = reader.decode(until(peers.sink.receive))
    assert isinstance(message, m.GaveUp)
    assert (message.index, message.reason) == (1, "bad_payload")


def test_garbage_on_either_socket_stops_nobody(peers: Peers) -> None:
    for noise in (b"", b"\x00" * 1000, b"\x80", b"\x81\xa1t\xa5frame"):
        assert peers.producer.send(noise)
        assert peers.worker.send(noise)
        assert peers.producer.send(noise, noise, noise)
        assert peers.worker.send(noise, noise, noise)
    peers.frame(0)
    peers.ready(room=1)
    work, _ = peers.work()
    assert work.frame.index == 0
    peers.done(work)


def test_an_unknown_worker_is_asked_for_its_name(peers: Peers) -> None:
    assert peers.worker.send(encode(m.Beat(worker="w", room=1)))
    reader: Reader[m.ToWorker] = Reader(m.ToWorker)
    assert isinstance(reader.decode(until(peers.worker.receive))[0], m.Who)


def test_work_of_a_vanished_worker_goes_to_the_next(peers: Peers) -> None:
    """Its socket is closed without a word; the broker learns of it when it sends."""
    peers.ready(room=2)
    peers.frame(0)
    assert peers.work()[0].frame.index == 0
    with Hub() as hub:
        other = hub.connect("dealer", peers.config.workers)
        peers.worker.close()
        died = time.monotonic()
        peers.frame(1)

        def ask() -> m.Work | None:
            other.send(encode(m.Ready(worker="other", models={"m": SPEC}, room=2)))
            parts = other.receive()
            header = Reader(m.ToWorker).decode(parts)[0] if parts is not None else None
            return header if isinstance(header, m.Work) else None

        first, second = until(ask), until(ask)
        assert time.monotonic() - died < 1  # well before its heartbeats would have been missed
        peers.done(first, name="other", endpoint=other)
        peers.done(second, name="other", endpoint=other)
    assert {first.frame.index, second.frame.index} == {0, 1}
    assert (first.attempt, second.attempt) == (0, 0)

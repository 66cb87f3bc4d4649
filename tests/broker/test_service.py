"""The broker's shell, over real sockets: work flows, garbage is refused, a vanished worker is noticed."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from broker.service import Broker
from common import messages as m
from common.config import Broker as BrokerSection
from common.config import Fleet, Output, Sink, Stream, Workers
from common.errors import LinkError
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

    def __init__(self, hub: Hub, config: BrokerSection, results: str, status: int) -> None:
        self.hub, self.config, self.results = hub, config, results
        self._status, self._rest = status, b""
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

    def progress(self) -> dict[str, Any] | None:
        """The newest progress line since the last call."""
        try:
            while data := os.read(self._status, 65536):
                self._rest += data
        except BlockingIOError:
            pass
        *lines, self._rest = self._rest.split(b"\n")
        records = [json.loads(line) for line in lines]
        return next((one for one in reversed(records) if one["event"] == "progress"), None)

    def troubles(self) -> dict[str, str] | None:
        """Name → text, as of the newest progress line."""
        progress = self.progress()
        return None if progress is None else {one["name"]: one["text"] for one in progress["troubles"]}

    def troubles_when(self, wanted: Callable[[dict[str, str]], bool]) -> dict[str, str]:
        def ask() -> dict[str, str] | None:
            troubles = self.troubles()
            return troubles if troubles is not None and wanted(troubles) else None

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
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    broker = Broker(fleet, Status(writer, "broker"), stopper)
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(broker.run()))
    thread.start()
    with Hub() as hub:
        yield Peers(hub, config, results, reader)
    stopper.stop()
    thread.join(PATIENCE_S)
    stopper.waker.close()
    os.close(reader)
    os.close(writer)
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


def test_frames_that_no_worker_serves_are_named_until_one_comes(peers: Peers, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "broker.service")
    assert until(peers.troubles) == {}
    peers.frame(0)
    peers.frame(1)
    asked = time.monotonic()
    troubles = peers.troubles_when(bool)
    assert troubles == {"no_worker": "no worker serves m: 2 frames wait"}
    assert 0.9 < time.monotonic() - asked < 2
    peers.ready(room=2)
    assert [peers.work()[0].frame.index for _ in range(2)] == [0, 1]
    peers.troubles_when(lambda troubles: not troubles)
    peers.worker.close()  # all workers gone, with two frames
    peers.frame(2)  # learns of it when it sends
    assert peers.troubles_when(bool) == {"no_worker": "no worker serves m: 3 frames wait"}
    said = [record for record in caplog.records if record.__dict__.get("kind") == "no_worker"]
    assert [(record.levelname, record.getMessage()[:10]) for record in said] == [
        ("INFO", "no worker "), ("INFO", "over after"), ("WARNING", "no worker "),
    ]  # fmt: skip
    worker = peers.worker = peers.hub.connect("dealer", peers.config.workers)
    assert worker.send(encode(m.Ready(worker="w", models={"m": SPEC}, room=3)))
    for _ in range(3):
        peers.done(peers.work()[0])


def test_a_sink_that_is_away_is_named_until_it_is_back(peers: Peers, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "broker.service")
    until(lambda: peers.troubles() == {} or None)
    peers.frame(0)
    peers.ready(room=1)
    peers.done(peers.work()[0], "refused")
    until(peers.sink.receive)  # so the broker has found it
    peers.sink.close()
    troubles = peers.troubles_when(bool)
    assert troubles == {"sink_away": f"the sink 'sink' at {peers.results} does not answer"}
    peers.sink = until(lambda: bind(peers))
    peers.troubles_when(lambda troubles: not troubles)
    (named, over) = [one for one in caplog.records if one.__dict__.get("kind") == "sink_away"]
    assert (named.levelname, over.levelname) == ("WARNING", "INFO")


def bind(peers: Peers) -> Endpoint | None:
    try:
        return peers.hub.bind("pull", peers.results)
    except LinkError:  # the socket that was closed is not quite gone
        return None

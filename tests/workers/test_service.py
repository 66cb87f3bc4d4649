"""The worker's shell, over real sockets: hostile work is refused, large pictures wait for memory, credit is kept."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common import messages as m
from common.config import Broker, Fleet, Output, Sink, Stream, Workers
from common.lifecycle import Stopper
from common.status import Status
from common.transport import Hub
from common.wire import Reader, encode
from tests.builders import frame
from tests.support import wait_for
from workers import service
from workers.model import Findings, Pictures
from workers.models.echo import Echo
from workers.service import Worker

SIZE = (64, 48)
PICTURE = bytes(64 * 48 * 3 // 2)
FROM_WORKER: Reader[m.ToBroker] = Reader(m.ToBroker)
RESULTS: Reader[m.ToResults] = Reader(m.ToResults)


class Peers:
    """A broker and a sink around one worker, played by the test."""

    def __init__(self, hub: Hub, fleet: Fleet) -> None:
        self.broker = hub.bind("router", fleet.broker.workers)
        self.sink = hub.bind("pull", fleet.sink.results)
        self.route = b""
        self.said: list[m.ToBroker] = []
        self.results: list[m.Result] = []

    def poll(self) -> None:
        while (parts := self.broker.receive()) is not None:
            self.route = parts[0]
            self.said.append(FROM_WORKER.decode(parts[1:])[0])
        while (parts := self.sink.receive()) is not None:
            answer = RESULTS.decode(parts)[0]
            assert isinstance(answer, m.Result)
            self.results.append(answer)

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Listen until the condition holds."""

        def holds() -> bool:
            self.poll()
            return condition()

        wait_for(holds, 20, what)

    def until_ended(self, count: int) -> None:
        self.until(lambda: len(self.ended) >= count, f"the end of {count} leases")

    def beats(self) -> list[m.Beat]:
        return [one for one in self.said if isinstance(one, m.Beat)]

    def work(self, lease: int, payload: bytes = PICTURE, incarnation: str = "a") -> None:
        header = frame(lease, size=SIZE, source=SIZE, codec="i420")
        work = m.Work(incarnation=incarnation, lease=lease, frame=header)
        assert self.broker.send(self.route, encode(work), payload)

    @property
    def ended(self) -> dict[int, str]:
        return {lease: one.outcome for one in self.said if isinstance(one, m.Done) for lease in one.leases}


@pytest.fixture
def peers(tmp_path: Path) -> Iterator[Peers]:
    """With a worker whose batches have four frames, and who so has room for eight."""
    fleet = Fleet(
        broker=Broker(
            frames=f"ipc://{tmp_path}/frames", workers=f"ipc://{tmp_path}/workers", news=f"ipc://{tmp_path}/news"
        ),
        sink=Sink(media=f"ipc://{tmp_path}/media", results=f"ipc://{tmp_path}/results"),
        workers=Workers(model="echo", batch=4),
        streams=[Stream(name="s", source="x", model="echo", outputs=[Output(path="x.jsonl", kind="jsonl")])],
    )
    stopper = Stopper()
    with Hub() as hub:
        made = Peers(hub, fleet)
        worker = Worker(fleet, Echo(), "cpu", "w", Status(None, "worker"), stopper)
        ended: list[int] = []
        thread = threading.Thread(target=lambda: ended.append(worker.run()))
        thread.start()
        made.until(lambda: bool(made.said), "a word of the worker")
        yield made
        stopper.stop()
        thread.join(20)
        assert ended == [0]


def test_work_is_answered_and_credit_comes_back(peers: Peers) -> None:
    for lease in range(1, 9):
        peers.work(lease)
    peers.until(lambda: len(peers.results) == 8, "eight results")
    peers.until_ended(8)
    assert set(peers.ended.values()) == {"ok"}
    assert max(one.batch for one in peers.results) <= 4


def test_a_batch_that_does_not_fit_is_halved_and_the_broker_hears_of_no_failure(
    peers: Peers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, said = Echo.predict, []

    def predict(model: Echo, pictures: Pictures) -> list[Findings]:
        if len(pictures) > 1:
            raise MemoryError("no room")
        return real(model, pictures)

    monkeypatch.setattr(Echo, "predict", predict)
    monkeypatch.setattr(Status, "say", lambda self, event, **fields: said.append((event, fields)))
    for lease in range(1, 9):
        peers.work(lease)
    peers.until_ended(8)
    peers.until(lambda: len(peers.results) == 8, "eight results")
    assert set(peers.ended.values()) == {"ok"}
    assert sorted(one.index for one in peers.results) == list(range(1, 9))
    assert {one.batch for one in peers.results} == {1}
    cuts = [(fields["was"], fields["batch"]) for event, fields in said if event == "out_of_memory"]
    assert cuts in ([(4, 2), (2, 1)], [(3, 1)], [(2, 1)]), cuts
    assert "out of memory with" in caplog.text
    peers.until(lambda: any("halved" in f and f["halved"] == len(cuts) for _, f in said), "the count in the status")
    peers.until(lambda: any(f.get("troubles") for _, f in said), "the trouble in the status")
    (trouble,) = next(f["troubles"] for _, f in reversed(said) if f.get("troubles"))
    assert trouble["text"] == "batches are cut to 1 of 4 pictures: memory holds no more"


def test_large_pictures_are_decoded_a_few_at_a_time(peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many the credit is for: memory for two is memory for two."""
    monkeypatch.setattr(service, "PICTURE_BYTES", 2 * 640 * 360 * 3)
    for lease in range(1, 9):
        peers.work(lease)
    peers.until_ended(8)
    peers.until(lambda: len(peers.results) == 8, "eight results")
    assert sorted(one.index for one in peers.results) == list(range(1, 9))
    assert max(one.batch for one in peers.results) <= 2


def test_a_picture_that_is_too_large_goes_alone(peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "PICTURE_BYTES", 1)
    for lease in range(1, 4):
        peers.work(lease)
    peers.until_ended(3)
    peers.until(lambda: len(peers.results) == 3, "three results")
    assert [one.batch for one in peers.results] == [1, 1, 1]


def test_refused_pictures_and_noise_cost_themselves_only(peers: Peers, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    assert peers.broker.send(peers.route, b"\xc1", b"")
    assert peers.broker.send(peers.route, encode(frame(1)), PICTURE)
    assert peers.broker.send(peers.route, b"a", b"b", b"c")
    for lease in range(1, 5):
        peers.work(lease, PICTURE[:lease] if lease % 2 else PICTURE)
    peers.until_ended(4)
    assert peers.ended == {1: "refused", 2: "ok", 3: "refused", 4: "ok"}
    assert {record.__dict__["kind"] for record in caplog.records} >= {"header", "parts", "payload"}


def test_work_beyond_the_credit_is_not_taken(peers: Peers) -> None:
    """Twice the credit at once, and every lease doubled: each is answered at most once."""
    for lease in list(range(1, 17)) * 2:
        peers.work(lease)
    peers.until_ended(8)
    heard = len(peers.beats())
    peers.until(lambda: len(peers.beats()) >= heard + 2, "two beats")
    assert all(len(one.leases) <= 8 for one in peers.beats())

"""A worker process without its peers: it says so, waits, and leaves in time with a word about what it had."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from common import messages as m
from common.config import Broker, Fleet, Output, Sink, Stream, Workers, dump
from common.lifecycle import Stopper
from common.status import Status
from common.transport import Endpoint, Hub
from common.wire import Reader, encode
from tests.builders import frame
from tests.support import wait_for
from workers import service
from workers.model import Findings
from workers.models.echo import Echo
from workers.service import Worker

SIZE = (64, 48)
PICTURE = bytes(64 * 48 * 3 // 2)
#: A worker without its peers leaves within 2 s; this much more, in seconds, is for a busy machine.
SLACK_S = 2.0
READ: Reader[m.ToBroker] = Reader(m.ToBroker)

MODELS = """
import time
from workers.model import Findings, InputSpec


class Hangs:
    input = InputSpec(64, 48)

    def setup(self, device): ...

    def predict(self, pictures):
        while True:
            time.sleep(1000)


class NeverReady(Hangs):
    def setup(self, device):
        print("setting up", flush=True)
        self.predict([])
"""


def fleet_in(folder: Path, model: str) -> Fleet:
    return Fleet(
        broker=Broker(frames=f"ipc://{folder}/frames", workers=f"ipc://{folder}/workers", news=f"ipc://{folder}/news"),
        sink=Sink(media=f"ipc://{folder}/media", results=f"ipc://{folder}/results"),
        workers=Workers(model=model, batch=2),
        streams=[Stream(name="s", source="x", model=model, outputs=[Output(path="x.jsonl", kind="jsonl")])],
    )


class Started:
    """One worker process, what it says, and its peers, played by the test."""

    def __init__(self, folder: Path, hub: Hub, model: str) -> None:
        (folder / "absent_models.py").write_text(MODELS)
        self.fleet = fleet_in(folder, model)
        (folder / "fleet.json").write_bytes(dump(self.fleet))
        self._hub, self.route = hub, b""
        self._reader, writer = os.pipe()
        os.set_blocking(self._reader, False)
        self._rest, self.said = b"", list[dict[str, Any]]()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "workers", "-c", folder / "fleet.json", "--name", "w", "--status-fd", str(writer)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=(writer,),
            env=os.environ | {"PYTHONPATH": f"{Path(__file__).resolve().parents[2]}:{folder}"},
        )
        os.close(writer)

    def status(self) -> list[dict[str, Any]]:
        """All that it has said so far."""
        try:
            while data := os.read(self._reader, 65536):
                self._rest += data
        except BlockingIOError:
            pass
        *lines, self._rest = self._rest.split(b"\n")
        self.said += [json.loads(line) for line in lines]
        return self.said

    def until(self, condition: Callable[[], Any], what: str) -> None:
        def holds() -> Any:
            assert self.process.poll() is None, self.process.communicate()
            return condition()

        wait_for(holds, 60, what)

    def until_troubled(self, *names: str) -> None:
        """Its newest progress line has just these troubles."""

        def holds() -> bool:
            progress = [one for one in self.status() if one["event"] == "progress"]
            return bool(progress) and [one["name"] for one in progress[-1]["troubles"]] == sorted(names)

        self.until(holds, f"troubles {names}")

    def broker(self) -> Endpoint:
        """Listen as the broker, until the worker is here."""
        broker = self._hub.bind("router", self.fleet.broker.workers)

        def heard() -> bool:
            if (parts := broker.receive()) is not None:
                self.route = parts[0]
            return bool(self.route)

        self.until(heard, "a word of the worker")
        return broker

    def sink(self) -> Endpoint:
        return self._hub.bind("pull", self.fleet.sink.results)

    def work(self, broker: Endpoint, lease: int) -> None:
        header = frame(lease, size=SIZE, source=SIZE, codec="i420", model=self.fleet.workers.model)
        work = m.Work(incarnation="a", lease=lease, frame=header)
        assert broker.send(self.route, encode(work), PICTURE)

    def until_heard(self, broker: Endpoint, kind: type[m.Head]) -> None:
        def heard() -> bool:
            return isinstance(next_of(broker), kind)

        self.until(heard, kind.__name__)

    def leave(self) -> tuple[int, float, list[dict[str, Any]]]:
        """SIGTERM → exit code, seconds until it was gone, its log."""
        told = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        _, err = self.process.communicate(timeout=30)
        took = time.monotonic() - told
        return self.process.returncode, took, [json.loads(line) for line in err.splitlines()]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        os.close(self._reader)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Started]]:
    made: list[Started] = []
    with Hub() as hub:

        def begin(model: str) -> Started:
            made.append(Started(tmp_path, hub, model))
            return made[-1]

        yield begin
        for one in made:
            one.close()


def messages(log: list[dict[str, Any]], kind: str) -> list[str]:
    return [line["message"] for line in log if line.get("kind") == kind]


def test_a_worker_waits_for_its_peers_and_names_them(start: Callable[[str], Started]) -> None:
    """Both away, the broker comes, frames are inferred for a sink that is not there: they are counted at the end."""
    worker = start("echo")
    worker.until_troubled("broker_away", "sink_away")
    broker = worker.broker()
    worker.until_troubled("sink_away")
    for lease in (1, 2, 3):
        worker.work(broker, lease)
        worker.until_heard(broker, m.Done)
    code, took, log = worker.leave()
    assert code == 0
    assert took < 2 + SLACK_S
    assert "left with 0 frames in hand, 3 results unsent" in [line["message"] for line in log]
    named, over = messages(log, "broker_away")
    assert named == f"the broker at {worker.fleet.broker.workers} is not there yet"
    assert over.startswith("over after ")
    assert messages(log, "sink_away") == [f"the sink 'sink' at {worker.fleet.sink.results} is not there yet"]
    left = worker.status()[-1]
    assert (left["event"], left["held"], left["unsent"], left["done"]) == ("left", 0, 3, 3)


def test_what_waits_for_a_sink_goes_there_when_it_comes(start: Callable[[str], Started]) -> None:
    worker = start("echo")
    broker = worker.broker()
    worker.work(broker, 1)
    worker.until_heard(broker, m.Done)
    worker.until_troubled("sink_away")
    sink = worker.sink()
    worker.until(sink.receive, "the result")
    worker.until_troubled()
    code, took, log = worker.leave()
    assert code == 0
    assert took < 2 + SLACK_S
    assert not [line for line in log if line["message"].startswith("left with")]


@pytest.mark.parametrize("gone", ["broker", "sink"])
def test_a_worker_whose_peer_is_gone_leaves_a_batch_that_hangs(start: Callable[[str], Started], gone: str) -> None:
    worker = start("absent_models:Hangs")
    sink, broker = worker.sink(), worker.broker()
    worker.work(broker, 1)
    worker.until_heard(broker, m.Started)
    (broker if gone == "broker" else sink).close()
    worker.until_troubled(f"{gone}_away")
    code, took, log = worker.leave()
    assert code == 0
    assert took < 2 + SLACK_S
    assert "left with 1 frames in hand, 0 results unsent" in [line["message"] for line in log]


def test_a_batch_that_hangs_holds_a_worker_no_longer_than_its_grace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In this process, where the grace can be made shorter."""
    monkeypatch.setattr(service, "GRACE_S", 0.5)
    fleet, stopper, release = fleet_in(tmp_path, "m"), Stopper(), threading.Event()

    class Hangs(Echo):
        def predict(self, pictures: NDArray[np.uint8]) -> list[Findings]:
            release.wait(60)
            return super().predict(pictures)

    with Hub() as hub:
        broker, _sink = hub.bind("router", fleet.broker.workers), hub.bind("pull", fleet.sink.results)
        worker = Worker(fleet, Hangs(), "cpu", "w", Status(None, "worker"), stopper)
        thread = threading.Thread(target=worker.run)
        thread.start()
        route, _ = wait_for(broker.receive, 10, "a word of the worker")
        header = frame(1, size=SIZE, source=SIZE, codec="i420", model="m")
        assert broker.send(route, encode(m.Work(incarnation="a", lease=1, frame=header)), PICTURE)
        wait_for(lambda: isinstance(next_of(broker), m.Started), 10, "the batch's start")
        stopper.stop()
        stopped = time.monotonic()
        thread.join(20)
        assert 0.5 <= time.monotonic() - stopped < 0.5 + 1 + SLACK_S
    release.set()
    assert "left with 1 frames in hand, 0 results unsent" in caplog.messages


def next_of(broker: Endpoint) -> m.ToBroker | None:
    parts = broker.receive()
    return None if parts is None else READ.decode(parts[1:])[0]


def test_a_second_signal_ends_a_worker_at_once(start: Callable[[str], Started]) -> None:
    worker = start("absent_models:Hangs")
    _sink, broker = worker.sink(), worker.broker()
    worker.work(broker, 1)
    worker.until_heard(broker, m.Started)
    worker.process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        worker.process.wait(1.5)
    code, took, _ = worker.leave()
    assert code == 130
    assert took < 1 + SLACK_S


def test_a_worker_that_is_not_ready_yet_leaves_at_once(start: Callable[[str], Started]) -> None:
    worker = start("absent_models:NeverReady")
    assert worker.process.stdout is not None
    assert worker.process.stdout.readline() == "setting up\n"
    code, took, log = worker.leave()
    assert (code, log) == (-signal.SIGTERM, [])
    assert took < 1 + SLACK_S

"""Workers that keep dying, real processes that are started again at once: who is given what, and what is given up."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from broker.service import Broker
from common import messages as m
from common.codec import decode_rgb
from common.config import Broker as BrokerSection
from common.config import Fleet, Output, Sink, Stream, Workers, dump
from common.lifecycle import Stopper
from common.status import Status
from common.transport import Hub
from common.wire import Reader, encode
from tests.builders import frame

SIZE = (64, 48)
BATCH = 2
#: What a worker has room for: the batch in the model and the next one.
ROOM = 2 * BATCH
MAX_ATTEMPTS = 3
PATIENCE_S = 120

MODEL = '''
import os
import signal
import time
from workers.model import Findings, InputSpec


class Model:
    """Finds nothing in 20 ms a picture; in a deadly worker it writes down what it was given, and dies of it."""

    input = InputSpec(64, 48)

    def setup(self, device): ...

    def predict(self, pictures):
        if "DEADLY" in os.environ:
            with open(os.environ["DEADLY"], "a") as file:
                print(*(round(float(picture.mean())) for picture in pictures), file=file, flush=True)
            time.sleep(0.1)  # as a network would take: the word that the batch has begun is out
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.02 * len(pictures))
        return [Findings() for _ in pictures]
'''
NAME = "some_model:Model"


def picture(index: int) -> bytes:
    """I420 planes in a grey that names the frame."""
    width, height = SIZE
    return bytes([16 + 10 * (index % 16)]) * (width * height) + bytes([128]) * (width * height // 2)


class Bench:
    """A broker in this process, worker processes, and a producer and a sink that the test plays."""

    def __init__(self, folder: Path, hub: Hub) -> None:
        (folder / "some_model.py").write_text(MODEL)
        self._folder = folder
        config = BrokerSection(
            frames=f"ipc://{folder}/frames", workers=f"ipc://{folder}/workers", news=f"ipc://{folder}/news",
            max_attempts=MAX_ATTEMPTS,
        )  # fmt: skip
        self._fleet = Fleet(
            broker=config,
            sink=Sink(media=f"ipc://{folder}/media", results=f"ipc://{folder}/results"),
            workers=Workers(model=NAME, batch=BATCH),
            streams=[Stream(name="s", source="x", model=NAME, outputs=[Output(path="x.jsonl", kind="jsonl")])],
        )
        (folder / "fleet.json").write_bytes(dump(self._fleet))
        self.stopper = Stopper()
        self.broker = Broker(self._fleet, Status(None, "broker"), self.stopper)
        self._thread = threading.Thread(target=self.broker.run)
        self._thread.start()
        self._producer = hub.connect("push", config.frames)
        self._sink = hub.bind("pull", self._fleet.sink.results)
        self._read: Reader[m.ToResults] = Reader(m.ToResults)
        self._deadly: dict[str, bool] = {}
        self._workers: dict[str, subprocess.Popen[bytes]] = {}
        self.lives: Counter[str] = Counter()
        self.answers: list[m.ToResults] = []

    def start(self, name: str, deadly: bool) -> None:
        self._deadly[name] = deadly
        self.lives[name] += 1
        env = os.environ | {"PYTHONPATH": f"{Path(__file__).resolve().parents[2]}:{self._folder}"}
        if deadly:
            env["DEADLY"] = str(self._folder / "given")
        command = [sys.executable, "-m", "workers", "-c", str(self._folder / "fleet.json"), "--name", name]
        self._workers[name] = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)

    def frame(self, index: int) -> None:
        header = frame(index, size=SIZE, source=SIZE, codec="i420", model=NAME)
        assert self._producer.send(encode(header), picture(index))

    def until(self, condition: Callable[[], bool]) -> None:
        """Start dead workers again at once, and listen as the sink."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, (self.lives, self.answers, self.broker._core.counts)
            for name, process in list(self._workers.items()):
                if process.poll() is not None:
                    self.start(name, self._deadly[name])
            while (parts := self._sink.receive()) is not None:
                self.answers.append(self._read.decode(parts)[0])
            time.sleep(0.01)

    def given(self) -> list[list[int]]:
        """The frames of each batch that a dying model was given, in order."""
        shades = {round(float(decode_rgb(picture(i), "i420", SIZE).mean())): i for i in range(16)}
        lines = (self._folder / "given").read_text().splitlines()
        return [[shades[int(word)] for word in line.split()] for line in lines]

    def close(self) -> None:
        for process in self._workers.values():
            process.kill()
            process.wait()
        self.stopper.stop()
        self._thread.join(20)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Hub() as hub:
        made = Bench(tmp_path, hub)
        try:
            yield made
        finally:
            made.close()
    made.broker._core.check()


def test_what_kills_its_worker_is_given_up_and_nothing_else_is_blamed(bench: Bench) -> None:
    """Three frames, each of them deadly. Only what was in the model counts: no frame is given up for its neighbour."""
    for index in range(3):
        bench.frame(index)
    bench.start("w", deadly=True)
    bench.until(lambda: len(bench.answers) >= 3)
    assert all(isinstance(one, m.GaveUp) and one.reason == "poison" for one in bench.answers)
    assert sorted(one.index for one in bench.answers) == [0, 1, 2]
    given = bench.given()
    times = Counter(index for batch in given for index in batch)
    assert set(times) == {0, 1, 2}
    assert all(count == MAX_ATTEMPTS for count in times.values()), given
    seen: set[int] = set()
    for batch in given:
        assert len(batch) == 1 or not seen & set(batch), "what was tried before is tried alone"
        seen |= set(batch)
    # It is fed once a life, up to its room; nothing is sent to a worker that is not there.
    lives, sent = len(given), bench.broker._core.counts["sent"]
    assert lives <= bench.lives["w"] <= lives + 1
    assert sent <= ROOM * lives
    assert bench.broker._core.counts["returned"] == sent - len(bench.answers)


def test_a_worker_that_keeps_dying_costs_the_others_nothing(bench: Bench) -> None:
    """Two serve one model: one dies of every batch and is started again at once, the other one works."""
    bench.start("good", deadly=False)
    bench.start("bad", deadly=True)
    bench.until(lambda: bench.broker._core.workers == 2)
    sent = 0

    def all_through() -> bool:
        nonlocal sent
        while sent - len(bench.answers) < 4 * ROOM and bench.lives["bad"] < 4:
            bench.frame(sent)
            sent += 1
        return bench.lives["bad"] >= 4 and len(bench.answers) >= sent

    bench.until(all_through)
    assert len(bench.given()) >= 3, "the bad one got its share each time"
    assert all(isinstance(one, m.Result) and one.worker == "good" for one in bench.answers)
    assert sorted(one.index for one in bench.answers) == list(range(sent))

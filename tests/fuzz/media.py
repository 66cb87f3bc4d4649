"""Hostile sessions on the media link of a real sink, a process of its own: it may crash natively, and is weighed."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
from msgspec.structs import replace

from common import config
from common import messages as m
from common.transport import Endpoint, Hub
from common.wire import Reader, encode
from tests.fuzz.abuse import Session, Spoiler, placed
from tests.fuzz.headers import REFUSALS
from tests.fuzz.mutate import mutate, noise
from tests.fuzz.speech import Speech

#: The stream that is abused, and the one that is not.
BAD, GOOD = "bad", "good"
#: How long the sink may be silent, in seconds, on a busy machine.
PATIENCE_S = 60.0
#: How long a session says Hello, in seconds: refusals are not answered.
GREET_S = 0.6
#: How long its end is waited for, in seconds: some sessions have none.
END_S = 0.5
#: Names under which the sink refuses what can be read and makes no sense (docs/protocol.md).
LINK_REFUSALS = {"unknown_stream", "stranger", "tracks", "track", "index", "count", "time"}
READER: Reader[m.ToProducer] = Reader(m.ToProducer)


class SinkDied(AssertionError):
    """With what it said last."""


class Sink:
    """``python -m sink`` with the two streams, and a producer's and a worker's socket to it."""

    def __init__(self, folder: Path, outputs: tuple[str, ...] = ("mp4", "mkv", "ts", "jsonl")) -> None:
        self.folder = folder
        streams = [
            config.Stream(
                name=name, source="x", model="echo", ledger=str(folder / f"{name}.ledger.json"),
                outputs=[config.Output(path=str(folder / f"{name}.{kind}"), kind=kind) for kind in outputs],  # type: ignore[arg-type]
                encoding=config.Encoding(preset="ultrafast"),
            )
            for name in (BAD, GOOD)
        ]  # fmt: skip
        self.config = config.Fleet(
            broker=config.Broker(**{name: f"ipc://{folder}/{name}" for name in ("frames", "workers", "news")}),  # type: ignore[arg-type]
            sink=config.Sink(media=f"ipc://{folder}/media", results=f"ipc://{folder}/results"),
            workers=config.Workers(model="echo"),
            streams=streams,
        )
        (folder / "fleet.json").write_bytes(config.dump(self.config))
        self.log = folder / "sink.log"
        root = str(Path(__file__).resolve().parents[2])
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sink", "-c", str(folder / "fleet.json")],
                stderr=log, stdout=log, cwd=folder, env=os.environ | {"PYTHONPATH": root, "PYTHONFAULTHANDLER": "1"},
            )  # fmt: skip
        self.hub = Hub()
        self.producer = self.hub.connect("dealer", self.config.sink.media, hwm=4096)
        self.worker = self.hub.connect("push", self.config.sink.results, hwm=4096)

    def alive(self) -> None:
        """Raises SinkDied where it is not."""
        if (code := self.process.poll()) is not None:
            raise SinkDied(f"the sink died with {code}\n{self.log.read_text(errors='replace')[-4000:]}")

    @property
    def memory(self) -> int:
        """Resident bytes."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def send(self, endpoint: Endpoint, *parts: bytes) -> None:
        end = time.monotonic() + PATIENCE_S
        while not endpoint.send(*parts):
            self.alive()
            assert time.monotonic() < end, "the sink takes nothing"
            time.sleep(0.002)

    def hear(self, *kinds: type[m.Head], **fields: Any) -> Any:
        """The next message to the producer of one of these kinds with these fields; others are skipped."""
        end = time.monotonic() + PATIENCE_S
        while True:
            if (parts := self.producer.receive()) is None:
                self.alive()
                assert time.monotonic() < end, f"no {kinds} with {fields} from the sink"
                time.sleep(0.001)
                continue
            message, _ = READER.decode(parts)
            if isinstance(message, kinds) and all(getattr(message, key) == value for key, value in fields.items()):
                return message

    def ping(self, number: int) -> None:
        """Wait until everything sent so far was looked at."""
        self.send(self.producer, encode(m.End(stream="ping", epoch=number, link=1, last=0)))
        self.hear(m.Unknown, stream="ping", epoch=number)

    def close(self) -> None:
        self.hub.close()
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError("the sink did not leave") from None


class Media:
    """Throws sessions at a sink; ``counts`` says what became of them."""

    def __init__(self, seed: int, sink: Sink, speeches: list[Speech]) -> None:
        self._chance = random.Random(seed)
        self._sink, self._speeches = sink, speeches
        self._spoiler = Spoiler(speeches, self._chance)
        self._number = self._pings = 0
        self._old: list[bytes] = []
        self.counts: Counter[str] = Counter()

    def throw(self, sessions: int) -> None:
        for _ in range(sessions):
            self._number += 1
            self._say(self._spoiler.session(f"session-{self._number}"))

    def _say(self, session: Session) -> None:
        sink, chance = self._sink, self._chance
        answer = self._greet(session)
        if answer is None:
            self.counts["no welcome"] += 1
            return
        self.counts["welcome"] += 1
        answers = list(session.answers)
        for head, body in session.messages:
            data = encode(placed(head, answer.epoch, answer.resume))
            sink.send(sink.producer, data, body)
            if chance.random() < 0.02:
                self._old.append(data)
                sink.send(sink.producer, chance.choice(self._old), body)  # an old epoch, or the same once more
            if chance.random() < 0.02:
                sink.send(sink.producer, mutate(data, chance, noise(chance, 20)), body)
            if answers and chance.random() < 0.5:
                epoch = chance.choice((answer.epoch, answer.epoch, answer.epoch, max(0, answer.epoch - 1), 2**62))
                sink.send(sink.worker, encode(placed(answers.pop(), epoch, answer.resume)))
        for one in answers:
            sink.send(sink.worker, encode(placed(one, answer.epoch, answer.resume)))
        if chance.random() < 0.7:  # so that a session comes to its end whatever went wrong with its answers
            for index in range(len(session.messages)):
                plain = m.Result(stream=BAD, epoch=answer.epoch, index=index + answer.resume, worker="w")
                sink.send(sink.worker, encode(plain))
        del self._old[:-50]
        if chance.random() < 0.5:  # else the next Hello breaks into it
            self._wait(answer.epoch)
        sink.ping(10**9 + self._number)

    def _greet(self, session: Session) -> m.Welcome | None:
        """Say Hello until the session before is at its end; None where the sink does not want this one."""
        sink, end = self._sink, time.monotonic() + GREET_S
        while time.monotonic() < end:
            sink.send(sink.producer, encode(session.hello), session.carriers)
            self._pings += 1
            sink.send(sink.producer, encode(m.End(stream="ping", epoch=self._pings, link=1, last=0)))
            while True:
                answer = sink.hear(m.Welcome, m.Unknown)
                if isinstance(answer, m.Welcome) and answer.session == session.hello.session:
                    return answer
                if isinstance(answer, m.Unknown) and (answer.stream, answer.epoch) == ("ping", self._pings):
                    break
            time.sleep(0.01)
        return None

    def _wait(self, epoch: int) -> None:
        """For the end, unless nothing happens any more."""
        sink, end = self._sink, time.monotonic() + END_S
        while time.monotonic() < end:
            if (parts := sink.producer.receive()) is None:
                sink.alive()
                time.sleep(0.002)
                continue
            message, _ = READER.decode(parts)
            if isinstance(message, m.Closed) and message.epoch == epoch:
                self.counts["closed"] += 1
                return
        self.counts["left open"] += 1


class Flood:
    """One session that never ends, of messages that each may be sent."""

    def __init__(self, sink: Sink, speech: Speech) -> None:
        self._sink = sink
        sink.send(sink.producer, encode(replace(speech.hello, session="flood")), b"".join(speech.carriers))
        self._epoch = sink.hear(m.Welcome, session="flood").epoch
        self._link = self._index = 0
        self._where: dict[str, Any] = {"stream": BAD, "epoch": self._epoch}

    def results(self, count: int) -> None:
        """Of frames to come, as large as they may be; and of another stream."""
        found = [m.Detection("x" * 256, 0.5, (0.0, 0.0, 9.0, 9.0), [(1.0, 1.0)] * 64)] * 1000
        for number in range(count):
            large = number % 8 == 0
            seconds = {f"stage {number} {n}": 0.1 for n in range(9)}
            one = m.Result(worker="w", index=self._index + number, seconds=seconds, **self._where)
            self._sink.send(self._sink.worker, encode(replace(one, detections=found if large else found[:1])))
            gave_up = m.GaveUp(index=self._index + number, reason=f"{number}" * 20, detail="x" * 2000, **self._where)
            self._sink.send(self._sink.worker, encode(gave_up))
            self._sink.send(self._sink.worker, encode(replace(one, stream="nobody")))
        self._sink.ping(self._link)

    def sound(self, count: int) -> None:
        """Half a megabyte each, while no picture comes."""
        for _ in range(count):
            self._link += 1
            packet = m.Packet(link=self._link, track=1, pts=self._link, time_base=(1, 48000), **self._where)
            self._sink.send(self._sink.producer, encode(packet), bytes(500_000))
            if self._link % 20 == 0:
                self._sink.ping(self._link)

    def notices(self, count: int) -> None:
        """The first waits for its result, the others stand for ten thousand frames each."""
        for _ in range(count):
            self._link += 1
            run = m.MAX_RUN if self._index else 1
            notice = m.Notice(
                link=self._link, index=self._index, out=self._index * 512, duration=512, count=run,
                fate="gap" if self._index else "sent", reason="x" * 2000, **self._where,
            )  # fmt: skip
            self._sink.send(self._sink.producer, encode(notice))
            self._index += run
        self._sink.ping(self._link)


def honest(sink: Sink, speech: Speech, name: str) -> m.Closed:
    """A session of the other stream, from Hello to Closed, as a patient producer holds it."""
    hello = replace(speech.hello, stream=GOOD, session=name)
    sink.send(sink.producer, encode(hello), b"".join(speech.carriers))
    epoch = sink.hear(m.Welcome, session=name).epoch
    for head, body in speech.messages:
        sink.send(sink.producer, encode(replace(head, stream=GOOD, epoch=epoch)), body)
        if isinstance(head, m.Notice):
            found = [m.Detection("x", 0.5, (1.0, 2.0, 30.0, 40.0))]
            result = m.Result(stream=GOOD, epoch=epoch, index=head.index, worker="w", detections=found)
            sink.send(sink.worker, encode(result))
    closed = sink.hear(m.Closed, stream=GOOD, epoch=epoch)
    assert isinstance(closed, m.Closed)
    return closed


def counts_in(log: Path) -> Counter[str]:
    """Kind of refusal → the highest count that a log names."""
    found: Counter[str] = Counter()
    for text in log.read_text(errors="replace").splitlines():
        if text.startswith("{"):
            line = json.loads(text)
            if line.get("kind") in REFUSALS | LINK_REFUSALS:
                found[line["kind"]] = max(found[line["kind"]], line.get("count", 1))
    return found

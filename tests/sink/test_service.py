"""The sink with several streams: what ends or breaks one leaves the others as they are, and nothing is left of those
that are removed from the configuration."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import generate_latest

from common import config
from common import messages as m
from common.lifecycle import Stopper
from common.status import Status
from common.transport import Hub, drain
from common.wire import Reader, encode
from sink import service
from sink.registry import MAX_CRASHES
from sink.service import Sink
from sink.stream import SinkStream
from sink.studio import Studio
from tests.feeds import Recorded, record, settings
from tests.support import make_clip, wait_for

FRAMES = 20
SOON_S = 30.0


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """A stream of which only the first frame goes to the model."""
    clip = tmp_path_factory.mktemp("clip") / "clip.mp4"
    make_clip(clip, "-c:v", "libx264", "-preset", "ultrafast", "-bf", "0", seconds=FRAMES / 25, size="96x64")
    return record(clip, every=1000)


class Guest:
    """A producer. ``epochs``: those that it was welcomed to."""

    def __init__(self, bench: Bench, recorded: Recorded, name: str, session: str = "one") -> None:
        self._hub = Hub()
        self._media = self._hub.connect("dealer", f"ipc://{bench.folder}/media")
        self._results = self._hub.connect("push", f"ipc://{bench.folder}/results")
        self._read: Reader[m.ToProducer] = Reader(m.ToProducer)
        self._recorded, self.name = recorded, name
        self._hello = msgspec.structs.replace(recorded.hello, stream=name, session=session)
        self._next_hello, self._unknown = 0.0, True
        self._unsent: list[tuple[Any, bytes]] = []
        self.epochs: list[int] = []
        self.closed: m.Closed | None = None

    def go(self) -> m.Closed | None:
        """One turn; the sink's last word, once it was said."""
        for parts in drain(self._media, 100):
            message, _ = self._read.decode(parts)
            if isinstance(message, m.Welcome):
                self._unknown = False
                if message.epoch in self.epochs:
                    continue
                assert message.resume in (0, FRAMES)
                self.epochs.append(message.epoch)
                self._unsent = list(self._recorded.messages) if not message.resume else []
                self._results.send(encode(m.Result(stream=self.name, epoch=message.epoch, index=0, worker="w")))
            elif isinstance(message, m.Unknown):
                self._unknown = True
            elif isinstance(message, m.Closed):
                self.closed = message
        if self._unknown:
            self.hello()
        while self._unsent:
            header, payload = self._unsent[0]
            own = msgspec.structs.replace(header, stream=self.name, epoch=self.epochs[-1])
            if not self._media.send(encode(own), payload):
                break
            self._unsent.pop(0)
        return self.closed

    def hello(self) -> None:
        if time.monotonic() > self._next_hello:
            self._next_hello = time.monotonic() + 0.05
            self._media.send(encode(self._hello), self._recorded.blobs)

    def leave(self) -> None:
        self._hub.close()


class Bench:
    """A sink in a thread of its own, for streams of these names."""

    def __init__(self, out: Path, *names: str) -> None:
        self._place = tempfile.TemporaryDirectory(prefix="hr-")
        self.folder, self.out = Path(self._place.name), out
        self.file = self.folder / "fleet.json"
        self._reader, writer = os.pipe()
        self._lines = b""
        self.configure(*names)
        self._stopper = Stopper()
        self.sink = Sink(self.fleet(*names), Status(writer, "sink"), self._stopper, self.file)
        self.crash: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._guests: list[Guest] = []

    def _run(self) -> None:
        try:
            self.sink.run()
        except Exception as error:  # noqa: BLE001  looked at by the test
            self.crash = error

    def fleet(self, *names: str) -> config.Fleet:
        ipc = {name: f"ipc://{self.folder}/{name}" for name in ("frames", "workers", "news", "media", "results")}
        return config.Fleet(
            run="run", workers=config.Workers(model="echo"),
            broker=config.Broker(frames=ipc["frames"], workers=ipc["workers"], news=ipc["news"]),
            sink=config.Sink(media=ipc["media"], results=ipc["results"], producer_timeout=60.0),
            streams=[settings(self.out / f"{name}.mkv", name=name) for name in names],
        )  # fmt: skip

    def configure(self, *names: str) -> None:
        """The configuration names these now."""
        draft = self.file.with_suffix(".new")
        draft.write_bytes(config.dump(self.fleet(*names)))
        os.replace(draft, self.file)

    def guest(self, recorded: Recorded, name: str, session: str = "one") -> Guest:
        self._guests.append(Guest(self, recorded, name, session))
        return self._guests[-1]

    def said(self, event: str, stream: str) -> bool:
        """Whether the status line was heard."""
        os.set_blocking(self._reader, False)
        with contextlib.suppress(BlockingIOError):
            self._lines += os.read(self._reader, 2**20)
        lines = [json.loads(line) for line in self._lines.splitlines() if line.endswith(b"}")]
        return any(line["event"] == event and line.get("stream") == stream for line in lines)

    def ledger(self, name: str) -> dict[str, Any]:
        (entry,) = json.loads((self.out / f"{name}.ledger.json").read_text())["streams"]
        assert isinstance(entry, dict)
        return entry

    def close(self) -> None:
        for guest in self._guests:
            guest.leave()
        self._stopper.stop()
        self._thread.join(SOON_S)
        assert not self._thread.is_alive()
        self._place.cleanup()
        if self.crash is not None:
            raise self.crash


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(*names: str) -> Bench:
        made.append(Bench(tmp_path, *names))
        return made[-1]

    yield make
    for one in made:
        one.close()


def play(*guests: Guest) -> None:
    """Until the sink has closed all of them."""
    wait_for(lambda: all([guest.go() for guest in guests]), SOON_S, "the end of all streams")


def breaks(monkeypatch: pytest.MonkeyPatch, kind: type[Any], method: str, times: int) -> list[int]:
    """``method`` raises so many times for the stream "bad", but once for each of its lives. The list counts."""
    real, raised = getattr(kind, method), []

    def broken(self: Any, *arguments: Any) -> Any:
        whole = isinstance(self, SinkStream)
        name = self.config.name if whole else self._config.name
        if name == "bad" and len(raised) < times and not (method != "retire" and whole and self.crashed):
            raised.append(1)
            raise ZeroDivisionError("this is broken")
        return real(self, *arguments)

    monkeypatch.setattr(kind, method, broken)
    return raised


PLACES = [
    (Studio, "show"),
    (Studio, "packet"),
    (SinkStream, "on_link"),
    (SinkStream, "on_answer"),
    (SinkStream, "advance"),
]


@pytest.mark.parametrize(("kind", "method"), PLACES, ids=[f"{kind.__name__}.{method}" for kind, method in PLACES])
def test_a_stream_that_crashes_begins_anew_and_the_other_goes_on(
    bench: Callable[..., Bench], recorded: Recorded, monkeypatch: pytest.MonkeyPatch,
    kind: type[Any], method: str, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    breaks(monkeypatch, kind, method, 2)
    here = bench("good", "bad")
    good, bad = here.guest(recorded, "good"), here.guest(recorded, "bad")
    play(good, bad)
    assert good.epochs == [1]
    assert bad.epochs == [1, 2, 3]
    for guest in (good, bad):
        assert guest.closed is not None
        assert guest.closed.error == ""
        assert guest.closed.states == {"annotated": 1, "carried": FRAMES - 1}
    assert here.ledger("bad")["frames"] == FRAMES
    told = [one for one in caplog.records if one.levelname == "CRITICAL"]
    assert [one.getMessage() for one in told] == [
        "bad crashed here: ZeroDivisionError: this is broken; it begins a new epoch"
    ] * 2
    assert all(one.exc_info for one in told)


def test_one_that_crashes_again_and_again_is_closed(
    bench: Callable[..., Bench], recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised = breaks(monkeypatch, Studio, "show", 1000)
    here = bench("good", "bad")
    good, bad = here.guest(recorded, "good"), here.guest(recorded, "bad")
    play(good, bad)
    assert len(raised) == MAX_CRASHES
    assert bad.closed is not None
    assert bad.closed.error == (
        f"the stream crashed {MAX_CRASHES} times without having come further: ZeroDivisionError: this is broken"
    )
    assert here.said("closed", "bad")
    monkeypatch.undo()
    another = here.guest(recorded, "bad", session="two")
    play(another)
    assert another.closed is not None
    assert another.closed.error == "", "another producer may try"


def test_one_that_cannot_be_ended_ends_us(
    bench: Callable[..., Bench], recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Better a new start of all than a stream that nobody can close."""
    monkeypatch.setattr(service, "BROKEN_S", 0.3)
    breaks(monkeypatch, SinkStream, "on_answer", 1)
    breaks(monkeypatch, SinkStream, "retire", 1000)
    here = bench("bad")
    bad = here.guest(recorded, "bad")

    def over() -> bool:
        bad.go()
        return here.crash is not None

    wait_for(over, SOON_S, "the crash")
    assert isinstance(here.crash, ZeroDivisionError)
    here.crash = None
    here.sink._hub.close(linger=False)  # a process that ends has closed it


def test_streams_come_and_go(bench: Callable[..., Bench], recorded: Recorded) -> None:
    """One that is added later is served, one that is removed is forgotten: in memory, in the metrics, on disk."""
    here = bench("one")
    one = here.guest(recorded, "one")
    stranger = here.guest(recorded, "two")
    for _ in range(20):
        one.go()
        stranger.go()
        time.sleep(0.01)
    assert stranger.epochs == [], "the configuration does not name it"
    epochs = []
    for turn in range(3):
        here.configure("one", "two")
        two = here.guest(recorded, "two", session=f"turn {turn}")
        play(two)
        epochs += two.epochs
        two.leave()
        here._guests.remove(two)
        assert here.ledger("two")["frames"] == FRAMES
        assert here.ledger("two")["parts"] == [str(here.out / "two.mkv")], "written anew"
        wait_for(lambda: b'stream="two"' in metrics(here), SOON_S, "its metrics")
        here._lines = b""
        here.configure("one")
        wait_for(lambda: here.said("forgotten", "two"), SOON_S, "its being forgotten")
        assert b'stream="two"' not in metrics(here)
        assert "resume" not in here.ledger("two")
        assert here.sink._registry.past.keys() <= {"one"}
        here.sink._registry.check()
    assert epochs == [1, 2, 3], "no answer of an earlier life is taken for one of a later"
    play(one)
    assert one.epochs == [1]
    wait_for(lambda: b'{state="carried",stream="one"} 19.0' in metrics(here), SOON_S, "its frames in the metrics")
    stranger.leave()
    here._guests.remove(stranger)


def metrics(here: Bench) -> bytes:
    return generate_latest(here.sink._metrics.registry)


def test_one_that_is_removed_while_it_runs(bench: Callable[..., Bench], recorded: Recorded) -> None:
    """It goes on as long as its producer does; when that is gone without a word, its outputs are closed at once."""
    here = bench("one", "two")
    first, rest = recorded.messages[: len(recorded.messages) // 2], recorded.messages
    two = here.guest(Recorded(recorded.hello, recorded.blobs, first), "two")
    wait_for(lambda: two.go() or (two.epochs and not two._unsent), SOON_S, "its beginning")
    here.configure("one")
    time.sleep(0.7)
    assert not here.said("forgotten", "two")
    two.leave()
    here._guests.remove(two)
    wait_for(lambda: here.said("forgotten", "two"), SOON_S, "its end")
    frames = here.ledger("two")["frames"]
    assert 0 < frames < FRAMES
    assert sum(isinstance(message, m.Notice) for message, _ in first) == frames
    assert len(rest) > len(first)


def test_a_configuration_that_cannot_be_read_changes_nothing(
    bench: Callable[..., Bench], recorded: Recorded, caplog: pytest.LogCaptureFixture
) -> None:
    here = bench("one")
    for broken in ("{", "[]", '{"streams": []}'):
        caplog.clear()
        here.file.write_text(broken)
        wait_for(lambda: "cannot be read, the old one counts" in caplog.text, SOON_S, "a word of it")
    here.file.unlink()
    one = here.guest(recorded, "one")
    play(one)
    assert one.epochs == [1]

"""What a producer says to its sink while its source comes and goes: to an older one, a restarted one, a late one.

The sink is a script; the source is a real one over HTTP.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from common import config
from common import messages as m
from common.errors import SourceError
from common.lifecycle import Stopper
from common.status import Status
from common.transport import Hub, Unreachable
from common.wire import Reader, encode
from producer.service import Producer
from tests.integration.changing import HEVC, Look, make
from tests.servers_http import HttpServer, stream_of
from tests.support import wait_for

#: Seconds for what takes a fraction of one on an idle machine.
PATIENCE = 40.0
Said = Any


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """H.264 with sound, and HEVC without."""
    folder = tmp_path_factory.mktemp("clips")
    return make(folder / "a.ts", Look((96, 64))), make(folder / "b.ts", Look((64, 96), codec=HEVC, sound=()))


class Sink:
    """Hears all, and says what a test wants it to. ``said``: what came with the running epoch."""

    def __init__(self, fleet: config.Fleet) -> None:
        self._hub = Hub()
        self._media = self._hub.bind("router", fleet.sink.media)
        self._reader: Reader[m.ToSink] = Reader(m.ToSink)
        self._peer = b""
        self.hellos: list[m.Hello] = []
        self.said: list[Said] = []
        self._payloads: list[bytes] = []
        self._epoch = self._link = 0
        self._acked = 0.0

    def _acknowledge(self) -> None:
        self._acked = time.monotonic()
        resolved = max([-1, *(one.index for one in self.of(m.Notice))])
        with contextlib.suppress(Unreachable):
            self.send(m.Ack(stream="cam", epoch=self._epoch, link=self._link, resolved=resolved))

    def listen(self) -> bool:
        """Take in what has come; answer it where an epoch runs. True, to be waited with."""
        while (parts := self._media.receive()) is not None:
            message, payload = self._reader.decode(parts[1:])
            self._peer = parts[0]
            if isinstance(message, m.Hello):
                self.hellos.append(message)
            elif message.epoch == self._epoch and message.link == self._link + 1:
                self._link += 1
                self.said.append(message)
                self._payloads.append(bytes(payload))
        if self._epoch and time.monotonic() > self._acked + 0.05:
            self._acknowledge()
        return True

    def until(self, condition: Callable[[], Any], what: str) -> None:
        wait_for(lambda: self.listen() and condition(), PATIENCE, what)

    def welcome(self, hello: m.Hello, version: int = m.VERSION, resume: int = 0) -> None:
        """Begin an epoch."""
        self._epoch, self._link, self.said = self._epoch + 1, 0, []
        self.send(m.Welcome(stream="cam", session=hello.session, epoch=self._epoch, resume=resume), version=version)

    def forget(self) -> None:
        """As after a new start: it knows nothing."""
        self.send(m.Unknown(stream="cam", epoch=self._epoch))
        self._epoch += 1000  # what is under way is nobody's
        self.hellos.clear()

    def close_stream(self) -> None:
        self.send(m.Closed(stream="cam", epoch=self._epoch))

    def of(self, *kinds: type[m.Head]) -> list[Said]:
        return [one for one in self.said if isinstance(one, kinds)]

    def send(self, message: m.Head, version: int = m.VERSION) -> None:
        assert self._media.send(self._peer, encode(msgspec.structs.replace(message, v=version)))

    def close(self) -> None:
        self._hub.close(linger=False)


class Scene:
    """A producer in a thread, its source, and its sink."""

    def __init__(self, folder: Path, clip: Path, **fields: Any) -> None:
        self.server = HttpServer({"/cam.ts": stream_of(clip, "mpegts")}).start()
        stream = config.Stream(**{
            "name": "cam", "source": self.server.url("/cam.ts"), "model": "echo", "mode": "live", "source_timeout": 2,
            "outputs": [config.Output(path="x.mkv", kind="mkv")], **fields,
        })  # fmt: skip
        self.fleet = config.Fleet(
            broker=config.Broker(**{name: f"ipc://{folder}/{name}" for name in ("frames", "workers", "news")}),  # type: ignore[arg-type]
            sink=config.Sink(media=f"ipc://{folder}/media", results=f"ipc://{folder}/results"),
            workers=config.Workers(model="echo"),
            streams=[stream],
        )
        self.stopper = Stopper()
        self.code: int | None = None
        self.error: Exception | None = None
        self.sink = Sink(self.fleet)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.code = Producer(self.fleet, self.fleet.streams[0], Status(None, "producer"), self.stopper).run()
        except Exception as error:  # noqa: BLE001  looked at by tests
            self.error = error

    @property
    def over(self) -> bool:
        return not self._thread.is_alive()

    def begin(self, version: int = m.VERSION) -> None:
        """To the first pictures."""
        self.sink.until(lambda: self.sink.hellos, "a Hello")
        self.sink.welcome(self.sink.hellos[-1], version)
        self.sink.until(lambda: len(self.sink.of(m.Notice)) > 10, "pictures")

    def becomes(self, clip: Path) -> None:
        """The source is another one from its next opening on."""
        self.server.routes["/cam.ts"] = stream_of(clip, "mpegts")

    def close(self) -> None:
        self.stopper.stop()
        wait_for(lambda: self.over or (self.sink.listen() and self._close_ended()), PATIENCE, "the producer's end")
        self.server.stop()
        self.sink.close()

    def _close_ended(self) -> bool:
        if self.sink.of(m.End):
            with contextlib.suppress(Unreachable):  # it has left already
                self.sink.close_stream()
        return self.over


@pytest.fixture
def scene(clips: tuple[Path, Path]) -> Iterator[Callable[..., Scene]]:
    made: list[Scene] = []
    with tempfile.TemporaryDirectory(prefix="hr-") as folder:

        def make(**fields: Any) -> Scene:
            made.append(Scene(Path(folder), clips[0], **fields))
            return made[-1]

        yield make
        for one in made:
            one.close()


def codecs(said: list[Said], first: str) -> list[str]:
    """Codec of each packet of the picture, as somebody must take it who was greeted with ``first``."""
    found = []
    for one in said:
        if isinstance(one, m.Change):
            first = one.tracks[0].codec
        elif isinstance(one, m.Packet) and one.track == 0:
            found.append(first)
    return found


def test_an_older_sink_is_told_nothing_that_it_does_not_know(scene: Callable[..., Scene]) -> None:
    """The stream ends when its source drops, as it did for that sink."""
    one = scene(placeholder=True)
    one.begin(version=101)
    one.server.stop()
    one.sink.until(lambda: one.sink.of(m.End), "the end")
    assert not one.sink.of(m.Change, m.Filler)
    (end,) = one.sink.of(m.End)
    assert "/cam.ts" in end.reason
    one.sink.close_stream()
    wait_for(lambda: one.over, PATIENCE, "the producer's end")
    assert isinstance(one.error, SourceError)


@pytest.mark.slow
def test_a_sink_that_is_replaced_by_an_older_one_meanwhile(scene: Callable[..., Scene]) -> None:
    one = scene(placeholder=True)
    one.begin()
    one.server.stop()
    one.sink.until(lambda: one.sink.of(m.Filler), "a placeholder")
    one.sink.forget()
    one.sink.until(lambda: one.sink.hellos, "a Hello")
    one.sink.welcome(one.sink.hellos[-1], version=101)
    one.sink.until(lambda: one.sink.of(m.End), "the end")
    assert not one.sink.of(m.Change, m.Filler)


@pytest.mark.slow
def test_a_loop_plays_once_for_an_older_sink(scene: Callable[..., Scene], clips: tuple[Path, Path]) -> None:
    one = scene(source=str(clips[1]), loop=True)
    one.begin(version=101)
    one.sink.until(lambda: one.sink.of(m.End), "the end")
    assert one.sink.of(m.End)[0].reason == ""
    assert not one.sink.of(m.Change)


def test_the_order_of_what_is_told(scene: Callable[..., Scene], clips: tuple[Path, Path]) -> None:
    """The flush, placeholders, the change, and what is of the new tracks; numbers and times go on."""
    one = scene(placeholder=True)
    one.begin()
    one.server.stop()
    one.becomes(clips[1])
    one.sink.until(lambda: len(one.sink.of(m.Filler)) >= 5, "placeholders")
    one.server.start()
    before = len(one.sink.of(m.Notice))
    one.sink.until(lambda: len(one.sink.of(m.Notice)) > before + 10, "pictures")
    (change,) = one.sink.of(m.Change)
    at = one.sink.said.index(change)
    head, tail = one.sink.said[:at], one.sink.said[at + 1 :]
    packets = [number for number, said in enumerate(head) if isinstance(said, m.Packet)]
    assert one.sink._payloads[packets[-1]] == b"", "the flush is the last packet"
    assert isinstance(tail[0], m.Packet)
    assert {said.track for said in tail if isinstance(said, m.Packet)} == {0}
    assert [track.codec for track in change.tracks] == ["hevc"]
    assert change.video.time_base == one.sink.hellos[0].video.time_base
    notices = one.sink.of(m.Notice)
    assert [notice.index for notice in notices] == list(range(len(notices)))
    times = [said.out for said in one.sink.said if isinstance(said, (m.Notice, m.Filler))]
    assert all(a < b for a, b in pairwise(times))
    away = [said.away for said in one.sink.of(m.Filler)]
    assert away == sorted(away)
    assert away[0] < 3.0, "as soon as what came ahead of its time has been shown"
    assert all("/cam.ts" in said.text for said in one.sink.of(m.Filler))


def test_a_sink_that_starts_again_while_the_source_changes(
    scene: Callable[..., Scene], clips: tuple[Path, Path]
) -> None:
    """It was greeted with the old tracks and with the new ones; nobody knows which of them it has begun with."""
    one = scene()
    one.begin()
    resume = one.sink.of(m.Notice)[-1].index + 1
    one.server.stop()
    one.sink.forget()
    one.sink.until(lambda: one.sink.hellos, "a Hello with the old tracks")
    old = one.sink.hellos[-1]
    one.becomes(clips[1])
    one.server.start()
    one.sink.until(lambda: one.sink.hellos[-1].tracks[0].codec == "hevc", "a Hello with the new ones")
    one.sink.welcome(old, resume=resume)
    one.sink.until(lambda: len(one.sink.of(m.Notice)) > 10, "pictures")
    assert set(codecs(one.sink.said, "h264")) == {"hevc"}
    assert codecs(one.sink.said, "hevc") == codecs(one.sink.said, "h264")
    assert one.sink.of(m.Notice)[0].index == resume


def test_a_sink_that_starts_again_in_the_absence(scene: Callable[..., Scene], clips: tuple[Path, Path]) -> None:
    """What it lacks comes again, with the flush; placeholders go on behind it."""
    one = scene(placeholder=True)
    one.begin()
    one.server.stop()
    one.sink.until(lambda: one.sink.of(m.Filler), "a placeholder")
    last = one.sink.of(m.Notice)[-1].index
    one.sink.forget()
    one.sink.until(lambda: one.sink.hellos, "a Hello")
    one.sink.welcome(one.sink.hellos[-1], resume=last - 2)
    one.sink.until(lambda: len(one.sink.of(m.Filler)) > 3, "placeholders")
    assert [notice.index for notice in one.sink.of(m.Notice)] == [last - 2, last - 1, last]
    first = next(at for at, said in enumerate(one.sink.said) if isinstance(said, m.Filler))
    assert not any(isinstance(said, m.Notice) for said in one.sink.said[first:])
    one.becomes(clips[1])
    one.server.start()
    one.sink.until(lambda: len(one.sink.of(m.Notice)) > 10, "pictures")
    assert codecs(one.sink.said, "h264")[-1] == "hevc"


def test_a_source_that_drops_before_the_welcome(scene: Callable[..., Scene], clips: tuple[Path, Path]) -> None:
    """It was opened and not read; what it has become is told before the first packet."""
    one = scene()
    one.sink.until(lambda: one.sink.hellos, "a Hello")
    one.server.stop()
    one.becomes(clips[1])
    one.server.start()
    one.sink.welcome(one.sink.hellos[0])
    one.sink.until(lambda: codecs(one.sink.said, "h264")[-5:] == ["hevc"] * 5, "the new source")
    notices = one.sink.of(m.Notice)
    assert [notice.index for notice in notices] == list(range(len(notices)))

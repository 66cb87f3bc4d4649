"""The producer's hands: packets before the notices of their pictures, frames before their notices, fates and waits."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest

from common import config
from common import messages as m
from common.errors import SourceError
from common.wire import MAX_PAYLOAD
from producer.feed import Feed
from producer.replay import MAX_BYTES
from producer.source import Demuxed
from tests.builders import EPOCH, ack
from tests.feeds import unhurried
from tests.support import make_clip, wait_for

SPEC = m.InputSpec(64, 64)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("feed") / "clip.mp4"
    return make_clip(path, "-c:v", "libx264", "-bf", "2", seconds=1, size="96x64", sound="-c:a aac -ac 1")


class Broker:
    """Takes frames, or none."""

    def __init__(self) -> None:
        self.open = True
        self.frames: list[m.Frame] = []
        self.bytes = 0

    def __call__(self, frame: m.Frame, payload: bytes) -> bool:
        if self.open:
            self.frames.append(frame)
            assert payload
            self.bytes += len(payload)
        return self.open


class Bench:
    """A feed with its source, driven by hand."""

    def __init__(self, clip: Path, media: bool = True, served: bool = True, **settings: Any) -> None:
        self.broker = Broker()
        known: dict[str, Any] = {"name": "s", "source": str(clip), "model": "echo"}
        outputs = [config.Output(path="x.mp4", kind="mp4")]
        stream = config.Stream(outputs=outputs, **(known | settings))
        self.source = unhurried(stream)
        self.feed = Feed(stream, "sink", self.source, self.broker)
        self.feed.welcome(EPOCH, media)
        self.feed.served(SPEC if served else None)
        self.source.start()

    def run(self) -> list[m.Head]:
        """All that goes to the sink, until the end or until a picture has to wait."""
        while True:
            if not self.feed.idle:
                if not self.feed.announce(0.0):
                    break
            elif (one := self.source.take()) is not None:
                self.feed.take(one, 0.0)
            elif self.source.drained:
                self.feed.end("", 0.0)
                break
            else:
                wait_for(lambda: self.source._queue or self.source.drained, 5, "a packet")
            self.feed.check()
        self.feed.check()
        return self.messages()

    @classmethod
    def full(cls, clip: Path, window_bytes: int) -> Bench:
        """A bench that has run with so much room."""
        bench = cls(clip, window_bytes=window_bytes)
        bench.run()
        return bench

    def messages(self) -> list[m.Head]:
        sent: list[m.Head] = []
        while (message := self.feed.link.peek()) is not None:
            sent.append(message.header)
            self.feed.link.sent()
        return sent


def notices(sent: list[m.Head]) -> list[m.Notice]:
    return [one for one in sent if isinstance(one, m.Notice)]


def test_lossless_announces_and_sends_every_frame(clip: Path) -> None:
    bench = Bench(clip)
    sent = bench.run()
    told = notices(sent)
    assert [notice.index for notice in told] == list(range(25))
    assert {notice.fate for notice in told} == {"sent"}
    assert [frame.index for frame in bench.broker.frames] == list(range(25))
    assert [one.link for one in sent] == list(range(1, len(sent) + 1))  # type: ignore[attr-defined]
    assert isinstance(sent[-1], m.End)
    assert (sent[-1].last, sent[-1].reason) == (24, "")
    frame = bench.broker.frames[0]
    assert (frame.source, frame.size, frame.budget, frame.sink) == ((96, 64), (64, 42), None, "sink")


def test_a_notice_follows_the_packet_that_its_picture_came_out_of(clip: Path) -> None:
    sent = Bench(clip).run()
    packets = {one.link: one for one in sent if isinstance(one, m.Packet)}
    for notice in notices(sent):
        assert notice.packet in packets
        assert notice.packet < notice.link
        assert packets[notice.packet].pts == notice.pts
        assert packets[notice.packet].track == 0
    assert {one.track for one in packets.values()} == {0, 1}
    flush = [one for one in packets.values() if one.track == 0][-1]
    assert (flush.pts, flush.key) == (None, False)


def test_where_no_output_wants_pictures_no_packet_travels(clip: Path) -> None:
    sent = Bench(clip, media=False).run()
    assert [type(one) for one in sent] == [m.Notice] * 25 + [m.End]
    assert {notice.packet for notice in notices(sent)} == {None}


def test_sampling(clip: Path) -> None:
    bench = Bench(clip, every=5)
    told = notices(bench.run())
    assert [notice.index for notice in told if notice.fate == "sent"] == list(range(0, 25, 5))
    assert {notice.fate for notice in told if notice.index % 5} == {"not_sampled"}


def test_lossless_waits_for_the_sink_the_model_the_broker(clip: Path) -> None:
    bench = Bench(clip, window=4)
    assert len(notices(bench.run())) == 4
    assert bench.feed.waits_for == "sink"
    bench.feed.window.ack(ack(resolved=1), 0.0)
    assert len(notices(bench.run())) == 2

    bench = Bench(clip, in_flight=3)
    assert len(notices(bench.run())) == 3
    assert bench.feed.waits_for == "window_full"
    bench.feed.window.ack(ack(received=[(1, 1)]), 0.0)
    assert len(notices(bench.run())) == 1

    bench = Bench(clip, served=False)
    assert notices(bench.run()) == []
    assert bench.feed.waits_for == "no_worker"
    bench.feed.served(SPEC)
    bench.broker.open = False
    assert notices(bench.run()) == []
    assert bench.feed.waits_for == "broker_full"
    bench.broker.open = True
    assert len(notices(bench.run())) == 25
    assert bench.feed.waits_for == ""
    assert [frame.index for frame in bench.broker.frames] == list(range(25)), "no frame twice for its waiting"


@pytest.mark.parametrize(
    ("reason", "settings"), [("no_worker", {"served": False}), ("window_full", {"in_flight": 1}), ("broker_full", {})]
)
def test_live_never_waits_and_says_why_it_skipped(clip: Path, reason: str, settings: dict[str, Any]) -> None:
    bench = Bench(clip, mode="live", latency=0.3, **settings)
    bench.broker.open = reason != "broker_full"
    told = notices(bench.run())
    assert len(told) == 25
    skipped = [notice for notice in told if notice.fate == "window_full"]
    assert {notice.reason for notice in skipped} == {reason}
    assert len(skipped) == 25 - len(bench.broker.frames)
    if bench.broker.frames:
        assert bench.broker.frames[0].budget == 0.3


def test_a_larger_picture_can_be_asked_for(clip: Path) -> None:
    bench = Bench(clip, send_size=(96, 96))
    bench.run()
    assert bench.broker.frames[0].size == (96, 64)


def test_bytes_hold_the_window_too(clip: Path) -> None:
    bench = Bench(clip, window_bytes=1)
    assert len(notices(bench.run())) == 1
    assert bench.feed.waits_for == "sink"


def test_every_byte_is_counted_once(clip: Path) -> None:
    bench = Bench(clip)
    bench.run()
    with av.open(str(clip)) as container:
        packets = sum(packet.size for packet in container.demux(video=0))
    bench = Bench(clip, window_bytes=packets + bench.broker.bytes + 1)
    assert len(notices(bench.run())) == 25
    assert bench.feed.window.room
    assert not Bench.full(clip, packets + bench.broker.bytes).feed.window.room


def test_an_interrupted_feed_ends_with_what_it_announced(clip: Path) -> None:
    bench = Bench(clip, window=3)
    bench.run()
    bench.source.stop()
    bench.feed.end("interrupted", 1.0)
    (end,) = bench.messages()
    assert isinstance(end, m.End)
    assert (end.last, end.reason) == (2, "interrupted")
    assert bench.feed.idle


def test_damage_is_counted_and_goes_on(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.ts", "-c:v", "mpeg2video", seconds=1, size="96x64")
    data = bytearray(path.read_bytes())
    for place in range(len(data) // 3, len(data) // 2, 101):
        data[place] ^= 0x55
    path.write_bytes(data)
    bench = Bench(path)
    told = notices(bench.run())
    assert len(told) > 5
    assert [notice.index for notice in told] == list(range(len(told)))
    assert all(a.out < b.out for a, b in pairwise(told))
    corrupt = [notice for notice in told if notice.fate == "corrupt"]
    assert not {notice.index for notice in corrupt} & {frame.index for frame in bench.broker.frames}


@pytest.fixture(scope="module")
def open_gop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A keyframe every 12 frames, each with leading pictures."""
    path = tmp_path_factory.mktemp("feed") / "open.mkv"
    options = "open-gop=1:keyint=12:min-keyint=12:bframes=3:b-adapt=0:scenecut=0"
    return make_clip(path, "-c:v", "libx264", "-x264-params", options, seconds=4, size="96x64", sound="-c:a aac -ac 1")


def covered(told: list[m.Notice]) -> list[int]:
    return [index for notice in told for index in range(notice.index, notice.index + notice.count)]


class LiveBench(Bench):
    """The time is the stream's own: one frame in 40 ms. ``away``: when the sink takes and acknowledges nothing."""

    def __init__(self, clip: Path, away: tuple[float, float], **settings: Any) -> None:
        super().__init__(clip, mode="live", every=10_000, **settings)
        self._away, self._now = away, 0.0
        self.most = 0

    def run(self) -> list[m.Head]:
        heard: list[m.Head] = []
        feed = self.feed
        while not (self.source.drained and feed.idle):
            if not feed.idle:
                assert feed.announce(self._now), "live never waits"
                self._now = feed.index / 25
            elif (one := self.source.take()) is not None:
                feed.take(one, self._now)
            else:
                wait_for(lambda: self.source._queue or self.source.drained, 5, "a packet")
            if not self._away[0] <= self._now < self._away[1]:
                heard += self.messages()
                feed.link.ack(feed.link.next_number - 1, False, self._now)
            self.most = max(self.most, feed.link.unacknowledged)
            feed.check()
        feed.end("", self._now)
        return heard + self.messages()


def test_live_leaves_out_what_the_link_has_no_room_for(open_gop: Path) -> None:
    """The sink is away for long enough that the oldest message is too old, and for no longer than a GOP after that."""
    bench = LiveBench(open_gop, away=(0.4, 3.5))
    sent = bench.run()
    told = notices(sent)
    assert covered(told) == list(range(100)), "every frame is told of, once"
    lost = covered([notice for notice in told if notice.fate == "gap"])
    assert bench.feed.gaps == len(lost)
    spared = set(range(lost[0], lost[-1] + 1)) - set(lost)
    assert len(spared) <= 1, "coded before the first packet that was left out, shown after its picture"
    assert 84 <= lost[0] <= 88, "3 seconds after the first message that is not acknowledged"
    packets = {one.link: one for one in sent if isinstance(one, m.Packet)}
    after = next(notice for notice in told if notice.index == lost[-1] + 1)
    assert packets[after.packet or 0].key, "the gap ends with a keyframe's picture"
    leading = [one for one in packets.values() if one.link > (after.packet or 0) and (one.pts or 0) < (after.pts or 0)]
    assert [one for one in leading if one.track == 0], "its leading pictures were on the way, and are gaps all the same"
    assert {notice.packet for notice in told if notice.fate == "gap"} == {None}
    assert all(notice.packet in packets for notice in told if notice.fate != "gap")
    assert [one.link for one in sent] == list(range(1, len(sent) + 1))  # type: ignore[attr-defined]
    assert isinstance(sent[-1], m.End)
    assert sent[-1].last == 99
    assert all(a.out < b.out for a, b in pairwise(told))


def test_live_costs_no_memory_while_nobody_takes_anything(open_gop: Path) -> None:
    """Ten thousand frames, over and over the same clip: the feed is told a longer story than the file's."""
    bench = LiveBench(open_gop, away=(0.0, 1e9))
    bench.source.close()  # the packets are ours
    feed, now, round_ = bench.feed, 0.0, 0
    with av.open(str(open_gop)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    sizes: list[int] = []
    while feed.index < 10_000:
        for packet in packets:
            copy = av.Packet(bytes(packet))
            copy.pts = (packet.pts or 0) + round_ * 4000
            copy.dts = copy.pts
            copy.time_base, copy.is_keyframe = packet.time_base, packet.is_keyframe
            feed.take(Demuxed(0, copy, now), now)
            while not feed.idle:
                assert feed.announce(now)
            now += 0.04
        round_ += 1
        sizes.append(feed.link.unacknowledged)
    feed.check()
    assert set(sizes[2:-2]) == {sizes[2]}, "the last Notice grows, no other comes"
    assert feed.link.unacknowledged < 300
    assert feed._decoding.replay.bytes <= MAX_BYTES
    told = notices(bench.messages())
    assert covered(told) == list(range(feed.index + 1))
    assert sum(notice.count for notice in told if notice.fate == "gap") == feed.gaps > 9800


def test_live_without_pictures_at_the_sink_tells_gaps_as_well(open_gop: Path) -> None:
    bench = LiveBench(open_gop, away=(0.0, 3.5), media=False)
    told = notices(bench.run())
    assert covered(told) == list(range(100))
    lost = covered([notice for notice in told if notice.fate == "gap"])
    assert lost
    assert min(lost) >= 75
    assert told[-1].fate == "not_sampled", "with room again there are no gaps: nothing refers to anything"


def test_lossless_never_has_gaps(open_gop: Path) -> None:
    bench = Bench(open_gop, every=10_000)
    told = notices(bench.run())
    assert {notice.fate for notice in told} == {"sent", "not_sampled"}
    assert bench.feed.gaps == 0


def test_a_packet_that_cannot_be_sent_ends_the_stream(open_gop: Path) -> None:
    bench = Bench(open_gop)
    huge = av.Packet(MAX_PAYLOAD + 1)
    with pytest.raises(SourceError, match="a packet of 64 MiB is too large"):
        bench.feed.take(Demuxed(0, huge, 0.0), 0.0)
    bench.source.close()

"""A feed goes back: after a restart of the sink or of the producer itself, every frame is what it was the first time.

Clips of all families of codecs. A decoder such as the sink's, which sees only what was forwarded after the restart,
must show every announced picture, sample by sample as one that has seen the file from its beginning.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import av
import pytest

from common import config
from common import messages as m
from common.media import prepare_decoder, to_packet, unpack
from producer.feed import Feed, NotReached
from producer.greeting import make_hello
from producer.replay import Replay
from sink.pairing import Pairing, Verdict
from tests.builders import EPOCH
from tests.feeds import unhurried
from tests.marks import always
from tests.support import ffmpeg, make_clip, wait_for

FRAMES = 100
TONE = "-c:a aac -ac 1"
X264 = "-c:v libx264 -threads 1 -preset veryfast"
X265 = "-c:v libx265 -preset ultrafast -x265-params log-level=error:pools=1:frame-threads=1"


@dataclass(frozen=True, slots=True)
class Case:
    """How ffmpeg makes a clip."""

    end: str
    options: str
    sound: str = ""


CASES = {
    "b_frames": Case("mp4", f"{X264} -bf 3 -g 12 -x264-params b-adapt=0", TONE),
    "b_frames_ts": Case("ts", f"{X264} -bf 3 -g 12 -x264-params b-adapt=0", TONE),
    "open_gop": Case("mkv", f"{X264} -x264-params open-gop=1:keyint=12:min-keyint=12:bframes=3:b-adapt=0:scenecut=0"),
    "hevc": Case("mp4", f"{X265}:open-gop=1:keyint=12:min-keyint=12:bframes=4:b-adapt=0", TONE),
    "mpeg2": Case("ts", "-c:v mpeg2video -bf 2 -g 12", TONE),
    "intra_refresh": Case("mp4", f"{X264} -x264-params intra-refresh=1:keyint=20:bframes=0"),
    "long_gop": Case("mp4", f"{X264} -bf 2 -g 250"),
    "vp8": Case("webm", "-c:v libvpx -deadline realtime -cpu-used 8 -g 20 -auto-alt-ref 1 -lag-in-frames 8"),
    "vp9": Case("webm", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 20 -auto-alt-ref 1 -lag-in-frames 8"),
    "mjpeg": Case("avi", "-c:v mjpeg -q:v 4", "-c:a mp2"),
    "packed_b_frames": Case("avi", "-c:v libxvid -bf 2 -g 12"),
    "mpeg4": Case("mp4", "-c:v mpeg4 -bf 2 -g 12"),
    "av1": Case("mkv", "-c:v libsvtav1 -preset 12 -g 20 -svtav1-params lp=1"),
    "intra": Case("mp4", f"{X264} -g 1"),
    "ffv1": Case("mkv", "-c:v ffv1"),
}


@cache
def encoders() -> str:
    return subprocess.run(["ffmpeg", "-v", "error", "-encoders"], check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("resume")


def clip_of(name: str, folder: Path) -> Path:
    if name == "edit_list":  # begins between two keyframes
        path = folder / "edit_list.mp4"
        if not path.exists():
            ffmpeg("-ss", "0.7", "-i", clip_of("b_frames", folder), "-c", "copy", path)
        return path
    case = CASES[name]
    codec = case.options.split()
    if f" {codec[1]} " not in encoders():
        pytest.skip(f"no encoder {codec[1]}")
    path = folder / f"{name}.{case.end}"
    if not path.exists():
        make_clip(path, *codec, seconds=FRAMES / 25, size="96x64", sound=case.sound)
    return path


Said = list[tuple[m.Head, bytes]]


class Walk:
    """A feed over a clip, driven by hand."""

    def __init__(self, clip: Path, replay: Replay | None = None, **settings: Any) -> None:
        outputs = [config.Output(path="x.mp4", kind="mp4")]
        known = {"window": 100_000, "window_bytes": 2**40, "in_flight": 100_000}
        self.stream = config.Stream(name="s", source=str(clip), model="echo", outputs=outputs, **(known | settings))
        self.source = unhurried(self.stream)
        self.frames: list[m.Frame] = []
        self.feed = Feed(self.stream, "sink", self.source, self._push)
        if replay is not None:
            self.feed._decoding.replay = replay
        self.feed.served(m.InputSpec(32, 32))
        self.hello, self.blobs = make_hello(self.source, self.stream, "x", self.feed.threads)
        self._epoch = EPOCH

    def _push(self, frame: m.Frame, payload: bytes) -> bool:
        self.frames.append(frame)
        return True

    def begin(self, resume: int = 0) -> None:
        self.feed.welcome(EPOCH, True, resume)
        self.source.start()

    def restart(self, resume: int) -> bool:
        """The sink begins another epoch."""
        self._epoch += 1
        decoder = prepare_decoder(unpack(self.hello.tracks, self.blobs)[0], self.feed.threads, for_model=True)  # type: ignore[arg-type]
        return self.feed.restart(self._epoch, True, resume, decoder)

    def run(self, until: int | None = None, lag: int | None = None, now: float = 0.0) -> Said:
        """Go on to the end, or up to the notice of frame ``until``; all but the last ``lag`` frames are durable."""
        feed = self.feed
        while until is None or feed.index < until:
            if not feed.idle:
                assert feed.announce(now)
                if lag is not None:
                    feed.durable(feed.index - lag)
            elif feed.replaying:
                feed.replay(now)
            elif (one := self.source.take()) is not None:
                feed.take(one, now)
            elif self.source.drained:
                feed.end("", now)
                break
            else:
                wait_for(lambda: self.source._queue or self.source.drained, 20, "a packet")
            if not feed.index % 16:
                feed.check()
        feed.check()
        said: Said = []
        while (message := feed.link.peek()) is not None:
            said.append((message.header, message.payload))
            feed.link.sent()
        return said

    def shown(self, said: Said, all_of_them: bool = True) -> dict[int, bytes]:
        """Index → the picture's samples, as the sink decodes and pairs them; ``all_of_them``: no one may be missing."""
        track = unpack(self.hello.tracks, self.blobs)[0]
        decoder = prepare_decoder(track, self.feed.threads)  # type: ignore[arg-type]
        packets = [(one, payload) for one, payload in said if isinstance(one, m.Packet) and one.track == 0]
        told = [one for one, _ in said if isinstance(one, m.Notice)]
        pairing, shown = Pairing(), {}
        for notice in told:
            if notice.fate != "gap":
                pairing.announce(notice.index, notice.pts, notice.packet)
        pictures: list[av.VideoFrame] = []
        for header, payload in packets:
            pictures += decoder.decode(to_packet(header, payload) if payload else None)
        for notice in told:
            while pictures:
                opaque: Any = pictures[0].opaque
                packet = opaque[0] if opaque else None
                verdict = pairing.judge(notice.index, notice.pts, pictures[0].pts, packet)
                if verdict is Verdict.MISSING:
                    break
                picture = pictures.pop(0)
                if verdict is Verdict.MATCH:
                    shown[notice.index] = picture.to_ndarray().tobytes()
                    break
            pairing.settled(notice.pts, notice.packet)
        missing = [one.index for one in told if one.index not in shown and one.fate != "gap" and all_of_them]
        assert not missing, f"frames {missing} are announced and not shown"
        return shown


def notices(said: Said) -> list[tuple[Any, ...]]:
    """What must be the same each time. The packets' numbers are not: they are the link's."""
    told = [one for one, _ in said if isinstance(one, m.Notice)]
    return [(one.index, one.pts, one.out, one.duration, one.turn, one.fate, one.reason, one.count) for one in told]


def sounds(said: Said) -> list[tuple[int | None, bytes]]:
    return [(one.pts, payload) for one, payload in said if isinstance(one, m.Packet) and one.track]


#: XviD's encoder and an edit list drop the first pictures.
COUNTS = {"packed_b_frames": 98, "edit_list": 82}
HARD = ("b_frames_ts", "open_gop", "hevc", "mpeg2", "intra_refresh", "mjpeg", "vp9")
NAMES = always([*CASES, "edit_list"], *HARD, "edit_list")


@pytest.mark.parametrize("name", NAMES)
def test_after_a_restart_of_the_sink_every_frame_is_what_it_was(folder: Path, name: str) -> None:
    walk = Walk(clip_of(name, folder), every=3)
    walk.begin()
    first = walk.run()
    told, pictures, tone = notices(first), walk.shown(first), sounds(first)
    assert len(told) == COUNTS.get(name, FRAMES)
    wanted = [frame.index for frame in walk.frames]
    for resume in [0, 1, 11, 25, 48, 51, 74, len(told) - 1, len(told)]:
        walk.frames.clear()
        assert walk.restart(resume)
        again = walk.run()
        assert notices(again) == told[resume:]
        assert [frame.index for frame in walk.frames] == [index for index in wanted if index >= resume]
        found = walk.shown(again)
        assert [index for index in found if found[index] != pictures[index]] == []
        heard = sounds(again)
        assert heard == tone[len(tone) - len(heard) :]
        assert isinstance(again[-1][0], m.End)
        assert again[-1][0].last == len(told) - 1
        assert [one.link for one, _ in again] == list(range(1, len(again) + 1))  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", HARD)
def test_restarts_in_the_middle_with_no_more_kept_than_is_needed(folder: Path, name: str) -> None:
    """The sink dies three times, each time with another lag between what is told and what is durable."""
    whole = Walk(clip_of(name, folder), fps=7.5)
    whole.begin()
    first = whole.run()
    told, pictures = notices(first), whole.shown(first)
    walk = Walk(clip_of(name, folder), fps=7.5)
    walk.begin()
    walk.run(until=30, lag=3)
    for resume, died, lag in ((28, 49, 0), (50, 80, 20), (61, 88, 9)):
        assert walk.restart(resume)
        said = walk.run(until=died, lag=lag)
        assert notices(said) == told[resume : died + 1]
        found = walk.shown(said, all_of_them=False)
        assert [index for index in found if found[index] != pictures[index]] == []
        assert len(found) >= died + 1 - resume - 5, "but for what the decoder still holds"
    assert walk.restart(80)
    said = walk.run()
    assert notices(said) == told[80:]
    assert {frame.index for frame in walk.frames} == {frame.index for frame in whole.frames}
    if name != "intra_refresh":  # 20 frames between two places to start from
        assert walk.feed._decoding.replay._kept[0].number >= 20, "what is durable was let go"


@pytest.mark.parametrize("name", NAMES)
def test_a_producer_that_is_started_again_finds_its_place(folder: Path, name: str) -> None:
    whole = Walk(clip_of(name, folder), every=2, fps=5)
    whole.begin()
    first = whole.run()
    told, pictures, tone = notices(first), whole.shown(first), sounds(first)
    for resume in (1, 37, 60, len(told) - 1):
        walk = Walk(clip_of(name, folder), every=2, fps=5)
        walk.begin(resume)
        assert walk.feed.catching_up
        again = walk.run()
        assert not walk.feed.catching_up
        assert notices(again) == told[resume:]
        assert [one.index for one in walk.frames] == [one.index for one in whole.frames if one.index >= resume]
        found = walk.shown(again)
        assert [index for index in found if found[index] != pictures[index]] == []
        heard = sounds(again)
        assert heard == tone[len(tone) - len(heard) :]


def test_a_decoder_with_threads_lags_behind_what_is_durable(folder: Path) -> None:
    """All that was announced is durable, every packet is a place to start from, and the next pictures are still inside
    the decoder: their packets must not be let go."""
    whole = Walk(clip_of("intra", folder), decode_threads=8)
    whole.begin()
    told = notices(whole.run())
    walk = Walk(clip_of("intra", folder), decode_threads=8)
    walk.begin()
    said = walk.run(until=50, lag=0)
    for resume, until in ((51, 70), (71, 90), (91, None)):
        assert walk.restart(resume)
        said += walk.run(until, lag=0)
    assert notices(said) == told


def test_a_place_beyond_the_end_is_the_end(folder: Path) -> None:
    """All of the file was durable already: nothing but the end is told."""
    walk = Walk(clip_of("b_frames", folder))
    walk.begin(FRAMES)
    said = walk.run()
    assert notices(said) == []
    assert isinstance(said[-1][0], m.End)
    assert said[-1][0].last == FRAMES - 1
    assert not walk.restart(FRAMES + 1), "there is no such frame yet"


def test_what_is_no_longer_kept_is_read_again(folder: Path) -> None:
    """Lossless: a file can be read again, and so it is said that the replay does not reach."""
    walk = Walk(clip_of("b_frames", folder), Replay(max_packets=130))
    walk.begin()
    walk.run()
    assert not walk.restart(5)
    assert walk.restart(98)


def test_a_picture_that_does_not_come_again_is_not_passed_over(folder: Path) -> None:
    """What was kept has a hole that nobody knows of: the feed must not count on as if nothing had been."""
    walk = Walk(clip_of("mjpeg", folder))
    walk.begin()
    walk.run()
    assert walk.restart(50)
    lost = next(kept for kept in walk.feed._again if kept.pictures and kept.pictures[0].index == 50)
    walk.feed._again.remove(lost)
    with pytest.raises(NotReached):
        walk.run()


def test_live_tells_what_is_no_longer_kept_as_gaps(folder: Path) -> None:
    walk = Walk(clip_of("b_frames", folder), Replay(max_packets=60), mode="live", every=1000)
    walk.begin()
    told = notices(walk.run())
    assert walk.restart(5)
    again = walk.run()
    gaps = [one for one, _ in again if isinstance(one, m.Notice) and one.fate == "gap"]
    first = sum(one.count for one in gaps)
    assert gaps[0].index == 5
    assert walk.feed.gaps == first > 50
    assert notices(again)[len(gaps) :] == told[5 + first :]
    outs = [one.out for one, _ in again if isinstance(one, m.Notice)]
    assert outs == sorted(set(outs)), "the gap lies before what comes after it"
    walk.shown(again)


def test_live_leaves_out_what_is_replayed_when_the_link_is_full(folder: Path) -> None:
    """That a packet was forwarded in an earlier epoch is of no use to this one's sink."""
    walk = Walk(clip_of("mpeg2", folder), mode="live", every=1000)
    walk.begin()
    walk.run()
    assert walk.restart(0)
    said = walk.run(until=10)
    late = walk.run(now=100.0)  # nothing was acknowledged meanwhile
    assert [payload for one, payload in late if isinstance(one, m.Packet)] == [b""], "the end is told"
    told = [one for one, _ in said + late if isinstance(one, m.Notice)]
    gaps = [index for one in told if one.fate == "gap" for index in range(one.index, one.index + one.count)]
    assert len(gaps) > 80
    assert gaps[3:] == list(range(gaps[3], FRAMES)), "but for what was on the way before"
    assert walk.shown(said + late).keys() == set(range(FRAMES)) - set(gaps)


def test_a_live_source_counts_on(folder: Path) -> None:
    """It does not give the same pictures again: its first one has the index that the sink wants next."""
    walk = Walk(clip_of("open_gop", folder), mode="live")
    walk.feed.welcome(EPOCH, True, 1000, counts_on=True)
    walk.source.start()
    told = notices(walk.run())
    assert [one[0] for one in told] == list(range(1000, 1000 + FRAMES))


def test_without_pictures_at_the_sink_only_notices_come_again(folder: Path) -> None:
    walk = Walk(clip_of("b_frames", folder))
    walk.feed.welcome(EPOCH, False)
    walk.source.start()
    first = walk.run()
    decoder = prepare_decoder(unpack(walk.hello.tracks, walk.blobs)[0], walk.feed.threads, for_model=True)  # type: ignore[arg-type]
    assert walk.feed.restart(EPOCH + 1, False, 40, decoder)
    again = walk.run()
    assert notices(again) == notices(first)[40:]
    assert not any(isinstance(one, m.Packet) for one, _ in again)

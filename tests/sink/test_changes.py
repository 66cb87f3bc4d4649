"""A source that comes back as another one is fitted into the running outputs; what a producer may not say of it.

The producer's feed and the sink's stream are the real ones, without sockets; the clips show what has become of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import av
import numpy as np
import pytest
from msgspec import structs

from common import messages as m
from common.config import Encoding
from common.errors import PeerError
from producer.intake import FILLERS
from sink import render
from sink.checkpoint import Checkpoint
from sink.reel import TRACK_COST
from sink.stream import MAX_FILLERS, MAX_REFUSALS, SinkStream
from tests.builders import EPOCH, STREAM, TICK, notice, result
from tests.feeds import settings
from tests.flashbeep import beeps
from tests.integration.changing import (
    GROUND,
    HEVC,
    MPEG2,
    PATCH,
    Camera,
    Look,
    Shown,
    look_at,
    make,
    offsets,
    patch,
    plays_through,
    square,
)
from tests.support import lines, wait_for

#: The box that is found in every picture, relative to it: on the plain ground.
BOX = (0.06, 0.55, 0.24, 0.8)
FAST = Encoding(encoder="x264", preset="ultrafast", crf=4)
#: Seconds that each clip lasts and that the source is away; how far sound may be from its picture.
SECONDS, AWAY_S, SYNC_S = 1.2, 1.0, 0.04
#: Numbers of one clip are this far from those of the next.
STEP = 1000


FRESH = Checkpoint(run="", epoch=EPOCH)


def watch(camera: Camera, *outputs: Path, checkpoint: Checkpoint = FRESH, **fields: Any) -> SinkStream:
    """Everything that the camera has said through a sink; a box is found in every frame."""
    config = settings(*outputs, mode="live", encoding=FAST, **fields)
    hello = structs.replace(camera.hello, latency=1000.0)  # all comes at once here
    stream = SinkStream(config, hello, camera.blobs, checkpoint, lambda: None)
    for head, payload in camera.messages:
        stream.on_link(head, payload, 0.0)
        if isinstance(head, m.Notice) and head.fate == "sent":
            width, height = camera.sizes[head.index]
            box = (BOX[0] * width, BOX[1] * height, BOX[2] * width, BOX[3] * height)
            stream.on_answer(m.Result(stream=head.stream, epoch=checkpoint.epoch, index=head.index, worker="w",
                                      detections=[m.Detection("x", 0.5, box)]), 0.0)  # fmt: skip
        stream.advance(0.0)
        stream.check()

    assert finish(stream).error == ""
    return stream


def finish(stream: SinkStream) -> m.Closed:
    def done() -> bool:
        stream.advance(0.0)
        return stream.closed is not None or stream.crashed is not None

    wait_for(done, 60, "the end of the stream")
    assert stream.crashed is None, stream.crashed
    assert stream.closed is not None
    return stream.closed


def judge(stream: SinkStream, path: Path, looks: list[Look], clips: list[Path], filled: bool) -> None:
    """What must hold of a video output, whatever has changed."""
    plays_through(path)
    with av.open(str(path)) as container:
        sar = container.streams.video[0].sample_aspect_ratio or Fraction(1)
    shown = look_at(path, *dict.fromkeys(look.shape for look in looks), sar=sar)
    seen = [one for one in shown if one.number is not None]
    assert stream.ledger.states == {"annotated": len(seen)}, "something was lost that had been decoded"
    parts = [[one for one in seen if one.number is not None and one.number // STEP == n] for n in range(len(looks))]
    for number, (part, look, clip) in enumerate(zip(parts, looks, clips, strict=True)):
        with av.open(str(clip)) as container:
            count = sum(1 for _ in container.decode(video=0))
        assert [one.number for one in part] == list(range(number * STEP, number * STEP + count)), "pictures are missing"
        steps = [b.time - a.time for a, b in pairwise(part)]
        assert steps == pytest.approx([1 / look.rate] * (count - 1), abs=0.002)
        for one in (part[len(part) // 2], part[-1]):
            assert patch(one) == pytest.approx(PATCH, abs=6), f"colours of clip {number}"
            assert square(one, sar) == pytest.approx(1, abs=0.05), f"shape of clip {number}"
            check_box(one)
    assert [one for part in parts for one in part] == seen
    for before, after in pairwise(parts):
        placeholders = shown[shown.index(before[-1]) + 1 : shown.index(after[0])]
        assert len(placeholders) == (pytest.approx(AWAY_S * FILLERS, abs=1) if filled else 0)
        assert after[0].time - before[-1].time == pytest.approx(AWAY_S, abs=0.2), "as long as it was away"
    if looks[0].sound:
        heard = offsets(shown, beeps(path))
        assert len(heard) >= sum(bool(look.sound) for look in looks), heard
        assert max(map(abs, heard)) <= SYNC_S, heard


def check_box(shown: Shown) -> None:
    """Its outline is drawn where it belongs in the content, and it is not filled."""
    high, wide = shown.rgb.shape[:2]
    differs = np.abs(shown.rgb.astype(int) - GROUND).max(axis=2) > 15
    middle = round((BOX[1] + BOX[3]) / 2 * high)
    columns = 3 + np.flatnonzero(differs[middle, 3 : wide * 2 // 5])  # a content begins at an even column
    assert columns[0] == pytest.approx(BOX[0] * wide, abs=3)
    assert columns[-1] == pytest.approx(BOX[2] * wide, abs=3)
    assert not differs[middle, round((BOX[0] + 0.05) * wide) : round((BOX[2] - 0.05) * wide)].any()


def run(folder: Path, kinds: str, looks: list[Look], endings: list[str], fill: bool = False) -> None:
    """The looks one after the other, from one source that is away in between. ``fill``: with placeholders."""
    numbered = [replace(look, first=number * STEP, seconds=SECONDS) for number, look in enumerate(looks)]
    clips = [make(folder / f"{n}.{e}", look) for n, (look, e) in enumerate(zip(numbered, endings, strict=True))]
    camera = Camera(clips[0]).play()
    for clip in clips[1:]:
        camera.away(AWAY_S, fill).back(clip).play()
    camera.end()
    outputs = [folder / f"out.{kind}" for kind in kinds.split()]
    stream = watch(camera, *outputs, folder / "out.jsonl")
    told = lines(folder / "out.jsonl")
    assert [line["index"] for line in told] == list(range(stream.ledger.announced))
    assert all(a["pts"] < b["pts"] for a, b in pairwise(told))
    for path in outputs:
        judge(stream, path, numbered, clips, fill)


def x264(*options: str) -> tuple[str, ...]:
    return ("-c:v", "libx264", "-preset", "ultrafast", "-g", "12", *options)


def test_everything_changes(tmp_path: Path) -> None:
    """Size, pixel aspect, codec, rate, pixel format, matrix, range, rotation, sound: into one file of each kind."""
    looks = [
        Look(),
        Look((480, 360), 30, HEVC, "yuv420p10le", Fraction(4, 3), matrix="bt709", range="pc",
             sound=("-c:a", "aac", "-ac", "2", "-ar", "44100")),
        Look((240, 240), 10, MPEG2, sound=()),
        Look((320, 240), 50, turn=90, sound=("-c:a", "ac3", "-ac", "1", "-ar", "32000")),
        Look(),
    ]  # fmt: skip
    run(tmp_path, "mkv mp4 ts", looks, ["ts", "ts", "ts", "mp4", "ts"], fill=True)


FIRST = Look()
MJPEG, FFV1 = ("-c:v", "mjpeg", "-q:v", "3"), ("-c:v", "ffv1")
VP8 = ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "2M")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "second", "ending"),
    [
        pytest.param(FIRST, Look((640, 360)), "ts", id="larger"),
        pytest.param(FIRST, Look((240, 136)), "ts", id="smaller"),
        pytest.param(FIRST, Look((180, 320)), "ts", id="portrait"),
        pytest.param(FIRST, Look((321, 181), form="yuv444p"), "ts", id="odd"),
        pytest.param(FIRST, Look((240, 240), sar=Fraction(4, 3)), "ts", id="wide pixels"),
        pytest.param(Look((240, 180), sar=Fraction(4, 3)), FIRST, "ts", id="wide pixels first"),
        pytest.param(Look((240, 180), sar=Fraction(4, 3)), Look((180, 320), sar=Fraction(3, 2)), "ts", id="both wide"),
        pytest.param(FIRST, Look(form="yuv420p10le"), "ts", id="10 bit"),
        pytest.param(Look(form="yuv420p10le"), FIRST, "ts", id="10 bit first"),
        pytest.param(FIRST, Look(form="yuv422p"), "ts", id="4:2:2"),
        pytest.param(FIRST, Look(codec=HEVC), "ts", id="HEVC"),
        pytest.param(Look(codec=HEVC), Look(codec=MPEG2), "ts", id="HEVC to MPEG-2"),
        pytest.param(FIRST, Look(codec=x264("-bf", "3", "-x264-params", "b-adapt=0")), "ts", id="B-frames"),
        pytest.param(Look(codec=MPEG2), FIRST, "mp4", id="MPEG-2 to H.264 in MP4"),
        pytest.param(FIRST, Look(codec=MJPEG, form="yuvj422p", range="pc"), "mkv", id="MJPEG"),
        pytest.param(FIRST, Look(codec=VP8), "mkv", id="VP8"),
        pytest.param(FIRST, Look(codec=FFV1, form="bgr0"), "mkv", id="RGB"),
        pytest.param(FIRST, Look(rate=10), "ts", id="10 fps"),
        pytest.param(FIRST, Look(rate=50), "ts", id="50 fps"),
        pytest.param(FIRST, Look(turn=90), "mp4", id="turned"),
        pytest.param(Look((640, 360)), Look((360, 480), turn=270, sar=Fraction(4, 3)), "mp4", id="turned wide pixels"),
        pytest.param(FIRST, Look(turn=180), "mp4", id="upside down"),
        pytest.param(FIRST, Look(matrix="bt709"), "ts", id="709"),
        pytest.param(Look(matrix="bt709"), Look((640, 360)), "ts", id="709 first"),
        pytest.param(FIRST, Look(matrix="bt2020"), "ts", id="2020"),
        pytest.param(FIRST, Look(range="pc"), "ts", id="full range"),
        pytest.param(Look(range="pc"), FIRST, "ts", id="full range first"),
        pytest.param(FIRST, Look(range="pc", matrix="bt709"), "ts", id="full 709"),
        pytest.param(Look(range="pc", matrix="bt709"), Look((300, 300)), "ts", id="full 709 first"),
        pytest.param(FIRST, Look(sound=("-c:a", "aac", "-ac", "2")), "ts", id="stereo"),
        pytest.param(FIRST, Look(sound=("-c:a", "aac", "-ac", "6", "-ar", "44100")), "ts", id="5.1"),
        pytest.param(FIRST, Look(sound=("-c:a", "mp2", "-ac", "2", "-ar", "32000")), "ts", id="MP2"),
        pytest.param(FIRST, Look(sound=("-c:a", "libopus", "-ac", "1")), "mkv", id="Opus"),
        pytest.param(Look(sound=("-c:a", "ac3", "-ac", "2")), FIRST, "ts", id="AC-3 first"),
        pytest.param(FIRST, Look(sound=("-c:a", "pcm_mulaw", "-ac", "1", "-ar", "8000")), "mkv", id="mu-law"),
        pytest.param(FIRST, Look(sound=()), "ts", id="without sound"),
        pytest.param(Look(sound=()), FIRST, "ts", id="without sound first"),
    ],
)  # fmt: skip
def test_one_thing_changes(tmp_path: Path, first: Look, second: Look, ending: str) -> None:
    own = "mp4" if first.turn else "ts"
    run(tmp_path, "mkv mp4 ts", [first, second, first], [own, ending, own])


# -- what a producer may say -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two clips of a second."""
    folder = tmp_path_factory.mktemp("clips")
    looks = (Look((240, 160), seconds=1), Look((160, 240), 10, MPEG2, first=STEP, seconds=1))
    return [make(folder / f"{number}.ts", look) for number, look in enumerate(looks)]


@pytest.fixture
def camera(clips: list[Path]) -> Camera:
    return Camera(clips[0]).play()


Open = Callable[..., SinkStream]


@pytest.fixture
def opened(camera: Camera) -> Iterator[Open]:
    """Opens streams of the camera; each comes to its end with its books in order."""
    streams: list[SinkStream] = []

    def make(*outputs: Path, **fields: Any) -> SinkStream:
        config = settings(*outputs, mode="live", encoding=FAST, **fields)
        hello = structs.replace(camera.hello, latency=1000.0)
        streams.append(SinkStream(config, hello, camera.blobs, FRESH, lambda: None))
        return streams[-1]

    yield make
    for stream in streams:
        stream.give_up("test over")
        finish(stream)
        stream.check()


def change_of(camera: Camera, link: int, **fields: Any) -> m.Change:
    hello = camera.hello
    known = {"stream": STREAM, "epoch": EPOCH, "link": link, "video": hello.video, "tracks": hello.tracks}
    return m.Change(**{**known, **fields})


def filler(link: int, out: int, **fields: Any) -> m.Filler:
    known = {"stream": STREAM, "epoch": EPOCH, "link": link, "out": out, "duration": 9000, "text": "away", "away": 1.0}
    return m.Filler(**{**known, **fields})


def refused(stream: SinkStream, message: Any, payload: bytes, why: str) -> None:
    """It is asked for again, and then the stream ends with what it has."""
    for turn in range(MAX_REFUSALS + 1):
        with pytest.raises(PeerError, match=why):
            stream.on_link(message, payload, 0.0)
        ack = stream.ack(float(turn))
        assert ack is not None
        assert (ack.link, ack.gap) == (message.link - 1, True)
    assert finish(stream).states == {"lost": 1}


@pytest.mark.parametrize(
    ("fields", "cut", "why"),
    [
        ({"tracks": "sound first"}, 0, "first track must be the picture"),
        ({"tracks": "two pictures"}, 0, "first track must be the picture"),
        ({"tracks": "sound called picture"}, 0, "is audio, announced as video"),
        ({"base": (1, 1000)}, 0, "time base of the output changed"),
        ({}, 30, "does not open"),
        ({"tracks": "huge"}, 0, "does not open"),
    ],
)
def test_changes_that_make_no_sense(
    tmp_path: Path, camera: Camera, opened: Open, fields: dict[str, Any], cut: int, why: str
) -> None:
    video, sound = camera.hello.tracks
    tracks = {
        "sound first": [sound, video],
        "two pictures": [video, video],
        "sound called picture": [structs.replace(sound, kind="video"), sound],
        "huge": [structs.replace(video, size=m.MAX_CARRIER), sound],
        None: [video, sound],
    }[fields.get("tracks")]
    blobs = camera.blobs
    if fields.get("tracks") == "sound called picture":
        blobs = blobs[video.size :] * 2
    info = structs.replace(camera.hello.video, time_base=fields.get("base", camera.hello.video.time_base))
    stream = opened(tmp_path / "a.mkv")
    stream.on_link(notice(0, "sent", link=1), b"", 0.0)
    refused(stream, change_of(camera, 2, tracks=tracks, video=info), blobs[: len(blobs) - cut * len(blobs)], why)


@pytest.mark.parametrize("out", [-1, 0, TICK, TICK + 7201 * 90_000, 2**32 * 90_000 + 1, 2**62])
def test_placeholders_at_times_that_cannot_be(tmp_path: Path, opened: Open, out: int) -> None:
    stream = opened(tmp_path / "a.mkv")
    stream.on_link(notice(0, "sent", link=1, out=TICK), b"", 0.0)
    refused(stream, filler(2, out), b"", "placeholder at")


def test_placeholders_before_the_first_frame(tmp_path: Path, camera: Camera, opened: Open) -> None:
    """The sink was started again while the source is away: of the old picture's size, and what comes is fitted in."""
    path = tmp_path / "a.mkv"
    stream = opened(path)
    for number in range(20):
        stream.on_link(filler(number + 1, number * 9000), b"", 0.0)
        stream.advance(0.0)
    last = number
    for head, payload in camera.end().messages:
        moved = structs.replace(head, link=head.link + 20)
        if isinstance(head, m.Notice):
            moved = structs.replace(moved, out=head.out + 20 * 9000, packet=(head.packet or 0) + 20)
            stream.on_answer(result(head.index), 0.0)
        stream.on_link(moved, payload, 0.0)
    assert finish(stream).states == {"annotated": 25}
    seen = look_at(path)
    plays_through(path)
    assert [one.number for one in seen] == [None] * (last + 1) + list(range(25))
    assert seen[0].rgb.std() > 8, "there is something to be read"


def test_placeholders_without_end_behind_a_frame_that_waits(tmp_path: Path, opened: Open) -> None:
    stream = opened(tmp_path / "a.mkv")
    stream.on_link(notice(0, "sent", link=1), b"", 0.0)
    for number in range(1, 2 * MAX_FILLERS + 1):
        stream.on_link(filler(number + 1, number * 9000), b"", 0.0)
        stream.check()
    assert stream.counts["fillers_left_out"] == MAX_FILLERS


def test_whether_the_source_is_away_while_a_placeholder_is_shown(
    tmp_path: Path, camera: Camera, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not when it is back by the time that the placeholder's turn comes, nor when it is back without a picture: its
    sound must not be taken for missing."""
    stream = opened(tmp_path / "a.mkv")
    shown: list[bool] = []
    monkeypatch.setattr(stream._renderer, "fill", lambda filler, away: shown.append(away))

    def say(*messages: m.Notice | m.Filler | m.Change) -> list[bool]:
        for message in messages:
            stream.on_link(message, camera.blobs if isinstance(message, m.Change) else b"", 0.0)
            stream.advance(0.0)
        found, shown[:] = list(shown), []
        return found

    carried: dict[str, Any] = {"fate": "not_sampled", "packet": None}
    assert say(notice(0, link=1, **carried), filler(2, 9000)) == [True]
    assert say(change_of(camera, 3), filler(4, 18_000)) == [False]
    assert say(notice(1, link=5, out=27_000, **carried), filler(6, 36_000)) == [True]
    assert say(notice(2, link=7, out=45_000), filler(8, 54_000), change_of(camera, 9)) == []
    stream.on_answer(result(2), 0.0)
    assert say(filler(10, 63_000)) == [False, False]


def resolved(stream: SinkStream) -> int:
    stream.advance(0.0)
    return stream.resolved


def test_changes_without_end(tmp_path: Path, camera: Camera, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits is bounded; where nothing waits for them, only the last one counts."""
    most = 20 * len(camera.hello.tracks) * TRACK_COST
    monkeypatch.setattr(render, "MAX_QUEUED_BYTES", most)
    path = tmp_path / "a.mkv"
    stream = opened(path)
    before = [one for one in camera.end().messages if not isinstance(one[0], m.End)]
    for head, payload in before:
        if isinstance(head, m.Notice):
            stream.on_answer(result(head.index), 0.0)
        stream.on_link(head, payload, 0.0)
    link = before[-1][0].link
    wait_for(lambda: resolved(stream) == 24, 20, "all frames")

    def change() -> bool:
        nonlocal link
        held_up = stream.counts["held_up"]
        stream.on_link(change_of(camera, link + 1), camera.blobs, 0.0)
        link += stream.counts["held_up"] == held_up
        return stream.counts["held_up"] == held_up

    for _ in range(100):
        wait_for(change, 20, "room for a change")
    # The same clip once more, after the last of them.
    shift, base = link, 200_000
    for head, payload in before:
        moved = structs.replace(head, link=head.link + shift)
        if isinstance(head, m.Notice):
            new = {"index": head.index + 25, "out": head.out + base, "packet": head.packet + shift}
            moved = structs.replace(moved, **new)
            stream.on_answer(result(head.index + 25), 0.0)
        wait_for(lambda: not stream._renderer.full, 20, "room")
        stream.on_link(moved, payload, 0.0)
    link += len(before)
    wait_for(lambda: resolved(stream) == 49, 20, "all frames")
    # A frame that nobody decides: what comes behind it waits, and not all of it.
    stream.on_link(notice(50, "sent", link=link + 1, out=10**6, packet=None), b"", 0.0)
    link += 1
    assert sum(change() for _ in range(100)) <= 21
    assert stream._renderer._bytes + stream._renderer._studio.held_bytes <= 2 * most
    stream.give_up("enough")
    assert finish(stream).states == {"annotated": 50, "lost": 1}
    assert [one.number for one in look_at(path)] == [*range(25), *range(25)]


def test_boxes_are_not_carried_over_to_other_pictures(tmp_path: Path, clips: list[Path]) -> None:
    """Frames that are not inferred show the last boxes, but not those of a source of another size."""
    camera = Camera(clips[0], every=7).play().away(0.1).back(clips[1]).play().end()
    watch(camera, tmp_path / "a.jsonl")
    told = lines(tmp_path / "a.jsonl")
    assert [line["index"] for line in told] == list(range(35))
    shown = [bool(line["detections"]) for line in told]
    fresh = next(line["index"] for line in told if line["index"] >= 25 and line["state"] == "annotated")
    assert fresh > 25
    assert shown == [True] * 25 + [False] * (fresh - 25) + [True] * (35 - fresh)


def test_a_source_that_comes_back_before_its_first_picture(tmp_path: Path, clips: list[Path]) -> None:
    """Nothing was decoded of the first one; the output has the shape of what came."""
    camera = Camera(clips[0]).play(0.0).away(1.0, fill=True).back(clips[1]).play().end()
    path = tmp_path / "a.mkv"
    assert watch(camera, path).ledger.states == {"annotated": 10}
    seen = look_at(path)
    assert [one.number for one in seen] == list(range(STEP, STEP + 10))
    assert seen[0].rgb.shape == (240, 160, 3)


@pytest.mark.parametrize("kind", ["mkv", "mp4", "ts", "segments"])
def test_another_producer_counts_from_zero_again(tmp_path: Path, clips: list[Path], kind: str) -> None:
    """It has died, and the source of the next one is live: nothing of it is in the files that are there."""
    path = tmp_path / ("%Y.mkv" if kind == "segments" else f"a.{kind}")
    outputs = path, tmp_path / "a.jsonl"
    first = watch(Camera(clips[0]).play().end(), *outputs)
    past = structs.replace(first.checkpoint, epoch=2)
    camera = Camera(clips[1], resume=25, epoch=2).play().end()
    second = watch(camera, *outputs, checkpoint=past)
    assert second.ledger.states == {"annotated": 35}
    told = lines(tmp_path / "a.jsonl")
    assert [line["index"] for line in told] == list(range(35))
    one, other = (Path(part) for part in second.report()["parts"] if "jsonl" not in part)
    assert [shown.number for shown in look_at(one)] == list(range(25))
    seen = look_at(other)
    assert [shown.number for shown in seen] == list(range(STEP, STEP + 10))
    assert seen[0].time == 0
    plays_through(other)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_whatever_happens(tmp_path: Path, seed: int) -> None:
    """Sources come and go at random, with and without placeholders, also before they have given anything."""
    chance = Random(seed)
    looks = (Look((240, 160), seconds=1.4), Look((160, 240), 10, MPEG2, first=STEP, seconds=1.4))
    clips = [make(tmp_path / f"{number}.ts", look) for number, look in enumerate(looks)]
    camera = Camera(clips[0])
    for _ in range(12):
        camera.play(chance.choice((0.0, 0.05, 0.4, 5.0)))
        camera.away(chance.choice((0.0, 0.03, 0.7, 5.0)), chance.random() < 0.6)
        camera.back(chance.choice(clips), follows=chance.random() < 0.2)
    camera.play().end()
    paths = [tmp_path / f"a.{kind}" for kind in ("mkv", "mp4", "ts")]
    stream = watch(camera, *paths)
    for path in paths:
        plays_through(path)
        seen = [one for one in look_at(path, Fraction(3, 2), Fraction(2, 3)) if one.number is not None]
        assert stream.ledger.states == {"annotated": len(seen)}
        for before, after in pairwise(seen):
            assert before.number is not None
            # Where it is cut off, the B-frames before the last picture may be missing.
            cut = {before.number + 2, before.number + 3} if before.number >= STEP else set()
            assert after.number in {before.number + 1, 0, STEP} | cut
        heard = offsets(seen, beeps(path))
        assert heard
        assert max(map(abs, heard)) <= SYNC_S

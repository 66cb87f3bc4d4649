"""The fuzz run in short, with fixed seeds: nothing dies, refusals are counted, memory is flat."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest

from common.wire import MAX_HEADER
from tests.fuzz.corpus import HONEST
from tests.fuzz.headers import REFUSALS, Headers
from tests.fuzz.media import BAD, GOOD, Flood, Media, Sink, counts_in, honest
from tests.fuzz.memory import settled
from tests.fuzz.pictures import Pictures
from tests.fuzz.speech import speech_of
from tests.strategies import HEADERS
from tests.support import make_clip

#: By so much may a process grow while it is abused, in bytes, once it is warm. A leak of 100 bytes a message is more.
SLACK = 3 * 2**20
#: The same for the sink: threads come and go there, and each leaves its heap behind for a while.
SINK_SLACK = 160 * 2**20


def test_the_corpus_has_every_header() -> None:
    assert {type(one) for one in HONEST} == set(HEADERS)


def test_headers() -> None:
    target = Headers(1)
    target.throw(3_000)
    before = settled()
    target.throw(12_000)
    assert settled() - before < SLACK
    assert target.counts.total() == 15_000
    assert set(target.counts) == REFUSALS | {"taken"}
    assert min(target.counts.values()) > 3


def test_one_header_costs_memory_in_proportion_to_its_size() -> None:
    target = Headers(2)
    tracemalloc.start()
    try:
        target.throw(1_000)
        at_rest, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most - at_rest < 6 * MAX_HEADER  # the thrown bytes, made in pieces, are the larger part


def test_pictures() -> None:
    target = Pictures(1)
    target.throw(320)
    before = settled()
    target.throw(3_200)
    assert settled() - before < 4 * SLACK  # (a canvas of 640 × 16,384 is 31 MB, given back late)
    assert target.counts.total() == (320 + 3_200) * 17 / 16, "with an honest one after each volley"
    assert target.counts["decoded"] > 200
    assert target.counts["refused: payload"] > 1_000
    assert target.slowest < 1.0


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("clips")
    kinds = {
        "h264.mp4": ("-c:v libx264 -bf 2 -g 8 -pix_fmt yuv420p", "-c:a aac"),
        "hevc.mkv": ("-c:v libx265 -x265-params log-level=none:keyint=8", "-c:a libvorbis"),
        "mpeg2.ts": ("-c:v mpeg2video -bf 2", "-c:a mp2"),
        "vp9.webm": ("-c:v libvpx-vp9 -cpu-used 8", "-c:a libopus"),
        "mjpeg.avi": ("-c:v mjpeg -pix_fmt yuvj422p", "-c:a pcm_s16le"),
    }
    return [
        make_clip(folder / name, *video.split(), seconds=0.6, size="96x64", sound=sound)
        for name, (video, sound) in kinds.items()
    ]


def test_sessions_on_the_media_link(tmp_path: Path, clips: list[Path]) -> None:
    """Hostile sessions of one stream; then an honest one of the other stream comes out whole."""
    speeches = [speech_of(clip, BAD) for clip in clips]
    sink = Sink(tmp_path)
    try:
        target = Media(1, sink, speeches)
        target.throw(12)
        before = sink.memory
        target.throw(20)
        assert sink.memory - before < SINK_SLACK
        assert honest(sink, speeches[0], "last").states == {"annotated": speeches[0].frames}
    finally:
        sink.close()
    assert sink.process.returncode == 0
    (entry,) = json.loads((tmp_path / f"{GOOD}.ledger.json").read_text())["streams"]
    assert entry["frames"] == speeches[0].frames
    assert target.counts["welcome"] > 10
    assert target.counts["no welcome"] > 2
    assert {"header", "tracks", "index"} <= set(counts_in(sink.log))


def test_what_the_sink_holds_is_bounded(tmp_path: Path, clips: list[Path]) -> None:
    """Results without end for frames that nobody has announced, sound without a picture, frames without an end."""
    speech = speech_of(clips[0], BAD)
    sink = Sink(tmp_path, ("mp4",))
    flood = Flood(sink, speech)
    try:
        flood.results(800)
        flood.sound(600)
        before = sink.memory
        flood.results(400)
        flood.sound(300)
        flood.notices(300)
        assert sink.memory - before < SINK_SLACK
        sink.ping(1)
        assert honest(sink, speech, "honest").states == {"annotated": speech.frames}
    finally:
        sink.close()

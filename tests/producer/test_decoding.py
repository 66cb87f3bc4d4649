"""Packets become pictures with an index and a time, once and for all, over all openings of the source."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest

from common.media import prepare_decoder, unpack
from producer.decoding import LIVE_BASE, Decoding, Picture, output_base
from producer.greeting import make_hello
from producer.replay import Kept
from producer.source import Source
from tests.feeds import settings, unhurried
from tests.support import ffmpeg, make_clip

B_FRAMES = ("-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-x264-params", "b-adapt=0", "-g", "10")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("decoding")
    first = make_clip(folder / "h264.ts", *B_FRAMES, seconds=1, size="96x64", sound="-c:a aac -ac 1")
    damaged = folder / "damaged.ts"
    data = bytearray(first.read_bytes())
    for at in range(len(data) // 2, len(data) - 5000, 1500):  # within the packets of a few pictures
        data[at : at + 40] = bytes(40)
    damaged.write_bytes(data)
    cut = folder / "cut.ts"
    ffmpeg("-i", first, "-t", "0.5", "-c", "copy", cut)
    return {
        "h264": first,
        "damaged": damaged,
        "cut": cut,
        "mpeg2": make_clip(folder / "mpeg2.ts", "-c:v", "mpeg2video", seconds=1, size="64x96", rate="30"),
    }


class Bench:
    """A decoding with the sources that it is given, as of a live stream."""

    def __init__(self, clip: Path, **fields: Any) -> None:
        self.stream = settings(Path("x.mkv"), source=str(clip), mode="live", **fields)
        self.sources: list[Source] = []
        self.now = 10.0
        self.decoding = Decoding(self.stream, self.open(clip))
        self.kept: list[Kept] = []

    def open(self, clip: Path) -> Source:
        source = unhurried(settings(Path("x.mkv"), source=str(clip), mode="live"))
        source.live = True
        self.sources.append(source)
        return source

    def change(self, clip: Path, after: float) -> None:
        """The source drops and is opened again ``after`` seconds later."""
        self.now += after
        self.decoding.change(self.open(clip), self.now)

    def read(self) -> list[Picture]:
        """All pictures of the present source, and those that the flush gives."""
        source = self.sources[-1]
        source.start()
        pictures: list[Picture] = []
        while not source.drained:
            if (one := source.take()) is None:
                time.sleep(0.001)
                continue
            if one.track == 0 and one.packet.size:
                self.now += 1 / float(source.rate or 25)
            if not one.packet.size:
                continue  # (as of a connection that breaks off)
            if (kept := self.decoding.take(replace(one, at=self.now))) is not None:
                pictures += self.put(kept)
        assert not self.decoding.flushed
        pictures += self.put(self.decoding.replay.put(0, av.Packet(), at=self.now))
        assert self.decoding.flushed
        self.decoding.check()
        return pictures

    def put(self, kept: Kept, again: bool = False) -> list[Picture]:
        self.kept.append(kept)
        return self.decoding.pictures(kept, again, self.now) if kept.track == 0 else []


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(*arguments: Any, **fields: Any) -> Bench:
        made.append(Bench(*arguments, **fields))
        return made[-1]

    yield make
    for one in made:
        for source in one.sources:
            source.close()


def facts(pictures: list[Picture]) -> list[tuple[int, int, int, bool]]:
    return [(one.known.index, one.known.stamp.pts, one.known.stamp.duration, one.known.wanted) for one in pictures]


def test_indexes_and_times_go_on_over_all_openings(bench: Callable[..., Bench], clips: dict[str, Path]) -> None:
    one = bench(clips["h264"])
    pictures = one.read()
    assert len(pictures) == 25
    for name, away in (("mpeg2", 3.0), ("cut", 0.5), ("h264", 20.0)):
        before = pictures[-1]
        one.change(clips[name], away)
        assert not one.decoding.flushed
        came = one.read()
        step = (came[0].known.stamp.pts - before.known.stamp.pts) * one.decoding.base
        assert float(step) == pytest.approx(away, abs=0.15)
        assert {(picture.frame.width, picture.frame.height) for picture in came} == {
            (one.sources[-1].video.width, one.sources[-1].video.height)
        }
        pictures += came
    assert one.decoding.base == LIVE_BASE
    assert [picture.known.index for picture in pictures] == list(range(len(pictures)))
    assert all(a.known.stamp.pts < b.known.stamp.pts for a, b in pairwise(pictures))


def test_what_was_kept_of_another_connection_is_gone(bench: Callable[..., Bench], clips: dict[str, Path]) -> None:
    one = bench(clips["h264"])
    one.read()
    assert one.decoding.replay.since(3)
    one.change(clips["mpeg2"], 1.0)
    assert one.decoding.replay.since(3) is None
    assert one.decoding.replay.rest() == []
    one.read()
    assert one.decoding.replay.since(25)


@pytest.mark.parametrize("name", ["h264", "mpeg2", "cut", "damaged"])
def test_decoded_again_a_picture_is_what_it_was(bench: Callable[..., Bench], clips: dict[str, Path], name: str) -> None:
    """After a change of the source as well, with the flush that ended it."""
    one = bench(clips["h264"], every=3)
    one.read()
    one.change(clips[name], 2.0)
    first = one.read()
    source = one.sources[-1]
    hello, blobs = make_hello(source, one.stream, "x", 1, one.decoding.base)
    decoder = prepare_decoder(unpack(hello.tracks, blobs)[0], 1, for_model=True)  # type: ignore[arg-type]
    one.decoding.restart(decoder)
    kept = one.decoding.replay.rest()
    again = [picture for which in kept for picture in one.put(which, which is not kept[-1])]
    assert facts(again) == facts(first)
    assert one.decoding.flushed
    assert one.decoding.next_index == 25 + len(first)


def test_damage_is_counted_and_never_ends_it(bench: Callable[..., Bench], clips: dict[str, Path]) -> None:
    one = bench(clips["damaged"])
    pictures = one.read()
    assert 15 <= len(pictures) <= 25
    assert any(picture.known.damaged for picture in pictures) or one.decoding.repairs["undecodable_packets"]
    one.change(clips["h264"], 1.0)
    assert not any(picture.known.damaged for picture in one.read()), "the damage was another connection's"


def test_the_time_base_is_the_outputs(bench: Callable[..., Bench], clips: dict[str, Path]) -> None:
    source = bench(clips["mpeg2"]).sources[0]
    assert output_base(source) == Fraction(1, 90_000)
    source.live = False
    assert output_base(source) == source.video.time_base

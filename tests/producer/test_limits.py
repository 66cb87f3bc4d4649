"""No message of the producer is one that the sink must refuse: refused once, it is refused for ever, and holds up all
that follows."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest

from common import messages as m
from common.errors import SourceError
from common.wire import Reader, encode
from producer import limits
from producer.greeting import make_hello
from producer.letters import Letters, Shown
from producer.link import Link
from producer.replay import Kept
from producer.source import Source
from producer.timeline import Stamp
from tests.builders import EPOCH, STREAM
from tests.feeds import settings
from tests.support import ffmpeg

Opener = Callable[..., Source]
#: Longer than any text may be.
LONG = "ä" * 5000


def heard(link: Link) -> list[m.ToSink]:
    """What the sink hears; what it refuses is an error."""
    reader: Reader[m.ToSink] = Reader(m.ToSink)
    found = []
    while (one := link.peek()) is not None:
        found.append(reader.decode([encode(one.header), one.payload])[0])
        link.sent()
    return found


def letters() -> tuple[Letters, Link]:
    link = Link()
    return Letters(STREAM, EPOCH, Fraction(1, 90_000), link, 0), link


def test_a_source_that_is_away_for_a_month() -> None:
    writer, link = letters()
    writer.filler(Stamp(1, 1), LONG, 30 * 86_400.0, 0.0)
    writer.end(LONG, {"wrong_pts": 2**40}, 0.0)
    filler, end = heard(link)
    assert isinstance(filler, m.Filler)
    assert isinstance(end, m.End)
    assert filler.away == limits.MAX_SECONDS
    assert len(filler.text) == len(end.reason) == limits.MAX_TEXT
    assert filler.text.startswith("ää")
    assert filler.text.endswith("…")


def test_words_that_are_no_characters() -> None:
    """Of a file's name, as the system gives it."""
    writer, link = letters()
    writer.end("caf\udce9.mp4 is \ud800", {}, 0.0)
    (end,) = heard(link)
    assert isinstance(end, m.End)
    assert end.reason == "caf?.mp4 is ?"


def test_a_picture_that_was_long_in_coming() -> None:
    writer, link = letters()
    writer.picture(Shown(0, 7, 0, 2e6), Stamp(1, 1), "sent", "", 0.0)
    (notice,) = heard(link)
    assert isinstance(notice, m.Notice)
    assert notice.seconds == limits.MAX_SECONDS


@pytest.mark.parametrize("time", [2**63 - 1, -(2**63) + 1, 2**62, 0, None])
def test_times_of_64_bits(time: int | None) -> None:
    """A packet's and its picture's are the same, as far as they can be told."""
    writer, link = letters()
    packet = av.Packet(b"x")
    packet.pts = packet.dts = time
    packet.duration, packet.time_base = 2**63 - 1, Fraction(1, 1000)
    writer.packet(Kept(0, 0, packet), 0.0)
    writer.picture(Shown(time, 1), Stamp(1, 1), "sent", "", 0.0)
    told, notice = heard(link)
    assert isinstance(told, m.Packet)
    assert isinstance(notice, m.Notice)
    assert told.pts == told.dts == notice.pts
    assert (told.pts is None) == (time is None)
    assert time is None or abs(time) > 2**62 or told.pts == time


def test_more_sound_tracks_than_a_stream_may_have(tmp_path: Path, opened: Opener) -> None:
    """The first ones are taken, the rest is named; the source gives none of it."""
    clip, count = tmp_path / "many.mkv", 40
    maps = [word for _ in range(count) for word in ("-map", "1:a")]
    ffmpeg(
        "-f", "lavfi", "-i", "testsrc2=s=64x64:r=25", "-f", "lavfi", "-i", "sine=440:r=8000",
        "-map", "0:v", *maps, "-t", "0.2", "-c:v", "libx264", "-c:a", "pcm_s16le", clip,
    )  # fmt: skip
    source = opened(clip)
    hello, blobs = make_hello(source, settings(Path("x.mkv")), "x", 1)
    (told,) = [Reader[m.ToSink](m.ToSink).decode([encode(hello), blobs])[0]]
    assert isinstance(told, m.Hello)
    assert len(told.tracks) == limits.MAX_TRACKS
    assert sum(one.size for one in told.tracks) == len(blobs)
    assert len(source.audio) == limits.MAX_TRACKS - 1
    assert told.omitted == [
        f"sound: track {number} is one too many: at most {limits.MAX_TRACKS - 1} are taken"
        for number in range(limits.MAX_TRACKS, count + 1)
    ]


def test_what_is_left_out_is_named_in_few_words(tmp_path: Path, opened: Opener) -> None:
    clip = tmp_path / "clip.mkv"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x64:r=25", "-t", "0.2", "-c:v", "libx264", clip)
    source = opened(clip)
    source.omitted = [LONG] * (m.MAX_TABLE + 5)
    hello, blobs = make_hello(source, settings(Path("x.mkv")), "x", 1)
    (told,) = [Reader[m.ToSink](m.ToSink).decode([encode(hello), blobs])[0]]
    assert isinstance(told, m.Hello)
    assert [len(one) for one in told.omitted] == [limits.MAX_TEXT] * m.MAX_TABLE


def test_a_picture_that_no_message_can_describe(tmp_path: Path, opened: Opener) -> None:
    clip = tmp_path / "wide.mkv"
    ffmpeg(
        "-f", "lavfi", "-i", "color=s=20000x64:r=25", "-frames:v", "2", "-c:v", "mjpeg", "-pix_fmt", "yuvj420p", clip
    )
    with pytest.raises(SourceError, match="20000 × 64 pixels, at most 16384"):
        make_hello(opened(clip), settings(Path("x.mkv")), "x", 1)

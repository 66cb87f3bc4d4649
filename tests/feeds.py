"""What a producer says to a sink of one clip, recorded: real packets and notices for tests of the sink's parts."""

from __future__ import annotations

import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from msgspec import structs

from common import config
from common import messages as m
from common.media import pack
from producer.feed import Feed
from producer.source import Source
from tests.builders import EPOCH, STREAM

Message = m.Packet | m.Notice | m.End


@dataclass(frozen=True, slots=True)
class Recorded:
    """A stream from Hello to End."""

    hello: m.Hello
    blobs: bytes
    messages: list[tuple[Message, bytes]]

    @property
    def notices(self) -> list[m.Notice]:
        return [one for one, _ in self.messages if isinstance(one, m.Notice)]


def settings(*outputs: Path, **fields: Any) -> config.Stream:
    """A stream's settings; the outputs' kinds are their suffixes. Pictures are encoded without loss."""
    kinds = [config.Output(path=str(path), kind=path.suffix[1:]) for path in outputs]  # type: ignore[arg-type]
    known: dict[str, Any] = {
        "name": STREAM,
        "source": "x",
        "model": "echo",
        "encoding": config.Encoding(preset="ultrafast", crf=0),
    }
    return config.Stream(**{**known, "outputs": kinds, **fields})


def unhurried(stream: config.Stream) -> Source:
    """The source of a stream, read as fast as it can be even where the stream is live."""
    return Source(structs.replace(stream, mode="lossless"))


def record(clip: Path, mode: m.Mode = "lossless", **fields: Any) -> Recorded:
    """Run a feed over ``clip``; every frame that is sampled counts as sent."""
    source = unhurried(settings(Path("x.mp4"), source=str(clip)))
    limits = {"window": 100_000, "window_bytes": 2**40, "in_flight": 100_000}
    stream = settings(Path("x.mp4"), mode=mode, **limits, **fields)
    feed = Feed(stream, "sink", source, lambda frame, payload: True)
    infos: list[m.TrackInfo] = []
    blobs = b""
    for track in source.tracks:
        carrier, blob = pack(track)
        base = Fraction(track.time_base or 1)
        infos.append(
            m.TrackInfo(
                kind="audio" if infos else "video", codec=track.codec_context.name, carrier=carrier, size=len(blob),
                time_base=(base.numerator, base.denominator),
            )
        )  # fmt: skip
        blobs += blob
    feed.welcome(EPOCH, True)
    feed.served(m.InputSpec(64, 64))
    source.start()
    while not (source.drained and feed.idle):
        if not feed.idle:
            assert feed.announce(0.0)
        elif (one := source.take()) is not None:
            feed.take(one, 0.0)
        else:
            time.sleep(0.001)
    feed.end("", 0.0)
    messages: list[tuple[Message, bytes]] = []
    while (message := feed.link.peek()) is not None:
        messages.append((message.header, message.payload))  # type: ignore[arg-type]
        feed.link.sent()
    video, context = source.video, source.video.codec_context
    base, rate = Fraction(video.time_base or 1), source.rate
    hello = m.Hello(
        stream=STREAM, session="x", mode=mode, latency=stream.latency, model="echo", tracks=infos,
        video=m.VideoInfo(
            width=video.width, height=video.height, time_base=(base.numerator, base.denominator),
            rate=(rate.numerator, rate.denominator) if rate else None, color_range=int(context.color_range),
            primaries=int(context.color_primaries), transfer=int(context.color_trc), matrix=int(context.colorspace),
        ),
    )  # fmt: skip
    return Recorded(hello, blobs, messages)

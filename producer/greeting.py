"""The Hello of a stream: what the sink must know to decode it. PyAV's tracks in, a message and its payload out."""

from __future__ import annotations

from fractions import Fraction

from common import messages as m
from common.config import Stream
from common.errors import SourceError
from common.media import UncarriedCodec, pack
from producer.limits import MAX_TRACKS, text
from producer.source import Source


def make_hello(
    source: Source, stream: Stream, session: str, threads: int, base: Fraction | None = None
) -> tuple[m.Hello, bytes]:
    """The message and the carriers of all tracks, one after the other. ``base``: of the output's times, the video
    track's own where it is None.

    Sound that no carrier takes, or that is too much, is left out of the source and named in ``omitted``; a picture that
    none takes raises SourceError.
    """
    infos: list[m.TrackInfo] = []
    blobs = []
    omitted = list(source.omitted)
    if max(source.video.width, source.video.height) > m.MAX_SIDE:
        size = f"{source.video.width} × {source.video.height} pixels"
        raise SourceError(f"the picture is too large: {size}, at most {m.MAX_SIDE} a side: scale the source first")
    for number, track in enumerate(source.tracks):
        try:
            if len(infos) == MAX_TRACKS:
                raise UncarriedCodec(f"track {track.index} is one too many: at most {MAX_TRACKS - 1} are taken")
            carrier, blob = pack(track)
        except UncarriedCodec as error:
            if number == 0:
                raise SourceError(f"the picture's codec {error}: convert the source first") from None
            omitted.append(f"sound: {error}")
            source.audio = [one for one in source.audio if one is not track]
            continue
        context = track.codec_context
        own = source.video_time_base if number == 0 else Fraction(track.time_base or Fraction(1, 1000))
        infos.append(
            m.TrackInfo(
                kind="audio" if number else "video",
                codec=context.name,
                carrier=carrier,
                size=len(blob),
                time_base=(own.numerator, own.denominator),
                sample_rate=getattr(context, "sample_rate", 0) or 0,
                channels=getattr(context, "channels", 0) or 0,
            )
        )
        blobs.append(blob)
    hello = m.Hello(
        stream=stream.name,
        session=session,
        mode=stream.mode,
        latency=stream.latency,
        model=stream.model,
        video=_video_info(source, base),
        tracks=infos,
        threads=threads,
        omitted=[text(one) for one in omitted[: m.MAX_TABLE]],
    )
    return hello, b"".join(blobs)


def _video_info(source: Source, base: Fraction | None) -> m.VideoInfo:
    video = source.video
    context = video.codec_context
    base = base or Fraction(video.time_base or Fraction(1, 1000))
    sar = video.sample_aspect_ratio
    rate = source.constant_rate
    return m.VideoInfo(
        width=video.width,
        height=video.height,
        time_base=(base.numerator, base.denominator),
        rate=(rate.numerator, rate.denominator) if rate else None,
        sar=(sar.numerator, sar.denominator) if sar and sar != 1 else None,
        color_range=int(context.color_range),
        primaries=int(context.color_primaries),
        transfer=int(context.color_trc),
        matrix=int(context.colorspace),
    )

"""Which tracks of a container are taken, and what is left out."""

from __future__ import annotations

from dataclasses import dataclass

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.stream import VideoStream

from common.media import Track
from producer.inputs import faults
from producer.inputs.opening import has_begun
from producer.inputs.plan import Plan


def choose_video(container: InputContainer, plan: Plan) -> VideoStream:
    """The default track, or the largest. Raises SourceError where there is none that can be shown."""
    known = [one for one in container.streams.video if one.codec_context is not None and not _is_cover(one)]
    real = [one for one in known if one.codec_context.width]
    if not real:
        tracks = [f"{one.type} ({one.name})" for one in _named(container)]
        raise faults.no_video(plan, tracks, bool(known))
    return max(real, key=lambda one: (bool(one.disposition & one.disposition.default), one.width * one.height))


def choose_audio(container: InputContainer, sound: str) -> list[AudioStream]:
    """``sound``: "all", "first" or "none"."""
    known = [one for one in container.streams.audio if one.codec_context is not None and has_begun(one)]
    return known if sound == "all" else known[:1] if sound == "first" else []


def omitted(container: InputContainer, chosen: list[Track]) -> list[str]:
    """What is left out, for a person."""
    kept = {track.index for track in chosen}
    return [f"track {one.index}: {one.type} ({one.name})" for one in _named(container) if one.index not in kept]


def _is_cover(stream: VideoStream) -> bool:
    return bool(stream.disposition & stream.disposition.attached_pic)


@dataclass(frozen=True, slots=True)
class _Named:
    index: int
    type: str
    name: str


def _named(container: InputContainer) -> list[_Named]:
    """FFmpeg has no decoder for some; PyAV gives no codec context then."""
    return [
        _Named(one.index, one.type, one.codec_context.name if one.codec_context is not None else "unknown codec")
        for one in container.streams
    ]

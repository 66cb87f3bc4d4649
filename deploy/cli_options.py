"""The options that verbs share, and what is made of them. What each means stands here once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from common.errors import UsageError
from deploy import spec

Source = Annotated[
    str | None,
    typer.Argument(
        help="video file, stream address (rtsp://, rtmp://, http://, srt://, udp://), device (/dev/video0), "
        "folder of pictures, 'frames/*.jpg', or - for standard input",
        show_default=False,
    ),
]
Output = Annotated[
    list[str] | None,
    typer.Option(
        "-o",
        "--output",
        help="file (.mp4, .mkv, .ts video, .jsonl findings), address (rtmp://, rtsp://, srt://, udp://) or folder/ "
        "for HLS; repeat for several",
    ),
]

# -- of the fleet ----------------------------------------------------------------------------------------------------

MODELS = "face, objects, echo, torch:FILE or package.module:Class (see: headrace models)"
Model = Annotated[str, typer.Option(help=MODELS)]
Threshold = Annotated[float | None, typer.Option(help="least score of a finding, 0…1 (face, objects)")]
Workers = Annotated[int, typer.Option(min=1, max=256, help="worker processes")]
Batch = Annotated[int, typer.Option(min=1, max=1024, help="most frames in one batch")]
Wait = Annotated[str, typer.Option(help="longest wait for a batch to fill, as 10ms or 0.5s")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda:N")]
DiskWait = Annotated[
    str, typer.Option(help="lossless: how long to wait for space when a disk is full, before giving up")
]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="show the parts' logs")]

# -- of a stream -----------------------------------------------------------------------------------------------------

Every = Annotated[int, typer.Option(min=1, help="infer every N-th frame; the others show the last boxes")]
Fps = Annotated[float | None, typer.Option(min=0.001, help="infer at most so many frames a second")]
Live = Annotated[
    bool,
    typer.Option(
        "--live",
        help="never wait: skip inference if workers are busy (default but for files; a file plays at its speed)",
    ),
]
Lossless = Annotated[
    bool, typer.Option("--lossless", help="infer every sampled frame, wait for workers (default for files)")
]
Latency = Annotated[str, typer.Option(help="live: longest wait for a frame's result")]
Carry = Annotated[
    str,
    typer.Option(help="how long boxes are shown on frames that were not inferred (at least two intervals of --fps)"),
]
SendSize = Annotated[
    str | None,
    typer.Option(help="WIDTHxHEIGHT sent to the model, to find small things (slower); default: its input size"),
]
Codec = Annotated[str, typer.Option(help="pictures to workers as jpeg, or i420 (raw: more bytes, no loss)")]
Encoder = Annotated[str, typer.Option(help="auto, x264 or nvenc")]
Preset = Annotated[str, typer.Option(help="x264 preset, ultrafast … veryslow")]
Crf = Annotated[float, typer.Option(min=0, max=51, help="x264 quality: lower is better")]
StreamName = Annotated[
    str | None, typer.Option("--name", help="the stream's name in logs and JSON lines (default: from the source)")
]
Segment = Annotated[
    str | None,
    typer.Option(
        help="begin a new file every 10m (a name such as rec-%Y%m%d-%H%M%S.mp4); HLS alone: a segment's length"
    ),
]
Realtime = Annotated[bool, typer.Option("--realtime", help="play a file at its own speed")]
Loop = Annotated[bool, typer.Option("--loop", help="play a file again and again, at its own speed")]
PictureRate = Annotated[float, typer.Option(min=0.001, help="pictures a second of a folder of pictures")]
Transport = Annotated[str, typer.Option(help="RTSP over tcp or udp")]
SourceTimeout = Annotated[
    str, typer.Option(help="a stream that gives no picture for so long has dropped, and is opened again")
]
SourceWait = Annotated[
    str | None,
    typer.Option(
        help="how long to try a stream that cannot be opened at the start (default: run 0s, streams add for ever)"
    ),
]
Placeholder = Annotated[
    bool, typer.Option("--placeholder", help="live: show a picture that says so while the source is away")
]
PlaceholderImage = Annotated[Path | None, typer.Option(help="live: show this picture then")]
OnChange = Annotated[
    str, typer.Option(help="a stream that comes back with another size or sound: fit it in, or begin a new part")
]

_CHOICES = {
    "codec": ("jpeg", "i420"),
    "encoder": ("auto", "x264", "nvenc"),
    "transport": ("tcp", "udp"),
    "on_change": ("fit", "part"),
}
_AS_TYPED = (
    "source",
    "name",
    "model",
    "every",
    "fps",
    "preset",
    "crf",
    "realtime",
    "loop",
    "picture_rate",
    "placeholder",
)
_DURATIONS = ("latency", "carry", "source_timeout", "source_wait", "segment")


def of_stream(typed: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of :class:`spec.StreamOptions` from a verb's arguments. Raises UsageError."""
    if typed["live"] and typed["lossless"]:
        raise UsageError("--live and --lossless exclude each other")
    for name, allowed in _CHOICES.items():
        if typed[name] not in allowed:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} {typed[name]!r} is unknown: choose {', '.join(allowed[:-1])} or {allowed[-1]}")
    image = typed["placeholder_image"]
    return {
        **{name: typed[name] for name in (*_AS_TYPED, *_CHOICES)},
        **{name: spec.seconds(typed[name]) if typed[name] else None for name in _DURATIONS},
        "outputs": typed["output"],
        "mode": "live" if typed["live"] else "lossless" if typed["lossless"] else None,
        "send_size": spec.picture_size(typed["send_size"]) if typed["send_size"] else None,
        "placeholder_image": str(image) if image else None,
    }


def given(context: typer.Context) -> set[str]:
    """Names of the arguments that were typed."""
    return {
        name
        for name in context.params
        if (source := context.get_parameter_source(name)) is not None and source.name == "COMMANDLINE"
    }


def option_of(name: str) -> str:
    """The option that sets this argument."""
    return "-o" if name == "output" else f"--{name.replace('_', '-')}"

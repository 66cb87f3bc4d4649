"""What the user typed, checked and turned into a fleet's configuration. No process is started here."""

from __future__ import annotations

import os
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from common import config
from common.errors import UsageError
from common.files import check_output_file, check_source_file, is_live, ledger_path, local_path
from common.log import mask

#: Ending → kind of output.
KINDS: dict[str, config.FileKind | config.SentKind] = {
    ".mp4": "mp4", ".m4v": "mp4", ".mov": "mp4", ".mkv": "mkv", ".ts": "ts", ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".m3u8": "hls",
}  # fmt: skip
#: Scheme of an address → kind of output.
SCHEMES: dict[str, config.SentKind] = {
    "rtmp": "rtmp", "rtmps": "rtmp", "rtsp": "rtsp", "rtsps": "rtsp", "srt": "srt", "udp": "udp",
}  # fmt: skip
#: Name of the playlist where an HLS output is given as a folder, ``live/``.
PLAYLIST = "index.m3u8"
#: Shortest segment, in seconds: outputs have a keyframe every two.
LEAST_SEGMENT_S = 1.0
#: Most frames under way between the ends: what the sink can keep apart.
MAX_WINDOW = 16384
_DURATION = re.compile(r"^(\d+(?:\.\d+)?)(us|ms|s|m|h)?$")
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE = re.compile(r"^(\d+)[x×](\d+)$")


def seconds(text: str) -> float:
    """``10ms``, ``0.5s``, ``2m``, or plain seconds. Raises UsageError."""
    found = _DURATION.match(text.strip().lower())
    if not found:
        raise UsageError(f"{text!r} is not a duration: write 10ms, 0.5s or 2m")
    return float(found[1]) * _UNITS[found[2] or "s"]


def picture_size(text: str) -> tuple[int, int]:
    """``1280x720``. Raises UsageError."""
    found = _SIZE.match(text.strip().lower())
    if not found or not (16 <= int(found[1]) <= 16384 and 16 <= int(found[2]) <= 16384):
        raise UsageError(f"{text!r} is not a picture size: write WIDTHxHEIGHT, such as 1280x720")
    return int(found[1]), int(found[2])


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The arguments of ``headrace run``."""

    source: str
    outputs: list[str]
    model: str = "face"
    threshold: float | None = None
    workers: int = 1
    batch: int = 16
    wait: float = 0.01
    device: str = "auto"
    every: int = 1
    fps: float | None = None
    mode: Literal["lossless", "live"] | None = None
    latency: float = 0.5
    carry: float = 1.0
    send_size: tuple[int, int] | None = None
    codec: Literal["jpeg", "i420"] = "jpeg"
    encoder: Literal["auto", "x264", "nvenc"] = "auto"
    preset: str = "veryfast"
    crf: float = 23.0
    disk_wait: float = 600.0
    name: str | None = field(default=None)
    realtime: bool = False
    loop: bool = False
    picture_rate: float = 25.0
    transport: Literal["tcp", "udp"] = "tcp"
    source_timeout: float = 5.0
    source_wait: float = 0.0
    placeholder: bool = False
    placeholder_image: str | None = None
    on_change: Literal["fit", "part"] = "fit"
    segment: float | None = None


def build(options: RunOptions, folder: Path) -> config.Fleet:
    """The fleet's configuration, with ipc sockets in ``folder``. Raises UsageError, OutputError."""
    source = local_path(options.source)
    if source is not None:
        check_source_file(source)
    outputs = [_output(text, source, options.segment) for text in options.outputs]
    for number, output in enumerate(outputs):
        if any(_same(Path(output.path), Path(other.path)) for other in outputs[:number]):
            raise UsageError(f"{mask(output.path)} is named twice as an output: leave one out")
    name = options.name or stream_name(options.source)
    ledger = _ledger(outputs, name, folder)
    check_output_file(ledger)
    if options.preset not in config.PRESETS:
        raise UsageError(f"unknown preset {options.preset!r}: choose one of {', '.join(config.PRESETS)}")
    if options.loop and options.mode == "lossless":
        raise UsageError("--loop never ends and --lossless keeps everything: leave one out")
    if options.loop and is_live(options.source):
        raise UsageError("--loop is for files and folders of pictures")
    if options.placeholder_image is not None:
        check_source_file(Path(options.placeholder_image))
    mode = options.mode or ("live" if options.loop or is_live(options.source) else "lossless")
    sends = any(output.kind in SCHEMES.values() for output in outputs)
    raw = {
        "run": secrets.token_hex(8),
        "broker": {name: f"ipc://{folder}/{name}" for name in ("frames", "workers", "news")},
        "sink": {
            **{name: f"ipc://{folder}/{name}" for name in ("media", "results")},
            "disk_wait": options.disk_wait,
        },
        "workers": {
            "model": options.model,
            "count": options.workers,
            "threshold": options.threshold,
            "device": options.device,
            "batch": options.batch,
            "wait": options.wait,
        },
        "streams": [
            {
                "name": name,
                "source": options.source,
                "outputs": [msgspec.to_builtins(output) for output in outputs],
                "model": options.model,
                "mode": mode,
                "latency": options.latency,
                "every": options.every,
                "fps": options.fps,
                "send_size": options.send_size,
                "codec": options.codec,
                # Two batches for each worker, and as much again on the way.
                "in_flight": min(MAX_WINDOW, max(8, 4 * options.batch * options.workers)),
                "window": min(MAX_WINDOW, max(256, 8 * options.batch * options.workers * options.every)),
                "carry": max(options.carry, 2.0 / options.fps if options.fps else 0.0),
                "ledger": str(ledger),
                # What is sent to somebody is sent at the speed at which it is to be shown.
                "realtime": options.realtime or options.loop or sends,
                "loop": options.loop,
                "picture_rate": options.picture_rate,
                "transport": options.transport,
                "source_timeout": options.source_timeout,
                "source_wait": options.source_wait,
                "placeholder": options.placeholder or options.placeholder_image is not None,
                "placeholder_image": options.placeholder_image,
                "on_change": options.on_change,
                "encoding": {"encoder": options.encoder, "preset": options.preset, "crf": options.crf},
            }
        ],
    }
    try:
        return msgspec.convert(raw, config.Fleet)
    except msgspec.ValidationError as error:
        # The configuration's keys are the options' names.
        raise UsageError(re.sub(r"- at `\$\..*?(\w+)`", r"for --\1", str(error))) from None


def stream_name(source: str) -> str:
    """A short name for logs and lines: the file's stem, or the last part of the address."""
    if "://" in source:
        bare = re.sub(r"^[a-zA-Z][a-zA-Z0-9+.-]*://(?:[^/@]*@)?", "", source).split("?")[0]
        name = bare.rstrip("/").rpartition("/")[2]
    else:
        name = Path(source).stem
    return re.sub(r"[^\w.-]+", "-", name)[:64].strip("-") or "stream"


def _ledger(outputs: list[config.Output], name: str, folder: Path) -> Path:
    """Beside the first file; where nothing is written here, in the run's own folder."""
    files = [Path(output.path) for output in outputs if "://" not in output.path]
    if not files:
        return folder / f"{name}.ledger.json"
    if "%" not in str(files[0]):
        return ledger_path(files[0])
    fixed = next(parent for parent in files[0].parents if "%" not in str(parent))
    return fixed / f"{name}.ledger.json"


def _output(text: str, source: Path | None, segment: float | None) -> config.Output:
    scheme, separator, _ = text.partition("://")
    if separator:
        sent = SCHEMES.get(scheme.lower())
        if sent is None:
            raise UsageError(f"{mask(text)}: cannot send to {scheme}://, but to {', '.join(SCHEMES)}")
        return config.Output(path=text, kind=sent)
    path = Path(text)
    if text.endswith("/") or path.is_dir():
        path /= PLAYLIST
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise UsageError(f"{text}: the ending says nothing known; use one of {', '.join(sorted(KINDS))}")
    if segment is not None and segment < LEAST_SEGMENT_S:
        raise UsageError(f"--segment must be at least {LEAST_SEGMENT_S:.0f} s")
    if kind == "hls":
        path.parent.mkdir(parents=True, exist_ok=True)
    if "%" not in str(path.parent):
        check_output_file(path)
    if source is not None and _same(path, source):
        raise UsageError(f"{text} is the source itself: name another output")
    return config.Output(path=str(path), kind=kind, segment=None if kind == "jsonl" else segment)


def _same(one: Path, other: Path) -> bool:
    """Whether both name one file, also through links."""
    if one.exists() and other.exists():
        return one.samefile(other)
    return os.path.realpath(one) == os.path.realpath(other)

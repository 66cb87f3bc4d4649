"""What the user typed, checked and turned into a fleet's configuration. No process is started here."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from common import config
from common.config import MAX_WINDOW
from common.errors import UsageError
from common.files import check_output_file, check_source_file, is_live, ledger_path, local_path
from common.log import mask
from deploy.outputs import SCHEMES, output_of, share_segment
from deploy.places import clash

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
class StreamOptions:
    """One stream, as ``headrace streams add`` and ``run`` take it. None: what suits the fleet or the source."""

    source: str
    outputs: list[str]
    model: str | None = None
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
    name: str | None = None
    realtime: bool = False
    loop: bool = False
    picture_rate: float = 25.0
    transport: Literal["tcp", "udp"] = "tcp"
    source_timeout: float = 5.0
    source_wait: float | None = None
    placeholder: bool = False
    placeholder_image: str | None = None
    on_change: Literal["fit", "part"] = "fit"
    segment: float | None = None


@dataclass(frozen=True, slots=True)
class RunOptions(StreamOptions):
    """The arguments of ``headrace run SOURCE``: one stream, and the fleet that serves it."""

    model: str = "face"
    threshold: float | None = None
    workers: int = 1
    batch: int = 16
    wait: float = 0.01
    device: str = "auto"
    disk_wait: float = 600.0
    source_wait: float = 0.0


def build(options: RunOptions, folder: Path) -> config.Fleet:
    """The fleet's configuration, with ipc sockets in ``folder``. Raises UsageError, SourceError, OutputError."""
    workers = {
        "model": options.model,
        "count": options.workers,
        "threshold": options.threshold,
        "device": options.device,
        "batch": options.batch,
        "wait": options.wait,
    }
    raw = endpoints(folder, {"sink": {"disk_wait": options.disk_wait}, "workers": workers})
    try:
        stream = stream_of(options, msgspec.convert(workers, config.Workers), folder)
        return msgspec.convert({**raw, "streams": [msgspec.to_builtins(stream)]}, config.Fleet)
    except msgspec.ValidationError as error:
        raise _about_option(error) from None


def endpoints(folder: Path, raw: dict[str, Any]) -> dict[str, Any]:
    """``raw``, a fleet's configuration, with a name of the run and ipc sockets in ``folder`` where it has none."""
    names = {"broker": ("frames", "workers", "news"), "sink": ("media", "results")}
    ours = {part: {name: f"ipc://{folder}/{name}" for name in sockets} for part, sockets in names.items()}
    return {"run": secrets.token_hex(8), **raw, **{part: {**ours[part], **raw.get(part, {})} for part in names}}


def stream_of(options: StreamOptions, workers: config.Workers, folder: Path) -> config.Stream:
    """The configuration of one stream; what nobody else is to see of it lies in ``folder``.

    Raises UsageError, SourceError, OutputError.
    """
    outputs = share_segment([output_of(text) for text in options.outputs], options.segment)
    given = {
        "name": options.name,
        "source": options.source,
        "model": options.model,
        "mode": options.mode,
        "latency": options.latency,
        "every": options.every,
        "fps": options.fps,
        "send_size": options.send_size,
        "codec": options.codec,
        "carry": options.carry,
        "realtime": options.realtime,
        "loop": options.loop,
        "picture_rate": options.picture_rate,
        "transport": options.transport,
        "source_timeout": options.source_timeout,
        "source_wait": options.source_wait,
        "placeholder": options.placeholder,
        "placeholder_image": options.placeholder_image,
        "on_change": options.on_change,
        "encoding": {"encoder": options.encoder, "preset": options.preset, "crf": options.crf},
    }
    try:
        return complete({key: value for key, value in given.items() if value is not None}, outputs, workers, folder)
    except msgspec.ValidationError as error:
        raise _about_option(error) from None


def complete(
    given: dict[str, Any],
    outputs: list[config.Output],
    workers: config.Workers,
    folder: Path,
    reads: bool = True,
    writes: bool = True,
) -> config.Stream:
    """A stream of the keys that are ``given``; what is missing is chosen to suit the source and the fleet. ``reads``,
    ``writes``: this machine has the source, and the outputs.

    Raises UsageError, SourceError, OutputError for what cannot be served, and msgspec.ValidationError for what is no
    configuration.
    """
    draft = msgspec.convert(
        {"name": stream_name(given["source"]), "model": workers.model, **given, "outputs": outputs}, config.Stream
    )
    check_source(draft, reads, writes)
    if draft.loop and given.get("mode") == "lossless":
        raise UsageError("loop never ends and lossless keeps everything: leave one out")
    ledger = Path(draft.ledger) if draft.ledger else _ledger(outputs, draft.name, folder)
    if problem := clash(msgspec.structs.replace(draft, ledger=str(ledger))):
        raise UsageError(problem)
    if writes:
        check_output_file(ledger)
    sent = any(output.kind in SCHEMES.values() for output in outputs)
    chosen = {
        "mode": "live" if draft.loop or is_live(draft.source) else "lossless",
        # Two batches for each worker, and as much again on the way.
        "in_flight": min(MAX_WINDOW, max(8, 4 * workers.batch * workers.count)),
        "window": min(MAX_WINDOW, max(256, 8 * workers.batch * workers.count * draft.every)),
        # What is sent to somebody is sent at the speed at which it is to be shown.
        "realtime": draft.loop or sent,
    }
    return msgspec.structs.replace(
        draft,
        **{key: value for key, value in chosen.items() if not given.get(key)},
        carry=max(draft.carry, 2.0 / draft.fps if draft.fps else 0.0),
        placeholder=draft.placeholder or draft.placeholder_image is not None,
        ledger=str(ledger),
    )


def check_source(stream: config.Stream, reads: bool = True, writes: bool = True) -> None:
    """Refuse what can be known to be wrong before anything is opened. Raises UsageError, SourceError."""
    path = local_path(stream.source)
    if path is not None and reads:
        check_source_file(path)
    if stream.encoding.preset not in config.PRESETS:
        raise UsageError(f"unknown preset {stream.encoding.preset!r}: choose one of {', '.join(config.PRESETS)}")
    for tune in stream.encoding.tune.split(","):
        if tune not in config.TUNES:
            raise UsageError(f"unknown tune {tune!r}: choose one of {', '.join(filter(None, config.TUNES))}")
    if stream.loop and is_live(stream.source):
        raise UsageError("loop is for files and folders of pictures")
    if stream.placeholder_image is not None and writes:
        check_source_file(Path(stream.placeholder_image))


def stream_name(source: str) -> str:
    """A short name for logs and lines: the file's stem, or the last part of the address, as far as it may be shown."""
    if "://" in source:
        source = mask(source)
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


def _about_option(error: msgspec.ValidationError) -> UsageError:
    """The configuration's keys are the options' names."""
    return UsageError(re.sub(r"- at `\$(?:\..*?)?\.?(\w+)`", r"for --\1", str(error)))

"""``headrace run``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from common import config
from common.errors import Exit, UsageError
from deploy import cli_options as o
from deploy import spec
from deploy.display import RunDisplay, say, show_ledgers
from deploy.fleetfile import FleetFile
from deploy.run import Run
from deploy.streams import incomplete

EXAMPLES = """Examples:

  headrace run street.mp4 -o annotated.mp4 --model objects

  headrace run talk.mkv -o talk.out.mkv -o talk.jsonl --model face --every 3

  headrace run rtsp://camera/stream -o cam.ts -o cam.jsonl --workers 2 --latency 300ms

  headrace run rtsp://camera/stream -o rtmp://server/live/cam -o 'rec-%Y%m%d-%H%M%S.mp4' --segment 10m --placeholder

  headrace run clip.mp4 -o out.mp4 --model examples.brightness:Brightness

  headrace run -c fleet.toml --workers 2

Exit codes: 0 done, 1 some frames failed or were lost, 2 usage, 3 source, 4 output, 5 model, 6 a part of the fleet,
130 interrupted. Of several streams, the highest.
"""
#: What may be typed beside ``-c``: keys of [workers], and of [sink].
WORKERS = ("model", "threshold", "workers", "batch", "wait", "device")
SINK = ("disk_wait",)


def run(
    context: typer.Context,
    source: o.Source = None,
    output: o.Output = None,
    file: Annotated[
        Path | None,
        typer.Option("-c", "--config", help="a fleet's file (TOML) with several streams, instead of SOURCE"),
    ] = None,
    model: o.Model = "face",
    threshold: o.Threshold = None,
    workers: o.Workers = 1,
    batch: o.Batch = 16,
    wait: o.Wait = "10ms",
    device: o.Device = "auto",
    every: o.Every = 1,
    fps: o.Fps = None,
    live: o.Live = False,
    lossless: o.Lossless = False,
    latency: o.Latency = "500ms",
    carry: o.Carry = "1s",
    send_size: o.SendSize = None,
    codec: o.Codec = "jpeg",
    encoder: o.Encoder = "auto",
    preset: o.Preset = "veryfast",
    crf: o.Crf = 23.0,
    disk_wait: o.DiskWait = "10m",
    name: o.StreamName = None,
    segment: o.Segment = None,
    realtime: o.Realtime = False,
    loop: o.Loop = False,
    picture_rate: o.PictureRate = 25.0,
    transport: o.Transport = "tcp",
    source_timeout: o.SourceTimeout = "5s",
    source_wait: o.SourceWait = None,
    placeholder: o.Placeholder = False,
    placeholder_image: o.PlaceholderImage = None,
    on_change: o.OnChange = "fit",
    verbose: o.Verbose = False,
) -> None:
    """Annotate SOURCE with a model's findings and write it to every OUTPUT, in order and with its sound in sync."""
    typed = dict(locals())
    if threshold is not None and not 0 < threshold < 1:
        raise UsageError("--threshold must lie between 0 and 1")
    if file is not None:
        build = _of_file(file, typed, o.given(context))
        raise typer.Exit(int(perform(build, file.stem, verbose)))
    for missing, what in ((source, "argument 'SOURCE' (or -c FILE)"), (output, "option '-o' / '--output'")):
        if not missing:
            raise UsageError(f"Missing {what}: see headrace run --help")
    fleet = {key: typed[key] for key in WORKERS} | {key: spec.seconds(typed[key]) for key in ("wait", *SINK)}
    wanted = o.of_stream(typed) | fleet
    options = spec.RunOptions(**{**wanted, "source_wait": wanted["source_wait"] or 0.0})
    raise typer.Exit(int(perform_one(options, verbose)))


def _of_file(file: Path, typed: dict[str, Any], given: set[str]) -> Callable[[Path], config.Fleet]:
    """The fleet of a file, with what was typed above it. Raises UsageError."""
    for name in sorted(given - {"file", "verbose", *WORKERS, *SINK}):
        if name == "source":
            raise UsageError("SOURCE and -c exclude each other: write the source into the file, or leave -c out")
        raise UsageError(f"{o.option_of(name)} is of a stream: write it into {file}, under [defaults] or [[streams]]")
    found = FleetFile(file)
    above = {name: typed[name] for name in given.intersection((*WORKERS, *SINK))}
    for name in given.intersection(("wait", *SINK)):
        above[name] = spec.seconds(typed[name])
    sink = {name: above.pop(name) for name in SINK if name in above}
    if "workers" in above:
        above["count"] = above.pop("workers")
    return lambda folder: found.fleet(folder, above, sink)


def perform_one(options: spec.RunOptions, verbose: bool = False) -> Exit:
    """Run one stream and show it. Raises HeadraceError."""
    name = options.name or spec.stream_name(options.source)
    return perform(lambda folder: spec.build(options, folder), name, verbose)


def perform(build: Callable[[Path], config.Fleet], name: str, verbose: bool = False) -> Exit:
    """Run and show. Raises HeadraceError."""
    display = RunDisplay(verbose)
    job = Run(build, display, name)
    try:
        code = job()
    finally:
        display.close()
        results = [life.result for life in job.streams if life.result is not None and life.result["frames"]]
        if results:
            show_ledgers(results)
    bad = [life for life in job.streams if life.ended is not None and life.ended.code and not life.removed]
    if code not in (Exit.OK, Exit.INTERRUPTED):
        names = ", ".join(life.name for life in bad)
        several = f"{len(bad)} of {len(job.streams)} streams did not end well: {names}"
        if not bad:
            several = "streams that have ended long ago did not end well: see the lines above"
        say(several if job.streams.several else incomplete(bad[0].result if bad else None))
    return code

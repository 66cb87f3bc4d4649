"""``headrace streams``: what a running fleet serves, without stopping it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from common import config
from common.errors import UsageError
from common.files import local_path
from deploy import cli_options as o
from deploy import spec
from deploy.ask import ask, find
from deploy.control import Add, Answer, List, Pause, Remove, Row
from deploy.fleetfile import FleetFile
from deploy.folder import CONFIG
from deploy.text import check_text

app = typer.Typer(help="List, add and remove streams of a running fleet; the others go on.", rich_markup_mode=None)

ADD_EXAMPLES = """Examples:

  headrace streams add rtsp://camera/stream -o cam.ts -o cam.jsonl --name cam

  headrace streams add -c more.toml
"""
#: After a stream's time is up and its producer was killed, so many seconds are for closing its outputs.
CLOSE_S = 15.0
#: A part that is started or stopped for a stream takes at most so many seconds.
CHANGE_S = 60.0

FleetName = Annotated[
    str | None, typer.Option("--fleet", help="which fleet, where several are running: its name, folder or file")
]


@app.command("list")
def list_streams(
    fleet: FleetName = None,
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
) -> None:
    """Show each stream: its state, frames, the share that is annotated, outputs and troubles."""
    answer = ask(find(fleet), List())
    if as_json:
        print(json.dumps(msgspec.to_builtins(answer), indent=2, ensure_ascii=False))
        return
    _show(answer)


@app.command(epilog=ADD_EXAMPLES)
def add(
    source: o.Source = None,
    output: o.Output = None,
    file: Annotated[
        Path | None, typer.Option("-c", "--config", help="a file with [[streams]] to add, instead of SOURCE")
    ] = None,
    fleet: FleetName = None,
    model: Annotated[str | None, typer.Option(help="one that the fleet's workers serve (default: theirs)")] = None,
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
) -> None:
    """Serve SOURCE too. Its options are those of headrace run."""
    typed = dict(locals())
    if file is not None and (source or output):
        raise UsageError("SOURCE and -c exclude each other: leave one out")
    if file is None and not (source and output):
        raise UsageError("name a SOURCE and an output -o, or a file -c: see headrace streams add --help")
    folder = find(fleet)
    running = config.load(folder / CONFIG)
    if file is not None:
        streams = FleetFile(file).only_streams(running.workers, folder)
    else:
        streams = [spec.stream_of(spec.StreamOptions(**o.of_stream(typed)), running.workers, folder)]
    print(ask(folder, Add([_absolute(stream) for stream in streams]), CHANGE_S).done)


@app.command()
def remove(
    stream: Annotated[list[str], typer.Argument(help="names of streams", show_default=False)],
    fleet: FleetName = None,
    wait: Annotated[str, typer.Option(help="how long what is under way may take; then it is lost")] = "30s",
) -> None:
    """End a stream: what is under way is finished, its outputs are closed, its ledger is written."""
    folder, seconds = find(fleet), spec.seconds(wait)
    for name in stream:
        print(ask(folder, Remove(name, seconds), seconds + CLOSE_S).done)


@app.command()
def pause(
    stream: Annotated[list[str], typer.Argument(help="names of streams", show_default=False)], fleet: FleetName = None
) -> None:
    """Let a stream of headrace up rest: its source is closed, and after a while its outputs."""
    folder = find(fleet)
    for name in stream:
        print(ask(folder, Pause(name), CHANGE_S).done)


@app.command()
def resume(
    stream: Annotated[list[str], typer.Argument(help="names of streams", show_default=False)], fleet: FleetName = None
) -> None:
    """Go on with a stream that was paused."""
    folder = find(fleet)
    for name in stream:
        print(ask(folder, Pause(name, on=False), CHANGE_S).done)


def _absolute(stream: config.Stream) -> config.Stream:
    """Paths from where we are: the fleet is somewhere else. Raises UsageError."""
    if stream.source == "-":
        raise UsageError("standard input is the fleet's own: name another source")
    return msgspec.structs.replace(
        stream,
        source=stream.source if (path := local_path(stream.source)) is None else _local(stream.source, path),
        outputs=[msgspec.structs.replace(one, path=_from_here(one.path)) for one in stream.outputs],
        placeholder_image=stream.placeholder_image and _from_here(stream.placeholder_image),
        ledger=stream.ledger and _from_here(stream.ledger),
    )


def _local(source: str, path: Path) -> str:
    """An absolute source; a device keeps its options."""
    return source if path.is_absolute() and not source.startswith("file:") else _from_here(str(path))


def _from_here(path: str) -> str:
    return path if "://" in path else check_text(os.path.abspath(path))


def _show(answer: Answer) -> None:
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 1000  # a program reads it: a stream a line
    table = Table(box=None)
    for heading in ("stream", "state", "frames", "fps", "annotated", "source", "outputs"):
        right = heading in ("frames", "fps", "annotated")
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    for row in answer.streams:
        share = "" if row.annotated is None else f"{100 * row.annotated:.1f} %"
        outputs = ("\n" if console.is_terminal else ", ").join(output.path for output in row.outputs)
        table.add_row(row.name, row.state, str(row.frames), f"{row.fps:.1f}", share, row.source, outputs)
    console.print(table)
    for row in answer.streams:
        for line in _remarks(row):
            console.print(f"{row.name}: {line}", soft_wrap=True)


def _remarks(row: Row) -> list[str]:
    remarks = list(row.troubles)
    if row.why:
        since = f" for {row.since:.0f} s" if row.state == "away" else ""
        remarks.insert(0, f"{row.state}{since}: {row.why}")
    return remarks

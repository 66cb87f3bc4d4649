"""The ``headrace`` command. One function a verb; what a verb does lies in a module of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import traceback
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from common.errors import Exit, HeadraceError, UsageError
from common.log import mask
from deploy import spec
from deploy.display import RunDisplay, incomplete
from deploy.faults import command as faults_command
from deploy.run import Run

app = typer.Typer(
    name="headrace",
    help="Live video inference on a fleet of workers: one stream in, the annotated stream out.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        try:
            print(f"headrace {metadata.version('headrace')}")
        except metadata.PackageNotFoundError:
            print("headrace, run from its sources")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="show the version and leave", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Live video inference on a fleet of workers: one stream in, the annotated stream out."""


RUN_EXAMPLES = """Examples:

  headrace run street.mp4 -o annotated.mp4 --model objects

  headrace run talk.mkv -o talk.out.mkv -o talk.jsonl --model face --every 3

  headrace run rtsp://camera/stream -o cam.ts -o cam.jsonl --workers 2 --latency 300ms

  headrace run rtsp://camera/stream -o rtmp://server/live/cam -o 'rec-%Y%m%d-%H%M%S.mp4' --segment 10m --placeholder

  headrace run clip.mp4 -o out.mp4 --model examples.brightness:Brightness

Exit codes: 0 done, 1 some frames failed or were lost, 2 usage, 3 source, 4 output, 5 model, 6 a part of the fleet,
130 interrupted.
"""


@app.command(epilog=RUN_EXAMPLES)
def run(
    source: Annotated[
        str,
        typer.Argument(
            help="video file, stream address (rtsp://, rtmp://, http://, srt://, udp://), device (/dev/video0), "
            "folder of pictures, 'frames/*.jpg', or - for standard input",
            show_default=False,
        ),
    ],
    output: Annotated[
        list[str],
        typer.Option(
            "-o",
            "--output",
            help="file (.mp4, .mkv, .ts video, .jsonl findings), address (rtmp://, rtsp://, srt://, udp://) or folder/ "
            "for HLS; repeat for several",
        ),
    ],
    model: Annotated[
        str, typer.Option(help="face, objects, echo, torch:FILE or package.module:Class (see: headrace models)")
    ] = "face",
    threshold: Annotated[float | None, typer.Option(help="least score of a finding, 0…1 (face, objects)")] = None,
    workers: Annotated[int, typer.Option(min=1, max=256, help="worker processes")] = 1,
    batch: Annotated[int, typer.Option(min=1, max=1024, help="most frames in one batch")] = 16,
    wait: Annotated[str, typer.Option(help="longest wait for a batch to fill, as 10ms or 0.5s")] = "10ms",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda:N")] = "auto",
    every: Annotated[int, typer.Option(min=1, help="infer every N-th frame; the others show the last boxes")] = 1,
    fps: Annotated[float | None, typer.Option(min=0.001, help="infer at most so many frames a second")] = None,
    live: Annotated[
        bool,
        typer.Option(
            "--live",
            help="never wait: skip inference if workers are busy (default but for files; a file plays at its speed)",
        ),
    ] = False,
    lossless: Annotated[
        bool, typer.Option("--lossless", help="infer every sampled frame, wait for workers (default for files)")
    ] = False,
    latency: Annotated[str, typer.Option(help="live: longest wait for a frame's result")] = "500ms",
    carry: Annotated[
        str,
        typer.Option(
            help="how long boxes are shown on frames that were not inferred (at least two intervals of --fps)"
        ),
    ] = "1s",
    send_size: Annotated[
        str | None,
        typer.Option(help="WIDTHxHEIGHT sent to the model, to find small things (slower); default: its input size"),
    ] = None,
    codec: Annotated[
        str, typer.Option(help="pictures to workers as jpeg, or i420 (raw: more bytes, no loss)")
    ] = "jpeg",
    encoder: Annotated[str, typer.Option(help="auto, x264 or nvenc")] = "auto",
    preset: Annotated[str, typer.Option(help="x264 preset, ultrafast … veryslow")] = "veryfast",
    crf: Annotated[float, typer.Option(min=0, max=51, help="x264 quality: lower is better")] = 23.0,
    disk_wait: Annotated[
        str, typer.Option(help="lossless: how long to wait for space when a disk is full, before giving up")
    ] = "10m",
    name: Annotated[
        str | None, typer.Option(help="the stream's name in logs and JSON lines (default: from the source)")
    ] = None,
    segment: Annotated[
        str | None,
        typer.Option(help="begin a new file every 10m (a name such as rec-%Y%m%d-%H%M%S.mp4); HLS: a segment's length"),
    ] = None,
    realtime: Annotated[bool, typer.Option("--realtime", help="play a file at its own speed")] = False,
    loop: Annotated[bool, typer.Option("--loop", help="play a file again and again, at its own speed")] = False,
    picture_rate: Annotated[float, typer.Option(min=0.001, help="pictures a second of a folder of pictures")] = 25.0,
    transport: Annotated[str, typer.Option(help="RTSP over tcp or udp")] = "tcp",
    source_timeout: Annotated[
        str, typer.Option(help="a stream that gives no picture for so long has dropped, and is opened again")
    ] = "5s",
    source_wait: Annotated[
        str, typer.Option(help="how long to try a stream that cannot be opened at the start")
    ] = "0s",
    placeholder: Annotated[
        bool, typer.Option("--placeholder", help="live: show a picture that says so while the source is away")
    ] = False,
    placeholder_image: Annotated[Path | None, typer.Option(help="live: show this picture then")] = None,
    on_change: Annotated[
        str, typer.Option(help="a stream that comes back with another size or sound: fit it in, or begin a new part")
    ] = "fit",
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="show the parts' logs")] = False,
) -> None:
    """Annotate SOURCE with a model's findings and write it to every OUTPUT, in order and with its sound in sync."""
    if live and lossless:
        raise UsageError("--live and --lossless exclude each other")
    _choice("--codec", codec, ("jpeg", "i420"))
    _choice("--encoder", encoder, ("auto", "x264", "nvenc"))
    _choice("--transport", transport, ("tcp", "udp"))
    _choice("--on-change", on_change, ("fit", "part"))
    if threshold is not None and not 0 < threshold < 1:
        raise UsageError("--threshold must lie between 0 and 1")
    options = spec.RunOptions(
        source=source,
        outputs=output,
        model=model,
        threshold=threshold,
        workers=workers,
        batch=batch,
        wait=spec.seconds(wait),
        device=device,
        every=every,
        fps=fps,
        mode="live" if live else "lossless" if lossless else None,
        latency=spec.seconds(latency),
        carry=spec.seconds(carry),
        send_size=spec.picture_size(send_size) if send_size else None,
        codec=codec,  # type: ignore[arg-type]
        encoder=encoder,  # type: ignore[arg-type]
        preset=preset,
        crf=crf,
        disk_wait=spec.seconds(disk_wait),
        name=name,
        realtime=realtime,
        loop=loop,
        picture_rate=picture_rate,
        transport=transport,  # type: ignore[arg-type]
        source_timeout=spec.seconds(source_timeout),
        source_wait=spec.seconds(source_wait),
        placeholder=placeholder,
        placeholder_image=str(placeholder_image) if placeholder_image else None,
        on_change=on_change,  # type: ignore[arg-type]
        segment=spec.seconds(segment) if segment else None,
    )
    raise typer.Exit(int(perform(options, verbose)))


def perform(options: spec.RunOptions, verbose: bool = False) -> Exit:
    """Run and show. Raises HeadraceError."""
    display = RunDisplay(verbose)
    job = Run(options, display)
    try:
        code = job()
    finally:
        display.close()
        if job.result is not None and job.result["frames"]:
            display.ledger(job.result)
    if code is Exit.INCOMPLETE:
        _say(incomplete(job.result))
    return code


@app.command()
def models(as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False) -> None:
    """List the models that can be named with --model."""
    done = subprocess.run([sys.executable, "-m", "workers", "--models"], capture_output=True, text=True, check=True)
    entries: list[dict[str, Any]] = json.loads(done.stdout)
    if as_json:
        print(json.dumps(entries, indent=2))
        return
    table = Table(box=None)
    for heading in ("model", "what it finds", "input", "licence"):
        table.add_column(heading)
    for entry in entries:
        table.add_row(entry["name"], entry["what"], entry["size"], entry["licence"])
    Console(highlight=False).print(table)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="where the clip and the annotated video go")] = Path("demo"),
    model: Annotated[str, typer.Option(help="see: headrace models")] = "face",
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="show the parts' logs")] = False,
) -> None:
    """Fetch a short clip with two faces and speech, annotate it, and say where the video is."""
    from deploy.demo import clip

    folder.mkdir(parents=True, exist_ok=True)
    source = clip(folder)
    target = folder / "annotated.mp4"
    options = spec.RunOptions(source=str(source), outputs=[str(target), str(target.with_suffix(".jsonl"))], model=model)
    code = perform(options, verbose)
    if code is Exit.OK:
        print(f"the annotated video, with sound: {target.resolve()}")
    raise typer.Exit(int(code))


app.command(epilog=faults_command.EXAMPLES)(faults_command.faults)


def _choice(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"{option} {value!r} is unknown: choose {', '.join(allowed[:-1])} or {allowed[-1]}")


def main() -> None:
    """Entry point: the user's errors become one line and an exit code."""
    sys.exit(_answer(sys.argv[1:] or ["--help"]))


def _answer(arguments: list[str]) -> int:
    try:
        return int(app(arguments, prog_name="headrace", standalone_mode=False) or 0)
    except HeadraceError as error:
        _say(mask(str(error)))
        return int(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        _say("interrupted")
        return int(Exit.INTERRUPTED)
    except BrokenPipeError:  # whoever read our output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(Exit.INCOMPLETE)
    except Exception as error:  # noqa: BLE001  told below, or shown with its trace
        # The parser's own errors, by their shape: typer brings its parser along, or not, by version.
        if (words := getattr(error, "format_message", None)) is None:
            traceback.print_exc()
            return int(Exit.CRASH)
        where = getattr(getattr(error, "ctx", None), "command_path", "headrace")
        _say(f"{' '.join(words().split()).rstrip('.')}: see {where} --help")
        return int(Exit.USAGE)


def _say(line: str) -> None:
    with contextlib.suppress(OSError):
        print(f"headrace: {line}", file=sys.stderr)


if __name__ == "__main__":
    main()

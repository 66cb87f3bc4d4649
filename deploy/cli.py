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

from common.errors import Exit, HeadraceError
from common.log import mask
from deploy import cli_cluster, cli_file, cli_keys, cli_node, cli_run, cli_streams, spec
from deploy.display import say
from deploy.faults import command as faults_command
from deploy.text import check_text

app = typer.Typer(
    name="headrace",
    help="Live video inference on a fleet of workers: streams in, the annotated streams out.",
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
    """Live video inference on a fleet of workers: streams in, the annotated streams out."""


app.command(epilog=cli_run.EXAMPLES)(cli_run.run)
app.command(epilog=cli_file.INIT_EXAMPLES)(cli_file.init)
app.command(epilog=cli_file.CHECK_EXAMPLES)(cli_file.check)
app.command()(cli_file.schema)
app.command(epilog=cli_node.UP_EXAMPLES)(cli_node.up)
app.command()(cli_node.down)
app.command()(cli_node.status)
app.command(epilog=cli_node.SCALE_EXAMPLES)(cli_node.scale)
app.command(epilog=cli_node.RESTART_EXAMPLES)(cli_node.restart)
app.command()(cli_node.reload)
app.command()(cli_node.logs)
app.command()(cli_node.top)
app.add_typer(cli_streams.app, name="streams")
app.add_typer(cli_cluster.app, name="cluster")
app.add_typer(cli_keys.app, name="keys")


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
    code = cli_run.perform_one(options, verbose)
    if code is Exit.OK:
        print(f"the annotated video, with sound: {target.resolve()}")
    raise typer.Exit(int(code))


app.command(epilog=faults_command.EXAMPLES)(faults_command.faults)


def main() -> None:
    """Entry point: the user's errors become one line and an exit code."""
    code = _answer(sys.argv[1:] or ["--help"])
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # nobody reads it any more, which is no matter of the exit code
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(code)


def _answer(arguments: list[str]) -> int:
    try:
        for argument in arguments:
            check_text(argument)
        return int(app(arguments, prog_name="headrace", standalone_mode=False) or 0)
    except HeadraceError as error:
        say(mask(str(error)))
        return int(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        say("interrupted")
        return int(Exit.INTERRUPTED)
    except BrokenPipeError:  # whoever read our output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(Exit.INCOMPLETE)
    except Exception as error:  # noqa: BLE001  told below, or shown with its trace
        # The parser's own errors, by their shape: typer brings its parser along, or not, by version.
        if (words := getattr(error, "format_message", None)) is None:
            with contextlib.suppress(OSError):
                print(mask(traceback.format_exc()), end="", file=sys.stderr)
            return int(Exit.CRASH)
        where = getattr(getattr(error, "ctx", None), "command_path", "headrace")
        say(mask(f"{' '.join(words().split()).rstrip('.')}: see {where} --help"))
        return int(Exit.USAGE)


if __name__ == "__main__":
    main()

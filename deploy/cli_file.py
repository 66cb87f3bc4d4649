"""``headrace check``, ``init`` and ``schema``: all about the fleet's file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from common.errors import Exit, OutputError, UsageError
from common.files import is_live, local_path
from deploy import spec
from deploy.display import say
from deploy.file import FILE
from deploy.file import schema as schemas
from deploy.file.checkup import check_up, lines, told
from deploy.file.fill import names_only
from deploy.file.mistakes import MAX_TOLD, one_line
from deploy.file.template import filled
from deploy.node.gpus import visible_gpus
from deploy.roles import roles_of

SCHEMA = "headrace.schema.json"
#: The first stream of a file that nobody has said anything about.
NAME, SOURCE = "camera", "rtsp://camera/stream"

CHECK_EXAMPLES = """Examples:

  headrace check

  headrace check /etc/headrace/headrace.toml --role workers

Exit codes: 0 headrace up would start it, 2 it has mistakes.
"""
INIT_EXAMPLES = """Examples:

  headrace init

  headrace init --source 'rtsp://viewer:${CAM_PASSWORD}@camera/stream' --output door.ts --model objects
"""


def check(
    file: Annotated[Path, typer.Argument(help="the fleet's file")] = Path(FILE),
    role: Annotated[
        str, typer.Option(help="what would run on this node: all, or some of broker, workers, sink, producers")
    ] = "all",
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
) -> None:
    """Look a fleet's file over, and what it names: all mistakes are told with their lines. Nothing is started."""
    roles = roles_of([role])
    fleet, book = check_up(file, roles, len(visible_gpus()))
    mistakes = book.sorted()
    if as_json:
        found = [
            {"line": one.line, "column": one.column, "key": one.key, "text": str(one)} for one in mistakes[:MAX_TOLD]
        ]
        about = told(file, fleet, roles, book) if not mistakes else {"file": str(file)}
        print(json.dumps({"ok": not mistakes, "mistakes": found, **about}, indent=2, ensure_ascii=False))
    else:
        for mistake in mistakes[:MAX_TOLD]:
            say(str(mistake))
        if len(mistakes) > MAX_TOLD:
            say(f"… and {len(mistakes) - MAX_TOLD} more mistakes")
        if not mistakes:
            print(f"{file} has no mistakes")
            for what, text in lines(told(file, fleet, roles, book)):
                print(f"{what:8} {text}")
    if mistakes:
        raise typer.Exit(int(Exit.USAGE))


def init(
    file: Annotated[Path, typer.Argument(help="where it is written")] = Path(FILE),
    source: Annotated[str | None, typer.Option(help="source of the first stream: a file, an address, a device")] = None,
    output: Annotated[
        list[str] | None, typer.Option("-o", "--output", help="where that stream goes; may be given several times")
    ] = None,
    model: Annotated[str, typer.Option(help="what the workers run: see headrace models")] = "face",
    name: Annotated[str | None, typer.Option(help="the first stream's name (default: from its source)")] = None,
    force: Annotated[bool, typer.Option("--force", help="write over a file that is there")] = False,
) -> None:
    """Write a fleet's file, with every key explained, to start from; and beside it its schema, for editors."""
    name = name or (spec.stream_name(names_only(source)) if source else NAME)
    outputs = output or [f"{name}.ts" if is_live(source or SOURCE) else f"{name}.annotated.mp4", f"{name}.jsonl"]
    text = filled(
        model=model,
        name=name,
        source=_beside(file, source or SOURCE),
        outputs=[_beside(file, one) for one in outputs] if output else outputs,
        schema=f"./{SCHEMA}",
        file=one_line(str(file)),
    )
    try:
        with file.open("w" if force else "x", encoding="utf-8") as made:
            made.write(text)
        written = _write_schema(file.with_name(SCHEMA))
    except FileExistsError:
        raise UsageError(f"{file} is there already: choose another name, or write over it with --force") from None
    except OSError as error:
        raise OutputError(f"cannot write {error.filename or file}: {error.strerror or error}") from None
    print(f"wrote {file}{f', and {SCHEMA} for editors' if written else ''}")
    print(f"next: headrace check {file}, then headrace up -c {file}")


def schema() -> None:
    """Print the JSON schema of the fleet's file, by which editors complete and check it."""
    print(schemas.text(), end="")


def _beside(file: Path, typed: str) -> str:
    """A path from the folder of ``file`` on: it is typed from here."""
    path = local_path(typed)
    folder = file.absolute().parent
    if path is None or path.is_absolute() or folder == Path.cwd() or "${" in typed:
        return typed
    return os.path.relpath(path.absolute(), folder) + ("/" if typed.endswith("/") else "")


def _write_schema(path: Path) -> bool:
    """Unless somebody has a file of that name which is none of ours. Raises OSError."""
    try:
        if json.loads(path.read_bytes()).get("title") != schemas.TITLE:
            return False
    except FileNotFoundError:
        pass
    except (ValueError, AttributeError):
        return False
    path.write_text(schemas.text(), encoding="utf-8")
    return True

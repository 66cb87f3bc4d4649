"""A node under supervisor: ``headrace up``, ``down``, ``status``, ``scale``, ``restart``, ``reload``, ``logs``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from common.errors import Exit, LinkError, UsageError
from deploy import spec
from deploy.display import say
from deploy.file import FILE
from deploy.fleetfile import FleetFile
from deploy.node import changes, lifecycle
from deploy.node.folder import NodeFolder
from deploy.node.node import Node, Tell
from deploy.node.ready import look

UP_EXAMPLES = """Examples:

  headrace up

  headrace up -c cameras.toml --role broker,sink,producers

  headrace up -c gpu-node.toml --role workers

  headrace up -n -c /etc/headrace/headrace.toml   (in the foreground: for systemd and containers)
"""
SCALE_EXAMPLES = """Examples:

  headrace scale workers=6

  headrace scale workers=+2
"""
RESTART_EXAMPLES = """Examples:

  headrace restart worker-3

  headrace restart workers   (one after the other: no frame is lost)

  headrace restart all
"""
DEFAULT = Path(FILE)

File = Annotated[
    Path | None,
    typer.Option("-c", "--config", help="the fleet's file (default: headrace.toml here)", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="for programs")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="say each step")]


def up(
    file: File = None,
    role: Annotated[
        str, typer.Option(help="what runs on this node: all, or some of broker, workers, sink, producers, with commas")
    ] = "all",
    foreground: Annotated[
        bool, typer.Option("-n", "--foreground", help="stay in the foreground until the end")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="begin anew: forget workers and streams changed by hand, and what has ended")
    ] = False,
    wait: Annotated[bool, typer.Option(help="wait until all parts work")] = True,
) -> None:
    """Start the node that the file describes, under supervisor, and say how it is."""
    node = lifecycle.prepare(file or DEFAULT, role, fresh, say)
    if foreground:
        lifecycle.become(node)
    lifecycle.start(node)
    if wait:
        _wait(node)
        _summary(node)


def down(
    file: File = None,
    finish: Annotated[
        bool, typer.Option("--finish", help="bring all streams to their end; else the next up goes on with them")
    ] = False,
    wait: Annotated[str, typer.Option(help="with --finish: how long what is under way may take")] = "30s",
) -> None:
    """Stop the node. Streams are left so that the next headrace up goes on with them."""
    node = node_of(file)
    changes.check_running(node)
    lifecycle.stop(node, spec.seconds(wait) if finish else None)
    say("down")


def status(file: File = None, as_json: Json = False) -> None:
    """Show the node: its parts, streams and workers, and what is wrong. Exit code 6 where something is."""
    from deploy.node.show import show

    node = node_of(file)
    changes.check_running(node)
    snapshot = look(node.folder) or lifecycle.bare(node)
    if as_json:
        print(json.dumps(snapshot, indent=2, ensure_ascii=False))
    else:
        show(snapshot, Console(highlight=False))
    if not snapshot.get("ready"):
        raise typer.Exit(int(Exit.LINK))


def scale(
    wanted: Annotated[list[str], typer.Argument(metavar="workers=N", show_default=False)], file: File = None
) -> None:
    """Run more or fewer workers on this node; the others go on, and those that leave finish what they hold."""
    node = node_of(file, say)
    changes.check_running(node)
    for one in wanted:
        found = re.fullmatch(r"workers=([+-]?)(\d{1,6})", one)
        if found is None:
            raise UsageError(f"{one!r} cannot be scaled: write workers=N, workers=+N or workers=-N")
        say(changes.scale(node, int(f"{found[1]}{found[2]}"), relative=bool(found[1])))


def restart(
    part: Annotated[
        list[str],
        typer.Argument(
            help="broker, sink, workers, worker-N, producers, a stream's name, agent, or all", show_default=False
        ),
    ],
    file: File = None,
) -> None:
    """Start parts again, one after the other, each when the one before works: no frame of a lossless stream is lost."""
    node = node_of(file, say)
    changes.check_running(node)
    say(lifecycle.restart(node, part))


def reload(file: File = None) -> None:
    """Apply the changed file: only what has changed is started again."""
    node = node_of(file, say)
    changes.check_running(node)
    state = node.state
    say(changes.reload(node, lifecycle.read(FleetFile(Path(state.file)), state, node.folder)))


def logs(
    part: Annotated[str, typer.Argument(help="as headrace status names it; supervisord too", show_default=False)],
    file: File = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="go on with what comes")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="so many of the last lines")] = 50,
    raw: Annotated[bool, typer.Option("--json", help="the lines as they are")] = False,
) -> None:
    """Show a part's log."""
    from deploy.node import logfiles

    node = node_of(file)
    logfiles.show(logfiles.path_of(node, part), lines, follow, raw)


def top(
    file: File = None,
    every: Annotated[str, typer.Option(help="between two looks")] = "1s",
) -> None:
    """Watch the node: streams, workers, parts (Ctrl-C ends)."""
    from deploy.node.show import watch

    node = node_of(file)
    changes.check_running(node)
    watch(lambda: look(node.folder), max(0.2, spec.seconds(every)))


def node_of(file: Path | None, tell: Tell = lambda text: None) -> Node:
    """The node that a command is about. Raises UsageError, LinkError."""
    return Node(NodeFolder(lifecycle.folder_of(file or DEFAULT)), tell)


def _wait(node: Node) -> None:
    from deploy.node.show import waiting

    try:
        with waiting("starting"):
            node.wait_ready(list(node.parts().values()))
    except LinkError as error:
        raise LinkError(f"{error}; the rest runs: headrace status, headrace logs PART, headrace down") from None


def _summary(node: Node) -> None:
    from deploy.node.show import show

    snapshot = look(node.folder)
    if snapshot:
        show(snapshot, Console(highlight=False))
    page = node.fleet().page
    if page.enabled:
        token = "" if page.token else f" (to change things: the token in {node.folder.token})"
        say(f"the page: http://{page.listen}/{token}")
    if snapshot.get("unready"):
        raise LinkError(f"{'; '.join(snapshot['unready'])}; the rest runs: headrace status, headrace down")

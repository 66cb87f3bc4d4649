"""``headrace cluster``: workers of a fleet on a Ray cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from common.errors import Exit
from deploy import spec
from deploy.cluster import order as o
from deploy.cluster import placing, table
from deploy.cluster.joining import joined
from deploy.cluster.rows import WELL
from deploy.display import say
from deploy.file import FILE

app = typer.Typer(
    help="Place workers on a Ray cluster: one a GPU, started again when they die or their node is lost.",
    rich_markup_mode=None,
)

UP_EXAMPLES = """Examples:

  headrace cluster up -c headrace.toml

  headrace cluster up -c headrace.toml --per-node 2 --cpus 4

  headrace cluster scale workers=12
"""

Address = Annotated[
    str | None,
    typer.Option(help="the Ray cluster: auto (this machine is one of its nodes), host:port, or ray://host:10001"),
]
FleetName = Annotated[
    str | None, typer.Option("--fleet", help="which fleet, where several are placed on the cluster: its name")
]
Wait = Annotated[str, typer.Option(help="how long the workers may take to be ready; 0: not waited for")]
Drain = Annotated[str, typer.Option(help="how long a worker may take to finish what it holds; then it is killed")]


@app.command(epilog=UP_EXAMPLES)
def up(
    file: Annotated[Path, typer.Option("-c", "--config", help="the fleet's file")] = Path(FILE),
    fleet: Annotated[str, typer.Option(help="the fleet's name on the cluster")] = "default",
    address: Address = None,
    workers: Annotated[int | None, typer.Option(min=0, help="how many (default: one a GPU, or one a node)")] = None,
    per_node: Annotated[int | None, typer.Option(min=0, help="how many for each node, instead of --workers")] = None,
    cpus: Annotated[
        float | None, typer.Option(min=0.01, help="CPUs that a worker takes (default: its threads, or 1)")
    ] = None,
    wait: Wait = "60s",
    drain: Drain = "10s",
) -> None:
    """Place the fleet's workers; again, after the file has changed, to replace them one by one."""
    seconds, grace = spec.seconds(wait), spec.seconds(drain)
    o.check_name(fleet)
    with joined(address) as ray:
        nodes = ray.nodes()
        order, settings = o.order_of(file, cpus, nodes)
        count = o.count_of(order, settings.workers, nodes, workers, per_node)
        if warning := o.unreachable(settings, nodes):
            say(warning)
        placed = placing.Placed(ray, fleet)
        changed, before = placed.open(order), placed.names()
        placed.scale(count, grace)
        if changed:
            placed.replace([name for name in placed.names() if name in before], grace)
        _end(placed, seconds)


@app.command()
def scale(
    target: Annotated[str, typer.Argument(help="workers=N", show_default=False)],
    fleet: FleetName = None,
    address: Address = None,
    wait: Wait = "60s",
    drain: Drain = "10s",
) -> None:
    """Have so many workers: further ones are placed, those that are too many finish what they hold and leave."""
    count, seconds, grace = o.target_of(target), spec.seconds(wait), spec.seconds(drain)
    with joined(address) as ray:
        placed = placing.find(ray, fleet)
        placed.scale(count, grace)
        _end(placed, seconds)


@app.command()
def status(
    fleet: FleetName = None,
    address: Address = None,
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
) -> None:
    """Show each worker: its state, node, GPU, pid, how often it was started again and why."""
    with joined(address) as ray:
        placed = placing.find(ray, fleet)
        rows = placed.rows()
    if as_json:
        print(json.dumps(table.as_data(placed.fleet, rows), indent=2, ensure_ascii=False))
        return
    table.show(rows)
    print(f"fleet {placed.fleet}: {table.count(rows)}")


@app.command()
def down(fleet: FleetName = None, address: Address = None, drain: Drain = "10s") -> None:
    """Remove the fleet's workers from the cluster, after they have finished what they hold."""
    grace = spec.seconds(drain)
    with joined(address) as ray:
        placed = placing.find(ray, fleet)
        number = placed.down(grace)
    print(f"fleet {placed.fleet}: {number} worker{'' if number == 1 else 's'} removed")


def _end(placed: placing.Placed, seconds: float) -> None:
    """Wait for all, say how they are; exit code 6 where some are not ready in time."""
    rows = placed.settle(placed.wanted(), seconds)
    table.show(rows)
    print(f"fleet {placed.fleet}: {table.count(rows)}")
    if seconds and any(row.state not in WELL for row in rows):
        raise typer.Exit(int(Exit.LINK))

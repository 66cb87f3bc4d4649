"""``headrace keys``: who may speak to whom, once a fleet goes over networks."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from common.errors import UsageError
from common.keyfiles import DIALS, ROLES, Entry, Role
from deploy import keys_folder as folders
from deploy.file import FILE
from deploy.text import check_text

app = typer.Typer(
    help="Make keys, show them, and say whose are let in. With keys, all that goes over tcp is encrypted.",
    rich_markup_mode=None,
)

NEW_EXAMPLES = """Examples:

  headrace keys new

  headrace keys new --role worker --name gpu7

  headrace keys new --role worker --name gpu7 -o gpu7.key
"""
SHOW_EXAMPLES = """Examples:

  headrace keys show

  headrace keys show --keys /etc/headrace/keys --json
"""
ALLOW_EXAMPLES = """Example, with the public key that headrace keys new told on the other node:

  headrace keys allow worker gpu7 'zXE2^HEcG=Qk6SiDxV=Y2ynUjJ+fDNz^sj:M#qLa'
"""
REVOKE_EXAMPLES = """Example:

  headrace keys revoke gpu7
"""

File = Annotated[
    Path | None, typer.Option("-c", "--config", help="the fleet's file, whose [security] keys names the folder")
]
Keys = Annotated[
    Path | None, typer.Option("--keys", help="the folder of keys (default: that of ./headrace.toml, else ./keys)")
]


@app.command(epilog=NEW_EXAMPLES)
def new(
    role: Annotated[str | None, typer.Option(help=f"for one other node: {', '.join(ROLES)}")] = None,
    name: Annotated[str | None, typer.Option(help="with --role: what the key is called in lists and logs")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="with --role: a file ….key, or a folder (default: NAME)")
    ] = None,
    config: File = None,
    keys: Keys = None,
) -> None:
    """Make the keys of a whole fleet and let them in; with --role one key for another node."""
    folder = folders.find_folder(config, keys)
    if role is None:
        if name is not None or output is not None:
            raise UsageError("--name and -o are for one key: say --role too, or leave them out")
        made = folders.make_all(folder)
        for key in made:
            print(f"made {folder / key.role}.key")
        print(f"let in, by {folder / folders.ALLOWED}: {', '.join(DIALS)}")
        if config is None and folder == Path(folders.FOLDER):
            print(f'\nnext, on this node: write into {FILE}\n\n[security]\nkeys = "{folder}"')
        print("\nnext, for each other node: headrace keys new --role worker --name NAME")
        return
    if name is None:
        raise UsageError("a key for another node needs a --name, such as the node's")
    key, path = folders.make_one(
        folders.check_role(role), folders.check_name(name), Path(check_text(str(output or name)))
    )
    print(f"made {path}: bring it to the node, as {key.role}.key in its folder of keys (0700), and leave no copy")
    _tell_next(key.entry, folder)


def _tell_next(entry: Entry, folder: Path) -> None:
    number = 1
    if entry.role in DIALS:
        where = "broker and sink run" if entry.role != "broker" else "the sink runs"
        print(f"\n{number}. let it in, where {where}:\n")
        print(f"headrace keys allow {entry.role} {entry.name} {shlex.quote(entry.public)}")
        number += 1
    print(f'\n{number}. on the node, write into headrace.toml:\n\n[security]\nkeys = "{folders.FOLDER}"')
    known = {held.key.role: held.key for held in folders.look(folder).own if held.key} if folder.is_dir() else {}
    servers: tuple[Role, ...] = ("broker", "sink")
    for server in servers:
        if server != entry.role:
            public = known[server].public if server in known else f"(see headrace keys show where the {server} runs)"
            print(f'{server} = "{public}"')


@app.command(epilog=SHOW_EXAMPLES)
def show(
    config: File = None,
    keys: Keys = None,
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
) -> None:
    """Show the public keys: this node's own, and those that are let in. Secret keys are never shown."""
    folder = folders.find_folder(config, keys)
    shown = folders.look(folder)
    if as_json:
        own = [
            {"file": str(held.path), "problem": held.problem} if held.key is None
            else {"file": str(held.path), "role": held.key.role, "name": held.key.name, "public": held.key.public}
            for held in shown.own
        ]  # fmt: skip
        allowed = [{"role": one.role, "name": one.name, "public": one.public} for one in shown.allowed]
        print(json.dumps({"folder": str(folder), "own": own, "allowed": allowed, "problem": shown.problem}, indent=2))
        return
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 1000  # a program reads it: a key a line
    table = Table(box=None)
    for heading in ("", "role", "name", "public key"):
        table.add_column(heading, overflow="fold")
    for held in shown.own:
        if held.key is not None:
            table.add_row("own", held.key.role, held.key.name, held.key.public)
    for one in shown.allowed:
        table.add_row("let in", one.role, one.name, one.public)
    console.print(table)
    for problem in [*(held.problem for held in shown.own), shown.problem]:
        if problem:
            console.print(problem, soft_wrap=True)


@app.command(epilog=ALLOW_EXAMPLES)
def allow(
    role: Annotated[str, typer.Argument(help=f"what it may be: {', '.join(DIALS)}", show_default=False)],
    name: Annotated[str, typer.Argument(help="what it is called in lists and logs", show_default=False)],
    public: Annotated[
        str,
        typer.Argument(
            help="its public key, in single quotes; after -- where it begins with a dash", show_default=False
        ),
    ],
    config: File = None,
    keys: Keys = None,
) -> None:
    """Let a key in, within a second; nothing is started again. Broker and sink on different nodes have a list each."""
    entry = Entry(
        role=folders.check_role(role, DIALS), name=folders.check_name(name), public=folders.check_public(public)
    )
    folder = folders.find_folder(config, keys)
    new = folders.allow(folder, entry)
    print(f"{entry.role} {entry.name} is let in{'' if new else ' already'}")


@app.command(epilog=REVOKE_EXAMPLES)
def revoke(
    which: Annotated[str, typer.Argument(metavar="NAME|PUBLIC", help="its name, or itself", show_default=False)],
    config: File = None,
    keys: Keys = None,
) -> None:
    """No longer let a key in: within a second, what it sends is dropped, also over connections that it has."""
    entry = folders.revoke(folders.find_folder(config, keys), which)
    print(f"{entry.role} {entry.name} is no longer let in ({entry.public})")

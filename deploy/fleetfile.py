"""A fleet as a person writes it, in TOML: what can be left out is filled in, and an error names line, key and value.

``[[streams]]`` entries have the keys of the configuration (common/config.py), and what they share stands once in
``[defaults]``. Outputs are written as on the command line, durations and sizes too where that is easier to read, and
``${NAME}`` in any text comes from the environment. ::

    [workers]
    model = "face"

    [defaults]
    latency = "300ms"

    [[streams]]
    name = "door"
    source = "rtsp://viewer:${CAM_PASSWORD}@door/stream"
    outputs = ["door.ts", "rtmp://server/live/door", {path = "door.txt", kind = "jsonl"}]

``headrace run -c`` takes paths from the folder on in which it is called; a node, from the file's.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from common import config
from common.errors import UsageError
from deploy import spec
from deploy.file import written
from deploy.file.fill import fill
from deploy.file.lines import FileLines
from deploy.file.mistakes import Mistakes, meant
from deploy.file.node import check_addresses, check_links, node_tables, security_table
from deploy.file.streams import StreamTables, Use
from deploy.file.toml import read_toml
from deploy.roles import roles_of

#: What describes the fleet; [defaults] and [[streams]] describe the streams.
SECTIONS: dict[str, type[config.Section]] = {
    "workers": config.Workers,
    "broker": config.Broker,
    "sink": config.Sink,
    "security": config.Security,
    "metrics": config.Metrics,
    "page": config.Page,
    "node": config.Node,
}
KEYS = ("run", *SECTIONS, "defaults", "streams")
#: Keys of sections that the configuration needs, and that are chosen here where they are left out.
CHOSEN = {"workers": ("model",), "broker": ("frames", "workers", "news"), "sink": ("media", "results")}
#: A node's streams have room for frames of so many workers at least, since workers come and go.
SCALED = 8

Table = dict[str, Any]


class FleetFile:
    """The file ``path``, read once. Raises UsageError where it cannot be read; what else is wrong with it, the methods
    raise, the first mistake only."""

    def __init__(self, path: Path, environment: Mapping[str, str] = os.environ) -> None:
        self._path = path
        #: The folder of the file: where relative paths of a node start.
        self.base = Path(os.path.abspath(path)).parent
        found, text = read_toml(path)
        try:
            raw, filled, missing = fill(found, environment)
        except RecursionError:
            raise UsageError(f"cannot read {path}: it is nested too deep") from None
        self._book = book = Mistakes(str(path), FileLines(text), filled)
        for one in missing:
            book.add(one.path, one.why, one.written)
        for key in raw.keys() - set(KEYS):
            book.add((key,), f"there is no such key{meant(key, KEYS)}", at_key=True)
        self._raw: Table = {}
        #: ``count = "auto"``, or left out: as many workers as GPUs can take.
        self._auto = False
        for name, kind in SECTIONS.items():
            table = raw.get(name, {})
            if not isinstance(table, dict):
                book.add((name,), f"write [{name}]", table)
                continue
            if name == "workers" and table.get("count", "auto") == "auto":
                self._auto, table = True, {key: value for key, value in table.items() if key != "count"}
            plain = written.read(table, kind, (name,), book, CHOSEN.get(name, ()))
            if name in raw:
                self._raw[name] = plain
        if "run" in raw:
            if isinstance(raw["run"], str):
                self._raw["run"] = raw["run"]
            else:
                book.add(("run",), "allowed is a text", raw["run"])
        check_addresses(self._raw, book)
        for name, table in self._raw.items():  # what is wrong shall not be in the way of what is right
            if isinstance(table, dict):
                self._raw[name] = {key: value for key, value in table.items() if not book.below((name, key))}
        self._streams = StreamTables(path, raw.get("defaults", {}), raw.get("streams", []), book)

    @property
    def folder(self) -> Path:
        """Where ``headrace up`` keeps what is the node's; whatever else is wrong with the file. Raises UsageError."""
        if self._book.below(("node", "folder")):
            self._book.settle()
        return self._folder

    @property
    def _folder(self) -> Path:
        folder = self._raw.get("node", {}).get("folder", config.Node().folder)
        return Path(os.path.normpath(self.base / folder))

    def fleet(self, folder: Path, workers: Table | None = None, sink: Table | None = None) -> config.Fleet:
        """The whole fleet of ``headrace run``, its sockets in ``folder`` where the file names none. ``workers`` and
        ``sink``: keys of these sections that stand above the file's.

        Raises UsageError, SourceError, OutputError.
        """
        book = self._book.copy()
        if not self._streams.several:
            book.add(("streams",), "write one [[streams]] entry or more")
        ours = written.read(
            {"model": "face", **self._raw.get("workers", {}), **(workers or {})}, config.Workers, ("workers",), book
        )
        if ours.get("count") == 0 and "workers" not in self._raw.get("broker", {}):
            book.add(
                ("workers", "count"), "without a worker, nothing comes out: allowed is a whole number from 1 to 256", 0
            )
        book.settle()
        security = security_table(self._raw, self.base)
        raw = {
            **self._raw,
            "workers": ours,
            "sink": {**self._raw.get("sink", {}), **(sink or {})},
            "security": security,
        }
        fleet = msgspec.convert(spec.endpoints(folder, raw), config.Fleet)
        streams = self._streams.all(Use(fleet.workers, folder, self._served(fleet)), book)
        book.settle()
        return msgspec.structs.replace(fleet, streams=streams)

    def node(self, folder: Path, roles: frozenset[str], gpus: int) -> config.Fleet:
        """What the parts of a node read that runs ``roles`` and has ``gpus`` GPUs: sockets in ``folder`` where the file
        names no address, paths from the folder of the file on. Streams are left out where nobody here needs them, and
        ``run`` is empty where the file does not name it.

        Raises UsageError, SourceError, OutputError.
        """
        book = self._book.copy()
        book.settle()
        fleet = self._node(folder, roles_of(roles), gpus, book)
        book.settle()
        return fleet

    def check(self, roles: frozenset[str], gpus: int) -> tuple[config.Fleet, Mistakes]:
        """As :meth:`node`, in its folder, but nothing is made, and all mistakes are told. With mistakes, the fleet is
        what is left without them."""
        book = self._book.copy()
        fleet = self._node(self._folder, roles_of(roles), gpus, book, look_only=True)
        return fleet, book

    def only_streams(self, workers: config.Workers, folder: Path) -> list[config.Stream]:
        """The streams, to be added to a fleet with such workers that has its own private ``folder``.

        Raises UsageError, SourceError, OutputError.
        """
        book = self._book.copy()
        for key in self._raw:
            book.add((key,), "a running fleet has its own: leave it out of a file with streams to add", at_key=True)
        if not self._streams.several:
            book.add(("streams",), "write one [[streams]] entry or more")
        book.settle()
        streams = self._streams.all(Use(workers, folder), book)
        book.settle()
        return streams

    def _node(
        self, folder: Path, roles: frozenset[str], gpus: int, book: Mistakes, look_only: bool = False
    ) -> config.Fleet:
        raw = node_tables(self._raw, self.base, folder, roles, gpus if self._auto else None)
        fleet = msgspec.convert(spec.endpoints(folder, raw), config.Fleet)
        check_links(fleet, self._raw, roles, book)
        if roles & {"sink", "producers"}:
            use = Use(
                workers=msgspec.structs.replace(fleet.workers, count=_room(fleet.workers.count)),
                folder=folder,
                served=self._served(fleet) if "workers" in roles else None,
                base=self.base,
                reads="producers" in roles,
                writes="sink" in roles,
                look_only=look_only,
            )
            fleet = msgspec.structs.replace(fleet, streams=self._streams.all(use, book))
        return fleet

    def _served(self, fleet: config.Fleet) -> str | None:
        """Workers of other models can come only where the broker's address is known outside."""
        return None if "workers" in self._raw.get("broker", {}) else fleet.workers.model


def _room(count: int) -> int:
    """For how many workers a stream has frames under way: in steps, so that one worker more changes no stream."""
    room = SCALED
    while room < count:
        room *= 2
    return room

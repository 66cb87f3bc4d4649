"""What the streams of a fleet read and write: no two write one place, and none writes what is read.

Each path is looked at once, as it is now, also through links, and found by its names; so many streams cost as much as
each of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from glob import has_magic
from pathlib import Path
from typing import Literal

from common.config import Stream, place_of
from common.files import is_pictures, local_path
from common.log import mask

#: What a place is found by: its name, and where there is a file its device and number.
Key = str | tuple[int, int]
#: Endings of pictures: no output has them by itself.
PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
#: How pieces of an output are named: segments ``a-000001.mp4``, and the parts after a restart ``a.part2.mp4``.
_PIECE = re.compile(r"(.+?)(?:(-)[0-9]{6,}|(\.part)[0-9]+)(\.[^.]*)?")
_CALLED = {"-": "segment", ".part": "part"}
What = Literal["output", "ledger", "source", "placeholder image", "file of the fleet"]


@dataclass(frozen=True, slots=True)
class _Spot:
    """One path that ``stream`` reads or writes."""

    stream: str
    what: What
    path: str
    keys: tuple[Key, ...]
    #: Names that pieces of it can have, and that it has as a piece: (kind, name).
    makes: tuple[tuple[str, str], ...] = ()
    piece_of: tuple[str, str] | None = None
    #: It stands for many: all pictures of a folder, or all that match a pattern (its steps).
    pictures: bool = False
    steps: tuple[str, ...] = ()

    @property
    def writes(self) -> bool:
        return self.what in ("output", "ledger")

    @property
    def name(self) -> str:
        return self.path if self.what == "output" else f"the {self.what} {self.path}"

    def holds(self, other: _Spot) -> bool:
        """Whether ``other`` is one of the many."""
        path = other.keys[0]
        if not isinstance(path, str) or "://" in path:
            return False
        if self.pictures:
            return os.path.dirname(path) == self.keys[0] and Path(path).suffix.lower() in PICTURES
        return _matches(self.steps, tuple(path.split("/")))


@dataclass(slots=True)
class _Table:
    """Spots, by all that they are found by."""

    writes: dict[Key, _Spot] = field(default_factory=dict)
    reads: dict[Key, _Spot] = field(default_factory=dict)
    makers: dict[tuple[str, str], _Spot] = field(default_factory=dict)
    pieces: dict[tuple[str, str], _Spot] = field(default_factory=dict)
    many: list[_Spot] = field(default_factory=list)

    def enter(self, spot: _Spot) -> None:
        table = self.writes if spot.writes else self.reads
        table.update(dict.fromkeys(spot.keys, spot))
        self.makers.update(dict.fromkeys(spot.makes, spot))
        if spot.piece_of is not None:
            self.pieces[spot.piece_of] = spot
        if spot.pictures or spot.steps:
            self.many.append(spot)

    def same(self, spot: _Spot) -> _Spot | None:
        """One that is of the same place, and cannot be."""
        tables = [self.writes, self.reads] if spot.writes or spot.path == "-" else [self.writes]
        for table in tables:
            for key in spot.keys:
                if (found := table.get(key)) is not None:
                    return found
        if spot.writes:
            return next((one for one in self.many if one.holds(spot)), None)
        if spot.pictures or spot.steps:
            return next((one for one in self.writes.values() if spot.holds(one)), None)
        return None

    def whole(self, spot: _Spot) -> tuple[str, _Spot, _Spot] | None:
        """What kind of piece one of two is of the other: (kind, piece, whole)."""
        if spot.piece_of is not None and (maker := self.makers.get(spot.piece_of)) is not None:
            return spot.piece_of[0], spot, maker
        for key in spot.makes:
            if (piece := self.pieces.get(key)) is not None:
                return key[0], piece, spot
        return None


class Places:
    """Those of ``streams``, which do not clash."""

    def __init__(self, streams: Iterable[Stream] = ()) -> None:
        self._names: set[str] = set()
        self._table = _Table()
        for stream in streams:
            self._take(stream.name, list(_spots(stream)))

    def keep(self, path: Path) -> None:
        """Nobody may write the fleet's own file."""
        self._table.enter(_Spot("", "file of the fleet", str(path), _keys(str(path))))

    def add(self, stream: Stream) -> str:
        """Take ``stream`` up, and return ""; or why it cannot run beside the others, or at all."""
        if stream.name in self._names:
            return f"there is a stream {stream.name!r} already: choose another name"
        spots, own = list(_spots(stream)), _Table()
        for spot in spots:
            for table in (own, self._table):
                if (other := table.same(spot)) is not None:
                    return _clash(spot, other)
                if (found := table.whole(spot)) is not None:
                    kind, piece, whole = found
                    name = f"{mask(piece.name)} is a {_CALLED[kind]} of {mask(whole.path)}"
                    return f"{name}, and would be written over: name another output"
            own.enter(spot)
        self._take(stream.name, spots)
        return ""

    def _take(self, name: str, spots: list[_Spot]) -> None:
        self._names.add(name)
        for spot in spots:
            self._table.enter(spot)


def clash(stream: Stream, others: Iterable[Stream] = ()) -> str:
    """Why ``stream`` cannot run beside ``others``, "" where it can. Of many streams, ask :class:`Places`."""
    return Places(others).add(stream)


def _clash(spot: _Spot, other: _Spot) -> str:
    """``spot`` cannot be, since ``other`` is."""
    name = mask(spot.name)
    if spot.path == "-" and other.path == "-":
        return f"standard input is the source of stream {other.stream!r} already: name another source"
    if "ledger" == spot.what == other.what:
        return (
            f"streams {other.stream!r} and {spot.stream!r} would write one ledger, {spot.path}: "
            "their first outputs may not differ in the ending alone"
        )
    own = other.stream == spot.stream
    if not other.writes and other.path != spot.path and (other.pictures or other.steps):
        whose = "" if own else f" of stream {other.stream!r}"
        return f"{name} is one of the pictures that are the source{whose}, {mask(other.path)}: name another {spot.what}"
    if other.what == "file of the fleet":
        return f"{name} is the file of the fleet: choose another {spot.what}"
    if own and spot.what == other.what:
        return f"{name} is named twice as an output: leave one out"
    if own:
        article = "an output too" if other.what == "output" else f"the {other.what} itself"
        return f"{name} is {article}: name another {spot.what}"
    article = "an output" if other.what == "output" else f"the {other.what}"
    already = " already" if spot.what == other.what else ""
    cure = "one" if spot.what == other.what else spot.what
    return f"{name} is {article} of stream {other.stream!r}{already}: choose another {cure}"


def _spots(stream: Stream) -> Iterator[_Spot]:
    """What is read first, so that what is written is to blame."""
    yield _read(stream, "source", stream.source)
    if stream.placeholder_image is not None:
        yield _read(stream, "placeholder image", stream.placeholder_image)
    for output in stream.outputs:
        makes: list[tuple[str, str]] = []
        if "://" not in output.path and "%" not in output.path and output.kind != "jsonl":
            at = place_of(output.path)
            if output.kind == "hls":
                stem = re.sub(r"[^A-Za-z0-9_.-]", "_", Path(at).stem)  # as the playlist's segments are called
                makes.append(("-", str(Path(at).with_name(f"{stem}.ts"))))
            else:
                makes.append((".part", at))
                if output.segment is not None:
                    makes.append(("-", at))
        yield _Spot(stream.name, "output", output.path, _keys(output.path), tuple(makes), _piece(output.path))
    if stream.ledger is not None:
        yield _Spot(stream.name, "ledger", stream.ledger, _keys(stream.ledger), (), _piece(stream.ledger))


def _read(stream: Stream, what: What, address: str) -> _Spot:
    path = local_path(address)
    if path is None:
        return _Spot(stream.name, what, address, ("-",) if address == "-" else _keys(address))
    text = str(path)
    if not is_pictures(text):
        return _Spot(stream.name, what, text, _keys(text), (), _piece(text))
    if not has_magic(text) or os.path.isdir(text):
        return _Spot(stream.name, what, text, _keys(text), pictures=True)
    # The names before the pattern may be links.
    steps = Path(os.path.abspath(text)).parts
    plain = next(number for number, step in enumerate(steps) if has_magic(step))
    real = place_of(str(Path(*steps[:plain])))
    return _Spot(stream.name, what, text, _keys(text), steps=(*real.rstrip("/").split("/"), *steps[plain:]))


def _keys(path: str) -> tuple[Key, ...]:
    """All that names the place of ``path``, a file or an address; its own name first."""
    name = place_of(path)
    if "://" not in path:
        try:
            found = os.stat(path)
        except (OSError, ValueError):
            return (name,)
        return (name, (found.st_dev, found.st_ino))
    return (name,)


def _piece(path: str) -> tuple[str, str] | None:
    """Of what ``path`` has the name of a piece."""
    if "://" in path:
        return None
    folder, name = os.path.split(place_of(path))
    found = _PIECE.fullmatch(name)
    return None if found is None else (found[2] or found[3], os.path.join(folder, found[1] + (found[4] or "")))


def _matches(steps: tuple[str, ...], path: tuple[str, ...]) -> bool:
    """Whether ``glob`` finds ``path`` by the pattern ``steps``."""
    if not steps or not path:
        return not steps and not path
    if steps[0] == "**":
        return len(steps) == 1 or any(_matches(steps[1:], path[at:]) for at in range(len(path)))
    return fnmatchcase(path[0], steps[0]) and _matches(steps[1:], path[1:])

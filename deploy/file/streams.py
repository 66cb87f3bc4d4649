"""``[[streams]]`` and ``[defaults]`` of a fleet's file, and the streams that they make."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import config
from common.errors import HeadraceError, OutputError, UsageError
from common.files import check_output_file, check_source_file, is_live, local_path
from deploy import spec
from deploy.file import written
from deploy.file.fill import names_only
from deploy.file.lines import Path as Keys
from deploy.file.mistakes import Mistakes
from deploy.outputs import output_of, share_segment
from deploy.places import Places

#: What no two streams can share.
OWN = ("name", "source", "outputs", "ledger")
#: Keys that are read otherwise, or chosen where they are left out.
CHOSEN = ("name", "model", "outputs", "segment")
LIST = 'write a list of outputs, such as ["out.mp4"]'
OUTPUT = "an output is a text or {path = …, kind = …}"

Table = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Use:
    """For what streams are made: whose workers, in whose private ``folder``."""

    workers: config.Workers
    folder: Path
    #: The only model that is served; None: workers of other models may come.
    served: str | None = None
    #: Where paths start; None: they stay as they are.
    base: Path | None = None
    #: Whether this machine has the sources, and the outputs: else they are not looked at.
    reads: bool = True
    writes: bool = True
    #: Nothing is made.
    look_only: bool = False


class StreamTables:
    """The tables, read once; what is wrong with them as they are is told to ``book``."""

    def __init__(self, path: Path, defaults: Any, entries: Any, book: Mistakes) -> None:
        self._path = path
        self._defaults: Table = {}
        if isinstance(defaults, dict):
            for key in defaults.keys() & set(OWN):
                book.add(("defaults", key), "each stream has its own: write it there", at_key=True)
            self._defaults = self._table(defaults, ("defaults",), book)
        else:
            book.add(("defaults",), "write [defaults]", defaults)
        self._entries: list[Table] = []
        if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
            book.add(("streams",), "write [[streams]] entries", entries)
            entries = []
        for number, one in enumerate(entries):
            at: Keys = ("streams", number)
            if "source" not in one:
                book.add((*at, "source"), 'this key is missing: write source = "…", a file or an address')
            entry = self._table(one, at, book)
            entry["outputs"] = self._outputs(one.get("outputs"), (*at, "outputs"), book)
            self._entries.append(entry)

    @property
    def several(self) -> int:
        return len(self._entries)

    def _table(self, table: Table, at: Keys, book: Mistakes) -> Table:
        rest = {key: value for key, value in table.items() if key != "outputs"}
        plain = written.read(rest, config.Stream, at, book, (*CHOSEN, "source"))
        if "segment" in rest:
            plain |= written.read({"segment": rest["segment"]}, config.Output, at, book, ("path", "kind"))
        return plain

    def _outputs(self, given: Any, at: Keys, book: Mistakes) -> list[Table]:
        if not isinstance(given, list) or not given:
            book.add(at, LIST, given)
            return []
        found = []
        for number, one in enumerate(given):
            here = (*at, number)
            if isinstance(one, str):
                one = {"path": one}
            if not isinstance(one, dict):
                book.add(here, OUTPUT, one)
                one = {}
            found.append(written.read(one, config.Output, here, book, ("kind",)))
        return found

    def all(self, use: Use, book: Mistakes) -> list[config.Stream]:
        """Those that can be, complete; of the others ``book`` is told."""
        found: list[config.Stream] = []
        places = Places()
        places.keep(self._path)
        for number in range(len(self._entries)):
            if (stream := self._one(number, use, book)) is None:
                continue
            if problem := places.add(stream):
                book.add(("streams", number), problem)
            found.append(stream)
        return found

    def _one(self, number: int, use: Use, book: Mistakes) -> config.Stream | None:
        at: Keys = ("streams", number)
        entry = self._entries[number]
        raw = {**self._defaults, **entry}
        if all(isinstance(one.get("encoding"), dict) for one in (self._defaults, entry)):
            raw["encoding"] = {**self._defaults["encoding"], **entry["encoding"]}
        if (text := book.filled.written.get((*at, "source"))) is not None:
            raw.setdefault("name", spec.stream_name(names_only(text)))  # what was filled in is not for everybody to see
        if use.base is not None:
            raw = from_base(raw, use.base)

        def place(key: str) -> Keys:
            return (*at, key) if key in entry else ("defaults", key)

        before = len(book.found)
        wrong = book.below(at)
        for key, error in _problems(raw, use):
            book.add(place(key), str(error), error=type(error))
        segment, outputs = raw.pop("segment", None), list(_each(raw.pop("outputs"), use, (*at, "outputs"), book))
        if use.served is not None and raw.get("model", use.served) != use.served:
            book.add(place("model"), f"the workers of this fleet serve {use.served!r} only", raw["model"])
        try:
            outputs = share_segment(outputs, segment)
        except HeadraceError as error:
            book.add(place("segment"), str(error), segment)
        if wrong or len(book.found) > before:
            return None
        try:
            stream = spec.complete(raw, outputs, use.workers, use.folder, reads=False, writes=False)
        except HeadraceError as error:
            book.add(at, str(error), error=type(error))
            return None
        try:
            if use.writes and stream.ledger is not None and _is_there(Path(stream.ledger).parent, stream, use):
                check_output_file(Path(stream.ledger))
        except HeadraceError as error:
            book.add((*at, "ledger" if "ledger" in entry else "outputs"), str(error), error=type(error))
        return stream


def _problems(raw: Table, use: Use) -> Iterator[tuple[str, HeadraceError]]:
    """What can be known to be wrong with a source before it is opened: (key, error)."""
    source, image = raw.get("source", ""), raw.get("placeholder_image")
    if not source:
        return
    path = local_path(source)
    if source == "-" and use.base is not None:
        yield "source", UsageError("a node has no standard input: name a file or an address")
    for key, file in (("source", path if use.reads else None), ("placeholder_image", image if use.writes else None)):
        try:
            if file is not None:
                check_source_file(Path(file))
        except HeadraceError as error:
            yield key, error
    if raw.get("loop") and is_live(source):
        yield "loop", UsageError("this is for files and folders of pictures: leave it out")
    if raw.get("loop") and raw.get("mode") == "lossless":
        yield "loop", UsageError('this never ends, and mode = "lossless" keeps everything: leave one out')


def _each(outputs: list[Table], use: Use, at: Keys, book: Mistakes) -> Iterator[config.Output]:
    for number, one in enumerate(outputs):
        if "path" not in one or book.below((*at, number)):
            continue
        try:
            output = output_of(one["path"], one.get("segment"), one.get("kind"), writes=False)
            if use.writes and "://" not in output.path:
                _prepare(output, use.look_only)
            yield output
        except HeadraceError as error:
            book.add((*at, number), str(error), error=type(error))


def _is_there(folder: Path, stream: config.Stream, use: Use) -> bool:
    """Whether a ledger's folder is to be there already: the private one, and for who only looks that of HLS, may be
    made later."""
    made = [Path(output.path).parent for output in stream.outputs if output.kind == "hls"] if use.look_only else []
    return folder.exists() or folder not in (use.folder, *made)


def _prepare(output: config.Output, look_only: bool) -> None:
    """Make sure that a file can be written. Raises OutputError."""
    folder = Path(output.path).parent
    if output.kind == "hls" and not folder.exists():
        around = next(parent for parent in folder.absolute().parents if parent.exists())
        if look_only:
            if not (around.is_dir() and os.access(around, os.W_OK | os.X_OK)):
                raise OutputError(f"the folder {folder} cannot be made in {around}")
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"the folder {folder} cannot be made: {error.strerror}") from None
    if "%" not in str(folder):
        check_output_file(Path(output.path))


def from_base(raw: Table, base: Path) -> Table:
    """The table of a stream, with paths that start at ``base``."""
    found = dict(raw)
    if (
        raw.get("source")
        and (path := local_path(raw["source"])) is not None
        and not (path.is_absolute() and str(path) in raw["source"])
    ):
        found["source"] = _join(base, str(path))
    for key in ("placeholder_image", "ledger"):
        if raw.get(key) is not None:
            found[key] = _join(base, raw[key])
    found["outputs"] = [{**one, "path": _join(base, one["path"])} if "path" in one else one for one in raw["outputs"]]
    return found


def _join(base: Path, path: str) -> str:
    """A slash at the end, by which a folder for HLS is told, stays."""
    return path if "://" in path else os.path.join(base, path)

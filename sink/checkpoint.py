"""What a sink leaves for its successor: the books up to the last durable frame and where each output stands.

Written into the ledger file, as the entry's ``resume``, by replacing the file as a whole.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from common.config import Output, Stream
from common.files import ledger_path
from sink.ledger import Books, State, entry
from sink.outputs.place import Mark, SegmentNames, has_fields, is_segmented, mark_name, part_path

#: A ledger with more files than this is one line.
MAX_INDENTED = 100


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One stream, when all frames before ``books.frames`` were durable."""

    #: The run of the fleet's configuration; what another run has left is not gone on with.
    run: str
    #: The last epoch that was allocated.
    epoch: int
    books: Books = Books()
    marks: list[Mark] = []
    #: The source came to its natural end.
    finished: bool = False
    error: str = ""

    @property
    def parts(self) -> list[str]:
        """The files that have been written, output by output; of segments the last ones."""
        return [part.path for mark in self.marks for part in mark.parts if os.path.exists(part.path)]

    @property
    def parts_before(self) -> int:
        """Segments that are not among them."""
        return sum(mark.before for mark in self.marks)


class LedgerFile:
    """The ledger of one stream on disk: ``stream.ledger``, or beside the first output that is a file, or, named after
    the stream, where we were started."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream.name
        self.path = path_of(stream)
        self._before: bytes | None = None  # what another run has left, as long as we have nothing to say
        with contextlib.suppress(OSError):
            self._before = self.path.read_bytes()

    def save(self, checkpoint: Checkpoint, repairs: dict[str, int], stages: dict[str, Any] | None = None) -> str:
        """Write it anew; ``stages``: as :meth:`sink.stages.Stages.summary`, at the end. Returns what went wrong, "" if
        nothing did."""
        found = entry(self._stream, checkpoint.books, repairs, checkpoint.parts)
        if checkpoint.parts_before:
            found["parts_before"] = checkpoint.parts_before
        if stages:
            found["stages"] = stages
        found["resume"] = msgspec.to_builtins(checkpoint)
        # Python indents ten times slower than it writes.
        indent = 2 if len(found["parts"]) <= MAX_INDENTED else None
        return self._replace((json.dumps({"streams": [found]}, indent=indent) + "\n").encode())

    def drop(self) -> str:
        """There was no frame: no output, no ledger. Returns what went wrong."""
        if self._before is not None:
            return self._replace(self._before)
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            return f"cannot remove {self.path}: {error.strerror}"
        return ""

    def _replace(self, data: bytes) -> str:
        draft = self.path.with_name(f".{self.path.name}.new")
        try:
            draft.write_bytes(data)
            os.replace(draft, self.path)
        except OSError as error:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            return f"cannot write {self.path}: {error.strerror}"
        return ""


def path_of(stream: Stream) -> Path:
    if stream.ledger:
        return Path(stream.ledger)
    path = next((Path(one.path) for one in stream.outputs if "://" not in one.path), None)
    if path is not None and not has_fields(str(path)):
        return ledger_path(path)
    folder = SegmentNames(path).folder if path is not None else Path()
    name = re.sub(r"[^\w.-]+", "-", stream.name)
    return folder / f"{name}.ledger.json"


def load(stream: Stream, run: str) -> Checkpoint | None:
    """What was left for this run of this stream, None where there is nothing (that makes sense)."""
    try:
        entries = json.loads(path_of(stream).read_text(encoding="utf-8"))["streams"]
        found = next(one for one in entries if one["stream"] == stream.name)
        checkpoint = msgspec.convert(found["resume"], Checkpoint)
    except (OSError, ValueError, LookupError, TypeError, StopIteration, RecursionError, msgspec.ValidationError):
        return None
    outputs = {mark_name(output): output for output in stream.outputs}
    own = msgspec.structs.replace(checkpoint, marks=[mark for mark in checkpoint.marks if mark.path in outputs])
    return own if checkpoint.run == run and _makes_sense(own, outputs) else None


def _makes_sense(checkpoint: Checkpoint, outputs: Mapping[str, Output]) -> bool:
    """Whether the counts add up, and the files named are those of the outputs: they will be cut."""
    books = checkpoint.books
    return (
        sum(books.states.values()) == books.frames
        and all(count >= 0 for count in books.states.values())
        and books.states.keys() <= set(State)
        and all(_is_own(mark, outputs[mark.path]) for mark in checkpoint.marks)
    )


def _is_own(mark: Mark, output: Output) -> bool:
    path = Path(mark.path)
    if is_segmented(output) != mark.segments:
        return not mark.parts
    if mark.segments:
        names = SegmentNames(path)
        return all(names.could_be(part.path, number) for number, part in enumerate(mark.parts, mark.before + 1))
    return all(Path(part.path) in (path, part_path(path, number)) for number, part in enumerate(mark.parts, 1))

"""A fleet as a person writes it, in TOML: what can be left out is filled in, and an error names file, key and value.

``[[streams]]`` entries have the keys of the configuration (common/config.py), and what they share stands once in
``[defaults]``. Outputs are written as on the command line, durations and sizes too where that is easier to read. ::

    [workers]
    model = "face"

    [defaults]
    latency = "300ms"

    [[streams]]
    name = "door"
    source = "rtsp://door/stream"
    outputs = ["door.ts", "rtmp://server/live/door", {path = "door.txt", kind = "jsonl"}]
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from common import config
from common.errors import HeadraceError, UsageError
from common.log import mask
from deploy import spec
from deploy.outputs import output_of, share_segment
from deploy.places import Places

#: What describes the fleet; [defaults] and [[streams]] describe the streams.
SECTIONS = ("workers", "broker", "sink", "security", "metrics")
KEYS = ("run", *SECTIONS, "defaults", "streams")
#: What no two streams can share.
OWN = ("name", "source", "outputs", "ledger")
#: Keys that may be written as ``300ms``.
DURATIONS = (
    "latency", "carry", "source_timeout", "source_wait", "segment", "keyframe_interval",
    "wait", "heartbeat_timeout", "forget_stream", "producer_timeout", "disk_wait",
)  # fmt: skip
#: Longest value that an error shows, in characters.
MAX_SHOWN = 80
_INVALID = re.compile(r"^(.*?)(?: - at `\$\.?(.*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`")
_MISSING = re.compile(r"Object missing required field `(.*)`")

Table = dict[str, Any]
T = TypeVar("T", bound=msgspec.Struct)


class FleetFile:
    """The file ``path``, read once. Raises UsageError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            raw = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise UsageError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
        for key in raw.keys() - set(KEYS):
            raise self._error(key, f"there is no such key{_meant(key, KEYS)}")
        for key in (*SECTIONS, "defaults"):
            if not isinstance(raw.get(key, {}), dict):
                raise self._error(key, f"write [{key}]", raw[key])
        entries = raw.pop("streams", None)
        if not isinstance(entries, list) or not entries or not all(isinstance(one, dict) for one in entries):
            raise self._error("streams", "write one [[streams]] entry or more")
        self._defaults = self._plain("defaults", raw.pop("defaults", {}))
        for key in self._defaults.keys() & set(OWN):
            raise self._error(f"defaults.{key}", "each stream has its own")
        self._raw: Table = {key: self._plain(key, raw[key]) if key in SECTIONS else raw[key] for key in raw}
        self._entries = [self._plain(f"streams[{number}]", one) for number, one in enumerate(entries)]

    def fleet(self, folder: Path, workers: Table | None = None, sink: Table | None = None) -> config.Fleet:
        """The whole fleet, its sockets in ``folder`` where the file names none. ``workers`` and ``sink``: keys of these
        sections that stand above the file's.

        Raises UsageError, SourceError, OutputError.
        """
        raw = {**self._raw, "sink": {**self._raw.get("sink", {}), **(sink or {})}}
        raw["workers"] = {"model": "face", **raw.get("workers", {}), **(workers or {})}
        whole = spec.endpoints(folder, raw)
        streams = self.streams(self._convert("workers", raw["workers"], config.Workers), folder)
        fleet = self._convert("", {**whole, "streams": [msgspec.to_builtins(one) for one in streams]}, config.Fleet)
        for number, stream in enumerate(fleet.streams):
            # Workers of other models can come only where the broker's address is known outside.
            if stream.model != fleet.workers.model and "workers" not in self._raw.get("broker", {}):
                text = f"the workers of this fleet serve {fleet.workers.model!r} only"
                raise self._error(f"streams[{number}].model", text, stream.model)
        return fleet

    def only_streams(self, workers: config.Workers, folder: Path) -> list[config.Stream]:
        """The streams, to be added to a fleet with such workers that has its own private ``folder``.

        Raises UsageError, SourceError, OutputError.
        """
        for key in self._raw:
            raise self._error(key, "a running fleet has its own: leave it out of a file with streams to add")
        return self.streams(workers, folder)

    def streams(self, workers: config.Workers, folder: Path) -> list[config.Stream]:
        """All streams, complete. Raises UsageError, SourceError, OutputError."""
        found: list[config.Stream] = []
        places = Places()
        places.keep(self._path)
        for number in range(len(self._entries)):
            stream = self._stream(number, workers, folder)
            if problem := places.add(stream):
                raise self._error(f"streams[{number}]", problem)
            found.append(stream)
        return found

    def _stream(self, number: int, workers: config.Workers, folder: Path) -> config.Stream:
        where, entry = f"streams[{number}]", self._entries[number]
        raw = {**self._defaults, **entry}
        if all(isinstance(one.get("encoding"), dict) for one in (self._defaults, entry)):
            raw["encoding"] = {**self._defaults["encoding"], **entry["encoding"]}
        segment, texts = raw.pop("segment", None), raw.pop("outputs", None)
        if segment is not None and not isinstance(segment, int | float):
            raise self._error(f"{where}.segment", "this is not a duration", segment)
        stand_in = [{"path": "-", "kind": "jsonl"}]
        self._convert(where, {"name": "-", "model": "-", **raw, "outputs": stand_in}, config.Stream, set(entry))
        if not isinstance(texts, list) or not texts:
            raise self._error(f"{where}.outputs", 'write a list of outputs, such as ["out.mp4"]', texts)
        outputs = [self._output(f"{where}.outputs[{at}]", one) for at, one in enumerate(texts)]
        try:
            return spec.complete(raw, share_segment(outputs, segment), workers, folder)
        except HeadraceError as error:
            raise type(error)(f"{self._path}: {where} ({raw.get('name') or mask(raw['source'])}): {error}") from None

    def _output(self, where: str, given: object) -> config.Output:
        raw = {"path": given} if isinstance(given, str) else given
        if not isinstance(raw, dict):
            raise self._error(where, "an output is a text or {path = …, kind = …}", given)
        raw = self._plain(where, raw)
        known = self._convert(where, {"kind": "jsonl", **raw}, config.Output)
        try:
            kind = known.kind if "kind" in raw else None
            return output_of(known.path, raw.get("segment"), kind)
        except HeadraceError as error:
            raise type(error)(f"{self._path}: {where}: {error}") from None

    def _plain(self, where: str, raw: Table) -> Table:
        """Durations as seconds, sizes as pairs."""
        plain = {}
        for key, value in raw.items():
            plain[key] = value
            try:
                if isinstance(value, dict) and key == "encoding":
                    plain[key] = self._plain(f"{where}.{key}", value)
                elif isinstance(value, str) and key in DURATIONS:
                    plain[key] = spec.seconds(value)
                elif isinstance(value, str) and key == "send_size":
                    plain[key] = spec.picture_size(value)
            except UsageError as error:
                if str(error).startswith(str(self._path)):
                    raise
                raise UsageError(f"{self._path}: {where}.{key}: {error}") from None
        return plain

    def _convert(self, where: str, raw: Table, kind: type[T], own: set[str] | None = None) -> T:
        """``own``: keys of a stream that are its own; the others are those of [defaults]."""
        try:
            return msgspec.convert(raw, kind)
        except msgspec.ValidationError as error:
            found = _INVALID.match(str(error))
            assert found is not None
            text, path = found[1], found[2] or ""
            value: Any = raw
            for step in re.findall(r"\w+", path):
                value = value[int(step)] if isinstance(value, list | tuple) else value[step]
            if unknown := _UNKNOWN.match(text):
                fields = [field.encode_name for field in msgspec.structs.fields(kind)] if not path else []
                text = f"there is no such key{_meant(unknown[1], fields)}"
                path, value = f"{path}.{unknown[1]}".lstrip("."), None
            elif missing := _MISSING.match(text):
                text = "this key is missing"
                path, value = f"{path}.{missing[1]}".lstrip("."), None
            if own is not None and re.split(r"\W", path)[0] in self._defaults.keys() - own:
                where = "defaults"
            raise self._error(".".join(filter(None, (where, path))), text[:1].lower() + text[1:], value) from None

    def _error(self, where: str, text: str, value: object = None) -> UsageError:
        shown = "" if value is None else f" = {mask(repr(value))[:MAX_SHOWN]}"
        return UsageError(f"{self._path}: {where}{shown}: {text}")


def _meant(key: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(key, known, 1)
    return f"; is {close[0]!r} meant?" if close else ""

"""The JSON schema of ``headrace.toml``, for editors: the configuration's types, and what a person may write besides.

Made of common/config.py, of what deploy/file/written.py reads, and of what deploy/file/template.py says of each key.
"""

from __future__ import annotations

import json
import types
import typing
from typing import Any

import msgspec

from common import config
from deploy.file import FILE, template, written
from deploy.file.streams import OWN
from deploy.fleetfile import CHOSEN, SECTIONS

#: A text that the environment fills.
REFERENCE = {"type": "string", "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}"}
DURATION = {"type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]+)?([uU][sS]|[mM][sS]|[sSmMhH])?\s*$"}
SIZE = {"type": "string", "pattern": r"^\s*[0-9]+[xX×][0-9]+\s*$"}
#: What the template has no lines for.
OUTPUT = {
    "path": "a file, an address, or a folder for HLS",
    "kind": "what is written, whatever the file's name ends in",
    "segment": "begin a new file every so long; HLS: length of a segment",
}
TITLE = FILE
Schema = dict[str, Any]


def schema() -> Schema:
    """The whole of it."""
    said = {(table, key): words for table, key, _, words in template.explained()}
    stream = _table("streams", config.Stream, said, ("name", "model"))
    stream["properties"] |= {
        "outputs": _outputs(said),
        "segment": _key("segment", config.Output, said["defaults", "segment"]),
    }
    shared = {key: value for key, value in stream["properties"].items() if key not in OWN}
    properties: Schema = {
        "run": {"type": "string", "description": _sentence(said["", "run"])},
        **{name: _table(name, kind, said, CHOSEN.get(name, ())) for name, kind in SECTIONS.items()},
        "defaults": {"type": "object", "additionalProperties": False, "properties": shared},
        "streams": {"type": "array", "items": stream},
    }
    for name in ("defaults", "streams", *SECTIONS):
        properties[name]["description"] = _sentence(said[name, ""])
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": TITLE,
        "description": "A fleet of Headrace",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "definitions": {"duration": DURATION, "reference": REFERENCE},
    }


def text() -> str:
    """As ``headrace schema`` prints it."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def _table(
    name: str, kind: type[config.Section], said: dict[tuple[str, str], str], chosen: tuple[str, ...] = ()
) -> Schema:
    fields = msgspec.structs.fields(kind)
    properties = {}
    for field in fields:
        words = said.get((name, field.encode_name)) or said.get(("defaults", field.encode_name), "")
        properties[field.encode_name] = _key(field.encode_name, kind, words, said)
    required = [field.encode_name for field in fields if field.required and field.encode_name not in chosen]
    made: Schema = {"type": "object", "additionalProperties": False, "properties": properties}
    return made | ({"required": required} if required else {})


def _outputs(said: dict[tuple[str, str], str]) -> Schema:
    said = said | {("outputs", key): words for key, words in OUTPUT.items()}
    table = _table("outputs", config.Output, said, ("kind",))
    return {
        "type": "array",
        "minItems": 1,
        "items": {"anyOf": [{"type": "string", "minLength": 1}, table]},
        "description": _sentence(said["streams", "outputs"]),
    }


def _key(name: str, kind: type[config.Section], words: str, said: dict[tuple[str, str], str] | None = None) -> Schema:
    hint = written.hints(kind)[name]
    if isinstance(hint, type) and issubclass(hint, config.Section):
        return _table("defaults.encoding", hint, said or {}) | {
            "description": _sentence((said or {})["defaults.encoding", ""])
        }
    found = msgspec.json.schema(_without_none(hint))
    found.pop("description", None)
    if "pattern" in found:
        found["pattern"] = found["pattern"].replace(r"\Z", "$")
    if "prefixItems" in found:  # a later draft's name, which editors do not know yet
        found |= {"items": found.pop("prefixItems"), "additionalItems": found.pop("items")}
    ways = [found]
    if name in written.DURATIONS:
        ways.append({"$ref": "#/definitions/duration"})
    if name in written.SIZES:
        ways.append(SIZE)
    if name in written.MORE:
        ways.append({"const": written.MORE[name]})
    if name == "preset":
        ways = [{"enum": list(config.PRESETS)}]
    if name == "tune":
        one = "|".join(filter(None, config.TUNES))
        ways = [{"type": "string", "pattern": f"^(({one})(,({one}))*)?$"}]
    if ways != [{"type": "string"}]:
        ways.append({"$ref": "#/definitions/reference"})
    made = ways[0] if len(ways) == 1 else {"anyOf": ways}
    return made | ({"description": _sentence(words)} if words else {})


def _without_none(hint: Any) -> Any:
    """TOML has no null."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        rest = tuple(one for one in typing.get_args(hint) if one is not type(None))
        return typing.Union[rest]  # noqa: UP007  of as many as there are
    return hint


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]

"""What a person may write for a key, and what is told where it is something else.

Values are those of the configuration (common/config.py), and besides durations and sizes as texts. Each key is looked
at by itself, so that all mistakes of a table are found.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Any, get_type_hints

import msgspec
from msgspec import inspect

from common import config
from common.errors import UsageError
from deploy import spec
from deploy.file.lines import Path
from deploy.file.mistakes import Mistakes, meant

#: Keys that may be written as ``300ms``.
DURATIONS = (
    "latency", "carry", "source_timeout", "source_wait", "segment", "keyframe_interval",
    "wait", "heartbeat_timeout", "forget_stream", "producer_timeout", "disk_wait",
)  # fmt: skip
#: Keys that may be written as ``640x360``.
SIZES = ("send_size",)
#: What else a key may have than its type says.
MORE = {"count": "auto"}
#: Keys whose texts are of a list that types do not hold.
CHOICES = {"preset": config.PRESETS, "tune": config.TUNES}

Table = dict[str, Any]


@cache
def hints(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The types of the keys of ``kind``."""
    return get_type_hints(kind, include_extras=True)


def read(table: Table, kind: type[config.Section], path: Path, book: Mistakes, besides: Collection[str] = ()) -> Table:
    """``table`` as the configuration has it, as far as it is right; the rest is told to ``book``.

    ``besides``: keys that may be missing, or are none of ``kind``; they are left as they are.
    """
    known = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    plain: Table = {}
    for key, value in table.items():
        at = (*path, key)
        if key in besides and (key not in known or value is None):
            plain[key] = value
        elif key not in known:
            names = [*known, *besides]
            book.add(at, f"there is no such key{meant(key, names) or ': there are ' + ', '.join(names)}", at_key=True)
        else:
            plain[key] = _value(key, value, hints(kind)[key], at, book)
    for key, field in known.items():
        if field.required and key not in table and key not in besides:
            book.add((*path, key), f"this key is missing: write {key} = …, which is {allowed(key, hints(kind)[key])}")
    return {key: value for key, value in plain.items() if not book.below((*path, key))}


def _value(key: str, value: Any, hint: Any, path: Path, book: Mistakes) -> Any:
    section = _section(hint)
    if section is not None:
        if not isinstance(value, dict):
            book.add(path, f"write a table: {key} = {{…}}", value)
            return value
        return read(value, section, path, book)
    try:
        if isinstance(value, str) and key in DURATIONS:
            value = spec.seconds(value)
        elif isinstance(value, str) and key in SIZES:
            value = spec.picture_size(value)
        filled = isinstance(value, str) and path in book.filled.written
        made = msgspec.convert(value, hint, strict=not filled)
    except (UsageError, msgspec.ValidationError):
        book.add(path, f"allowed is {allowed(key, hint)}{_meant(key, value, hint)}", value)
        return value
    if isinstance(made, str) and key in CHOICES:
        names = made.split(",") if key == "tune" else [made]
        for name in names:
            if name not in CHOICES[key]:
                more = "one of, or several with commas between: " if key == "tune" else "one of "
                shown = ", ".join(filter(None, CHOICES[key]))
                book.add(path, f"allowed is {more}{shown}{meant(name, CHOICES[key])}", value)
    return msgspec.to_builtins(made)


def _section(hint: Any) -> type[config.Section] | None:
    return hint if isinstance(hint, type) and issubclass(hint, config.Section) else None


def _meant(key: str, value: Any, hint: Any) -> str:
    found = _bare(inspect.type_info(hint))[0]
    return (
        meant(value, map(str, found.values))
        if isinstance(found, inspect.LiteralType) and isinstance(value, str)
        else ""
    )


def allowed(key: str, hint: Any) -> str:
    """In words, what a key may have."""
    info, said = _bare(inspect.type_info(hint))
    text = said or _words(info)
    if key in MORE:
        return f'{text}, or "{MORE[key]}"'
    if key in DURATIONS:
        return f"a duration, such as 10ms, 0.5s or 2m, or {text.replace('a number', 'a number of seconds', 1)}"
    if key in SIZES:
        return 'WIDTHxHEIGHT, such as "640x360", or [width, height], each from 16 to 16384'
    return text


def _bare(info: inspect.Type) -> tuple[inspect.Type, str]:
    """Without None, and what its author says of it."""
    if isinstance(info, inspect.Metadata):
        inner, said = _bare(info.type)
        return inner, said or str((info.extra_json_schema or {}).get("description", ""))
    if isinstance(info, inspect.UnionType):
        rest = [one for one in info.types if not isinstance(one, inspect.NoneType)]
        if len(rest) == 1:
            return _bare(rest[0])
        if all(isinstance(one, inspect.LiteralType) for one in rest):
            return inspect.LiteralType(tuple(value for one in rest for value in one.values)), ""  # type: ignore[attr-defined]
    return info, ""


def _words(info: inspect.Type) -> str:
    match info:
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return f"a whole number{_range(info)}"
        case inspect.FloatType():
            return f"a number{_range(info)}"
        case inspect.LiteralType():
            return " or ".join(f'"{one}"' for one in map(str, info.values))
        case inspect.StrType():
            return "a text" if info.min_length is None else "a text that is not empty"
        case inspect.TupleType():
            return f"[{', '.join(_words(_bare(one)[0]) for one in info.item_types)}]"
        case inspect.ListType():
            return "a list"
        case _:
            return "a table"


def _range(info: inspect.IntType | inspect.FloatType) -> str:
    low = f"from {info.ge:.10g}" if info.ge is not None else f"above {info.gt:.10g}" if info.gt is not None else ""
    high = f"to {info.le:.10g}" if info.le is not None else f"below {info.lt:.10g}" if info.lt is not None else ""
    return (
        f" {low} and {high}" if low.startswith("above") and high else "".join(f" {one}" for one in (low, high) if one)
    )

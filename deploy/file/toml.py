"""A TOML file as it is on the disk; where it is none, the line says why."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from common.errors import UsageError
from deploy.file.lines import Entry, entries
from deploy.file.mistakes import name_of

#: How tomllib says where.
_AT = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)
#: What it says of quotes.
_OPEN = re.compile(r"""Expected ["']+|Unterminated string|Illegal character '\\n'|Found invalid character '\\n'""")
#: Looks like a text that somebody has forgotten to quote.
_BARE_TEXT = re.compile(r"(?!true\b|false\b|inf\b|nan\b)[A-Za-z~/.*]|\d+[.\d]*[A-Za-z]")


def read_toml(path: Path) -> tuple[dict[str, Any], str]:
    """What ``path`` says, and its text. Raises UsageError."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}; headrace init writes one to start from") from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"cannot read {path}: line {line} is not UTF-8: save the file as UTF-8") from None
    try:
        return tomllib.loads(text), text
    except RecursionError:
        raise UsageError(f"cannot read {path}: it is nested too deep") from None
    except ValueError as error:
        raise UsageError(_told(path, text, str(error))) from None


def _told(path: Path, text: str, said: str) -> str:
    found = _AT.fullmatch(said)
    if found is None:
        return f"cannot read {path}: {said}"
    lines = text.split("\n")
    line, column = (int(found[2]), int(found[3])) if found[2] else (len(lines), len(lines[-1]) + 1)
    known: dict[tuple[str | int, ...], Entry] = {}
    here = ""
    for entry in entries(text):
        if entry.key.line > line:
            break
        first = known.setdefault(entry.path, entry)
        if entry.key.line != line or entry.path[-1:] == () or isinstance(entry.path[-1], int):
            continue
        name = name_of(entry.path)
        if first is not entry and not (entry.text.startswith("[[") and first.text.startswith("[[")):
            what = f"[{name}]" if entry.text.startswith("[") and entry.key == entry.value else name
            place = f"{path}:{line}:{entry.key.column}"
            return f"{place}: {what} is there twice, first in line {first.key.line}: leave one out"
        here = f"{name}: "
        if _BARE_TEXT.match(entry.text) and said.startswith("Invalid value"):
            return f'{path}:{line}:{column}: {name}: this is no value of TOML: texts stand in quotes, "…"'
    what = found[1][:1].lower() + found[1][1:]
    if _OPEN.fullmatch(found[1]):
        what = "a text is not closed by a quote"
    return f"{path}:{line}:{column}: {here}this is no TOML: {what}"

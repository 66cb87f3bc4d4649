"""``${NAME}`` in the texts of a file, filled from the environment. Pure.

``${NAME:-else}`` is ``else`` where NAME is not set, or empty; ``$${`` is ``${`` itself. What was filled in is a secret:
:meth:`Filled.hide` takes it out of whatever is told of the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from deploy.file.lines import Path
from deploy.text import is_text

_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)\}?")
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
#: ``user:password`` of an address, where a value is written so that none of its characters ends it.
_LOGIN = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://(?P<login>[^/\s]*)@")
#: Characters that need no such care: all but ``/ ? # @``, spaces and what is no ASCII.
_PLAIN = "!$%&'()*+,-.:;=[]^_`{|}~\"<>\\"
#: A secret shorter than this is hidden only where it is a word: "1" is in many words.
SHORT = 4


@dataclass(slots=True)
class Filled:
    """What was filled in."""

    #: By the path of the text: the text as it is written.
    written: dict[Path, str] = field(default_factory=dict)
    #: By what was filled in: how it is written.
    secrets: dict[str, str] = field(default_factory=dict)

    def hide(self, text: str) -> str:
        """``text`` with ``${NAME}`` instead of its value."""
        for value in sorted(self.secrets, key=len, reverse=True):
            for one in {value, repr(value)[1:-1]}:
                pattern = re.escape(one)
                if len(one) < SHORT:
                    pattern = rf"(?<!\w){pattern}(?!\w)"
                name = self.secrets[value]
                text = re.sub(pattern, lambda found, name=name: name, text)  # type: ignore[misc]
        return text


@dataclass(frozen=True, slots=True)
class Missing:
    """A text that cannot be filled, and why."""

    path: Path
    written: str
    why: str


def fill(raw: dict[str, Any], environment: Mapping[str, str]) -> tuple[dict[str, Any], Filled, list[Missing]]:
    """``raw`` with all its texts filled; those that cannot be stay as they are."""
    filled = Filled()
    missing: list[Missing] = []

    def of(value: Any, path: Path) -> Any:
        if isinstance(value, dict):
            return {key: of(inner, (*path, key)) for key, inner in value.items()}
        if isinstance(value, list):
            return [of(inner, (*path, number)) for number, inner in enumerate(value)]
        if not isinstance(value, str) or "${" not in value:
            return value
        problems = list(_problems(value, environment))
        missing.extend(Missing(path, value, why) for why in problems)
        return value if problems else _text(value, path, environment, filled)

    return of(raw, ()), filled, missing


def names_only(text: str) -> str:
    """``text`` as it is written, with NAME for ``${NAME}``."""
    return _REFERENCE.sub(lambda found: (found[1] or "").split(":-")[0], text)


def _problems(text: str, environment: Mapping[str, str]) -> Iterator[str]:
    for found in _REFERENCE.finditer(text):
        if found[0] == "$${":
            continue
        name = _NAME.fullmatch(found[1])
        if name is None or not found[0].endswith("}"):
            yield f"{found[0]} names no variable: write ${{NAME}}, or $${{ for the characters themselves"
        elif name[2] is None and name[1] not in environment:
            yield f"the environment has no variable {name[1]}: set it, or write ${{{name[1]}:-else}}"
        elif not is_text(environment.get(name[1], "")):
            yield f"the variable {name[1]} is not UTF-8: set it anew"


def _text(text: str, path: Path, environment: Mapping[str, str], filled: Filled) -> str:
    login = _LOGIN.match(text)

    def one(found: re.Match[str]) -> str:
        if found[0] == "$${":
            return "${"
        name = _NAME.fullmatch(found[1])
        assert name is not None
        given = environment.get(name[1])
        value = given if given is not None and (given or name[2] is None) else name[2]
        if login is not None and login.start("login") <= found.start() < login.end("login"):
            value = quote(value, safe=_PLAIN)
        if value and given:
            filled.secrets[value] = filled.secrets[given] = f"${{{name[1]}}}"
        return value

    made = _REFERENCE.sub(one, text)
    if made != text:
        filled.written[path] = text
    return made

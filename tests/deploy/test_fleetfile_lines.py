"""Where keys and values stand in a TOML file, against what tomllib reads out of it."""

from __future__ import annotations

import datetime
import math
import tomllib
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.file.lines import FileLines, Path, entries

#: What a scanner could take for something else.
NASTY = "\"'#[]{}=,.\\ \t\né😀a"
TEXTS = st.one_of(st.text(NASTY, max_size=8), st.text(st.characters(exclude_categories=["Cs"]), max_size=5))
SCALARS = st.one_of(
    TEXTS,
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.dates(),
    st.times().map(lambda time: time.replace(microsecond=0)),
    st.datetimes().map(lambda time: time.replace(microsecond=0)),
)
KEYS = st.one_of(st.sampled_from(["a", "b", "c-1", "2"]), TEXTS)
TREES = st.dictionaries(
    KEYS,
    st.recursive(
        SCALARS,
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
        max_leaves=8,
    ),
    max_size=5,
)


class Writer:
    """Writes one tree in one of the many ways that TOML has for it."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def one(self, *choices: str) -> str:
        return self._random.choice(choices)

    def table(self, tree: dict[str, Any], head: tuple[str, ...] = ()) -> str:
        text, later = "", ""
        for key, value in tree.items():
            names = (*head, self.key(key))
            style = self.one("plain", "dotted", "table")
            if style == "table" and isinstance(value, dict):
                later += self.head("[", names, "]") + self.table(value, names)
            elif style == "table" and isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
                later += "".join(self.head("[[", names, "]]") + self.table(one, names) for one in value)
            else:
                text += self.pairs((names[-1],), value, style == "dotted") + self.one("", "\n", " \t\n", "# x = [\n")
        return text + later

    def head(self, start: str, names: tuple[str, ...], end: str) -> str:
        space = self.one("", " ")
        return (
            f"{self.one('', '  ')}{start}{space}{self.one('.', ' . ').join(names)}{space}{end}{self.one('', ' # ]')}\n"
        )

    def pairs(self, names: tuple[str, ...], value: Any, dotted: bool) -> str:
        if dotted and isinstance(value, dict) and value:
            return "".join(self.pairs((*names, self.key(key)), inner, dotted) for key, inner in value.items())
        pair = f"{self.one('', ' ')}{self.one('.', ' .').join(names)}{self.one('=', ' = ')}{self.value(value)}"
        return f"{pair}{self.one('', ' ', ' # = 1')}\n"

    def key(self, key: str) -> str:
        bare = key != "" and all(char.isascii() and (char.isalnum() or char in "-_") for char in key)
        return key if bare and self.one("bare", "quoted") == "bare" else self.short(key)

    def value(self, value: Any, inline: bool = False) -> str:
        if isinstance(value, dict):
            pairs = (f"{self.key(key)} = {self.value(inner, True)}" for key, inner in value.items())
            return "{" + self.one("", " ") + self.one(",", ", ").join(pairs) + self.one("", " ") + "}"
        if isinstance(value, list):
            space = self.one("", " ", "\n", " # ]\n")
            comma = self.one("", ",") if value else ""
            return "[" + space + f",{space}".join(self.value(one) for one in value) + comma + space + "]"
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, float):
            return repr(value).replace("e+", "e") if math.isfinite(value) else str(value)
        if isinstance(value, datetime.datetime):
            return value.isoformat(" ")
        if isinstance(value, datetime.date | datetime.time):
            return value.isoformat()
        return (
            self.long(value) if isinstance(value, str) and self.one("short", "long") == "long" else self.scalar(value)
        )

    def scalar(self, value: Any) -> str:
        return self.short(value) if isinstance(value, str) else str(value)

    def short(self, text: str) -> str:
        if "'" not in text and all(char >= " " and char != "\x7f" for char in text) and self.one("'", '"') == "'":
            return f"'{text}'"
        return '"' + escaped(text) + '"'

    def long(self, text: str) -> str:
        plain = all(char >= " " and char != "\x7f" for char in text.replace("\n", "").replace("\t", ""))
        if plain and "'''" not in text and not text.endswith("'") and self.one("'", '"') == "'":
            return f"'''\n{text}'''"
        inner = escaped(text).replace("\\u000a", "\n")
        if '"""' not in text:
            inner = inner.replace('\\"', '"')
            inner = inner[:-1] + '\\"' if inner.endswith('"') and not inner.endswith('\\"') else inner
        return f'"""\n{inner}"""'


def escaped(text: str) -> str:
    made = "".join(
        f"\\u{ord(char):04x}" if char < " " or char == "\x7f" else char for char in text.replace("\\", "\\\\")
    )
    return made.replace('"', '\\"')


def names(table: Any) -> Iterator[str]:
    """Those in a head."""
    while table := table[0] if isinstance(table, list) else table:
        ((name, table),) = table.items()
        yield name


def inside(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    if path:
        yield path, value
    if isinstance(value, dict | list):
        for step, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from inside(inner, (*path, step))


@settings(max_examples=80, deadline=None)
@given(st.randoms(use_true_random=False), TREES)
def test_every_value_is_where_it_is_said_to_be(random: Random, tree: dict[str, Any]) -> None:
    text = Writer(random).table(tree)
    assert tomllib.loads(text) == tree, "the writer is right"
    lines = FileLines(text)
    rows = text.split("\n")
    for path, value in inside(tree):
        entry = lines.of(path)
        assert entry is not None
        if entry.path != path:
            assert isinstance(value, dict), "only tables can be there without being written"
            assert entry.path[: len(path)] == path, "the first thing in it"
            continue
        here = "\n".join([rows[entry.value.line - 1][entry.value.column - 1 :], *rows[entry.value.line :]])
        assert here.startswith(entry.text)
        if entry.key != entry.value or (isinstance(path[-1], int) and not isinstance(value, dict)):
            assert tomllib.loads(f"x = {entry.text}")["x"] == value
            continue
        head = entry.text.startswith("[")
        read = tomllib.loads(entry.text if head else f"x = {entry.text}")
        assert head or read["x"] == value
        assert not head or [step for step in path if isinstance(step, str)] == list(names(read)), (
            "the head of this table"
        )
    assert set(lines) <= {path for path, _ in inside(tree)}, "nothing is made up"


@given(st.text(NASTY + "x1", max_size=40))
def test_what_is_no_toml_is_read_to_where_it_is(text: str) -> None:
    for entry in entries(text):
        assert entry.key.line <= text.count("\n") + 1


def test_places_by_hand() -> None:
    text = (
        "run = 'x'\n"  # 1
        "[workers] # here\n"  # 2
        "  model = 'face'\n"  # 3
        "\n"
        "[[streams]]\n"  # 5
        "name = 'a'\n"
        "[streams.encoding]\n"  # 7
        "crf=23\n"
        "[[streams]]\n"  # 9
        'name = """\n'  # 10
        '[[streams]]"""\n'
        "outputs = [\n"  # 12
        "  'a.mp4', # ]\n"
        "  {path = 'b', kind = 'ts'},\n"  # 14
        "]\n"
        "encoding.preset = 'fast'\n"  # 16
    )
    lines = FileLines(text)

    def at(*path: str | int) -> tuple[int, int, int, int]:
        entry = lines.of(path)
        assert entry is not None
        return (entry.key.line, entry.key.column, entry.value.line, entry.value.column)

    assert at("run") == (1, 1, 1, 7)
    assert at("workers") == (2, 1, 2, 1)
    assert at("workers", "model") == (3, 3, 3, 11)
    assert at("streams", 0) == (5, 1, 5, 1)
    assert at("streams", 0, "encoding", "crf") == (8, 1, 8, 5)
    assert at("streams", 1, "name") == (10, 1, 10, 8)
    assert at("streams", 1, "outputs", 1, "kind") == (14, 16, 14, 23)
    assert at("streams", 1, "encoding", "preset") == (16, 1, 16, 19)
    assert at("streams", 1, "missing") == at("streams", 1), "the table that lacks it"
    assert lines.of(("sink", "media")) is None


@pytest.mark.parametrize(
    "text", ['x = """"a"""', 'x = """a"""""', 'x = """"""', "x = ''''a''''", "x = ''", "x = '''\n'''"]
)
def test_quotes_beside_quotes(text: str) -> None:
    first, second = entries(f"{text}\ny = 1\n")
    assert tomllib.loads(f"x = {first.text}") == tomllib.loads(text)
    assert second.path == ("y",)

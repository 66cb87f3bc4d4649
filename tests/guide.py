"""The operations guide as a program: its blocks of commands, the outputs that it shows, and what the words must be.

The word after ``sh`` in a fence says how the block is tested: none: it is run; ``code=6``: it is run, and ends so;
``watch``: each line is run until it has shown something, and ended by Ctrl-C; ``elsewhere``: it needs what is not here
(root, a GPU, another machine), and only its words are looked at. A ``text`` block is what the one before it shows.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from deploy import cli

ROOT = Path(__file__).resolve().parents[1]
OPERATIONS = ROOT / "docs" / "operations.md"
_FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
#: What may stand before a command, and the options of it that take a word.
_BEFORE = {"sudo": ("-u", "-g"), "exec": (), "env": ()}
_BREAKS = frozenset("();<>|&")


@dataclass(frozen=True, slots=True)
class Block:
    """``how``: what stands after the language."""

    kind: str
    how: str
    text: str
    line: int

    @property
    def code(self) -> int:
        """The exit code with which the block is to end."""
        return int(found[1]) if (found := re.search(r"code=(\d+)", self.how)) else 0


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(one[1], one[2].strip(), one[3], text.count("\n", 0, one.start()) + 1) for one in _FENCE.finditer(text)
    ]


def shape(line: str) -> re.Pattern[str]:
    """What a line that the guide shows looks like elsewhere: other numbers, ages and widths; ``…`` is anything."""
    pattern = re.escape(" ".join(line.split()))
    pattern = re.sub(r"\d[\d.]*\\ (s|min|h|d)\b", r"[\\d.]+ (s|min|h|d)", pattern)
    pattern = re.sub(r"(?<![\w\[\\.+])\d+(?:\\?\.\d+)*", r"[\\d.]+", pattern)
    return re.compile(pattern.replace("…", ".*").replace(r"\ ", r"\s+"))


def commands(script: str, program: str = "headrace") -> Iterator[list[str]]:
    """The words after ``program``, wherever a shell script calls it."""
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        call: list[str] = []
        for word in [*lexer, ";"]:
            if word and set(word) <= _BREAKS:
                found = _bare(call)
                if found and Path(found[0]).name == program:
                    yield found[1:]
                call = []
            else:
                call.append(word)


def _bare(call: list[str]) -> list[str]:
    """Without ``sudo -u NAME``, ``NAME=VALUE`` and their like in front."""
    rest = list(call)
    while rest and (rest[0] in _BEFORE or re.fullmatch(r"\w+=.*", rest[0])):
        takes = _BEFORE.get(rest.pop(0), ())
        while takes and rest and rest[0].startswith("-"):
            if rest.pop(0) in takes and rest:
                rest.pop(0)
    return rest


def check_call(words: list[str]) -> str:
    """What the command line itself would say against these words, without doing anything; "" where nothing."""
    command: Any = typer.main.get_command(cli.app)
    rest, name = list(words), "headrace"
    if rest in (["--version"], ["--help"], ["-h"]):
        return ""
    while hasattr(command, "commands"):
        if not rest or rest[0] not in command.commands:
            return f"{name} {' '.join(rest)}: there is no such command"
        name = rest.pop(0)
        command = command.commands[name]
    try:
        command.make_context(name, rest)
    except Exception as error:  # noqa: BLE001  the parser's own, whose module differs by typer's version
        return f"headrace {' '.join(words)}: {error}"
    return ""

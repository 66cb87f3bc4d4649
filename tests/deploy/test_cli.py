"""The command's face: help, lists, and one line for each mistake."""

from __future__ import annotations

import json
from importlib import metadata

import pytest

from tests.support import Place


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["run", "models", "demo", "--version"]),
        (["--help"], ["run", "models", "demo", "--version"]),
        (["run", "--help"], ["--output", "--model", "--lossless", "130 interrupted", "headrace run street.mp4"]),
        (["run", "-h"], ["--output"]),
        (["models", "--help"], ["--json"]),
        (["demo", "--help"], ["--folder"]),
        (["models"], ["face", "objects", "torch:FILE", "package.module:Class", "Apache-2.0"]),
        (["--version"], [metadata.version("headrace")]),
    ],
)
def test_answers_on_standard_output(place: Place, arguments: list[str], words: list[str]) -> None:
    ran = place.run(*arguments)
    assert (ran.code, ran.err) == (0, "")
    for word in words:
        assert word in ran.out


def test_models_for_programs(place: Place) -> None:
    entries = json.loads(place.run("models", "--json").out)
    assert {"echo", "face", "objects"} <= {entry["name"] for entry in entries}
    assert all(set(entry) == {"name", "what", "size", "licence"} for entry in entries)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], "see headrace run --help"),
        (["run", "a.mp4"], "'-o'"),
        (["run", "a.mp4", "-o"], "requires an argument"),
        (["run", "a.mp4", "-o", "b.mp4", "--fast"], "--fast"),
        (["run", "a.mp4", "b.mp4", "-o", "c.mp4"], "b.mp4"),
        (["walk"], "'walk'"),
        (["--loud"], "--loud"),
    ],
)
def test_a_wrong_command_line_is_one_line(place: Place, arguments: list[str], words: str) -> None:
    ran = place.run(*arguments)
    assert ran.code == 2
    assert ran.out == ""
    (line,) = ran.err.splitlines()
    assert line.startswith("headrace: ")
    assert words in line
    assert line.endswith("--help"), "it says where help is"


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "rtsp://u:secret@a/b", "-o", "x.ts", "rtsp://u:secret@c/d"],
        ["run", "--workers", "rtsp://u:secret@a/b"],
        ["streams", "remove", "--rtsp://u:secret@a/b"],
    ],
)
def test_a_wrong_command_line_shows_no_password(place: Place, arguments: list[str]) -> None:
    ran = place.run(*arguments)
    assert ran.code == 2
    assert "secret" not in ran.out + ran.err


def test_a_name_that_is_no_text(place: Place) -> None:
    name = "caf\udce9.mp4"
    (place.folder / name).write_bytes(b"x")
    ran = place.run("run", name, "-o", "out.ts")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "headrace: caf\\udce9.mp4 is not UTF-8, which names must be here: rename it\n"

"""The schema for editors, the template of ``headrace init`` and the documentation say of each key what is so."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft7Validator

from common import config
from deploy import spec
from deploy.file import schema, template, written
from deploy.fleetfile import CHOSEN, SECTIONS, FleetFile
from deploy.roles import ALL, ROLES

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "configuration.md"
COPY = ROOT / "docs" / "headrace.schema.json"
VALID = Draft7Validator(schema.schema())
#: What stands for each section in the documentation's headings, and in the template.
TABLES = {
    **{f"[{name}]": kind for name, kind in SECTIONS.items()},
    "[[streams]]": config.Stream,
    "[[streams.outputs]]": config.Output,
    "[streams.encoding]": config.Encoding,
}
#: Keys whose default is chosen, where the configuration itself has another one or none: what, or None for some words.
CHOOSES = {
    "[workers].model": "face", "[workers].count": "auto", "[broker].frames": None, "[broker].workers": None,
    "[broker].news": None, "[sink].media": None, "[sink].results": None, "[[streams]].name": None,
    "[[streams]].model": None, "[[streams]].mode": None, "[[streams]].window": None, "[[streams]].in_flight": None,
    "[[streams]].realtime": None, "[[streams.outputs]].kind": None, "[[streams]].encoding": None,
}  # fmt: skip


def toml_blocks() -> Iterator[tuple[str, str]]:
    """Those that describe a fleet, with keys of the right length."""
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for number, block in enumerate(re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL)):
            block = re.sub(r"^(broker|sink) = \"(?!tcp)[^\"]*\"", rf'\1 = "{"k" * 40}"', block, flags=re.MULTILINE)
            if {"streams", "defaults", *SECTIONS}.intersection(tomllib.loads(block)):
                yield f"{page.name}-{number}", block


def plain(key: str, value: Any) -> Any:
    return spec.seconds(value) if key in written.DURATIONS and isinstance(value, str) else value


def rows(heading: str) -> dict[str, str]:
    """Key → the cell of its default, of the table below a heading."""
    text = PAGE.read_text()
    found = re.search(rf"^#+ `{re.escape(heading)}`\n(.*?)(?=^#+ |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"docs/configuration.md has no heading for {heading}"
    return {key: default for key, default in re.findall(r"^\| `(\w+)` \| (.*?) \| ", found[1], re.MULTILINE)}


def literal(cell: str) -> Any:
    """The value in a cell, which may be explained behind it in brackets; ... where there is none."""
    found = re.fullmatch(r"`?(\"[^\"]*\"|-?[\d.]+|true|false)`?( \(.*\))?", cell)
    return ... if found is None else json.loads(found[1])


# -- the documentation -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("heading", TABLES)
def test_each_key_has_a_row_with_its_default(heading: str) -> None:
    fields = {field.encode_name: field for field in msgspec.structs.fields(TABLES[heading])}
    table = rows(heading)
    more = {"segment"} if heading == "[[streams]]" else set()
    assert table.keys() - more == fields.keys(), "a row for each key, and no other"
    wrong = {}
    for key, field in fields.items():
        shown = literal(table[key])
        chosen = CHOOSES.get(f"{heading}.{key}", ...)
        if chosen is not ...:
            right = shown == (... if chosen is None else chosen)
        elif field.required:
            right = table[key] == "required"
        elif field.default is None:
            right = shown is ...
        else:
            right = plain(key, shown) == field.default
        if not right:
            wrong[key] = table[key]
    assert not wrong


def test_the_top_is_documented() -> None:
    names = {field.encode_name for field in msgspec.structs.fields(config.Fleet)}
    assert names == {*SECTIONS, "run", "streams"}, "all sections are looked at here"
    text = PAGE.read_text()
    assert "| `run` |" in text
    assert "`[defaults]`" in text


def test_its_mistakes_are_told_so(tmp_path: Path) -> None:
    """The sample lines are of the form that the code has."""
    told = re.findall(r"^headrace: (headrace\.toml:\d+:\d+: .*)$", PAGE.read_text(), re.MULTILINE)
    assert len(told) >= 5
    path = tmp_path / "headrace.toml"
    text = "[workers]\nmodel = 'face'\nbatch = 0\n[defaults]\nlatncy = 1\n[metrics]\nsink = 8750\n[[streams]]\n"
    path.write_text(text + "source = 'rtsp://viewer:${CAM_PASSWORD}@door/stream'\noutputs = ['a.ts']\n")
    ours = {
        re.sub(r":\d+:\d+:", "", str(one).split("headrace.toml")[1])
        for one in FleetFile(path, {}).check(ALL, 0)[1].sorted()
    }
    theirs = {re.sub(r":\d+:\d+:", "", line.removeprefix("headrace.toml")) for line in told}
    assert ours <= theirs
    assert len(ours) == 4


@pytest.mark.parametrize(("name", "block"), [*toml_blocks()], ids=lambda value: value if "\n" not in value else "")
def test_examples_are_right(tmp_path: Path, name: str, block: str) -> None:
    raw = tomllib.loads(block)
    assert [error.message for error in VALID.iter_errors(raw)] == []
    path = tmp_path / "headrace.toml"
    path.write_text(re.sub(r'"/var/lib/[\w/]*/', f'"{tmp_path}/', block))  # folders of another machine
    (tmp_path / "talk.mp4").write_bytes(b"x")
    environment = dict.fromkeys(re.findall(r"\$\{(\w+)\}", block), "secret")
    roles = ALL if "streams" in raw or "tcp:" not in block else frozenset({"workers"})
    told = [str(one) for one in FleetFile(path, environment).check(roles, 0)[1].sorted()]
    piece = "security" not in raw  # whose keys stand in another piece
    assert [one for one in told if not (piece and "leaves this machine unencrypted" in one)] == []


# -- the schema ------------------------------------------------------------------------------------------------------


def test_the_copy_in_the_documentation_is_that_of_the_code() -> None:
    assert COPY.read_text(encoding="utf-8") == schema.text(), "run: headrace schema > docs/headrace.schema.json"


def test_it_is_a_schema_that_explains_each_key() -> None:
    Draft7Validator.check_schema(schema.schema())
    silent = [path for path, one in keys_of(schema.schema()) if not one.get("description")]
    assert not silent


def keys_of(table: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for key, one in table.get("properties", {}).items():
        yield f"{path}.{key}", one
        yield from keys_of(one, f"{path}.{key}")
    items = table.get("items", {})
    for one in (items, *items.get("anyOf", [])) if isinstance(items, dict) and items else ():
        yield from keys_of(one, f"{path}[]")


RIGHT = """
[[streams]]
source = "rtsp://cam/1"
outputs = ["a.ts", {path = "b", kind = "jsonl"}]
"""


@pytest.mark.parametrize(
    "text",
    [
        "x = 1", "run = 3", "workers = 1",
        "[workers]\nbatch = 0", "[workers]\nbatch = 1025", "[workers]\ncount = 'many'",
        "[workers]\nwait = 'soon'", "[workers]\nthreshold = 1.0", "[workers]\nmodl = 'face'", "[workers]\nmodel = ''",
        "[broker]\nheartbeat_timeout = 0.1", "[broker]\nbind = 'eth0'",
        "[page]\nlisten = '8750'", "[page]\nenabled = 'yes'",
        "[metrics]\nsink = 0", "[security]\nsink = 'short'", "[node]\nlog_files = -1", "[defaults]\nname = 'x'",
        "[defaults]\nsource = 'x'", "[defaults]\nmode = 'lively'",
        "[defaults]\nsend_size = '640'", "[defaults]\nsend_size = [1]",
        "[defaults]\nencoding = {preset = 'fastest'}",
        "[defaults]\nencoding = {tune = 'x'}", "[defaults]\nencoding = {crf = 52}",
        "streams = 1", "[[streams]]", "[[streams]]\nsource = 'x'",
        RIGHT + "evry = 1", RIGHT + "fps = 0", RIGHT + "loop = 1",
        RIGHT.replace('"a.ts"', "5"), RIGHT.replace('"a.ts"', '""'), RIGHT.replace('"jsonl"', '"gif"'),
        RIGHT.replace('path = "b", ', ""), RIGHT + "every = 'two'", RIGHT + "every = '${}'",
    ],
)  # fmt: skip
def test_schema_and_code_refuse_the_same(tmp_path: Path, text: str) -> None:
    raw = tomllib.loads(text)
    assert list(VALID.iter_errors(raw))
    path = tmp_path / "headrace.toml"
    path.write_text(text)
    assert FleetFile(path, {}).check(ALL, 0)[1].sorted()


@pytest.mark.parametrize(
    "text",
    [
        "", "[workers]\ncount = 'auto'", "[workers]\ncount = 0", "[workers]\ncount = '${N}'\nwait = '${W}'", RIGHT,
        "[workers]\nwait = 1\nthreshold = 0.5",
        "[workers]\nwait = '1.5S'", "[defaults]\nsend_size = '640x360'\nsegment = '1m'",
        "[defaults]\nsend_size = [640, 360]\nencoding = {tune = 'film,zerolatency', crf = 20}",
        "[page]\nlisten = '[::]:0'",
        RIGHT + "mode = '${MODE}'", "[page]\ntoken = '${TOKEN}'", "[page]\nenabled = '${ON}'",
    ],
)  # fmt: skip
def test_schema_and_code_take_the_same(tmp_path: Path, text: str) -> None:
    assert [error.message for error in VALID.iter_errors(tomllib.loads(text))] == []
    path = tmp_path / "headrace.toml"
    path.write_text(text)
    environment = {"N": "2", "W": "3ms", "MODE": "live", "TOKEN": "t" * 16, "ON": "true"}
    assert [str(one) for one in FleetFile(path, environment).check(ALL, 0)[1].sorted()] == []


# -- the template ----------------------------------------------------------------------------------------------------


def whole() -> str:
    """The template with nothing commented out but what is prose."""
    text = template.filled("face", "cam", "rtsp://cam/1", ["a.ts"], "./headrace.schema.json")
    return re.sub(r"(?m)^# (?=\[|\w+ = )", "", text)


def test_the_template_has_each_key_and_its_default() -> None:
    raw = tomllib.loads(whole())
    shared = {field.encode_name for field in msgspec.structs.fields(config.Stream)} - {
        "name",
        "source",
        "outputs",
        "model",
        "ledger",
    }
    assert raw["defaults"].keys() == shared | {"segment"}
    assert raw["streams"][0].keys() == {"name", "source", "outputs", "model", "ledger"}
    tables = [(name, kind, raw[name]) for name, kind in SECTIONS.items()]
    tables += [("streams", config.Stream, raw["defaults"]), ("encoding", config.Encoding, raw["defaults"]["encoding"])]
    for name, kind, table in tables:
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        assert name == "streams" or table.keys() == fields.keys()
        for key, value in table.items():
            default = fields[key].default if key in fields else None
            if default not in (None, msgspec.NODEFAULT) and key not in ("encoding", "count"):
                assert plain(key, value) == default, f"{name}.{key}"


def test_the_template_is_right_as_it_is_and_as_a_whole(tmp_path: Path) -> None:
    plain_text = template.filled("face", "cam", "rtsp://cam/1", ["a.ts"], "./headrace.schema.json")
    for text in (
        plain_text,
        whole().replace('"tcp://10.0.0.1', '"tcp://127.0.0.1').replace('"away.jpg"', '"headrace.toml"'),
    ):
        assert [error.message for error in VALID.iter_errors(tomllib.loads(text))] == []
        (tmp_path / "headrace.toml").write_text(text)
        book = FleetFile(tmp_path / "headrace.toml", {"HEADRACE_TOKEN": "t" * 16}).check(ALL, 0)[1]
        assert {one.key for one in book.sorted()} <= {"defaults.loop"}, "which is for files"
    assert max(map(len, plain_text.splitlines())) <= 130


def test_an_editor_understands_the_schema_line(tmp_path: Path) -> None:
    """taplo is what editors use for TOML."""
    program = shutil.which("taplo", path=str(Path(sys.executable).parent)) or shutil.which("taplo")
    if program is None:
        pytest.skip("taplo is not installed")
    text = template.filled("face", "cam", "rtsp://cam/1", ["a.ts"], "./headrace.schema.json")
    (tmp_path / "headrace.schema.json").write_text(schema.text())
    path = tmp_path / "headrace.toml"

    def check(text: str) -> tuple[int, str]:
        path.write_text(text)
        done = subprocess.run([program, "check", path.name], cwd=tmp_path, capture_output=True, text=True, timeout=30)
        return done.returncode, done.stderr

    assert check(text)[0] == 0
    code, said = check(text + "evry = 2\n")
    assert code != 0
    assert "evry" in said


def test_all_roles_are_named_in_the_documentation() -> None:
    text = PAGE.read_text()
    assert all(f"`{role}`" in text for role in ROLES)
    assert all(f"`{section}.{key}`" in text for section, keys in CHOSEN.items() if section != "workers" for key in keys)

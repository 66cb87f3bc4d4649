"""``headrace init``, ``check`` and ``schema``, as they are typed."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from jsonschema import Draft7Validator

from common.keyfiles import Role, key_path, write_key
from common.keys import new_key
from deploy.cli import _answer
from deploy.file import schema
from tests.support import Ran

CLIP = """\
[workers]
model = "echo"
count = 2

[[streams]]
source = "clip.mp4"
outputs = ["out.ts", "udp://127.0.0.1:5000"]
"""


class Here:
    """A folder to call the command in. It is called in this process, which is much faster."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capture = folder, capture

    def run(self, *arguments: str) -> Ran:
        code = _answer([*arguments])
        out, err = self._capture.readouterr()
        return Ran(code, out, err)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    monkeypatch.chdir(tmp_path)
    return Here(tmp_path, capsys)


@pytest.fixture
def clip(place: Here) -> Here:
    (place.folder / "clip.mp4").write_bytes(b"x")
    (place.folder / "headrace.toml").write_text(CLIP)
    return place


def test_what_init_writes_passes_check(place: Here) -> None:
    ran = place.run("init")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "wrote headrace.toml, and headrace.schema.json for editors",
        "next: headrace check headrace.toml, then headrace up -c headrace.toml",
    ]
    written = (place.folder / "headrace.toml").read_text()
    assert written.startswith("#:schema ./headrace.schema.json\n")
    assert (place.folder / "headrace.schema.json").read_text() == schema.text()
    Draft7Validator(schema.schema()).validate(tomllib.loads(written))
    ran = place.run("check")
    assert (ran.code, ran.err) == (0, "")
    assert "headrace.toml has no mistakes" in ran.out
    assert "rtsp://camera/stream" in ran.out
    ran = place.run("init", "--source", "other.mp4")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "headrace: headrace.toml is there already: choose another name, or write over it with --force\n"
    assert (place.folder / "headrace.toml").read_text() == written
    assert place.run("init", "--force", "--model", "objects").code == 0
    assert 'model = "objects"' in (place.folder / "headrace.toml").read_text()


def test_init_takes_a_stream_whose_paths_are_typed_from_here(clip: Here) -> None:
    (clip.folder / "deep").mkdir()
    (clip.folder / "deep" / "headrace.schema.json").write_text('{"title": "of somebody else"}')
    ran = clip.run("init", "deep/fleet.toml", "--source", "clip.mp4", "-o", "out.mp4", "-o", "live/", "--model", "echo")
    assert (ran.code, ran.out.splitlines()[0]) == (0, "wrote deep/fleet.toml")
    raw = tomllib.loads((clip.folder / "deep" / "fleet.toml").read_text())
    assert raw["streams"] == [{"name": "clip", "source": "../clip.mp4", "outputs": ["../out.mp4", "../live/"]}]
    assert raw["workers"] == {"model": "echo"}
    assert "somebody" in (clip.folder / "deep" / "headrace.schema.json").read_text()
    assert clip.run("check", "deep/fleet.toml").code == 0


def test_init_with_what_toml_must_escape_and_with_variables(place: Here) -> None:
    source = 'rtsp://v:${CAM_PASSWORD}@cam/"x"\\y'
    assert place.run("init", "--source", source, "--name", 'a "b" ü').code == 0
    (stream,) = tomllib.loads((place.folder / "headrace.toml").read_text())["streams"]
    assert (stream["source"], stream["name"]) == (source, 'a "b" ü')
    assert stream["outputs"] == ['a "b" ü.ts', 'a "b" ü.jsonl']
    ran = place.run("check")
    assert ran.code == 2
    assert "the environment has no variable CAM_PASSWORD" in ran.err


def test_init_where_nothing_can_be_written(place: Here) -> None:
    ran = place.run("init", "none/headrace.toml")
    assert (ran.code, ran.out) == (4, "")
    assert ran.err == "headrace: cannot write none/headrace.toml: No such file or directory\n"


def test_check_says_what_the_file_means_and_makes_nothing(clip: Here) -> None:
    before = sorted(clip.folder.iterdir())
    ran = clip.run("check")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "headrace.toml has no mistakes",
        "parts    broker, sink, 2 workers with echo on auto, 1 producer",
        f"folder   {clip.folder}/.headrace",
        "page     http://127.0.0.1:8750/",
        f"stream   clip (lossless, echo): {clip.folder}/clip.mp4 → {clip.folder}/out.ts, udp://127.0.0.1:5000",
    ]
    assert sorted(clip.folder.iterdir()) == before
    about = json.loads(clip.run("check", "--json").out)
    assert (about["ok"], about["mistakes"]) == (True, [])
    assert about["workers"] == {"count": 2, "model": "echo", "device": "auto"}
    assert about["addresses"]["broker.workers"] == f"ipc://{clip.folder}/.headrace/workers"
    assert [stream["name"] for stream in about["streams"]] == ["clip"]


def test_check_tells_all_mistakes_and_at_most_twenty(clip: Here) -> None:
    file = clip.folder / "headrace.toml"
    file.write_text(CLIP.replace("count = 2", "count = -2").replace("echo", "ehco") + "evry = 2\n")
    ran = clip.run("check")
    assert (ran.code, ran.out) == (2, "")
    model, count, every = ran.err.splitlines()
    assert model.startswith("headrace: headrace.toml:2:9: workers.model: unknown model 'ehco'")
    assert count.startswith("headrace: headrace.toml:3:9: workers.count = -2: allowed is")
    assert every.startswith("headrace: headrace.toml:8:1: streams[0].evry: there is no such key")
    about = json.loads(clip.run("check", "--json").out)
    assert about["ok"] is False
    assert [(one["line"], one["column"], one["key"]) for one in about["mistakes"]] == [
        (2, 9, "workers.model"), (3, 9, "workers.count"), (8, 1, "streams[0].evry"),
    ]  # fmt: skip
    file.write_text("".join(f"key{number} = 1\n" for number in range(25)))
    lines = clip.run("check").err.splitlines()
    assert len(lines) == 21
    assert lines[-1] == "headrace: … and 5 more mistakes"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.toml"], "headrace: cannot read none.toml: No such file or directory; headrace init writes one"),
        (["clip.mp4"], "headrace: clip.mp4:1:2: this is no TOML"),
        (["--role", "all,sink"], "headrace: --role all,sink: all includes sink"),
        (["--role", "boss"], "headrace: --role boss: there is no such role"),
        (
            ["--role", "workers"],
            "headrace: headrace.toml: broker.workers: workers run on this node and the broker runs on",
        ),
    ],
)
def test_check_where_there_is_nothing_to_look_over(clip: Here, arguments: list[str], words: str) -> None:
    ran = clip.run("check", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.splitlines()[0].startswith(words)


def test_check_looks_at_keys(clip: Here) -> None:
    """Those of the roles of this node, and of the parts elsewhere whom they dial."""
    file, keys = clip.folder / "workers.toml", clip.folder / "keys"
    file.write_text("[broker]\nworkers = 'tcp://10.0.0.1:7602'\n[sink]\nresults = 'tcp://10.0.0.1:7605'\n"
                    "[workers]\nmodel = 'echo'\n[security]\nkeys = 'keys'\n")  # fmt: skip

    def told() -> list[str]:
        ran = clip.run("check", "workers.toml", "--role", "workers")
        assert ran.code == (2 if ran.err else 0)
        return [line.removeprefix("headrace: workers.toml:") for line in ran.err.splitlines()]

    assert told()[0].startswith(f"8:8: security.keys = '{keys}': the folder of keys {keys} cannot be read")
    keys.mkdir(mode=0o700)
    assert told()[0].startswith(f"8:8: security.keys = '{keys}': there is no worker.key")
    pairs = {role: new_key(role, "here") for role in ("worker", "broker", "sink")}
    write(keys, "worker", pairs)
    assert [line.split(": the ")[0] for line in told()] == ["7:1: security.broker", "7:1: security.sink"]
    with file.open("a") as more:
        more.write(f"broker = '{pairs['broker'].public}'\nsink = '{pairs['sink'].public}'\n")
    assert told() == []
    key_path(keys, "worker").chmod(0o644)
    (line,) = told()
    assert "worker.key" in line
    assert pairs["worker"].secret not in line


def write(folder: Path, role: Role, pairs: dict[str, object]) -> None:
    write_key(key_path(folder, role), pairs[role])  # type: ignore[arg-type]


def test_schema_is_printed(place: Here) -> None:
    ran = place.run("schema")
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out) == schema.schema()

"""A fleet in TOML, as a person writes it: what is left out, and what is said of mistakes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common import config
from common.errors import HeadraceError, SourceError, UsageError
from deploy.fleetfile import FleetFile

CLIP = "[[streams]]\nsource = 'clip.mp4'\noutputs = "
STREAM = """
[[streams]]
source = "clip.mp4"
outputs = ["a.mp4"]
"""
CAM = """
[[streams]]
source = "rtsp://me:secret@cam/door"
outputs = ["door.ts"]
"""
Fleet = Callable[..., config.Fleet]


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    monkeypatch.chdir(tmp_path)
    Path("clip.mp4").write_bytes(b"x")

    def read(text: str, **above: dict[str, Any]) -> config.Fleet:
        Path("fleet.toml").write_text(text)
        return FleetFile(Path("fleet.toml")).fleet(tmp_path, **above)

    return read


def test_all_that_can_be_left_out_is_filled_in(fleet: Fleet, tmp_path: Path) -> None:
    made = fleet(STREAM + CAM)
    clip, door = made.streams
    assert made.broker.frames == f"ipc://{tmp_path}/frames"
    assert made.sink.media == f"ipc://{tmp_path}/media"
    assert made.run
    assert (made.workers.model, made.workers.count) == ("face", 1)
    assert (clip.name, clip.model, clip.mode, clip.ledger) == ("clip", "face", "lossless", "a.ledger.json")
    assert (door.name, door.mode, door.realtime, door.source_wait) == ("door", "live", False, 1e6)
    assert door.in_flight == clip.in_flight == 4 * made.workers.batch
    path = tmp_path / "fleet.json"
    path.write_bytes(config.dump(made))
    assert config.load(path) == made, "the parts read what was written"


def test_what_is_given_counts(fleet: Fleet) -> None:
    made = fleet(
        """
        run = "nightly"
        [workers]
        model = "echo"
        count = 3
        wait = "5ms"
        [broker]
        forget_stream = "2m"
        [sink]
        media = "tcp://127.0.0.1:7000"
        [defaults]
        latency = "300ms"
        every = 2
        send_size = "640x360"
        encoding = {preset = "ultrafast", crf = 30}
        [[streams]]
        name = "one"
        source = "clip.mp4"
        outputs = ["a.mp4", {path = "a.txt", kind = "jsonl"}, {path = "b.mp4", segment = "10m"}, "rtmp://host/live/a"]
        every = 5
        segment = "1m"
        window = 999
        encoding = {crf = 20.0, keyframe_interval = "1s"}
        """
    )
    (one,) = made.streams
    assert (made.run, made.workers.count, made.workers.wait, made.broker.forget_stream) == ("nightly", 3, 0.005, 120)
    assert made.sink.media == "tcp://127.0.0.1:7000"
    assert made.sink.results.startswith("ipc://")
    assert (one.latency, one.every, one.send_size, one.window, one.model) == (0.3, 5, (640, 360), 999, "echo")
    assert one.encoding == config.Encoding(preset="ultrafast", crf=20.0, keyframe_interval=1.0)
    assert [(output.path, output.kind, output.segment) for output in one.outputs] == [
        ("a.mp4", "mp4", 60.0), ("a.txt", "jsonl", None), ("b.mp4", "mp4", 600.0), ("rtmp://host/live/a", "rtmp", None),
    ]  # fmt: skip
    assert one.realtime, "what is sent to somebody goes at the speed at which it is shown"


def test_the_command_line_stands_above_the_file(fleet: Fleet) -> None:
    text = "[workers]\nmodel = 'face'\ncount = 2\n[sink]\ndisk_wait = '1m'\n" + STREAM
    made = fleet(text, workers={"model": "echo", "batch": 4}, sink={"disk_wait": 5.0})
    assert (made.workers.model, made.workers.count, made.workers.batch, made.sink.disk_wait) == ("echo", 2, 4, 5.0)
    assert made.streams[0].model == "echo"


def test_other_models_where_other_workers_may_come(fleet: Fleet) -> None:
    text = "[broker]\nworkers = 'tcp://127.0.0.1:7002'\n" + STREAM + "model = 'objects'\n"
    assert fleet(text).streams[0].model == "objects"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x", "cannot read fleet.toml: "),
        ("", "fleet.toml: streams: write one [[streams]] entry or more"),
        ("streams = 1", "streams: write one"),
        ("streams = [1]", "streams: write one"),
        ("fleet = 1\n" + STREAM, "fleet.toml: fleet: there is no such key"),
        ("[worker]\n" + STREAM, "worker: there is no such key; is 'workers' meant?"),
        ("workers = 3\n" + STREAM, "workers = 3: write [workers]"),
        ("[workers]\ncount = 'two'\n" + STREAM, "workers.count = 'two': expected `int`, got `str`"),
        ("[workers]\nmodle = 'x'\n" + STREAM, "workers.modle: there is no such key; is 'model' meant?"),
        ("[broker]\nfram = 'x'\n" + STREAM, "broker.fram: there is no such key"),
        ("[sink]\ndisk_wait = 'long'\n" + STREAM, "sink.disk_wait: 'long' is not a duration"),
        ("[metrics]\nsink = 'x'\n" + STREAM, "metrics.sink = 'x': expected `int | null`"),
        (STREAM + "latency = 'fast'", "fleet.toml: streams[0].latency: 'fast' is not a duration: write 10ms"),
        (STREAM + "every = 'two'", "fleet.toml: streams[0].every = 'two': expected `int`, got `str`"),
        (STREAM + "evry = 2", "streams[0].evry: there is no such key; is 'every' meant?"),
        (STREAM + "fps = 0.0", "streams[0].fps = 0.0: expected `float` >= 0.001"),
        (STREAM + "mode = 'lively'", "streams[0].mode = 'lively': invalid enum value"),
        (STREAM + "send_size = '1x1'", "streams[0].send_size: '1x1' is not a picture size"),
        (STREAM + "segment = [1]", "streams[0].segment = [1]: this is not a duration"),
        (STREAM + "segment = '1ms'", "streams[0] (clip.mp4): a segment must be at least 1 s"),
        (STREAM + "[streams.encoding]\ncrf = 99", "streams[0].encoding.crf = 99: expected `float` <= 51.0"),
        (STREAM + "[streams.encoding]\npreset = 'fastest'", "streams[0] (clip.mp4): unknown preset 'fastest'"),
        (STREAM + "model = 'objects'", "streams[0].model = 'objects': the workers of this fleet serve 'face' only"),
        (STREAM + "loop = true\nmode = 'lossless'", "streams[0] (clip.mp4): loop never ends"),
        (STREAM + STREAM, "streams[1]: there is a stream 'clip' already"),
        (STREAM + "name = 'x'\n" + STREAM, "streams[1]: a.mp4 is an output of stream 'x' already"),
        (STREAM + CAM + "[[streams]]\nsource = 'http://x/y'\noutputs = ['a.ts']", "write one ledger, a.ledger.json"),
        (STREAM + "[[streams]]\nsource = 'http://x/y'\noutputs = ['clip.mp4']", "is the source of stream 'clip'"),
        ("[[streams]]\noutputs = ['a.mp4']", "streams[0].source: this key is missing"),
        ("[[streams]]\nsource = 'clip.mp4'", "streams[0].outputs: write a list of outputs"),
        (CLIP + "[]", "streams[0].outputs = []: write a list of outputs"),
        (CLIP + "'a.mp4'", "streams[0].outputs = 'a.mp4': write a list"),
        (CLIP + "[5]", "streams[0].outputs[0] = 5: an output is a text or"),
        (CLIP + "['a.gif']", "streams[0].outputs[0]: a.gif: the ending says"),
        (CLIP + "[{path = 'a', kind = 'gif'}]", "outputs[0].kind = 'gif': invalid"),
        (CLIP + "[{path = 'a', kind = 'rtmp'}]", "a is no address, which kind 'rtmp'"),
        (CLIP + "[{path = 'udp://a:1', kind = 'mp4'}]", "is not of kind 'mp4'"),
        (CLIP + "[{kind = 'mp4'}]", "outputs[0].path: this key is missing"),
        ("[defaults]\nlatency = 'x'\n" + STREAM, "fleet.toml: defaults.latency: 'x' is not a duration"),
        ("[defaults]\nevery = 'x'\n" + STREAM, "fleet.toml: defaults.every = 'x': expected `int`"),
        ("[defaults]\noutputs = ['x']\n" + STREAM, "defaults.outputs: each stream has its own"),
        ("[defaults.encoding]\ncrf = 'x'\n" + STREAM, "defaults.encoding.crf = 'x': expected `float`"),
    ],
)  # fmt: skip
def test_one_line_names_file_key_and_value(fleet: Fleet, text: str, words: str) -> None:
    with pytest.raises(UsageError) as raised:
        fleet(text)
    assert words in str(raised.value)
    assert "fleet.toml" in str(raised.value)
    assert "\n" not in str(raised.value).replace("\\n", "")


def test_what_the_disk_says_keeps_its_kind(fleet: Fleet) -> None:
    with pytest.raises(SourceError, match=r"^fleet.toml: streams\[0\] \(gone.mp4\): no such file: gone.mp4"):
        fleet("[[streams]]\nsource = 'gone.mp4'\noutputs = ['a.mp4']")
    with pytest.raises(HeadraceError, match="there is no folder"):
        fleet(CLIP + "['none/a.mp4']")
    with pytest.raises(UsageError, match=r"cannot read none\.toml: No such file"):
        FleetFile(Path("none.toml"))


def test_no_password_is_shown(fleet: Fleet) -> None:
    for more in ("every = 'x'", "[streams.encoding]\npreset = 'x'"):
        with pytest.raises(UsageError) as raised:
            fleet(CAM + more)
        assert "secret" not in str(raised.value)
    with pytest.raises(UsageError) as raised:
        fleet(CAM.replace('["door.ts"]', "5").replace('"rtsp', '["rtsp').replace('door"\n', 'door"]\n'))
    assert "secret" not in str(raised.value)


def test_streams_to_add(fleet: Fleet, tmp_path: Path) -> None:
    workers = config.Workers(model="echo", count=2, batch=8)
    Path("more.toml").write_text("[defaults]\nlatency = '1s'\n" + STREAM + CAM)
    clip, door = FleetFile(Path("more.toml")).only_streams(workers, tmp_path)
    assert (clip.model, clip.latency, clip.in_flight) == ("echo", 1.0, 64)
    assert door.ledger == "door.ledger.json"
    Path("more.toml").write_text("[workers]\ncount = 2\n" + STREAM)
    with pytest.raises(UsageError, match=r"more\.toml: workers: a running fleet has its own"):
        FleetFile(Path("more.toml")).only_streams(workers, tmp_path)
    assert sorted(os.listdir()) == ["clip.mp4", "more.toml"], "no output was begun"

"""A fleet in TOML, as a person writes it: what is left out, and what is said of mistakes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common import config
from common.errors import HeadraceError, OutputError, SourceError, UsageError
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


BEFORE = "[workers]\nmodel = 'face'\n" + STREAM


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "fleet.toml: streams: write one [[streams]] entry or more"),
        ("streams = 1", "fleet.toml:1:11: streams = 1: write [[streams]] entries"),
        ("streams = [1]", "streams = [1]: write [[streams]] entries"),
        ("fleet = 1\n" + STREAM, "fleet.toml:1:1: fleet: there is no such key"),
        ("[worker]\n" + STREAM, "fleet.toml:1:1: worker: there is no such key; is 'workers' meant?"),
        ("run = 3\n" + STREAM, "fleet.toml:1:7: run = 3: allowed is a text"),
        ("workers = 3\n" + STREAM, "fleet.toml:1:11: workers = 3: write [workers]"),
        ("defaults = 3\n" + STREAM, "fleet.toml:1:12: defaults = 3: write [defaults]"),
        ("[workers]\ncount = 'two'\n" + STREAM,
         'fleet.toml:2:9: workers.count = \'two\': allowed is a whole number from 0 to 256, or "auto"'),
        ("[workers]\ncount = 0\n" + STREAM, "fleet.toml:2:9: workers.count = 0: without a worker, nothing comes out"),
        ("[workers]\nbatch = 0\n" + STREAM,
         "fleet.toml:2:9: workers.batch = 0: allowed is a whole number from 1 to 1024"),
        ("[workers]\nthreshold = 1.0\n" + STREAM, "workers.threshold = 1.0: allowed is a number above 0 and below 1"),
        ("[workers]\nwait = nan\n" + STREAM, "workers.wait = nan: allowed is a duration, such as 10ms"),
        ("[workers]\nmodle = 'x'\n" + STREAM, "fleet.toml:2:1: workers.modle: there is no such key; is 'model' meant?"),
        ("[page]\nport = 80\n" + STREAM, "page.port: there is no such key: there are enabled, listen, token"),
        ("[broker]\nfram = 'x'\n" + STREAM, "broker.fram: there is no such key"),
        ("[broker]\nframes = 'x'\n" + STREAM, "fleet.toml:2:10: broker.frames: 'x' is not an address"),
        ("[broker]\nbind = 'eth0'\n" + STREAM, "broker.bind = 'eth0': allowed is a numeric address, such as"),
        ("[broker]\nworkers='tcp://a:1'\nframes='tcp://a:1'\n" + STREAM,
         ":2:9: broker.workers = 'tcp://a:1': broker.frames has this"),
        ("[sink]\ndisk_wait = 'long'\n" + STREAM,
         "sink.disk_wait = 'long': allowed is a duration, such as 10ms, 0.5s or 2m, or"),
        ("[metrics]\nsink = 'x'\n" + STREAM, "metrics.sink = 'x': allowed is a whole number from 1 to 65535"),
        ("[metrics]\nsink = 5000\nbroker = 5000\n" + STREAM,
         "fleet.toml:2:8: metrics.sink = 5000: metrics.broker has this port"),
        ("[metrics]\nsink = 8750\n" + STREAM, "metrics.sink = 8750: page.listen has this port"),
        ("[metrics]\nlisten = 'h:70000'\n" + STREAM,
         "metrics.listen = 'h:70000': allowed is HOST:PORT with a port from 0"),
        ("[page]\nlisten = '8750'\n" + STREAM, 'page.listen = \'8750\': allowed is "HOST:PORT", such as'),
        ("[security]\nbroker = 'x'\n" + STREAM, "security.broker = 'x': allowed is a public key of 40 characters"),
        (BEFORE + "latency = 'fast'",
         "fleet.toml:7:11: streams[0].latency = 'fast': allowed is a duration, such as 10ms"),
        (STREAM + "every = 'two'", "fleet.toml:5:9: streams[0].every = 'two': allowed is a whole number from 1"),
        (STREAM + "evry = 2", "fleet.toml:5:1: streams[0].evry: there is no such key; is 'every' meant?"),
        (STREAM + "fps = 0.0", "streams[0].fps = 0.0: allowed is a number from 0.001"),
        (STREAM + "loop = 'yes'", "streams[0].loop = 'yes': allowed is true or false"),
        (STREAM + "mode = 'lively'",
         "streams[0].mode = 'lively': allowed is \"live\" or \"lossless\"; is 'live' meant?"),
        (STREAM + "send_size = '1x1'", "streams[0].send_size = '1x1': allowed is WIDTHxHEIGHT"),
        (STREAM + "segment = [1]", "streams[0].segment = [1]: allowed is a duration"),
        (STREAM + "segment = '1ms'", "fleet.toml:5:11: streams[0].segment = 0.001: a segment must be at least 1 s"),
        (STREAM + "encoding = 3", "fleet.toml:5:12: streams[0].encoding = 3: write a table"),
        (STREAM + "[streams.encoding]\ncrf = 99",
         "fleet.toml:6:7: streams[0].encoding.crf = 99: allowed is a number from 0 to 51"),
        (STREAM + "[streams.encoding]\npreset = 'fastest'",
         "encoding.preset = 'fastest': allowed is one of ultrafast, superfast"),
        (STREAM + "[streams.encoding]\ntune = 'film,x'",
         "encoding.tune = 'film,x': allowed is one of, or several with commas"),
        (STREAM + "model = 'objects'",
         "fleet.toml:5:9: streams[0].model = 'objects': the workers of this fleet serve 'face' only"),
        (STREAM + "loop = true\nmode = 'lossless'",
         "fleet.toml:5:8: streams[0].loop: this never ends, and mode = \"lossless\""),
        (CAM + "loop = true", "streams[0].loop: this is for files and folders of pictures"),
        (STREAM + STREAM, "fleet.toml:6:1: streams[1]: there is a stream 'clip' already"),
        (STREAM + "name = 'x'\n" + STREAM, "streams[1]: a.mp4 is an output of stream 'x' already"),
        (STREAM + CAM + "[[streams]]\nsource = 'http://x/y'\noutputs = ['a.ts']", "write one ledger, a.ledger.json"),
        (STREAM + "[[streams]]\nsource = 'http://x/y'\noutputs = ['clip.mp4']", "is the source of stream 'clip'"),
        ("[[streams]]\noutputs = ['a.mp4']", "fleet.toml:1:1: streams[0].source: this key is missing: write source ="),
        ("[[streams]]\nsource = 'clip.mp4'", "fleet.toml:1:1: streams[0].outputs: write a list of outputs"),
        (CLIP + "[]", "fleet.toml:3:11: streams[0].outputs = []: write a list of outputs"),
        (CLIP + "'a.mp4'", "streams[0].outputs = 'a.mp4': write a list"),
        (CLIP + "[5]", "fleet.toml:3:12: streams[0].outputs[0] = 5: an output is a text or"),
        (CLIP + "['a.gif']", "fleet.toml:3:12: streams[0].outputs[0]: a.gif: the ending says"),
        (CLIP + "[\n  'a.ts',\n  {path = 'a', kind = 'gif'}]",
         "fleet.toml:5:23: streams[0].outputs[1].kind = 'gif': allowed is"),
        (CLIP + "[{path = 'a', kind = 'rtmp'}]", "a is no address, which kind 'rtmp'"),
        (CLIP + "[{path = 'udp://a:1', kind = 'mp4'}]", "is not of kind 'mp4'"),
        (CLIP + "[{kind = 'mp4'}]", "fleet.toml:3:12: streams[0].outputs[0].path: this key is missing"),
        ("[defaults]\nlatency = 'x'\n" + STREAM, "fleet.toml:2:11: defaults.latency = 'x': allowed is a duration"),
        ("[defaults]\nevery = 'x'\n" + STREAM, "fleet.toml:2:9: defaults.every = 'x': allowed is a whole number"),
        ("[defaults]\noutputs = ['x']\n" + STREAM, "fleet.toml:2:1: defaults.outputs: each stream has its own"),
        ("[defaults.encoding]\ncrf = 'x'\n" + STREAM,
         "fleet.toml:2:7: defaults.encoding.crf = 'x': allowed is a number"),
        ("[defaults]\nplaceholder_image = 'gone.png'\n" + CAM,
         "fleet.toml:2:21: defaults.placeholder_image: no such file"),
        ('"a\\nb" = 1\n' + STREAM, "fleet.toml:1:1: 'a\\nb': there is no such key"),
    ],
)  # fmt: skip
def test_one_line_names_line_key_and_value(fleet: Fleet, text: str, words: str) -> None:
    with pytest.raises(HeadraceError) as raised:
        fleet(text)
    assert words in str(raised.value)
    assert "fleet.toml" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x", "fleet.toml:1:2: this is no TOML: expected '=' after a key"),
        ("[workers]\nmodel = face\n",
         'fleet.toml:2:9: workers.model: this is no value of TOML: texts stand in quotes, "…"'),
        ("[workers]\nwait = 10ms\n", "fleet.toml:2:"),
        ("[workers]\ncount = 2\ncount = 3\n",
         "fleet.toml:3:1: workers.count is there twice, first in line 2: leave one out"),
        ("[workers]\n[sink]\n[workers]\n", "fleet.toml:3:1: [workers] is there twice, first in line 1: leave one out"),
        ("[workers]\nmodel = 'face\ncount = 3\ndevice = 'cpu'",
         "fleet.toml:2:14: workers.model: this is no TOML: a text is not closed"),
        ("[workers]\nmodel = \"face\n",
         "fleet.toml:2:14: workers.model: this is no TOML: a text is not closed by a quote"),
        ("[workers]\nmodel = 'face\n", "fleet.toml:3:1: this is no TOML: a text is not closed by a quote"),
        ("a = [\n1,\n", "fleet.toml:3:1: this is no TOML"),
        ("a = " + "[" * 5000, "nested too deep"),
    ],
)  # fmt: skip
def test_what_is_no_toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("fleet.toml").write_text(text)
    with pytest.raises(UsageError) as raised:
        FleetFile(Path("fleet.toml"))
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"cannot read none\.toml: No such file .*headrace init"):
        FleetFile(Path("none.toml"))
    with pytest.raises(UsageError, match="Is a directory"):
        FleetFile(tmp_path)
    Path("latin.toml").write_bytes(b"# a\n# caf\xe9")
    with pytest.raises(UsageError, match="line 2 is not UTF-8"):
        FleetFile(Path("latin.toml"))


def test_files_of_other_systems(fleet: Fleet) -> None:
    """With a mark of UTF-8 in front, and Windows' ends of lines."""
    Path("dos.toml").write_bytes(b"\xef\xbb\xbf" + STREAM.replace("\n", "\r\n").encode() + b"evry = 2\r\n")
    with pytest.raises(UsageError, match=r"^dos.toml:5:1: streams\[0\].evry"):
        FleetFile(Path("dos.toml")).fleet(Path())


def test_what_the_disk_says_keeps_its_kind(fleet: Fleet) -> None:
    with pytest.raises(SourceError, match=r"^fleet.toml:2:10: streams\[0\].source: no such file: gone.mp4"):
        fleet("[[streams]]\nsource = 'gone.mp4'\noutputs = ['a.mp4']")
    with pytest.raises(OutputError, match="there is no folder"):
        fleet(CLIP + "['none/a.mp4']")


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
    with pytest.raises(UsageError, match=r"more\.toml:1:1: workers: a running fleet has its own"):
        FleetFile(Path("more.toml")).only_streams(workers, tmp_path)
    assert sorted(os.listdir()) == ["clip.mp4", "more.toml"], "no output was begun"

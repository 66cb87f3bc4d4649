"""The configuration file: both forms read alike, every mistake is one line that names the key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common import config
from common.errors import UsageError

TOML = """
[broker]
frames = "ipc:///tmp/f"
workers = "ipc:///tmp/w"
news = "ipc:///tmp/n"

[sink]
media = "ipc:///tmp/m"
results = "ipc:///tmp/r"

[workers]
model = "face"

[[streams]]
name = "cam"
source = "a.mp4"
model = "face"
outputs = [{ path = "b.mp4", kind = "mp4" }]
"""


def load(folder: Path, text: str, name: str = "fleet.toml") -> config.Fleet:
    path = folder / name
    path.write_text(text)
    return config.load(path)


def test_the_least_that_must_be_said(tmp_path: Path) -> None:
    fleet = load(tmp_path, TOML)
    assert fleet.stream("cam").mode == "lossless"
    assert fleet.stream("cam").outputs == [config.Output(path="b.mp4", kind="mp4")]
    assert fleet.security.insecure is False, "closed by default"
    assert (fleet.metrics.broker, fleet.metrics.sink) == (None, None), "no ports by default"


def test_a_node_may_have_no_workers_and_no_streams(tmp_path: Path) -> None:
    text = TOML[: TOML.index("[[streams]]")].replace('model = "face"', 'model = "face"\ncount = 0')
    fleet = load(tmp_path, text)
    assert (fleet.workers.count, fleet.streams) == (0, [])
    with pytest.raises(UsageError, match=r"'cam'.*none"):
        fleet.stream("cam")
    assert (fleet.page.listen, fleet.node.folder) == ("127.0.0.1:8750", ".headrace")


def test_json_and_dump_read_back_equal(tmp_path: Path) -> None:
    fleet = load(tmp_path, TOML)
    assert load(tmp_path, config.dump(fleet).decode(), "fleet.json") == fleet
    other = TOML.replace('name = "cam"', 'name = "cam"\nfps = 12.5\nsend_size = [320, 180]\nmode = "live"')
    fleet = load(tmp_path, other)
    assert fleet.stream("cam").send_size == (320, 180)
    assert load(tmp_path, config.dump(fleet).decode(), "fleet.json") == fleet


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('model = "face"\n\n', 'model = "face"\nthread = 3\n\n', "thread"),
        ('model = "face"\n\n', 'model = "face"\ncount = -1\n\n', "workers.count"),
        ('model = "face"\n\n', 'model = "face"\nper_gpu = 0\n\n', "workers.per_gpu"),
        ('model = "face"\n\n', 'model = "face"\nwait = nan\n\n', "workers.wait"),
        ('model = "face"\n\n', 'model = "face"\nthreshold = 1.0\n\n', "workers.threshold"),
        ('name = "cam"', 'name = ""', "streams[0].name"),
        ('name = "cam"', 'name = "cam"\nfps = 0', "streams[0].fps"),
        ('name = "cam"', 'name = "cam"\nfps = inf', "streams[0].fps"),
        ('name = "cam"', 'name = "cam"\nlatency = -1', "streams[0].latency"),
        ('name = "cam"', 'name = "cam"\nmode = "lossy"', "streams[0].mode"),
        ('name = "cam"', 'name = "cam"\nsend_size = [0, 10]', "streams[0].send_size"),
        ('kind = "mp4"', 'kind = "avi"', "streams[0].outputs[0].kind"),
        ('outputs = [{ path = "b.mp4", kind = "mp4" }]', "outputs = []", "streams[0].outputs"),
        ('source = "a.mp4"\n', "", "source"),
        ('name = "cam"', 'name = "cam"\nlatency = 0', "streams[0].latency"),
        ('name = "cam"', 'name = "cam"\nwindow = 16385', "streams[0].window"),
        ('name = "cam"', 'name = "cam"\nin_flight = 16385', "streams[0].in_flight"),
        ('name = "cam"', 'name = "cam"\nencoding = {keyframe_interval = 0}', "streams[0].encoding.keyframe_interval"),
        ('name = "cam"', 'name = "cam\\n"', "streams[0].name"),
        ('name = "cam"', 'name = "c\\u0000m"', "streams[0].name"),
        ('source = "a.mp4"', 'source = ""', "streams[0].source"),
        ('source = "a.mp4"', 'source = "a\\u0000.mp4"', "streams[0].source"),
        ('path = "b.mp4"', 'path = "b\\u0000.mp4"', "streams[0].outputs[0].path"),
        ('model = "face"\n\n', 'model = ""\n\n', "workers.model"),
        ('model = "face"\n\n', 'model = "face"\ncount = 257\n\n', "workers.count"),
        ("[sink]", "[metrics]\nbroker = 99999\n[sink]", "metrics.broker"),
        ("[sink]", "[metrics]\nsink = 0\n[sink]", "metrics.sink"),
        ("[sink]", "[metrics]\nsink = 9000\nbroker = 9000\n[sink]", "metrics"),
        ("[sink]", "heartbeat_timeout = 0\n[sink]", "broker.heartbeat_timeout"),
        ("[sink]", "[drain]", "drain"),
        ("[sink]", "bind = 'eth0'\n[sink]", "broker.bind"),
        ("[sink]", "[security]\nbroker = 'short'\n[sink]", "security.broker"),
        ("[sink]", "[metrics]\nlisten = '9750'\n[sink]", "metrics.listen"),
        ("[sink]", "[page]\nlisten = 'http://h:1'\n[sink]", "page.listen"),
        ("[sink]", "[page]\ntoken = 'short'\n[sink]", "page.token"),
        ("[sink]", "[page]\ntoken = 'sixteen characters'\n[sink]", "page.token"),
        ("[sink]", "[node]\nlog_bytes = 1\n[sink]", "node.log_bytes"),
        ('media = "ipc:///tmp/m"', "media = 7", "sink.media"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, old: str, new: str, named: str) -> None:
    assert old in TOML
    with pytest.raises(UsageError) as caught:
        load(tmp_path, TOML.replace(old, new, 1))
    assert named in str(caught.value)
    assert "fleet.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.toml", "[broker"),
        ("a.toml", "broker = 1\nbroker = 2"),
        ("a.json", "{"),
        ("a.json", "[]"),
        ("a.json", "[" * 100_000),
        ("a.json", '{"broker": NaN}'),
        ("a.toml", ""),
    ],
)
def test_what_is_no_configuration_at_all(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(UsageError, match=name):
        load(tmp_path, text, name)


def test_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        config.load(tmp_path / "none.toml")
    with pytest.raises(UsageError, match="directory"):
        config.load(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b"# caf\xe9")
    with pytest.raises(UsageError, match=r"latin\.toml"):
        config.load(tmp_path / "latin.toml")


def test_an_unknown_stream_is_named_beside_the_known(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'door'.*cam"):
        load(tmp_path, TOML).stream("door")


def test_defaults_are_valid_themselves(tmp_path: Path) -> None:
    raw = json.loads(config.dump(load(tmp_path, TOML)))
    assert load(tmp_path, json.dumps(raw), "full.json") == load(tmp_path, TOML)


@pytest.mark.parametrize("what", ["stream", "output"])
def test_a_name_or_a_path_that_is_there_twice_is_refused(tmp_path: Path, what: str) -> None:
    output = {"path": str(tmp_path / "a.mp4"), "kind": "mp4"}
    other = output if what == "output" else {"path": str(tmp_path / "b.mp4"), "kind": "mp4"}
    streams = [
        {"name": "one", "source": "x", "model": "echo", "outputs": [output]},
        {"name": "one" if what == "stream" else "two", "source": "y", "model": "echo", "outputs": [other]},
    ]
    ipc = {name: f"ipc://{tmp_path}/{name}" for name in ("frames", "workers", "news", "media", "results")}
    raw = {
        "broker": {name: ipc[name] for name in ("frames", "workers", "news")},
        "sink": {name: ipc[name] for name in ("media", "results")},
        "workers": {"model": "echo"},
        "streams": streams,
    }
    path = tmp_path / "fleet.json"
    path.write_text(json.dumps(raw))
    with pytest.raises(UsageError, match=f"{what} .* is there twice"):
        config.load(path)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("udp://127.0.0.1:5999", "udp://127.0.0.1:5999/"),
        ("udp://localhost:5999?ttl=3", "UDP://127.0.0.1:5999"),
        ("rtmp://server/live/cam", "rtmp://u:secret@SERVER:1935/live/cam/"),
        ("srt://h:1?streamid=x", "srt://h:1/?streamid=x"),
        ("rtsp://[::1]:554/x", "rtsp://[::1]/x"),
        ("a.mp4", "./b/../a.mp4"),
        ("a.mp4", "link/a.mp4"),
    ],
)
def test_one_place_has_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one: str, other: str) -> None:
    """So that a file which one part takes is not refused by the next."""
    monkeypatch.chdir(tmp_path)
    Path("link").symlink_to(".")
    Path("b").mkdir()
    assert config.place_of(one) == config.place_of(other)
    assert "secret" not in config.place_of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("udp://127.0.0.1:5999", "udp://127.0.0.1:5998"),
        ("srt://h:1?streamid=x", "srt://h:1?streamid=y"),
        ("rtmp://h/a/b", "rtmp://h/a/B"),
        ("rtmp://h/a/b", "rtsp://h/a/b"),
        ("a.mp4", "a.MP4"),
        ("a\0.mp4", "a.mp4"),
    ],
)
def test_two_places_have_two(one: str, other: str) -> None:
    assert config.place_of(one) != config.place_of(other)

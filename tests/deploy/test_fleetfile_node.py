"""What a node makes of its file: roles, addresses, GPUs, and paths that start at the file."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from common import config
from common.errors import HeadraceError, SourceError, UsageError
from deploy.fleetfile import FleetFile
from deploy.roles import ALL, LINKS, ROLES, roles_of

STREAM = """
[[streams]]
source = "clip.mp4"
outputs = ["a.mp4", "live/"]
"""
TCP = """
[broker]
frames = "tcp://127.0.0.1:7001"
workers = "tcp://127.0.0.1:7002"
news = "tcp://127.0.0.1:7003"
[sink]
media = "tcp://127.0.0.1:7004"
results = "tcp://127.0.0.1:7005"
"""
Made = Callable[..., config.Fleet]


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """The file lies in ``there``, the command is called elsewhere."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "clip.mp4").write_bytes(b"x")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def read(text: str, *roles: str, gpus: int = 0) -> config.Fleet:
        Path("../there/headrace.toml").write_text(text)
        file = FleetFile(Path("../there/headrace.toml"))
        fleet = file.node(file.folder, frozenset(roles or ALL), gpus)
        written = tmp_path / "fleet.json"
        written.write_bytes(config.dump(fleet))
        assert config.load(written) == fleet, "the parts read what was written"
        return fleet

    return read


def test_paths_start_at_the_file(made: Made, tmp_path: Path) -> None:
    there = tmp_path / "there"
    (there / "away.png").write_bytes(b"x")
    (there / "keys").mkdir()
    more = 'placeholder_image = "away.png"\n[security]\nkeys = "../there/keys"\n[node]\nfolder = "n"\n'
    fleet = made(STREAM + more)
    (clip,) = fleet.streams
    assert clip.source == f"{there}/clip.mp4"
    assert [output.path for output in clip.outputs] == [f"{there}/a.mp4", f"{there}/live/index.m3u8"]
    assert (clip.ledger, clip.placeholder_image) == (f"{there}/a.ledger.json", f"{there}/away.png")
    assert fleet.security.keys == f"{there}/keys"
    assert fleet.node.folder == f"{there}/n"
    assert fleet.broker.frames == f"ipc://{there}/n/frames"
    assert (there / "live").is_dir()
    assert list((tmp_path / "here").iterdir()) == []


def test_addresses_devices_and_absolute_paths_stay(made: Made, tmp_path: Path) -> None:
    text = """
        [[streams]]
        source = "rtsp://cam/door"
        outputs = ["udp://127.0.0.1:5000"]
        [[streams]]
        name = "file"
        source = "file:clip.mp4"
        outputs = ["%s/abs.ts"]
        ledger = "led.json"
    """
    door, file = made(text % tmp_path).streams
    assert (door.source, door.outputs[0].path) == ("rtsp://cam/door", "udp://127.0.0.1:5000")
    assert door.ledger == f"{tmp_path}/there/.headrace/door.ledger.json"
    assert (file.source, file.outputs[0].path) == (f"{tmp_path}/there/clip.mp4", f"{tmp_path}/abs.ts")
    assert file.ledger == f"{tmp_path}/there/led.json"


def test_streams_may_be_absent_but_not_from_headrace_run(made: Made, tmp_path: Path) -> None:
    fleet = made("")
    assert (fleet.streams, fleet.workers.model, fleet.workers.count, fleet.run) == ([], "face", 1, "")
    with pytest.raises(UsageError, match=r"headrace.toml: streams: write one"):
        FleetFile(tmp_path / "there" / "headrace.toml").fleet(tmp_path)


@pytest.mark.parametrize(
    ("workers", "gpus", "count"),
    [
        ("", 0, 1), ("", 3, 3), ("count = 'auto'", 3, 3), ("per_gpu = 2", 3, 6), ("per_gpu = 2", 0, 1),
        ("count = 2", 3, 2), ("count = 0", 3, 0), ("per_gpu = 64", 8, 256),
    ],
)  # fmt: skip
def test_workers_by_gpus(made: Made, workers: str, gpus: int, count: int) -> None:
    assert made(f"[workers]\n{workers}\n", gpus=gpus).workers.count == count


def test_a_worker_more_changes_no_stream(made: Made) -> None:
    two, six = (made(f"[workers]\ncount = {count}\n{STREAM}").streams for count in (2, 6))
    assert two == six
    assert two[0].in_flight == 8 * 4 * 16
    (many,) = made(f"[workers]\ncount = 20\n{STREAM}").streams
    assert many.in_flight == 32 * 4 * 16


def test_a_file_for_workers_alone(made: Made) -> None:
    text = """
        [broker]
        workers = "tcp://10.0.0.1:7602"
        [sink]
        results = "tcp://10.0.0.1:7605"
        [workers]
        model = "objects"
        [security]
        insecure = true
    """
    fleet = made(text, "workers", gpus=2)
    assert (fleet.broker.workers, fleet.sink.results) == ("tcp://10.0.0.1:7602", "tcp://10.0.0.1:7605")
    assert (fleet.workers.model, fleet.workers.count, fleet.streams) == ("objects", 2, [])


def test_a_node_looks_at_what_its_roles_touch(made: Made, tmp_path: Path) -> None:
    text = TCP + '[[streams]]\nsource = "gone.mp4"\noutputs = ["none/a.mp4", "live/"]\n'
    assert made(text, "workers", "broker").streams == []
    assert made(text, "broker").workers.count == 0
    with pytest.raises(SourceError, match="no such file"):
        made(text, "producers")
    (tmp_path / "there" / "gone.mp4").write_bytes(b"x")
    (stream,) = made(text, "producers").streams
    assert stream.outputs[0].path == f"{tmp_path}/there/none/a.mp4"
    assert not (tmp_path / "there" / "live").exists(), "the sink's node makes it"
    with pytest.raises(HeadraceError, match="there is no folder"):
        made(text, "sink")


def test_standard_input_is_not_there(made: Made) -> None:
    with pytest.raises(UsageError, match=r"streams\[0\].source: a node has no standard input"):
        made('[[streams]]\nsource = "-"\noutputs = ["a.ts"]')


@pytest.mark.parametrize("roles", [set(some) for n in (1, 2, 3) for some in itertools.combinations(ROLES, n)])
def test_parts_on_several_nodes_meet_by_tcp_only(made: Made, roles: set[str]) -> None:
    """Each set of roles, with tcp and without."""
    made(TCP, *roles)
    needed = {
        where for where, (listener, callers) in LINKS.items()
        if (listener in roles and set(callers) - roles) or (listener not in roles and roles & set(callers))
    }  # fmt: skip
    if not needed:
        made("", *roles)
        return
    for section, key in LINKS:
        text = "\n".join(line for line in TCP.splitlines() if not line.startswith(f"{key} ="))
        if (section, key) in needed:
            with pytest.raises(UsageError, match=rf"{section}\.{key}.*on this node and.*on another: write an address"):
                made(text, *roles)
        else:
            made(text, *roles)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["all,workers"], "--role all,workers: all includes workers"),
        (["all", "sink", "broker"], "all includes sink, broker"),
        (["worker"], "--role worker: there is no such role; allowed are all, broker"),
        (["sink,sink"], "sink is named twice"),
        ([""], "there is no such role"),
        ([], "no role is named"),
    ],
)
def test_roles_that_make_no_sense(given: list[str], words: str) -> None:
    with pytest.raises(UsageError) as raised:
        roles_of(given)
    assert words in str(raised.value)


def test_roles() -> None:
    assert roles_of(["all"]) == ALL == roles_of(["broker, workers", "sink", "producers"])
    assert roles_of(["workers"]) == {"workers"}


def test_addresses_beyond_this_machine_need_keys(made: Made) -> None:
    text = "[broker]\nworkers = 'tcp://10.0.0.1:7002'\n"
    with pytest.raises(
        UsageError, match=r"headrace.toml:2:11: broker.workers: 'tcp://10.0.0.1:7002' leaves this machine"
    ):
        made(text)
    made(text + "[security]\nkeys = 'keys'\n")
    made(text + "[security]\ninsecure = true\n")


def test_models_of_other_workers(made: Made) -> None:
    text = STREAM + "model = 'objects'\n"
    with pytest.raises(UsageError, match=r"headrace.toml:5:9: streams\[0\].model = 'objects'.*serve 'face' only"):
        made(text)
    assert made(TCP + text).streams[0].model == "objects"


def test_a_folder_whose_sockets_would_have_too_long_paths(made: Made) -> None:
    with pytest.raises(UsageError, match=r"headrace.toml:2:10: node.folder: .*longer than the 107 bytes"):
        made(f"[node]\nfolder = '{'x' * 120}'\n")


def test_the_folder_is_told_whatever_else_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "headrace.toml"
    path.write_text("[workers]\nbatch = 0\nmodel = '${NOT_SET_ANYWHERE}'\n[node]\nfolder = '/srv/node/../x'\n")
    assert FleetFile(path).folder == Path("/srv/x")
    path.write_text("[node]\nfolder = 3\n")
    with pytest.raises(UsageError, match=r":2:10: node.folder = 3: allowed is a text"):
        _ = FleetFile(path).folder


def test_all_mistakes_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "headrace.toml"
    text = """\
        evry = 2
        [workers]
        batch = 0
        modl = "face"
        [broker]
        bind = "eth0"
        [defaults]
        mode = "lively"
        [[streams]]
        source = "gone.mp4"
        outputs = ["a.gif", 5]
        fps = 0.0
        [streams.encoding]
        crf = 99
        [[streams]]
        outputs = ["none/a.mp4"]
        [[streams]]
        source = "rtsp://cam/1"
        outputs = ["fine.ts"]
    """
    path.write_text(text)
    fleet, book = FleetFile(path).check(ALL, 0)
    assert [(one.line, one.key) for one in book.sorted()] == [
        (1, "evry"), (3, "workers.batch"), (4, "workers.modl"), (6, "broker.bind"), (8, "defaults.mode"),
        (10, "streams[0].source"), (11, "streams[0].outputs[0]"), (11, "streams[0].outputs[1]"), (12, "streams[0].fps"),
        (14, "streams[0].encoding.crf"), (15, "streams[1].source"), (16, "streams[1].outputs[0]"),
    ]  # fmt: skip
    assert [stream.name for stream in fleet.streams] == ["1"]
    assert [one.name for one in tmp_path.iterdir()] == ["headrace.toml"], "nothing is made"


def test_check_says_where_a_folder_for_hls_cannot_be_made(tmp_path: Path) -> None:
    path = tmp_path / "headrace.toml"
    (tmp_path / "file").touch()
    path.write_text("[[streams]]\nsource = 'rtsp://cam/1'\noutputs = ['new/live/', 'file/live/']\n")
    _, book = FleetFile(path).check(ALL, 0)
    assert [(one.key, one.line, one.column) for one in book.sorted()] == [("streams[0].outputs[1]", 3, 25)]
    assert not (tmp_path / "new").exists()
    path.write_text("[[streams]]\nsource = 'rtsp://cam/1'\noutputs = ['new/live/', 'udp://127.0.0.1:5000']\n")
    assert FleetFile(path).check(ALL, 0)[1].sorted() == []
    path.write_text("[[streams]]\nsource = 'rtsp://cam/1'\noutputs = ['file/live/']\n")
    with pytest.raises(HeadraceError, match=r"streams\[0\].outputs\[0\].*cannot be made"):
        FleetFile(path).node(tmp_path, ALL, 0)

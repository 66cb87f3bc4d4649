"""Strangers on every socket of a run in progress: refused, counted, named in the log; the run does not notice."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import simplejpeg

from common import messages as m
from common.transport import Hub
from common.wire import MAX_HEADER, encode
from tests.integration.test_lifecycle import FRAMES, begin, check_whole, finish
from tests.support import Place, ledger, lines, numbered_clip, wait_for

STREAM, EPOCH = "clip", 1
FRAME = m.Frame(stream=STREAM, epoch=EPOCH, index=0, model="echo:20", sink="sink", source=(320, 180), size=(320, 180))
HELLO = m.Hello(
    stream=STREAM, session="stranger", mode="lossless", latency=1, model="echo",
    video=m.VideoInfo(width=320, height=180, time_base=(1, 12800)),
    tracks=[m.TrackInfo(kind="video", codec="h264", carrier="nut", size=100, time_base=(1, 12800))],
)  # fmt: skip
#: Socket file → how a stranger dials it.
SOCKETS = {"frames": "push", "workers": "dealer", "news": "sub", "media": "dealer", "results": "push"}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return numbered_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", FRAMES)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        yield hub


def garbage() -> list[list[bytes]]:
    """Messages that no part may take: noise, wrong shapes, another version, headers that lie."""
    chance = random.Random(5)
    found = [[chance.randbytes(n)] for n in (1, 2, 30, 1000, 100_000)]
    found += [[b""], [b"", b""], [b"\xc1"], [b"\x80"], [b"\x81\xa1t\xa5frame"], [b"\x91" * 5000], [b"a", b"b", b"c"]]
    found += [[chance.randbytes(MAX_HEADER + 1)]]
    honest = [
        FRAME,
        HELLO,
        m.Packet(stream=STREAM, epoch=EPOCH, link=1, track=99, time_base=(1, 1)),
        m.Notice(stream=STREAM, epoch=EPOCH, link=10**9, index=3, out=3, fate="sent"),
        m.Ready(worker="w", models={"echo:20": m.InputSpec(4, 4)}, room=0),
        m.Beat(worker="worker-1", leases=[1, 2, 3], room=5),
        m.Done(worker="worker-1", incarnation="x", leases=[1, 2, 3], outcome="ok"),
        m.Result(stream="nobody", epoch=EPOCH, index=1, worker="w"),
        m.Result(stream=STREAM, epoch=EPOCH + 1, index=60, worker="w"),
        m.Result(stream=STREAM, epoch=EPOCH, index=10**12, worker="w"),
    ]
    for one in honest:
        header = encode(one)
        fields = msgspec.msgpack.decode(header)
        found.append([header, chance.randbytes(200)] if one is HELLO else [header])
        found.append([msgspec.msgpack.encode(fields | {"v": 200})])
        found.append([msgspec.msgpack.encode(fields | {"epoch": -1, "worker": "", "video": 3, "index": "x"})])
        found.append([header[: len(header) // 2]])
    return [parts for parts in found if parts[0] not in (encode(FRAME), encode(honest[4]))]  # these two are welcome


def test_garbage_on_every_socket(place: Place, clip: Path, hub: Hub) -> None:
    process = begin(place, clip)
    (folder,) = place.runtime.glob("headrace-*")
    for name, kind in SOCKETS.items():
        raw = socket.socket(socket.AF_UNIX)
        raw.connect(str(folder / name))
        raw.sendall(b"GET / HTTP/1.1\r\n\r\n" + random.Random(1).randbytes(4000))
        raw.close()
        stranger = hub.connect(kind, f"ipc://{folder}/{name}")
        for parts in garbage() if kind != "sub" else []:
            wait_for(lambda stranger=stranger, parts=parts: stranger.send(*parts), 10, f"{name} taking garbage")
    code, err = finish(process)
    assert code == 0, err
    for words in ("refused a message of a producer", "refused a message of a worker", "peer speaks protocol 2.0"):
        assert words in err
    assert err.count("refused") < 30, "said once a kind, not once a message"
    assert "died" not in err
    check_whole(place)


def test_a_worker_that_takes_work_and_is_silent(place: Place, clip: Path, hub: Hub) -> None:
    """Its leases are taken back when its heartbeats stop, and done by the honest one."""
    process = begin(place, clip, "--lossless")
    (folder,) = place.runtime.glob("headrace-*")
    liar = hub.connect("dealer", f"ipc://{folder}/workers")
    liar.send(encode(m.Ready(worker="liar", models={"echo:20": m.InputSpec(640, 360)}, room=5)))
    wait_for(liar.receive, 10, "work for the liar")
    code, err = finish(process)
    assert code == 0, err
    assert "broker: worker silent" in err
    check_whole(place)


def test_pictures_that_cannot_be_decoded(place: Place, clip: Path, hub: Hub) -> None:
    """Each of them fails for its payload, without another attempt; the run goes on."""
    process = begin(place, clip)
    (folder,) = place.runtime.glob("headrace-*")
    broker = hub.connect("push", f"ipc://{folder}/frames")
    grey = np.full((90, 160, 1), 99, np.uint8)
    # The broker knows a frame by its identity: these come long before the producer's own.
    bad: dict[int, tuple[m.Frame, bytes]] = {
        200: (FRAME, b"no picture at all"),
        202: (FRAME, simplejpeg.encode_jpeg(grey, colorspace="GRAY")),  # of another size than its header says
        204: (msgspec.structs.replace(FRAME, codec="i420"), b"\0" * 1000),
        206: (FRAME, b""),
        208: (FRAME, simplejpeg.encode_jpeg(np.zeros((180, 320, 3), np.uint8))[:300]),
    }
    for index, (header, payload) in bad.items():
        assert broker.send(encode(msgspec.structs.replace(header, index=index)), payload)
    code, err = finish(process)
    assert code == 1, err
    told = lines(place.folder / "out.jsonl")
    assert [line["index"] for line in told] == list(range(FRAMES))
    assert {line["index"]: line.get("reason") for line in told if line["state"] != "annotated"} == dict.fromkeys(
        bad, "bad_payload"
    )
    assert ledger(place.folder / "out.mp4")["reasons"] == {"bad_payload": len(bad)}
    assert err.count("failed: bad_payload") == 1
    assert "died" not in err

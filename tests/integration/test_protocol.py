"""Strangers on every socket of a run in progress: refused, counted, named in the log; the run does not notice."""

from __future__ import annotations

import contextlib
import random
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import msgspec
import numpy as np
import pytest
import simplejpeg

from common import config
from common import messages as m
from common.lifecycle import Stopper
from common.status import Status
from common.transport import Hub
from common.wire import encode
from deploy.children import Children
from deploy.faults.garbage import noise, spoilt
from deploy.faults.proxy import Proxy
from deploy.spec import RunOptions, build
from producer.service import Producer
from tests.integration.test_lifecycle import FRAMES, begin, check_whole, finish
from tests.support import Place, ledger, lines, numbered_clip, numbers, wait_for

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
    found = noise()
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
        found += [[encode(one), random.Random(5).randbytes(200)] if one is HELLO else [encode(one)], *spoilt(one)]
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
    for whose in ("message of a producer", "result", "frame", "message of a worker"):
        assert f"refused a {whose}: version: peer speaks protocol 2.0" in err
        assert f"refused a {whose}: oversize" in err
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


@contextlib.contextmanager
def fleet(place: Place, clip: Path) -> Iterator[config.Fleet]:
    """Broker, worker and sink as processes; the producer is the test's."""
    outputs = [str(place.folder / name) for name in ("out.mp4", "out.jsonl")]
    options = RunOptions(source=str(clip), outputs=outputs, model="echo", batch=4)
    folder = place.runtime / "headrace-test"
    folder.mkdir()
    built = build(options, folder)
    (folder / "fleet.json").write_bytes(config.dump(built))
    children = Children(str(folder))
    for module in ("broker", "workers", "sink"):
        children.start(module, module, ["-c", str(folder / "fleet.json")])
    try:
        yield built
    finally:
        children.stop(list(children.alive), 8)
        shutil.rmtree(folder)


class Spoiler(Producer):
    """Sends pictures that are none. The broker and the worker are real."""

    bad: ClassVar[dict[int, tuple[str, bytes]]] = {
        20: ("jpeg", b"no picture at all"),
        22: ("jpeg", simplejpeg.encode_jpeg(np.full((90, 160, 1), 99, np.uint8), colorspace="GRAY")),  # another size
        24: ("i420", b"\0" * 1000),
        26: ("jpeg", b""),
        28: ("jpeg", simplejpeg.encode_jpeg(np.zeros((180, 320, 3), np.uint8))[:300]),
    }

    def _push(self, frame: m.Frame, payload: bytes) -> bool:
        codec, payload = self.bad.get(frame.index, (frame.codec, payload))
        return super()._push(msgspec.structs.replace(frame, codec=codec), payload)


def test_pictures_that_cannot_be_decoded(place: Place, clip: Path) -> None:
    """Each of them fails for its payload, without another attempt; the run goes on."""
    with fleet(place, clip) as built:
        assert Spoiler(built, built.streams[0], Status(None, "producer"), Stopper()).run() == 0
    told = lines(place.folder / "out.jsonl")
    assert [line["index"] for line in told] == list(range(FRAMES))
    reasons = {line["index"]: (line["state"], line["reason"]) for line in told if line["state"] != "annotated"}
    assert reasons == dict.fromkeys(Spoiler.bad, ("failed", "bad_payload"))
    assert ledger(place.folder / "out.mp4")["reasons"] == {"bad_payload": len(Spoiler.bad)}
    assert numbers(place.folder / "out.mp4") == list(range(FRAMES))


class Clumsy(Producer):
    """Its cable to the sink is cut at some frames; what was under way is lost."""

    cable: Proxy

    def _push(self, frame: m.Frame, payload: bytes) -> bool:
        if frame.index in (50, 51, 150):
            self.cable.cut()
        return super()._push(frame, payload)


def test_a_media_link_that_breaks(place: Place, clip: Path) -> None:
    """The sink knows the producer's new connection after its next Hello; nothing is missing, nothing comes twice."""
    with fleet(place, clip) as built:
        wait_for(Path(built.sink.media.removeprefix("ipc://")).exists, 20, "the sink's socket")
        with Proxy(built.sink.media) as cable:
            here = msgspec.structs.replace(built, sink=msgspec.structs.replace(built.sink, media=cable.address))
            producer = Clumsy(here, here.streams[0], Status(None, "producer"), Stopper())
            producer.cable = cable
            assert producer.run() == 0
    check_whole(place)

"""One honest message of every kind, with as many fields set as it has: the seeds of the mutations."""

from __future__ import annotations

from typing import Any, get_args

import msgspec

from common import messages as m
from common.wire import Reader
from tests.builders import EPOCH, STREAM, ack, end, expired, frame, gave_up, news, notice

INFO = m.VideoInfo(width=96, height=64, time_base=(1, 12800), rate=(25, 1), sar=(4, 3), color_range=1, matrix=1)
TRACKS = [
    m.TrackInfo(kind="video", codec="h264", carrier="nut", size=300, time_base=(1, 12800)),
    m.TrackInfo(kind="audio", codec="aac", carrier="matroska", size=200, time_base=(1, 48000), sample_rate=48000),
]
FOUND = m.Detection("face", 0.9, (1.0, 2.0, 30.5, 40.5), [(3.0, 4.0)] * 5, 7)
WORKER: dict[str, Any] = {"worker": "w", "incarnation": "a"}

HONEST: tuple[m.Head, ...] = (
    m.Hello(stream=STREAM, session="x", mode="live", latency=0.5, model="echo", video=INFO, tracks=TRACKS,
            threads=2, omitted=["second video track"]),
    m.Welcome(stream=STREAM, session="x", epoch=EPOCH, resume=3),
    m.Unknown(stream=STREAM, epoch=EPOCH),
    m.Packet(stream=STREAM, epoch=EPOCH, link=1, track=1, pts=5, dts=4, duration=2, time_base=(1, 12800), key=True),
    notice(3, turn=90, reason="no_worker"),
    m.Change(stream=STREAM, epoch=EPOCH, link=2, video=INFO, tracks=TRACKS, threads=2),
    m.Filler(stream=STREAM, epoch=EPOCH, link=3, out=900, duration=100, text="the server closed the stream", away=2.5),
    msgspec.structs.replace(end(9, 7), repairs={"missing_pts": 3}),
    ack([(3, 5), (8, 8)], 1, 40, 0),
    m.Closed(stream=STREAM, epoch=EPOCH, states={"annotated": 5}, error="disk full"),
    frame(4, budget=0.5),
    news((1, 4), (7, 7)),
    m.Ready(models={"echo": m.InputSpec(64, 64)}, room=8, device="cpu", worker="w"),
    m.Beat(leases=[1, 2, 3], room=5, **WORKER),
    m.Work(incarnation="a", lease=4, frame=frame(4), attempt=1),
    m.Started(leases=[1, 2], **WORKER),
    m.Done(leases=[1], outcome="failed", reason="model_error", seconds=0.1, room=3, **WORKER),
    m.Who(incarnation="a"),
    m.Refused(reason="it is no longer on the list of allowed keys"),
    m.Result(stream=STREAM, epoch=EPOCH, index=4, worker="w", detections=[FOUND] * 3, tags=[m.Tag("indoor", 0.4)],
             seconds={"decode": 0.001, "infer": 0.02}, batch=4),
    gave_up(4),
    expired(5),
)  # fmt: skip

#: The readers of all sockets, by what they are called here.
READERS: dict[str, Reader[Any]] = {
    "sink media": Reader(m.ToSink),
    "producer media": Reader(m.ToProducer),
    "broker workers": Reader(m.ToBroker),
    "broker frames": Reader(m.Frame),
    "producer news": Reader(m.News),
    "worker": Reader(m.ToWorker),
    "sink results": Reader(m.ToResults),
}
#: Those kinds again, to find the reader of a message.
KINDS: dict[str, tuple[type[m.Head], ...]] = {
    "sink media": get_args(m.ToSink),
    "producer media": get_args(m.ToProducer),
    "broker workers": get_args(m.ToBroker),
    "broker frames": (m.Frame,),
    "producer news": (m.News,),
    "worker": get_args(m.ToWorker),
    "sink results": get_args(m.ToResults),
}

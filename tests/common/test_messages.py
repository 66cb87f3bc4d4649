"""Message headers: every class crosses the wire unchanged, and limits are enforced."""

from __future__ import annotations

import inspect
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import messages as m
from common.errors import PeerError
from common.wire import Reader, encode
from tests.builders import ack, end, frame, news, notice, result
from tests.strategies import HEADERS, header


def test_every_header_of_the_module_is_in_a_union_that_is_read() -> None:
    defined = {kind for _, kind in inspect.getmembers(m, inspect.isclass) if issubclass(kind, m.Head)} - {m.Head}
    assert set(HEADERS) == defined


def test_tags_are_distinct_and_headers_frozen() -> None:
    tags = [kind.__struct_config__.tag for kind in HEADERS]
    assert len(set(tags)) == len(tags)
    assert all(kind.__struct_config__.frozen for kind in HEADERS)
    with pytest.raises(AttributeError):
        frame(0).index = 1  # type: ignore[misc]


@pytest.mark.parametrize("kind", HEADERS, ids=lambda kind: kind.__name__)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_round_trip(kind: type[m.Head], data: st.DataObject) -> None:
    made = data.draw(header(kind))
    back, payload = Reader[m.Head](kind).decode([encode(made), b"payload"])
    assert back == made
    assert type(back) is kind
    assert payload == b"payload"


def wire_form(made: m.Head, **fields: Any) -> bytes:
    raw = msgspec.msgpack.decode(encode(made))
    return msgspec.msgpack.encode({**raw, **fields})


def refused(made: m.Head, **fields: Any) -> str:
    """The reason why ``made`` with other ``fields`` is not accepted."""
    with pytest.raises(PeerError) as caught:
        Reader[m.Head](type(made)).decode([wire_form(made, **fields)])
    assert caught.value.kind == "header"
    return caught.value.detail


INFO = m.VideoInfo(width=64, height=48, time_base=(1, 12800))
TRACK = m.TrackInfo(kind="video", codec="h264", carrier="nut", size=10, time_base=(1, 12800))
HELLO = m.Hello(stream="s", session="x", mode="live", latency=0.5, model="echo", video=INFO, tracks=[TRACK])
PACKET = m.Packet(stream="s", epoch=1, link=1, track=0, time_base=(1, 1000))
HUGE = 2**63


@pytest.mark.parametrize(
    ("made", "fields", "key"),
    [
        (frame(0), {"stream": ""}, "stream"),
        (frame(0), {"stream": "x" * (m.MAX_NAME + 1)}, "stream"),
        (frame(0), {"index": -1}, "index"),
        (frame(0), {"index": HUGE}, "index"),
        (frame(0), {"index": "1"}, "index"),
        (frame(0), {"index": 1.5}, "index"),
        (frame(0), {"source": [0, 10]}, "source"),
        (frame(0), {"size": [m.MAX_SIDE + 1, 10]}, "size"),
        (frame(0), {"codec": "pickle"}, "codec"),
        (frame(0), {"budget": float("nan")}, "budget"),
        (frame(0), {"budget": -0.1}, "budget"),
        (notice(0), {"out": HUGE}, "out"),
        (notice(0), {"pts": -HUGE}, "pts"),
        (notice(0), {"turn": 45}, "turn"),
        (notice(0), {"fate": "lost"}, "fate"),
        (PACKET, {"time_base": [0, 1]}, "time_base"),
        (PACKET, {"time_base": [1, 0]}, "time_base"),
        (PACKET, {"time_base": [1, 2**31]}, "time_base"),
        (PACKET, {"dts": HUGE}, "dts"),
        (HELLO, {"video": {"width": 64, "height": 48, "time_base": [0, 1]}}, "time_base"),
        (HELLO, {"video": {"width": 64, "height": 48, "time_base": [1, 1], "matrix": 2**40}}, "matrix"),
        (HELLO, {"video": {"width": 64, "height": 48, "time_base": [1, 1], "rate": [2**40, 1]}}, "rate"),
        (HELLO, {"tracks": []}, "tracks"),
        (HELLO, {"threads": 0}, "threads"),
        (HELLO, {"latency": float("inf")}, "latency"),
        (ack(), {"received": [[0, 1]] * (m.MAX_RANGES + 1)}, "received"),
        (result(0), {"detections": [{"label": "x", "score": 0.5, "box": [0, 0, 1]}]}, "box"),
        (result(0), {"detections": [{"label": "x", "score": 0.5, "box": [0, 0, 1, float("nan")]}]}, "box"),
        (result(0), {"detections": [{"label": "x", "score": 0.5, "box": [0, 0, 1, float("inf")]}]}, "box"),
        (result(0), {"detections": [{"label": "x", "score": float("nan"), "box": [0, 0, 1, 1]}]}, "score"),
        (result(0), {"detections": [{"label": "", "score": 0.5, "box": [0, 0, 1, 1]}]}, "label"),
        (result(0), {"tags": [{"label": "x", "score": 7.0}]}, "score"),
        (result(0), {"detections": [{"label": "x", "score": 0.5, "box": [0, 0, 1, 1]}] * 1001}, "detections"),
        (result(0), {"seconds": {"infer": float("nan")}}, "seconds"),
        (result(0), {"seconds": {str(n): 0.1 for n in range(m.MAX_TABLE + 1)}}, "seconds"),
        (end(1, 0), {"repairs": {str(n): 1 for n in range(m.MAX_TABLE + 1)}}, "repairs"),
        (HELLO, {"omitted": ["x"] * (m.MAX_TABLE + 1)}, "omitted"),
        (news(), {"models": {str(n): {"width": 1, "height": 1} for n in range(m.MAX_TABLE + 1)}}, "models"),
        (news(), {"held": {str(n): [1, []] for n in range(m.MAX_STREAMS + 1)}}, "held"),
    ],
)
def test_limits(made: m.Head, fields: dict[str, Any], key: str) -> None:
    assert key in refused(made, **fields)


def test_the_longest_honest_messages_pass() -> None:
    box = (1234.567, 1234.567, 2345.678, 2345.678)
    found = m.Detection("ü" * m.MAX_NAME, 0.123456, box, [(1.1, 2.2)] * 64, 2**62)
    longest = [
        result(2**62, detections=[found] * m.MAX_FINDINGS, tags=[m.Tag("ü" * m.MAX_NAME, 0.5)] * m.MAX_FINDINGS),
        ack([(2**61 + 2 * i, 2**61 + 2 * i) for i in range(m.MAX_RANGES)]),
    ]
    for made in longest:
        assert Reader[m.Head](type(made)).decode([encode(made)])[0] == made

"""Whatever arrives: a valid header, or PeerError and nothing else."""

from __future__ import annotations

import contextlib
import itertools
import time
import tracemalloc
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from common import messages as m
from common.errors import PeerError
from common.wire import MAX_HEADER, Reader, encode, in_ranges, to_ranges
from tests.builders import frame, notice, result
from tests.strategies import HEADERS, header

READERS = [Reader[Any](kinds) for kinds in (m.ToSink, m.ToProducer, m.ToBroker, m.ToWorker, m.ToResults, m.Frame)]
SINK: Reader[m.ToSink] = Reader(m.ToSink)
RESULTS: Reader[m.ToResults] = Reader(m.ToResults)


def kind_of(reader: Reader[Any], *parts: bytes) -> str:
    """The name under which the message is refused."""
    with pytest.raises(PeerError) as caught:
        reader.decode(parts)
    return caught.value.kind


def read_all(head: bytes) -> None:
    for reader in READERS:
        with contextlib.suppress(PeerError):
            reader.decode([head])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
@example(b"")
@example(b"\xc1")
@example(b"\xdf\xff\xff\xff\xff")
@example(b"\xdd\xff\xff\xff\xff")
@example(b"\x81\xa1t\xa6result" * 3)
@example(b"\x82\xa1t\xa6result\xa1v\xcf" + b"\xff" * 8)
def test_random_bytes(head: bytes) -> None:
    read_all(head)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(HEADERS).flatmap(header), st.data())
def test_truncated_and_damaged_honest_headers(made: m.Head, data: st.DataObject) -> None:
    honest = encode(made)
    cut = data.draw(st.integers(0, len(honest) - 1))
    for reader in READERS:
        with pytest.raises(PeerError):
            reader.decode([honest[:cut]])
    damaged = bytearray(honest)
    for place in data.draw(st.lists(st.integers(0, len(honest) - 1), max_size=5)):
        damaged[place] = data.draw(st.integers(0, 255))
    read_all(bytes(damaged))


SHORT = st.text(max_size=5)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | SHORT | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(SHORT | st.integers(0, 9), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(HEADERS).flatmap(header), ANYTHING, st.data())
def test_any_value_in_any_field(made: m.Head, value: Any, data: st.DataObject) -> None:
    raw = msgspec.msgpack.decode(encode(made))
    raw[data.draw(st.sampled_from(sorted(raw)))] = value
    read_all(msgpack.packb(raw, use_bin_type=True))


@pytest.mark.parametrize("depth", [100, 10_000, MAX_HEADER - 20])
@pytest.mark.parametrize("opener", [b"\x91", b"\x81\xa0"])
def test_deep_nesting(depth: int, opener: bytes) -> None:
    deep = opener * (depth // len(opener))
    assert kind_of(SINK, b"\x82\xa1t\xa5hello\xa1z" + deep) == "header"
    assert kind_of(SINK, b"\x82\xa1t\xa5hello\xa5video" + deep) == "header"
    assert kind_of(SINK, b"\x81\xa1v" + deep) == "header"


@pytest.mark.parametrize(
    "bomb",
    [
        b"\x82\xa1t\xa6result\xaadetections\xdd\xff\xff\xff\xff",
        b"\x82\xa1t\xa6result\xa7seconds\xdf\xff\xff\xff\xff",
        b"\x82\xa1t\xa6result\xa6stream\xdb\xff\xff\xff\xff",
        b"\x82\xa1t\xa6result\xa1z\xc6\xff\xff\xff\xff",
        b"\x82\xa1t\xa6result\xa1z\xc9\xff\xff\xff\xff\x01",
    ],
)
def test_claims_of_huge_lengths_cost_nothing(bomb: bytes) -> None:
    tracemalloc.start()
    started = time.process_time()
    try:
        assert kind_of(RESULTS, bomb) == "header"
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize(("version", "theirs"), [(0, "0.0"), (99, "0.99"), (200, "2.0"), (317, "3.17")])
def test_another_major_version_is_named(version: int, theirs: str) -> None:
    head = encode(msgspec.structs.replace(notice(0), v=version))
    with pytest.raises(PeerError, match=rf"protocol {theirs}, this side 1\.3: upgrade") as caught:
        SINK.decode([head])
    assert caught.value.kind == "version"


def test_another_major_version_is_named_even_where_nothing_else_fits() -> None:
    for raw in ({"t": "greeting", "v": 250}, {"t": "hello", "v": 250}, {"v": 250}):
        assert kind_of(SINK, msgpack.packb(raw)) == "version"
    assert kind_of(SINK, msgpack.packb({"t": "hello", "v": 107})) == "header"


def test_a_newer_minor_version_and_its_unknown_fields_are_accepted() -> None:
    raw = msgpack.unpackb(encode(notice(3)))
    head = msgpack.packb({**raw, "v": 107, "shiny": {"new": [1, 2, None]}, "t2": b"\x00"})
    back, _ = SINK.decode([head])
    assert msgspec.structs.replace(back, v=m.VERSION) == notice(3)


def test_a_message_for_another_socket_is_refused() -> None:
    assert kind_of(SINK, encode(result(0))) == "header"
    assert kind_of(RESULTS, encode(frame(0))) == "header"


def test_parts_and_sizes() -> None:
    head = encode(notice(0))
    assert kind_of(SINK) == "parts"
    assert kind_of(SINK, head, b"", b"") == "parts"
    assert kind_of(SINK, b"\x00" * (MAX_HEADER + 1)) == "oversize"
    assert kind_of(Reader[Any](m.ToSink, max_payload=10), head, bytes(11)) == "oversize"
    assert Reader[Any](m.ToSink, max_payload=10).decode([head, bytes(10)])[1] == bytes(10)
    assert SINK.decode([head])[1] == b""
    assert SINK.decode([memoryview(head), memoryview(b"x")])[1] == b"x"


def test_an_error_is_one_short_line() -> None:
    raw = {**msgpack.unpackb(encode(notice(0))), "fate": "x" * 100_000}
    with pytest.raises(PeerError) as caught:
        SINK.decode([msgpack.packb(raw)])
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(HEADERS).flatmap(header))
def test_an_independent_msgpack_reads_and_writes_our_headers(made: m.Head) -> None:
    raw = msgpack.unpackb(encode(made))
    assert raw["t"] == type(made).__struct_config__.tag
    assert raw["v"] == m.VERSION
    assert raw == msgspec.msgpack.decode(encode(made))
    back, _ = Reader[m.Head](type(made)).decode([msgpack.packb(raw)])
    assert back == made


@given(st.sets(st.integers(0, 300)))
def test_ranges_and_back(indexes: set[int]) -> None:
    ranges = to_ranges(sorted(indexes))
    assert {i for i in range(302) if in_ranges(ranges, i)} == indexes
    assert all(high + 1 < low for (_, high), (low, _) in itertools.pairwise(ranges)), "none touch"


def test_ranges_are_limited_to_the_lowest() -> None:
    assert to_ranges([1, 2, 5, 7, 8, 9, 11], limit=3) == [(1, 2), (5, 5), (7, 9)]
    assert to_ranges([1, 3], limit=0) == []

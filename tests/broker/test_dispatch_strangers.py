"""The dispatcher under any valid message from anybody: nobody's word breaks its books, and all it sends can be read."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.actions import Arrived, Event, Gone, Heard, SendWho, SendWork, Tell, Tick, Unsent
from broker.dispatch import Dispatcher
from broker.limits import Limits
from common import messages as m
from common.wire import Reader, encode
from tests.strategies import header

NAMES = st.sampled_from(("a", "b"))
NUMBERS = st.integers(0, 4) | st.just(2**62)
LIMITS = Limits(queue_frames=5, queue_bytes=60, total_bytes=90, streams=2, workers=3, leases=6)
TO_WORKER: Reader[m.ToWorker] = Reader(m.ToWorker)
TO_SINK: Reader[m.ToResults] = Reader(m.ToResults)
NEWS: Reader[m.News] = Reader(m.News)


def near(kind: type[m.Head]) -> st.SearchStrategy[Any]:
    """Any message of the kind, its names and numbers out of few, so that they meet."""
    fields: dict[str, st.SearchStrategy[Any]] = {}
    for field in msgspec.structs.fields(kind):
        if field.name in ("stream", "worker", "model", "incarnation"):
            fields[field.name] = NAMES
        elif field.name in ("epoch", "index", "room"):
            fields[field.name] = NUMBERS
        elif field.name == "leases":
            fields[field.name] = st.lists(NUMBERS, max_size=5)
        elif field.name == "models":
            fields[field.name] = st.dictionaries(NAMES, st.just(m.InputSpec(8, 8)))
    return st.tuples(header(kind), st.fixed_dictionaries(fields)).map(
        lambda made: msgspec.structs.replace(made[0], **made[1])
    )


ROUTES = st.sampled_from((b"1", b"2", b"3"))
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(Arrived, near(m.Frame), st.binary(max_size=70)),
    st.builds(Heard, ROUTES, st.one_of(*map(near, get_args(m.ToBroker)))),
    st.builds(Gone, ROUTES),
    st.builds(Unsent, NUMBERS),
    st.just(Tick()),
)


@settings(max_examples=250, deadline=None)
@given(st.lists(st.tuples(EVENTS, st.sampled_from((0.0, 0.01, 0.3, 2.0, 100.0))), max_size=40))
def test_anything_from_anybody(events: list[tuple[Event, float]]) -> None:
    core, now = Dispatcher("a", LIMITS), 0.0
    for event, gap in events:
        now += gap
        for action in core.handle(event, now):
            if isinstance(action, SendWork):
                assert TO_WORKER.decode([encode(action.work), action.payload])[0] == action.work
            elif isinstance(action, SendWho):
                assert TO_WORKER.decode([encode(action.who)])[0] == action.who
            elif isinstance(action, Tell):
                assert TO_SINK.decode([encode(action.message)])[0] == action.message
        core.check()
        assert core.workers <= LIMITS.workers
        assert core.leased <= LIMITS.workers * LIMITS.leases
        assert core.queued[0] <= LIMITS.streams * LIMITS.queue_frames + core.counts["returned"]
    assert NEWS.decode([encode(core.news())])[0].workers == core.workers

"""The receiving side of the media link; joined with the sending side in tests/producer/test_link.py."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sink.inlet import ACK_EVERY, ACK_S, Arrival, Inlet


def arrivals(inlet: Inlet, *numbers: int) -> list[str]:
    seen = [inlet.arrived(number).value for number in numbers]
    inlet.check()
    return seen


def test_only_the_next_number_is_new() -> None:
    inlet = Inlet()
    assert arrivals(inlet, 1, 2, 2, 1, 4, 5, 3, 4, 5) == [
        "new", "new", "duplicate", "duplicate", "beyond", "beyond", "new", "new", "new"
    ]  # fmt: skip
    assert (inlet.link, inlet.duplicates, inlet.gap) == (5, 2, False)


def test_a_gap_stays_until_the_missing_one_comes() -> None:
    inlet = Inlet()
    arrivals(inlet, 1, 3)
    assert inlet.gap
    arrivals(inlet, 1)
    assert inlet.gap
    arrivals(inlet, 2)
    assert not inlet.gap


def test_number_zero_is_no_message() -> None:
    assert Inlet().arrived(0) is Arrival.DUPLICATE


def test_the_first_acknowledgement_goes_at_once_and_is_repeated() -> None:
    inlet = Inlet()
    assert inlet.ack_due(5.0)
    inlet.acked(5.0)
    assert not inlet.ack_due(5.0 + ACK_S * 0.9)
    assert inlet.ack_due(5.0 + ACK_S * 1.1)


def test_many_messages_are_acknowledged_early() -> None:
    inlet = Inlet()
    inlet.acked(0.0)
    arrivals(inlet, *range(1, ACK_EVERY))
    assert not inlet.ack_due(0.0)
    arrivals(inlet, ACK_EVERY)
    assert inlet.ack_due(0.0)
    inlet.acked(0.0)
    assert not inlet.ack_due(0.0)


def test_duplicates_do_not_hasten_it() -> None:
    inlet = Inlet()
    arrivals(inlet, 1)
    inlet.acked(0.0)
    arrivals(inlet, *[1] * 100)
    assert not inlet.ack_due(0.0)


def test_progress_hastens_it_within_reason() -> None:
    inlet = Inlet()
    inlet.acked(0.0)
    assert not inlet.ack_due(ACK_S / 5 * 0.9, progressed=True)
    assert inlet.ack_due(ACK_S / 5, progressed=True)


@given(
    st.lists(
        st.integers(0, 12) | st.sampled_from((2**62, -1)) | st.tuples(st.floats(0, 1), st.booleans()), max_size=120
    )
)
def test_any_numbers_at_any_times(events: list[int | tuple[float, bool]]) -> None:
    """Events: a message's number, or time that passes and whether frames were resolved meanwhile."""
    inlet, now, acked, since = Inlet(), 0.0, float("-inf"), 0
    accepted: list[int] = []
    for event in events:
        if isinstance(event, int):
            if inlet.arrived(event) is Arrival.NEW:
                accepted.append(event)
                since += 1
        else:
            now += event[0]
            due = inlet.ack_due(now, event[1])
            assert due or now - acked < ACK_S
            assert due or since < ACK_EVERY
            if due:
                inlet.acked(now)
                acked, since = now, 0
        inlet.check()
        assert accepted == list(range(1, inlet.link + 1))
    seen = [one for one in events if isinstance(one, int)]
    assert len(seen) >= len(accepted) + inlet.duplicates

"""The gate: sound waits for the picture of its time, in order, bounded, and of one generation after the other."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from common.messages import Packet
from sink.soundgate import MAX_JUMP_S, MAX_KEPT_BYTES, SoundGate


def packet(at: int | None, size: int = 10, dts: int | None = None) -> tuple[Packet, bytes]:
    return Packet(stream="s", epoch=1, link=1, track=1, pts=at, dts=dts, time_base=(1, 1000)), bytes(size)


def released(gate: SoundGate, time: Fraction | None) -> list[int | None]:
    taken = [header.pts for header, _, _ in gate.release(time)]
    gate.check()
    return taken


def test_the_gate_opens_up_to_the_pictures_time() -> None:
    gate = SoundGate()
    for at in (0, 20, 40, 60):
        gate.put(*packet(at))
    assert released(gate, Fraction(-1)) == []
    assert released(gate, Fraction(40, 1000)) == [0, 20, 40]
    assert released(gate, Fraction(59, 1000)) == []
    assert released(gate, None) == [60]
    assert gate.forced == 0


def test_sound_without_pts_goes_by_dts_or_at_once() -> None:
    gate = SoundGate()
    gate.put(*packet(None))
    gate.put(*packet(None, dts=30))
    assert released(gate, Fraction(0)) == [None]
    assert released(gate, Fraction(30, 1000)) == [None]


def test_the_gate_is_bounded_in_number_and_bytes() -> None:
    gate = SoundGate(max_packets=3, max_bytes=100)
    for at in range(1000, 1005):
        gate.put(*packet(at))
    assert released(gate, Fraction(0)) == [1000, 1001]
    assert gate.forced == 2
    gate.put(*packet(1005, size=90))
    assert released(gate, Fraction(0)) == [1002, 1003]
    assert gate.forced == 4


def test_without_any_picture_the_oldest_sound_is_left_out() -> None:
    gate = SoundGate()
    size = MAX_KEPT_BYTES // 8
    for at in range(20):
        gate.put(*packet(at, size))
        gate.check()
    assert gate.dropped == 12
    assert released(gate, None) == list(range(12, 20))


@given(
    st.lists(
        st.tuples(st.none() | st.integers(-(2**62), 2**62) | st.integers(0, 200), st.integers(0, 40))
        | st.none()
        | st.fractions(0, Fraction(1, 4), max_denominator=1000),
        max_size=60,
    )
)
def test_sound_leaves_in_order_never_early_unless_forced(
    events: list[tuple[int | None, int] | Fraction | None],
) -> None:
    """Events: a packet ``(pts, size)``, a picture's time, or the end."""
    gate = SoundGate(max_packets=5, max_bytes=100)
    put: list[int] = []
    left: list[int] = []
    stamps: list[Fraction] = []
    for event in events:
        if isinstance(event, tuple):
            pts, size = event
            header, data = packet(pts, size)
            gate.put(replace(header, link=len(put)), data)
            stamps.append(Fraction(pts or 0, 1000))
            put.append(len(put))
            continue
        forced = gate.forced
        gone = [header.link for header, _, _ in gate.release(event)]
        left += gone
        if event is None:
            assert len(left) + gate.dropped == len(put)
            assert gate.forced == forced
        else:
            assert sum(stamps[number] > event for number in gone) <= gate.forced - forced, "early ones are counted"
            assert len(put) - len(left) - gate.dropped <= 5
        gate.check()
    assert left == sorted(left)
    if all(abs(stamp) < MAX_JUMP_S / 2 for stamp in stamps):
        assert gate.dropped == 0
        assert left == put[: len(left)]


def test_sound_far_from_its_picture_is_left_out_and_counted() -> None:
    """Muxers fail on such times, and MP4's ends the process."""
    gate = SoundGate()
    hour, far = 3_600_000, 2**62
    gate.put(*packet(0))
    gate.put(*packet(far))
    gate.put(*packet(-far))
    gate.put(*packet(20, dts=far))
    gate.put(*packet(hour))
    gate.put(*packet(2 * hour))
    gate.put(*packet(40))
    assert released(gate, Fraction(1)) == [0]
    assert released(gate, None) == [0, hour, 2 * hour, 40][1:]
    assert gate.dropped == 3
    assert gate.forced == 0


def test_a_stream_that_goes_on_late_keeps_its_sound() -> None:
    gate = SoundGate()
    gate.put(*packet(10**9))
    assert released(gate, Fraction(10**6)) == [10**9]


@pytest.mark.parametrize("duration", [-1, -(2**62), 2**62, 8_000_000])
def test_a_duration_that_cannot_be_is_forgotten(duration: int) -> None:
    gate = SoundGate()
    header, data = packet(0)
    gate.put(replace(header, duration=duration), data)
    ((header, _, _),) = gate.release(None)
    assert header.duration == 0


def test_generations_leave_one_after_the_other() -> None:
    gate = SoundGate()
    assert gate.generations is None
    for number, at in enumerate((0, 20, 40, 60)):
        gate.put(*packet(at), generation=number // 2)
    assert gate.generations == (0, 1)
    assert [(header.pts, generation) for header, _, generation in gate.release(Fraction(40, 1000))] == [
        (0, 0), (20, 0), (40, 1)
    ]  # fmt: skip
    assert gate.generations == (1, 1)
    gate.check()


def test_a_track_that_others_have_filled_is_not_far_behind() -> None:
    """Longer away than the longest jump: the sound that comes back is at the end of the silence."""
    gate = SoundGate()
    far = 3 * MAX_JUMP_S
    gate.put(*packet(0))
    gate.put(*packet(far * 1000))
    gate.put(*packet(far * 1000 + 20))
    released(gate, Fraction(0))
    gate.reached(1, Fraction(far))
    assert released(gate, Fraction(far + 1)) == [far * 1000, far * 1000 + 20]
    assert gate.dropped == 0

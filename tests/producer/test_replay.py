"""What is kept of the source reaches back far enough for every picture that may be asked for, and no further.

A picture needs all packets of its GOP, and a leading one (shown before its keyframe, coded after it) those of the GOP
before as well. Packets are real ones of PyAV, filled with nothing; the decoder is a model: a delay and an order.
"""

from __future__ import annotations

from dataclasses import dataclass

import av
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from producer.replay import BACK, Kept, Known, Replay
from producer.timeline import Stamp


def packet(size: int = 10, key: bool = False, pts: int | None = None) -> av.Packet:
    made = av.Packet(size)
    made.is_keyframe, made.pts = key, pts
    return made


def known(index: int) -> Known:
    return Known(index, Stamp(index, 1), True)


def put_gops(replay: Replay, lengths: list[int], size: int = 10) -> list[Kept]:
    """GOPs without reordering; each picture comes out of its packet at once."""
    kept = []
    for length in lengths:
        for place in range(length):
            one = replay.put(0, packet(size, place == 0))
            one.pictures.append(known(one.number))
            kept.append(one)
            replay.check()
    return kept


def numbers(kept: list[Kept] | None) -> list[int] | None:
    return None if kept is None else [one.number for one in kept]


def test_it_goes_back_to_the_second_keyframe_before_the_last_one() -> None:
    assert BACK == 2
    replay = Replay()
    put_gops(replay, [5] * 6)
    for index, start in ((29, 15), (25, 15), (24, 10), (15, 5), (14, 0), (10, 0), (9, 0), (0, 0)):
        assert numbers(replay.since(index)) == list(range(start, 30)), index
    assert numbers(replay.since(30)) == list(range(15, 30)), "the next picture: its packet has not come"
    assert numbers(replay.rest()) == list(range(30))


def test_what_is_durable_is_let_go_with_the_next_keyframe() -> None:
    replay = Replay()
    put_gops(replay, [5] * 6)
    replay.durable(27)
    assert numbers(replay.rest()) == list(range(30)), "nothing is gained before the next keyframe"
    replay.put(0, packet(key=True))
    assert numbers(replay.rest()) == list(range(15, 31))
    assert replay.bytes == 16 * 10
    replay.durable(3)  # an older word
    assert numbers(replay.since(28)) == list(range(15, 31))
    assert replay.since(14) is None, "gone"
    replay.check()


def test_the_beginning_is_far_enough_back_for_all() -> None:
    replay = Replay()
    put_gops(replay, [40])
    replay.durable(35)
    assert numbers(replay.since(36)) == list(range(40))


def test_bounded_in_number_and_in_bytes() -> None:
    replay = Replay(max_packets=12)
    put_gops(replay, [5] * 6)
    assert numbers(replay.rest()) == list(range(20, 30)), "from a keyframe on"
    assert replay.since(29) is None, "one GOP before is not enough"
    replay = Replay(max_packets=17)
    put_gops(replay, [5] * 6)
    assert numbers(replay.since(29)) == list(range(15, 30))
    assert replay.since(24) is None
    replay = Replay(max_bytes=1000)
    put_gops(replay, [5] * 6, size=100)
    assert replay.bytes == 1000
    assert numbers(replay.rest()) == list(range(20, 30))


def test_a_packet_beyond_all_bounds() -> None:
    replay = Replay(max_bytes=50)
    replay.put(0, packet(51, key=True))
    replay.check()
    assert replay.rest() == []
    assert replay.get(0) is None
    replay.put(0, packet(20, key=True))
    assert numbers(replay.rest()) == [1]


def test_without_any_keyframe_nothing_can_be_decoded() -> None:
    replay = Replay(max_packets=3)
    for _ in range(5):
        replay.put(0, packet()).pictures.append(known(0))
    assert replay.rest() == []
    assert replay.since(0) is None
    assert Replay().rest() == []
    assert Replay().since(0) is None


def test_what_may_have_been_inside_the_decoder_and_is_gone_is_not_there() -> None:
    """All that is kept has given no picture yet: there may have been others before it."""
    replay = Replay(max_packets=4)
    for _ in range(6):
        replay.put(0, packet(key=True))
    assert replay.since(0) is None
    replay = Replay()
    for _ in range(6):
        replay.put(0, packet(key=True))
    assert numbers(replay.since(0)) == list(range(6))


def test_sound_and_the_end_are_no_places_to_start() -> None:
    replay = Replay()
    assert not replay.put(1, packet(key=True)).starts
    assert not replay.put(0, packet(0, key=True)).starts
    assert replay.put(0, packet(key=True)).starts
    replay.check()


def test_packets_are_found_by_number_and_by_time() -> None:
    replay = Replay(max_packets=4)
    for number in range(6):
        replay.put(number % 2, packet(pts=number // 2, key=number == 0))
    assert [replay.get(number) for number in (None, -1, 1, 6)] == [None] * 4
    assert replay.get(2) is not None
    found = replay.get(4)
    assert found is not None
    assert (found.number, found.track) == (4, 0)
    assert replay.find(2) is found, "the picture's, not the sound's"
    assert replay.find(None) is None
    assert replay.find(0) is None, "no longer kept"
    again = replay.put(0, packet(pts=2))
    assert replay.find(2) is again, "a time that comes again means the newer one"


@dataclass(frozen=True)
class Gop:
    """Pictures in the order of decoding after the keyframe: leading ones, then groups of one reference and the Bs
    before it."""

    leading: int
    groups: list[int]


@dataclass(frozen=True)
class Coded:
    """One video packet: its GOP, its place in the order of showing, whether its picture is a leading one."""

    gop: int
    shown: int
    key: bool
    leading: bool


def coded(gops: list[Gop]) -> list[Coded]:
    """The packets of a stream in the order of decoding."""
    packets: list[Coded] = []
    shown = 0
    for number, gop in enumerate(gops):
        leading = gop.leading if number else 0
        packets.append(Coded(number, shown + leading, True, False))
        packets += [Coded(number, shown + place, False, True) for place in range(leading)]
        shown += leading + 1
        for size in gop.groups:
            packets.append(Coded(number, shown + size, False, False))
            packets += [Coded(number, shown + place, False, False) for place in range(size)]
            shown += size + 1
    return packets


GOPS = st.lists(
    st.builds(Gop, st.integers(0, 3), st.lists(st.integers(0, 3), max_size=4)), min_size=1, max_size=14
)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(GOPS, st.integers(0, 4), st.lists(st.integers(0, 12), max_size=80), st.integers(0, 3))
@example([Gop(0, [])] * 14, 4, [0] * 80, 0)  # all are keyframes, and the decoder runs behind with its threads
def test_any_structure_any_lag(gops: list[Gop], delay: int, lags: list[int], sound: int) -> None:
    replay = Replay()
    stream = coded(gops)
    by_shown = {one.shown: one for one in stream}
    packet_of: dict[int, int] = {}  # place in the order of showing → the packet's number
    came = floor = 0

    def check() -> None:
        replay.check()
        for index in range(floor, came + 1):
            since = replay.since(index)
            if index not in by_shown:
                continue
            assert since is not None
            have = {one.number for one in since}
            for shown in range(index, len(stream)):
                wanted = by_shown[shown]
                back = 1 if wanted.leading else 0
                gops_needed = range(wanted.gop - back, wanted.gop + 1)
                needed = [packet_of[one.shown] for one in stream if one.gop in gops_needed and one.shown in packet_of]
                missing = [number for number in needed if number not in have]
                assert not missing, f"picture {shown} needs packets {missing}, asked from {index}"
            assert sorted(have) == list(range(min(have), max(have) + 1))

    for place, one in enumerate(stream):
        packet_of[one.shown] = replay.put(0, packet(key=one.key)).number
        for _ in range(sound):
            replay.put(1, packet())
        decoded = {earlier.shown for earlier in stream[: max(0, place + 1 - delay)]}
        while came in decoded:
            kept = replay.get(packet_of[came])
            assert kept is not None, "a picture comes out of a packet that was let go"
            kept.pictures.append(known(came))
            came += 1
        lag = lags[place] if place < len(lags) else 3
        if came - lag > floor:
            replay.durable(came - lag - 1)
            floor = came - lag
        if place % 8 == 0 or place + 1 == len(stream):
            check()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 30), st.integers(0, 40))
def test_no_more_is_kept_than_a_few_gops(length: int, lag: int) -> None:
    replay = Replay()
    for number in range(12 * length):
        kept = replay.put(0, packet(key=number % length == 0))
        kept.pictures.append(known(number))
        replay.durable(number - lag)
    first = replay.rest()[0].number
    assert 12 * length - first <= (BACK + 2) * length + lag + 16


@pytest.mark.parametrize("limit", [1, 7, 30])
def test_the_bounds_hold_whatever_comes(limit: int) -> None:
    replay = Replay(max_packets=limit, max_bytes=limit * 10)
    for number in range(200):
        replay.put(number % 3 and 1, packet(number * 7 % 23, key=number % 11 == 0))
        replay.check()

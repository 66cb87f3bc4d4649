"""Which picture belongs to which frame, where the two ends do not see quite the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sink.pairing import MAX_ANNOUNCED, Pairing

#: ``(pts, packet)``
Key = tuple[int | None, int | None]


def pair(announced: list[Key], pictures: list[Key]) -> tuple[list[int | None], Pairing]:
    """As the studio does it: for each frame in order the number of its picture, None where it has none."""
    pairing, waiting, found = Pairing(), list(enumerate(pictures)), []
    for index, (pts, packet) in enumerate(announced):
        pairing.announce(index, pts, packet)
    for index, (pts, packet) in enumerate(announced):
        match = None
        while waiting:
            verdict = pairing.judge(index, pts, *waiting[0][1]).value
            if verdict == "missing":
                break
            number, _ = waiting.pop(0)
            if verdict == "match":
                match = number
                break
        found.append(match)
        pairing.settled(pts, packet)
        pairing.check()
    return found, pairing


def keys(*numbers: int) -> list[Key]:
    return [(number * 100, number) for number in numbers]


def test_equal_lists_match_one_to_one() -> None:
    found, pairing = pair(keys(1, 2, 3), keys(1, 2, 3))
    assert found == [0, 1, 2]
    assert pairing.unannounced == 0


@pytest.mark.parametrize("extra", [[0], [2], [2, 3], [9]])
def test_pictures_that_nobody_announced_are_dropped(extra: list[int]) -> None:
    wanted = [1, 4, 5]
    pictures = sorted([*wanted, *extra])
    found, pairing = pair(keys(*wanted), keys(*pictures))
    assert found == [pictures.index(number) for number in wanted]
    assert pairing.unannounced == sum(number < 5 for number in extra)


@pytest.mark.parametrize("missing", [{1}, {3}, {5}, {2, 3}, {1, 2, 3, 4, 5}])
def test_a_frame_whose_picture_never_comes_has_none_and_its_neighbours_keep_theirs(missing: set[int]) -> None:
    there = [number for number in range(1, 6) if number not in missing]
    found, _ = pair(keys(*range(1, 6)), keys(*there))
    assert found == [there.index(number) if number in there else None for number in range(1, 6)]


def test_equal_pts_are_told_apart_by_the_packet() -> None:
    announced: list[Key] = [(100, 1), (100, 2), (100, 3), (200, 4)]
    assert pair(announced, announced)[0] == [0, 1, 2, 3]
    assert pair(announced, [(100, 1), (100, 3), (200, 4)])[0] == [0, None, 1, 2]


def test_equal_pts_without_packets_are_told_apart_by_their_order() -> None:
    announced: list[Key] = [(100, None), (100, None), (200, None)]
    assert pair(announced, announced)[0] == [0, 1, 2]


def test_without_pts_the_packet_is_enough() -> None:
    announced: list[Key] = [(None, 3), (None, 1), (None, 2)]
    assert pair(announced, announced)[0] == [0, 1, 2]
    assert pair(announced, [(None, 3), (None, 9), (None, 2)])[0] == [0, None, 2]


def test_without_packets_the_pts_is_enough() -> None:
    assert pair([(100, None), (200, None)], [(50, None), (100, None), (200, None)])[0] == [1, 2]


def test_pts_may_go_backwards() -> None:
    announced: list[Key] = [(500, 1), (600, 2), (0, 3), (100, 4)]
    assert pair(announced, announced)[0] == [0, 1, 2, 3]


def test_a_picture_that_may_be_announced_later_is_kept() -> None:
    """One packet can give several pictures: the second waits while the first one's frame is looked for."""
    pairing = Pairing()
    pairing.announce(0, 100, 1)
    assert pairing.judge(0, 100, 200, 2).value == "missing"
    pairing.announce(1, 200, 2)
    assert pairing.judge(1, 200, 200, 2).value == "match"


def test_memory_is_bounded() -> None:
    pairing = Pairing()
    for index in range(MAX_ANNOUNCED):
        pairing.announce(index, index, index)
    pairing.check()
    assert pairing.judge(MAX_ANNOUNCED - 1, None, None, MAX_ANNOUNCED - 1).value == "match"


@given(st.sets(st.integers(0, 40)), st.sets(st.integers(0, 40)), st.booleans(), st.booleans())
def test_whatever_is_missing_or_too_much_the_others_find_each_other(
    announced: set[int], decoded: set[int], with_pts: bool, with_packet: bool
) -> None:
    """Each announced frame gets its own picture where that exists, by either key."""
    if not (with_pts or with_packet):
        return
    wanted, pictures = (
        [(number * 100 if with_pts else None, number if with_packet else None) for number in sorted(numbers)]
        for numbers in (announced, decoded)
    )
    found, pairing = pair(wanted, pictures)
    expected = [pictures.index(one) if one in pictures else None for one in wanted]
    if with_pts:
        assert found == expected
        assert pairing.unannounced <= len(decoded - announced)
    else:  # without times a picture that nobody announced cannot be told from one whose Notice is still under way
        assert all(one in (want, None) for one, want in zip(found, expected, strict=True))


KEYS = st.tuples(st.none() | st.integers(-3, 6) | st.just(-(2**62)), st.none() | st.integers(0, 6) | st.just(2**62))


@given(st.lists(KEYS, max_size=30), st.lists(KEYS, max_size=30))
def test_any_keys_at_all(announced: list[Key], pictures: list[Key]) -> None:
    """Times that repeat, jump or are missing at one end: each picture is shown once at most, and in order."""
    found, pairing = pair(announced, pictures)
    shown = [number for number in found if number is not None]
    assert shown == sorted(set(shown))
    assert len(shown) + pairing.unannounced <= len(pictures)

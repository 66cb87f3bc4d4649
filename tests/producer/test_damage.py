"""Which pictures are known to be corrupt: the core alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.damage import FORGET_S, MAX_STRETCHES, Damage

#: Its decoder tells nothing: what the demuxer marks counts at once.
SILENT = "hevc"


@dataclass
class Coder:
    """Tells a core of a stream in which pictures are shown as they are decoded, and keeps what it answers."""

    damage: Damage = field(default_factory=lambda: Damage(SILENT))
    number: int = -1
    seconds: float = 0.0

    def __call__(self, kinds: str, flagged: bool = False, **told: bool) -> str:
        """``k`` a keyframe, ``r`` what is only marked as one, ``p`` another picture. Returns ``x`` where corrupt."""
        found = ""
        for kind in kinds:
            self.packet(kind, **told)
            found += self.picture(kind, flagged)
        return found

    def packet(self, kind: str, **told: bool) -> None:
        self.number += 1
        self.damage.packet(self.number, kind in "kr", **told)
        self.damage.check()

    def picture(self, kind: str, flagged: bool = False) -> str:
        self.seconds += 0.04
        corrupt = self.damage.picture(self.number, kind in "kr", kind == "k", flagged, self.seconds)
        self.damage.check()
        return "x" if corrupt else "."


def test_a_whole_stream_has_no_damage() -> None:
    assert Coder()("kppkpp" * 20) == "." * 120


def test_from_a_hole_to_the_next_keyframe() -> None:
    coder = Coder()
    assert coder("kp") + coder("p", hole=True) + coder("pppkpp") == "..xxxx..."


def test_a_hole_before_a_keyframe_hurts_nobody_but_its_leading_pictures() -> None:
    coder = Coder()
    assert coder("kp") == ".."
    coder.packet("k", hole=True)
    coder.packet("p")
    assert coder.picture("p") == "x", "a leading picture: it is shown before the keyframe"
    assert coder.damage.picture(2, True, True, False, 1.0) is False
    assert coder("pp") == ".."


def test_the_mark_of_the_demuxer_may_mean_the_packet_after_it() -> None:
    coder = Coder()
    assert coder("kp") + coder("p", marked=True) + coder("kp") + coder("kp") == "..xxx.."


def test_where_the_decoder_tells_a_mark_before_a_keyframe_is_no_damage() -> None:
    """The continuity of a transport stream is broken where two recordings were joined."""
    coder = Coder(Damage("h264"))
    assert coder("kp") + coder("p", marked=True) + coder("pkp") == "......"


def test_such_a_mark_is_none_for_a_decoder_that_lags_either() -> None:
    damage = Damage("h264")
    for number in range(6):
        damage.packet(number, number in (0, 4), marked=number == 2)
    assert not any(damage.picture(n, n in (0, 4), n in (0, 4), False, 0.1 * n) for n in range(6))


def test_where_the_decoder_tells_a_mark_elsewhere_is_damage() -> None:
    """Pictures that are shown before the one that the decoder flags refer to it."""
    coder = Coder(Damage("h264"))
    assert coder("kp") + coder("p", marked=True) + coder("p") + coder("ppkp") == "....xx.."


def test_a_flagged_picture_and_what_follows() -> None:
    coder = Coder()
    assert coder("kp") + coder("p", flagged=True) + coder("ppkp") == "..xxx.."
    assert coder("k", flagged=True) + coder("ppk") == "xxx.", "a keyframe that is damaged ends nothing"


def test_a_flagged_picture_after_the_next_keyframe_came() -> None:
    """The decoder lags behind: what it has still to show was told of long ago."""
    damage = Damage(SILENT)
    for number in range(6):
        damage.packet(number, number in (0, 4))
    shown = [damage.picture(n, n in (0, 4), n in (0, 4), n == 2, 0.1 * n) for n in range(6)]
    assert shown == [False, False, True, True, False, False]


def test_a_refused_packet() -> None:
    coder = Coder()
    coder("kp")
    coder.packet("p")
    coder.damage.refused(coder.number)
    assert coder("ppkp") == "xx.."


def test_refused_again_by_a_fresh_decoder_is_no_news() -> None:
    coder = Coder()
    coder("kpp")
    coder.damage.refused(1)
    assert coder("kpp") == "..."
    coder.damage.refused(1)
    assert coder("pp") == ".."


def test_refresh_by_and_by_is_through_when_the_next_one_begins() -> None:
    coder = Coder()
    assert coder("rppp") + coder("p", hole=True) + coder("p") == "....xx"
    assert coder("rppp") == "xxxx", "it has begun"
    assert coder("rppp") == "....", "it was through"
    assert coder("p", hole=True) + coder("rp") + coder("p", hole=True) == "xxxx"
    assert coder("rp") + coder("r") == "xx.", "what was hurt while it went on needs another"


@pytest.mark.parametrize(("codec", "grey"), [("mpeg4", "xx"), ("hevc", "..")])
def test_grey_before_the_first_keyframe(codec: str, grey: str) -> None:
    assert Coder(Damage(codec))("ppkp") == grey + ".."


def test_a_keyframe_that_only_the_decoder_knows_ends_damage() -> None:
    """Containers that do not mark any."""
    damage = Damage("mpeg4")
    for number in range(4):
        damage.packet(number, False)
    assert [damage.picture(n, False, n == 2, False, 0.1 * n) for n in range(4)] == [True, True, False, False]


def test_without_keyframes_good_again_after_a_while() -> None:
    coder = Coder()
    coder("kp")
    coder("p", hole=True)
    begin = coder.seconds
    while coder("p") == "x":
        assert coder.seconds < begin + FORGET_S + 1
    assert coder.seconds >= begin + FORGET_S
    assert coder("p", flagged=True) + coder("p") == "xx", "but not what is found anew"


def test_the_while_begins_with_the_last_damaged_picture_that_is_shown() -> None:
    damage = Damage(SILENT)
    for number in range(9):
        damage.packet(number, number == 0, hole=number in (1, 5))
    times = {1: 1.0, 5: 5.0, 6: 1.1 + FORGET_S, 7: 4.9 + FORGET_S, 8: 5.1 + FORGET_S}
    assert [damage.picture(number, False, False, False, time) for number, time in times.items()] == [True] * 4 + [False]


def test_damage_that_goes_on_is_not_forgotten() -> None:
    coder = Coder()
    coder("kp")
    for _ in range(5):
        assert coder("p", hole=True) == "x"
        assert set(coder("p" * 100)) == {"x"}


def test_a_picture_of_unknown_packet_counts_as_the_newest() -> None:
    coder = Coder()
    coder("kp")
    assert coder.damage.picture(None, False, False, False, 1.0) is False
    coder.packet("p", hole=True)
    assert coder.damage.picture(None, False, True, False, 1.0) is True
    coder.damage.check()


def test_bounded_whatever_comes() -> None:
    damage = Damage(SILENT)
    for number in range(5 * MAX_STRETCHES):
        damage.packet(number, True, hole=True)
        damage.refused(number)
        damage.check()
    assert damage.picture(0, True, True, False, 0.0)


#: What becomes of a packet in the random streams.
FATES = st.sampled_from(["", "", "", "", "marked", "hole", "refused", "flagged"])


@dataclass(frozen=True)
class One:
    """A packet: its group of pictures, what it is, and its fate."""

    group: int
    kind: str  # k: keyframe, l: leading (shown before the keyframe), b: shown before the p that precedes it, p
    fate: str


@st.composite
def streams(draw: st.DrawFn) -> list[One]:
    found: list[One] = []
    for group in range(draw(st.integers(1, 6))):
        leading = "l" * draw(st.integers(0, 2)) if group else ""
        rest = "".join(draw(st.lists(st.sampled_from(["p", "pb", "pbb"]), max_size=4)))
        found += [One(group, kind, draw(FATES)) for kind in f"k{leading}{rest}"]
    return found


def order(stream: list[One]) -> list[int]:
    """Numbers in the order in which pictures are shown."""
    shown: list[int] = []
    for number, one in enumerate(stream):
        at = len(shown)
        if one.kind in "lb":  # before the keyframe, before the picture that they follow
            wanted = "k" if one.kind == "l" else "p"
            at = max(place for place, other in enumerate(shown) if stream[other].kind == wanted)
        shown.insert(at, number)
    return shown


def intact(stream: list[One], number: int) -> bool:
    """Whether a picture and all that it may refer to is whole: what came before it in its group, and for a leading one
    the group before."""
    one = stream[number]
    groups = (one.group - 1, one.group) if one.kind == "l" else (one.group,)
    for at, other in enumerate(stream[: number + 1]):
        # What is missing before a keyframe belongs to the group before it.
        lacks = other.fate == "hole" and (other.group - (other.kind == "k")) in groups
        marked = other.fate == "marked" or (at > 0 and stream[at - 1].fate == "marked")
        if lacks or (other.group in groups and (marked or other.fate in ("refused", "flagged"))):
            return False
    return True


def play(stream: list[One], delay: int) -> Iterator[tuple[int, bool]]:
    """Numbers and answers of a core, with a decoder that holds ``delay`` packets back."""
    damage = Damage(SILENT)
    waiting = order(stream)
    for number in range(len(stream) + delay + 3):
        if number < len(stream):
            one = stream[number]
            damage.packet(number, one.kind == "k", one.fate == "marked", one.fate == "hole")
            if one.fate == "refused":
                damage.refused(number)
        while waiting and waiting[0] <= number - delay:
            at = waiting.pop(0)
            one = stream[at]
            if one.fate != "refused":
                yield at, damage.picture(at, one.kind == "k", one.kind == "k", one.fate == "flagged", 0.0)
            damage.check()
    assert not waiting


@settings(max_examples=60, deadline=None)
@given(streams(), st.integers(0, 5))
def test_corrupt_is_what_is_not_intact(stream: list[One], delay: int) -> None:
    """Exactly, but for pictures that are shown before the one that the decoder will flag, to which they refer."""
    answers = list(play(stream, delay))
    unseen = {number for number, one in enumerate(stream) if one.fate == "flagged"}
    for number, corrupt in answers:
        unseen.discard(number)
        known = [One(one.group, one.kind, "") if at in unseen else one for at, one in enumerate(stream)]
        assert corrupt == (not intact(known, number)), (number, stream)


@settings(max_examples=30, deadline=None)
@given(streams(), st.integers(0, 5))
def test_however_late_the_decoder_is_marks_and_holes_count(stream: list[One], delay: int) -> None:
    quiet = [One(one.group, one.kind, "" if one.fate == "flagged" else one.fate) for one in stream]
    assert dict(play(quiet, delay)) == dict(play(quiet, 0))

"""Which pictures are known to be corrupt. Pure: no PyAV, no clock.

What is damaged stays damaged, since pictures refer to earlier ones: from any damage that is known of up to the picture
of the next keyframe, pictures are corrupt. Damage has its place in the order of decoding; pictures come in the order in
which they are shown, so that the leading pictures of that keyframe, which may refer to what is damaged, come before it.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Streams that never send a keyframe again (an endless GOP, refresh without marks) shall not stay blind: when nothing
#: was found damaged for so long, in seconds of stream time, their pictures count as good again.
FORGET_S = 10.0
#: Stretches of damage with a keyframe between them that are told apart. Each is inside the decoder, which holds less.
MAX_STRETCHES = 64
#: Keyframes that may lie between such stretches.
MAX_STARTS = 64
#: Codecs whose decoders give no picture before one that is whole: they wait for a keyframe, or for a refresh to end.
#: Others show grey ones.
WAITING = frozenset({"h264", "hevc"})

#: Codecs whose decoders mark nearly every picture that they found damaged.
TELLING = frozenset({"h264", "mpeg1video", "mpeg2video"})

#: A place in the order of decoding: ``(number, 0)`` is just before packet ``number``, ``(number, 1)`` is the packet.
Place = tuple[int, int]


@dataclass(slots=True)
class _Stretch:
    """Damage from ``first`` to ``last`` with no keyframe between."""

    first: Place
    last: Place
    since: float | None = None  # time of the first picture that was shown after ``last``, in seconds


class Damage:
    """The damage of one source, from its first packet on. Packets are known by their numbers, which rise.

    ``codec``: FFmpeg's name of the codec.
    """

    def __init__(self, codec: str) -> None:
        self._waits, self._tells = codec in WAITING, codec in TELLING
        self._newest: int | None = None  # packet
        self._marked = False  # it was, by the demuxer
        self._suspect: Place | None = None  # it was not, but the one before
        self._starts: list[int] = []  # numbers of the last packets that are marked as keyframes
        self._stretches: list[_Stretch] = []  # in order, without those that a keyframe's picture has ended
        self._whole: Place = (-1, 0)  # damage before this place is in no picture that is still to be shown
        self._refresh: int | None = None  # the packet with which the last refresh began

    def packet(self, number: int, starts: bool, marked: bool = False, hole: bool = False) -> None:
        """The source's next video packet. Not told again when it is decoded again.

        ``starts``: it is marked as a keyframe; ``marked``: as corrupt, by the demuxer; ``hole``: what came before it is
        known to be missing.
        """
        if hole or (self._newest is None and not starts and not self._waits):
            self._hurt((number, 0))
        # Where a parser puts packets together, each one's end is found in the demuxer's next one, whose mark it gets:
        # what is damaged is the packet after it.
        if not self._tells:
            if marked or self._marked:
                self._hurt((number, 1))
        else:
            # With a keyframe next, it is less likely loss than a new beginning: segments, recordings that were joined.
            if self._suspect is not None and not starts:
                self._hurt(self._suspect)
            self._suspect = (number, 1) if self._marked else None
        self._newest, self._marked = number, marked
        if starts:
            self._starts = [*self._starts, number][-MAX_STARTS:]

    def refused(self, number: int) -> None:
        """The decoder refused the packet, for the first time or again."""
        self._hurt((number, 1))

    def picture(self, number: int | None, starts: bool, key: bool, flagged: bool, seconds: float) -> bool:
        """Whether the next picture is corrupt. Told of each once, in the order in which they are shown.

        ``number``: of its packet, None where that is not known; ``starts``: the packet is marked as a keyframe;
        ``key``: the decoder says that it is one; ``flagged``: that it is corrupt; ``seconds``: its time, which rises.
        """
        at = number if number is not None else self._newest or 0
        if flagged:
            self._hurt((at, 1))
        elif (key or starts) and number is not None:
            self._recover(number, key)
        for one in self._stretches:
            if one.since is None and one.last <= (at, 1):
                one.since = seconds
        self._stretches = [one for one in self._stretches if one.since is None or seconds < one.since + FORGET_S]
        return flagged or any(one.first <= (at, 1) for one in self._stretches)

    def _recover(self, number: int, key: bool) -> None:
        """The picture of a keyframe is shown, or of what is marked as one."""
        whole: int | None = number
        if not key:  # a refresh begins, some blocks a picture; the one before it is through
            whole, self._refresh = self._refresh, number
        if whole is not None:
            self._whole = max(self._whole, (whole, 1))
            self._stretches = [one for one in self._stretches if one.last >= self._whole]

    def _hurt(self, place: Place) -> None:
        if place < self._whole:
            return  # of a packet that is decoded again
        found: list[_Stretch] = []
        for one in sorted([*self._stretches, _Stretch(place, place)], key=lambda one: one.first):
            if found and not self._parted(found[-1].last, one.first):
                if one.last >= found[-1].last:
                    found[-1].last, found[-1].since = one.last, one.since
            else:
                found.append(one)
        if len(found) > MAX_STRETCHES:
            found[:2] = [_Stretch(found[0].first, found[1].last)]
        self._stretches = found

    def _parted(self, one: Place, other: Place) -> bool:
        """Whether a keyframe lies between two places: its picture ends the first one's damage, not the other's."""
        return any(one < (start, 1) <= other for start in self._starts)

    def check(self) -> None:
        assert len(self._stretches) <= MAX_STRETCHES
        assert len(self._starts) <= MAX_STARTS
        places = [place for one in self._stretches for place in (one.first, one.last)]
        assert places == sorted(places)
        assert all(one.last >= self._whole for one in self._stretches)
        assert self._newest is None or not self._starts or self._starts[-1] <= self._newest

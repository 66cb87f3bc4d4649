"""What is known of one track of a source: where it is on the source's clock, and what is usual for it. Pure.

A stamp of the source plus an offset is an output time. Each jump of the source's clock begins a new :class:`Phase`,
with an offset of its own; a jump reaches each track at another moment, so each track is in a phase of its own choice.
Offsets and output times are exact. What is only compared is in seconds, as a float.
"""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from math import lcm

#: A cadence is measured over so many last steps, and not with fewer than so many.
STEPS, ENOUGH_STEPS = 15, 5
#: Longest step, or length of one packet, that can be usual, in seconds.
MAX_STEP_S = 10
#: A declared cadence outside of these, in seconds, is a fault of the header (90,000 pictures a second, …).
SHORTEST_S, LONGEST_S = Fraction(1, 1000), Fraction(MAX_STEP_S)
#: How many stamps back a usual delay, or a usual distance of sound and picture, is remembered.
LAGS, SKEWS = 256, 64


class Phase:
    """A stretch of the source's clock. ``offset``: from its stamps to output times, in seconds."""

    def __init__(self, number: int, offset: Fraction, guessed: bool) -> None:
        self.number = number
        #: Nothing says yet that the picture's clock has to do with this one: a track of sound goes on by itself.
        self.guessed = guessed
        self.counted = ""  #: the repair as which a track of sound began it, while the picture has not come here
        self.move(offset)

    def move(self, offset: Fraction) -> None:
        self.offset, self.seconds = offset, float(offset)


class Usual:
    """The range in which a quantity has been of late."""

    def __init__(self, size: int) -> None:
        self._values: deque[float] = deque(maxlen=size)

    def __bool__(self) -> bool:
        return bool(self._values)

    @property
    def full(self) -> bool:
        """All that is remembered is there."""
        return len(self._values) == self._values.maxlen

    def add(self, value: float) -> None:
        self._values.append(value)

    def shift(self, by: float) -> None:
        self._values = deque((value + by for value in self._values), self._values.maxlen)

    @property
    def low(self) -> float:
        return min(self._values)

    @property
    def high(self) -> float:
        return max(self._values)

    @property
    def middle(self) -> float:
        return sorted(self._values)[len(self._values) // 2]

    def holds(self, value: float, slack: float) -> bool:
        """Whether ``value`` is usual, or nearly so. Nothing is usual where nothing is known."""
        return bool(self._values) and self.low - slack <= value <= self.high + slack


class Cadence:
    """From one output time to the next: as ``declared`` while what is measured agrees, else as measured; ``default``
    where neither is known. Seconds, and ticks of the output's time base."""

    def __init__(self, base: Fraction, declared: Fraction | None, default: Fraction) -> None:
        if declared is not None and not SHORTEST_S <= declared <= LONGEST_S:
            declared = None
        self._declared = declared is not None
        self._first = max(1, round((default if declared is None else declared) / base))
        self._most = MAX_STEP_S / base
        self._steps: deque[int] = deque(maxlen=STEPS)
        self.ticks = self._first  #: at least 1
        self.misdeclared = False  #: the header's is wrong

    def add(self, ticks: int) -> None:
        """A step between two good stamps was seen."""
        if not 0 < ticks <= self._most:
            return
        self._steps.append(ticks)
        if len(self._steps) < ENOUGH_STEPS:
            return
        # Lost pictures disturb the mean, jitter the median.
        middle = sorted(self._steps)[len(self._steps) // 2]
        agrees = any(abs(one - self._first) * 5 <= self._first for one in (middle, sum(self._steps) / len(self._steps)))
        self.ticks = self._first if agrees else middle
        self.misdeclared = self.misdeclared or (self._declared and not agrees)


class Track:
    """One track since the source was opened last. ``base`` and ``out``: time bases of its stamps and of its output
    times. Attributes without a unit are seconds of output time."""

    def __init__(self, base: Fraction, out: Fraction, cadence: Cadence) -> None:
        self.base, self.out, self.cadence = base, out, cadence
        self.unit, self.tick = float(base), float(out)  #: the same in seconds, nearly
        self.phase: Phase | None = None
        self.pts: int | None = None  #: the last that was given
        #: Where the last stamp ought to be. What was told may be later, never earlier than what was told before.
        self.pos: float | None = None
        self.ticks = 0  #: ``pos`` in the output's time base, exactly
        self.told: int | None = None  #: the last output time that was told, in its time base; it outlives openings
        self.step = 0.0  #: from the last stamp to the next, as expected
        self.at = 0.0  #: when the last stamp arrived, in seconds of our clock
        self.good = False  #: the last stamp needed no repair
        self.repeats = 0  #: how often the last stamp was given again
        self.previous: tuple[Phase, int] | None = None  #: the phase before, and for how many stamps it is remembered
        #: A stamp that fits nowhere, where its packet was put, and how many stamps agree with it.
        self.suspect: tuple[int, float, int] | None = None
        self.doubted = 0  #: stamps that fit nowhere, since one did
        self.left: tuple[float, int] | None = None  #: where a long step ahead began, and stamps since
        self.lag = Usual(LAGS)  #: from ``pos`` to arrival; live only
        self.skew = Usual(SKEWS)  #: of sound: how far it is ahead of the picture
        self.fresh = False  #: of sound: it has gone on since the last picture
        self.votes = 0  #: of sound: stamps in a row that would fit better in the picture's phase
        self._map: tuple[Phase, Fraction, int, int, int] | None = None

    @property
    def due(self) -> float:
        """When the next stamp is expected."""
        assert self.pos is not None
        return self.pos + self.step

    def shift(self, by: float) -> None:
        """Its phase moves."""
        if self.pos is not None:
            self.pos += by
        self.lag.shift(-by)
        if self.left is not None:
            self.left = self.left[0] + by, self.left[1]

    def when(self, pts: int, phase: Phase) -> float:
        """Output time of a stamp in a phase, nearly."""
        return pts * self.unit + phase.seconds

    def offset(self, pts: int, pos: float) -> Fraction:
        """What moves ``pts`` to ``pos``, or rather to the multiple of the output's time base that is nearest."""
        return round(pos / self.tick) * self.out - pts * self.base

    def put(self, pos: float) -> None:
        """It goes on at ``pos``, whatever its stamp."""
        self.pos, self.ticks, self.good = pos, round(pos / self.tick), False

    def enter(self, phase: Phase, pts: int) -> None:
        """Its stamp is right, and of this phase."""
        found = self._map
        if found is None or found[0] is not phase or found[1] is not phase.offset:
            scale, shift = self.base / self.out, phase.offset / self.out
            whole = lcm(scale.denominator, shift.denominator)
            self._map = found = phase, phase.offset, int(scale * whole), int(shift * whole), whole
        _, _, factor, add, whole = found
        self.ticks = (2 * (pts * factor + add) + whole) // (2 * whole)  # rounded
        self.phase, self.pos, self.good, self.suspect = phase, self.when(pts, phase), True, None

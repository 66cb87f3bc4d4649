"""The source's clock, repaired. Pure: no PyAV, no clock.

Each decoded picture gets a strictly increasing output time, each packet of sound one that never goes back, and every
repair is counted by kind. Over all openings of a source the output is one line. Sound and picture are shifted alike
(:mod:`producer.clock_phases`, :mod:`producer.clock_steps`), so that they stay as far apart as the source's clock says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from producer.clock import MAX_STEP_S, Cadence, Phase, Track
from producer.clock_phases import JUMP_S, LEAP_S, Phases
from producer.clock_starts import Starts
from producer.clock_steps import FEW, Steps

#: A file that starts later than this, in seconds, is a cut from a longer stream: its output starts at zero.
LATE_START_S = 10
#: Sound that would go back by up to this is moved to just after what was told last; beyond, it is left out. Seconds.
NUDGE_S = 0.02
#: Times that differ by less are the same, in seconds.
SAME_S = 1e-6
#: Pictures in a hurry follow each other in a part of their cadence.
HURRIED = 8
#: A placeholder comes at least so long after a picture: MKV counts milliseconds. In seconds.
CLOSE_S = Fraction(1, 100)
#: So long after a connection has begun, in seconds, what a server had in stock has come, and the usual lag is known.
SETTLE_S = 60.0
#: A source's clock is slower or faster than ours by at most this share (30 pictures a second that are 29.97 make half
#: of it). What changes the lag by more is a stall, or a burst.
DRIFT = 0.002
#: The latest output time, in seconds (that of :mod:`sink.times`).
LATEST_S = 2**32
#: What pictures and packets of sound last where nothing tells, in seconds.
PICTURE_S, SOUND_S = Fraction(1, 25), Fraction(1, 50)


@dataclass(frozen=True, slots=True)
class Stamp:
    """Output pts and duration of one picture, in the output's time base."""

    pts: int
    duration: int


class Timeline:
    """``base`` is the output's time base. ``live``: the output starts at zero with the first picture and goes by
    wall-clock time. ``start``: a file's first time (seconds) if known; a negative or late one becomes zero.
    """

    def __init__(self, base: Fraction, live: bool, start: Fraction | None = None) -> None:
        self._base, self._live = base, live
        self._latest, self._leap_ticks = int(LATEST_S / base), max(1, int(LEAP_S / base))
        self._last: int | None = None  # the last picture's output time
        self._told: dict[int, Fraction] = {}  # sound track → its last output time, in seconds
        self._floor = -JUMP_S  # sound before this is left out, in seconds
        self._first: Fraction | None = None  # the source's first stamp of a picture, in seconds
        self._lag: float | None = None  # from output time to arrival where a connection begins
        self._begun = 0.0  # when the present one's first picture arrived
        self._settled: tuple[float, float] | None = None  # when its usual lag was known, and what it was
        self.repairs: Counter[str] = Counter()
        self._offset = Fraction(0)  # of a file's stamps
        if not live and start is not None and (start < 0 or start > LATE_START_S):
            self._offset = -start
            self.repairs["rebased"] += 1
        self._phases = Phases(live, LEAP_S, Track(base, base, Cadence(base, None, PICTURE_S)), ())
        self._steps = Steps(live, self._phases, self.repairs)
        self.opened(base, None, (), False, None)

    def opened(
        self,
        video: Fraction,
        rate: Fraction | None,
        sounds: Sequence[tuple[Fraction, Fraction | None]],
        discontinuous: bool,
        at: float | None,
    ) -> None:
        """The source was opened, for the first time or again.

        ``video``: time base of the picture's stamps. ``rate``: declared, pictures a second. ``sounds``: of each track
        the time base and the usual length of a packet in seconds. ``discontinuous``: a format whose clock may jump.
        ``at``: now; None where the source goes on at once (a file played again).
        """
        for track in self._phases.tracks:
            self._steps.settle(track)
        for number, track in enumerate(self._phases.sounds):
            if track.told is not None:
                self._told[number] = track.told * track.base
        if self._lag is not None:
            self._lag += self._drift
        self._settled = None
        known = PICTURE_S if self._last is None else self._phases.video.cadence.ticks * self._base
        if at is None and self._last is not None:
            rate = None  # as before, and that was measured
        picture = Track(video, self._base, Cadence(self._base, 1 / rate if rate else None, known))
        picture.told = self._last
        tracks = [Track(base, base, Cadence(base, length, SOUND_S)) for base, length in sounds]
        for number, track in enumerate(tracks):
            if (told := self._told.get(number)) is not None:
                track.told = -(-told // track.base)
        leap = MAX_STEP_S if self._live or discontinuous else LEAP_S
        self._phases = Phases(self._live, leap, picture, tracks)
        self._steps = Steps(self._live, self._phases, self.repairs)
        self._starts = Starts(self._live, leap, self._phases, self._steps, self.repairs)
        self._at_once, self._misdeclared = at is None, False
        if self._live:
            return
        if self._last is None:
            self._share(self._phases.begin(self._offset))
        elif self._first is not None:  # a guess: the same file again
            self._share(self._phases.begin(self._end * self._base - self._first, guessed=True))

    def _share(self, phase: Phase) -> None:
        for track in self._phases.tracks:
            track.phase = phase

    @property
    def _end(self) -> int:
        """Output time of a picture that follows the last one at once."""
        return 0 if self._last is None else self._last + self._phases.video.cadence.ticks

    def picture(self, pts: int | None, duration: int, at: float) -> Stamp:
        """The output stamp of the next picture in presentation order. ``pts`` and ``duration`` are in the picture
        track's time base; ``at``: when its packet arrived."""
        track = self._phases.video
        track.step = track.cadence.ticks * track.tick
        if track.pos is None:
            self._start(track, pts, at)
        else:
            self._steps.take(track, pts, at)
            if self._settled is None and track.lag.full and at - self._begun >= SETTLE_S:
                self._settled = at, track.lag.middle
        if not self._misdeclared and track.cadence.misdeclared:
            self._misdeclared = True
            self.repairs["wrong_rate"] += 1
        return Stamp(self._tell(track), self._length(track, duration))

    def _start(self, track: Track, pts: int | None, at: float) -> None:
        """The first picture since the source was opened."""
        where = self._end
        if self._last is not None and not self._at_once:
            where = max(where, self._wall(at))
        if pts is None:
            self.repairs["missing_pts"] += 1
            track.put(float(where * self._base))
        elif track.phase is None:
            track.enter(self._phases.begin(where * self._base - pts * track.base), pts)
        else:
            if self._last is None:
                where = self._starts.picture(track, pts)
            self._phases.shift(track.phase, where * self._base - pts * track.base - track.phase.offset)
            track.phase.guessed = False
            track.enter(track.phase, pts)
            self._first = pts * track.base if self._first is None else self._first
        assert track.pos is not None
        track.pts, track.at = pts, at
        self._begun, lag = at, at - track.pos
        if self._live:
            self._floor = track.pos - SAME_S
            track.lag.add(lag)
        if self._lag is None or not self._at_once:
            self._lag = max(lag, self._lag if self._lag is not None else lag)

    def _tell(self, track: Track) -> int:
        """The output time of the picture that has come to its place."""
        out, step = track.ticks, track.cadence.ticks
        if 0 < track.repeats <= FEW:
            out += step - step // 2**track.repeats
        out = min(out, self._latest)
        if self._last is not None:
            if out <= self._last:
                if not track.repeats:
                    self.repairs["not_increasing"] += 1
                out = self._last + max(1, step // HURRIED)
            out = min(out, self._last + self._leap_ticks)
        self._last = track.told = max(0, out)
        return self._last

    def _length(self, track: Track, duration: int) -> int:
        """How long a picture is shown, as the source says if that can be."""
        cadence = track.cadence.ticks
        if 0 < duration * track.unit <= (MAX_STEP_S if self._live else LEAP_S):
            ticks = max(1, round(duration * track.unit / track.tick))
            if ticks * HURRIED >= cadence:
                return ticks
        if duration > 0:
            self.repairs["wrong_duration"] += 1
        return cadence

    def sound(self, track: int, pts: int | None, duration: int, at: float) -> int | None:
        """The output time of the next packet of a sound track, in that track's own time base. None: it has no place
        and is left out."""
        sound = self._phases.sounds[track]
        if sound.pos is not None:
            self._steps.take(sound, pts, at)
        elif not self._starts.sound(sound, pts, at, self._end * self._phases.video.tick, self._last is None):
            self.repairs["sound_before_picture"] += 1
            return None
        length = duration * sound.unit
        sound.step = length if 0 < length <= MAX_STEP_S else sound.cadence.ticks * sound.tick
        return self._tell_sound(sound)

    def _tell_sound(self, sound: Track) -> int | None:
        out = sound.ticks
        if not self._floor <= out * sound.tick <= LATEST_S:
            self.repairs["sound_before_picture"] += 1
            return None
        if sound.told is not None and out <= sound.told:
            if (sound.told - out) * sound.tick > NUDGE_S:
                self.repairs["sound_overlap"] += 1
                return None
            self.repairs["sound_not_increasing"] += 1
            out = sound.told + 1
        sound.told = out
        return out

    def filler(self, at: float) -> Stamp | None:
        """While the source is away: the stamp of a placeholder that is shown now. None: there is no picture yet, or it
        would come too soon after the last one."""
        if self._last is None or ((out := self._wall(at)) - self._last) * self._base < CLOSE_S:
            return None
        self._last = self._phases.video.told = out
        return Stamp(out, self._phases.video.cadence.ticks)

    def _wall(self, at: float) -> int:
        """Output time of what happens now, by wall-clock time."""
        assert self._lag is not None
        assert self._last is not None
        usual = self._phases.video.lag
        lag = self._lag + self._drift
        now = at - (max(lag, usual.high) if usual else lag)
        return min(round(Fraction(now) / self._base), self._last + self._leap_ticks, self._latest)

    @property
    def _drift(self) -> float:
        """By how much the lag has grown since early in the connection, in seconds: the source's clock is not ours."""
        if self._settled is None:
            return 0.0
        track, (since, usual) = self._phases.video, self._settled
        most = DRIFT * max(0.0, track.at - since)
        return max(-most, min(track.lag.middle - usual, most))

    def check(self) -> None:
        self._phases.check()
        assert self._last is None or self._last >= 0
        assert all(count > 0 for count in self.repairs.values())

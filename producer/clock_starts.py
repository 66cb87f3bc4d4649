"""Where a track of a source that was just opened begins. Pure."""

from __future__ import annotations

from collections import Counter

from producer.clock import MAX_STEP_S, Phase, Track
from producer.clock_phases import LEAP_S, Phases
from producer.clock_steps import Steps


class Starts:
    """``leap``: sound and picture whose first times are further apart, in seconds, are not of one clock."""

    def __init__(self, live: bool, leap: int, phases: Phases, steps: Steps, repairs: Counter[str]) -> None:
        self._live, self._leap = live, leap
        self._phases, self._steps, self._repairs = phases, steps, repairs

    def picture(self, track: Track, pts: int) -> int:
        """The first output time of a file: what its stamp says, if that can be."""
        assert track.phase is not None
        heard = max((sound.pos for sound in self._phases.sounds if sound.pos is not None), default=None)
        out = round((pts * track.base + track.phase.offset) / track.out)
        if out < 0:
            self._repairs["negative_start"] += 1
            return 0
        pos = out * track.tick
        if pos <= LEAP_S if heard is None else abs(pos - heard) <= self._leap:
            return out
        self._repairs["rebased"] += 1
        if heard is None:
            return 0
        track.phase = self._phases.begin(track.phase.offset)  # sound stays where it is
        return max(0, round(heard / track.tick))

    def sound(self, sound: Track, pts: int | None, at: float, end: float, first: bool) -> bool:
        """Put the first packet of a sound track in its place. False: nothing says where that is.

        ``end``: output time that follows the last picture, ``first``: there was none yet.
        """
        beside = self._steps.beside(at)
        if pts is not None:
            phase = self._phase(sound, pts, beside, end, first)
            if phase is None:
                return False
            sound.enter(phase, pts)
        elif beside is not None:
            self._repairs["sound_missing_pts"] += 1
            sound.put(beside)
        else:
            return False
        sound.pts, sound.at = pts, at
        if self._live and sound.pos is not None:
            sound.lag.add(at - sound.pos)
        return True

    def _phase(self, sound: Track, pts: int, beside: float | None, end: float, first: bool) -> Phase | None:
        """The phase of a sound track's first stamp: the picture's, if that can be."""
        phase = self._phases.video.phase
        if phase is None:  # no picture with a stamp yet
            return self._phases.begin(sound.offset(pts, beside), guessed=True) if beside is not None else None
        expected = end if beside is None else beside
        off = sound.when(pts, phase) - expected
        if abs(off) <= (LEAP_S if beside is None and first else self._leap):
            return phase
        if (by := self._phases.wrapped(sound, off, back=MAX_STEP_S)) is not None:
            self._repairs["wrapped"] += 1
            return self._phases.begin(phase.offset + by)
        if beside is None and not first:
            return None  # not even the picture's place is certain
        self._repairs["sound_aligned"] += 1
        return self._phases.begin(sound.offset(pts, expected), guessed=True)

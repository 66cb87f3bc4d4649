"""From one stamp of a track to the next, repaired where it must be; every repair is counted. Pure.

A stamp that fits in no phase is taken for wrong until the next ones agree with it: then the source's clock has jumped,
and a new phase begins.
"""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

from producer.clock import MAX_STEP_S, Phase, Track
from producer.clock_phases import JUMP_S, LEAP_S, SMALL_S, Phases

#: How often a picture's stamp may come again before the clock counts as frozen.
FEW = 3
#: Pictures that lag behind what was told are hurried until they have caught up; beyond so many seconds the output
#: does not wait for the source's clock any longer, it moves.
HURRY_S = 10.0
#: A missing time may differ from wall-clock time by so much more than usual, in seconds (live).
DRIFT_S = 0.5
#: So many stamps of sound in a row tell of a jump; of pictures, two. Sound that has moved ahead cannot come back.
AGREE_SOUND = 4
#: After a long step ahead so many pictures may come that show that it was wrong.
DOUBT = 25


class Steps:
    """Moves the tracks of ``phases``. ``live``: what no stamp tells goes by wall-clock time."""

    def __init__(self, live: bool, phases: Phases, repairs: Counter[str]) -> None:
        self._live, self._phases, self._repairs = live, phases, repairs

    def take(self, track: Track, pts: int | None, at: float) -> None:
        """The next stamp of a track that has a place."""
        track.repeats = track.repeats + 1 if pts is not None and pts == track.pts else 0
        if pts is None or track.repeats:
            self._fill(track, pts is None, at)
        elif track.phase is None:
            self._enter(track, self._phases.begin(track.offset(pts, self._resume(track, at))), pts, at)
        elif (phase := self._phase_of(track, pts, at)) is not None:
            self._enter(track, phase, pts, at)
        else:
            track.doubted += 1
            pos = self._resume(track, at)
            track.put(pos)
            track.suspect = track.suspect or (pts, pos, 1)
        track.pts = track.pts if pts is None else pts
        track.at = at

    def beside(self, at: float) -> float | None:
        """Output time of what arrives now, with the picture. None where there is no picture yet."""
        video = self._phases.video
        if video.pos is None:
            return None
        return video.pos + (max(-MAX_STEP_S, min(at - video.at, MAX_STEP_S)) if self._live else 0.0)

    def settle(self, track: Track) -> None:
        """The stamps in doubt were wrong."""
        if track.doubted:
            self._count(track, "wrong_pts", track.doubted)
            track.doubted = 0

    def _resume(self, track: Track, at: float) -> float:
        """Output time of what comes next where no stamp says it: at the track's cadence, or in live mode, where that
        is far from wall-clock time, nearer to it."""
        due = track.due
        if not self._live or not track.lag:
            return due
        lag = at - due
        if lag > track.lag.high + DRIFT_S:
            return due + min(lag - track.lag.high, LEAP_S)
        return due if lag >= track.lag.low - DRIFT_S else due - track.step * 7 / 8

    def _fill(self, track: Track, missing: bool, at: float) -> None:
        """No stamp, or the last one again."""
        track.good = False
        video = track is self._phases.video
        few = video and 0 < track.repeats <= FEW
        if missing:
            self._count(track, "missing_pts")
        elif few or not video:
            self._count(track, "duplicate_pts")
        else:
            self._count(track, "frozen_pts")
            if track.repeats == FEW + 1 and track.pos is not None:
                track.pos += FEW * track.step
        if not few:  # the next picture may be right again, so a few share the time until then
            track.put(self._resume(track, at))

    def _phase_of(self, track: Track, pts: int, at: float) -> Phase | None:
        """The phase of this stamp, a new one where the clock has begun one. None: the stamp is wrong, or the first of
        others like it."""
        own = track.phase
        assert own is not None
        if (phase := self._phases.fitting(track, pts, at)) is not None:
            return phase
        out = track.when(pts, own)
        if (by := self._phases.wrapped(track, out - track.due)) is not None:
            self._repairs["wrapped"] += 1
            return self._phases.begin(own.offset + by)
        if track.left is not None and abs(out - track.left[0] - (track.left[1] + 1) * track.step) <= JUMP_S:
            return own  # the long step ahead was wrong
        return self._jumped(track, own, pts)

    def _jumped(self, track: Track, own: Phase, pts: int) -> Phase | None:
        """The phase that the last stamps have begun, where enough of them agree."""
        if track.suspect is None or track.pts is None:
            return None
        video = track is self._phases.video
        first, pos, agree = track.suspect
        if not 0 < (pts - track.pts) * track.unit <= MAX_STEP_S:
            track.suspect = None
            return None
        if not video and agree + 1 < AGREE_SOUND:
            track.suspect = first, pos, agree + 1
            return None
        if not self._live and 0 < track.when(pts, own) - track.due <= MAX_STEP_S:
            track.doubted = 0
            return own  # a pause
        back = "restarted" if 0 <= first * track.unit < JUMP_S else "jumped_back"
        kind = "jumped_ahead" if track.when(first, own) > pos else back
        self._count(track, kind)
        track.doubted = 0
        phase = self._phases.begin(track.offset(first, pos), guessed=not video)
        phase.counted = "" if video else kind
        return phase

    def _enter(self, track: Track, phase: Phase, pts: int, at: float) -> None:
        """The stamp is right, and of this phase."""
        phases = self._phases
        video = track is phases.video
        before, ticks, due, was, good = track.pos, track.ticks, track.due, track.phase, track.good
        assert before is not None
        if was is not None and phase.number > was.number:
            track.doubted = 0  # they were of this phase already
        self.settle(track)
        if video:
            phase.guessed = False
            self._follow(phase)
            self._catch_up(track, phase, pts)
        if was is not phase:
            phases.leave(track, phase)
        elif track.previous is not None:
            track.previous = (track.previous[0], track.previous[1] - 1) if track.previous[1] else None
        track.enter(phase, pts)
        pos = track.when(pts, phase)
        if good and was is phase:
            track.cadence.add(track.ticks - ticks)
        if video and pos - due > JUMP_S:
            track.left = before, 1
        elif track.left is not None:
            track.left = (track.left[0], track.left[1] + 1) if track.left[1] < DOUBT else None
        if self._live:
            track.lag.add(at - pos)
        self._compare(track, abs(pos - due) <= JUMP_S)

    def _follow(self, phase: Phase) -> None:
        """The picture goes where sound went first: the clock of both has jumped, and is counted once."""
        if kind := phase.counted:
            phase.counted = ""
            self._repairs[kind] += 1
            self._repairs[f"sound_{kind}"] -= 1
            if not self._repairs[f"sound_{kind}"]:
                del self._repairs[f"sound_{kind}"]

    def _catch_up(self, track: Track, phase: Phase, pts: int) -> None:
        """A phase in which the picture would be too late moves, and its sound moves along."""
        pos = track.when(pts, phase)
        if track.phase is not None and phase.number > track.phase.number and track.due - pos > SMALL_S:
            by = track.due - pos  # sound began this phase; it waits a moment for the picture
        elif track.told is not None and track.told * track.tick - pos > HURRY_S:
            by = track.told * track.tick + track.step - pos
            self._repairs["jumped_back"] += 1
        else:
            return
        self._phases.shift(phase, round(Fraction(by) / track.out) * track.out)

    def _compare(self, track: Track, usual: bool) -> None:
        """Remember how far sound is ahead of the picture, where both go on as usual."""
        if track is not self._phases.video:
            track.fresh = usual
            return
        for sound in self._phases.sounds:
            if usual and sound.fresh and sound.phase is track.phase and sound.pos is not None and track.pos is not None:
                sound.skew.add(sound.pos - track.pos)
            sound.fresh = False

    def _count(self, track: Track, kind: str, times: int = 1) -> None:
        self._repairs[kind if track is self._phases.video else f"sound_{kind}"] += times

"""Which phase of the source's clock is a stamp of? Pure.

A stamp that goes on with what its track gave before is of the track's own phase. Another one is tried in the phases
that other tracks have found; sound and picture that would be as far apart as they use to be speak for a phase.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

from producer.clock import MAX_STEP_S, Phase, Track

#: A step that differs from the expected one by less is not looked at, in seconds.
SMALL_S = 0.1
#: So far back, or ahead where nothing speaks for it, a stamp is no jitter, in seconds.
JUMP_S = 1.0
#: Sound and picture of a new recording start no further apart, in seconds.
JOIN_S = 3.0
#: The longest step of the output from one picture to the next, in seconds. MP4 cannot even write a longer pause (32
#: bits of time-base units: 13 h at 90 kHz, 71 min at 1 MHz).
LEAP_S = 3600
#: Sound is this near to its picture when it comes, besides the pictures that a decoder holds, where nothing better is
#: known; in seconds.
NEAR_S, DECODER_PICTURES = 2.0, 20
#: A delay may differ from what was usual by so much, in seconds.
LAG_S = 1.0
#: After so many stamps of sound in a row that would fit better in the picture's phase it moves there, and what fits
#: better by so many seconds counts.
VOTES, BETTER_S = 25, 0.25
#: For so many stamps a track may turn back to the phase that it has left.
BRIEF = 25
#: Most phases that are kept.
MAX_PHASES = 8
#: Where the stamps of usual formats start again, in seconds: MPEG-TS (33 bits at 90 kHz), RTMP (32 bits of
#: milliseconds), RTP (32 bits at 90 kHz). RTP of other clocks: 32 bits of the track's time base.
WRAPS = (Fraction(2**33, 90_000), Fraction(2**32, 1000), Fraction(2**32, 90_000))


class Phases:
    """The phases of one opening of a source, and its tracks. ``leap``: the longest step ahead of the picture that is a
    pause unless something speaks against it, in seconds."""

    def __init__(self, live: bool, leap: int, video: Track, sounds: Sequence[Track]) -> None:
        self._live, self._leap = live, leap
        self.video, self.sounds = video, list(sounds)
        self._phases: list[Phase] = []
        self._begun = 0

    @property
    def tracks(self) -> list[Track]:
        return [self.video, *self.sounds]

    def begin(self, offset: Fraction, guessed: bool = False) -> Phase:
        """A new phase."""
        phase = Phase(self._begun, offset, guessed)
        self._begun += 1
        self._phases = [*self._phases[1 - MAX_PHASES :], phase]
        return phase

    def shift(self, phase: Phase, by: Fraction) -> None:
        """Move the phase, and all tracks in it."""
        phase.move(phase.offset + by)
        for track in self.tracks:
            if track.phase is phase:
                track.shift(float(by))

    def leave(self, track: Track, phase: Phase) -> None:
        """The track goes over to ``phase``. Its present one was none if it turns back alone."""
        left = track.phase
        used = any(other.phase is left for other in self.tracks if other is not track)
        if left is not None and phase.number < left.number and not used:
            self._phases = [one for one in self._phases if one is not left]
        track.previous, track.votes = (left, BRIEF) if left is not None else None, 0

    def fitting(self, track: Track, pts: int, at: float) -> Phase | None:
        """The phase in which the track's next stamp goes on with what came before. None: it fits nowhere."""
        own = track.phase
        assert own is not None
        if track is not self.video and self._rejoins(track, pts):
            return self.video.phase
        if abs(track.when(pts, own) - track.due) <= SMALL_S:
            return own
        best: tuple[bool, float] | None = None
        found: Phase | None = None
        for phase in self._candidates(track):
            out = track.when(pts, phase)
            error = out - track.due
            if phase is own:
                fits = -JUMP_S <= error <= self._pause(track)
            else:
                fits = abs(error) <= (JOIN_S if phase.number > own.number else JUMP_S)
            seen = track.lag.holds(at - out, LAG_S) or self._beside_other(track, phase, out)
            rank = not seen, abs(error)
            if (fits or seen) and (best is None or rank < best):
                best, found = rank, phase
        return found

    def wrapped(self, track: Track, error: float, back: float = JUMP_S) -> Fraction | None:
        """What to add to an output time that is off by ``error`` because the clock has started again, and kept its
        rate. None: it has not."""
        for wrap in (*WRAPS, 2**32 * track.base):
            for by in (wrap, -wrap):
                if -back <= error + float(by) <= MAX_STEP_S:
                    return by
        return None

    def _candidates(self, track: Track) -> Iterator[Phase]:
        """Its own, those that began later, those of other tracks, and the one that it has just left."""
        assert track.phase is not None
        others = [other.phase for other in self.tracks if other is not track]
        if track.previous is not None:
            others.append(track.previous[0])
        for phase in self._phases:
            if phase.number >= track.phase.number or phase in others:
                yield phase

    def _pause(self, track: Track) -> float:
        """The longest step ahead that is believed at once, in seconds, where nothing else speaks for it."""
        if track is not self.video or self._live:
            return JUMP_S
        if self._leap < LEAP_S and track.phase is not None and track.pos is not None:
            # Sound that is here, and not there where the stamp is, speaks against it.
            return JUMP_S if self._beside_other(track, track.phase, track.pos) else self._leap
        return self._leap

    def _beside_other(self, track: Track, phase: Phase, out: float) -> bool:
        """Whether sound and picture would be as far apart as they use to be."""
        if track is not self.video:
            return self.video.phase is phase and self._near(track, out - (self.video.pos or 0.0))
        return any(
            sound.phase is phase and sound.pos is not None and self._near(sound, sound.pos - out)
            for sound in self.sounds
        )

    def _near(self, sound: Track, ahead: float) -> bool:
        """Whether this track of sound may be so far ahead of the picture."""
        if sound.skew:
            return sound.skew.holds(ahead, JUMP_S)
        return abs(ahead) <= NEAR_S + DECODER_PICTURES * self.video.step

    def _rejoins(self, sound: Track, pts: int) -> bool:
        """Whether this track of sound is in a phase of its own, and wrongly so."""
        own, shared, picture = sound.phase, self.video.phase, self.video.pos
        if own is shared or own is None or shared is None or picture is None:
            sound.votes = 0
            return False
        ahead = sound.when(pts, shared) - picture
        if own.guessed:
            return self._near(sound, ahead)
        better = False
        if sound.skew and self._near(sound, ahead):
            middle, alone = sound.skew.middle, sound.when(pts, own) - picture
            better = abs(ahead - middle) + BETTER_S < abs(alone - middle)
        sound.votes = sound.votes + 1 if better else 0
        return sound.votes > VOTES

    def check(self) -> None:
        numbers = [phase.number for phase in self._phases]
        assert numbers == sorted(set(numbers))
        assert len(numbers) <= MAX_PHASES
        for track in self.tracks:
            assert track.step >= 0
            assert track.pos is not None or track.repeats == 0

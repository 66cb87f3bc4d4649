"""One opened connection to a source: its tracks chosen, demuxed by a thread into a bounded queue, until it ends.

A source that has dropped is opened again by making a new Source. Nothing is decoded in this file.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import av
from av.audio.stream import AudioStream

from common.config import Stream
from common.errors import SourceError
from common.log import mask
from common.media import Track, decode_threads
from producer.damage_rtp import Losses
from producer.inputs import faults
from producer.inputs.arrival import BASE, Arrival
from producer.inputs.facts import facts_of
from producer.inputs.opening import open_input
from producer.inputs.parameters import Parameters
from producer.inputs.plan import make_plan
from producer.inputs.tracks import choose_audio, choose_video, omitted
from producer.inputs.watch import PictureWatch
from producer.playback import Playback

#: The demuxer runs ahead by at most so many packets and bytes.
AHEAD_PACKETS, AHEAD_BYTES = 128, 32 * 2**20
#: A file whose header promises more frames than came, by more than this share, was cut off.
MISSING_SHARE = 0.02
#: Longest missing end of a stream from a server that has told its length, in seconds.
END_SLACK_S = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Demuxed:
    """One packet of a chosen track; ``packet.size`` 0 is the end of that track. ``at``: when it came
    (``time.monotonic()``)."""

    track: int
    packet: av.Packet
    at: float


class Source:
    """An open source: its chosen tracks (video first) and a queue of packets. Opening blocks, in any thread, and
    raises SourceError.

    ``notify`` is called from the demuxing thread when something may be taken. ``sound``: "all", "first" or "none".
    Nothing of ``video`` and ``audio`` but their codec contexts may be used after :meth:`close`.
    """

    def __init__(self, stream: Stream, notify: Callable[[], None] = lambda: None, sound: str = "all") -> None:
        self.address = stream.source
        self._input = open_input(make_plan(stream))
        plan, container = self._input.plan, self._input.container
        try:
            self.video = choose_video(container, plan)
            self.audio: list[AudioStream] = choose_audio(container, sound)
            #: What is left out, for a person; of pictures, what was seen before the first one.
            self.omitted = [*omitted(container, self.tracks), *self._input.left_out]
            facts = facts_of(plan, stream, container, self.video)
        except BaseException:
            self._input.close()
            raise
        self.live, self.finite, self.rereadable = facts.live, facts.finite, facts.rereadable
        self.discontinuous = facts.discontinuous
        self.start_time, self.rate, self.constant_rate = facts.start_time, facts.rate, facts.constant_rate
        #: How many frames the header promises, for the progress bar.
        self.expected_frames = self._input.expected or facts.expected
        #: The same, where the header lists them one by one, else 0.
        self.listed_frames = facts.listed
        #: Time base of the picture's packets, in seconds.
        self.video_time_base = facts.time_base
        self._plan, self._length = plan, facts.length
        self._arrival = Arrival() if facts.clockless else None
        self._playback = Playback() if facts.paced else None
        contexts = [track.codec_context for track in self.tracks]
        # Here, since the decoders are used by another thread.
        self._parameters = [Parameters(one.name, one.extradata or b"") for one in contexts]
        self._notify = notify
        self._queue: deque[Demuxed] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._stopped = self._closing = self._done = self.ended = False
        self.pictures = 0  #: packets of the video track so far
        self.error: SourceError | None = None
        #: Give packets as fast as they are taken, for now.
        self.hurry = False
        self._thread = threading.Thread(target=self._run, name="demux", daemon=True)
        threads = decode_threads(self.video.width, self.video.height, stream.decode_threads)
        # Last, since it is given back by stop().
        self._losses = Losses(plan.over_datagrams and threads == 1)

    @property
    def tracks(self) -> list[Track]:
        return [self.video, *self.audio]

    def start(self) -> None:
        self._thread.start()

    def take(self) -> Demuxed | None:
        """The next packet, or None where none waits (look at ``ended`` and ``error``)."""
        with self._changed:
            if not self._queue:
                return None
            one = self._queue.popleft()
            self._bytes -= one.packet.size
            self._changed.notify()
        return one

    @property
    def drained(self) -> bool:
        """Nothing waits and nothing will come."""
        with self._changed:
            return self.ended and not self._queue

    def stop(self) -> None:
        """Take nothing more from the source. What waits is thrown away."""
        with self._changed:
            self._stopped = True
            self._queue.clear()
            self._bytes = 0
            self._changed.notify()
        self._input.interrupt()
        self._losses.hush()

    def close(self) -> None:
        """Stop, and give everything back: at once, or when the thread comes out of a read that hangs."""
        self.stop()
        with self._changed:
            if self._closing:
                return
            self._closing = True
            idle = self._done or not self._thread.ident
        if idle:  # what stands behind the container may take a moment
            threading.Thread(target=self._input.close, name="close", daemon=True).start()

    def _run(self) -> None:
        try:
            self.error = self._demux()
        except Exception as error:  # noqa: BLE001  the thread must never die silently
            self.error = faults.broke_off(self._plan, error)
        with self._changed:
            if self._stopped:
                self.error = None
            self.ended = True
        self._notify()
        with self._changed:
            self._done = True
            closing = self._closing
        if closing:
            self._input.close()

    def _demux(self) -> SourceError | None:
        """Read to the end. Returns what is wrong with that end."""
        ended, last = 0, 0.0  # tracks that have given their last, empty packet; the latest time, in seconds
        lost = False  # something, since the last packet of the picture
        read = time.monotonic()
        watch = PictureWatch(self._plan.read_s if self.live else None, read)
        packets = self._input.packets(self.tracks)
        self._losses.listen()
        try:
            for number, packet in packets:
                now = time.monotonic()
                if not ended and self._is_mute(now - read):
                    return faults.is_mute(self._plan)
                if number == 0:
                    watch.picture(now)
                elif packet.size and watch.overdue(now):
                    return faults.without_picture(self._plan, sound=number is not None)
                lost = self._losses.heard() or lost
                if number is None:
                    read = now
                    continue
                ended += packet.size == 0
                if number == 0 and packet.size:
                    packet.is_corrupt, lost = packet.is_corrupt or lost, False
                    if self._arrival is not None:
                        self._stamp(packet, self._arrival.stamp(now))
                whole = self._parameters[number].carried(packet, self._begins_anew)
                if whole is None:
                    return faults.other_parameters(self._plan, self.tracks[number], self._begins_anew)
                last = _time(whole, last)
                self._wait_until_due(whole)
                if not self._put(Demuxed(number, whole, time.monotonic())):
                    return None
                read = time.monotonic()
                watch.paused(read - now)
        except IndexError:
            # Once all tracks have ended, PyAV stumbles over those that appeared under way; damage can look like one.
            if ended < len(self.tracks):
                raise
        finally:
            self._losses.close()
            packets.close()  # type: ignore[attr-defined]
        return self._end(last)

    @property
    def _begins_anew(self) -> bool:
        """Whether a change of the source shows in its next opening."""
        return self.live and not self.finite

    def _end(self, last: float) -> SourceError | None:
        for what in self._input.left_out:
            if what not in self.omitted:
                log.warning("left out: %s", what)
        if self._begins_anew:
            return faults.has_ended(self._plan, self._input.why())
        start = float(self.start_time or 0)
        if self._length is not None and last - start < self._length - max(END_SLACK_S, self._length * MISSING_SHARE):
            return faults.ended_early(self._plan, last - start, self._length)
        return None

    def _is_mute(self, seconds: float) -> bool:
        """Whether a read of so many seconds came to its deadline. RTSP's demuxer makes an end of it, or gives a last
        packet."""
        return self._plan.read_s is not None and seconds >= self._plan.read_s

    def _stamp(self, packet: av.Packet, time: int) -> None:
        packet.time_base = BASE
        packet.pts = packet.dts = time
        packet.duration = 0

    def _wait_until_due(self, packet: av.Packet) -> None:
        stamp = packet.pts if packet.dts is None else packet.dts
        if self._playback is None or self.hurry or stamp is None or packet.time_base is None:
            return
        delay = self._playback.delay(float(stamp * packet.time_base), time.monotonic())
        if delay > 0:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped, delay)

    def _put(self, one: Demuxed) -> bool:
        with self._changed:
            while not self._stopped and (len(self._queue) >= AHEAD_PACKETS or self._bytes >= AHEAD_BYTES):
                self._changed.wait()
            if self._stopped:
                return False
            self._queue.append(one)
            self.pictures += one.track == 0 and one.packet.size > 0
            self._bytes += one.packet.size
        self._notify()
        return True


def cut_short(source: Source) -> str | None:
    """What to say of a file that ended before its header says, else None.

    Packets are counted, not pictures: an edit list leaves pictures out of a file that is whole. Only MP4 and MOV list
    their packets; AVI counts pictures that were never written too.
    """
    promised, found = source.listed_frames, source.pictures
    if not source.finite or not promised or found >= promised * (1 - MISSING_SHARE):
        return None
    return f"{mask(source.address)} is cut off: its header promises {promised} frames, {found} could be read"


def _time(packet: av.Packet, last: float) -> float:
    """The latest time so far, in seconds, with this packet."""
    if packet.pts is None or packet.time_base is None:
        return last
    return max(last, float((packet.pts + (packet.duration or 0)) * packet.time_base))

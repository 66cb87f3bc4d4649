"""The source: opened with deadlines, its tracks chosen, demuxed by a thread into a bounded queue.

PyAV's errors become SourceError here and nowhere else. Nothing is decoded in this file.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.stream import VideoStream

from common.errors import SourceError
from common.files import check_source_file, is_live, local_path
from common.log import mask
from common.media import Track
from producer.playback import Playback

#: Deadlines for opening and for one read of a network source, in seconds.
OPEN_S, READ_S = 10.0, 15.0
#: The demuxer runs ahead by at most so many packets and bytes.
AHEAD_PACKETS, AHEAD_BYTES = 128, 32 * 2**20
#: A file whose header promises more frames than came, by more than this share, was cut off.
MISSING_SHARE = 0.02
#: The mean rate of a file of constant rate may differ from it by this share (the last picture's length, rounding).
RATE_SLACK = Fraction(1, 100)


@dataclass(frozen=True, slots=True)
class Demuxed:
    """One packet of a chosen track; ``packet.size`` 0 is the end of that track."""

    track: int
    packet: av.Packet


class Source:
    """An open source: its chosen tracks (video first) and a queue of packets.

    ``notify`` is called from the demuxing thread when something may be taken. ``at_own_speed``: a file gives its
    packets no faster than it plays.
    """

    def __init__(
        self,
        address: str,
        sound: str = "all",
        notify: Callable[[], None] = lambda: None,
        at_own_speed: bool = False,
    ) -> None:
        self.address = address
        self.live = is_live(address)
        self._container = _open(address, self.live)
        self.video = _choose_video(self._container, address)
        self.audio: list[AudioStream] = [one for one in self._container.streams.audio if _known(one)]
        if sound != "all":
            self.audio = self.audio[:1] if sound == "first" else []
        self.omitted = _omitted(self._container, self.tracks)
        self._notify = notify
        self._queue: deque[Demuxed] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._stopped = self.ended = False
        self.pictures = 0  #: packets of the video track so far
        self.error: SourceError | None = None
        self._playback = Playback() if at_own_speed and not self.live else None
        #: Give packets as fast as they are taken, for now.
        self.hurry = False
        self._thread = threading.Thread(target=self._demux, name="demux", daemon=True)

    @property
    def tracks(self) -> list[Track]:
        return [self.video, *self.audio]

    @property
    def indexed(self) -> bool:
        """Whether the header lists every packet."""
        return "mov" in self._container.format.name.split(",")

    @property
    def start_time(self) -> Fraction | None:
        """The container's first time, in seconds."""
        start = self._container.start_time
        return None if start is None else Fraction(start, av.time_base)

    @property
    def rate(self) -> Fraction | None:
        rate = self.video.average_rate or self.video.guessed_rate or self.video.base_rate
        return Fraction(rate) if rate and rate > 0 else None

    @property
    def constant_rate(self) -> Fraction | None:
        """The rate where the pictures keep to it. None where it is unknown or varies: a mean, written into a file,
        would be taken for the grid that the pictures lie on."""
        mean, grid = self.video.average_rate, self.video.base_rate
        if not mean or not grid:
            return self.rate
        return Fraction(grid) if abs(Fraction(mean) / Fraction(grid) - 1) <= RATE_SLACK else None

    @property
    def expected_frames(self) -> int | None:
        """How many frames the header promises, for the progress bar."""
        if self.video.frames:
            return self.video.frames
        if self._container.duration and self.rate:
            return round(self._container.duration / av.time_base * self.rate) or None
        return None

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

    def _demux(self) -> None:
        numbers = {track.index: number for number, track in enumerate(self.tracks)}
        ended = 0  # tracks that have given their last, empty packet
        try:
            for packet in self._container.demux(self.tracks):
                ended += packet.size == 0
                self._wait_until_due(packet)
                if not self._put(Demuxed(numbers[packet.stream.index], packet)):
                    break
        except av.FFmpegError as error:
            self.error = SourceError(f"{mask(self.address)} broke off: {error.strerror or error}")
        except Exception as error:  # noqa: BLE001  the thread must never die silently
            # Once all tracks have ended, PyAV stumbles over those that appeared under way; damage can look like one.
            if not (isinstance(error, IndexError) and ended >= len(self.tracks)):
                self.error = SourceError(f"{mask(self.address)} cannot be read on: {type(error).__name__}: {error}")
        with self._changed:
            self.ended = True
        self._notify()

    def _wait_until_due(self, packet: av.Packet) -> None:
        if self._playback is None or self.hurry or packet.dts is None or packet.time_base is None:
            return
        delay = self._playback.delay(float(packet.dts * packet.time_base), time.monotonic())
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
    promised, found = source.video.frames, source.pictures
    if source.live or not source.indexed or not promised or found >= promised * (1 - MISSING_SHARE):
        return None
    return f"{mask(source.address)} is cut off: its header promises {promised} frames, {found} could be read"


def _open(address: str, live: bool) -> InputContainer:
    shown = mask(address)
    path = local_path(address)
    if path is not None:
        check_source_file(path)
        if path.is_file():
            address = f"file:{path}"  # taken literally: a colon in a file's name would be read as a protocol's
    options: dict[str, str] = {}
    if address.startswith(("rtsp://", "rtsps://")):
        options = {"rtsp_transport": "tcp", "timeout": str(int(READ_S * 1e6))}
    try:
        return av.open(address, timeout=(OPEN_S, READ_S) if live else None, options=options)
    except av.InvalidDataError:
        if live:
            raise SourceError(f"{shown} sends nothing that can be read as video: check the address") from None
        hint = "it is not a video, or it was cut off before its index was written"
        raise SourceError(f"{shown} cannot be read as a video: {hint}") from None
    except (av.FFmpegError, ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SourceError(f"{shown} cannot be opened: {reason}; check the address and that the server runs") from None


def _choose_video(container: InputContainer, address: str) -> VideoStream:
    real = [one for one in container.streams.video if not _is_cover(one) and _known(one) and one.codec_context.width]
    if not real:
        kinds = ", ".join(f"{one.type} ({one.name})" for one in _named(container)) or "nothing"
        raise SourceError(f"{mask(address)} has no video track: it holds {kinds}")
    return max(real, key=lambda one: (bool(one.disposition & one.disposition.default), one.width * one.height))


def _known(stream: Track) -> bool:
    """Whether FFmpeg has a decoder; PyAV gives no codec context where not."""
    return stream.codec_context is not None


def _is_cover(stream: VideoStream) -> bool:
    return bool(stream.disposition & stream.disposition.attached_pic)


@dataclass(frozen=True, slots=True)
class _Named:
    index: int
    type: str
    name: str


def _named(container: InputContainer) -> list[_Named]:
    return [
        _Named(one.index, one.type, one.codec_context.name if one.codec_context is not None else "unknown codec")
        for one in container.streams
    ]


def _omitted(container: InputContainer, chosen: list[Track]) -> list[str]:
    kept = {track.index for track in chosen}
    return [f"track {one.index}: {one.type} ({one.name})" for one in _named(container) if one.index not in kept]

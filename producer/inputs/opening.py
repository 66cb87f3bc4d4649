"""Opens what a plan says: a container of PyAV and what stands behind it, with deadlines. Blocks, in any thread.

What a live stream consists of is looked for quickly at first, and more patiently where something is missing: a track
that is announced and has not begun, a picture whose keyframe has not come.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import av
from av.audio.codeccontext import AudioCodecContext
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext

from common.bridge import Bridge
from common.errors import SourceError
from common.log import mask
from common.media import Track
from producer.inputs import faults
from producer.inputs.deadline import Deadline
from producer.inputs.plan import Lack, Plan, as_hls
from producer.inputs.reader import Reader, Silent, open_pipe
from producer.pictures import Pictures, open_pictures

#: Time in which a program that has closed its pipe is gone, in seconds.
END_S = 0.5
#: Containers that say of any AAC that it is of 44.1 kHz and stereo, until the first packet of it was looked at.
FLV, FLV_AAC = ("flv", "live_flv"), (44100, 2)


class _Deadlines:
    """PyAV asks for its deadline twice: before it connects, and before it looks for the tracks."""

    def __init__(self, plan: Plan, began: float) -> None:
        now = time.monotonic()
        self._open = began + (plan.open_s or 0.0)
        self._connect = min(self._open, now + (plan.connect_s or 0.0))
        self._asked = 0

    def __float__(self) -> float:
        self._asked += 1
        return max(0.0, (self._open if self.looking else self._connect) - time.monotonic())

    @property
    def looking(self) -> bool:
        """Whether it is connected."""
        return self._asked > 1

    @property
    def over(self) -> bool:
        """Some demuxers turn the deadline into errors of their own."""
        return time.monotonic() >= (self._open if self.looking else self._connect)


class Input:
    """An open container."""

    def __init__(
        self, plan: Plan, container: InputContainer, reader: Reader | None = None, bridge: Bridge | None = None,
        pictures: Pictures | None = None,
    ) -> None:  # fmt: skip
        self.plan, self.container = plan, container
        self._reader, self._bridge, self._pictures = reader, bridge, pictures

    @property
    def expected(self) -> int | None:
        """How many pictures there are, where that is known without reading them."""
        return self._pictures.count if self._pictures is not None else None

    @property
    def left_out(self) -> list[str]:
        """Files that are no pictures, so far."""
        if self._pictures is None:
            return []
        named, count = self._pictures.left_out, self._pictures.left_out_count
        return [*named, f"{count - len(named)} files more"] if count > len(named) else named

    def packets(self, tracks: list[Track]) -> Iterator[tuple[int | None, av.Packet]]:
        """Packets, each with its place in ``tracks``, and an empty one of each track at the end. Those of other tracks
        come too, without a place: they show that something is still sent."""
        if self._pictures is not None:
            yield from ((0, packet) for packet in self._pictures.packets())
            yield 0, av.Packet()
            return
        numbers = {track.index: number for number, track in enumerate(tracks)}
        packets, deadline = self.container.demux(), Deadline(self.plan.read_s)
        try:
            while True:
                with deadline:
                    packet = next(packets, None)
                if packet is None:
                    return
                yield numbers.get(packet.stream.index), packet
        finally:
            packets.close()  # type: ignore[attr-defined]

    def why(self) -> str:
        """What is known of its end, "" where nothing is."""
        return _last_words(self._bridge) if self._bridge is not None else ""

    def interrupt(self) -> None:
        """From any thread: whoever waits in ``packets`` gets the end soon, where that can be done."""
        if self._reader is not None:
            self._reader.stop()

    def close(self) -> None:
        """Give everything back. Not while another thread reads."""
        self.container.close()
        _free(self._reader, self._bridge)


def _free(reader: Reader | None, bridge: Bridge | None) -> None:
    if reader is not None:
        reader.close()
    if bridge is not None:
        bridge.close()


def _last_words(bridge: Bridge) -> str:
    """Why a pipe has ended: its end may be seen before the program's."""
    end = time.monotonic() + END_S
    while bridge.alive and time.monotonic() < end:
        time.sleep(0.01)
    return bridge.why()


def open_input(plan: Plan) -> Input:
    """Raises SourceError."""
    if plan.kind == "pictures":
        pictures = open_pictures(plan.address, plan.rate)
        return Input(plan, pictures.container, pictures=pictures)
    reader, bridge = None, None
    try:
        if plan.kind == "srt":
            bridge = Bridge.reading(plan.address)
            reader = Reader(bridge.fd, plan.read_s)
        elif plan.kind == "pipe":
            reader = _pipe(plan)
        plan, container = _attempts(plan, reader, bridge)
        return Input(plan, container, reader, bridge)
    except BaseException:
        _free(reader, bridge)
        raise


def _pipe(plan: Plan) -> Reader:
    try:
        if plan.address == "/dev/stdin":
            return Reader(0, plan.read_s)
        return Reader(open_pipe(plan.address), plan.read_s, owns=True)
    except OSError as error:
        raise faults.cannot_open(plan, error) from None


def _attempts(plan: Plan, reader: Reader | None, bridge: Bridge | None) -> tuple[Plan, InputContainer]:
    began = time.monotonic()
    container = _open(plan, reader, bridge, began)
    for better in (_as_it_is, _more_patient):
        wanted = better(plan, container)
        if wanted is not plan:
            plan = wanted
            container.close()
            if reader is not None:
                reader.rewind()
            container = _open(plan, reader, bridge, began)
    if reader is not None:
        reader.settled()
    return plan, container


def _as_it_is(plan: Plan, container: InputContainer) -> Plan:
    """The plan for what it has turned out to be, where that makes a difference."""
    return as_hls(plan) if container.format.name == "hls" and not plan.hls else plan


def _more_patient(plan: Plan, container: InputContainer) -> Plan:
    return plan.patient(lacks) if (lacks := lack(container)) else plan


def _open(plan: Plan, reader: Reader | None, bridge: Bridge | None, began: float) -> InputContainer:
    options = dict(plan.options)
    if plan.look is not None:
        options["analyzeduration"] = str(int(plan.look * 1e6))
    deadlines = _Deadlines(plan, began) if plan.connect_s is not None else None
    try:
        container = av.open(
            reader if reader is not None else plan.address,  # type: ignore[arg-type]
            format=plan.format,
            options=options,
            timeout=(deadlines, plan.read_s) if deadlines or plan.read_s else None,  # type: ignore[arg-type]
        )
    except (av.FFmpegError, SourceError, Silent, ValueError, OSError) as error:
        if bridge is not None:
            why = bridge.why() if isinstance(error, Silent) else _last_words(bridge)
            if why := why or ("" if bridge.connected else "no answer"):
                raise SourceError(f"{mask(plan.address)} cannot be opened: {why}") from None
        if deadlines is not None and (deadlines.over or isinstance(error, av.error.ExitError)):
            raise faults.no_answer(plan, deadlines.looking) from None
        raise faults.cannot_open(plan, error) from None
    # RTSP's demuxer takes the deadline for the end of what is to be looked at.
    if deadlines is not None and deadlines.over and plan.scheme == "rtsp" and lack(container) == "picture":
        container.close()
        raise faults.no_answer(plan, True)
    return container


def lack(container: InputContainer) -> Lack:
    """What was announced, or must be there, and is not known (rightly) yet."""
    videos = container.streams.video
    # Where there is a picture for which there is no decoder, waiting does not help.
    if not any(one.codec_context is None or has_begun(one) for one in videos):
        return "picture"
    begun = all(has_begun(one) for one in container.streams.audio if one.codec_context is not None)
    return "" if begun else "sound"


def has_begun(track: Track) -> bool:
    """Whether the parameters of ``track`` come from its own data."""
    context = track.codec_context
    if isinstance(context, VideoCodecContext):
        return bool(context.width and context.pix_fmt)
    if not (context.sample_rate and context.channels):
        return False
    return (
        track.container.format.name not in FLV
        or (context.sample_rate, context.channels) != FLV_AAC
        or _is_true(context)
    )


def _is_true(told: AudioCodecContext) -> bool:
    """Whether a decoder finds in the header what is told of the sound."""
    if told.name != "aac" or not told.extradata:
        return True
    with contextlib.suppress(av.FFmpegError, ValueError):
        decoder = av.CodecContext.create("aac", "r")
        decoder.extradata = told.extradata
        decoder.open()
        # HE-AAC shows the half of what comes out.
        return decoder.sample_rate in (told.sample_rate, told.sample_rate // 2)
    return True

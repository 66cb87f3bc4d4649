"""What an address asks for: how it is read, with which options, and how long it may take. Nothing is opened here.

Every option of FFmpeg that is set here has an effect that was measured (FFmpeg takes unknown ones without a word). Not
set: ``fflags nobuffer``, which throws away the packets that the opening has looked at, and with them the first
keyframe; ``low_delay``, which concerns decoders that are not used.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Literal
from urllib.parse import parse_qsl

from common.config import Stream
from common.errors import SourceError
from common.files import capture_device, check_source_file, is_live, is_pictures, local_path
from common.log import mask

#: What an opened source does not have (yet).
Lack = Literal["", "picture", "sound"]
Kind = Literal["file", "pipe", "device", "pictures", "srt", "network"]
#: Pictures whose times are looked at for the frame rate, in streams that come at their own speed. By itself FFmpeg
#: takes 20 to 40, which is a second or two.
RATE_PICTURES = 3
#: How much of a live stream is looked at for tracks that are announced, or may still come, in seconds. RTMP does not
#: say whether there is sound: one without would be looked at for this long. RTSP says so, but it may be silent.
RTMP_LOOK_S, RTSP_LOOK_S = 1.0, 1.5
#: Of others, a share of the deadline, which is for connecting as well; and where patience is needed.
LOOK_SHARE, PATIENT_SHARE = 0.6, 0.9
#: A live source whose picture or sound has not come by then gets so many times its deadline in all: one keyframe in
#: 10 s is common, and RTMP servers send nothing before it.
PATIENCE = 3
#: HLS reads a segment at once and then waits for the next one, in seconds: twice the usual length.
SEGMENT_S = 20.0
#: Size of a UDP socket's buffer, in bytes: a keyframe of many megabits at once. The kernel may allow less.
UDP_BUFFER = 4 * 2**20
#: Options of a capture device, as they are written behind its path, and FFmpeg's names.
DEVICE_OPTIONS = {"size": "video_size", "rate": "framerate", "format": "input_format"}
_FLV = re.compile(r"\.flv(?:$|[?#])", re.IGNORECASE)
_PLAYLIST = re.compile(r"\.m3u8?(?:$|[?#])", re.IGNORECASE)
_DEVICE_VALUES = {"size": r"\d{2,5}x\d{2,5}", "rate": r"\d+(?:\.\d+|/\d+)?", "format": r"\w+"}


@dataclass(frozen=True, slots=True)
class Plan:
    """How a source is opened and read.

    ``address`` is what FFmpeg is given. ``look``: how much is looked at for the tracks' parameters, in seconds; None:
    FFmpeg's own measure. ``connect_s``, ``open_s`` (all of it) and ``read_s`` are deadlines in seconds, None: none.
    """

    kind: Kind
    address: str
    live: bool = False
    #: It can be read again from its beginning, with the same content.
    rereadable: bool = True
    format: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    look: float | None = None
    connect_s: float | None = None
    open_s: float | None = None
    read_s: float | None = None
    #: In place of ``open_s``, where the picture has not come by then.
    patience_s: float | None = None
    hls: bool = False
    #: Pictures a second, of files that have no times.
    rate: Fraction = Fraction(25)
    #: Its packets may come in bursts, or as fast as they are taken: what is shown live is played at its own speed.
    paced: bool = False

    @property
    def scheme(self) -> str:
        return self.address.partition("://")[0].lower()

    @property
    def over_datagrams(self) -> bool:
        """Whether it is RTP whose packets may get lost."""
        rtsp = self.scheme in ("rtsp", "rtsps") and self.options.get("rtsp_transport") == "udp"
        return rtsp or self.scheme == "rtp"

    def patient(self, lacks: Lack) -> Plan:
        """The plan for another try where something is missing that may still come; itself where that is no use."""
        if self.patience_s is None or self.look is None:
            return self
        # Sound may never come, and there is a picture.
        look = LOOK_SHARE * self.patience_s / PATIENCE if lacks == "sound" else PATIENT_SHARE * self.patience_s
        return replace(self, look=look, open_s=self.patience_s) if look > self.look else self


def make_plan(stream: Stream) -> Plan:
    """Raises SourceError for an address that makes no sense, and for a file that cannot be a source."""
    address, live = stream.source, is_live(stream.source)
    path = local_path(address)
    if path is not None:
        check_source_file(path)
    if is_pictures(address):
        return Plan("pictures", address, paced=True, rate=Fraction(stream.picture_rate))
    if capture_device(address) is not None:
        return _device(address, stream.source_timeout)
    if path is None and address != "-":
        return _network(address, stream)
    name = "/dev/stdin" if path is None else str(path)
    if os.path.isfile(name):
        # "file:": taken literally, else a colon in a file's name would be read as a protocol's.
        return Plan("file", f"file:{name}", live=live, paced=True)
    options = {"fpsprobesize": str(RATE_PICTURES)} if stream.mode == "live" else {}
    return Plan("pipe", name, live=live, rereadable=False, options=options, paced=True)


def _network(address: str, stream: Stream) -> Plan:
    scheme = address.partition("://")[0].lower()
    seconds = stream.source_timeout
    options = {"fpsprobesize": str(RATE_PICTURES)}
    plan = Plan(
        "srt" if scheme == "srt" else "network", address, live=True, rereadable=False, options=options,
        look=LOOK_SHARE * seconds, connect_s=seconds, open_s=seconds, read_s=seconds, patience_s=PATIENCE * seconds,
    )  # fmt: skip
    if scheme in ("rtsp", "rtsps"):
        options["rtsp_transport"] = stream.transport
        if stream.transport == "udp":
            options["buffer_size"] = str(UDP_BUFFER)
        return replace(plan, look=min(RTSP_LOOK_S, LOOK_SHARE * seconds))
    web = scheme in ("http", "https")
    if scheme.startswith("rtmp") or (web and _FLV.search(address)):
        plan = replace(plan, look=min(RTMP_LOOK_S, LOOK_SHARE * seconds))
        # RTMP servers say nothing before the first keyframe.
        return plan if web else replace(plan, connect_s=PATIENCE * seconds, open_s=PATIENCE * seconds)
    if scheme in ("udp", "rtp"):
        options["buffer_size"] = str(UDP_BUFFER)
        options["overrun_nonfatal"] = "1"  # what does not fit is lost, and the stream goes on
    if web and _PLAYLIST.search(address):
        return as_hls(plan)
    return plan


def as_hls(plan: Plan) -> Plan:
    """The same where it is HLS."""
    # Its segments come at once, so that FFmpeg's own measure costs nothing; of a playlist that lies here as well.
    longest = plan.patience_s
    return replace(
        plan, look=None, connect_s=longest, open_s=longest, read_s=max(SEGMENT_S, plan.read_s or 0.0), paced=True,
        hls=True,
    )  # fmt: skip


def _device(address: str, seconds: float) -> Plan:
    """``/dev/video0?size=1280x720&rate=30&format=mjpeg``"""
    path, _, query = address.partition("?")
    options = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in DEVICE_OPTIONS:
            raise SourceError(f"{mask(address)}: {name!r} is no option of a device: use {', '.join(DEVICE_OPTIONS)}")
        if not re.fullmatch(_DEVICE_VALUES[name], value):
            raise SourceError(
                f"{mask(address)}: {name}={value} makes no sense: write size=1280x720, rate=30, format=mjpeg"
            )
        options[DEVICE_OPTIONS[name]] = value
    return Plan(
        "device", path, live=True, rereadable=False, format="v4l2", options=options, connect_s=seconds, open_s=seconds,
        read_s=seconds,
    )  # fmt: skip

"""Every message that crosses a process boundary, as a frozen typed header (docs/protocol.md).

All wire structures live here. No sockets, no clock. A header is a msgpack map with the type in ``t`` and the
protocol version in ``v``; the payload (a JPEG, a compressed packet, a NUT file) is a second message part and is
never inspected here. Unknown fields are ignored, so adjacent minor versions understand each other.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

#: Protocol version, ``major * 100 + minor``. Another major is refused aloud, another minor is accepted.
VERSION = 103

#: Longest name of a stream, model, worker or label on the wire, in characters.
MAX_NAME = 256
#: Most findings that one frame may carry.
MAX_FINDINGS = 1000
#: Largest frame side that a header may claim, in pixels (8K with room to spare).
MAX_SIDE = 16384
#: Most frames that one Notice may stand for.
MAX_RUN = 10_000
#: Most entries of a table in a message: stages, repairs, states, models.
MAX_TABLE = 256
#: Most streams in one News (a broker holds at most 512).
MAX_STREAMS = 4096
#: Largest carrier of one track's codec parameters, in bytes.
MAX_CARRIER = 2**20
#: Most index ranges in one acknowledgement or one stream's news.
MAX_RANGES = 4096

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME)]
Text = Annotated[str, msgspec.Meta(max_length=2000)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Side = Annotated[int, msgspec.Meta(ge=1, le=MAX_SIDE)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e6)]
#: Names of things that are counted or measured, by a peer's choice.
Counts = Annotated[dict[Name, Count], msgspec.Meta(max_length=MAX_TABLE)]
Durations = Annotated[dict[Name, Seconds], msgspec.Meta(max_length=MAX_TABLE)]
#: Frames in a row, told of together.
Run = Annotated[int, msgspec.Meta(ge=1, le=MAX_RUN)]
#: Inclusive index range ``(first, last)``.
Range = tuple[Count, Count]
Ranges = Annotated[list[Range], msgspec.Meta(max_length=MAX_RANGES)]
#: A time in units of a time base: 64 bits in FFmpeg, two fewer here, so that sums fit as well.
Ticks = Annotated[int, msgspec.Meta(ge=-(2**62), le=2**62)]
Denominator = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
#: ``(numerator, denominator)``, 32 bits each in FFmpeg.
Ratio = tuple[Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)], Denominator]
#: Seconds in one tick, as a ratio that is more than zero.
TimeBase = tuple[Denominator, Denominator]
#: A coordinate in pixels; the limits also keep NaN and infinity out.
Pixels = Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)]
Score = Annotated[float, msgspec.Meta(ge=0, le=1)]
#: A number of ISO/IEC 23091-2.
ColourCode = Annotated[int, msgspec.Meta(ge=0, le=255)]
Point = tuple[Pixels, Pixels]
#: ``(x0, y0, x1, y1)`` in pixels, right and bottom exclusive.
Box = tuple[Pixels, Pixels, Pixels, Pixels]

Mode = Literal["lossless", "live"]
#: What the producer did with an announced frame (DESIGN §4, Notice).
Fate = Literal["sent", "not_sampled", "window_full", "corrupt", "gap"]
#: What Closed says to a producer whose stream another one has taken over.
SUPERSEDED = "another producer has taken over this stream"
Outcome = Literal["ok", "failed", "refused", "no_sink"]


class Part(msgspec.Struct, frozen=True, omit_defaults=True):
    """A piece of a message."""


class Detection(Part, frozen=True):
    """One thing found in one frame."""

    label: Name
    #: Confidence, 0…1.
    score: Score
    #: Source pixels, upright.
    box: Box
    points: Annotated[list[Point], msgspec.Meta(max_length=64)] = []
    track: Count | None = None


class Tag(Part, frozen=True):
    """A statement about a whole frame."""

    label: Name
    score: Score


class VideoInfo(Part, frozen=True):
    """The picture properties that the codec parameters do not carry reliably."""

    #: Coded size in pixels, before rotation.
    width: Side
    height: Side
    time_base: TimeBase
    #: Average frame rate, for rate control and progress only; ``None`` when unknown.
    rate: Ratio | None = None
    #: Sample aspect ratio before rotation; ``None`` is square.
    sar: Ratio | None = None
    #: Numbers of ISO/IEC 23091-2, 2 = unspecified; range 1 = limited, 2 = full, 0 = unspecified.
    color_range: ColourCode = 0
    primaries: ColourCode = 2
    transfer: ColourCode = 2
    matrix: ColourCode = 2


class TrackInfo(Part, frozen=True):
    """One track of the source: how to open its decoder at the other end."""

    kind: Literal["video", "audio"]
    codec: Name
    #: Container that carries the codec parameters in the Hello payload.
    carrier: Literal["nut", "matroska", "avi"]
    #: Length of this track's part of the Hello payload, in bytes; parts lie one after the other.
    size: Annotated[int, msgspec.Meta(ge=0, le=MAX_CARRIER)]
    time_base: TimeBase
    sample_rate: Count = 0
    channels: Count = 0


class InputSpec(Part, frozen=True):
    """What a model wants to be sent: announced by the worker, passed on by the broker's News."""

    width: Side
    height: Side
    #: Letterbox (keep the aspect ratio, pad) or stretch to the size.
    letterbox: bool = True


Tracks = Annotated[list[TrackInfo], msgspec.Meta(min_length=1, max_length=32)]
Threads = Annotated[int, msgspec.Meta(ge=1, le=64)]
Models = Annotated[dict[Name, InputSpec], msgspec.Meta(max_length=MAX_TABLE)]


class Head(msgspec.Struct, frozen=True, kw_only=True, tag_field="t"):
    """Common to all headers."""

    v: int = VERSION


# -- media link: producer ↔ sink -------------------------------------------------------------------------------------


class Hello(Head, tag="hello", frozen=True, kw_only=True):
    """Producer → sink, repeated until answered. Payload: the tracks' carriers, one after the other."""

    stream: Name
    #: Random, new for each run of a producer; a repeated Hello of the same session gets the same epoch.
    session: Name
    mode: Mode
    #: Live: how long the sink waits for a result after the frame's Notice, in seconds.
    latency: Seconds
    model: Name
    video: VideoInfo
    tracks: Tracks
    #: Decoder threads and thread type: both ends must decode alike (DESIGN §4).
    threads: Threads = 1
    #: What was left out of the source, for the log ("second video track").
    omitted: Annotated[list[Text], msgspec.Meta(max_length=MAX_TABLE)] = []


class Welcome(Head, tag="welcome", frozen=True, kw_only=True):
    """Sink → producer: the epoch that the sink allocated."""

    stream: Name
    session: Name
    epoch: Count
    #: Index of the first frame that the sink wants announced.
    resume: Count = 0
    #: False where no output needs pictures: packets may stay at home.
    media: bool = True


class Unknown(Head, tag="unknown", frozen=True, kw_only=True):
    """Sink → producer: no such stream and epoch here; say Hello (again)."""

    stream: Name
    epoch: Count


class Packet(Head, tag="packet", frozen=True, kw_only=True):
    """Producer → sink: one compressed packet as it was demuxed. Payload: its bytes."""

    stream: Name
    epoch: Count
    link: Count
    track: Count
    pts: Ticks | None = None
    dts: Ticks | None = None
    duration: Ticks = 0
    time_base: TimeBase
    key: bool = False
    corrupt: bool = False
    discard: bool = False


class Notice(Head, tag="notice", frozen=True, kw_only=True):
    """Producer → sink: one decoded frame exists, and what was done with it."""

    stream: Name
    epoch: Count
    link: Count
    index: Count
    #: The decoder's pts (match key), in the video track's time base.
    pts: Ticks | None = None
    #: Link number of the packet that the picture came out of; the second match key.
    packet: Count | None = None
    #: Repaired pts for the output, in the video track's time base.
    out: Ticks
    duration: Ticks = 0
    #: Clockwise degrees that bring the picture upright.
    turn: Literal[0, 90, 180, 270] = 0
    fate: Fate
    reason: Text = ""
    #: Frames that this Notice stands for, from ``index`` on: more than one only with fate ``gap``, which merges.
    count: Run = 1
    #: From the arrival of the frame's packet at the producer to this Notice, in seconds.
    seconds: Seconds = 0.0


class Change(Head, tag="change", frozen=True, kw_only=True):
    """Producer → sink: the source was opened again; the Packets and Notices that follow are of these tracks, and the
    frames go on counting. Payload: the tracks' carriers, as in Hello."""

    stream: Name
    epoch: Count
    link: Count
    #: ``time_base`` is that of the output times, as in the Hello of this epoch.
    video: VideoInfo
    tracks: Tracks
    threads: Threads = 1


class Filler(Head, tag="filler", frozen=True, kw_only=True):
    """Producer → sink: the source is away; show a placeholder at this time. It is no frame and has no index."""

    stream: Name
    epoch: Count
    link: Count
    #: Output pts and duration, in the video track's output time base.
    out: Ticks
    duration: Ticks = 0
    #: Why the source is away, for the picture.
    text: Text = ""
    #: For how long it has been, in seconds.
    away: Seconds = 0.0


class End(Head, tag="end", frozen=True, kw_only=True):
    """Producer → sink: nothing follows. ``last`` is the last index announced, −1 for none."""

    stream: Name
    epoch: Count
    link: Count
    last: Annotated[int, msgspec.Meta(ge=-1)]
    #: What stopped the source, "" at its natural end.
    reason: Text = ""
    repairs: Counts = {}


class Ack(Head, tag="ack", frozen=True, kw_only=True):
    """Sink → producer: the whole state, repeated every 100 ms."""

    stream: Name
    epoch: Count
    #: All link numbers up to this one have arrived.
    link: Count
    #: A number beyond ``link + 1`` was seen: send again from ``link + 1``.
    gap: bool = False
    #: Indexes above ``resolved`` for which a result or a GaveUp is here.
    received: Ranges = []
    #: All indexes up to this one are decided and with the encoders; −1 for none.
    resolved: int = -1
    #: All indexes up to this one are flushed to disk in every file output; −1 for none.
    durable: int = -1
    #: Frames so far whose answer came after the deadline, or whose budget ran out: congestion, for the window.
    late: Count = 0


class Closed(Head, tag="closed", frozen=True, kw_only=True):
    """Sink → producer: trailers are written, the ledger is final."""

    stream: Name
    epoch: Count
    states: Counts = {}
    #: First output that failed, "" if none did.
    error: Text = ""


# -- frames: producer → broker → worker → sink ------------------------------------------------------------------------


class Frame(Head, tag="frame", frozen=True, kw_only=True):
    """Producer → broker (and inside Work): a picture for the model. Payload: JPEG or raw I420 planes."""

    stream: Name
    epoch: Count
    index: Count
    model: Name
    sink: Name
    #: Upright source size in pixels.
    source: tuple[Side, Side]
    #: Size of the picture in the payload, which is the whole source scaled.
    size: tuple[Side, Side]
    codec: Literal["jpeg", "i420"] = "jpeg"
    #: The latency budget that begins with the frame's arrival at the broker, in seconds; ``None`` is unlimited.
    budget: Seconds | None = None


class News(Head, tag="news", frozen=True, kw_only=True):
    """Broker → producers (PUB), every 250 ms."""

    #: Random, new for each start of the broker.
    incarnation: Name
    number: Count
    #: Stream → epoch and the indexes held (queued or leased).
    held: Annotated[dict[Name, tuple[Count, Ranges]], msgspec.Meta(max_length=MAX_STREAMS)] = {}
    #: Models that live workers serve.
    models: Models = {}
    workers: Count = 0


class Ready(Head, tag="ready", frozen=True, kw_only=True):
    """Worker → broker: here I am. Sent at the start, and after every Who."""

    worker: Name
    models: Models
    #: Frames that the worker can take now.
    room: Count
    device: Text = ""


class Beat(Head, tag="beat", frozen=True, kw_only=True):
    """Worker → broker, every 250 ms and after every Who: absolute credit."""

    worker: Name
    #: Broker incarnation that the leases belong to.
    incarnation: Text = ""
    leases: Annotated[list[Count], msgspec.Meta(max_length=MAX_RANGES)] = []
    room: Count
    #: Worker drains: it wants no more work.
    draining: bool = False


class Work(Head, tag="work", frozen=True, kw_only=True):
    """Broker → worker: one leased frame. Payload: the frame's."""

    incarnation: Name
    lease: Count
    frame: Frame
    #: Failed or broken-off attempts before this one; such a frame runs alone.
    attempt: Count = 0


class Started(Head, tag="started", frozen=True, kw_only=True):
    """Worker → broker: the batch with these leases goes into the model now."""

    worker: Name
    incarnation: Name
    leases: Annotated[list[Count], msgspec.Meta(max_length=MAX_RANGES)]


class Done(Head, tag="done", frozen=True, kw_only=True):
    """Worker → broker: these leases are over. Sent after the Results."""

    worker: Name
    incarnation: Name
    leases: Annotated[list[Count], msgspec.Meta(max_length=MAX_RANGES)]
    outcome: Outcome
    reason: Text = ""
    #: From batch start to its end, in seconds.
    seconds: Seconds = 0.0
    room: Count = 0


class Who(Head, tag="who", frozen=True, kw_only=True):
    """Broker → worker: your leases or your name mean nothing to me; say Ready."""

    incarnation: Name


class Result(Head, tag="result", frozen=True, kw_only=True):
    """Worker → sink."""

    stream: Name
    epoch: Count
    index: Count
    worker: Name
    detections: Annotated[list[Detection], msgspec.Meta(max_length=MAX_FINDINGS)] = []
    tags: Annotated[list[Tag], msgspec.Meta(max_length=MAX_FINDINGS)] = []
    #: Stage → seconds ("decode", "wait", "infer").
    seconds: Durations = {}
    batch: Count = 1


class GaveUp(Head, tag="gaveup", frozen=True, kw_only=True):
    """Broker → sink: attempts are used up, or the payload was refused by the worker."""

    stream: Name
    epoch: Count
    index: Count
    #: ``model_error``, ``poison``, ``bad_payload``.
    reason: Name
    detail: Text = ""


class Expired(Head, tag="expired", frozen=True, kw_only=True):
    """Broker → sink: not inferred, since its budget ran out or the queue was full (live only)."""

    stream: Name
    epoch: Count
    index: Count
    reason: Name = "expired"


class Refused(Head, tag="refused", frozen=True, kw_only=True):
    """Broker → worker, sink → producer: your key is no longer let in. Who gets it dials again after a pause."""

    reason: Text = ""


ToSink = Hello | Packet | Notice | Change | Filler | End
ToProducer = Welcome | Unknown | Ack | Closed | Refused
ToBroker = Ready | Beat | Started | Done
ToWorker = Work | Who | Refused
ToResults = Result | GaveUp | Expired

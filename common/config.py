"""The configuration of a fleet: one file (TOML or JSON), one section a part, validated whole.

Every part reads the same file and takes its own section, so that they cannot disagree.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from common.errors import UsageError
from common.messages import MAX_NAME, Mode, Name, Seconds, Side

Positive = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Bytes = Annotated[int, msgspec.Meta(ge=1)]
#: A second's frames; the least is one in a quarter of an hour or so.
Rate = Annotated[float, msgspec.Meta(ge=0.001, le=1e6)]
#: A path or an address.
Where = Annotated[
    str, msgspec.Meta(min_length=1, pattern=r"^[^\x00]*\Z", description="a text that is not empty, without zero bytes")
]
#: What is shown on terminals, and stands on the command lines of parts: no control characters.
Title = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=MAX_NAME,
        pattern=r"^[^\x00-\x1f\x7f]*\Z",
        description=f"a text of 1 to {MAX_NAME} characters, without control characters",
    ),
]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
#: A network interface to listen at: a numeric address, or ``*`` for all.
Interface = Annotated[
    str, msgspec.Meta(pattern=r"^(\*|[0-9a-fA-F.:]+)\Z", description='a numeric address, such as "10.0.0.5", or "*"')
]
#: ``host:port`` to listen at.
Listen = Annotated[
    str,
    msgspec.Meta(
        max_length=300,
        pattern=r"^(\[[0-9a-fA-F:.]+\]|[^\s/:\[\]]+):[0-9]{1,5}\Z",
        description='"HOST:PORT", such as "127.0.0.1:8750" or "[::]:8750"',
    ),
]
Label = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=100,
        pattern=r"^[^\x00-\x1f\x7f]*\Z",
        description="a text of 1 to 100 characters, without control characters",
    ),
]
#: What is typed once into a browser, and sent in a header.
Token = Annotated[
    str,
    msgspec.Meta(
        min_length=16,
        max_length=256,
        pattern=r"^[\x21-\x7e]*\Z",
        description="a text of 16 to 256 ASCII characters without spaces",
    ),
]
#: A public CURVE key as ZeroMQ writes it: 40 characters of Z85.
PublicKey = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}\Z",
        description="a public key of 40 characters, as headrace keys show prints it",
    ),
]
#: Most workers of one node.
MAX_WORKERS = 256
#: Most frames that are under way between the ends, or with the model: what the sink can keep apart.
MAX_WINDOW = 16384
Window = Annotated[int, msgspec.Meta(ge=1, le=MAX_WINDOW)]

#: Scheme, host, port with its colon, and the rest; a user and a password stand before the host.
_ADDRESS = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://(?:[^/?#]*@)?(\[[^\]/]*\]|[^/?#:]*)(:[0-9]*)?(.*)", re.DOTALL)
_PORTS = {"rtmp": ":1935", "rtsp": ":554", "rtsps": ":322", "rtmps": ":443"}

#: x264's presets, the fastest first.
PRESETS = (
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow",
)  # fmt: skip
#: x264's tunes, of which several can be joined with commas, and the empty one.
TUNES = (
    "", "film", "animation", "grain", "stillimage", "psnr", "ssim", "fastdecode", "zerolatency",
)  # fmt: skip


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A section of the file; a key that is not known is an error."""


class Broker(Section, frozen=True, kw_only=True):
    """``[broker]``"""

    #: Where producers push frames to, workers ask for work, and producers hear the news.
    frames: str
    workers: str
    news: str
    #: Listen at this interface, at the ports of the tcp addresses above; None: at the addresses as they are.
    bind: Interface | None = None
    #: A worker that is silent for this many seconds is taken for dead; it beats every quarter of one.
    heartbeat_timeout: Annotated[float, msgspec.Meta(ge=0.5, le=1e6)] = 1.5
    #: Broken-off or failed attempts after which a frame is given up.
    max_attempts: Positive = 3
    #: Most frames and bytes queued for one stream.
    queue_frames: Positive = 1024
    queue_bytes: Bytes = 256 * 2**20
    #: A stream that sends nothing for so many seconds is forgotten.
    forget_stream: Seconds = 60.0


#: Where an annotated stream can go: container files, lines, and what a process of its own sends or cuts up.
FileKind = Literal["mp4", "mkv", "ts", "jsonl"]
SentKind = Literal["rtmp", "rtsp", "srt", "udp", "hls"]


class Output(Section, frozen=True, kw_only=True):
    """``[[streams.outputs]]``: one file to write, one address to send to, or one HLS playlist."""

    #: A file; an address for ``rtmp``, ``rtsp``, ``srt`` and ``udp``; the playlist for ``hls``.
    path: Where
    kind: FileKind | SentKind
    #: Files: begin a new one after so many seconds, at a keyframe. HLS: length of a segment.
    segment: Seconds | None = None


class Encoding(Section, frozen=True, kw_only=True):
    """How the annotated picture is encoded, once for all outputs."""

    encoder: Literal["auto", "x264", "nvenc"] = "auto"
    #: x264's preset names; NVENC's p1…p7 are chosen to match.
    preset: str = "veryfast"
    crf: Annotated[float, msgspec.Meta(ge=0, le=51)] = 23
    tune: str = ""
    #: Longest distance of two keyframes, in seconds.
    keyframe_interval: Annotated[float, msgspec.Meta(ge=0.01, le=1e6)] = 2.0


class Workers(Section, frozen=True, kw_only=True):
    """``[workers]``"""

    model: Title
    #: Workers on this node; 0: none for now.
    count: Annotated[int, msgspec.Meta(ge=0, le=MAX_WORKERS)] = 1
    #: Workers for one GPU, where ``count`` is not given.
    per_gpu: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    #: Least score of a finding, for the built-in detectors; None: the model's own.
    threshold: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = None
    device: str = "auto"
    batch: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 16
    #: How long a started batch waits for more frames, in seconds.
    wait: Seconds = 0.01
    #: Threads of one worker's inference; 0: all cores but two (for the producer and the sink), divided by workers.
    threads: Annotated[int, msgspec.Meta(ge=0, le=256)] = 0


class Sink(Section, frozen=True, kw_only=True):
    """``[sink]``"""

    name: Name = "sink"
    media: str
    results: str
    #: As in [broker].
    bind: Interface | None = None
    #: A stream's outputs are closed so many seconds after its producer has gone; another producer goes on with it.
    producer_timeout: Seconds = 30.0
    #: Lossless: how long to wait for space on a full disk, in seconds.
    disk_wait: Seconds = 600.0


class Stream(Section, frozen=True, kw_only=True):
    """``[[streams]]``: a source, what is asked of it, and where it goes."""

    name: Title
    source: Where
    outputs: Annotated[list[Output], msgspec.Meta(min_length=1)]
    model: Title
    mode: Mode = "lossless"
    #: Live: how long the sink waits for a result, in seconds.
    latency: Annotated[float, msgspec.Meta(ge=0.001, le=1e6)] = 0.5
    #: Infer every n-th frame, or at most so many a second.
    every: Positive = 1
    fps: Rate | None = None
    #: Picture sent to the model; None: the model's own input size.
    send_size: tuple[Side, Side] | None = None
    codec: Literal["jpeg", "i420"] = "jpeg"
    quality: Annotated[int, msgspec.Meta(ge=1, le=100)] = 85
    #: Announced frames that are not yet resolved: most in number and in bytes.
    window: Window = 256
    window_bytes: Bytes = 64 * 2**20
    #: Most frames sent to the model and not yet answered.
    in_flight: Window = 96
    #: How long boxes are shown on frames that were not inferred, in seconds.
    carry: Seconds = 1.0
    #: Files: read them no faster than they play. Live streams always do.
    realtime: bool = False
    #: Files, live: begin again at the end, for ever.
    loop: bool = False
    #: Pictures a second of a folder of pictures.
    picture_rate: Rate = 25.0
    #: RTSP: packets over ``tcp``, or over ``udp`` (less delay, losses).
    transport: Literal["tcp", "udp"] = "tcp"
    #: A network source that drops is opened again, for ever.
    reconnect: bool = True
    #: A network source that gives no picture for so many seconds has dropped; opening takes at most so long.
    source_timeout: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 5.0
    #: A network source that cannot be opened at the start is tried for so many seconds.
    source_wait: Seconds = 1e6
    #: Live: show a picture that says so while the source is away; ``placeholder_image``: this one.
    placeholder: bool = False
    placeholder_image: Where | None = None
    #: A source that comes back with another size or sound is fitted into the running outputs, or begins new parts.
    on_change: Literal["fit", "part"] = "fit"
    #: Where the ledger is written; None: beside the first output.
    ledger: Where | None = None
    encoding: Encoding = Encoding()
    #: Decoder threads at both ends; 0: by picture size.
    decode_threads: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0


class Security(Section, frozen=True, kw_only=True):
    """``[security]``"""

    #: Allow tcp beyond loopback without keys.
    insecure: bool = False
    #: The folder with this node's key files and the list of keys that are allowed; None: no encryption.
    keys: Where | None = None
    #: The public keys of broker and sink, where their own key files do not lie in ``keys``.
    broker: PublicKey | None = None
    sink: PublicKey | None = None


class Metrics(Section, frozen=True, kw_only=True):
    """``[metrics]``: nothing is served by default but on the page."""

    #: Loopback ports of single parts.
    broker: Port | None = None
    sink: Port | None = None
    #: Where a node of ``headrace up`` serves metrics and health alone, without a token: for a Prometheus elsewhere.
    listen: Listen | None = None

    def __post_init__(self) -> None:
        if self.broker is not None and self.broker == self.sink:
            raise ValueError("Broker and sink need ports of their own")


class Page(Section, frozen=True, kw_only=True):
    """``[page]``: what a node of ``headrace up`` shows to a browser."""

    enabled: bool = True
    listen: Listen = "127.0.0.1:8750"
    #: What lets somebody change things, and beyond loopback look at them; None: one is made, in the node's folder.
    token: Token | None = None


class Node(Section, frozen=True, kw_only=True):
    """``[node]``: what ``headrace up`` keeps on a node."""

    #: What other nodes call this one; None: by its host's name.
    name: Label | None = None
    #: The folder with sockets, logs and state; beside the file where it is relative.
    folder: Where = ".headrace"
    #: A part's log is turned over at so many bytes, and so many older ones are kept.
    log_bytes: Annotated[int, msgspec.Meta(ge=4096)] = 10 * 2**20
    log_files: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 5


class Fleet(Section, frozen=True, kw_only=True):
    """The whole file."""

    #: Names one run. A sink that is started again goes on with what it left in the same run, and with nothing else.
    run: str = ""
    broker: Broker
    sink: Sink
    workers: Workers
    streams: list[Stream] = []
    security: Security = Security()
    metrics: Metrics = Metrics()
    page: Page = Page()
    node: Node = Node()

    def stream(self, name: str) -> Stream:
        """The stream of that name. Raises UsageError."""
        for stream in self.streams:
            if stream.name == name:
                return stream
        names = ", ".join(stream.name for stream in self.streams) or "none"
        raise UsageError(f"no stream {name!r} in the configuration: it has {names}")


def load(path: Path) -> Fleet:
    """Read and validate ``path``. Raises UsageError with one line that names the key."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the configuration {path}: {getattr(error, 'strerror', None) or error}") from None
    try:
        raw = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        fleet = msgspec.convert(raw, Fleet)
    except (ValueError, RecursionError, msgspec.ValidationError) as error:
        raise UsageError(f"{path}: {error}") from None
    _refuse_twice(path, "stream", [stream.name for stream in fleet.streams])
    _refuse_twice(path, "output", [place_of(one.path) for stream in fleet.streams for one in stream.outputs])
    return fleet


def _refuse_twice(path: Path, what: str, names: list[str]) -> None:
    known: set[str] = set()
    for name in names:
        if name in known:
            raise UsageError(f"{path}: {what} {name!r} is there twice")
        known.add(name)


def place_of(path: str) -> str:
    """One name for what ``path`` may be written as in several ways: a file without links, an address without what does
    not change where it leads to (user, default port, a slash at the end)."""
    found = _ADDRESS.fullmatch(path)
    if found is None:
        try:
            return os.path.realpath(path)
        except (OSError, ValueError):  # no file can have this name
            return path
    scheme, host, port, rest = found[1].lower(), found[2].lower(), found[3] or "", found[4]
    if scheme in ("udp", "srt"):
        rest = "" if scheme == "udp" else rest[rest.find("?") :] if "?" in rest else ""
    if port == _PORTS.get(scheme):
        port = ""
    return f"{scheme}://{'127.0.0.1' if host == 'localhost' else host}{port}{rest.rstrip('/')}"


def dump(fleet: Fleet) -> bytes:
    """The JSON form that :func:`load` reads back."""
    return msgspec.json.encode(fleet)

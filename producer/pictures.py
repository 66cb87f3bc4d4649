"""A folder or pattern of pictures as a source: one file, one packet. Nothing here knows of threads or queues.

JPEG and PNG files become packets as they are. The link has no carrier for WebP, BMP and TIFF, so these are made JPEGs
of the highest quality: what is lost is what 4:2:0 loses, and that happens to every picture that is drawn on.
"""

from __future__ import annotations

import glob
import io
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext

from common.codec import encode_jpeg, rotate
from common.errors import SourceError
from common.files import is_pictures as is_pictures
from common.files import local_path
from common.media import MAX_PIXELS, padded
from common.picture import matrix_of, planes_of, to_420, turn
from common.wire import MAX_PAYLOAD

#: Pictures a second, where nobody says otherwise.
RATE = Fraction(25)
#: Rates are kept as fractions with at most this denominator: FFmpeg's are of 32-bit integers.
MAX_DENOMINATOR = 10_000
#: Files that are named when they are left out; the rest is counted.
MAX_NAMED = 20
#: Most markers in one JPEG; a progressive one with a large profile has under 150.
MAX_MARKERS = 4096
#: JPEG quality of pictures that are made JPEGs here.
QUALITY = 100


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of picture file: how it begins, and how FFmpeg opens it."""

    name: str
    begins: re.Pattern[bytes]
    codec: str
    demuxer: str = ""  #: "" where the file's bytes cannot be a packet on the link
    whole: Callable[[bytes], bool] = lambda data: True  #: whether the end is there; decoders may not say


#: What ends a scan: a marker that is neither a stuffed byte, nor one for restarting, nor a fill byte (T.81, B.1.1).
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_EOI, _SOS = 0xD9, 0xDA


def _whole_jpeg(data: bytes) -> bool:
    """Whether the first picture in ``data`` is there up to its end. FFmpeg shows what is missing as grey."""
    at = 2
    for _ in range(MAX_MARKERS):
        if data[at : at + 2] == bytes((0xFF, _EOI)):
            return True
        if at + 4 > len(data) or data[at] != 0xFF:
            break
        code = data[at + 1]
        if code == 0xFF:  # a fill byte
            at += 1
            continue
        at += 2 + max(2, data[at + 2] << 8 | data[at + 3])
        if code == _SOS:
            found = _AFTER_SCAN.search(data, at)
            at = found.start() if found else len(data)
    return False


JPEG = Kind("JPEG", re.compile(rb"\xff\xd8\xff"), "mjpeg", "jpeg_pipe", _whole_jpeg)
KINDS = (
    JPEG,
    Kind("PNG", re.compile(rb"\x89PNG\r\n\x1a\n"), "png", "png_pipe", lambda data: b"IEND" in data),
    Kind("WebP", re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "webp"),
    Kind("BMP", re.compile(rb"BM.{12}", re.DOTALL), "bmp"),
    Kind("TIFF", re.compile(rb"II\*\0|MM\0\*"), "tiff"),
)


class _Unfit(Exception):
    """A file that is left out, and why."""


class Pictures:
    """The pictures of one source, in natural order (``img2`` before ``img10``).

    ``rate``: pictures a second. Raises SourceError where no file is a picture; the first one that is decides the kind.
    Files that come later are not seen, files that have gone are left out.
    """

    def __init__(self, address: str, rate: Fraction) -> None:
        if rate <= 0:
            raise ValueError(f"a rate is positive, not {rate}")
        self.address = address
        self.rate = max(rate, Fraction(1, MAX_DENOMINATOR)).limit_denominator(MAX_DENOMINATOR)
        self._left: dict[str, str] = {}
        self._files = _list(address, self._left)
        #: Opened on the first picture: its video track is the template, with time base 1/rate.
        self.container = self._open_first()

    @property
    def count(self) -> int:
        """Pictures to expect: files that were not found unfit. Right once all have been seen."""
        return len(self._files) - sum(path in self._left for path in self._files)

    @property
    def left_out_count(self) -> int:
        """Files that are left out so far."""
        return len(self._left)

    @property
    def left_out(self) -> list[str]:
        """The first of them, by name and with the reason."""
        pairs = list(self._left.items())[:MAX_NAMED]
        return [f"{shown(path)}: {reason}" for path, reason in pairs]

    def packets(self) -> Iterator[av.Packet]:
        """One packet a picture, numbered from 0 on; may be called again, and then reads all files again."""
        number = 0
        for path in self._files:
            try:
                payload = self._payload(path, self._kind)
            except _Unfit as unfit:
                self._left[path] = str(unfit)
                continue
            self._left.pop(path, None)
            packet = padded(payload)
            packet.time_base = 1 / self.rate
            packet.pts = packet.dts = number
            packet.duration = 1
            packet.is_keyframe = True
            yield packet
            number += 1

    def _payload(self, path: str, kind: Kind) -> bytes:
        data, found = _read(path)
        if found is not kind:
            raise _Unfit(f"{found.name}, the others are {kind.name}")
        if not kind.whole(data):
            raise _Unfit("cut off, or still being written")
        return data if kind.demuxer else _as_jpeg(data, kind)

    def _open_first(self) -> InputContainer:
        for path in self._files:
            try:
                _, self._kind = _read(path)
                payload = self._payload(path, self._kind)
                return _open(payload, self._kind if self._kind.demuxer else JPEG, self.rate)
            except _Unfit as unfit:
                self._left[path] = str(unfit)
        named = "".join(f"; {one}" for one in self.left_out[:3])
        raise SourceError(f"{self.address} has no picture (JPEG, PNG, WebP, BMP or TIFF) that can be read{named}")


def open_pictures(address: str, rate: Fraction = RATE) -> Pictures:
    """The folder or pattern ``address`` (see :func:`is_pictures`) at ``rate`` pictures a second. Raises SourceError."""
    return Pictures(address, rate)


def shown(path: str) -> str:
    """A file's name for people: what cannot be printed is replaced."""
    text = os.fsencode(os.path.basename(path)).decode(errors="replace")
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def natural(path: str) -> list[str | int]:
    """Sorts ``img2`` before ``img10``."""
    pieces = re.split(r"([0-9]+)", path)
    return [int(piece) if number % 2 else piece for number, piece in enumerate(pieces)]


def _list(address: str, left: dict[str, str]) -> list[str]:
    """All files there, sorted; hidden ones go to ``left``."""
    path = local_path(address)
    assert path is not None, address
    try:
        found = [one.path for one in os.scandir(path)] if path.is_dir() else glob.glob(str(path), recursive=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(f"{address} cannot be listed: {reason}; check its permissions") from None
    hidden = {one for one in found if os.path.basename(one).startswith(".")}
    left |= dict.fromkeys(sorted(hidden), "hidden")
    return sorted((one for one in found if one not in hidden), key=lambda one: (natural(one), one))


def _read(path: str) -> tuple[bytes, Kind]:
    """A file's bytes and kind. Raises _Unfit."""
    try:
        # Non-blocking, for what is not a file: a pipe without a writer would hold us.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            what = os.fstat(fd)
            if not stat.S_ISREG(what.st_mode):
                raise _Unfit("a folder" if stat.S_ISDIR(what.st_mode) else "not a file")
            data = _read_up_to(fd, MAX_PAYLOAD + 1)
        finally:
            os.close(fd)
    except OSError as error:
        raise _Unfit(f"cannot be read: {error.strerror or error}") from None
    if not data:
        raise _Unfit("empty")
    if len(data) > MAX_PAYLOAD:
        raise _Unfit(f"larger than {MAX_PAYLOAD // 2**20} MiB")
    for kind in KINDS:
        if kind.begins.match(data):
            return data, kind
    raise _Unfit("not a picture")


def _read_up_to(fd: int, most: int) -> bytes:
    pieces, size = [], 0
    while size < most and (piece := os.read(fd, most - size)):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)


def _open(payload: bytes, kind: Kind, rate: Fraction) -> InputContainer:
    """Raises _Unfit where FFmpeg finds no picture's size in it."""
    options = {"framerate": f"{rate.numerator}/{rate.denominator}"}
    limit = [{"max_pixels": str(MAX_PIXELS)}]
    try:
        container: InputContainer = av.open(  # type: ignore[call-overload]
            io.BytesIO(payload), "r", kind.demuxer, options=options, stream_options=limit
        )
        codec = container.streams.video[0].codec_context
        if codec is None or codec.name != kind.codec or not codec.width or not codec.height or not codec.pix_fmt:
            raise _Unfit(f"a damaged {kind.name}")
        return container
    except (av.FFmpegError, ValueError, IndexError) as error:
        raise _Unfit(f"a damaged {kind.name}: {error}") from None


def _as_jpeg(data: bytes, kind: Kind) -> bytes:
    """The picture, upright, as a JPEG. Raises _Unfit where it cannot be decoded."""
    try:
        codec = VideoCodecContext.create(kind.codec, "r")
        assert isinstance(codec, VideoCodecContext)
        codec.options = {"max_pixels": str(MAX_PIXELS)}
        codec.thread_count = 1
        frame, *_ = [*codec.decode(padded(data)), *codec.decode(None)]
        if frame.width < 2 or frame.height < 2:
            raise _Unfit("smaller than 2 × 2 pixels")
        planes = rotate(planes_of(to_420(frame), matrix_of(frame)), turn(frame))
        return encode_jpeg(planes, QUALITY)
    except (av.FFmpegError, ValueError, RuntimeError) as error:
        raise _Unfit(f"a {kind.name} that cannot be decoded: {error}") from None

"""Clips that show what has become of them, and what must hold of an output when the source has changed under way.

A picture shows its number, a white square, a coloured patch, and each second a flash, beside which a beep is heard.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.stream import VideoStream
from msgspec import structs
from numpy.typing import NDArray

from common import messages as m
from common.errors import Exit
from producer.decoding import output_base
from producer.feed import Feed
from producer.greeting import make_hello
from producer.source import Demuxed, Source
from tests.builders import EPOCH, ack
from tests.feeds import settings, unhurried
from tests.integration.faulty import Run
from tests.support import Place, ledger, lines

Picture = NDArray[np.uint8]
#: Blocks along the lower edge: two that are always white and black, the bits of the number, the bits of its remainder.
BITS, CHECK_BITS = 16, 4
BLOCKS = 2 + BITS + CHECK_BITS
#: Share of the height at which the blocks begin, and at which they are read.
BAND, ROW = 0.85, 0.93
#: A flash and its beep last so long, in seconds, once in a second.
FLASH_S = 0.12
#: The patch's colour, and the ground's.
PATCH, GROUND = (200, 60, 40), (60, 90, 120)
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "12", "-bf", "0", "-x264-params", "slices=1:sliced-threads=0")
HEVC = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none:keyint=12:bframes=2")
MPEG2 = ("-c:v", "mpeg2video", "-g", "12", "-bf", "2", "-q:v", "3")
AAC = ("-c:a", "aac", "-ac", "1", "-b:a", "96k")


@dataclass(frozen=True, slots=True)
class Look:
    """What a clip is like. ``size`` is as it is coded, in pixels; ``turn``: clockwise degrees that bring it upright."""

    size: tuple[int, int] = (320, 180)
    rate: int = 25
    codec: tuple[str, ...] = H264
    form: str = "yuv420p"
    sar: Fraction = Fraction(1)
    turn: int = 0
    #: FFmpeg's names of the matrix and the range.
    matrix: str = "bt601"
    range: str = "tv"
    sound: tuple[str, ...] = AAC
    #: Number of the first picture.
    first: int = 0
    seconds: float = 4.0

    @property
    def shape(self) -> Fraction:
        """Width over height as it is shown."""
        width, height = self.size
        shape = Fraction(width, height) * self.sar
        return 1 / shape if self.turn in (90, 270) else shape


def draw(number: int, size: tuple[int, int], time: float, square: float) -> Picture:
    """One upright picture, H × W × 3. ``square``: width over height of a square, in pixels."""
    width, height = size
    picture = np.empty((height, width, 3), np.uint8)
    picture[:] = GROUND
    picture[: height * 2 // 5, : width // 4] = PATCH
    picture[: height * 2 // 5, width - width // 4 :] = 255 if time % 1 < FLASH_S else 0
    side = min(width / square, height) * 0.4
    across, down = round(side * square / 2), round(side / 2)
    x, y = width // 2, round(height * 0.45)
    picture[y - down : y + down, x - across : x + across] = 255
    bits = [1, 0, *(number >> bit & 1 for bit in range(BITS)), *(number % 13 >> bit & 1 for bit in range(CHECK_BITS))]
    columns = np.arange(width) * BLOCKS // width
    picture[int(height * BAND) :] = np.where(np.array(bits)[columns], 255, 0)[None, :, None]
    return picture


def make(path: Path, look: Look) -> Path:
    """Write the clip; its container is that of the name's ending."""
    turned = look.turn in (90, 270)
    width, height = look.size
    upright = (height, width) if turned else (width, height)
    pixel = 1 / look.sar if turned else look.sar
    matrix = {"bt601": "smpte170m", "bt2020": "bt2020nc"}.get(look.matrix, look.matrix)
    filters = (
        f"scale=in_range=pc:out_range={look.range}:out_color_matrix={look.matrix}:sws_flags=accurate_rnd,"
        f"format={look.form},setsar={look.sar.numerator}/{look.sar.denominator},"
        f"setparams=colorspace={matrix}:range={look.range}"
    )
    beep = f"aevalsrc='if(lt(mod(t,1),{FLASH_S}),0.8*sin(2*PI*1000*t),0)':s=48000:d={look.seconds}"
    sound = ["-f", "lavfi", "-i", beep] if look.sound else []
    bare = path.with_stem(f"{path.stem}-bare") if look.turn else path
    command = [
        "ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}",
        "-r", str(look.rate), "-i", "pipe:0", *sound, "-vf", filters, *look.codec, "-colorspace", matrix,
        "-color_range", look.range, *look.sound, str(bare),
    ]  # fmt: skip
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert process.stdin is not None
    for index in range(round(look.seconds * look.rate)):
        picture = draw(look.first + index, upright, index / look.rate, float(1 / pixel))
        process.stdin.write(np.ascontiguousarray(np.rot90(picture, look.turn // 90)).tobytes())
    process.stdin.close()
    assert process.wait() == 0
    if look.turn:
        _turn(bare, path, look.turn)
    return path


def _turn(source: Path, path: Path, degrees: int) -> None:
    """A copy that is to be turned clockwise before it is shown."""
    with av.open(str(source)) as given, av.open(str(path), "w") as out:
        copies = {one.index: out.add_stream_from_template(one) for one in given.streams}
        video = copies[given.streams.video[0].index]
        assert isinstance(video, VideoStream)
        video.set_display_rotation(-degrees)
        for packet in given.demux():
            if packet.size:
                packet.stream = copies[packet.stream.index]
                out.mux(packet)


# -- what an output shows --------------------------------------------------------------------------------------------


def content(shape: Fraction, size: tuple[int, int], sar: Fraction = Fraction(1)) -> tuple[int, int, int, int]:
    """Where a picture of this shape (width over height) lies in an output of this size: x0, y0, x1, y1."""
    width, height = size
    wide = float(shape / (Fraction(width, height) * sar))
    across, down = (width, height / wide) if wide > 1 else (width * wide, height)
    x, y = (width - across) / 2, (height - down) / 2
    return round(x), round(y), round(x + across), round(y + down)


@dataclass(frozen=True, slots=True)
class Shown:
    """One picture of an output; ``number`` is None where it is none of ours. ``rgb``: H × W × 3, its content alone."""

    number: int | None
    time: float
    flash: bool
    rgb: Picture


def number_in(luma: NDArray[Any]) -> int | None:
    """The number in a content, None where there is none."""
    height, width = luma.shape
    columns = ((np.arange(BLOCKS) + 0.5) * width / BLOCKS).astype(int)
    row = luma[int(height * ROW), columns]
    bits = (row > 127).astype(int)
    number = int((bits[2 : 2 + BITS] << np.arange(BITS)).sum())
    check = int((bits[2 + BITS :] << np.arange(CHECK_BITS)).sum())
    sharp = ((row > 180) | (row < 75)).all()
    return number if sharp and (bits[0], bits[1], check) == (1, 0, number % 13) else None


def look_at(path: Path, *shapes: Fraction, sar: Fraction = Fraction(1)) -> list[Shown]:
    """All pictures, in the order and in the colours in which the ffmpeg program shows them, which may not complain;
    they are of one size. ``shapes``: what contents may look like; the first in which a number can be read counts."""
    with av.open(str(path)) as container:
        sound = bool(container.streams.audio)
        frames = [(frame.time or 0.0, (frame.width, frame.height)) for frame in container.decode(video=0)]
    times, (size,) = [time for time, _ in frames], {size for _, size in frames}
    # (Without the time base, FFmpeg's muxers complain of pictures that come faster than the declared rate.)
    command = [
        "ffmpeg", "-v", "error", "-nostdin", "-i", str(path), "-map", "0:v", "-fps_mode", "passthrough",
        "-enc_time_base", "-1", "-vf", "scale=sws_flags=accurate_rnd", "-f", "rawvideo", "-pix_fmt", "rgb24", "-",
    ]  # fmt: skip
    if sound:
        command += ["-map", "0:a", "-f", "null", "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    assert done.stderr == b""
    pictures = np.frombuffer(done.stdout, np.uint8).reshape(-1, size[1], size[0], 3)
    assert len(pictures) == len(times)
    return [_shown(rgb, at, shapes or (Fraction(*size),), sar) for rgb, at in zip(pictures, times, strict=True)]


def _shown(rgb: Picture, at: float, shapes: tuple[Fraction, ...], sar: Fraction) -> Shown:
    for shape in shapes:
        x0, y0, x1, y1 = content(shape, (rgb.shape[1], rgb.shape[0]), sar)
        inside = rgb[y0:y1, x0:x1]
        number = number_in(inside.mean(axis=2))
        if number is not None:
            high, wide = inside.shape[:2]
            corner = inside[high // 10 : high // 3, wide - wide // 5 : wide - wide // 20]
            return Shown(number, at, bool(corner.mean() > 127), inside)
    return Shown(None, at, False, rgb)


def patch(shown: Shown) -> tuple[float, ...]:
    """Mean colour of the patch."""
    high, wide = shown.rgb.shape[:2]
    inside = shown.rgb[high // 10 : high // 3, wide // 20 : wide // 5]
    return tuple(float(value) for value in inside.reshape(-1, 3).mean(axis=0))


def square(shown: Shown, sar: Fraction = Fraction(1)) -> float:
    """Width over height of the white square, as it is shown."""
    high, wide = shown.rgb.shape[:2]
    white = shown.rgb.min(axis=2) > 180
    row, column = white[round(high * 0.45)], white[:, wide // 2]
    across, down = _run(row, wide // 2), _run(column[: int(high * 0.8)], round(high * 0.45))
    return across / down * float(sar)


def _run(row: NDArray[np.bool_], at: int) -> int:
    """Length of the run of true values around ``at``."""
    assert row[at]
    first = last = at
    while first > 0 and row[first - 1]:
        first -= 1
    while last < len(row) - 1 and row[last + 1]:
        last += 1
    return last - first + 1


def stamps(path: Path) -> list[tuple[Fraction, Fraction]]:
    """Pts and dts of every video packet, in seconds, in the order of the file."""
    with av.open(str(path)) as container:
        found = [one for one in container.demux(video=0) if one.size]
        return [((one.pts or 0) * Fraction(one.time_base), (one.dts or 0) * Fraction(one.time_base)) for one in found]


def plays_through(path: Path) -> None:
    """Times rise strictly."""
    found = stamps(path)
    for which in (0, 1):
        row = [pair[which] for pair in found]
        assert all(a < b for a, b in pairwise(row)), f"{path.name}: times do not rise"


def offsets(pictures: list[Shown], beeps: list[float]) -> list[float]:
    """How much later than its flash each beep is heard, in seconds; only of flashes within what goes on. (At the
    beginning of a clip, sound before the first picture is left out.)"""
    found = []
    for before, first, after in zip(pictures, pictures[1:], pictures[2:], strict=False):
        numbers = [one.number for one in (before, first, after) if one.number is not None]
        goes_on = len(numbers) == 3 and numbers[2] - numbers[0] == 2
        if goes_on and first.flash and not before.flash and beeps:
            nearest = min(beeps, key=lambda beep: abs(beep - first.time))
            if abs(nearest - first.time) < 0.3:
                found.append(nearest - first.time)
    return found


# -- a source without a network --------------------------------------------------------------------------------------


class Camera:
    """A live source as the producer's feed sees it: opened, played, away, opened again. All that it says to the sink is
    in ``messages``; its clock is ``now``, in seconds. ``resume``: the first frame's index, after another producer."""

    def __init__(self, clip: Path, resume: int = 0, epoch: int = EPOCH, **fields: Any) -> None:
        limits = {"window": 100_000, "window_bytes": 2**40, "in_flight": 100_000, "mode": "live"}
        self._stream = settings(Path("x.mp4"), source=str(clip), **{**limits, **fields})
        self.now = 100.0
        self.messages: list[tuple[Any, bytes]] = []
        #: Frame → size of the picture, upright.
        self.sizes: dict[int, tuple[int, int]] = {}
        self._source = self._open(clip)
        self._feed = Feed(self._stream, "sink", self._source, self._push)
        self.hello, self.blobs = self._hello()
        self._feed.welcome(epoch, True, resume, counts_on=True)
        self._feed.served(m.InputSpec(64, 64))
        self._begin()

    def _open(self, clip: Path) -> Source:
        source = unhurried(structs.replace(self._stream, source=str(clip)))
        source.live = True
        return source

    def _hello(self) -> tuple[m.Hello, bytes]:
        return make_hello(self._source, self._stream, "x", 1, output_base(self._source))

    def _push(self, frame: m.Frame, payload: bytes) -> bool:
        self.sizes[frame.index] = frame.source
        return True

    def _begin(self) -> None:
        self._begun = self.now
        self._start: float | None = None
        self._source.start()

    def play(self, seconds: float = 1e9) -> Camera:
        """What comes within so many seconds, or all."""
        end = self.now + seconds
        while self.now < end:
            one = self._source.take()
            if one is not None:
                self._take(one)
            elif self._source.drained:
                break
            else:
                time.sleep(0.001)
        return self._collect()

    def away(self, seconds: float, fill: bool = False) -> Camera:
        """It drops, and is gone for so long. ``fill``: placeholders are shown."""
        self._feed.flush(self.now)
        self._source.close()
        self._collect()
        began = self.now
        while fill and self.now < began + seconds:
            self._feed.filler("the server has left", self.now - began, self.now)
            self.now += 0.1
        self.now = began + seconds
        return self._collect()

    def back(self, clip: Path, follows: bool = False) -> Camera:
        """It was opened again. ``follows``: a file that begins anew."""
        self._source = self._open(clip)
        self._feed.change(self._source, self._hello(), None if follows else self.now)
        self._begin()
        return self

    def end(self) -> Camera:
        self._source.close()
        self._feed.flush(self.now)
        self._collect()
        self._feed.end("interrupted", self.now)
        return self._collect()

    def _take(self, one: Demuxed) -> None:
        stamp = one.packet.dts if one.packet.dts is not None else one.packet.pts
        if stamp is not None and one.packet.size:
            at = float(stamp * Fraction(one.packet.time_base))
            self._start = at if self._start is None else self._start
            self.now = max(self.now, self._begun + at - self._start)
        self._feed.take(replace(one, at=self.now), self.now)
        self._collect()

    def _collect(self) -> Camera:
        while not self._feed.idle:
            assert self._feed.announce(self.now)
            self._feed.window.ack(ack(resolved=self._feed.index), self.now)  # so that all are sent
        while (message := self._feed.link.peek()) is not None:
            self.messages.append((message.header, message.payload))
            self._feed.link.sent()
            self._feed.link.ack(message.number, False, self.now)
        self._feed.check()
        return self

    @property
    def repairs(self) -> dict[str, int]:
        return dict(self._feed.timeline.repairs)

    def of(self, kind: type[m.Head]) -> list[Any]:
        """The messages of one kind."""
        return [head for head, _ in self.messages if isinstance(head, kind)]


# -- a whole run ------------------------------------------------------------------------------------------------------


OUTPUTS = ("out.mkv", "out.jsonl")


class Live(Run):
    """``headrace run`` of a live source, with quick settings; leave it by :meth:`end`."""

    def __init__(
        self, place: Place, source: str, *more: str, outputs: Sequence[str] = ("out.mkv", "out.jsonl")
    ) -> None:
        fixed = ("--model", "echo", "--source-timeout", "3s", "--latency", "1s")
        super().__init__(place, source, *fixed, *more, outputs=outputs)  # type: ignore[arg-type]

    def until_said(self, text: str, seconds: float = 60.0) -> None:
        """Until standard error has it."""
        self.until(lambda: text in self.err, text, seconds)

    def until_more(self, frames: int) -> None:
        """So many frames from now on."""
        self.until_told(self.told + frames)

    def end(self) -> None:
        """As by Ctrl-C; everything is closed."""
        self.process.send_signal(signal.SIGINT)
        assert self.finish() == Exit.INTERRUPTED, self.err

    def __enter__(self) -> Live:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()  # its parts follow it
            self.process.wait()

    def lines(self) -> list[dict[str, Any]]:
        """The JSON lines, which are of contiguous frames; times rise, and begin anew with another producer. The ledger
        has the same counts."""
        told = lines(self.place.folder / "out.jsonl")
        assert [line["index"] for line in told] == list(range(len(told)))
        assert all(a["pts"] < b["pts"] or a["epoch"] < b["epoch"] for a, b in pairwise(told))
        found = ledger(self.outputs[0])
        assert found["frames"] == len(told)
        assert dict(Counter(line["state"] for line in told)) == found["states"]
        return told


def runs(pictures: list[Shown]) -> list[tuple[int | None, int]]:
    """Stretches of pictures that go on one by one: the first number and how many; None: placeholders."""
    found: list[tuple[int | None, int]] = []
    for one in pictures:
        last = found[-1] if found else None
        goes_on = last is not None and (one.number is None if last[0] is None else one.number == last[0] + last[1])
        if last is not None and goes_on:
            found[-1] = last[0], last[1] + 1
        else:
            found.append((one.number, 1))
    return found

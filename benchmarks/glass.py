"""Both ends of a glass-to-glass measurement: a camera that notes when each numbered picture leaves it, a viewer that
notes when it sees which number. One clock: both run on one machine.

``python -m benchmarks.glass camera CLIP ADDRESS NOTES`` and ``… viewer ADDRESS SECONDS NOTES``; a note is a line
``NUMBER TIME`` (monotonic, seconds).
"""

from __future__ import annotations

import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import TextIO

import av
import numpy as np
from numpy.typing import NDArray

from deploy.faults.number import number_in, write_number

#: Pictures a second, and their size.
RATE, SIZE = 25, (1920, 1080)
#: FFmpeg waits so long for a server and for what it sends, in seconds.
PATIENCE_S = 15.0


def make_clip(source: Path, path: Path, frames: int) -> Path:
    """``source``, enlarged to 1080p and repeated, with a number in each picture and a tone beside it."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=RATE, options={"preset": "superfast", "tune": "zerolatency", "g": "25"})
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        video.bit_rate, video.codec_context.thread_count = 6_000_000, 1  # one slice: some relays cut others
        audio = out.add_stream("aac", rate=48_000, layout="mono")
        spoken = number = 0
        while number < frames:
            with av.open(str(source)) as container:
                for picture in container.decode(video=0):
                    if number == frames:
                        break
                    large = picture.reformat(*SIZE, "yuv420p")
                    write_number(luma(large), number)
                    large.pts, large.time_base, large.pict_type = number, Fraction(1, RATE), 0
                    out.mux(video.encode(large))
                    number += 1
                    while spoken * RATE < number * 48_000:
                        frame = av.AudioFrame.from_ndarray(
                            np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
                        )
                        frame.sample_rate, frame.pts, frame.time_base = 48_000, spoken, Fraction(1, 48_000)
                        out.mux(audio.encode(frame))
                        spoken += 1024
        out.mux(video.encode(None))
        out.mux(audio.encode(None))
    return path


def luma(frame: av.VideoFrame) -> NDArray[np.uint8]:
    plane = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)  # type: ignore[call-overload]
    return rows[: frame.height, : frame.width]


def camera(clip: Path, address: str, notes: TextIO) -> None:
    """Send ``clip`` to an RTSP server at its own speed, once."""
    with av.open(str(clip)) as source, av.open(address, "w", format="rtsp", options={"rtsp_transport": "tcp"}) as out:
        tracks = {
            track.index: out.add_stream_from_template(track) for track in (*source.streams.video, *source.streams.audio)
        }
        out.start_encoding()
        began = time.monotonic()
        for packet in source.demux():
            if packet.dts is None or packet.pts is None or packet.time_base is None:
                continue
            at = float(packet.dts * packet.time_base)
            time.sleep(max(0.0, began + at - time.monotonic()))
            number = round(float(packet.pts * packet.time_base) * RATE)
            if packet.stream.type == "video":
                print(number, time.monotonic(), file=notes)
            packet.stream = tracks[packet.stream.index]
            out.mux(packet)


def viewer(address: str, seconds: float, notes: TextIO) -> None:
    """Watch an address until nothing comes any more, or for so long."""
    end = time.monotonic() + seconds
    options = {"fflags": "nobuffer", "analyzeduration": "500000"}
    while time.monotonic() < end:
        try:
            with av.open(address, timeout=(PATIENCE_S, 3.0), options=options) as container:
                container.streams.video[0].codec_context.thread_count = 1
                for frame in container.decode(video=0):
                    print(number_in(luma(frame)), time.monotonic(), file=notes, flush=True)
            return
        except (av.FFmpegError, IndexError):
            time.sleep(0.2)


def read(path: Path) -> dict[int, float]:
    """Number → time, of the first note of each."""
    found: dict[int, float] = {}
    for line in path.read_text().splitlines():
        number, at = line.split()
        found.setdefault(int(number), float(at))
    return found


if __name__ == "__main__":
    role, *rest = sys.argv[1:]
    if role == "camera":
        with Path(rest[2]).open("w") as file:
            camera(Path(rest[0]), rest[1], file)
    else:
        with Path(rest[2]).open("w") as file:
            viewer(rest[0], float(rest[1]), file)

"""Independent judges of a written media file: the ffmpeg programs, and plain reading with PyAV."""

from __future__ import annotations

import json
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
#: Luma above which a whole picture is a flash, and level above which sound is a beep (−1…1).
FLASH_LUMA, BEEP_LEVEL = 128, 0.25
#: Two beeps lie further apart than this, in seconds.
BEEP_GAP_S = 0.5


def complaints(path: Path) -> str:
    """What ffmpeg says while it decodes the whole file; "" where it is content."""
    done = subprocess.run(
        ["ffmpeg", "-v", "error", "-xerror", "-nostdin", "-i", path, "-f", "null", "-"], capture_output=True, text=True
    )
    return done.stderr or (f"exit code {done.returncode}" if done.returncode else "")


def probe(path: Path) -> dict[str, Any]:
    """ffprobe's ``format`` and ``streams``."""
    done = subprocess.run(
        ["ffprobe", "-v", "error", "-show_format", "-show_streams", "-of", "json", path],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def seconds(path: Path) -> float:
    """How long ffprobe says the file plays, from its first picture or sound on."""
    form = probe(path)["format"]
    start, length = float(form["start_time"]), float(form["duration"])
    # MPEG-TS counts from its start, the others from zero.
    return length if form["format_name"] == "mpegts" else length - start


def picture(path: Path, number: int, form: str = "rgb24") -> Picture:
    """One picture as ffmpeg shows it, upright: H × W × 3 for ``rgb24``, else its planes one behind the other."""
    chosen = ["-vf", f"select=eq(n\\,{number})", "-frames:v", "1"]
    done = subprocess.run(
        ["ffmpeg", "-v", "error", "-nostdin", "-i", str(path), *chosen, "-f", "rawvideo", "-pix_fmt", form, "-"],
        capture_output=True, check=True,
    )  # fmt: skip
    flat = np.frombuffer(done.stdout, np.uint8)
    if form != "rgb24":
        return flat
    video = next(one for one in probe(path)["streams"] if one["codec_type"] == "video")
    turned = any(abs(int(side.get("rotation", 0))) == 90 for side in video.get("side_data_list", []))
    width, height = (video["height"], video["width"]) if turned else (video["width"], video["height"])
    return flat.reshape(height, width, 3)


def pictures(path: Path) -> list[tuple[Picture, Picture, Picture]]:
    """Copies of the Y, U and V planes of every picture (8-bit 4:2:0)."""
    with av.open(str(path)) as container:
        found = []
        for frame in container.decode(video=0):
            assert frame.format.name in ("yuv420p", "yuvj420p"), frame.format.name
            y, u, v = (
                np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width].copy()  # type: ignore[call-overload]
                for plane in frame.planes
            )
            found.append((y, u, v))
        return found


def psnr(one: Picture, other: Picture) -> float:
    """Peak signal-to-noise ratio in dB; 99 where they are equal."""
    error = float(((one.astype(np.float32) - other) ** 2).mean())
    return 99.0 if error == 0 else float(10 * np.log10(255**2 / error))


def without_adts(packet: bytes) -> bytes:
    """An AAC packet without the header that MPEG-TS puts in front (ISO/IEC 13818-7 6.2: 7 bytes, 9 with a CRC)."""
    if len(packet) > 9 and packet[0] == 0xFF and packet[1] & 0xF6 == 0xF0:
        return packet[7 if packet[1] & 1 else 9 :]
    return packet


def flashes(path: Path) -> list[float]:
    """When the picture turns white, in seconds."""
    found, was = [], False
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            white = float(frame.to_ndarray(format="gray").mean()) > FLASH_LUMA
            if white and not was:
                found.append(float(Fraction(frame.pts or 0) * Fraction(frame.time_base or 1)))
            was = white
    return found


def beeps(path: Path, track: int = 0) -> list[float]:
    """When a beep begins, in seconds."""
    found: list[float] = []
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("fltp", "mono")
        for frame in container.decode(audio=track):
            for one in resampler.resample(frame):
                level = np.abs(one.to_ndarray()[0])
                start = float(Fraction(one.pts or 0) * Fraction(one.time_base or 1))
                for at in (start + np.flatnonzero(level > BEEP_LEVEL) / one.sample_rate).tolist():
                    if not found or at - found[-1] > BEEP_GAP_S:
                        found.append(at)
    return found

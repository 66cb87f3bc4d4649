"""Pictures come out as they went in: upright, with their colours, and untouched where nothing is drawn.

The runs use ``--crf 0``, which is lossless in x264, so that planes can be compared sample by sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.integration.drawn import boxes, through, touched
from tests.integration.judge import picture, pictures, psnr
from tests.marks import always
from tests.support import ffmpeg, lines

FRAMES = 10
X264 = "-c:v libx264 -preset ultrafast"
X265 = "-c:v libx265 -preset ultrafast -x265-params log-level=error"
BT709 = "-vf scale=out_color_matrix=bt709 -colorspace bt709 -color_primaries bt709 -color_trc bt709 -color_range tv"


@dataclass(frozen=True, slots=True)
class Case:
    """How ffmpeg makes a clip, and what the output must be tagged with."""

    end: str
    options: str
    size: tuple[int, int] = (320, 180)
    range: int = 0
    matrix: int = 2


#: 8-bit 4:2:0: nothing may be converted. B-frames: pictures that others are predicted from must not be drawn on.
NATIVE = {
    "limited": Case("mp4", f"-c:v libx264 -preset veryfast -bf 3 {BT709} -pix_fmt yuv420p", range=1, matrix=1),
    "full_and_unequal_pixels": Case("mp4", f"{X264} -pix_fmt yuvj420p -color_range pc -aspect 2:1", range=2),
}
#: What becomes 8-bit 4:2:0.
CONVERTED = {
    "10_bit_h264_full": Case("mp4", f"-vf scale=out_range=full {X264} -pix_fmt yuv420p10le -color_range pc", range=2),
    "10_bit_hevc": Case("mp4", f"{X265} -pix_fmt yuv420p10le"),
    "4:2:2": Case("mp4", f"{X264} -pix_fmt yuv422p"),
    "4:2:2_full_mjpeg": Case("avi", "-c:v mjpeg -q:v 2 -pix_fmt yuvj422p", range=2, matrix=5),
    "odd_4:4:4": Case("mp4", f"{X264} -pix_fmt yuv444p", (853, 481)),
}
#: What cameras and screens give.
OTHER = {
    "raw_yuyv": Case("avi", "-c:v rawvideo -pix_fmt yuyv422"),
    "hd_rgb": Case("mkv", "-c:v libx264rgb -preset ultrafast -crf 0", (1280, 720), range=1, matrix=6),
}


def make(case: Case, path: Path) -> Path:
    width, height = case.size
    source = f"testsrc2=s={width + width % 2}x{height + height % 2}:r=25"
    if width % 2:
        source += f",format=yuv444p,crop={width}:{height}:0:0:exact=1"
    ffmpeg("-f", "lavfi", "-i", source, "-frames:v", str(FRAMES), *case.options.split(), path)
    return path


def tags(path: Path) -> tuple[int, int, int, int]:
    """Range, matrix, primaries, transfer of the first picture."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        return frame.color_range, frame.colorspace, frame.color_primaries, frame.color_trc


@pytest.mark.parametrize("name", NATIVE)
def test_native_pictures_are_not_touched(name: str, tmp_path: Path) -> None:
    case = NATIVE[name]
    source = make(case, tmp_path / f"source.{case.end}")
    output = through(source, "out")
    for before, after in zip(pictures(source), pictures(output), strict=True):
        assert before[0].shape == (180, 320)
        assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))
    assert tags(output)[:2] == (case.range, case.matrix)
    assert tags(output)[1:] == tags(source)[1:]
    with av.open(str(source)) as one, av.open(str(output)) as other:
        shape = one.streams.video[0].sample_aspect_ratio or 1
        assert (other.streams.video[0].sample_aspect_ratio or 1) == shape
        assert (shape != 1) == ("unequal" in name)


@pytest.mark.parametrize("name", always(CONVERTED, "10_bit_h264_full", "odd_4:4:4"))
def test_other_formats_keep_luma_and_colour(name: str, tmp_path: Path) -> None:
    case = CONVERTED[name]
    source = make(case, tmp_path / f"source.{case.end}")
    output = through(source, "out")
    width, height = case.size
    before, after = exact_planes(source), pictures(output)
    assert len(after) == FRAMES
    for (y, u, v), (new_y, new_u, new_v) in zip(before, after, strict=True):
        difference = new_y[:height, :width] - y
        # 10 bits lose two by dithering; 8-bit luma has nothing to lose.
        assert np.abs(difference).max() <= (2.0 if name.startswith("10") else 0.0)
        assert abs(difference.mean()) < 0.5
        # Box means; where exactly chroma is sampled differs by half a pixel between formats.
        assert np.abs(new_u - halved(u, new_u.shape)).mean() < 3
        assert np.abs(new_v - halved(v, new_v.shape)).mean() < 3
    assert tags(output)[:2] == (case.range, case.matrix)


@pytest.mark.parametrize("name", always(OTHER, "raw_yuyv"))
def test_raw_and_rgb_look_the_same(name: str, tmp_path: Path) -> None:
    case = OTHER[name]
    source = make(case, tmp_path / f"source.{case.end}")
    output = through(source, "out")
    for number in (0, FRAMES - 1):
        before, after = picture(source, number), picture(output, number)
        difference = after.astype(np.int16) - before
        # Half the colour resolution costs edges, not means: a wrong range moves the mean by 8, a wrong matrix by 5.
        assert np.abs(difference.mean((0, 1))).max() < 2.5
        assert psnr(before, after) > 27
    assert tags(output)[:2] == (case.range, case.matrix)


@pytest.mark.parametrize(
    "kind", always(["upright", "odd", "turned_90", "turned_180", "turned_270"], "odd", "turned_90")
)
def test_only_boxes_change_and_all_comes_out_upright(kind: str, tmp_path: Path) -> None:
    """Every sample outside what the annotator says it touches is as ffmpeg shows it, in every picture."""
    if kind.startswith("turned"):
        source = turned_clip(tmp_path, int(kind[7:]))
    elif kind == "odd":
        source = make(Case("mkv", "-c:v ffv1 -pix_fmt yuv420p", (853, 481)), tmp_path / "source.mkv")
    else:
        source = make(NATIVE["limited"], tmp_path / "source.mp4")
    upright = tmp_path / "upright.mkv"
    ffmpeg("-i", source, "-c:v", "ffv1", upright)  # ffmpeg turns it
    output = through(source, "out", "echo")
    with av.open(str(output)) as container:
        assert next(container.decode(video=0)).rotation == 0, "players would turn it again"
    found = lines(output.with_suffix(".jsonl"))
    for line, (y, u, v), (new_y, new_u, new_v) in zip(found, pictures(upright), pictures(output), strict=True):
        height, width = y.shape
        assert (height > width) == (kind in ("turned_90", "turned_270"))
        assert new_y.shape == (height + height % 2, width + width % 2)
        # Padding repeats the edge: no black line.
        assert np.array_equal(new_y[:, -1], np.pad(y, ((0, height % 2), (0, 0)), mode="edge")[:, -1])
        new_y = new_y[:height, :width]
        luma, chroma = touched(line["detections"], y.shape)
        assert 0 < luma.mean() < 0.2
        assert np.array_equal(new_y[~luma], y[~luma])
        assert np.array_equal(new_u[~chroma], u[~chroma])
        assert np.array_equal(new_v[~chroma], v[~chroma])
        # The outline lies on the box, and the box shows what is in it. One of the two may have its ground's colour.
        changed = [np.s_[round(y0) : round(y1), round(x0) : round(x1)] for x0, y0, x1, y1 in boxes(line)]
        boxed = [(new_y != y)[place] for place in changed]
        assert max(np.concatenate([one[:2].ravel(), one[-2:].ravel()]).mean() for one in boxed) > 0.5
        assert max(np.concatenate([one[:, :2].ravel(), one[:, -2:].ravel()]).mean() for one in boxed) > 0.5
        assert boxed[1][8:-8, 8:-8].mean() < 0.05


def turned_clip(folder: Path, degrees: int) -> Path:
    """A clip that says it must be turned clockwise by ``degrees``."""
    lying = make(Case("mp4", f"{X264} -pix_fmt yuv420p"), folder / "lying.mp4")
    source = folder / "source.mp4"
    with av.open(str(lying)) as container, av.open(str(source), "w") as writer:
        copy = writer.add_stream_from_template(container.streams.video[0])
        copy.set_display_rotation(-degrees)  # FFmpeg counts counter-clockwise
        for packet in container.demux(video=0):
            if packet.size:
                packet.stream = copy
                writer.mux(packet)
    return source


def exact_planes(path: Path) -> list[tuple[NDArray[np.floating[Any]], ...]]:
    """The planes of every picture as they are stored, 10 bits scaled to 8."""
    with av.open(str(path)) as container:
        found = []
        for frame in container.decode(video=0):
            kind, scale = (np.dtype(np.uint16), 4) if "10" in frame.format.name else (np.dtype(np.uint8), 1)
            found.append(
                tuple(
                    np.frombuffer(plane, kind)  # type: ignore[call-overload]
                    .reshape(-1, plane.line_size // kind.itemsize)[: plane.height, : plane.width]
                    .astype(np.float32)
                    / scale
                    for plane in frame.planes
                )
            )
        return found


def halved(plane: NDArray[np.floating[Any]], shape: tuple[int, ...]) -> NDArray[np.floating[Any]]:
    """A chroma plane brought to ``shape`` by means of two or four samples."""
    if plane.shape[0] > shape[0]:
        plane = np.pad(plane, ((0, plane.shape[0] % 2), (0, 0)), mode="edge")
        plane = (plane[::2] + plane[1::2]) / 2
    if plane.shape[1] > shape[1]:
        plane = np.pad(plane, ((0, 0), (0, plane.shape[1] % 2)), mode="edge")
        plane = (plane[:, ::2] + plane[:, 1::2]) / 2
    return plane

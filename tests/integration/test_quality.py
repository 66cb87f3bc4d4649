"""The encoded picture is as good as that of a plain transcode with the same settings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.clips import clip
from tests.integration.drawn import through, touched
from tests.integration.judge import Picture, pictures, psnr
from tests.support import ffmpeg, lines

#: The encoder's settings in ffmpeg's words.
PLAIN = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "23", "-bf", "0", "-g", "50", "-pix_fmt", "yuv420p"]


@pytest.fixture(scope="module")
def bunny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of a real film, small."""
    path = tmp_path_factory.mktemp("quality") / "bunny.mp4"
    ffmpeg(
        "-ss", "2", "-i", clip("bigbuckbunny.mp4"), "-frames:v", "40", "-an", "-vf", "scale=640:360",
        "-c:v", "libx264", "-preset", "ultrafast", "-crf", "8", "-pix_fmt", "yuv420p", path,
    )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def plain_transcode(bunny: Path) -> Path:
    """What the ffmpeg program makes of it with the encoder's settings."""
    path = bunny.parent / "ffmpeg.mp4"
    ffmpeg("-i", bunny, *PLAIN, path)
    return path


def test_quality_is_that_of_a_plain_transcode(bunny: Path, plain_transcode: Path) -> None:
    output = through(bunny, "nothing_found", "nothing:Nothing", "--preset", "veryfast", "--crf", "23")
    ours, theirs = fidelity(bunny, output), fidelity(bunny, plain_transcode)
    assert 30 < theirs < 60
    assert ours >= theirs - 0.1, f"{ours:.2f} dB, ffmpeg {theirs:.2f} dB"
    assert output.stat().st_size < 1.05 * plain_transcode.stat().st_size


def test_boxes_cost_no_quality_beside_them(bunny: Path, plain_transcode: Path) -> None:
    """Beside the boxes it looks as if ffmpeg had encoded the drawn pictures, and hardly other than without boxes."""
    output = through(bunny, "boxes", "echo", "--preset", "veryfast", "--crf", "23")
    drawn = through(bunny, "drawn", "echo")
    ffmpeg("-i", drawn, *PLAIN, bunny.parent / "drawn_by_ffmpeg.mp4")
    outside = ~touched(lines(output.with_suffix(".jsonl"))[0]["detections"], (360, 640))[0]
    ours = fidelity(bunny, output, outside)
    theirs = fidelity(bunny, bunny.parent / "drawn_by_ffmpeg.mp4", outside)
    bare = fidelity(bunny, plain_transcode, outside)
    assert ours >= theirs - 0.1, f"{ours:.2f} dB, ffmpeg {theirs:.2f} dB"
    # Constant rate factor: edges of boxes make a picture more complex, and the encoder a little coarser everywhere.
    assert ours >= bare - 0.3, f"{ours:.2f} dB, without boxes {bare:.2f} dB"
    assert fidelity(bunny, output, ~outside) < 25, "nothing was drawn"


def fidelity(source: Path, output: Path, where: NDArray[np.bool_] | None = None) -> float:
    """PSNR of the luma over all pictures in dB, of all samples or those of ``where``."""
    ones: list[Picture] = [y for y, _, _ in pictures(source)]
    others: list[Picture] = [y for y, _, _ in pictures(output)]
    one, other = np.stack(ones), np.stack(others)
    return psnr(one, other) if where is None else psnr(one[:, where], other[:, where])

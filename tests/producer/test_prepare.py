"""What the model is sent: the size, and the right picture in the right colours, upright."""

from __future__ import annotations

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.data import astronaut

from common.codec import decode_rgb
from common.messages import InputSpec
from producer.prepare import Preparer, content_size


@pytest.mark.parametrize(
    ("source", "spec", "size"),
    [
        ((1920, 1080), (640, 360), (640, 360)),
        ((1920, 1080), (256, 256), (256, 144)),
        ((1080, 1920), (640, 360), (202, 360)),
        ((320, 240), (640, 360), (320, 240)),  # never enlarged here
        ((641, 361), (1000, 1000), (640, 360)),
        ((643, 363), (1000, 1000), (642, 362)),
        ((10_000, 10), (640, 360), (640, 2)),
    ],
)
def test_letterboxed_sizes(source: tuple[int, int], spec: tuple[int, int], size: tuple[int, int]) -> None:
    assert content_size(source, InputSpec(*spec)) == size


def test_stretched_sizes() -> None:
    assert content_size((1920, 1080), InputSpec(300, 300, letterbox=False)) == (300, 300)
    assert content_size((200, 1080), InputSpec(300, 300, letterbox=False)) == (200, 300)


side = st.integers(2, 8192)


@given(side, side, side, side, st.booleans())
def test_any_size(width: int, height: int, wide: int, high: int, letterbox: bool) -> None:
    """Even, within the input, not larger than the source, its shape kept as far as even numbers allow."""
    made = content_size((width, height), InputSpec(wide, high, letterbox))
    assert made[0] % 2 == made[1] % 2 == 0
    assert 2 <= made[0] <= min(width, wide)
    assert 2 <= made[1] <= min(height, high)
    if letterbox:
        factor = min(1.0, wide / width, high / height)
        assert abs(made[0] - max(2, width * factor)) < 2
        assert abs(made[1] - max(2, height * factor)) < 2


def photo(form: str, size: tuple[int, int] = (512, 512)) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(astronaut(), format="rgb24").reformat(*size, form)


def prepared(frame: av.VideoFrame, spec: InputSpec, form: str = "i420") -> np.ndarray:
    payload, source, size = Preparer(spec, form, 90)(frame)  # type: ignore[arg-type]
    assert source == (frame.width, frame.height)
    return decode_rgb(payload, form, size).astype(int)  # type: ignore[arg-type]


def reference(size: tuple[int, int]) -> np.ndarray:
    frame = av.VideoFrame.from_ndarray(astronaut(), format="rgb24")
    return frame.reformat(*size, "rgb24", interpolation="AREA").to_ndarray().astype(int)


@pytest.mark.parametrize("form", ["yuv420p", "yuvj420p", "yuv422p", "yuv444p10le", "nv12", "rgb24", "gray"])
def test_every_picture_format_gives_the_same_picture(form: str) -> None:
    got = prepared(photo(form), InputSpec(128, 128))
    want = reference((128, 128))
    if form == "gray":
        got, want = got.mean(axis=2), want @ np.array([0.299, 0.587, 0.114])
    assert np.abs(got - want).mean() < 4, f"{form}: wrong range or matrix shows as a mean error of 6 and more"


def test_jpeg_is_close_to_raw() -> None:
    frame = photo("yuv420p")
    raw, jpeg = (prepared(frame, InputSpec(256, 256), form) for form in ("i420", "jpeg"))
    assert np.abs(raw - jpeg).mean() < 3


@pytest.mark.parametrize("size", [(511, 333), (3, 5), (2, 2)])
def test_odd_sizes(size: tuple[int, int]) -> None:
    frame = photo("yuv420p", size)
    _, source, sent = Preparer(InputSpec(640, 360), "jpeg", 80)(frame)
    assert source == size
    assert sent[0] % 2 == sent[1] % 2 == 0

"""The picture that stands for a source that is away."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from common.config import Encoding
from common.errors import OutputError
from common.picture import planes_of
from sink import placeholder as module
from sink.encode import Encoder, Shape
from sink.placeholder import GROUND, Placeholder

WORDS = ("cam-entrance", "no answer within 5 s", "14:03:22")
SIZES = [(176, 144), (320, 240), (640, 360), (1280, 720), (1920, 1080), (1080, 1920), (3840, 2160)]
ODD_SIZES = [(2, 2), (16, 16), (64, 32), (2, 720), (1024, 2), (96, 64), (4096, 128)]


def rgb(frame: av.VideoFrame) -> NDArray[np.int64]:
    """As a player shows it."""
    matrix = 1 if frame.height >= 720 else 5
    return frame.reformat(format="rgb24", src_colorspace=matrix).to_ndarray().astype(np.int64)


def luma(frame: av.VideoFrame) -> NDArray[np.uint8]:
    return planes_of(frame).y.copy()


def bands(plane: NDArray[np.uint8]) -> list[tuple[int, int]]:
    """Rows of text: where they begin and end. The accent above and the bars below are not white enough."""
    rows = (plane > 110).sum(axis=1) > 0
    edges = np.flatnonzero(np.diff(np.concatenate([[False], rows, [False]]).astype(int)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """Red above, blue below, 200 × 100."""
    found = np.zeros((100, 200, 3), np.uint8)
    found[:50], found[50:] = (0, 0, 220), (220, 0, 0)
    path = tmp_path / "picture.png"
    cv2.imwrite(str(path), found)
    return path


@pytest.mark.parametrize(
    ("size", "full"), [*((size, False) for size in SIZES), ((176, 144), True), ((1280, 720), True)]
)
def test_every_word_can_be_read(size: tuple[int, int], full: bool) -> None:
    frame = Placeholder(*size, full, None).frame(*WORDS)
    assert (frame.width, frame.height) == size
    assert frame.format.name == ("yuvj420p" if full else "yuv420p")
    assert frame.color_range == (2 if full else 1)
    plane = luma(frame)
    if not full:
        assert plane.min() >= 16
        assert plane.max() <= 235
    # The accent is a band of its own, the bars at the lower edge perhaps.
    found = [band for band in bands(plane)[1:] if band[1] < size[1] - 2]
    assert len(found) == 4, "title, name, reason, since"
    heights = [end - start for start, end in found]
    assert heights[0] > max(heights[1:]), "the title is the largest"
    assert min(heights) >= 8, "letters of fewer pixels cannot be read"
    columns = np.flatnonzero((plane[found[0][0] : found[-1][1]] > 110).any(axis=0))
    assert columns[0] > 0
    assert columns[-1] < size[0] - 1
    assert abs(columns[0] + columns[-1] - size[0]) <= size[0] * 0.02 + 4, "in the middle"
    shown = rgb(frame)
    assert abs(shown[2, 2] - GROUND).max() <= 2
    assert np.ptp(shown[found[0][0] : found[-1][1]], axis=2).max() <= 3, "text is grey"


@pytest.mark.parametrize("size", [*SIZES, *ODD_SIZES])
@pytest.mark.parametrize("with_picture", [False, True])
def test_any_size_and_any_text(size: tuple[int, int], with_picture: bool, picture: Path) -> None:
    one = Placeholder(*size, False, picture if with_picture else None)
    for words in (
        ("", "", ""),
        ("x" * 300, "y " * 500, "z" * 300),
        ("カメラ 1", "\ud800 lone\nlines\t\0", "é"),
        ("a", "rtsp://" + "b" * 200 + " c", ""),
    ):
        frame = one.frame(*words)
        assert (frame.width, frame.height, len(frame.planes)) == (*size, 3)
        assert luma(frame).min() >= 16
        assert luma(frame).max() <= 235


def test_long_text_is_cut_on_the_second_line() -> None:
    one = Placeholder(640, 360, False, None)
    long = luma(one.frame("cam", "the camera has " + "really " * 40 + "gone", "14:03:22"))
    found = [band for band in bands(long)[1:] if band[1] < 358]
    assert len(found) == 5
    assert np.flatnonzero((long > 110).any(axis=0)).tolist()[-1] < 640 * 0.95
    short = [band for band in bands(luma(one.frame("cam", "the camera has gone", "14:03:22")))[1:] if band[1] < 358]
    assert len(short) == 4


def test_the_same_words_are_not_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Placeholder(1920, 1080, False, None)
    first = one.frame(*WORDS)
    glyphs = module.Glyphs

    def none(*_: object) -> None:
        raise AssertionError("drawn again")

    monkeypatch.setattr(module, "Glyphs", none)
    again = one.frame(*WORDS)
    assert again is not first, "its times are set by whoever encodes it"
    assert (luma(again) == luma(first)).all()
    with pytest.raises(AssertionError, match="drawn again"):
        one.frame("another", *WORDS[1:])
    monkeypatch.setattr(module, "Glyphs", glyphs)
    before = luma(first)
    other = one.frame("another", *WORDS[1:])
    assert (luma(other) != before).any()
    assert (luma(first) == before).all(), "a frame that is still with the encoder stays as it is"
    assert (luma(one.frame(*WORDS)) == before).all()


def test_it_can_be_encoded_again_and_again() -> None:
    base = Fraction(1, 12800)
    encoder = Encoder(Shape(320, 240, base, Fraction(25), False, None, 2, 2, 2), Encoding(preset="ultrafast"), True)
    one = Placeholder(320, 240, False, None)
    packets = [packet for number in range(50) for packet in encoder.encode(one.frame(*WORDS), number * 512, 512)]
    packets += encoder.flush()
    assert [packet.pts for packet in packets] == [number * 512 for number in range(50)]
    assert sum(packet.size for packet in packets[1:25]) < packets[0].size, "a still picture costs few bytes"
    decoder = av.CodecContext.create("h264", "r")
    frames = [frame for packet in packets for frame in decoder.decode(packet)] + list(decoder.decode(None))
    assert len(frames) == 50
    wanted = luma(one.frame(*WORDS)).astype(int)
    assert abs(planes_of(frames[-1]).y.astype(int) - wanted).mean() < 2


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("size", [(640, 360), (1280, 720), (360, 640)])
def test_a_picture_is_fitted_in_its_own_colours(picture: Path, size: tuple[int, int], full: bool) -> None:
    width, height = size
    one = Placeholder(width, height, full, picture)
    shown = rgb(one.frame("", "", ""))
    high = width // 2  # twice as wide as high
    top = (height - high) // 2
    assert abs(shown[top + high // 4, width // 2] - (220, 0, 0)).max() <= 4
    assert abs(shown[top + high * 3 // 4, width * 7 // 8] - (0, 0, 220)).max() <= 4
    assert abs(shown[top // 2, width // 2] - GROUND).max() <= 2, "around it the ground"
    with_words = rgb(one.frame(*WORDS))
    changed = np.argwhere((with_words != shown).any(axis=2))
    assert changed[:, 0].min() > height / 2, "text in the lower left"
    assert changed[:, 1].max() < width * 0.75
    assert with_words[int(height * 0.6) :, : width // 2].max() > 200


def test_a_picture_of_any_kind(tmp_path: Path) -> None:
    grey = np.full((48, 64), 180, np.uint8)
    deep = np.full((48, 64, 3), 180 * 257, np.uint16)
    clear = np.dstack([np.full((48, 64, 3), 180, np.uint8), np.full((48, 64), 255, np.uint8)])
    clear[:, :32, 3] = 0
    for name, found in {"a.jpg": grey, "b.png": deep, "c.bmp": grey, "d.webp": grey, "e.png": clear}.items():
        cv2.imwrite(str(tmp_path / name), found)
        shown = rgb(Placeholder(128, 96, False, tmp_path / name).frame("", "", ""))
        assert abs(shown[10, 100] - 180).max() <= 4, name
        left = GROUND if name == "e.png" else 180
        assert abs(shown[10, 10] - left).max() <= 4, "what is transparent shows the ground"


def test_what_is_no_picture_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty.png").write_bytes(b"")
    for name, why in {
        "text.png": "text.png is no picture that can be read: use PNG or JPEG",
        "empty.png": "is no picture",
        "none.png": "cannot read .*none.png: No such file or directory",
        ".": "cannot read .*: Is a directory",
    }.items():
        with pytest.raises(OutputError, match=why):
            Placeholder(64, 48, False, tmp_path / name)

"""The payload codec: colours come back, and no bytes whatever do harm."""

from __future__ import annotations

import contextlib

import av
import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.data import astronaut

from common import codec
from common.codec import Planes
from common.errors import PeerError
from common.messages import MAX_SIDE

Picture = NDArray[np.uint8]

#: Kr, Kb straight from the recommendations, independent of the module under test.
WEIGHTS = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
LIMITED, FULL = 1, 2


def to_planes(rgb: Picture, color_range: int, matrix: int) -> Planes:
    """RGB → YUV 4:2:0 by the formulas in double precision, chroma averaged over 2 × 2."""
    kr, kb = WEIGHTS[matrix]
    r, g, b = (rgb[..., i].astype(float) / 255 for i in range(3))
    y = kr * r + (1 - kr - kb) * g + kb * b
    cb, cr = (b - y) / (2 - 2 * kb), (r - y) / (2 - 2 * kr)
    if color_range == FULL:
        luma, chroma = 255 * y, (255 * cb + 128, 255 * cr + 128)
    else:
        luma, chroma = 219 * y + 16, (224 * cb + 128, 224 * cr + 128)
    small = []
    for plane in chroma:
        even = np.pad(plane, ((0, plane.shape[0] % 2), (0, plane.shape[1] % 2)), mode="edge")
        small.append(even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2).mean(axis=(1, 3)))
    u, v, y8 = (np.clip(np.rint(p), 0, 255).astype(np.uint8) for p in (*small, luma))
    return Planes(y8, u, v, color_range, matrix)


def patches(width: int = 96, height: int = 64) -> Picture:
    """Flat 32-pixel patches of named colours: primaries, secondaries, greys and skin."""
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (224, 172, 105)]
    rgb = np.empty((height, width, 3), np.uint8)
    for number, colour in enumerate(colours):
        row, column = divmod(number, 3)
        rgb[row * 32 : row * 32 + 32, column * 32 : column * 32 + 32] = colour
    return rgb


def road(planes: Planes, name: codec.Codec) -> Picture:
    payload = codec.encode_jpeg(planes, 95) if name == "jpeg" else codec.encode_i420(planes)
    return codec.decode_rgb(payload, name, (planes.width, planes.height))


@pytest.mark.parametrize("name", ["jpeg", "i420"])
@pytest.mark.parametrize("matrix", [1, 6, 9])
@pytest.mark.parametrize("color_range", [LIMITED, FULL])
def test_flat_colours_return_within_three_levels(name: codec.Codec, color_range: int, matrix: int) -> None:
    rgb = patches()
    decoded = road(to_planes(rgb, color_range, matrix), name)
    for row in range(2):
        for column in range(3):
            inside = np.s_[row * 32 + 8 : row * 32 + 24, column * 32 + 8 : column * 32 + 24]
            error = np.abs(decoded[inside].mean(axis=(0, 1)) - rgb[inside].mean(axis=(0, 1)))
            assert error.max() <= 3, (row, column, error)


@pytest.mark.parametrize("matrix", [1, 6])
@pytest.mark.parametrize("color_range", [LIMITED, FULL])
def test_natural_picture_keeps_its_colours(color_range: int, matrix: int) -> None:
    rgb = astronaut()
    planes = to_planes(rgb, color_range, matrix)
    payload = codec.encode_jpeg(planes, 80)
    decoded = codec.decode_rgb(payload, "jpeg", (512, 512))
    assert np.abs(decoded.astype(int) - rgb).mean() < 3.2
    assert np.abs(decoded.mean(axis=(0, 1)) - rgb.mean(axis=(0, 1))).max() < 0.5  # no tint
    # The planes taken as they are would be clearly worse, or the conversion would be for nothing.
    if (color_range, matrix) != (FULL, 6):
        raw = simplejpeg.decode_jpeg(simplejpeg.encode_jpeg_yuv_planes(planes.y, planes.u, planes.v, quality=80))
        assert np.abs(raw.astype(int) - rgb).mean() > 3.2


@pytest.mark.parametrize(("space", "matrix"), [("ITU709", 1), ("ITU601", 6)])
@pytest.mark.parametrize(("reach", "color_range"), [("MPEG", LIMITED), ("JPEG", FULL)])
def test_agrees_with_ffmpegs_conversion(space: str, matrix: int, reach: str, color_range: int) -> None:
    """swscale makes the planes: an independent reading of the standards."""
    rgb = astronaut()
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
    frame = frame.reformat(
        format="yuv420p", src_color_range="JPEG", dst_color_range=reach, dst_colorspace=space, interpolation="AREA"
    )
    y, u, v = (
        np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
        for plane in frame.planes
    )
    decoded = road(Planes(y, u, v, color_range, matrix), "jpeg")
    assert np.abs(decoded.astype(int) - rgb).mean() < 2.8
    assert np.abs(decoded.mean(axis=(0, 1)) - rgb.mean(axis=(0, 1))).max() < 1


def test_both_codecs_decode_alike() -> None:
    planes = to_planes(astronaut(), LIMITED, 1)
    jpeg, raw = road(planes, "jpeg"), road(planes, "i420")
    assert np.abs(jpeg.astype(int) - raw).mean() < 2


def test_jfif_planes_pass_untouched() -> None:
    planes = to_planes(astronaut(), FULL, 6)
    jfif = codec.to_jfif(planes)
    assert jfif.y is planes.y
    assert jfif.u is planes.u


def test_unspecified_matrix_follows_the_source_height() -> None:
    assert codec.resolve_matrix(2, 1080) == codec.resolve_matrix(2, 720) == 1
    assert codec.resolve_matrix(2, 576) == 6
    assert codec.resolve_matrix(9, 480) == 9
    assert codec.resolve_matrix(1, 480) == 1
    assert codec.resolve_matrix(0, 1080) == 1  # "identity" is no Y'CbCr


@pytest.mark.parametrize("size", [(256, 144), (640, 360), (300, 300), (301, 169), (1, 1), (1000, 30), (1024, 1024)])
@pytest.mark.parametrize("source", [(512, 512), (511, 333)])
def test_scaling_keeps_the_picture(size: tuple[int, int], source: tuple[int, int]) -> None:
    planes = to_planes(astronaut()[: source[1], : source[0]], LIMITED, 1)
    small = codec.scale(planes, *size)
    small.check()
    assert (small.width, small.height) == size
    assert (small.color_range, small.matrix) == (LIMITED, 1)
    # The mean must stay, and so must its place: compare thirds of the picture. One pixel samples the middle only.
    if min(size) > 8:
        for before, after in zip(np.array_split(planes.y, 3, 1), np.array_split(small.y, 3, 1), strict=True):
            assert abs(before.mean() - after.mean()) < 2.5


def test_scaling_down_does_not_alias() -> None:
    """A one-pixel checkerboard must become grey; point sampling would give black, white or moiré."""
    board = ((np.indices((1080, 1920)).sum(axis=0) % 2) * 255).astype(np.uint8)
    chroma = np.full((540, 960), 128, np.uint8)
    small = codec.scale(Planes(board, chroma, chroma), 256, 144)
    assert np.abs(small.y.astype(int) - 127).max() <= 2


def test_scaling_up_and_same_size() -> None:
    planes = to_planes(astronaut()[:64, :64], FULL, 6)
    assert codec.scale(planes, 64, 64) is planes
    big = codec.scale(planes, 101, 75)
    big.check()
    assert abs(big.y.mean() - planes.y.mean()) < 1


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_rotation_is_clockwise(degrees: int) -> None:
    rgb = astronaut()[:301, :201]
    planes = codec.rotate(to_planes(rgb, FULL, 6), degrees)
    planes.check()
    expected = to_planes(np.rot90(rgb, -degrees // 90).copy(), FULL, 6)
    assert np.array_equal(planes.y, expected.y)
    assert planes.u.shape == expected.u.shape


def test_rotation_by_another_angle_is_our_error() -> None:
    with pytest.raises(ValueError, match="45"):
        codec.rotate(to_planes(patches(), FULL, 6), 45)


@pytest.mark.parametrize("name", ["jpeg", "i420"])
@pytest.mark.parametrize("size", [(511, 333), (2, 3), (1, 1), (17, 512)])
def test_odd_sizes(name: codec.Codec, size: tuple[int, int]) -> None:
    rgb = astronaut()[: size[1], : size[0]]
    decoded = road(to_planes(rgb, LIMITED, 1), name)
    assert decoded.shape == (size[1], size[0], 3)
    assert np.abs(decoded.astype(int) - rgb).mean() < 6


def test_strided_planes_encode() -> None:
    """Decoders pad their rows; the views go in without a copy."""
    whole = to_planes(astronaut(), FULL, 6)
    part = Planes(whole.y[:100, :150], whole.u[:50, :75], whole.v[:50, :75], FULL, 6)
    y, u, v = (np.ascontiguousarray(plane) for plane in (part.y, part.u, part.v))
    packed = Planes(y, u, v, FULL, 6)
    assert codec.encode_jpeg(part) == codec.encode_jpeg(packed)
    assert codec.encode_i420(part) == codec.encode_i420(packed)


@pytest.mark.parametrize("name", ["jpeg", "i420"])
@pytest.mark.parametrize("region", [np.s_[10:74, :], np.s_[10:74, 20:116]])
def test_decodes_into_the_given_region_only(name: codec.Codec, region: tuple[slice, slice]) -> None:
    height, width = (64, 96)
    batch = np.full((2, 100, 96 if region[1] == slice(None) else 140, 3), 77, np.uint8)
    planes = to_planes(patches(), FULL, 6)
    payload = codec.encode_jpeg(planes) if name == "jpeg" else codec.encode_i420(planes)
    view = batch[1][region]
    assert codec.decode_rgb(payload, name, (width, height), view) is view
    assert np.array_equal(batch[1][region], codec.decode_rgb(payload, name, (width, height)))
    assert (batch[0] == 77).all()
    assert (batch[1, :10] == 77).all()
    assert (batch[1, 74:] == 77).all()


def test_a_wrong_buffer_is_our_error() -> None:
    payload = codec.encode_jpeg(to_planes(patches(), FULL, 6))
    with pytest.raises(ValueError, match="uint8"):
        codec.decode_rgb(payload, "jpeg", (96, 64), np.empty((96, 64, 3), np.uint8))


# -- what a peer can do to us ----------------------------------------------------------------------------------------


def refuses(payload: bytes, name: codec.Codec, size: tuple[int, int] = (96, 64)) -> PeerError:
    with pytest.raises(PeerError) as caught:
        codec.decode_rgb(payload, name, size)
    assert caught.value.kind == "payload"
    return caught.value


def test_dimensions_must_be_those_announced() -> None:
    payload = codec.encode_jpeg(to_planes(patches(), FULL, 6))
    assert "96×64" in refuses(payload, "jpeg", (64, 96)).detail
    refuses(payload, "jpeg", (95, 64))


def with_size(payload: bytes, width: int, height: int) -> bytes:
    """The same JPEG with other dimensions in its SOF0 header."""
    start = payload.index(b"\xff\xc0")
    return payload[: start + 5] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + payload[start + 9 :]


def test_a_bomb_is_refused_before_decoding() -> None:
    payload = codec.encode_jpeg(to_planes(patches(), FULL, 6))
    bomb = with_size(payload, 65500, 65500)
    assert "65500" in refuses(bomb, "jpeg").detail
    assert "at most" in refuses(bomb, "jpeg", (65500, 65500)).detail
    assert "at most" in refuses(with_size(payload, MAX_SIDE, MAX_SIDE), "jpeg", (MAX_SIDE, MAX_SIDE)).detail
    refuses(payload, "jpeg", (0, 64))


@pytest.mark.parametrize("extra", [-1, 1, 1000, -96 * 64])
def test_i420_of_another_length(extra: int) -> None:
    payload = codec.encode_i420(to_planes(patches(), FULL, 6))
    refuses(payload[:extra] if extra < 0 else payload + bytes(extra), "i420")


@pytest.mark.parametrize("codec_name", ["jpeg", "i420"])
def test_empty_payload(codec_name: codec.Codec) -> None:
    refuses(b"", codec_name)


def test_every_truncation_is_refused() -> None:
    payload = codec.encode_jpeg(to_planes(patches(), FULL, 6))
    for length in range(0, len(payload) - 2, 37):
        refuses(payload[:length], "jpeg")


def test_a_memoryview_is_as_good_as_bytes() -> None:
    planes = to_planes(patches(), FULL, 6)
    for name, payload in (("jpeg", codec.encode_jpeg(planes)), ("i420", codec.encode_i420(planes))):
        assert codec.decode_rgb(memoryview(payload), name, (96, 64)).shape == (64, 96, 3)  # type: ignore[arg-type]


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400), st.sampled_from(["jpeg", "i420"]))
def test_random_bytes_raise_nothing_else(noise: bytes, name: codec.Codec) -> None:
    for payload in (noise, b"\xff\xd8\xff" + noise):
        if name == "i420" and len(payload) == 96:
            continue
        refuses(payload, name, (8, 8))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_jpegs_decode_or_are_refused(data: st.DataObject) -> None:
    payload = bytearray(codec.encode_jpeg(to_planes(patches(), FULL, 6)))
    for _ in range(data.draw(st.integers(1, 8))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    # Any other exception fails the test.
    with contextlib.suppress(PeerError):
        assert codec.decode_rgb(bytes(payload), "jpeg", (96, 64)).shape == (64, 96, 3)

"""Folders and patterns of pictures: what is taken, in which order, and what decoders make of it at both ends."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from common.errors import SourceError
from common.media import Track, UncarriedCodec, pack, prepare_decoder, to_packet, unpack
from common.messages import Packet, TrackInfo
from common.picture import turn
from producer.pictures import MAX_NAMED, Pictures, is_pictures, natural, open_pictures

Picture = NDArray[np.uint8]
#: What each kind may differ from what OpenCV reads, as a mean over all samples, in levels (4:2:0 and its scaling).
TOLERANCE = {".jpg": 2.0, ".png": 0.0, ".webp": 2.0, ".bmp": 2.0, ".tiff": 2.0}


def picture(number: int, width: int = 160, height: int = 96) -> Picture:
    """A smooth picture of modest colours, another one for each number; H × W × 3, BGR."""
    seed = np.random.default_rng(number).integers(50, 205, (3, 4, 3), np.uint8)
    return cv2.resize(seed, (width, height), interpolation=cv2.INTER_CUBIC)  # type: ignore[return-value]


def save(path: Path, number: int = 0, width: int = 160, height: int = 96) -> Path:
    options = [cv2.IMWRITE_JPEG_QUALITY, 95] if path.suffix == ".jpg" else []
    assert cv2.imwrite(str(path), picture(number, width, height), options)
    return path


def through_the_link(pictures: Pictures) -> list[av.VideoFrame]:
    """What the sink's decoder makes of the packets, sent as the producer sends them."""
    template = pictures.container.streams.video[0]
    carrier, blob = pack(template)
    info = TrackInfo(kind="video", codec=template.codec_context.name, carrier=carrier, time_base=(1, 1), size=len(blob))
    (track,) = unpack([info], blob)
    assert isinstance(track, av.VideoStream)
    decoder = prepare_decoder(track, 1)
    frames = []
    for number, packet in enumerate(pictures.packets()):
        assert packet.opaque is None
        assert packet.is_keyframe
        assert packet.dts == packet.pts == number
        assert packet.duration == 1
        assert packet.time_base == template.time_base == 1 / pictures.rate
        sent = Packet(
            stream="a", epoch=0, link=number, track=0, pts=packet.pts, dts=packet.dts, duration=packet.duration or 0,
            time_base=(packet.time_base.numerator, packet.time_base.denominator), key=packet.is_keyframe,
        )  # fmt: skip
        frames += decoder.decode(to_packet(sent, bytes(packet)))
    frames += decoder.decode(None)
    assert [frame.opaque for frame in frames] == [[number] for number in range(len(frames))]
    return frames


def difference(frame: av.VideoFrame, expected: Picture) -> float:
    """Mean absolute difference in levels."""
    return float(np.abs(frame.to_ndarray(format="bgr24").astype(int) - expected).mean())


@pytest.mark.parametrize("suffix", TOLERANCE)
def test_each_kind_decodes_at_the_sink_to_what_is_in_the_files(tmp_path: Path, suffix: str) -> None:
    paths = [save(tmp_path / f"img{number}{suffix}", number) for number in range(12)]
    pictures = open_pictures(str(tmp_path), Fraction(30000, 1001))
    frames = through_the_link(pictures)
    assert pictures.count == len(frames) == 12
    assert pictures.left_out == []
    for number, (path, frame) in enumerate(zip(paths, frames, strict=True)):
        assert frame.pts == number
        assert frame.time_base == Fraction(1001, 30000)
        assert difference(frame, cv2.imread(str(path))) <= TOLERANCE[suffix]  # type: ignore[arg-type]


def test_the_template_says_the_rate(tmp_path: Path) -> None:
    save(tmp_path / "a.jpg")
    for rate, kept in [
        (Fraction(25), Fraction(25)),
        (Fraction(24000, 1001), Fraction(24000, 1001)),
        (Fraction(29.97), Fraction(2997, 100)),  # a float that is no fraction of 32-bit integers
        (Fraction(1, 1000), Fraction(1, 1000)),
    ]:
        video = open_pictures(str(tmp_path), rate).container.streams.video[0]
        assert video.time_base == 1 / kept
        assert video.average_rate == video.base_rate == kept
        assert (video.width, video.height) == (160, 96)


def test_natural_order(tmp_path: Path) -> None:
    names = ["img10.png", "img2.png", "img1.png", "a9b10.png", "a9b9.png", "img02.png", "7.png", "10.png"]
    for number, name in enumerate(names):
        save(tmp_path / name, number)
    order = ["7.png", "10.png", "a9b9.png", "a9b10.png", "img1.png", "img02.png", "img2.png", "img10.png"]
    for address in (str(tmp_path), f"{tmp_path}/*.png", f"file:{tmp_path}"):
        frames = through_the_link(open_pictures(address))
        for name, frame in zip(order, frames, strict=True):
            assert difference(frame, picture(names.index(name))) == 0


@given(st.lists(st.text(min_size=1, max_size=20).filter(lambda name: "/" not in name and "\0" not in name)))
def test_any_names_can_be_sorted(names: list[str]) -> None:
    numbers = [f"{name}{number}" for name in names for number in (2, 10)]
    ordered = sorted(numbers, key=natural)
    assert sorted(numbers) == sorted(ordered)
    for name in names:
        if not name[-1].isdigit():
            assert ordered.index(f"{name}2") < ordered.index(f"{name}10")


def test_patterns_choose(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for number, name in enumerate(["a1.png", "b1.png", "deep/a2.png", "deep/er/a3.png"]):
        save(tmp_path / name, number)
    for pattern, numbers in {"a*.png": [0], "?1.png": [0, 1], "**/a*.png": [0, 2, 3], "[b]1*": [1]}.items():
        frames = through_the_link(open_pictures(f"{tmp_path}/{pattern}"))
        assert [difference(frame, picture(number)) for frame, number in zip(frames, numbers, strict=True)] == [0] * len(
            numbers
        )


def test_what_is_a_source_of_pictures(tmp_path: Path) -> None:
    save(tmp_path / "a.jpg")
    (tmp_path / "odd[1]*.mp4").touch()
    assert is_pictures(str(tmp_path))
    assert is_pictures(f"{tmp_path}/*.jpg")
    assert is_pictures(f"{tmp_path}/nothing/*.jpg")
    for other in ("a.jpg", "odd[1]*.mp4", "missing"):
        assert not is_pictures(f"{tmp_path}/{other}")
    for other in ("rtsp://host/a*", "-", "http://host/?a=[1]"):
        assert not is_pictures(other)


def test_what_is_no_picture_of_the_kind_is_left_out_and_named(tmp_path: Path) -> None:
    good = [save(tmp_path / f"f{number}.jpg", number) for number in (3, 5, 30)]
    whole = good[0].read_bytes()
    (tmp_path / "f1.jpg").write_bytes(b"")
    (tmp_path / "f2.jpg").write_bytes(b"no picture at all, only a name")
    (tmp_path / "f4.jpg").write_bytes(whole[: len(whole) * 2 // 3])
    (tmp_path / "f6.jpg").write_bytes(whole[:200])
    (tmp_path / "f7.jpg").mkdir()
    (tmp_path / "f8.jpg").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "f9.jpg")
    save(tmp_path / "f10.png")
    save(tmp_path / "f11.bmp")
    (tmp_path / "f12.jpg").write_bytes(whole[: len(whole) // 2] + bytes(len(whole) // 2))
    save(tmp_path / ".hidden.jpg")
    with open(tmp_path / "f13.jpg", "wb") as huge:
        huge.write(whole)
        huge.truncate(65 * 2**20)
    os.symlink("/dev/zero", tmp_path / "f14.jpg")
    pictures = open_pictures(str(tmp_path))
    frames = through_the_link(pictures)
    assert [round(difference(frame, picture(number))) for frame, number in zip(frames, (3, 5, 30), strict=True)]
    assert pictures.count == 3
    assert dict(one.split(": ", 1) for one in pictures.left_out) == {
        ".hidden.jpg": "hidden",
        "f1.jpg": "empty",
        "f2.jpg": "not a picture",
        "f4.jpg": "cut off, or still being written",
        "f6.jpg": "cut off, or still being written",
        "f7.jpg": "a folder",
        "f8.jpg": "cannot be read: No such file or directory",
        "f9.jpg": "not a file",
        "f10.png": "PNG, the others are JPEG",
        "f11.bmp": "BMP, the others are JPEG",
        "f12.jpg": "cut off, or still being written",
        "f13.jpg": "larger than 64 MiB",
        "f14.jpg": "not a file",
    }
    assert pictures.left_out_count == 13
    again = through_the_link(pictures)
    assert len(again) == 3
    assert pictures.left_out_count == 13


@pytest.mark.parametrize("suffix", TOLERANCE)
def test_cut_off_at_any_byte(tmp_path: Path, suffix: str) -> None:
    """A picture that is not whole never comes out as one, wherever it ends."""
    save(tmp_path / f"a{suffix}")
    whole = save(tmp_path / f"b{suffix}", 1, 64, 48).read_bytes()
    # After these, what is missing is no part of the picture: a checksum, or what TIFF lists behind it.
    needed = len(whole) - {".png": 4, ".bmp": 0, ".tiff": 200}.get(suffix, 0)
    for end in [*range(1, needed, max(1, needed // 150)), needed - 1]:
        (tmp_path / f"b{suffix}").write_bytes(whole[:end])
        pictures = open_pictures(str(tmp_path))
        packets = list(pictures.packets())
        assert len(packets) == 1, (end, len(whole))
        assert pictures.left_out_count == 1


def test_names_are_bounded_and_printable(tmp_path: Path) -> None:
    save(tmp_path / "z.jpg")
    for number in range(30):
        (tmp_path / f"a{number}.txt").write_bytes(b"text")
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/0\xff\x1b[31m\n.jpg"))).write_bytes(b"text")
    pictures = open_pictures(str(tmp_path))
    assert pictures.left_out_count == 31
    assert len(pictures.left_out) == MAX_NAMED
    assert pictures.left_out[0] == "0��[31m�.jpg: not a picture"
    assert pictures.count == 1


def test_names_of_any_bytes(tmp_path: Path) -> None:
    for number in (1, 2):
        path = os.fsencode(tmp_path) + b"/\xff%d:[a]*.png" % number
        with open(path, "wb") as file:
            file.write(save(tmp_path / "a.png", number).read_bytes())
    (tmp_path / "a.png").unlink()
    frames = through_the_link(open_pictures(str(tmp_path)))
    assert [difference(frame, picture(number)) for number, frame in zip((1, 2), frames, strict=True)] == [0, 0]


@pytest.mark.parametrize("suffix", TOLERANCE)
def test_other_sizes(tmp_path: Path, suffix: str) -> None:
    sizes = [(160, 96), (130, 90), (321, 243), (2, 2), (160, 96)]
    for number, size in enumerate(sizes):
        save(tmp_path / f"{number}{suffix}", number, *size)
    frames = through_the_link(open_pictures(str(tmp_path)))
    assert [(frame.width, frame.height) for frame in frames] == sizes
    for number, frame in enumerate(frames):
        if sizes[number] != (2, 2):
            assert difference(frame, picture(number, *sizes[number])) <= TOLERANCE[suffix]


MODES = [
    (".png", mode) for mode in ("RGB", "RGBA", "P", "L", "LA", "1", "I;16")
] + [(".jpg", mode) for mode in ("L", "RGB", "CMYK")] + [
    (".bmp", mode) for mode in ("1", "L", "P", "RGB")
] + [(".tiff", mode) for mode in ("1", "L", "RGB", "RGBA", "I;16", "CMYK")] + [(".webp", "RGBA")]  # fmt: skip


@pytest.mark.parametrize(("suffix", "mode"), MODES)
def test_pixel_formats(tmp_path: Path, suffix: str, mode: str) -> None:
    rgb = Image.fromarray(picture(1)[..., ::-1])
    grey = rgb.convert("L")
    if mode == "I;16":
        image, like = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257), grey
    else:
        image = like = rgb.convert(mode, palette=Image.Palette.ADAPTIVE)
    expected = np.asarray(like.convert("RGB"))[..., ::-1]
    image.save(tmp_path / f"a{suffix}", quality=95)
    (frame,) = through_the_link(open_pictures(str(tmp_path)))
    # Black and white dots are the worst that can be done to scaled colour planes.
    assert difference(frame, expected) < 3


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff"])
def test_pictures_are_upright_as_exif_says(tmp_path: Path, suffix: str) -> None:
    for number, orientation in enumerate((1, 3, 6, 8)):
        image = Image.fromarray(picture(number)[..., ::-1])
        exif = image.getexif()
        exif[0x0112] = orientation
        image.save(tmp_path / f"{number}{suffix}", exif=exif, quality=95)
    frames = through_the_link(open_pictures(str(tmp_path)))
    for number, frame in enumerate(frames):
        with Image.open(tmp_path / f"{number}{suffix}") as image:
            expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))[..., ::-1]
        found = np.rot90(frame.to_ndarray(format="bgr24"), -turn(frame) // 90)
        assert found.shape == expected.shape
        assert np.abs(found.astype(int) - expected).mean() < 3


def motion_photo(jpeg: bytes) -> bytes:
    return jpeg + b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 40 + b"\xff\xda\xff\xd8"


def with_thumbnail(jpeg: bytes) -> bytes:
    small = io.BytesIO()
    Image.fromarray(picture(9, 32, 24)).save(small, "JPEG")
    segment = b"Exif\0\0" + small.getvalue()
    return jpeg[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + jpeg[2:]


def progressive(jpeg: bytes) -> bytes:
    made = io.BytesIO()
    Image.open(io.BytesIO(jpeg)).save(made, "JPEG", progressive=True, quality=95, restart_marker_rows=1)
    return made.getvalue()


@pytest.mark.parametrize("made", [motion_photo, with_thumbnail, progressive, lambda jpeg: jpeg + b"\0" * 9000])
def test_the_end_of_a_jpeg_is_found(tmp_path: Path, made: Callable[[bytes], bytes]) -> None:
    path = save(tmp_path / "a.jpg", 1)
    jpeg = path.read_bytes()
    path.write_bytes(made(jpeg))
    (frame,) = through_the_link(open_pictures(str(tmp_path)))
    assert difference(frame, picture(1)) < 2.5
    if made is not motion_photo:
        path.write_bytes(made(jpeg)[: len(jpeg) // 2])
        with pytest.raises(SourceError, match="cut off, or still being written"):
            open_pictures(str(tmp_path))


def test_files_that_vanish_grow_or_change_meanwhile(tmp_path: Path) -> None:
    for number in range(6):
        save(tmp_path / f"{number}.jpg", number)
    whole = (tmp_path / "3.jpg").read_bytes()
    pictures = open_pictures(str(tmp_path))
    packets = pictures.packets()
    next(packets)
    (tmp_path / "1.jpg").unlink()
    (tmp_path / "2.jpg").write_bytes(b"")
    (tmp_path / "3.jpg").write_bytes(whole[:300])
    (tmp_path / "9.jpg").write_bytes(whole)
    assert [packet.pts for packet in packets] == [1, 2]
    assert pictures.count == 3
    assert [one.split(":")[0] for one in pictures.left_out] == ["1.jpg", "2.jpg", "3.jpg"]
    # The next time round, what has become whole is taken.
    for name in ("2.jpg", "3.jpg"):
        (tmp_path / name).write_bytes(whole)
    assert len(through_the_link(pictures)) == pictures.count == 5
    assert pictures.left_out_count == 1


def test_written_while_it_is_read(tmp_path: Path) -> None:
    """Whatever a writer does at the same time: pictures that come out are whole."""
    target = tmp_path / "1.png"
    save(tmp_path / "0.png")
    versions = [save(target, number, 200 + number, 160).read_bytes() for number in range(2)]
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            for version in versions:
                with open(target, "wb", buffering=0) as file:
                    for at in range(0, len(version), 1000):
                        file.write(version[at : at + 1000])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        pictures = open_pictures(str(tmp_path))
        seen = sum(len(list(pictures.packets())) for _ in range(200))
    finally:
        done.set()
        writer.join()
    assert 200 <= seen <= 400


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "has no picture"),
        ({"a.txt": b"x", "b.txt": b"x", "c": b"", "d": b""}, "a.txt: not a picture; b.txt: not a picture; c: empty$"),
        ({"a.jpg": b"\xff\xd8\xff\xd9"}, "a.jpg: a damaged JPEG"),
        ({"a.png": b"\x89PNG\r\n\x1a\n" + bytes(50) + b"IEND"}, "a.png: a damaged PNG"),
        ({"a.bmp": b"BM" + bytes(100)}, "a.bmp: a BMP that cannot be decoded"),
        ({"a.webp": b"RIFF\0\0\0\0WEBP" + bytes(100)}, "a.webp: a WebP that cannot be decoded"),
        ({"a.tif": b"II*\0" + b"\xff" * 100}, "a.tif: a TIFF that cannot be decoded"),
    ],
)
def test_no_picture_at_all(tmp_path: Path, files: dict[str, bytes], says: str) -> None:
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(SourceError, match=says) as caught:
        open_pictures(str(tmp_path))
    assert str(tmp_path) in str(caught.value)
    pattern = f"{tmp_path}/x*.jpg"
    with pytest.raises(SourceError) as caught:
        open_pictures(pattern)
    assert pattern in str(caught.value)


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    """Some bytes that become more pixels than are decoded anywhere, as the first picture and as a later one."""
    bomb = Image.new("L", (6000, 6000))
    bomb.save(tmp_path / "0.png")
    save(tmp_path / "1.png")
    assert [one.split(":")[0] for one in open_pictures(str(tmp_path)).left_out] == ["0.png"]
    folder = tmp_path / "tiff"
    folder.mkdir()
    save(folder / "0.tiff")
    bomb.save(folder / "1.tiff", compression="tiff_deflate")
    pictures = open_pictures(str(folder))
    assert len(list(pictures.packets())) == 1
    assert pictures.left_out[0].startswith("1.tiff: a TIFF that cannot be decoded")


@pytest.mark.parametrize("name", ["bmp", "tiff", "webp"])
def test_the_link_has_no_carrier_for_what_is_made_a_jpeg(tmp_path: Path, name: str) -> None:
    """Once this fails, the file's own bytes can be sent."""
    path = save(tmp_path / f"a.{name}")
    with av.open(str(path), format=f"{name}_pipe") as container:
        track: Sequence[Track] = container.streams.video
        with pytest.raises(UncarriedCodec):
            pack(track[0])

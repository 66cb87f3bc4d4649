"""Previews: what is seen is the annotated picture, in its colours; who watches costs the stream next to nothing, and
who does not nothing."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import simplejpeg
from numpy.typing import NDArray

from common import messages as m
from common.codec import Planes
from common.media import unpack
from common.nodelink import MAX_MESSAGE, picture_message
from sink import preview
from sink.ledger import State
from sink.preview import Preview, Previews, encoded, small
from sink.reorder import Decision
from sink.studio import Studio
from tests.builders import EPOCH
from tests.feeds import record, settings
from tests.support import make_clip, wait_for

SQUARE = Fraction(1)
BT709 = 1


class Screen:
    """Whoever receives pictures; ``takes`` says whether it does."""

    def __init__(self) -> None:
        self.shown: list[tuple[str, bytes]] = []
        self.takes = True

    def picture(self, stream: str, jpeg: bytes) -> bool:
        if self.takes:
            self.shown.append((stream, jpeg))
        return self.takes


@pytest.fixture
def previews() -> Iterator[Previews]:
    made = Previews(lambda: None)
    yield made
    made.check()


def watch(previews: Previews, *streams: str, seconds: float = 5) -> None:
    previews.hear([{"preview": list(streams), "seconds": seconds}], time.monotonic())


def flat(colour: tuple[int, int, int], size: tuple[int, int] = (64, 48), form: str = "yuv420p") -> av.VideoFrame:
    """A picture of one Y, U and V."""
    frame = av.VideoFrame(*size, form)
    for plane, value in zip(frame.planes, colour, strict=True):
        np.frombuffer(plane, np.uint8)[:] = value  # type: ignore[call-overload]
    return frame


def rgb(jpeg: bytes) -> NDArray[np.uint8]:
    return simplejpeg.decode_jpeg(jpeg, "RGB")


def one_picture(previews: Previews, screen: Screen) -> NDArray[np.uint8]:
    def come() -> bool:
        previews.deliver(screen)
        return bool(screen.shown)

    wait_for(come, 5, "a picture")
    return rgb(screen.shown.pop(0)[1])


# -- what is seen ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "matrix", "yuv"),
    [("yuv420p", 6, (81, 90, 240)), ("yuv420p", BT709, (63, 102, 240)), ("yuvj420p", 6, (76, 85, 255))],
    ids=["BT.601", "BT.709", "full range"],
)
def test_red_stays_red(previews: Previews, form: str, matrix: int, yuv: tuple[int, int, int]) -> None:
    previews.of("cam")
    watch(previews, "cam")
    previews.of("cam").offer(flat(yuv, form=form), matrix, SQUARE)
    middle = one_picture(previews, Screen())[24, 32].astype(int)
    assert np.abs(middle - (255, 0, 0)).max() <= 6, middle


def test_what_is_drawn_is_seen_and_what_follows_is_not(previews: Previews) -> None:
    """The studio takes the boxes off its picture again at once."""
    frame = flat((81, 90, 240), (640, 360))
    one = previews.of("cam")
    watch(previews, "cam")
    one.offer(frame, 6, SQUARE)
    for plane in frame.planes:
        np.frombuffer(plane, np.uint8)[:] = 16  # type: ignore[call-overload]
    assert np.abs(one_picture(previews, Screen())[180, 320].astype(int) - (255, 0, 0)).max() <= 6


@pytest.mark.parametrize(
    ("size", "sar", "shown"),
    [
        ((1920, 1080), SQUARE, (640, 360)),
        ((1080, 1920), SQUARE, (360, 640)),
        ((320, 180), SQUARE, (320, 180)),
        ((720, 576), Fraction(64, 45), (640, 360)),
        ((720, 480), Fraction(8, 9), (640, 480)),
        ((16384, 2), SQUARE, (640, 2)),
    ],
    ids=["HD", "upright", "small", "wide PAL", "NTSC", "a line"],
)
def test_it_is_small_and_keeps_its_shape(size: tuple[int, int], sar: Fraction, shown: tuple[int, int]) -> None:
    width, height = size
    half = (height // 2, width // 2)
    planes = Planes(*(np.zeros(shape, np.uint8) for shape in ((height, width), half, half)), 1, 6)
    made = small(planes, sar)
    made.check()
    assert abs(made.width - shown[0]) <= 2
    assert abs(made.height - shown[1]) <= 2
    assert not any(
        np.shares_memory(new, old) for new in (made.y, made.u, made.v) for old in (planes.y, planes.u, planes.v)
    )


def test_the_worst_picture_fits_into_one_message() -> None:
    noise = np.random.default_rng(1)
    y, u, v = (noise.integers(0, 256, shape, np.uint8) for shape in ((640, 640), (320, 320), (320, 320)))
    jpeg = encoded(Planes(y, u, v, 2, 6))
    assert jpeg is not None
    assert len(picture_message("n" * m.MAX_NAME, jpeg)) <= MAX_MESSAGE


# -- who watches -------------------------------------------------------------------------------------------------------


def test_nobody_watches_and_nothing_is_copied() -> None:
    taken: list[Planes] = []
    one = Preview(taken.append)
    frame = flat((1, 2, 3))
    for _ in range(100):
        one.offer(frame, 6, SQUARE)
    assert not taken


def test_a_few_pictures_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 60 a second, with jitter, 8 are taken, evenly; and no burst comes after a pause."""
    now = [100.0]
    monkeypatch.setattr(preview.time, "monotonic", lambda: now[0])
    taken: list[float] = []
    one = Preview(lambda planes: taken.append(now[0]))
    one.until = 1000.0
    frame, chance = flat((1, 2, 3)), np.random.default_rng(2)
    for number in range(600):
        now[0] = 100.0 + number / 60 + chance.uniform(0, 0.004) + (30.0 if number >= 300 else 0.0)
        one.offer(frame, 6, SQUARE)
    assert 78 <= len(taken) <= 82
    assert min(np.diff(taken)) > 0.1


def test_the_watching_ends_by_itself(previews: Previews) -> None:
    one = previews.of("cam")
    now = time.monotonic()
    previews.hear([{"preview": ["cam"], "seconds": 1e9}], now)
    assert one.until == now + preview.MAX_SECONDS
    previews.hear([{"preview": ["cam"], "seconds": -5}], now)
    assert one.until == now


@pytest.mark.parametrize(
    "request_",
    [
        {}, {"preview": "cam", "seconds": 3}, {"preview": ["cam"]}, {"preview": ["cam"], "seconds": "3"},
        {"preview": [None, 3, ["cam"], {"cam": 1}], "seconds": 3}, {"preview": ["dog"], "seconds": 3},
        {"preview": ["x" * 9999], "seconds": 3}, {"seconds": 3, "other": 1},
    ],
    ids=str,
)  # fmt: skip
def test_nonsense_is_left_out(previews: Previews, request_: dict[str, object]) -> None:
    one = previews.of("cam")
    previews.hear([request_], 50.0)
    assert one.until == 0.0


def test_the_newest_picture_wins_and_the_others_are_counted(previews: Previews) -> None:
    """Nobody fetches, then nobody takes: nothing piles up."""
    one = previews.of("cam")
    one.until = time.monotonic() + 60
    before = previews.dropped
    for luma in (40, 80, 120, 160):
        one._next = 0.0
        one.offer(flat((luma, 128, 128)), 6, SQUARE)
        previews.check()
    wait_for(lambda: previews._jpegs and not previews._copies, 5, "the JPEG")
    wait_for(lambda: previews.dropped == before + 3, 5, "the others counted")
    screen = Screen()
    grey = one_picture(previews, screen)[24, 32, 0]
    assert abs(int(grey) - round((160 - 16) * 255 / 219)) <= 3
    one._next, screen.takes = 0.0, False
    one.offer(flat((200, 128, 128)), 6, SQUARE)
    wait_for(lambda: previews._jpegs, 5, "another JPEG")
    previews.deliver(screen)
    assert previews.dropped == before + 4


def test_a_stream_that_is_forgotten_shows_nothing_more(previews: Previews) -> None:
    one = previews.of("cam")
    watch(previews, "cam")
    previews.forget("cam")
    one.offer(flat((1, 2, 3)), 6, SQUARE)
    screen = Screen()
    previews.deliver(screen)
    assert not screen.shown
    assert not previews._copies
    assert previews.of("cam") is not one


def test_the_thread_ends_when_there_is_nothing_to_do_and_begins_again(
    previews: Previews, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview, "IDLE_S", 0.05)
    before = set(threading.enumerate())
    one = previews.of("cam")
    for _ in range(2):
        watch(previews, "cam")
        one._next = 0.0
        one.offer(flat((81, 90, 240)), 6, SQUARE)
        one_picture(previews, Screen())
        wait_for(lambda: previews._thread is None, 5, "the thread's end")
    wait_for(lambda: set(threading.enumerate()) <= before, 5, "no thread")


# -- in the studio -----------------------------------------------------------------------------------------------------

BOX = m.Detection("cat", 0.9, (100.0, 40.0, 220.0, 120.0))


def play(clip: Path, out: Path, one: Preview, detections: tuple[m.Detection, ...]) -> weakref.ref[Studio]:
    """The clip through a studio of its own. Returns a look at whether it is still there."""
    recorded = record(clip)
    tracks = unpack(recorded.hello.tracks, recorded.blobs)
    made = Studio(settings(out), recorded.hello, EPOCH, tracks, preview=one)
    for header, payload in recorded.messages:
        if isinstance(header, m.Packet):
            made.packet(header, payload)
        elif isinstance(header, m.Notice):
            made.announce(header)
            made.show(Decision(header, State.ANNOTATED, "", detections))
    made.close()
    return weakref.ref(made)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("preview") / "clip.mp4"
    return make_clip(path, "-c:v", "libx264", "-bf", "2", "-preset", "ultrafast", seconds=0.4, size="320x180")


def test_the_studio_shows_its_boxes(tmp_path: Path, clip: Path, previews: Previews) -> None:
    def shown(detections: tuple[m.Detection, ...], out: str) -> NDArray[np.uint8]:
        one = previews.of(out)
        watch(previews, out)
        play(clip, tmp_path / out, one, detections)
        return one_picture(previews, Screen())

    plain, boxed = shown((), "a.mp4"), shown((BOX,), "b.mp4")
    changed = np.abs(plain.astype(int) - boxed).max(axis=2) > 60
    rows, columns = np.nonzero(changed)
    assert len(rows) > 200
    # Its outline, and above it the label.
    assert 96 <= columns.min() <= 102
    assert 217 <= columns.max() <= 224
    assert rows.max() <= 124
    assert changed[60:100, 105:215].mean() < 0.02, "inside, the picture is the source's"


def test_the_output_is_the_same_whether_somebody_watches(tmp_path: Path, clip: Path, previews: Previews) -> None:
    def written(out: str, watched: bool) -> bytes:
        one = previews.of(out)
        if watched:
            watch(previews, out)
        play(clip, tmp_path / out, one, (BOX,))
        with av.open(str(tmp_path / out)) as container:
            return b"".join(bytes(packet) for packet in container.demux(video=0) if packet.size)

    assert written("a.mkv", True) == written("b.mkv", False)


def test_no_studio_stays_behind(tmp_path: Path, clip: Path, previews: Previews) -> None:
    """A cycle would keep its decoder's threads until the next collection."""
    gc.collect()
    gc.disable()
    try:
        one = previews.of("a.mp4")
        watch(previews, "a.mp4")
        left = play(clip, tmp_path / "a.mp4", one, (BOX,))
        assert left() is None
    finally:
        gc.enable()

"""The page of a real node: the picture that is seen is the one that is written, soon; and what is asked for is done."""

from __future__ import annotations

import io
import json
import statistics
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import simplejpeg
from numpy.typing import NDArray
from selenium.webdriver import Keys

from tests.browser import Browser, browser
from tests.node import TestNode, a_node
from tests.servers import free_port
from tests.servers_http import Handler, HttpServer
from tests.support import number_in, numbered_clip

pytestmark = pytest.mark.timeout(180)

#: Frames a second of the camera, and of how many in a row no two have the same number.
RATE, NUMBERS = 25, 250
#: Where the model ``echo`` puts its boxes, as shares of the picture: x0, y0, x1, y1.
BOXES = ((0.40, 0.20, 0.48, 0.50), (0.52, 0.50, 0.60, 0.80))
#: From a picture's first byte, sent by the camera, to the last one of its preview, in seconds.
LATE_S = 0.5

FILE = """
[workers]
model = "echo"
count = 1

[[streams]]
name = "cam"
source = "{source}"
outputs = ["cam.ts", "cam.jsonl"]
encoding = {{ preset = "ultrafast" }}
"""


class Camera:
    """Sends a clip's pictures as MPEG-TS at their own speed. ``sent``: a picture's number → when it was last sent."""

    def __init__(self, clip: Path) -> None:
        self._clip = clip
        self.sent: dict[int, float] = {}

    def __call__(self, handler: Handler) -> None:
        handler.begin(Content_Type="video/mp2t")
        with av.open(str(self._clip)) as container:
            packets = [packet for packet in container.demux(video=0) if packet.size]
            step = packets[1].pts - packets[0].pts
            buffer = io.BytesIO()
            out = av.open(buffer, "w", format="mpegts", options={"mpegts_flags": "resend_headers"})
            track = out.add_stream_from_template(container.streams.video[0])
            began, number = time.monotonic(), 0
            while not handler.server.stopping.wait(max(0.0, began + number / RATE - time.monotonic())):
                packet = packets[number % len(packets)]
                packet.pts = packet.dts = number * step
                packet.stream = track
                out.mux(packet)
                self.sent[number % len(packets)] = time.monotonic()
                handler.wfile.write(buffer.getvalue())
                buffer.seek(0)
                buffer.truncate()
                number += 1


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Camera:
    codec = ("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "25", "-bf", "0", "-an")
    path = tmp_path_factory.mktemp("camera") / "clip.mp4"
    return Camera(numbered_clip(path, NUMBERS, *codec, rate=RATE, sound=""))


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, camera: Camera) -> Iterator[tuple[TestNode, str]]:
    """A node, and its page's address."""
    port = free_port()
    with HttpServer({"/cam.ts": camera}) as server, a_node(tmp_path_factory.mktemp("page")) as one:
        one.write(FILE.format(source=server.url("/cam.ts")), page=f'[page]\nlisten = "127.0.0.1:{port}"\n')
        one.do("up")
        one.until(lambda said: said["streams"][0]["states"].get("annotated", 0) > 25, "annotated frames")
        yield one, f"http://127.0.0.1:{port}"
        one.do("down")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as one:
        yield one


@pytest.fixture(autouse=True)
def no_child_left(node: object, chromium: Browser) -> None:
    """Node and browser see to the end of what is theirs."""


def coloured(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where a picture that was grey has colour, without the strip with its number."""
    spread = picture.max(axis=2).astype(int) - picture.min(axis=2)
    spread[int(0.85 * len(spread)) :] = 0
    return spread > 60


def assert_boxes(picture: NDArray[np.uint8]) -> None:
    """The outlines are where the model says, and nothing is between them."""
    height, width = picture.shape[:2]
    found = coloured(picture)
    for x0, y0, x1, y1 in BOXES:
        left, top, right, bottom = (round(v) for v in (x0 * width, y0 * height, x1 * width, y1 * height))
        for name, edge in {
            "left": found[top : bottom + 1, left - 2 : left + 4].any(axis=1),
            "right": found[top : bottom + 1, right - 4 : right + 3].any(axis=1),
            "bottom": found[bottom - 4 : bottom + 3, left : right + 1].any(axis=0),
        }.items():
            assert edge.mean() > 0.9, f"{name} edge of {x0, y0, x1, y1}"
        assert found[top + 8 : bottom - 8, left + 8 : right - 8].mean() < 0.05, "inside, it is the source's picture"
    assert not found[:, : int(0.3 * width)].any()
    assert not found[:, int(0.8 * width) :].any()


def test_the_picture_has_its_boxes_where_the_model_put_them(node: tuple[TestNode, str]) -> None:
    with urllib.request.urlopen(f"{node[1]}/api/streams/cam/preview.jpg", timeout=20) as answer:
        picture = simplejpeg.decode_jpeg(answer.read(), "RGB")
    assert picture.shape == (180, 320, 3)
    assert_boxes(picture)


def test_the_picture_is_a_fresh_one(node: tuple[TestNode, str], camera: Camera) -> None:
    late: list[float] = []
    with urllib.request.urlopen(f"{node[1]}/api/streams/cam/preview.mjpg", timeout=20) as answer:
        while len(late) < 30:
            length = 0
            while (line := answer.readline().strip().lower()) or not length:
                if line.startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            jpeg = answer.read(length)
            came = time.monotonic()
            late.append(came - camera.sent[number_in(simplejpeg.decode_jpeg(jpeg, "GRAY")[:, :, 0])])
            answer.readline()
    print(f"previews: median {statistics.median(late):.3f} s, at most {max(late):.3f} s")
    assert statistics.median(late) <= LATE_S, late


PIXELS = """
const canvas = document.querySelector('.card canvas');
return [canvas.width, canvas.height,
        [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]];
"""


def test_in_a_browser_it_is_seen_and_workers_and_streams_are_changed(
    node: tuple[TestNode, str], chromium: Browser
) -> None:
    one, url = node
    chromium.prefer("light")
    chromium.open(url)
    chromium.says(".card .pill", "running")
    chromium.until(lambda: chromium.all("[data-shows=now]"), "a picture")
    width, height, data = chromium.run(PIXELS)
    assert_boxes(np.array(data, np.uint8).reshape(height, width, 4)[:, :, :3])

    chromium.one("#sign").click()
    chromium.type("#token", one.folder.token.read_text().strip())
    chromium.press(Keys.ENTER)
    chromium.says("#sign", "Sign out")
    chromium.one("#scale [data-step='1']").click()
    chromium.one("#scale button.main").click()
    chromium.says("#toasts", "1 worker before, 2 workers now")
    chromium.says("#workers", "worker-2")

    chromium.one("button[aria-label='Pause cam']").click()
    chromium.says("#toasts", "paused cam")
    chromium.says(".card .pill", "paused")
    assert "producer:cam" not in one.pids()
    chromium.one("button[aria-label='Resume cam']").click()
    chromium.says(".card .pill", "running")
    chromium.until(lambda: chromium.all("[data-shows=now]"), "a picture again")

    chromium.one("#add").click()
    chromium.type("#add-source", url.replace("http", "rtsp") + "/none")
    chromium.type("#add-outputs", "more.ts")
    chromium.type("#add-name", "more")
    chromium.one("#add-dialog [type=submit]").click()
    chromium.says("#toasts", "added more")
    chromium.gone("#add-dialog")
    chromium.says("#streams", "more")
    chromium.one("button[aria-label='Remove more']").click()
    chromium.one("#remove-dialog button.danger").click()
    chromium.says("#toasts", "removed more")
    chromium.until(lambda: len(chromium.all(".card")) == 1, "one stream is left")
    assert not chromium.complaints()
    assert json.loads((one.folder.path / "state.json").read_bytes())["workers"] == 2

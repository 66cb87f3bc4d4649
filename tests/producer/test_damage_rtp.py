"""Loss on RTP: what the demuxer says of it is heard, and it is enough to know each picture that shows it."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import av
import pytest

from producer.damage_rtp import Losses
from producer.source import Source
from tests import rtsp_lossy
from tests.damaged import Judged, judged, moving_clip, rtp, score
from tests.marks import slow
from tests.producer.test_inputs_plan import plan
from tests.servers_http import Scripted

Opener = Callable[..., Source]
MISSED = (av.logging.WARNING, "rtsp", "RTP: missed 3 packets\n")
FRAMES = 75


@pytest.fixture
def losses() -> Iterator[Losses]:
    one = Losses(True)
    one.listen()
    yield one
    one.close()
    assert av.logging.get_level() is None


def test_loss_is_heard_once(losses: Losses) -> None:
    assert not losses.heard()
    for _ in range(2):
        av.logging.log(*MISSED)
        assert losses.heard()
        assert not losses.heard()
    av.logging.log(av.logging.ERROR, "rtsp", "RTP: PT=60: bad cseq 1234 expected=0001\n")
    av.logging.log(av.logging.ERROR, "h264", "error while decoding MB 3 4\n")
    assert losses.heard()


@pytest.mark.parametrize(
    "text", ["max delay reached. need to consume packet", "RTP: dropping old packet received too late"]
)
def test_what_is_late_or_twice_is_no_loss(losses: Losses, text: str) -> None:
    """What was waited for in vain has been said before."""
    av.logging.log(av.logging.WARNING, "rtsp", text)
    assert not losses.heard()


def test_other_threads_are_not_heard(losses: Losses, caplog: pytest.LogCaptureFixture) -> None:
    other = threading.Thread(target=lambda: av.logging.log(*MISSED))
    other.start()
    other.join()
    assert not losses.heard()
    assert not caplog.records, "nor is a user told"


def test_not_wanted_is_silence() -> None:
    one = Losses(False)
    one.listen()
    av.logging.log(*MISSED)
    assert not one.heard()
    assert av.logging.get_level() is None
    one.close()


def test_it_is_listened_to_while_anybody_wants_it() -> None:
    level = logging.getLogger("libav").level
    one, other, third = Losses(True), Losses(True), Losses(False)
    other.listen()
    third.close()
    one.hush()
    one.close()
    av.logging.log(*MISSED)
    assert other.heard()
    other.hush()
    other.hush()
    assert av.logging.get_level() is None
    av.logging.log(*MISSED)
    assert not other.heard()
    other.close()
    assert logging.getLogger("libav").level == level


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[bytes]]:
    """The RTP packets of a clip."""

    def of(codec: str) -> list[bytes]:
        clip = moving_clip(tmp_path_factory.mktemp("rtp") / "clip.ts", codec, FRAMES)
        with av.open(str(clip)) as container:
            return rtp([one for one in container.demux(video=0) if one.size], codec)

    return of


def received(codec: str, packets: list[bytes]) -> list[Judged]:
    """What the producer makes of what an RTSP server sends it."""
    with Scripted(rtsp_lossy.sends(codec, packets)) as server:
        return judged(server.address("rtsp://", "/cam"), mode="live", transport="udp", source_timeout=1)


@pytest.mark.parametrize("codec", [slow("h264"), "hevc"])
def test_every_picture_that_shows_loss_is_known(sent: Callable[[str], list[bytes]], codec: str) -> None:
    packets = sent(codec)
    # What is read when the stream is opened is not listened to.
    chance, opening = random.Random(2), len(packets) // 3
    left = [one for at, one in enumerate(packets) if at < opening or chance.random() > 0.03]
    with ThreadPoolExecutor(2) as both:  # at the same time: one does not hear of the other's
        whole, spoilt = both.map(lambda these: received(codec, these), (packets, left))
    assert len(whole) > FRAMES - 10
    assert not any(one.damaged for one in whole)
    found = score(whole, spoilt)
    assert found.visible > 5
    assert found.missed == 0, found
    assert found.damaged < found.pictures
    assert av.logging.get_level() is None


@pytest.mark.parametrize(("threads", "level"), [(0, av.logging.WARNING), (2, None)])
def test_where_it_is_listened_to(
    opened: Opener, sent: Callable[[str], list[bytes]], threads: int, level: int | None
) -> None:
    """Not beside a decoder with several threads, which could stand still over it."""
    with Scripted(rtsp_lossy.sends("h264", sent("h264"))) as server:
        address = server.address("rtsp://", "/cam")
        source = opened(address, mode="live", transport="udp", source_timeout=2, decode_threads=threads)
        assert av.logging.get_level() == level
        source.close()
        assert av.logging.get_level() is None


def test_what_comes_in_datagrams() -> None:
    assert plan("rtsp://h/cam", transport="udp").over_datagrams
    assert plan("rtp://h:5004").over_datagrams
    assert not plan("rtsp://h/cam").over_datagrams
    assert not plan("udp://h:5004").over_datagrams, "a transport stream's packets are counted themselves"

"""Loss on RTP: what the demuxer says of it is heard, and it is enough to know each picture that shows it."""

from __future__ import annotations

import logging
import random
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from common.media import prepare_decoder
from producer.damage import Damage
from producer.damage_h264 import FrameNumbers
from producer.damage_rtp import Losses
from tests.damaged import Judged, description, luma, moving_clip, rtp, score, ticks
from tests.servers import HOST, bound, free_port
from tests.support import wait_for

#: The receiver waits so long for a packet that is late, in seconds, and for the next one at the end.
LATE_S, END_S = 0.1, 1.0
#: Bytes that a socket holds in any case.
ROOM = 64 * 1024


@pytest.fixture
def losses() -> Iterator[Losses]:
    level = logging.getLogger("libav").level
    one = Losses(True)
    yield one
    one.close()
    Losses(False).close()
    logging.getLogger("libav").setLevel(level)
    av.logging.set_skip_repeated(True)


def test_loss_is_heard_once(losses: Losses) -> None:
    assert not losses.heard()
    for _ in range(2):
        av.logging.log(av.logging.WARNING, "rtsp", "RTP: missed 3 packets\n")
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
    text = (av.logging.WARNING, "rtsp", "RTP: missed 3 packets\n")
    other = threading.Thread(target=lambda: av.logging.log(*text))
    other.start()
    other.join()
    assert not losses.heard()
    assert not caplog.records, "nor is a user told"


def test_not_wanted_is_silence() -> None:
    one = Losses(False)
    av.logging.log(av.logging.WARNING, "rtsp", "RTP: missed 3 packets\n")
    assert not one.heard()
    assert av.logging.get_level() is None
    one.close()


def received(folder: Path, codec: str, packets: list[bytes], losses: Losses) -> list[Judged]:
    """What a receiver sees of RTP packets that are sent to it, judged."""
    port = free_port(udp=True)
    file = folder / f"{port}.sdp"
    file.write_text(description(codec, port))
    sender = threading.Thread(target=_send, args=(port, packets))
    sender.start()
    options = {"protocol_whitelist": "file,udp,rtp", "max_delay": str(int(LATE_S * 1e6)), "analyzeduration": "300000"}
    found: list[Judged] = []
    try:
        with av.open(str(file), options=options, timeout=(20, END_S)) as container:
            video = container.streams.video[0]
            decoder, damage = prepare_decoder(video, 1), Damage(codec)
            numbers = FrameNumbers(b"") if codec == "h264" else None
            losses.heard()
            try:
                for at, packet in enumerate(container.demux(video)):
                    packet.opaque = [at]
                    lost = losses.heard()
                    hole = numbers is not None and numbers.hole(bytes(packet))
                    damage.packet(at, packet.is_keyframe, lost, hole or lost)
                    for frame in decoder.decode(packet):
                        number, flagged, key = frame.opaque[0], frame.is_corrupt, bool(frame.key_frame)  # type: ignore[index]
                        corrupt = damage.picture(number, key, key, flagged, float(frame.time or 0))
                        found.append(Judged(ticks(frame), number, corrupt, flagged, key, luma(frame)))
            except av.FFmpegError:
                pass  # nothing comes any more
    finally:
        sender.join()
    return found


def _send(port: int, packets: list[bytes]) -> None:
    wait_for(lambda: bound(port), 20, "a receiver")
    with socket.socket(type=socket.SOCK_DGRAM) as one:
        for packet in packets:
            wait_for(lambda: _waiting(port) < ROOM, 20, "the receiver has taken what was sent")
            one.sendto(packet, (HOST, port))


def _waiting(port: int) -> int:
    """Bytes that a socket has received and nobody has taken."""
    found = re.search(rf":{port:04X} \S+ \S+ \w+:(\w+) ", Path("/proc/net/udp").read_text())
    return int(found[1], 16) if found else 0


@pytest.mark.parametrize("codec", [pytest.param("h264", marks=pytest.mark.slow), "hevc"])
def test_every_picture_that_shows_loss_is_known(tmp_path: Path, losses: Losses, codec: str) -> None:
    clip = moving_clip(tmp_path / "clip.ts", codec, 75)
    with av.open(str(clip)) as container:
        packets = rtp([one for one in container.demux(video=0) if one.size], codec)
    whole = received(tmp_path, codec, packets, losses)
    assert len(whole) > 65
    assert not any(one.damaged for one in whole)
    # What is read when the stream is opened is not listened to.
    chance, opening = random.Random(2), len(packets) // 4
    left = [one for at, one in enumerate(packets) if at < opening or chance.random() > 0.03]
    found = score(whole, received(tmp_path, codec, left, losses))
    assert found.visible > 5
    assert found.missed == 0, found
    assert found.damaged < found.pictures

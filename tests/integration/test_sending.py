"""Whole runs that send: what arrives is the annotated stream; an address that is dead costs nobody else anything."""

from __future__ import annotations

import os
import signal
import time
from fractions import Fraction
from pathlib import Path

import av
import pytest

from common.errors import Exit
from tests.servers import free_port
from tests.sink.sent import Seen, read, times_of
from tests.sink.test_network import Listener
from tests.support import Place, ffmpeg, ledger, numbered_clip, numbers, wait_for

FRAMES = 75
FAST = ("--model", "echo", "--preset", "ultrafast")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Numbered pictures and noise."""
    folder = tmp_path_factory.mktemp("sending")
    pictures = numbered_clip(folder / "pictures.mp4", FRAMES)
    path = folder / "clip.mp4"
    noise = ["-f", "lavfi", "-i", f"anoisesrc=r=48000:d={FRAMES / 25}:seed=1"]
    ffmpeg("-i", pictures, *noise, "-map", "0:v", "-map", "1:a", "-c:v", "copy", "-c:a", "aac", path)
    return path


def sound_times(clip: Path) -> dict[bytes, Fraction]:
    with av.open(str(clip)) as container:
        return times_of([packet for packet in container.demux(audio=0) if packet.size])


def whole(seen: Seen, clip: Path) -> bool:
    """All pictures in order, the sound beside them."""
    assert seen.numbers == list(range(FRAMES))
    assert seen.offset(sound_times(clip)) <= 0.04
    assert len(seen.sound) >= FRAMES / 25 * 48000 / 1024 * 0.9
    return True


def test_a_clip_is_sent_to_several_places_at_its_own_speed(place: Place, clip: Path) -> None:
    """All of it, from the first picture on, beside a file that is the same. One address is dead: it costs the others
    nothing, and is named at the end."""
    dead = f"rtmp://me:secret@127.0.0.1:{free_port()}/live/x"
    begun = time.monotonic()
    with Listener("rtmp") as listener:
        ran = place.run("run", clip, "-o", listener.address, "-o", dead, "-o", "a.mp4", "-o", "live/", *FAST)
        assert ran.code == Exit.OUTPUT, ran.err
    assert time.monotonic() - begun > FRAMES / 25
    assert whole(listener.seen, clip)
    assert whole(read(place.folder / "live" / "index.m3u8"), clip)
    assert numbers(place.folder / "a.mp4") == list(range(FRAMES))
    assert ledger(place.folder / "a.mp4")["states"] == {"annotated": FRAMES}
    assert ledger(place.folder / "a.mp4")["parts"] == ["a.mp4"]
    assert f"nothing could be sent to {dead.replace('me:secret', '***')}: Connection refused" in ran.err
    assert "secret" not in ran.err + ran.out


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["rtsp", "udp", "srt"])
def test_it_can_be_the_only_output(place: Place, clip: Path, kind: str) -> None:
    with Listener(kind, FRAMES - 1) as listener:
        ran = place.run("run", clip, "-o", listener.address, *FAST)
        assert ran.code == 0, ran.err
    assert listener.seen.numbers[:1] <= [2]
    assert listener.seen.numbers[-1] >= FRAMES - 3
    assert listener.seen.offset(sound_times(clip)) <= 0.04
    assert not [one for one in place.folder.iterdir() if one.suffix not in (".log",)]


@pytest.mark.slow
def test_a_sink_that_is_killed_takes_its_senders_with_it_and_the_next_one_sends_on(place: Place, clip: Path) -> None:
    with Listener("udp", 0) as listener:
        process = place.start("run", clip, "--loop", "-o", listener.address, *FAST)
        try:
            wait_for(lambda: listener.seen.pictures, 60, "pictures")
            (sink,), (sender,) = place.parts("sink"), place.parts("sink.sender")
            sink.kill()
            wait_for(lambda: not sender.is_running(), 10, "the end of the sender")
            before = len(listener.seen.pictures)
            wait_for(lambda: len(listener.seen.pictures) > before + 10, 60, "more pictures")
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=30)
            assert process.returncode in (Exit.INTERRUPTED, Exit.INCOMPLETE)
        finally:
            process.kill()
            process.communicate()
            listener.stop()


@pytest.mark.slow
def test_at_an_interrupt_leave_is_taken(place: Place, clip: Path) -> None:
    process = place.start("run", clip, "--loop", "-o", "live/", *FAST)
    playlist = place.folder / "live" / "index.m3u8"
    try:
        wait_for(playlist.exists, 60, "a playlist")
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the senders as well
        process.communicate(timeout=30)
        assert process.returncode == Exit.INTERRUPTED
    finally:
        process.kill()
        process.communicate()
    assert playlist.read_text().endswith("#EXT-X-ENDLIST\n")

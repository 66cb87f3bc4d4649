"""Network outputs against real servers: what arrives, and what a dead, slow or mute one costs: nobody else anything."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import psutil
import pytest

from common.bridge import Bridge
from common.errors import OutputError
from sink.outputs import sent_courier, sent_state
from tests.marks import slow
from tests.servers import Nginx, RtspServer, free_port
from tests.servers_http import Scripted, closes, mute
from tests.sink.sent import RATE, Seen, Sending, noise, read
from tests.support import numbers

#: Seconds for what takes a fraction of one on an idle machine.
PATIENCE = 30.0


@pytest.fixture(scope="module")
def sound() -> bytes:
    return noise(30)


class Datagrams:
    """A file of what comes in datagrams, which ends when enough was seen."""

    def __init__(self, port: int, seen: Seen) -> None:
        self._seen = seen
        self._socket = socket.socket(type=socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**21)
        self._socket.bind(("127.0.0.1", port))
        self._socket.settimeout(0.1)

    def read(self, size: int) -> bytes:
        while not self._seen.enough:
            with contextlib.suppress(TimeoutError):
                return self._socket.recv(size)
        self._socket.close()
        return b""


class Listener:
    """Takes what is sent to ``address`` in a thread, to its end; of datagrams, which have none, ``frames`` pictures.
    FFmpeg is the server."""

    def __init__(self, kind: str, frames: int = 0) -> None:
        self._bridge: Bridge | None = None
        port = free_port(udp=kind in ("udp", "srt"))
        self.address = {
            "rtmp": f"rtmp://127.0.0.1:{port}/live/x",
            "rtsp": f"rtsp://127.0.0.1:{port}/x",
            "udp": f"udp://127.0.0.1:{port}",
            "srt": f"srt://127.0.0.1:{port}?latency=50",
        }[kind]
        frames = frames if kind == "udp" else 0
        options = {
            "rtmp": {"listen": "1"},
            "rtsp": {"rtsp_flags": "listen", "listen_timeout": "30"},
        }
        source: Any = self.address
        self.seen = Seen()
        if kind == "udp":
            source = Datagrams(port, self.seen)
        if kind == "srt":
            self._bridge = Bridge.reading(self.address + "&mode=listener")
            source = f"pipe:{self._bridge.fd}"
        self._thread = threading.Thread(target=read, args=(source, options.get(kind), self.seen, frames), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Do not wait for what is missing."""
        self.seen.enough = True

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self.stop()
        if self._bridge is not None:
            self._bridge.close()
        self._thread.join(PATIENCE if kind is None else 1.0)
        assert kind is not None or not self._thread.is_alive()


def consecutive(found: list[int]) -> bool:
    return bool(found) and found == list(range(found[0], found[0] + len(found)))


def counts(sending: Sending, place: int = 0) -> dict[str, Any]:
    found = sending.rack.sent()[place]
    sending.rack.check()
    return found


def connected(sending: Sending, place: int = 0, times: int = 1) -> Callable[[], bool]:
    return lambda: counts(sending, place)["connected"] and counts(sending, place)["connections"] >= times


def senders() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process(os.getpid()).children()
        if child.status() != psutil.STATUS_ZOMBIE and child.cmdline()[1:3] == ["-m", "sink.sender"]
    ]


@pytest.mark.parametrize("kind", ["srt", slow("rtmp"), slow("rtsp"), slow("udp")])
def test_all_of_a_file_arrives_with_its_sound(kind: str, sound: bytes) -> None:
    """Nothing is lost while the connection is made, nothing at the end."""
    with (
        Listener(kind, 118) as listener,
        Sending(listener.address, mode="lossless", sounds=[sound], speed=2) as sending,
    ):
        sending.begin()
        sending.play(120 - sending.position)
        sending.close()
        assert sending.rack.error == ""
        found = counts(sending)
        assert (found["connections"], found["failures"]) == (1, 0)
        assert (found["frames"], found["dropped"]) == (120, 0)
    seen = listener.seen
    assert consecutive(seen.numbers)
    # A demuxer that has to find out what it gets gives no times to the first ones; datagrams have no end.
    assert seen.numbers[0] <= 2
    assert seen.numbers[-1] == 119 or kind == "udp"
    assert seen.offset(sending.sound_times) <= 0.04
    assert len(seen.sound) >= 120 / RATE * 48000 / 1024 * 0.9


SOUNDS = {
    "aac in ts": ("aac", "mpegts"), "mu-law": ("pcm_mulaw", "wav"), "mp3": ("libmp3lame", "matroska"),
    "ac3": ("ac3", "matroska"), "opus": ("libopus", "matroska"),
    "flac": ("flac", "matroska"), "pcm": ("pcm_s16le", "matroska"),
}  # fmt: skip


@pytest.mark.parametrize("name", ["aac in ts", *map(slow, list(SOUNDS)[1:])])
def test_every_sound_goes_everywhere(name: str, tmp_path: Path) -> None:
    """As it is or as AAC: some pairs fail in the muxer, and some end the process."""
    codec, form = SOUNDS[name]
    sounds = [noise(4, codec, 2, form)] * 2
    playlist = tmp_path / "a.m3u8"
    with Listener("rtmp") as rtmp, Listener("rtsp") as rtsp, Listener("udp", 70) as udp:
        places = [rtmp.address, rtsp.address, udp.address, playlist]
        with Sending(*places, mode="lossless", sounds=sounds, speed=2) as sending:
            sending.begin()
            sending.play(80 - sending.position)
            sending.close()
            assert sending.rack.error == ""
            for found in sending.rack.sent():
                assert (found["frames"], found["failures"], found["dropped"]) == (80, 0, 0), found
    for seen in (rtmp.seen, rtsp.seen, udp.seen, read(playlist)):
        assert consecutive(seen.numbers)
        assert len(seen.numbers) >= 70
        assert len(seen.sound) > 20
    if codec == "aac":
        assert max(one.offset(sending.sound_times) for one in (rtmp.seen, udp.seen)) <= 0.04


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["rtmp", "rtsp"])
def test_a_live_stream_begins_with_the_picture_of_the_moment(kind: str, tmp_path: Path, sound: bytes) -> None:
    """Through a server, as viewers get it. What came before the connection is left out and counted."""
    server = Nginx(tmp_path) if kind == "rtmp" else RtspServer(tmp_path)
    with server as running, Sending(_publish(running), sounds=[sound]) as sending:
        sending.until(connected(sending), PATIENCE, "a connection")
        assert counts(sending)["dropped"] > 0
        seen = Seen()
        play = running.rtmp() if isinstance(running, Nginx) else running.play()
        reader = threading.Thread(target=read, args=(play, {"rtsp_transport": "tcp"}, seen, 40), daemon=True)
        reader.start()
        sending.until(lambda: not reader.is_alive(), PATIENCE, "forty pictures")
        sending.close()
        assert counts(sending)["frames"] + counts(sending)["dropped"] == sending.position
        assert consecutive(seen.numbers)
        if kind == "rtmp":  # the test's RTSP server makes times of its own
            assert seen.offset(sending.sound_times) <= 0.04


def _publish(server: Nginx | RtspServer) -> str:
    return server.rtmp() if isinstance(server, Nginx) else server.publish()


def test_a_refusal_is_named_and_costs_nobody_else_anything(tmp_path: Path) -> None:
    dead = f"rtmp://user:secret@127.0.0.1:{free_port()}/live/x"
    with Sending(dead, tmp_path / "a.mkv", tmp_path / "b.m3u8", mode="lossless") as sending:
        begun = time.monotonic()
        found = sending.until(sending.rack.troubles, PATIENCE, "a trouble")
        shown = dead.replace("user:secret", "***")
        assert found == {shown: f"cannot send to {shown}: Connection refused; trying again"}
        sending.until(lambda: counts(sending)["failures"] >= 4, PATIENCE, "four attempts")
        assert time.monotonic() - begun > 0.4, "with pauses"
        assert len(senders()) == 2, "a sender that was refused tries again itself"
        assert not sending.rack.dead
        sending.close()
        assert sending.rack.error == f"nothing could be sent to {shown}: Connection refused"
        first, second = sending.rack.sent()
        assert (first["frames"], first["dropped"]) == (0, sending.position)
        assert (second["frames"], second["dropped"]) == (sending.position, 0)
    assert numbers(tmp_path / "a.mkv") == list(range(sending.position))
    assert sending.longest < 1.0


@pytest.mark.slow
def test_a_name_that_does_not_resolve_is_named_as_such() -> None:
    with Sending("rtsp://nowhere.invalid/x", mode="lossless") as sending:
        told = lambda: sending.rack.troubles().get("rtsp://nowhere.invalid/x", "")  # noqa: E731
        sending.until(lambda: "resolve hostname nowhere.invalid" in told(), PATIENCE, "the reason")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sent_state, "CONNECT_S", 1.5)
    monkeypatch.setattr(sent_state, "STUCK_S", 2.0)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("scheme", ["rtmp", slow("rtsp")])
def test_a_server_that_says_nothing_is_given_up_and_tried_again(scheme: str, tmp_path: Path) -> None:
    with Scripted(mute) as server:
        with Sending(server.address(f"{scheme}://", "/live/x"), tmp_path / "a.mkv") as sending:
            texts = set()

            def given_up() -> bool:
                texts.update(sending.rack.troubles().values())
                return bool(counts(sending)["failures"] >= 2)

            sending.until(given_up, PATIENCE, "two attempts")
            assert any(text.endswith("no answer yet") for text in texts)
            assert any("no answer for 2 s; trying again" in text for text in texts)
            assert len(senders()) <= 1
            sending.close()
            assert "no answer" in sending.rack.error
        assert numbers(tmp_path / "a.mkv") == list(range(sending.position))
        assert sending.longest < 1.0


def test_a_server_that_closes_at_once_is_not_tried_without_a_pause() -> None:
    with Scripted(closes) as server, Sending(server.address("rtmp://", "/live/x")) as sending:
        begun = time.monotonic()
        sending.until(lambda: counts(sending)["failures"] >= 4, PATIENCE, "four attempts")
        assert time.monotonic() - begun > 0.25 / 2 + 0.5 / 2 + 1 / 2


@pytest.mark.usefixtures("impatient")
def test_a_server_that_stops_reading_holds_nobody_back(tmp_path: Path, sound: bytes) -> None:
    """It is given up, and when it reads again, the stream goes on with the picture of the moment."""
    with Nginx(tmp_path) as frozen, Nginx(tmp_path) as well:
        places = [frozen.rtmp(), well.rtmp(), tmp_path / "a.mkv"]
        with Sending(*places, sounds=[sound], heavy=True) as sending:
            sending.until(lambda: connected(sending, 0)() and connected(sending, 1)(), PATIENCE, "two connections")
            sending.play(10)
            before = counts(sending, 1)["dropped"]
            frozen.freeze()
            texts = set()

            def given_up() -> bool:
                texts.update(sending.rack.troubles().values())
                return bool(counts(sending, 0)["failures"])

            sending.until(given_up, PATIENCE, "the end of the connection")
            assert f"{frozen.rtmp()} takes nothing; what it misses is left out" in texts
            frozen.thaw()
            sending.until(connected(sending, 0, 2), PATIENCE, "another connection")
            seen = Seen()
            reader = threading.Thread(target=read, args=(frozen.rtmp(), None, seen, 20), daemon=True)
            reader.start()
            sending.until(lambda: not reader.is_alive(), PATIENCE, "twenty pictures")
            assert consecutive(seen.numbers)
            sending.close()
        found = counts(sending, 1)
        assert (found["connections"], found["dropped"], found["gaps"]) == (1, before, 1)
        assert counts(sending, 0)["gaps"] >= 2
        assert numbers(tmp_path / "a.mkv") == list(range(sending.position))
        assert sending.longest < 1.0


def test_a_server_that_dies_and_comes_back_is_sent_to_again(tmp_path: Path, sound: bytes) -> None:
    with Nginx(tmp_path) as server, Sending(server.rtmp(), sounds=[sound]) as sending:
        sending.until(connected(sending), PATIENCE, "a connection")
        sending.play(5)
        server.kill()
        sending.until(sending.rack.troubles, PATIENCE, "a trouble")
        assert not counts(sending)["connected"]
        server.start()
        sending.until(connected(sending, times=2), PATIENCE, "another connection")
        assert not sending.rack.troubles()
        seen = Seen()
        reader = threading.Thread(target=read, args=(server.rtmp(), None, seen, 30), daemon=True)
        reader.start()
        sending.until(lambda: not reader.is_alive(), PATIENCE, "thirty pictures")
        sending.close()
    assert consecutive(seen.numbers)
    assert seen.offset(sending.sound_times) <= 0.04
    found = counts(sending)
    assert found["frames"] + found["dropped"] == sending.position
    assert found["gaps"] == 2


def test_a_sender_that_is_killed_is_replaced(sound: bytes) -> None:
    with Sending(f"udp://127.0.0.1:{free_port(udp=True)}", sounds=[sound]) as sending:
        sending.until(connected(sending), PATIENCE, "a connection")
        before = psutil.Process().num_fds(), psutil.Process().num_threads()
        senders()[0].kill()
        sending.until(lambda: counts(sending)["failures"], PATIENCE, "its end")
        assert "killed by SIGKILL" in "".join(sending.rack.troubles().values())
        sending.until(connected(sending, times=2), PATIENCE, "a connection")
        assert sending.rack.troubles() == {}
        assert (psutil.Process().num_fds(), psutil.Process().num_threads()) == before
        sending.close()
        assert sending.rack.error == ""
    assert senders() == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_connecting_again_and_again_leaks_nothing(sound: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sent_state, "MOST_S", 0.25)
    us = psutil.Process()
    with Sending(f"udp://127.0.0.1:{free_port(udp=True)}", sounds=[sound], speed=4) as sending:
        before: tuple[int, int, int] = (0, 0, 0)
        for number in range(1, 51):
            sending.until(connected(sending, times=number), PATIENCE, "a connection")
            now = us.num_fds(), us.num_threads(), us.memory_info().rss
            if number == 2:
                before = now
            senders()[0].kill()
            sending.until(lambda number=number: counts(sending)["failures"] == number, PATIENCE, "its end")
        assert now[:2] == before[:2]
        assert now[2] < before[2] * 1.05 + 4 * 2**20
        assert not [child for child in us.children() if child.status() == psutil.STATUS_ZOMBIE]


def test_at_the_end_a_stuck_one_is_waited_for_within_the_grace_only(tmp_path: Path) -> None:
    with Scripted(mute) as server, Nginx(tmp_path) as frozen:
        mute_one = server.address("rtmp://", "/live/x")
        with Sending(mute_one, frozen.rtmp(), tmp_path / "a.mkv", mode="lossless", heavy=True, speed=2) as sending:
            sending.until(connected(sending, 1), PATIENCE, "a connection")
            frozen.freeze()
            sending.play(60)
            begun = time.monotonic()
            sending.close()
            assert time.monotonic() - begun < sent_courier.GRACE_S + 4
        assert senders() == []
        assert numbers(tmp_path / "a.mkv") == list(range(sending.position))
        for place in (0, 1):
            found = counts(sending, place)
            assert found["dropped"] > 0
            assert found["frames"] + found["dropped"] == sending.position
        assert "nothing could be sent to" in sending.rack.error


def test_left_at_once_it_leaves_nothing_behind(tmp_path: Path) -> None:
    threads = threading.active_count()
    sending = Sending(f"udp://127.0.0.1:{free_port(udp=True)}", tmp_path / "b.m3u8")
    sending.until(lambda: connected(sending, 0)() and connected(sending, 1)(), PATIENCE, "two connections")
    begun = time.monotonic()
    sending.rack.abandon()
    assert time.monotonic() - begun < 2
    assert senders() == []
    assert threading.active_count() == threads


def test_without_a_picture_nothing_is_started(tmp_path: Path) -> None:
    with Sending(f"rtmp://127.0.0.1:{free_port()}/x") as sending:
        assert senders() == []
        assert sending.rack.troubles() == {}
        assert counts(sending)["failures"] == 0
        sending.close()
    assert sending.rack.error == ""


def test_it_can_be_all_there_is() -> None:
    """Then pictures are wanted, and what was handed on is all that can be relied on."""
    with Sending(f"udp://127.0.0.1:{free_port(udp=True)}") as sending:
        assert sending.rack.has_files
        assert sending.rack.durable is None
        sending.play(10)
        assert sending.rack.durable == Fraction(9, RATE)
        assert sending.rack.marks(9) == []
        assert not sending.rack.dead
        sending.rack.fail(OutputError("the encoder is gone"))
        assert sending.rack.dead
        assert sending.rack.error == "the encoder is gone"
        assert senders() == []


def test_another_encoder_is_another_connection(tmp_path: Path) -> None:
    path = tmp_path / "a.m3u8"
    with Sending(path) as sending:
        sending.until(connected(sending), PATIENCE, "a connection")
        sending.play(5)
        sending.open_encoder()
        sending.until(connected(sending, times=2), PATIENCE, "another connection")
        sending.play(5)
        sending.close()
        assert counts(sending)["failures"] == 0
    assert path.read_text().count("#EXT-X-DISCONTINUITY") == 1
    assert read(path).numbers[-1] == sending.position - 1


class Narrow:
    """A relay to a server that lets so many bytes a second through."""

    def __init__(self, port: int, rate: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)  # of its connections
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._run, args=(port, rate), daemon=True).start()

    def _run(self, port: int, rate: int) -> None:
        here, _ = self._listener.accept()
        with here, self._listener, socket.create_connection(("127.0.0.1", port)) as there:
            back = threading.Thread(target=self._carry, args=(there, here, 10**9), daemon=True)
            back.start()
            self._carry(here, there, rate)

    @staticmethod
    def _carry(source: socket.socket, target: socket.socket, rate: int) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                target.sendall(data)
                threading.Event().wait(len(data) / rate)


@pytest.mark.slow
def test_a_narrow_line_gets_what_goes_through(tmp_path: Path, sound: bytes) -> None:
    """Whole groups of pictures are left out, the others are not old, and the connection stays."""
    with Nginx(tmp_path) as server:
        relay = Narrow(server.rtmp_port, 200_000)  # it would be 600,000
        address = server.rtmp().replace(str(server.rtmp_port), str(relay.port))
        with Sending(address, tmp_path / "a.mkv", sounds=[sound], heavy=True) as sending:
            sending.until(connected(sending), PATIENCE, "a connection")
            seen = Seen()
            threading.Thread(target=read, args=(server.rtmp(), None, seen), daemon=True).start()
            texts, behind = set(), list[int]()

            def watched() -> bool:
                texts.update(sending.rack.troubles().values())
                if seen.pictures:
                    behind.append(sending.position - seen.numbers[-1])
                return len(behind) > 200

            sending.until(watched, 2 * PATIENCE, "a while")
            found = counts(sending)
            sending.close()
        assert f"{address} is too slow; pictures are left out" in texts
        assert (found["connections"], found["failures"]) == (1, 0)
        assert found["gaps"] >= 3
        assert len(seen.pictures) > 30
        assert max(behind[50:]) < 6 * RATE, "two seconds in the queue, what is on the way, and a group of pictures"
        assert numbers(tmp_path / "a.mkv") == list(range(sending.position))

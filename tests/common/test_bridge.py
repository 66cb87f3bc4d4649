"""Bridges to SRT: real connections on loopback, through both programs."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import av
import psutil
import pytest

from common.bridge import NULL_PACKET, Bridge
from common.errors import HeadraceError, OutputError, SourceError
from tests.marks import slow
from tests.support import family, make_clip, wait_for

PROGRAMS = ("ffmpeg", "srt-live-transmit")
pytestmark = pytest.mark.skipif(
    not all(shutil.which(name) for name in (*PROGRAMS, "stdbuf")), reason="needs ffmpeg and srt-tools"
)
#: A reader that listens and holds data back as shortly as is sensible here, in milliseconds.
LATENCY = 20


class Folders:
    """Folders for PATH with one program in each."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self._folder, self._patch = folder, patch
        self._real = {name: shutil.which(name) for name in (*PROGRAMS, "stdbuf")}

    def only(self, *names: str) -> Path:
        """From now on, these are all the programs that there are."""
        folder = self._folder / "-".join(("only", *names))
        folder.mkdir(exist_ok=True)
        for name in (*names, "stdbuf"):
            if not (folder / name).exists():
                (folder / name).symlink_to(str(self._real[name]))
        self._patch.setenv("PATH", str(folder))
        return folder

    def fake(self, script: str) -> None:
        """From now on, ``ffmpeg`` is this shell script, which knows SRT, and the only program."""
        folder = self._folder / "fake"
        folder.mkdir()
        (folder / "ffmpeg").write_text(f'#!/bin/sh\ncase "$*" in *-protocols*) echo srt; exit;; esac\n{script}\n')
        (folder / "ffmpeg").chmod(0o755)
        self._patch.setenv("PATH", str(folder))


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folders:
    return Folders(tmp_path, monkeypatch)


@pytest.fixture
def opened() -> Iterator[list[Bridge]]:
    """Bridges that are closed at the end, whatever happens."""
    bridges: list[Bridge] = []
    yield bridges
    for bridge in bridges:
        bridge.close()


def free_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return f"srt://127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def address() -> str:
    return free_address()


def listens(address: str) -> bool:
    """Whether somebody has bound the port of ``address``. Looked up, since trying to bind could be in the way."""
    port = f":{int(address.rpartition(':')[2]):04X} "
    return any(port in line for line in Path("/proc/net/udp").read_text().splitlines()[1:])


def readable(bridge: Bridge, seconds: float) -> bool:
    return bool(select.select([bridge.fd], [], [], seconds)[0])


def read(bridge: Bridge, size: int, seconds: float = 5) -> bytes:
    """``size`` bytes, or less where the end comes first or nothing more within ``seconds``."""
    found = b""
    while len(found) < size and readable(bridge, seconds) and (more := os.read(bridge.fd, size - len(found))):
        found += more
    return found


def pair(address: str, options: str, listener: str, opened: list[Bridge]) -> tuple[Bridge, Bridge]:
    """A reading and a writing bridge that are connected to each other; ``listener`` is the one that waits for the
    other."""
    names = ["reading", "writing"] if listener == "reading" else ["writing", "reading"]
    found = {}
    for name, mode in zip(names, ("listener", "caller"), strict=True):
        found[name] = getattr(Bridge, name)(f"{address}?mode={mode}&latency={LATENCY}{options}")
        opened.append(found[name])
        wait_for(lambda: listens(address), 5, "listening")
    assert found["writing"].wait(5), (found["writing"].why(), found["reading"].why())
    return found["reading"], found["writing"]


def drop_null(reading: Bridge, writing: Bridge) -> None:
    """Read the packet that a writing bridge over ffmpeg begins with."""
    if any("ffmpeg" in word for word in process_of(writing).cmdline()[:1]):
        assert read(reading, len(NULL_PACKET)) == NULL_PACKET


def ended(bridge: Bridge) -> bool:
    """Whether it has ended; a writing one is written to, since only then it may notice."""
    with contextlib.suppress(OSError):  # a reading one, or one that has ended
        os.set_blocking(bridge.fd, False)
        os.write(bridge.fd, NULL_PACKET)
    return not bridge.alive


def process_of(bridge: Bridge) -> psutil.Process:
    """Its program: both ends of a pair have the same address, but not the same mode."""
    base = bridge.address.partition("?")[0]
    mode = "mode=listener" if "mode=listener" in bridge.address else "mode=caller"
    commands = {one: " ".join(one.cmdline()) for one in family(os.getpid())}
    (found,) = (one for one, words in commands.items() if base in words and mode in words)
    return found


@pytest.mark.parametrize(
    ("program", "listener"),
    [
        ("ffmpeg", "reading"),
        ("srt-live-transmit", "writing"),
        slow("ffmpeg", "writing"),
        slow("srt-live-transmit", "reading"),
    ],
)
def test_bytes_come_out_as_they_went_in_and_at_once(
    program: str, listener: str, folders: Folders, address: str, opened: list[Bridge], tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "clip.ts", "-c:v", "mpeg2video", "-b:v", "500k", seconds=1, size="320x240").read_bytes()
    folders.only(program)
    reading, writing = pair(address, "", listener, opened)
    drop_null(reading, writing)
    delays = []
    for at in range(0, len(clip), 9 * 188):  # no multiple of what an SRT packet holds
        piece = clip[at : at + 9 * 188]
        begun = time.monotonic()
        os.write(writing.fd, piece)
        assert read(reading, len(piece)) == piece, (at, reading.why(), writing.why())
        delays.append(1000 * (time.monotonic() - begun))
    assert reading.connected
    assert reading.alive
    assert writing.alive
    assert not reading.why() + writing.why()
    # 1 to 10 ms are added on a quiet machine; the programs' own ways add 40 to 500.
    assert LATENCY <= statistics.median(delays) < LATENCY + 60


def test_the_two_programs_understand_each_other(folders: Folders, address: str, opened: list[Bridge]) -> None:
    """Latency is in milliseconds with both, and passphrases and stream names pass."""
    options = "&latency=300&passphrase=a-good-passphrase&streamid=#!::r=live/x,m=publish"
    for reads, writes in (PROGRAMS, PROGRAMS[::-1]):
        folders.only(reads)
        reading = Bridge.reading(f"{address}?mode=listener{options}")
        opened.append(reading)
        wait_for(lambda: listens(address), 5, "listening")
        folders.only(writes)
        writing = Bridge.writing(f"{address}?mode=caller{options}")
        opened.append(writing)
        assert writing.wait(5), writing.why()
        drop_null(reading, writing)
        begun = time.monotonic()
        os.write(writing.fd, b"\x47" * 188)
        assert read(reading, 188) == b"\x47" * 188
        assert 0.3 <= time.monotonic() - begun < 0.8
        # What was written last arrives although the bridge is closed behind it.
        os.write(writing.fd, b"\x48" * 188)
        writing.close()
        assert read(reading, 189) == b"\x48" * 188
        wait_for(lambda one=reading: not one.alive, 5, "the end of the reading bridge")  # type: ignore[misc]
        assert reading.why() == "the connection ended"
        reading.close()


def test_pyav_reads_and_writes_through_bridges(
    folders: Folders, address: str, opened: list[Bridge], tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "clip.ts", "-c:v", "mpeg2video", "-g", "5", seconds=2, size="320x240")
    reading, writing = pair(address, "", "reading", opened)

    def send() -> None:
        with av.open(str(clip)) as source, av.open(f"pipe:{writing.fd}", "w", format="mpegts") as sink:
            stream = sink.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    sink.mux(packet)
        writing.close()

    sender = threading.Thread(target=send)
    sender.start()
    try:
        with av.open(f"pipe:{reading.fd}", format="mpegts") as received:
            pictures = sum(1 for _ in received.decode(video=0))
    finally:
        sender.join()
    with av.open(str(clip)) as source:
        assert pictures == sum(1 for _ in source.decode(video=0)) == 50


@pytest.mark.parametrize("program", PROGRAMS)
def test_mute_peer(program: str, folders: Folders, address: str, opened: list[Bridge]) -> None:
    """Connected, and nothing comes: nothing is wrong, and closing takes no time."""
    folders.only("srt-live-transmit")  # it begins with no packet of its own
    opened.append(Bridge.writing(f"{address}?mode=listener"))
    wait_for(lambda: listens(address), 5, "listening")
    folders.only(program)
    reading = Bridge.reading(f"{address}?mode=caller")
    opened.append(reading)
    assert opened[0].wait(5)
    assert not readable(reading, 0.2)
    assert reading.alive
    assert reading.why() == ""
    begun = time.monotonic()
    reading.close()
    assert time.monotonic() - begun < 0.9  # before SIGKILL
    assert not reading.alive


@pytest.mark.parametrize("program", PROGRAMS)
def test_nobody_there(program: str, folders: Folders, address: str, opened: list[Bridge]) -> None:
    folders.only(program)
    reading = Bridge.reading(f"{address}?conntimeo=400")
    writing = Bridge.writing(f"{address}?conntimeo=400")
    opened += [reading, writing]
    for bridge in opened:
        assert not bridge.wait(3)
        assert not bridge.alive
        assert bridge.why() == "no answer"
    assert read(reading, 1) == b""
    with pytest.raises(BrokenPipeError):
        os.write(writing.fd, b"x")


@pytest.mark.parametrize("program", PROGRAMS)
def test_wrong_passphrase(program: str, folders: Folders, address: str, opened: list[Bridge]) -> None:
    folders.only(program)
    listening = Bridge.reading(f"{address}?mode=listener&passphrase=the-good-passphrase")
    opened.append(listening)
    wait_for(lambda: listens(address), 5, "listening")
    wrong = Bridge.writing(f"{address}?mode=caller&passphrase=the-wrong-passphrase")
    opened.append(wrong)
    assert not wrong.wait(5)
    assert wrong.why() == "wrong passphrase"
    wait_for(listening.why, 5, "the other side's word")
    assert listening.why() == "wrong passphrase"
    assert listening.alive
    # It waits on, and all is well once somebody comes who knows it.
    right = Bridge.writing(f"{address}?mode=caller&passphrase=the-good-passphrase")
    opened.append(right)
    assert right.wait(5), right.why()
    os.write(right.fd, NULL_PACKET)
    assert listening.wait(5)
    assert listening.why() == right.why() == ""
    short = Bridge.writing(f"{address}?passphrase=short")
    opened.append(short)
    assert not short.wait(5)
    assert "10 to 79 characters" in short.why()


@pytest.mark.parametrize("program", PROGRAMS)
def test_killed(program: str, folders: Folders, address: str, opened: list[Bridge]) -> None:
    folders.only(program)
    reading, writing = pair(address, "", "reading", opened)
    drop_null(reading, writing)
    os.write(writing.fd, NULL_PACKET)
    assert read(reading, 188)
    for bridge in (reading, writing):
        process_of(bridge).kill()
        wait_for(lambda one=bridge: not one.alive, 5, "its end")  # type: ignore[misc]
        assert bridge.why() in (f"{program} was killed by SIGKILL", "the connection ended")
    assert "SIGKILL" in reading.why()
    assert read(reading, 1) == b""
    with pytest.raises(BrokenPipeError):
        os.write(writing.fd, NULL_PACKET)
    for bridge in opened:
        bridge.close()
        bridge.close()
    assert "SIGKILL" in reading.why()


def test_a_peer_that_vanishes_ends_the_bridge(folders: Folders, opened: list[Bridge]) -> None:
    """SRT gives up a silent peer after 5 s; the program must not wait for another one."""
    pairs = []
    for program, frozen in ((one, side) for one in PROGRAMS for side in (0, 1)):
        folders.only(program)
        both = pair(free_address(), "", "reading", opened)
        os.write(both[1].fd, NULL_PACKET)
        assert readable(both[0], 5)
        peer = process_of(both[frozen])
        pairs.append((both[1 - frozen], peer))
    try:
        for _, peer in pairs:
            peer.suspend()
        for bridge, _ in pairs:
            wait_for(lambda one=bridge: ended(one), 12, "the end of the bridge")  # type: ignore[misc]
            assert bridge.why() == "the connection ended"
    finally:
        for _, peer in pairs:
            peer.resume()


def test_it_lives_as_long_as_the_process_not_the_thread_that_opened_it(address: str, opened: list[Bridge]) -> None:
    def open_and_end() -> None:
        opened.append(Bridge.reading(f"{address}?mode=listener"))
        wait_for(lambda: listens(address), 5, "listening")  # it is what it will be, no longer what starts it

    opener = threading.Thread(target=open_and_end)
    opener.start()
    opener.join()
    writing = Bridge.writing(f"{address}?mode=caller")
    opened.append(writing)
    assert writing.wait(5)
    os.write(writing.fd, NULL_PACKET)
    assert readable(opened[0], 5)
    # Out of the terminal's reach.
    assert os.getsid(process_of(writing).pid) != os.getsid(0)


@pytest.mark.parametrize("program", PROGRAMS)
def test_it_dies_with_its_parent(program: str, folders: Folders) -> None:
    """In every state: waiting for somebody, connected to a mute peer, with data on the way."""
    code = (
        "import sys; from common.bridge import Bridge\n"
        "b = Bridge.reading(sys.argv[1] + '?mode=listener'); c = Bridge.writing(sys.argv[2] + '?mode=listener')\n"
        "d = Bridge.reading(sys.argv[3] + '?mode=listener'); f = Bridge.reading(sys.argv[4] + '?conntimeo=60000')\n"
        "while not (e := Bridge.writing(sys.argv[3] + '?mode=caller')).wait(20): e.close()\n"
        "print('open', flush=True); sys.stdin.read()"
    )
    root = str(Path(__file__).resolve().parents[2])
    folders.only(program)
    command = [sys.executable, "-c", code, *(free_address() for _ in range(4))]
    parent = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root)
    try:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"open\n"
        children = family(parent.pid)
        assert len(children) == 5
    finally:
        parent.kill()
        parent.communicate()
    _, alive = psutil.wait_procs(children, timeout=5)
    for child in alive:
        child.kill()
    assert not alive


def test_a_program_that_talks_without_end_neither_blocks_nor_is_kept_nor_tells_secrets(
    folders: Folders, address: str, opened: list[Bridge]
) -> None:
    line = "[error] $* " + "x" * 1000
    folders.fake(
        f'i=0; while [ $i -lt 2000 ]; do echo "{line}" >&2; i=$((i+1)); done\n'
        'echo "[error] it is $*, a-secret-word" >&2; echo done; read -r _'
    )
    bridge = Bridge.reading(f"{address}?passphrase=a-secret-word")
    opened.append(bridge)
    assert read(bridge, 5) == b"done\n"
    wait_for(lambda: not bridge.alive, 5, "its end")
    assert bridge.why().startswith("it is ")
    assert len(bridge.why()) < 1000
    assert "a-secret-word" not in bridge.why()


def test_neither_program(folders: Folders, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    errors: list[tuple[type[HeadraceError], object]] = [
        (SourceError, Bridge.reading), (OutputError, Bridge.writing)
    ]  # fmt: skip
    ignorant = tmp_path / "ignorant"
    ignorant.mkdir()
    (ignorant / "ffmpeg").write_text("#!/bin/sh\necho udp srtp\n")
    (ignorant / "ffmpeg").chmod(0o755)
    for path in (tmp_path / "nothing", ignorant):
        monkeypatch.setenv("PATH", str(path))
        for error, opening in errors:
            with pytest.raises(error, match=r"SRT needs srt-live-transmit \(package srt-tools\) or an ffmpeg with SRT"):
                opening(address)  # type: ignore[operator]


@pytest.mark.parametrize("wrong", ["srt://host", "http://host:80", "-protocols", "srt://host:99 -y x", "srt:host:1"])
def test_not_an_address(wrong: str) -> None:
    with pytest.raises(SourceError, match="is not an SRT address: write srt://host:port"):
        Bridge.reading(wrong)
    with pytest.raises(OutputError, match="is not an SRT address"):
        Bridge.writing(wrong)


def test_nothing_is_left_after_twenty(folders: Folders, address: str) -> None:
    def held() -> tuple[int, int, int]:
        return len(os.listdir("/proc/self/fd")), threading.active_count(), len(family(os.getpid()))

    before, interrupt = held(), signal.getsignal(signal.SIGINT)
    for number in range(20):
        folders.only(PROGRAMS[number % 2])
        opening = Bridge.reading if number % 4 < 2 else Bridge.writing
        with opening(f"{address}?mode=listener") as bridge:
            assert bridge.alive
    assert held() == before
    folders.only("ffmpeg").joinpath("ffmpeg").unlink()
    assert signal.getsignal(signal.SIGINT) is interrupt

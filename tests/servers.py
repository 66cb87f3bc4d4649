"""Real servers on loopback, for tests: each a context manager on free ports, its log in a folder, ended by its pid.

    with RtspServer(folder) as server, Publisher(folder, clip, server.publish()) as camera:
        ...read server.play()...
        camera.kill()      # SIGKILL
        camera.start()     # and it is back; server.kill() and server.start() likewise, on the same port
        camera.freeze()    # SIGSTOP: mute, but connected; thaw() lets it go on

When ``start`` (or ``with``) returns, the server answers. ``Nginx`` takes RTMP, gives RTMP and HLS; ``SrtRelay`` joins
two SRT callers; ``Receiver`` records what is sent to an address, or can be read from it. HTTP and servers that
misbehave: :mod:`tests.servers_http`.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from tests.support import wait_for

#: Seconds that a server may take to answer, on a machine that does other things as well.
START_S = 30.0
#: Seconds that it gets to leave by itself.
STOP_S = 3.0
HOST = "127.0.0.1"
#: Debian's own: it has GStreamer's bindings.
SYSTEM_PYTHON = "/usr/bin/python3"

_count = iter(range(1_000_000))


def free_port(udp: bool = False) -> int:
    """A port of loopback that nobody uses now."""
    with socket.socket(type=socket.SOCK_DGRAM if udp else socket.SOCK_STREAM) as one:
        one.bind((HOST, 0))
        return int(one.getsockname()[1])


def answers(port: int) -> bool:
    """Whether somebody listens on the TCP port."""
    with socket.socket() as one:
        one.settimeout(1)
        return one.connect_ex((HOST, port)) == 0


def bound(port: int) -> bool:
    """Whether somebody has the UDP port of loopback, or of all addresses."""
    table = Path("/proc/net/udp").read_text() + Path("/proc/net/udp6").read_text()
    return re.search(rf":\s+[0-9A-F]+:{port:04X}\s", table) is not None


@contextlib.contextmanager
def standard_input(fd: int) -> Iterator[None]:
    """``fd`` in the place of this process's standard input, for itself and for what it starts."""
    saved = os.dup(0)
    os.dup2(fd, 0)
    try:
        yield
    finally:
        os.dup2(saved, 0)
        os.close(saved)


class Program:
    """A process of ours. ``ready``: asked until it is true; ``says``: what to call the process in failures."""

    def __init__(self, folder: Path, command: Sequence[str | Path], says: str = "", cwd: Path | None = None) -> None:
        self.command = [str(word) for word in command]
        self.says = says or Path(self.command[0]).name
        self.log = folder / f"{self.says.split()[0]}-{next(_count)}.log"
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None

    def ready(self) -> bool:
        return True

    def start(self) -> Self:
        """Start it, or start it again, and wait until it answers."""
        assert not self.alive, f"{self.says} runs already"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=self._cwd
            )
        try:
            wait_for(lambda: self.ready() or not self.alive, START_S, f"an answer of {self.says}")
            assert self.alive or self.ready(), f"{self.says} ended at once: {self.said[-2000:]}"
        except BaseException:
            self.kill()
            raise
        return self

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def said(self) -> str:
        """What it has printed since it was started."""
        return self.log.read_text(errors="replace")

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Ask it to leave; after :data:`STOP_S` seconds it is killed."""
        if self._process is None:
            return
        self.thaw()
        self._signal(number)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def freeze(self) -> None:
        """It does nothing any more, its connections stay."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def wait(self, seconds: float) -> None:
        """Until it has ended by itself."""
        assert self._process is not None
        self._process.wait(seconds)

    def _signal(self, number: int) -> None:
        if self.alive:
            assert self._process is not None
            self._process.send_signal(number)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class RtspServer(Program):
    """``files`` (name → path) are played to each reader from their start, at their own speed. What is published to
    ``publish(name)`` can be read from ``play(name)`` while somebody publishes (404 else), H.264 with or without AAC.

    ``stay``: readers stay connected, without data, when the publisher leaves; else they are told that it has ended.
    ``login``: ``user:password`` that readers of ``files`` have to give.
    """

    def __init__(
        self,
        folder: Path,
        files: Mapping[str, Path] | None = None,
        relays: Sequence[str] = ("cam",),
        stay: bool = False,
        login: str = "",
    ) -> None:
        words = [f"--file={name}={path}" for name, path in (files or {}).items()]
        words += [f"--relay={name}" for name in relays]
        words += ["--stay"] if stay else []
        words += [f"--login={login}"] if login else []
        super().__init__(folder, [SYSTEM_PYTHON, Path(__file__).with_name("rtsp_server.py"), *words], "rtsp-server")
        self._login = login
        self.port = 0

    def ready(self) -> bool:
        found = re.search(r"^port (\d+)$", self.said, re.MULTILINE)
        if found and not self.port:
            self.port = int(found[1])
            self.command.append(f"--port={self.port}")  # and the same one when it is started again
        return found is not None

    def play(self, name: str = "cam", login: str | None = None) -> str:
        """The address for readers; ``login``: another one than the right one."""
        login = self._login if login is None else login
        return f"rtsp://{login + '@' if login else ''}{HOST}:{self.port}/{name}"

    def publish(self, name: str = "cam", sound: bool = True) -> str:
        return f"rtsp://{HOST}:{self.port}/{'in' if sound else 'quiet'}/{name}"


class Nginx(Program):
    """RTMP in; RTMP and HLS (segments of a second) out. One process: its pid is all there is of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / f"nginx-{next(_count)}"
        (self.folder / "hls").mkdir(parents=True)
        (self.folder / "tmp").mkdir()
        self.rtmp_port, self.http_port = free_port(), free_port()
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = " ".join(f"{kind}_temp_path {self.folder}/tmp;" for kind in kinds)
        config = self.folder / "nginx.conf"
        config.write_text(f"""
            load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;
            daemon off; master_process off; pid {self.folder}/pid; error_log stderr notice;
            events {{ worker_connections 256; }}
            rtmp {{ server {{ listen {HOST}:{self.rtmp_port}; chunk_size 4096; application live {{
                live on; idle_streams off; hls on; hls_path {self.folder}/hls; hls_fragment 1s; hls_playlist_length 6s;
            }} }} }}
            http {{ access_log off; {temporary} server {{ listen {HOST}:{self.http_port}; location /hls {{
                types {{ application/vnd.apple.mpegurl m3u8; video/mp2t ts; }}
                root {self.folder}; add_header Cache-Control no-cache;
            }} }} }}
        """)
        super().__init__(folder, ["/usr/sbin/nginx", "-e", "stderr", "-p", self.folder, "-c", config], "nginx")

    def ready(self) -> bool:
        return answers(self.rtmp_port) and answers(self.http_port)

    def rtmp(self, name: str = "cam") -> str:
        """To publish to, and to read from."""
        return f"rtmp://{HOST}:{self.rtmp_port}/live/{name}"

    def hls(self, name: str = "cam") -> str:
        return f"http://{HOST}:{self.http_port}/hls/{name}.m3u8"

    def has_hls(self, name: str = "cam", segments: int = 3) -> bool:
        """Whether the playlist lists so many segments."""
        playlist = self.folder / "hls" / f"{name}.m3u8"
        return playlist.exists() and playlist.read_text().count("#EXTINF") >= segments


class SrtRelay(Program):
    """``srt-live-transmit`` between two callers: what is sent to ``publish()`` is given to the reader of ``play()``."""

    def __init__(self, folder: Path, passphrase: str = "") -> None:
        self.ports = free_port(udp=True), free_port(udp=True)
        self._more = f"&passphrase={passphrase}" if passphrase else ""
        ends = [f"srt://{HOST}:{port}?mode=listener&latency=50{self._more}" for port in self.ports]
        super().__init__(folder, ["srt-live-transmit", "-a", "yes", *ends])

    def ready(self) -> bool:
        return all(bound(port) for port in self.ports)

    def stop(self, number: int = signal.SIGKILL) -> None:
        super().stop(number)  # there is nothing to save, and asked it takes seconds

    def publish(self) -> str:
        return f"srt://{HOST}:{self.ports[0]}?mode=caller&latency=50000{self._more}"  # FFmpeg counts microseconds

    def play(self) -> str:
        return f"srt://{HOST}:{self.ports[1]}?mode=caller&latency=50{self._more}"


#: FFmpeg's muxer for each kind of address, and its options.
MUXERS = {
    "rtsp": ("rtsp", "-rtsp_transport", "tcp"),
    "rtmp": ("flv",),
    "srt": ("mpegts",),
    "udp": ("mpegts",),
    "rtp": ("rtp_mpegts",),
    "http": ("mpegts", "-listen", "1"),
    "tcp": ("mpegts",),
}


class Publisher(Program):
    """ffmpeg, sending ``clip`` to ``address`` at its own speed, from its start; again and again where it loops.

    ``options`` come before the output, such as ``-an`` or ``-c:v libx265``; without any the clip is copied. An SRT
    listener waits for its reader. Ready: it has sent something, or waits for the one that calls.
    """

    def __init__(self, folder: Path, clip: Path, address: str, *options: str, loop: bool = False) -> None:
        self._listens = int(found[1]) if (found := re.search(r":(\d+)\?.*mode=listener", address)) else 0
        name, *muxer = MUXERS[address.split(":")[0]]
        again = ["-stream_loop", "-1"] if loop else []
        super().__init__(
            folder,
            [
                "ffmpeg", "-v", "error", "-nostdin", "-progress", "pipe:1", "-stats_period", "0.1", "-re", *again,
                "-i", clip, *("-c", "copy"), *options, "-f", name, *muxer, address,
            ],
            "publisher",
        )  # fmt: skip

    def ready(self) -> bool:
        if self._listens:
            return bound(self._listens)
        return re.search(r"^total_size=[1-9]|^out_time_ms=[1-9]", self.said, re.MULTILINE) is not None


class Receiver(Program):
    """ffmpeg, recording ``address`` as it is into ``path``. An SRT listener waits for its sender, as udp and rtp do.

    Ready: it listens; from a server, at once.
    """

    def __init__(self, folder: Path, address: str, path: Path, *options: str) -> None:
        scheme, _, rest = address.partition("://")
        port = re.search(r":(\d+)", rest)
        datagrams = scheme in ("udp", "rtp") or "mode=listener" in rest
        self._ready: Callable[[], bool] = (lambda: bound(int(port[1]))) if port and datagrams else (lambda: True)
        probe = ["-analyzeduration", "1000000"]
        flush = ["-flush_packets", "1"]
        super().__init__(
            folder,
            ["ffmpeg", "-v", "error", "-nostdin", "-y", *probe, *options, "-i", address, *("-c", "copy"), *flush, path],
            "receiver",
        )

    def ready(self) -> bool:
        return self._ready()

    def stop(self, number: int = signal.SIGINT) -> None:
        """Close the file and leave."""
        self._signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self.alive:
                self.wait(0.2)
        super().stop(number)  # a read that waits is broken off by the second signal only

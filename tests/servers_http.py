"""HTTP servers and servers that misbehave, in threads of the test's own process, on loopback.

    with HttpServer({"/cam.ts": stream_of(clip, "mpegts"), "/a.mp4": file(clip)}) as server:
        ...read server.url("/cam.ts")...
        server.stop(); server.start()      # away, and back on the same port

    with Scripted(mute) as server: ...read server.address("rtsp://", "/cam")...

A route is called with the request's handler; a script with one accepted connection. Both run in a thread a connection.
"""

from __future__ import annotations

import base64
import contextlib
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from tests.servers import HOST

Route = Callable[["Handler"], None]
Script = Callable[["Connection"], None]
#: Seconds between two pieces of a paced file.
PACE_S = 0.04
#: The content type of FFmpeg's containers.
TYPES = {
    "mpegts": "video/mp2t",
    "mpjpeg": "multipart/x-mixed-replace;boundary=ffmpeg",
    "mp4": "video/mp4",
    "flv": "video/x-flv",
}


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: _Server

    def setup(self) -> None:
        super().setup()
        with self.server.lock:
            self.server.connections.append(self.connection)

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        route = self.server.routes.get(self.path.split("?")[0], status(404))
        with contextlib.suppress(OSError):
            route(self)
        self.close_connection = True

    def begin(self, code: int = 200, **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def feed(self, *command: str | Path) -> None:
        """What ``command`` prints, until it ends, the client leaves or the server stops."""
        process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        with self.server.lock:
            self.server.processes.append(process)
        try:
            assert process.stdout is not None
            while data := process.stdout.read1(65536):  # type: ignore[attr-defined]
                self.wfile.write(data)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()  # type: ignore[union-attr]

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int, routes: Mapping[str, Route]) -> None:
        self.routes = routes
        self.requests: list[str] = []
        self.connections: list[socket.socket] = []
        self.processes: list[subprocess.Popen[bytes]] = []
        self.lock, self.stopping = threading.Lock(), threading.Event()
        super().__init__((HOST, port), Handler)

    def handle_error(self, *_: Any) -> None:
        pass  # clients leave as they like


class HttpServer:
    """``routes``: path → what to do. They may be changed while it runs. ``requests``: the paths asked for so far."""

    def __init__(self, routes: Mapping[str, Route]) -> None:
        self.routes = dict(routes)
        self.requests: list[str] = []
        self.port = 0
        self._server: _Server | None = None

    def start(self) -> Self:
        self._server = _Server(self.port, self.routes)
        self._server.requests = self.requests
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Gone at once, with all connections."""
        server, self._server = self._server, None
        if server is None:
            return
        server.stopping.set()
        server.shutdown()
        server.server_close()
        with server.lock:
            for process in server.processes:
                process.kill()
                process.wait()
            for one in server.connections:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def url(self, path: str, login: str = "") -> str:
        return f"http://{login + '@' if login else ''}{HOST}:{self.port}{path}"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


# -- routes ----------------------------------------------------------------------------------------------------------


def stream_of(clip: Path, muxer: str, *options: str, loop: bool = True) -> Route:
    """The clip at its own speed, for each reader from its start, without a length. ``options`` as ``-c:v mjpeg``;
    without any it is copied."""
    again = ["-stream_loop", "-1"] if loop else []

    def route(handler: Handler) -> None:
        handler.begin(Content_Type=TYPES[muxer])
        codec = options or ("-c", "copy")
        handler.feed(
            "ffmpeg", "-v", "error", "-re", *again, "-i", clip, *codec, "-flush_packets", "1", "-f", muxer, "-"
        )

    return route


def file(path: Path, kind: str = "") -> Route:
    """A file with its length, by ranges where they are asked for."""

    def route(handler: Handler) -> None:
        size = path.stat().st_size
        asked = re.match(r"bytes=(\d+)-(\d*)", handler.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        end = min(int(asked[2]) + 1, size) if asked and asked[2] else size
        more = {"Content_Range": f"bytes {start}-{end - 1}/{size}"} if asked else {}
        kind_ = kind or TYPES.get(path.suffix[1:], "application/octet-stream")
        length = str(end - start)
        handler.begin(206 if asked else 200, Content_Type=kind_, Content_Length=length, Accept_Ranges="bytes", **more)
        with path.open("rb") as data:
            data.seek(start)
            shutil.copyfileobj(data, handler.wfile)

    return route


def folder(root: Path, path: str = "/") -> dict[str, Route]:
    """Routes to all files of a folder that are there now, as of an HLS stream: ``{**folder(hls, "/hls/")}``."""
    kinds = {".m3u8": "application/vnd.apple.mpegurl", ".ts": "video/mp2t"}
    return {f"{path}{one.name}": file(one, kinds.get(one.suffix, "")) for one in root.iterdir() if one.is_file()}


def status(code: int, **headers: str) -> Route:
    """Nothing but this status, such as 404."""
    return lambda handler: handler.begin(code, Content_Length="0", **headers)


def page(handler: Handler) -> None:
    """An HTML page."""
    text = b"<!DOCTYPE html><html><head><title>Camera</title></head><body>" + b"<p>Log in</p>" * 200 + b"</body></html>"
    handler.begin(Content_Type="text/html", Content_Length=str(len(text)))
    handler.wfile.write(text)


def with_login(route: Route, login: str) -> Route:
    """Let in who gives ``user:password`` (basic)."""
    wanted = "Basic " + base64.b64encode(login.encode()).decode()

    def guarded(handler: Handler) -> None:
        if handler.headers.get("Authorization") == wanted:
            route(handler)
        else:
            status(401, WWW_Authenticate='Basic realm="camera"')(handler)

    return guarded


def mute_after_headers(muxer: str = "mpegts") -> Route:
    """Headers of a stream, and then nothing."""

    def route(handler: Handler) -> None:
        handler.begin(Content_Type=TYPES[muxer])
        handler.server.stopping.wait()

    return route


def paced(path: Path, muxer: str, seconds: float, then_mute: bool = False) -> Route:
    """The bytes of a file, evenly over so many seconds (0: at once), without a length and without a process; then the
    end, or nothing more while the connection stays."""

    def route(handler: Handler) -> None:
        handler.begin(Content_Type=TYPES[muxer])
        data = path.read_bytes()
        steps = max(1, round(seconds / PACE_S))
        began = time.monotonic()
        for step in range(steps):
            handler.wfile.write(data[len(data) * step // steps : len(data) * (step + 1) // steps])
            if seconds and handler.server.stopping.wait(max(0.0, began + (step + 1) * PACE_S - time.monotonic())):
                return
        if then_mute:
            handler.server.stopping.wait()

    return route


# -- servers that misbehave ------------------------------------------------------------------------------------------


class Connection:
    """One accepted connection of a :class:`Scripted`."""

    def __init__(self, connection: socket.socket, stopping: threading.Event) -> None:
        self.socket, self.stopping = connection, stopping

    def read_head(self) -> str:
        """A request up to its empty line; "" when the client has left."""
        data = b""
        while b"\r\n\r\n" not in data:
            more = self.socket.recv(4096)
            if not more:
                return ""
            data += more
        return data.decode(errors="replace")

    def say(self, text: str) -> None:
        self.socket.sendall(text.encode())


class Scripted:
    """A TCP server that does to each connection what ``script`` does; when that returns, it is closed."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self.connections = 0  #: accepted so far
        self._listener = socket.create_server((HOST, 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def address(self, scheme: str, path: str = "/", login: str = "") -> str:
        return f"{scheme}{login + '@' if login else ''}{HOST}:{self.port}{path}"

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.append(connection)
                self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            self._script(Connection(connection, self._stopping))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        with self._lock:
            for one in [self._listener, *self._open]:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        self._thread.join()


def mute(connection: Connection) -> None:
    """Accepts, and says nothing."""
    connection.stopping.wait()


def closes(connection: Connection) -> None:
    """Accepts and closes."""


def closes_in_header(connection: Connection) -> None:
    """Breaks off within the answer's header."""
    connection.read_head()
    connection.say("HTTP/1.1 200 OK\r\nContent-Ty")


def garbage(connection: Connection) -> None:
    """Answers what is no protocol."""
    connection.socket.recv(4096)
    connection.socket.sendall(bytes(range(256)) * 64)


SDP = """v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=cam\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\na=control:*\r
m=video 0 RTP/AVP 96\r\na=rtpmap:96 {codec}/90000\r\na=fmtp:96 {fmtp}\r\na=control:v\r\n"""
#: The parameter sets of a 320 × 240 H.264 picture.
H264 = "packetization-mode=1;sprop-parameter-sets=Z0LAFtkBQGh4wJAAAAMAEAAAAwMo8WLkgA==,aMuMsg=="


def rtsp(codec: str = "H264", fmtp: str = H264, mute_after: str = "PLAY") -> Script:
    """An RTSP server that agrees to everything and never sends a packet. ``mute_after``: the method after whose answer
    it says nothing more (OPTIONS, DESCRIBE, SETUP, PLAY)."""

    def script(connection: Connection) -> None:
        while head := connection.read_head():
            method = head.split()[0]
            number = re.search(r"(?i)cseq:\s*(\d+)", head)
            answer = f"RTSP/1.0 200 OK\r\nCSeq: {number[1] if number else 0}\r\nSession: 1;timeout=60\r\n"
            body = SDP.format(codec=codec, fmtp=fmtp) if method == "DESCRIBE" else ""
            if method == "SETUP":
                answer += "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
            if body:
                answer += f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
            connection.say(f"{answer}\r\n{body}")
            if method == mute_after:
                connection.stopping.wait()

    return script

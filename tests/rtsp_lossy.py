"""An RTSP server over UDP that sends just the RTP packets that it is given, each once there is room for it: what a
receiver misses is what a test has left out."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from pathlib import Path

from tests.damaged import description
from tests.servers import HOST
from tests.servers_http import Connection, Script
from tests.support import wait_for

#: Bytes that a socket holds in any case.
ROOM = 64 * 1024


def sends(codec: str, packets: Sequence[bytes]) -> Script:
    """To whoever plays it: all ``packets``; then it says nothing more."""

    def script(connection: Connection) -> None:
        port = 0
        with socket.socket(type=socket.SOCK_DGRAM) as one:
            one.bind((HOST, 0))
            while head := connection.read_head():
                method, number = head.split()[0], re.search(r"(?i)cseq:\s*(\d+)", head)
                answer = f"RTSP/1.0 200 OK\r\nCSeq: {number[1] if number else 0}\r\nSession: 1;timeout=60\r\n"
                body = description(codec, 0) + "a=control:v\n" if method == "DESCRIBE" else ""
                if method == "SETUP" and (ports := re.search(r"client_port=(\d+)-\d+", head)):
                    port, own = int(ports[1]), one.getsockname()[1]
                    answer += (
                        f"Transport: RTP/AVP;unicast;client_port={port}-{port + 1};server_port={own}-{own + 1}\r\n"
                    )
                if body:
                    answer += f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
                connection.say(f"{answer}\r\n{body}")
                if method == "PLAY":
                    send(one, port, packets)

    return script


def send(one: socket.socket, port: int, packets: Sequence[bytes]) -> None:
    for packet in packets:
        wait_for(lambda: waiting(port) < ROOM, 20, "the receiver has taken what was sent")
        one.sendto(packet, (HOST, port))


def waiting(port: int) -> int:
    """Bytes that a UDP socket has received and nobody has taken."""
    found = re.search(rf":{port:04X} \S+ \S+ \w+:(\w+) ", Path("/proc/net/udp").read_text())
    return int(found[1], 16) if found else 0

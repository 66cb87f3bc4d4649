"""The programs that speak SRT: which is there, how it is told an address, what its words mean. Starts none of them,
but for one question to ``ffmpeg``.

``ffmpeg`` is preferred: it hands bytes on as they come, and where the network is slow it makes us wait, so that what is
dropped is dropped, and counted, by us.
"""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from common.errors import HeadraceError
from common.log import mask

#: SRT's own latency, in seconds: for so long it holds data back, so that lost packets can come again.
LATENCY_S = 0.12
#: Bytes of TS that fill an SRT packet, and the most that a packet of others can hold.
TS_PAYLOAD, MAX_PAYLOAD = 7 * 188, 1456

_ADDRESS = re.compile(r"srt://[^?\s]*:\d{1,5}/?(?:\?\S*)?")
#: What begins a line without saying anything: ``[srt @ 0x5566] [error] ``, ``09:16:37.91/SRT:RcvQ:w1!W:SRT.cn: ``.
_PREFIX = re.compile(r"^(?:\[[^\]]*\] )+|^[\d:.]+/SRT:\S+: +|^ERROR: (?:error: )?")
#: Words of the programs, and ours for them.
_TELLING = (
    (re.compile("BADSECRET|[Ii]ncorrect passphrase"), "wrong passphrase"),
    (re.compile("SRTO_PASSPHRASE|ConfigurePre"), "an option is refused (a passphrase has 10 to 79 characters)"),
    (re.compile("unable to create/configure SRT socket|Cannot assign"), "this address and port cannot be listened on"),
    (re.compile("srt_connect: .*Bad parameters"), "the host's name is not known"),
    (re.compile("Connection to .* failed"), "no answer"),
)


@dataclass(frozen=True, slots=True)
class Program:
    """A program that carries bytes between SRT and its standard input or output, and ends when the connection does."""

    name: str
    command: Callable[[str, bool], list[str]]  #: from the address and whether it writes there
    connected: re.Pattern[str]  #: the line that says so
    chatter: re.Pattern[str]  #: lines that complain of nothing
    greedy: bool  #: it wants to see data before it connects


def _ffmpeg(address: str, writes: bool) -> list[str]:
    # "data": bytes as they come. Input is read in what SRT packets hold, so that TS packets are not cut in two.
    size = TS_PAYLOAD if writes else MAX_PAYLOAD
    srt = for_ffmpeg(address, size)
    return [
        "ffmpeg", "-hide_banner", "-nostdin", "-nostats", "-loglevel", "level+info",
        "-fflags", "nobuffer", "-f", "data", "-raw_packet_size", str(size), "-i", "pipe:0" if writes else srt,
        "-map", "0:0", "-c", "copy", "-f", "data", "-flush_packets", "1", srt if writes else "pipe:1",
    ]  # fmt: skip


def for_ffmpeg(address: str, size: int) -> str:
    """``address`` as ffmpeg wants it: its own names of options, microseconds for milliseconds; packets of ``size``."""
    names = {"conntimeo": "connect_timeout", "payloadsize": "payload_size", "tsbpdmode": "tsbpd", "fc": "ffs"}
    found = {names.get(name, name): value for name, value in options(address)}
    for name in ("latency", "rcvlatency", "peerlatency", "snddropdelay"):
        if found.get(name, "").isdigit():
            found[name] += "000"
    mode = found.get("mode", "default")
    if mode == "default":
        mode = "listener" if address.startswith("srt://:") else "caller"
    found["mode"] = {"client": "caller", "server": "listener"}.get(mode, mode)
    found.setdefault("payload_size", str(size))
    return address.partition("?")[0] + "?" + "&".join(f"{name}={value}" for name, value in found.items())


def _transmit(address: str, writes: bool) -> list[str]:
    # Without stdbuf, 4 kB wait in the C library. It reads whole chunks only: one TS packet at a time.
    chunk = 188 if writes else MAX_PAYLOAD
    ends = ["file://con", address] if writes else [address, "file://con"]
    return ["stdbuf", "-i0", "-o0", "srt-live-transmit", "-a:no", "-buffering:1", f"-chunk:{chunk}", *ends]


FFMPEG = Program(
    "ffmpeg",
    _ffmpeg,
    re.compile(r"^\[info\] (?:Input #0, data, from|Output #0, data, to) 'srt:"),
    re.compile(r"^(?:\[[^\]]*@[^\]]*\] )?\[(?:info|verbose|debug)\]"),
    greedy=True,
)
TRANSMIT = Program(
    "srt-live-transmit",
    _transmit,
    re.compile("^(?:Accepted )?SRT (?:source|target) connect"),
    re.compile("^Media path|^SRT (?:source|target) disconnected"),
    greedy=False,
)


def choose(address: str, error: type[HeadraceError]) -> Program:
    """The program to use; raises ``error`` where none is installed or ``address`` is not one of SRT."""
    if not _ADDRESS.fullmatch(address):
        raise error(f"{mask(address)} is not an SRT address: write srt://host:port, and options as ?latency=80")
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg and _knows_srt(ffmpeg):
        return FFMPEG
    if shutil.which("srt-live-transmit") and shutil.which("stdbuf"):
        return TRANSMIT
    raise error("SRT needs srt-live-transmit (package srt-tools) or an ffmpeg with SRT: install one")


def _knows_srt(ffmpeg: str) -> bool:
    try:
        return b"srt" in _protocols(ffmpeg)
    except (OSError, subprocess.SubprocessError):
        return False


@functools.cache  # of answers; one that did not come, on a machine that is busy, is asked for again
def _protocols(ffmpeg: str) -> list[bytes]:
    """Raises OSError, SubprocessError."""
    asked = [ffmpeg, "-hide_banner", "-protocols"]
    return subprocess.run(asked, stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=True).stdout.split()


def options(address: str) -> list[tuple[str, str]]:
    """The options in an address, as they stand there."""
    pairs = (pair.partition("=") for pair in address.partition("?")[2].split("&") if pair)
    return [(name, value) for name, _, value in pairs]


def latency(address: str) -> float:
    """For how long what was sent may be held back, in seconds."""
    asked = [int(value) / 1000 for name, value in options(address) if name.endswith("latency") and value.isdigit()]
    return max(asked, default=LATENCY_S)


def plain(line: str) -> str:
    """A complaint without what stands before its words."""
    return _PREFIX.sub("", line)


def tell(complaints: list[str]) -> str:
    """What these complaints of a program come to, in a few words; "" where there are none."""
    for telling, words in _TELLING:
        if any(telling.search(line) for line in complaints):
            return words
    # With the address and a general error, ffmpeg sums up what it has said before.
    return next((line for line in reversed(complaints) if not line.startswith("srt://")), "".join(complaints[-1:]))

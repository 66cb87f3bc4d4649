"""Damaged streams, made out of whole ones: transport packets that were lost, a start in the middle, packets that were
cut short or left out, RTP with loss. And what of it can be seen."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from producer.decoding import Decoding
from producer.source import Demuxed, Source
from tests.feeds import settings
from tests.support import ffmpeg

#: Bytes of a transport stream's packet; seven of them are a datagram.
TS_BYTES, DATAGRAM = 188, 7
#: The streams' beginning stays whole: tracks are found there.
WHOLE = 0.1
#: Luma of two pictures that look alike differs by no more than this, on the mean over a block of 16 × 16.
VISIBLE = 10.0
#: A keyframe a second, with B-frames before it that refer to the second before, where the codec can do so.
CODECS = {
    "h264": ("-c:v", "libx264", "-preset", "veryfast", "-x264-params", "keyint=25:open-gop=1:scenecut=0:bframes=2"),
    "hevc": ("-c:v", "libx265", "-preset", "ultrafast", "-crf", "20", "-x265-params", "keyint=25:log-level=none"),
    "mpeg2": ("-c:v", "mpeg2video", "-g", "25", "-bf", "2", "-q:v", "6"),
}
#: What becomes of the payload of a packet; None: it is left out.
Change = Callable[[int, bytes], bytes | None]


def moving_clip(path: Path, codec: str, frames: int) -> Path:
    """320 × 180 pixels, 25 a second, everything in motion; a picture takes some transport packets."""
    picture = f"testsrc2=s=320x180:r=25,noise=alls=8:allf=t,trim=end_frame={frames}"
    ffmpeg("-f", "lavfi", "-i", picture, "-pix_fmt", "yuv420p", *CODECS[codec], path)
    return path


def lose(data: bytes, share: float, seed: int, burst: int = 1) -> bytes:
    """A transport stream without a share of its packets, ``burst`` in a row."""
    chance, packets = random.Random(seed), [data[at : at + TS_BYTES] for at in range(0, len(data), TS_BYTES)]
    left, at = [], 0
    while at < len(packets):
        if at > len(packets) * WHOLE and chance.random() < share / burst:
            at += burst
            continue
        left.append(packets[at])
        at += 1
    return b"".join(left)


def join_late(data: bytes, share: float) -> bytes:
    """A transport stream from the middle on."""
    return data[int(len(data) * share) // TS_BYTES * TS_BYTES :]


def remake(source: Path, target: Path, change: Change) -> Path:
    """The video of ``source`` with other payloads; the ending of ``target`` chooses the container."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        video = old.streams.video[0]
        track = new.add_stream_from_template(video)
        for number, packet in enumerate(one for one in old.demux(video) if one.size):
            payload = change(number, bytes(packet))
            if payload is not None:
                other = av.Packet(payload)
                other.pts, other.dts, other.time_base = packet.pts, packet.dts, packet.time_base
                other.is_keyframe, other.stream = packet.is_keyframe, track
                new.mux(other)
    return target


def cut_short(share: float, seed: int) -> Change:
    """That share of the packets ends too early."""
    chance = random.Random(seed)

    def change(number: int, payload: bytes) -> bytes:
        hit = chance.random() < share and number > 10
        return payload[: chance.randrange(len(payload) // 4, len(payload))] if hit else payload

    return change


def left_out(share: float, seed: int) -> Change:
    """That share of the packets is missing."""
    chance = random.Random(seed)
    return lambda number, payload: None if chance.random() < share and number > 10 else payload


@dataclass(frozen=True, slots=True)
class Judged:
    """A picture of the producer's decoder. ``tick``: its time in 25ths of a second; ``number``: that of its packet;
    ``luma``: H × W."""

    tick: int
    number: int
    damaged: bool
    flagged: bool
    key: bool
    luma: NDArray[np.uint8]


def judged(address: Path | str, **fields: Any) -> list[Judged]:
    """All pictures of a source as the producer judges them, with ``fields`` of its stream."""
    stream = settings(Path("x.mp4"), source=str(address), **fields)
    source = Source(stream)
    try:
        decoding, found = Decoding(stream, source), []
        source.start()
        for one in _taken(source):
            kept = decoding.take(one)
            for picture in decoding.pictures(kept, False, 0.0) if kept is not None and not kept.track else ():
                frame, number = picture.frame, picture.kept.number if picture.kept is not None else -1
                tick, key = ticks(frame), bool(frame.key_frame)
                found.append(Judged(tick, number, picture.known.damaged, frame.is_corrupt, key, luma(frame)))
            decoding.check()
        return found
    finally:
        source.close()


def _taken(source: Source) -> Iterator[Demuxed]:
    while not source.drained:
        if (one := source.take()) is not None:
            yield one
        else:
            time.sleep(0.001)


def ticks(frame: av.VideoFrame) -> int:
    """A picture's time in 25ths of a second, -1 where it has none."""
    return -1 if frame.pts is None else round(frame.pts * Fraction(frame.time_base or 1) * 25)


def luma(frame: av.VideoFrame) -> NDArray[np.uint8]:
    plane = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)  # type: ignore[call-overload]
    return rows[: frame.height, : frame.width].copy()


def differs(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    """Whether it can be seen that two pictures are not the same."""
    if one.shape != other.shape:
        return True
    height, width = (side // 16 * 16 for side in one.shape)
    change = np.abs(one[:height, :width].astype(np.int16) - other[:height, :width])
    return bool(change.reshape(height // 16, 16, width // 16, 16).mean((1, 3)).max() > VISIBLE)


@dataclass(frozen=True, slots=True)
class Score:
    """How many pictures there are, differ visibly from the whole stream's, are called damaged, and are not though they
    differ."""

    pictures: int
    visible: int
    damaged: int
    missed: int

    @property
    def missed_share(self) -> float:
        """Of the pictures that are called good."""
        return self.missed / max(1, self.pictures - self.damaged)


def score(whole: list[Judged], spoilt: list[Judged], same_start: bool = False) -> Score:
    """Pictures whose time the whole stream does not have are not counted. ``same_start``: it is in another container,
    whose clock begins elsewhere, with the same picture."""
    ahead = spoilt[0].tick - whole[0].tick if same_start else 0
    known = {one.tick + ahead: one.luma for one in whole}
    pairs = [(one.damaged, differs(known[one.tick], one.luma)) for one in spoilt if one.tick in known]
    return Score(
        len(pairs),
        sum(visible for _, visible in pairs),
        sum(damaged for damaged, _ in pairs),
        sum(visible and not damaged for damaged, visible in pairs),
    )


#: Bytes of a slice's piece on RTP.
PIECE = 1200


def rtp(packets: Iterable[av.Packet], codec: str) -> list[bytes]:
    """The RTP packets of an Annex B stream (RFC 6184, RFC 7798), each NAL unit in packets of its own."""
    found: list[bytes] = []
    for packet in packets:
        stamp = round((packet.pts or 0) * Fraction(packet.time_base or 1) * 90_000)
        units = [unit.rstrip(b"\0") for unit in bytes(packet).split(b"\0\0\1")[1:]]
        pieces = [piece for unit in units for piece in _pieces(unit, codec)]
        for number, piece in enumerate(pieces):
            marker = 0x80 if number == len(pieces) - 1 else 0
            head = bytes([0x80, marker | 96]) + (len(found) & 0xFFFF).to_bytes(2, "big")
            found.append(head + (stamp & 0xFFFFFFFF).to_bytes(4, "big") + b"test" + piece)
    return found


def _pieces(unit: bytes, codec: str) -> Iterator[bytes]:
    if len(unit) <= PIECE:
        yield unit
        return
    if codec == "h264":
        kind, head, body = unit[0] & 31, bytes([unit[0] & 0xE0 | 28]), unit[1:]
    else:
        kind, head, body = unit[0] >> 1 & 63, bytes([unit[0] & 0x81 | 49 << 1, unit[1]]), unit[2:]
    for at in range(0, len(body), PIECE):
        first, last = 0x80 * (at == 0), 0x40 * (at + PIECE >= len(body))
        yield head + bytes([first | last | kind]) + body[at : at + PIECE]


def description(codec: str, port: int) -> str:
    """Where a receiver finds such a stream (SDP)."""
    name, mode = ("H264", "a=fmtp:96 packetization-mode=1\n") if codec == "h264" else ("H265", "")
    return (
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\n"
        f"m=video {port} RTP/AVP 96\na=rtpmap:96 {name}/90000\n{mode}"
    )

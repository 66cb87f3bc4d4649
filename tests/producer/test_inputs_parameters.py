"""Parameters of a decoder that change in mid-stream: a live source is opened again, a file's go with its packets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import groupby
from pathlib import Path

import av
import numpy as np
import pytest
from av.packet import PacketSideData

from common import messages as m
from common.media import prepare_decoder, to_packet, unpack
from producer.inputs.parameters import SIDE, Parameters
from producer.source import Source
from tests.damaged import luma
from tests.feeds import Recorded, record
from tests.producer.test_inputs_faults import SLACK_S, lost
from tests.servers_http import Handler, HttpServer
from tests.support import make_clip

Opener = Callable[..., Source]
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "10", "-bf", "2")
HEVC = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "keyint=10:log-level=none", "-tag:v", "hvc1")
ONE, OTHER = "128x96", "96x64"
#: Pictures of a clip, and from which one on nothing refers to its beginning.
FRAMES, LATER = 30, 20


def beside(extradata: bytes) -> PacketSideData:
    """New parameters, as FFmpeg's demuxers hand them over."""
    side = PacketSideData(1, len(extradata))
    side.update(extradata)
    assert side.data_type == SIDE
    return side


def joined(target: Path, *clips: Path) -> Path:
    """Clips of one track behind each other on one track of ``target``, each with parameters of its own."""
    with av.open(str(target), "w") as new:
        track, at = None, 0
        for clip in clips:
            with av.open(str(clip)) as old:
                (video,) = old.streams
                if track is None:
                    track = new.add_stream_from_template(video)
                news, end = beside(video.codec_context.extradata or b""), at
                for packet in old.demux(video):
                    if packet.size:
                        assert packet.pts is not None
                        assert packet.dts is not None
                        if news and at:
                            packet.set_sidedata(news)
                        news = None  # type: ignore[assignment]
                        end = max(end, at + packet.pts + (packet.duration or 0))
                        packet.pts, packet.dts, packet.stream = packet.pts + at, packet.dts + at, track
                        new.mux(packet)
                at = end
    return target


def sizes(frames: list[av.VideoFrame]) -> list[tuple[tuple[int, int], int]]:
    return [(size, len(list(group))) for size, group in groupby((one.width, one.height) for one in frames)]


def at_the_sink(found: Recorded, first: int = 0) -> list[av.VideoFrame]:
    """The pictures that the sink's decoder makes of the packets from number ``first`` on."""
    track = unpack(found.hello.tracks, found.blobs)[0]
    decoder = prepare_decoder(track, 1)  # type: ignore[arg-type]
    packets = [(one, payload) for one, payload in found.messages if isinstance(one, m.Packet) and not one.track]
    return [frame for one in packets[first:] for frame in decoder.decode(to_packet(*one) if one[1] else None)]


def decoded(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def equal(one: list[av.VideoFrame], other: list[av.VideoFrame]) -> bool:
    return len(one) == len(other) and all(np.array_equal(luma(a), luma(b)) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(("codec", "ending"), [(H264, "mp4"), (H264, "flv"), (HEVC, "mp4")])
def test_a_file_that_was_cut_together(tmp_path: Path, codec: tuple[str, ...], ending: str) -> None:
    clips = [
        make_clip(tmp_path / f"{size}.{ending}", *codec, seconds=FRAMES / 25, size=size) for size in (ONE, OTHER, ONE)
    ]
    whole = joined(tmp_path / f"whole.{ending}", *clips)
    expected = [frame for clip in clips for frame in decoded(clip)]
    assert sizes(expected) == [((128, 96), FRAMES), ((96, 64), FRAMES), ((128, 96), FRAMES)]
    found = record(whole)
    shown = at_the_sink(found)
    assert equal(shown, expected)
    # A sink that was restarted begins at a keyframe, with the parameters of the file's beginning.
    keys = [at for at, one in enumerate(_packets(found)) if one.key]
    start = next(at for at in keys if at >= FRAMES + LATER - 5)
    later = at_the_sink(found, start)
    assert equal(later[-FRAMES - 5 :], expected[-FRAMES - 5 :])


def _packets(found: Recorded) -> list[m.Packet]:
    return [one for one, _ in found.messages if isinstance(one, m.Packet) and not one.track]


def test_a_file_whose_sound_changes_is_not_heard_wrongly(opened: Opener, tmp_path: Path) -> None:
    clip, other = (
        make_clip(tmp_path / f"{rate}.mp4", *H264, seconds=1, size=OTHER, sound=f"-c:a aac -ar {rate}")
        for rate in ("48000", "32000")
    )
    with av.open(str(other)) as container:
        news = beside(container.streams.audio[0].codec_context.extradata or b"")
    whole = tmp_path / "whole.mp4"
    with av.open(str(clip)) as old, av.open(str(whole), "w") as new:
        tracks = [new.add_stream_from_template(one) for one in old.streams]  # type: ignore[type-var]
        for packet in (one for one in old.demux() if one.size):
            if packet.stream.type == "audio" and (packet.pts or 0) >= 24_000:
                packet.set_sidedata(news)
            packet.stream = tracks[packet.stream.index]
            new.mux(packet)
    lost(opened(whole), "changes the parameters of its sound (aac)", SLACK_S)


def tags(flv: bytes) -> Iterator[bytes]:
    at = 13
    while at < len(flv):
        size = int.from_bytes(flv[at + 1 : at + 4], "big")
        yield flv[at : at + size + 15]
        at += size + 15


def relay(flv: bytes) -> Callable[[Handler], None]:
    """A relay that keeps its readers when its publisher leaves: the sequence header comes again, before each keyframe
    as well as where another publisher begins."""
    header: list[bytes] = []
    data = [flv[:13]]
    for tag in tags(flv):
        if tag[0] == 9 and tag[12] == 0:
            header = [tag]
        elif tag[0] == 9 and tag[11] >> 4 == 1:
            data += header
        data.append(tag)

    def route(handler: Handler) -> None:
        handler.begin(Content_Type="video/x-flv")
        handler.wfile.write(b"".join(data))
        handler.server.stopping.wait()

    return route


@pytest.mark.parametrize(("second", "said"), [(ONE, "is mute"), (OTHER, "has begun anew: its picture (h264) has")])
def test_a_relay_with_another_publisher(opened: Opener, tmp_path: Path, second: str, said: str) -> None:
    clips = [make_clip(tmp_path / f"{size}.flv", *H264, seconds=FRAMES / 25, size=size) for size in (ONE, second)]
    flv = joined(tmp_path / "whole.flv", *clips).read_bytes()
    with HttpServer({"/cam.flv": relay(flv)}) as server:
        source = opened(server.url("/cam.flv"), mode="live", source_timeout=1)
        lost(source, said, 1 + SLACK_S)
        assert source.pictures == FRAMES * (2 if second == ONE else 1)


def test_what_is_no_change() -> None:
    known = Parameters("aac", b"\x11\x90")
    packet = av.Packet(b"x")
    assert known.carried(packet, True) is packet
    for again in (b"\x11\x90", b"\x11\x90\x56\xe5\x00"):
        packet.set_sidedata(beside(again))
        assert known.carried(packet, True) is packet
    packet.set_sidedata(beside(b"\x12\x10"))
    assert known.carried(packet, True) is None
    assert known.carried(packet, True) is packet, "it is told once"
    packet.set_sidedata(beside(b"\x81\x00"))
    av1 = Parameters("av1", b"\x81\x00\x0c\x00")
    assert av1.carried(packet, True) is packet, "its keyframes have all that is needed"


@pytest.mark.parametrize(
    ("codec", "first", "now"),
    [
        ("h264", b"\1\x64\0\x1f\xff\xe0\0", b"\1\x64\0\x1f\xfd\xe0\0"),  # lengths of four bytes, and of two
        ("h264", b"\1\x64\0\x1f\xff\xe0\0", b"\0\0\0\1\x67\x64\0\x1f"),
        ("h264", b"\1\x64\0\x1f\xff\xe0\0", b"\1\x64"),
        ("h264", b"", b"\1\x64\0\x1f\xff\xe0\0"),
        ("mpeg4", b"\0\0\1\xb0\1", b"\0\0\1\xb0\2"),
    ],
)
def test_what_cannot_be_put_in_front(codec: str, first: bytes, now: bytes) -> None:
    packet = av.Packet(b"x")
    packet.set_sidedata(beside(now))
    assert Parameters(codec, first).carried(packet, False) is None


def test_what_is_put_in_front_of_keyframes() -> None:
    known = Parameters("h264", b"\0\0\1\x67\1")
    packet = av.Packet(b"\0\0\1\x65")
    packet.pts, packet.is_corrupt, packet.time_base = 7, True, Fraction(1, 25)
    packet.set_sidedata(beside(b"\0\0\1\x67\2"))
    found = known.carried(packet, False)
    assert found is not None
    assert (bytes(found), found.pts, found.dts) == (b"\0\0\1\x67\2\0\0\1\x65", 7, None)
    assert (found.is_corrupt, found.is_keyframe, found.has_sidedata(SIDE)) == (True, False, False)
    packet = av.Packet(b"\0\0\1\x61")
    assert known.carried(packet, False) is packet
    packet.is_keyframe, packet.time_base = True, Fraction(1, 25)
    found = known.carried(packet, False)
    assert found is not None
    assert bytes(found) == b"\0\0\1\x67\2\0\0\1\x61"

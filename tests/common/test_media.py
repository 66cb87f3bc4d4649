"""Two decoders, one truth: what the carrier brings over decodes exactly as the source does, damaged or not."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import pytest
from av.video.codeccontext import VideoCodecContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common import media
from common import messages as m
from common.errors import PeerError
from tests.support import ffmpeg

#: Codec → container and options of ffmpeg. One second each, with frames that refer backwards and forwards where it can.
VIDEO = {
    "h264": "mp4 -c:v libx264 -bf 2 -g 10",
    "h264-ts": "ts -c:v libx264 -bf 2 -g 10",
    "h264-422-10": "mkv -c:v libx264 -pix_fmt yuv422p10le",
    "hevc": "mp4 -c:v libx265 -x265-params log-level=none:keyint=10",
    "mpeg2": "mpg -c:v mpeg2video -bf 2 -g 10",
    "mpeg2-ts": "ts -c:v mpeg2video -bf 2",
    "vp9": "webm -c:v libvpx-vp9 -deadline realtime -cpu-used 8",
    "vp8": "webm -c:v libvpx -deadline realtime -auto-alt-ref 1 -lag-in-frames 5",
    "av1": "mp4 -c:v libsvtav1 -preset 13 -svtav1-params log=0",
    "mjpeg": "avi -c:v mjpeg -q:v 5",
    "mpeg4": "mp4 -c:v mpeg4 -bf 2",
    "mpeg4-avi": "avi -c:v mpeg4 -bf 2 -vtag xvid",
    "prores": "mov -c:v prores_ks",
    "ffv1": "mkv -c:v ffv1 -level 3",
}
SOUND = {
    "aac": "mp4 -c:a aac",
    "aac-ts": "ts -c:a aac",
    "mp3": "mp4 -c:a libmp3lame",
    "ac3": "ts -c:a ac3",
    "eac3": "mp4 -c:a eac3",
    "opus": "webm -c:a libopus",
    "vorbis": "webm -c:a libvorbis",
    "flac": "mkv -c:a flac",
    "alac": "mp4 -c:a alac",
    "pcm_s16le": "avi -c:a pcm_s16le",
    "pcm_s24be": "mov -c:a pcm_s24be",
    "pcm_mulaw": "avi -c:a pcm_mulaw",
    "mp2": "ts -c:a mp2",
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clips")


def clip(folder: Path, name: str) -> Path:
    kind, _, options = {**VIDEO, **SOUND}[name].partition(" ")
    path = folder / f"{name}.{kind}"
    if not path.exists():
        source = "testsrc2=s=96x64:r=20" if name in VIDEO else "aevalsrc=sin(600*t)|cos(400*t):s=48000"
        ffmpeg("-f", "lavfi", "-i", source, "-t", "1", *options.split(), path)
    return path


def packets(path: Path, damage: str, seed: int = 1) -> tuple[media.Track, list[av.Packet]]:
    """The first track and its packets, of which some are lost or have wrong bytes; the last one is the flush."""
    rng = random.Random(seed)
    container = av.open(str(path))
    track = container.streams[0]
    taken: list[av.Packet] = []
    for number, packet in enumerate(container.demux(track)):
        hit = damage and number and packet.size and rng.random() < 0.2
        if hit and damage == "lost":
            continue
        if hit:
            data = bytearray(bytes(packet))
            for _ in range(3):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            wrong = av.Packet(bytes(data))
            wrong.pts, wrong.dts, wrong.time_base = packet.pts, packet.dts, packet.time_base
            wrong.duration, wrong.is_keyframe = packet.duration, packet.is_keyframe
            packet = wrong
        taken.append(packet)
    return track, taken  # type: ignore[return-value]


def on_the_wire(packet: av.Packet, link: int) -> av.Packet:
    """The packet as the other end has it."""
    base = Fraction(packet.time_base or Fraction(1, 1000))
    header = m.Packet(
        stream="s", epoch=1, link=link, track=0, pts=packet.pts, dts=packet.dts, duration=packet.duration or 0,
        time_base=(base.numerator, base.denominator), key=packet.is_keyframe,
    )  # fmt: skip
    return media.to_packet(header, bytes(packet))


Seen = tuple[object, ...]


def decode(codec: object, sent: Iterator[av.Packet] | list[av.Packet]) -> list[Seen]:
    """Everything that can be told apart of what comes out: times, link number, flags, samples, errors."""
    seen: list[Seen] = []
    for packet in sent:
        try:
            frames = codec.decode(packet if packet.size else None)  # type: ignore[attr-defined]
        except av.FFmpegError as error:
            seen.append((type(error).__name__,))
            continue
        for frame in frames:
            opaque = tuple(frame.opaque) if frame.opaque else None
            seen.append((frame.pts, opaque, frame.is_corrupt, frame.format.name, frame.to_ndarray().tobytes()))
    return seen


def other_end(track: media.Track) -> media.Track:
    carrier, blob = media.pack(track)
    kind = "video" if track.type == "video" else "audio"
    info = m.TrackInfo(kind=kind, codec=track.codec_context.name, carrier=carrier, size=len(blob), time_base=(1, 1000))  # type: ignore[arg-type]
    (copy,) = media.unpack([info], blob)
    assert len(blob) < 20_000, "a carrier is small"
    return copy


@pytest.mark.parametrize("damage", ["", "lost", "corrupt"])
@pytest.mark.parametrize("name", VIDEO)
def test_pictures_are_equal(clips: Path, name: str, damage: str) -> None:
    track, taken = packets(clip(clips, name), damage)
    copy = other_end(track)
    for link, packet in enumerate(taken):
        packet.opaque = [link]
    sent = [on_the_wire(packet, link) for link, packet in enumerate(taken)]
    here = decode(media.prepare_decoder(track, 1), taken)  # type: ignore[arg-type]
    there = decode(media.prepare_decoder(copy, 1), sent)  # type: ignore[arg-type]
    assert len(there) == len(here)
    for mine, theirs in zip(here, there, strict=True):
        # FFV1 decodes a lossy stream differently each time, even in one process; times and numbers still agree.
        assert theirs[:4] == mine[:4]
        assert theirs == mine or (name, damage) == ("ffv1", "lost")
    pictures = [one for one in here if len(one) > 1]
    if not damage:
        assert len(pictures) == len(here) == 20
    assert len(pictures) > 3
    assert all(one[1] is not None for one in pictures), "the link number comes through the decoder"


@pytest.mark.parametrize("damage", ["", "lost", "corrupt"])
@pytest.mark.parametrize("name", ["h264", "hevc"])
def test_a_decoder_for_the_model_gives_the_same_pictures_at_the_same_times(
    clips: Path, name: str, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media, "SKIM_PIXELS", 1)
    track, taken = packets(clip(clips, name), damage)
    copy = other_end(track)
    for link, packet in enumerate(taken):
        packet.opaque = [link]
    sent = [on_the_wire(packet, link) for link, packet in enumerate(taken)]
    skimmed = media.prepare_decoder(track, 1, for_model=True)  # type: ignore[arg-type]
    assert skimmed.options["skip_loop_filter"] == "noref"
    here, there = decode(skimmed, taken), decode(media.prepare_decoder(copy, 1), sent)  # type: ignore[arg-type]
    assert [one[:4] for one in here] == [one[:4] for one in there]
    assert len(here) > 3


@pytest.mark.parametrize("name", ["h264", "hevc", "vp9"])
def test_threads_at_both_ends_change_nothing_between_them(clips: Path, name: str) -> None:
    track, taken = packets(clip(clips, name), "lost", seed=3)
    copy = other_end(track)
    sent = [on_the_wire(packet, link) for link, packet in enumerate(taken)]
    for link, packet in enumerate(taken):
        packet.opaque = [link]
    assert decode(media.prepare_decoder(track, 3), taken) == decode(media.prepare_decoder(copy, 3), sent)  # type: ignore[arg-type]


@pytest.mark.parametrize("damage", ["", "corrupt"])
@pytest.mark.parametrize("name", SOUND)
def test_sound_is_equal(clips: Path, name: str, damage: str) -> None:
    track, taken = packets(clip(clips, name), damage)
    copy = other_end(track)
    sent = [on_the_wire(packet, link) for link, packet in enumerate(taken)]
    # Anew for this end as well: what a container says of priming and padding (side data) does not cross, times do.
    here = decode(track.codec_context, [on_the_wire(packet, link) for link, packet in enumerate(taken)])
    there = decode(copy.codec_context, sent)
    assert len(there) == len(here)
    # Opus skips its priming in the decoder, which moves the first time by the carrier's time base and not the packets'.
    told = 1 if name == "opus" else 0
    assert [one[0] for one in there[told:]] == [one[0] for one in here[told:]]
    if not damage:
        assert [one[3:] for one in there] == [one[3:] for one in here]
    assert len(here) > 10
    assert copy.codec_context.name == track.codec_context.name


def test_a_stream_can_be_joined_at_a_later_packet(clips: Path) -> None:
    track, taken = packets(clip(clips, "h264"), "")
    late = next(number for number, packet in enumerate(taken) if number and packet.is_keyframe)
    copy = other_end(track)
    for link, packet in enumerate(taken):
        packet.opaque = [link]
    sent = [on_the_wire(packet, link) for link, packet in enumerate(taken)][late:]
    here = decode(media.prepare_decoder(track, 1), taken)  # type: ignore[arg-type]
    there = decode(media.prepare_decoder(copy, 1), sent)  # type: ignore[arg-type]
    assert there == here[-len(there) :]
    assert len(there) == len(taken) - 1 - late


def test_threads_by_size() -> None:
    assert media.decode_threads(1920, 1080) == 1
    assert 1 <= media.decode_threads(3840, 2160) <= media.MAX_THREADS
    assert media.decode_threads(3840, 2160, 7) == 7


def test_one_thread_adds_no_delay(clips: Path) -> None:
    with av.open(str(clip(clips, "mjpeg"))) as container:
        codec = media.prepare_decoder(container.streams.video[0], 1)
        assert isinstance(codec, VideoCodecContext)
        first = next(container.demux(video=0))
        assert len(codec.decode(first)) == 1


def info(size: int, codec: str = "h264", kind: str = "video", carrier: str = "nut") -> m.TrackInfo:
    return m.TrackInfo(kind=kind, codec=codec, carrier=carrier, size=size, time_base=(1, 1000))  # type: ignore[arg-type]


def test_several_tracks_lie_one_after_the_other(clips: Path) -> None:
    blobs, infos = b"", []
    for name in ("h264", "aac", "opus"):
        with av.open(str(clip(clips, name))) as container:
            track = container.streams[0]
            carrier, blob = media.pack(track)  # type: ignore[arg-type]
            infos.append(info(len(blob), name, track.type, carrier))
            blobs += blob
    assert [one.codec_context.name for one in media.unpack(infos, blobs)] == ["h264", "aac", "opus"]
    with pytest.raises(PeerError):
        media.unpack(infos, blobs[:-200])
    with pytest.raises(PeerError, match="announced as"):
        media.unpack([info(infos[0].size, kind="audio")], blobs)


def test_an_unknown_codec_is_refused(clips: Path) -> None:
    with av.open(str(clip(clips, "ffv1"))) as container:
        blob = media._write(container.streams[0], "matroska")  # type: ignore[arg-type]
    strange = blob.replace(b"V_FFV1", b"V_XXV1")
    assert strange != blob
    with pytest.raises(PeerError, match="not known"):
        media.unpack([info(len(strange), carrier="matroska")], strange)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), name=st.sampled_from(("h264", "ffv1", "aac")))
def test_whatever_a_peer_sends_as_tracks(clips: Path, data: st.DataObject, name: str) -> None:
    """A track or PeerError, nothing else."""
    with av.open(str(clip(clips, name))) as container:
        carrier, honest = media.pack(container.streams[0])  # type: ignore[arg-type]
    blob = bytearray(honest[: data.draw(st.integers(0, len(honest)))] if data.draw(st.booleans()) else honest)
    for _ in range(data.draw(st.integers(0, 6))):
        if blob:
            blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    told = info(data.draw(st.sampled_from((len(blob), 0, len(blob) // 2, 10**9))), carrier=carrier)
    try:
        (track,) = media.unpack([told], bytes(blob))
    except PeerError:
        return
    assert track.codec_context is not None


def test_a_picture_that_claims_to_be_huge_is_not_decoded(clips: Path) -> None:
    """A few hundred bytes may claim 65,500 × 65,500; what follows them decodes."""
    with av.open(str(clip(clips, "mjpeg"))) as container:
        track = container.streams.video[0]
        honest = bytes(next(container.demux(track)))
        decoder = media.prepare_decoder(other_end(track), 1)  # type: ignore[arg-type]
    at = honest.index(b"\xff\xc0") + 5
    for side in (16_384, 65_500):
        claim = honest[:at] + 2 * side.to_bytes(2, "big") + honest[at + 4 :]
        with pytest.raises(av.FFmpegError):
            decoder.decode(av.Packet(claim))
    assert len(decoder.decode(av.Packet(honest))) == 1


def test_a_carrier_that_is_too_large_to_be_sent_is_not_used(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "MAX_CARRIER", 50)
    with av.open(str(clip(clips, "h264"))) as container, pytest.raises(media.UncarriedCodec):
        media.pack(container.streams.video[0])


@pytest.mark.parametrize("size", [1, 2, 63, 1000, 70_000])
def test_behind_a_packet_there_are_zeros(size: int) -> None:
    """Decoders read on: 64 bytes, FFmpeg's AV_INPUT_BUFFER_PADDING_SIZE. What they found in another's memory would make
    their pictures differ (MPEG-4's did, now and then)."""
    header = m.Packet(stream="s", epoch=1, link=7, track=0, pts=5, time_base=(1, 1000), key=True)
    for payload in (b"\xff" * size, memoryview(b"\xff" * size)):
        packet = media.to_packet(header, payload)
        assert bytes(packet) == payload
        assert ctypes.string_at(packet.buffer_ptr + size, 64) == bytes(64)
    assert media.to_packet(header, b"").size == 0

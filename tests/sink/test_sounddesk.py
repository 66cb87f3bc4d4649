"""The desk: each packet is treated as of its own tracks, in order; and nothing that a source sends does any harm."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from random import Random

import av
import pytest
from av.audio.stream import AudioStream

from common.media import pack, unpack
from common.messages import Packet, TrackInfo
from sink.sound import Sound
from sink.sounddesk import MAX_CHANGES, SoundDesk
from sink.soundform import form_of, read_adts
from tests.marks import slow
from tests.support import ffmpeg

#: Track → suffix and options of a second and a half of a tone.
SOURCES = {
    "aac": "mp4 -c:a aac -ar 48000 -ac 2",
    "adts": "aac -c:a aac -ar 48000 -ac 2",
    "adts-mono": "aac -c:a aac -ar 48000 -ac 1",
    "aac-mono": "mp4 -c:a aac -ar 44100 -ac 1",
    "mu-law": "wav -c:a pcm_mulaw -ar 8000 -ac 1",
    "vorbis": "ogg -c:a libvorbis",
    "opus": "mkv -c:a libopus -ac 2",
    "flac": "mkv -c:a flac -ac 8",
    "pcm": "wav -c:a pcm_s16le -ac 16",
    "slow": "wav -c:a pcm_u8 -ar 100 -ac 1",
    "fast": "wav -c:a pcm_s16le -ar 700000 -ac 1",
}


class Tone:
    """A track as a producer announces it, and its packets: pts, duration, bytes."""

    def __init__(self, path: Path) -> None:
        container = av.open(str(path))
        track = container.streams.audio[0]
        self.base = Fraction(track.time_base or 1)
        carrier, self._blob = pack(track)
        self._info = TrackInfo(
            kind="audio", codec=track.codec_context.name, carrier=carrier, size=len(self._blob),
            time_base=(self.base.numerator, self.base.denominator),
        )  # fmt: skip
        self.packets = [(one.pts or 0, one.duration or 0, bytes(one)) for one in container.demux(track) if one.size]

    def track(self) -> AudioStream:
        (track,) = unpack([self._info], self._blob)
        assert isinstance(track, AudioStream)
        return track

    def message(self, number: int, start: Fraction | int) -> tuple[Packet, bytes]:
        pts, duration, data = self.packets[number]
        return header(pts + round(start / self.base), duration, self.base), data


def header(pts: int | None, duration: int, base: Fraction, dts: int | None = None, track: int = 1) -> Packet:
    return Packet(
        stream="s", epoch=1, link=1, track=track, pts=pts, dts=pts if dts is None else dts, duration=duration,
        time_base=(base.numerator, base.denominator), key=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tone]:
    folder = tmp_path_factory.mktemp("tones")
    found = {}
    for name, spec in SOURCES.items():
        suffix, _, options = spec.partition(" ")
        path = folder / f"{name}.{suffix}"
        ffmpeg("-f", "lavfi", "-i", "sine=440:d=1.5:r=48000", *options.split(), path)
        found[name] = Tone(path)
    return found


def payloads(released: Iterator[tuple[int, str, av.Packet]]) -> list[bytes]:
    return [bytes(packet) for _, _, packet in released]


def test_alike_sound_is_copied_on_whatever_its_framing(tones: dict[str, Tone]) -> None:
    """Bare AAC for what was declared so, with headers for what was declared with them."""
    bare = [data for _, _, data in tones["aac"].packets[:20]]
    framed = [data for _, _, data in tones["adts"].packets[:20]]
    for first, second in (("aac", "adts"), ("adts", "aac")):
        desk = SoundDesk([Sound(tones[first].track(), {"ts"})], live=False)
        for number in range(20):
            desk.put(*tones[first].message(number, 0))
        desk.change([tones[second].track()])
        for number in range(20):
            desk.put(*tones[second].message(number, 5))
        got = payloads(desk.release(None))
        form = bare if first == "aac" else framed
        assert got == form + form
        assert desk.counts == {"forced": 0, "dropped": 0, "silence": 0, "late": 0, "damaged": 0}


def test_a_broadcast_that_switches_to_mono_and_back(tones: dict[str, Tone]) -> None:
    """Within one transport stream: nobody says so but the packets."""
    sound = Sound(tones["adts"].track(), {"mp4"})
    desk = SoundDesk([sound], live=True)
    for part, name in enumerate(("adts", "adts-mono", "adts")):
        for number in range(47):
            desk.put(*tones[name].message(number, part - tones[name].packets[0][0] * tones[name].base))
    got = [packet for _, _, packet in desk.release(None)]
    spans = [((packet.pts or 0) * packet.time_base, (packet.duration or 0) * packet.time_base) for packet in got]
    for (start, length), (after, _) in pairwise(spans):
        assert -0.001 < after - (start + length) < 0.03, "neither overlaps nor holes"
    forms = {read_adts(bytes(packet)) for packet in got}
    assert {form for form, _ in filter(None, forms)} == {form_of(tones["adts"].track())}
    copied = [data for _, _, data in tones["adts"].packets[:47]]
    assert sum(bytes(packet) in copied for packet in got) > 90
    assert desk.counts["late"] < 5
    assert desk.counts["damaged"] == 0


def test_rtmp_gets_parameters_that_a_transport_stream_has_not(tones: dict[str, Tone]) -> None:
    sound = Sound(tones["adts"].track(), {"rtmp", "ts"})
    assert sound.form("ts") == "copied"
    assert sound.form("rtmp") == "described"
    assert bytes(sound.template("rtmp").codec_context.extradata or b"")[:2] == b"\x11\x90"
    assert not sound.template("ts").codec_context.extradata
    got = list(sound.take(_packet(tones["adts"], 3)))
    assert {form for form, _ in got} == {"copied", "described"}
    data = tones["adts"].packets[3][2]
    assert {form: bytes(packet) for form, packet in got} == {"copied": data, "described": data[7:]}


def _packet(tone: Tone, number: int) -> av.Packet:
    packet = av.Packet(tone.packets[number][2])
    packet.pts = packet.dts = tone.packets[number][0]
    packet.time_base, packet.duration = tone.base, tone.packets[number][1]
    return packet


def test_many_channels_become_stereo_for_rtmp_alone(tones: dict[str, Tone]) -> None:
    sound = Sound(tones["flac"].track(), {"mkv", "rtmp", "ts"})
    assert [sound.form(kind) for kind in ("mkv", "rtmp", "ts")] == ["copied", "stereo", "aac"]
    assert sound.template("rtmp").codec_context.channels == 2
    assert sound.template("ts").codec_context.channels == 8


def test_what_still_waits_is_treated_as_of_the_tracks_that_it_came_with(tones: dict[str, Tone]) -> None:
    """Sound that comes ahead of its picture, before the source is opened again with another codec."""
    desk = SoundDesk([Sound(tones["aac"].track(), {"mkv"})], live=False)
    for number in range(40):
        desk.put(*tones["aac"].message(number, 0))
    desk.change([tones["mu-law"].track()])
    for number in range(4):
        desk.put(*tones["mu-law"].message(number, 1))
    copied = [data for _, _, data in tones["aac"].packets[:40]]
    got = payloads(desk.release(Fraction(1, 2)))
    assert got == copied[: len(got)]
    assert 20 < len(got) < 40
    rest = payloads(desk.release(None))
    assert rest[: 40 - len(got)] == copied[len(got) :]
    assert len(rest) > 40 - len(got) + 8
    assert desk.counts["damaged"] == 0


def test_a_track_that_is_missing_or_new(tones: dict[str, Tone]) -> None:
    """Two tracks, then one, then three: the outputs have two."""
    sounds = [Sound(tones["aac"].track(), {"mkv"}) for _ in range(2)]
    desk = SoundDesk(sounds, live=True)
    list(desk.release(Fraction(0)))
    desk.change([tones["aac"].track()])
    got = list(desk.release(Fraction(3)))
    assert {number for number, _, _ in got} == {0, 1}
    last = {number: float((packet.pts or 0) * packet.time_base) for number, _, packet in got}
    assert last[0] == pytest.approx(2, abs=0.05), "it may lag"
    assert last[1] == pytest.approx(2.8, abs=0.05), "it is gone"
    desk.change([tones["aac"].track() for _ in range(3)])
    for track in (1, 2, 3):
        desk.put(header(5 * 48000, 1024, Fraction(1, 48000), track=track), tones["aac"].packets[0][2])
    assert {number for number, _, _ in desk.release(Fraction(5))} == {0, 1}


@pytest.mark.parametrize("name", ["aac", "adts", "aac-mono", "opus", "flac"])
def test_a_declared_track_that_never_gives_anything(tones: dict[str, Tone], name: str) -> None:
    sound = Sound(tones[name].track(), {"mkv", "ts", "rtmp"})
    desk = SoundDesk([sound], live=True)
    assert list(desk.release(Fraction(10))) == []
    got = list(desk.release(Fraction(13)))
    for kind in ("mkv", "ts", "rtmp"):
        packets = [packet for _, form, packet in got if form == sound.form(kind)]
        assert (packets[0].pts or 0) * packets[0].time_base == pytest.approx(10, abs=0.001)
        last = packets[-1]
        assert ((last.pts or 0) + (last.duration or 0)) * last.time_base == pytest.approx(12, abs=0.1)
        decoder = sound.template(kind).codec_context
        assert sum(frame.samples for packet in packets for frame in decoder.decode(packet)) > 1.8 * decoder.sample_rate


def test_an_absence_is_filled_close_behind_the_picture(tones: dict[str, Tone]) -> None:
    desk = SoundDesk([Sound(tones["aac"].track(), {"mkv"})], live=True)
    desk.put(*tones["aac"].message(0, 0))
    assert len(list(desk.release(Fraction(0)))) == 1
    desk.away()
    got = [packet for _, _, packet in desk.release(Fraction(2))]
    ends = [((packet.pts or 0) + (packet.duration or 0)) * packet.time_base for packet in got]
    assert float(ends[-1]) == pytest.approx(1.8, abs=0.03)
    assert all(packet.pts == (before.pts or 0) + 1024 for before, packet in pairwise(got))
    assert list(desk.release(Fraction(5, 2))) == [], "it is back and may lag"
    assert len(list(desk.release(Fraction(3)))) > 5


def test_sound_that_cannot_be_made_is_named_once(tones: dict[str, Tone], caplog: pytest.LogCaptureFixture) -> None:
    desk = SoundDesk([Sound(tones["vorbis"].track(), {"mkv"})], live=True)
    for _ in range(3):
        desk.change([tones["aac"].track()])
        desk.put(*tones["aac"].message(5, 0))
        assert list(desk.release(Fraction(5))) == []
    assert [record.message for record in caplog.records if "cannot be made" in record.message] == [
        "the source's sound is aac now, which cannot be made into the vorbis that the outputs have declared: "
        "it is left out"
    ]
    desk.change([tones["vorbis"].track()])
    desk.put(*tones["vorbis"].message(5, 6))
    assert payloads(desk.release(Fraction(9))) == [tones["vorbis"].packets[5][2]], "the same books again"


def test_changes_without_sound_do_not_pile_up(tones: dict[str, Tone]) -> None:
    desk = SoundDesk([Sound(tones["aac"].track(), {"mkv"})], live=True)
    for number in range(200):
        desk.change([tones["aac"].track()])
        desk.check()
        if number % 2:
            desk.put(*tones["aac"].message(0, 10 + number))
    desk.check()
    assert len(payloads(desk.release(None))) >= 100 - MAX_CHANGES


KINDS = ["mp4", "mkv", "ts", "rtmp", "rtsp", "hls"]


@pytest.mark.parametrize("seed", [*range(12), *(slow(seed) for seed in range(12, 400))])
def test_absurd_sound_is_harmless(tones: dict[str, Tone], seed: int) -> None:
    """Damaged bytes, times that cannot be, packets of other tracks, many channels, changes in any order."""
    random = Random(seed)
    names = list(tones)
    declared, name = random.choice(names), random.choice(names)
    desk = SoundDesk([Sound(tones[declared].track(), set(random.sample(KINDS, 3)))], random.random() < 0.8)
    at = picture = Fraction(0)
    for _ in range(random.randrange(5, 40)):
        kind = random.random()
        if kind < 0.15:
            name = random.choice(names)
            desk.change([tones[name].track()] if random.random() < 0.8 else [])
        elif kind < 0.2:
            desk.away()
        elif kind < 0.4:
            picture += random.choice([Fraction(1, 25), Fraction(1, 25), 1, 7200])
            for _, _, packet in desk.release(picture):
                assert packet.size > 0
                assert packet.duration is not None
            desk.check()
        else:
            tone = tones[name]
            for _ in range(5):
                at += Fraction(1, 50)
                desk.put(*_absurd(random, tone, at))
    list(desk.release(None))
    desk.check()


def _absurd(random: Random, tone: Tone, at: Fraction) -> tuple[Packet, bytes]:
    _, duration, data = random.choice(tone.packets)
    kind = random.random()
    if kind < 0.2:
        damaged = bytearray(data)
        for _ in range(random.randrange(1, 8)):
            damaged[random.randrange(len(damaged))] = random.randrange(256)
        data = bytes(damaged)
    elif kind < 0.3:
        data = random.randbytes(random.randrange(300))
    elif kind < 0.35:
        data = data[: random.randrange(len(data) + 1)]
    base = tone.base if random.random() < 0.9 else Fraction(random.randrange(1, 2**31), random.randrange(1, 2**31))
    pts: int | None = round(at / base)
    if random.random() < 0.2:
        pts = random.choice([None, -(2**62), 2**62, random.randrange(-(2**40), 2**40), round((at - 5) / base)])
    dts = pts if random.random() < 0.8 else random.choice([None, 0, 2**61])
    return header(pts, random.choice([duration, duration, 0, -5, 2**62]), base, dts, random.choice([1, 1, 1, 2])), data

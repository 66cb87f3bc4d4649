"""The studio: every frame meets its own picture, outputs fail one by one, and the picture stays the source's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import msgspec
import numpy as np
import pytest

from common import messages as m
from common.config import Encoding
from common.media import unpack
from sink.compose import Composer
from sink.encode import Encoder
from sink.ledger import State
from sink.reorder import Decision
from sink.studio import Studio
from tests.builders import EPOCH
from tests.feeds import Message, Recorded, record, settings
from tests.support import frame_times, lines, make_clip, sound_packets

BOX = m.Detection("cat", 0.9, (10.0, 20.0, 40.0, 50.0))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("studio") / "clip.mp4"
    return make_clip(path, "-c:v", "libx264", "-bf", "2", seconds=1, size="96x64", sound="-c:a aac -ac 1")


@pytest.fixture(scope="module")
def recorded(clip: Path) -> Recorded:
    return record(clip)


def studio(recorded: Recorded, *outputs: Path, **fields: Any) -> Studio:
    return Studio(settings(*outputs, **fields), recorded.hello, EPOCH, unpack(recorded.hello.tracks, recorded.blobs))


def annotated(notice: m.Notice) -> Decision:
    return Decision(notice, State.ANNOTATED, "", (BOX,) if notice.index == 10 else ())


def play(made: Studio, messages: list[tuple[Message, bytes]], **decisions: Decision) -> list[tuple[str, str]]:
    """Everything through the studio, each frame decided as soon as it is announced; returns where the frames ended."""
    ended: list[tuple[str, str]] = []
    for header, payload in messages:
        if isinstance(header, m.Packet):
            made.packet(header, payload)
        elif isinstance(header, m.Notice):
            made.announce(header)
            state, reason = made.show(decisions.get(f"f{header.index}", annotated(header)))
            ended.append((str(state), reason))
    made.close()
    return ended


def pictures(path: Path) -> Iterator[np.ndarray]:
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="yuv420p")


@pytest.mark.parametrize("kind", ["mp4", "mkv", "ts"])
def test_picture_sound_and_times_are_the_sources(tmp_path: Path, clip: Path, recorded: Recorded, kind: str) -> None:
    path = tmp_path / f"out.{kind}"
    made = studio(recorded, path)
    assert play(made, recorded.messages) == [("annotated", "")] * 25
    assert (made.error, made.durable) == ("", 24)
    assert all(abs(a - b) <= 1e-3 for a, b in zip(frame_times(path), frame_times(clip), strict=True))
    for number, (mine, theirs) in enumerate(zip(pictures(path), pictures(clip), strict=True)):
        if number != 10:
            assert (mine == theirs).all(), f"picture {number} is another one or was drawn on"
            continue
        changed = np.nonzero((mine != theirs)[:64])
        assert len(changed[0]) > 100, "the box is drawn"
        assert changed[1].max() < 70
    if kind != "ts":
        assert sound_packets(path) == sound_packets(clip)


def test_encode_once_for_several_outputs(tmp_path: Path, recorded: Recorded) -> None:
    paths = [tmp_path / name for name in ("a.mp4", "b.mkv", "c.ts", "d.jsonl")]
    assert play(studio(recorded, *paths), recorded.messages) == [("annotated", "")] * 25
    assert [len(frame_times(path)) for path in paths[:3]] == [25] * 3
    told = lines(paths[3])
    assert [line["index"] for line in told] == list(range(25))
    assert [line["index"] for line in told if line["detections"]] == [10]


def test_a_picture_that_never_comes(tmp_path: Path) -> None:
    """A packet is lost at the sink alone: its frame fails, the others keep their own pictures."""
    clip = make_clip(tmp_path / "clip.avi", "-c:v", "mjpeg", seconds=1, size="96x64")
    recorded = record(clip)
    lost = recorded.notices[12].packet
    cut = [one for one in recorded.messages if not (isinstance(one[0], m.Packet) and one[0].link == lost)]
    path, told = tmp_path / "a.mp4", tmp_path / "a.jsonl"
    ended = play(studio(recorded, path, told), cut)
    assert [index for index, end in enumerate(ended) if end == ("failed", "no_picture")] == [12]
    assert ended.count(("annotated", "")) == 24
    assert [line["index"] for line in lines(told) if line["state"] == "failed"] == [12]
    rest = [picture for index, picture in enumerate(pictures(clip)) if index != 12]
    for number, (mine, theirs) in enumerate(zip(pictures(path), rest, strict=True)):
        assert number == 10 or (mine == theirs).all(), "a neighbour's picture"


def test_a_picture_that_nobody_announced_is_dropped(tmp_path: Path, recorded: Recorded, clip: Path) -> None:
    """Frames 5 and 6 are not announced (an edit list at the producer): their pictures must not take others' places."""
    kept: list[tuple[Message, bytes]] = []
    for header, payload in recorded.messages:
        if isinstance(header, m.Notice):
            if header.index in (5, 6):
                continue
            if header.index > 6:
                header = m.Notice(
                    **{f: getattr(header, f) for f in header.__struct_fields__} | {"index": header.index - 2}
                )
        kept.append((header, payload))
    path = tmp_path / "a.mp4"
    assert play(studio(recorded, path), kept) == [("annotated", "")] * 23
    wanted = [picture for number, picture in enumerate(pictures(clip)) if number not in (5, 6)]
    for number, (mine, theirs) in enumerate(zip(pictures(path), wanted, strict=True)):
        assert number == 10 or (mine == theirs).all()


def test_without_pts_the_packets_number_is_enough(tmp_path: Path, recorded: Recorded, clip: Path) -> None:
    bare: list[tuple[Message, bytes]] = [
        (header if isinstance(header, m.End) else msgspec.structs.replace(header, pts=None), payload)
        for header, payload in recorded.messages
    ]
    path = tmp_path / "a.mp4"
    assert play(studio(recorded, path), bare) == [("annotated", "")] * 25
    for number, (mine, theirs) in enumerate(zip(pictures(path), pictures(clip), strict=True)):
        assert number == 10 or (mine == theirs).all()


def test_a_lost_frame_is_left_out_of_the_file(tmp_path: Path, recorded: Recorded) -> None:
    lost = Decision(recorded.notices[7], State.LOST, "shutdown")
    ended = play(studio(recorded, tmp_path / "a.mp4"), recorded.messages, f7=lost)
    assert ended[7] == ("lost", "shutdown")
    assert len(frame_times(tmp_path / "a.mp4")) == 24


def test_an_output_that_fails_leaves_the_others(tmp_path: Path, recorded: Recorded) -> None:
    full = tmp_path / "full.mkv"
    full.symlink_to("/dev/full")
    paths = [full, tmp_path / "none" / "b.mp4", tmp_path / "c.ts", tmp_path / "none" / "d.jsonl", tmp_path / "e.jsonl"]
    made = studio(recorded, *paths, mode="live")
    assert play(made, recorded.messages) == [("annotated", "")] * 25
    assert not made.dead
    assert len(frame_times(paths[2])) == 25
    assert len(lines(paths[4])) == 25
    assert "cannot write" in made.error


def test_without_any_output_left(tmp_path: Path, recorded: Recorded) -> None:
    made = studio(recorded, tmp_path / "none" / "a.mp4", tmp_path / "none" / "b.jsonl")
    play(made, recorded.messages)
    assert made.dead
    assert made.error.startswith(f"cannot write {tmp_path}/none/")


def test_an_encoder_that_does_not_open_fails_the_files_only(tmp_path: Path, recorded: Recorded) -> None:
    made = studio(recorded, tmp_path / "a.mp4", tmp_path / "b.jsonl", encoding=Encoding(encoder="x264", preset="warp"))
    play(made, recorded.messages)
    assert "no encoder opens" in made.error
    assert len(lines(tmp_path / "b.jsonl")) == 25
    assert not (tmp_path / "a.mp4").exists()


def test_json_lines_alone_need_no_pictures(tmp_path: Path, recorded: Recorded) -> None:
    made = studio(recorded, tmp_path / "a.jsonl")
    assert not made.wants_media
    told: list[tuple[Message, bytes]] = [(n, b"") for n in recorded.notices]
    assert play(made, told) == [("annotated", "")] * 25
    assert made.durable == 24


def test_durable_never_runs_ahead_of_the_file(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "long.mp4", "-c:v", "libx264", "-preset", "ultrafast", seconds=4, size="96x64")
    recorded = record(clip)
    path = tmp_path / "a.mkv"
    made = studio(recorded, path)
    seen = set()
    for header, payload in recorded.messages:
        if isinstance(header, m.Packet):
            made.packet(header, payload)
        elif isinstance(header, m.Notice):
            made.announce(header)
            made.show(annotated(header))
            assert made.durable < header.index
            if header.index % 20 == 19 and made.durable >= 0:
                assert len(frame_times(path)) > made.durable
                seen.add(made.durable)
    assert len(seen) >= 2
    made.close()
    assert made.durable == 99


def test_a_picture_that_cannot_be_shown_costs_itself_only(
    tmp_path: Path, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes can make any picture, and FFmpeg does not convert them all."""
    made = studio(recorded, tmp_path / "out.mp4", tmp_path / "out.jsonl")
    compose = Composer.__call__

    def refuses(self: Composer, picture: av.VideoFrame, *rest: Any) -> av.VideoFrame:
        if picture.pts == recorded.notices[7].pts:
            raise av.error.InvalidDataError(1, "no such conversion")
        return compose(self, picture, *rest)

    monkeypatch.setattr(Composer, "__call__", refuses)
    ended = play(made, recorded.messages)
    assert ended == [("annotated", "")] * 7 + [("failed", "bad_picture")] + [("annotated", "")] * 17
    assert (made.error, made.durable) == ("", 24)
    assert len(frame_times(tmp_path / "out.mp4")) == 24
    assert lines(tmp_path / "out.jsonl")[7]["reason"] == "bad_picture"


def test_a_sound_track_is_what_it_is_whatever_it_is_called(tmp_path: Path) -> None:
    """Mu-law announced as AAC would be copied into MP4; some muxers end the process on it."""
    said = record(make_clip(tmp_path / "in.mkv", "-c:v", "libx264", seconds=0.5, sound="-c:a pcm_mulaw -ar 8000"))
    video, sound = said.hello.tracks
    lie = msgspec.structs.replace(said.hello, tracks=[video, msgspec.structs.replace(sound, codec="aac")])
    out = tmp_path / "out.mp4"
    made = Studio(settings(out), lie, EPOCH, unpack(lie.tracks, said.blobs))
    play(made, said.messages)
    with av.open(str(out)) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
        assert len(list(container.decode(audio=0))) > 3


def test_who_asks_for_a_keyframe_while_a_picture_is_encoded_gets_the_next(
    tmp_path: Path, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = studio(recorded, tmp_path / "a.mkv")
    output = made._rack._files[0]
    keys: list[bool] = []
    encode = Encoder.encode

    def encoding(self: Encoder, frame: av.VideoFrame, out: int, duration: int, key: bool = False) -> Any:
        keys.append(key)
        packets = list(encode(self, frame, out, duration, key))
        if len(keys) == 5:
            output.asked = False  # a connection has just come up
        return packets

    monkeypatch.setattr(Encoder, "encode", encoding)
    play(made, recorded.messages)
    assert keys[:8] == [True, False, False, False, False, True, False, False]


@pytest.mark.parametrize("preset", ["ultrafast", "medium"])
def test_a_file_begins_with_one_keyframe(tmp_path: Path, recorded: Recorded, preset: str) -> None:
    """Though the encoder holds some dozens of pictures before its first packet shows that it has begun."""
    made = studio(recorded, tmp_path / "a.mp4", encoding=Encoding(encoder="x264", preset=preset))
    play(made, recorded.messages)
    with av.open(str(tmp_path / "a.mp4")) as container:
        keys = [packet.is_keyframe for packet in container.demux(video=0) if packet.size]
    assert keys == [True] + [False] * 24

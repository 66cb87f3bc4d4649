"""Times, order and sound of what comes out are the source's, packet for packet, in every container."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest

from tests.integration.judge import complaints, probe, seconds, without_adts
from tests.marks import always
from tests.support import ffmpeg, frame_times, headrace, ledger, lines, numbered_clip, numbers, sound_packets

#: How exactly each container stores a time, in seconds: MP4 in the source's own time base, Matroska in milliseconds
#: (rounded), MPEG-TS in units of 1/90000 (rounded).
EXACTNESS = {".mp4": Fraction(0), ".mkv": Fraction(1, 2000), ".ts": Fraction(1, 180_000)}
#: The muxers guess the length of the last sound packet; and sound and picture don't end together, in seconds.
END_SLACK_S = 0.06

X264 = "-c:v libx264 -preset ultrafast"
B_FRAMES = "-c:v libx264 -preset veryfast -bf 3 -x264-params b-adapt=0"
#: Drops every seventh picture and makes a hole of irregular length.
VARIABLE = (
    "-vf settb=1/90000,select='not(eq(mod(n\\,7)\\,3))',setpts='PTS+if(gt(N\\,20)\\,0.013/TB\\,0)' "
    "-vsync vfr -enc_time_base 1:90000"
)


@dataclass(frozen=True, slots=True)
class Case:
    """How ffmpeg makes a clip, and the pictures and sound tracks that it must have (else the case proves nothing)."""

    end: str
    options: str
    rate: str = "25"
    sound: tuple[str, ...] = ("sine=440:r=48000",)
    seconds: str = "1.6"


FIVE_ONE = "sine=440:r=48000,pan=5.1|c0=c0|c1=0.5*c0|c2=c0|c3=c0|c4=c0|c5=c0"
CASES = {
    "b_frames": Case("mp4", f"{B_FRAMES} -c:a aac"),
    "variable_rate": Case("mp4", f"{VARIABLE} {B_FRAMES} -c:a aac"),
    "29.97_and_5.1": Case("mp4", f"{X264} -c:a aac", "30000/1001", (FIVE_ONE,)),
    "12_fps_mono": Case("mp4", f"{X264} -c:a aac -ac 1", "12"),
    "no_sound": Case("mp4", X264, "24000/1001", ()),
    "two_sounds": Case("mp4", f"{X264} -c:a aac", sound=("sine=440:r=48000", "sine=880:r=44100")),
    "hevc": Case("mp4", "-c:v libx265 -preset ultrafast -x265-params log-level=error:bframes=2 -c:a aac"),
    "late_ts": Case("ts", f"{B_FRAMES} -c:a aac"),
    "mkv": Case("mkv", f"{B_FRAMES} -c:a aac"),
    "webm": Case("webm", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -c:a libopus"),
    "asp_avi": Case("avi", "-c:v mpeg4 -bf 2 -q:v 3 -c:a libmp3lame"),
    "mjpeg": Case("mkv", "-c:v mjpeg -q:v 3 -c:a flac"),
}


def make(case: Case, path: Path) -> Path:
    inputs = ["-f", "lavfi", "-i", f"testsrc2=s=320x180:r={case.rate}"]
    for sound in case.sound:
        inputs += ["-f", "lavfi", "-i", sound]
    maps = [option for number in range(len(case.sound) + 1) for option in ("-map", str(number))]
    ffmpeg(*inputs, *maps, "-t", case.seconds, *case.options.split(), path)
    return path


@pytest.fixture(
    scope="module", params=always(CASES, "variable_rate", "29.97_and_5.1", "two_sounds", "late_ts", "asp_avi")
)
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """The source and the three container files and JSON lines of one run."""
    folder = tmp_path_factory.mktemp("times")
    case = CASES[request.param]
    source = make(case, folder / f"source.{case.end}")
    outputs = [folder / f"out.{end}" for end in ("mp4", "mkv", "ts", "jsonl")]
    done = headrace(
        "run", source, "--model", "echo", "--preset", "ultrafast", *[text for path in outputs for text in ("-o", path)]
    )
    assert done.code == 0, done.err
    return source, outputs


def test_every_frame_keeps_its_time(ran: tuple[Path, list[Path]]) -> None:
    source, outputs = ran
    wanted = frame_times(source)
    assert len(wanted) > 15
    for output in outputs[:3]:
        found = frame_times(output)
        assert len(found) == len(wanted), output.suffix
        worst = max(abs(one - other) for one, other in zip(found, wanted, strict=True))
        assert worst <= EXACTNESS[output.suffix], f"{output.suffix}: {float(worst)} s"


def test_sound_is_the_same_packet_by_packet(ran: tuple[Path, list[Path]]) -> None:
    source, outputs = ran
    with av.open(str(source)) as container:
        codecs = [track.codec_context.name for track in container.streams.audio]
    for output in outputs[:3]:
        with av.open(str(output)) as container:
            found = [track.codec_context.name for track in container.streams.audio]
        copied = not (codecs == ["flac"] and output.suffix == ".ts")  # TS knows no FLAC
        assert found == (codecs if copied else ["aac"])
        for track in range(len(codecs) if copied else 0):
            wanted = [without_adts(packet) for packet in sound_packets(source, track)]
            assert [without_adts(packet) for packet in sound_packets(output, track)] == wanted, (output.suffix, track)
            assert len(wanted) > 10


def test_players_like_it(ran: tuple[Path, list[Path]]) -> None:
    source, outputs = ran
    with av.open(str(source)) as container:
        rate = container.streams.video[0].average_rate
        steady = rate == container.streams.video[0].base_rate
    for output in outputs[:3]:
        assert complaints(output) == "", output.suffix
        assert seconds(output) == pytest.approx(seconds(source), abs=END_SLACK_S), output.suffix
        video = next(one for one in probe(output)["streams"] if one["codec_type"] == "video")
        # A mean rate beside pictures off its grid makes players drop and double pictures.
        assert not steady or Fraction(video["avg_frame_rate"]) == pytest.approx(rate, rel=1e-3), output.suffix


def test_json_lines_name_each_frame(ran: tuple[Path, list[Path]]) -> None:
    source, outputs = ran
    times = frame_times(source)
    found = lines(outputs[3])
    assert [line["index"] for line in found] == list(range(len(times)))
    assert [line["pts"] for line in found] == [round(float(time), 6) for time in times]
    keys = ["stream", "epoch", "index", "pts", "state", "detections"]
    assert all(list(line) == keys for line in found)
    assert {(line["stream"], line["state"]) for line in found} == {("source", "annotated")}
    for line in found:
        assert [list(one) for one in line["detections"]] == [["label", "score", "box"]] * 2
        # echo's boxes, in the source's pixels
        assert line["detections"][0]["box"] == pytest.approx([128, 36, 153.6, 90], abs=0.02)
    assert ledger(outputs[0])["states"] == {"annotated": len(times)}


def test_cases_are_what_they_say(tmp_path: Path) -> None:
    """The clips hold what their names promise, or the tests above would prove less than they seem to."""
    late = frame_times(make(CASES["late_ts"], tmp_path / "late.ts"))
    assert late[0] > 1
    variable = frame_times(make(CASES["variable_rate"], tmp_path / "variable.mp4"))
    assert len({after - before for before, after in pairwise(variable)}) >= 3
    with av.open(str(make(CASES["b_frames"], tmp_path / "b.mp4"))) as container:
        pts = [packet.pts for packet in container.demux(video=0) if packet.pts is not None]
    assert pts != sorted(pts)


#: Each worker takes a turn number out of a shared folder and is so many milliseconds slow.
UNEQUAL = '''
import os, pathlib, time
from tests.support import number_in
from workers.model import Detection, Findings, InputSpec

class Unequal:
    """Reads the number in the picture. The first worker at once, the second in 15 ms, the third in 60 ms."""
    input = InputSpec(width=320, height=180)

    def setup(self, device):
        for turn, delay in enumerate((0.0, 0.015, 0.060)):
            try:
                os.close(os.open(pathlib.Path(__file__).parent / f"turn{turn}", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                continue
            self.turn, self.delay = turn, delay
            return
        raise RuntimeError("a fourth worker")

    def predict(self, pictures):
        time.sleep(self.delay * len(pictures))
        box = (1, 1, 9, 9)
        return [
            Findings([Detection(f"{number_in(picture[:, :, 1])} of {self.turn}", 0.5, box)]) for picture in pictures
        ]
'''


def test_unequal_workers_keep_order(tmp_path: Path) -> None:
    """Every frame gets its own answer, once, in order, though one worker is far behind the others."""
    (tmp_path / "unequal.py").write_text(UNEQUAL)
    source = numbered_clip(tmp_path / "source.mp4", 300)
    outputs = [tmp_path / "out.mp4", tmp_path / "out.jsonl"]
    done = headrace(
        "run", source, "-o", outputs[0], "-o", outputs[1], "--model", "unequal:Unequal",
        "--workers", "3", "--batch", "2", "--preset", "ultrafast", cwd=tmp_path,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert frame_times(outputs[0]) == frame_times(source)
    assert numbers(outputs[0]) == list(range(300))
    assert ledger(outputs[0])["states"] == {"annotated": 300}
    found = lines(outputs[1])
    assert [line["index"] for line in found] == list(range(300))
    answers = [[detection["label"].split(" of ") for detection in line["detections"]] for line in found]
    assert [[number for number, _ in answer] for answer in answers] == [[str(number)] for number in range(300)]
    share = [sum(answer[0][1] == str(turn) for answer in answers) for turn in range(3)]
    assert min(share) > 0, f"a worker had nothing to do: {share}"
    assert share[0] > share[2], f"the quick worker did not do more than the slow one: {share}"

"""A killed sink and a killed producer with clips of all families: pictures, times and sound over the parts are the
source's."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import pytest

from tests.integration.faulty import Run
from tests.integration.judge import complaints, without_adts
from tests.marks import always
from tests.support import Place, frame_times, lines, numbered_clip, sound_packets

FRAMES = 250
#: How exactly each container stores a time, in seconds: MKV in milliseconds, MPEG-TS in units of 1/90000.
EXACTNESS = {".mp4": Fraction(1, 50_000), ".mkv": Fraction(1, 1000), ".ts": Fraction(1, 90_000)}
AAC = "-c:a aac"
X264 = "-c:v libx264 -preset veryfast"


@dataclass(frozen=True, slots=True)
class Case:
    """How ffmpeg makes a clip, and the containers that cannot hold its sound as it is."""

    end: str
    options: str
    sound: str = AAC
    recoded: tuple[str, ...] = ()


OPEN_GOP = f"{X264} -x264-params open-gop=1:keyint=25:min-keyint=25:bframes=3:b-adapt=0"
B_FRAMES = f"{X264} -bf 3 -g 50 -x264-params b-adapt=0"
HEVC = "-c:v libx265 -preset ultrafast -x265-params log-level=error:open-gop=1:keyint=25:bframes=4:b-adapt=0"
CASES = {
    "b_frames": Case("mp4", B_FRAMES),
    "b_frames_ts": Case("ts", B_FRAMES),
    "open_gop": Case("mp4", OPEN_GOP),
    "open_gop_mkv": Case("mkv", OPEN_GOP),
    "open_gop_ts": Case("ts", OPEN_GOP),
    "intra_refresh": Case("mp4", f"{X264} -x264-params intra-refresh=1:keyint=25:bframes=0"),
    "intra_refresh_ts": Case("ts", f"{X264} -x264-params intra-refresh=1:keyint=25:bframes=2"),
    "gop_250": Case("mp4", f"{X264} -g 250"),
    "hevc": Case("mp4", HEVC),
    "hevc_mkv": Case("mkv", HEVC),
    "hevc_ts": Case("ts", HEVC),
    "mpeg2": Case("ts", "-c:v mpeg2video -bf 2 -g 12 -q:v 4", "-c:a mp2", (".mp4",)),
    "mpeg2_mkv": Case("mkv", "-c:v mpeg2video -bf 2 -g 12 -q:v 4", "-c:a mp2", (".mp4",)),
    "vp9": Case("mkv", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 50 -auto-alt-ref 1 -lag-in-frames 8"),
    "mjpeg": Case("mkv", "-c:v mjpeg -q:v 3"),
    "asp_avi": Case("avi", "-c:v mpeg4 -bf 2 -g 30 -q:v 3", "-c:a libmp3lame"),
}


@pytest.mark.parametrize("part", always(["sink", "producer"], "sink"))
@pytest.mark.parametrize("name", always(CASES, "open_gop_ts"))
def test_family(place: Place, name: str, part: str) -> None:
    case = CASES[name]
    clip = numbered_clip(place.folder / f"clip.{case.end}", FRAMES, *case.options.split(), sound=case.sound)
    run = Run(place, clip, "--model", "echo:8")
    run.until_durable(80)
    run.kill(part)
    assert run.finish() == 0, run.err
    run.check_whole(FRAMES)
    assert f"{part} died (killed by SIGKILL); it is started again" in run.err
    times = frame_times(clip)
    assert [line["pts"] for line in lines(run.outputs[-1])] == [round(float(time), 6) for time in times]
    sound = [without_adts(packet) for packet in sound_packets(clip)]
    assert len(sound) > 100
    for path in run.outputs[:-1]:
        parts = run.parts(path)
        assert len(parts) == 2
        if path.suffix not in case.recoded:
            found = [without_adts(packet) for part in parts for packet in sound_packets(part)]
            assert found == sound, f"{path.name}: sound over the parts"
        count = 0
        for file in parts:
            assert complaints(file) == "", file.name
            here = frame_times(file)
            wanted = times[count : count + len(here)]
            # MP4 begins anew at zero in each part, or players would show nothing for the time of those before.
            shift = wanted[0] - here[0] if path.suffix == ".mp4" else 0
            worst = max(abs(one + shift - other) for one, other in zip(here, wanted, strict=True))
            assert worst <= EXACTNESS[path.suffix], f"{file.name}: {float(worst)} s"
            count += len(here)

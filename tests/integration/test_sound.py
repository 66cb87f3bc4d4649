"""Sound stays beside its picture, copied or re-encoded, in every container."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av
import pytest

from tests.integration.judge import beeps, complaints, flashes, seconds, without_adts
from tests.marks import always
from tests.support import ffmpeg, frame_times, headrace, sound_packets

#: A frame of sound may be added or cut at either end, in seconds.
LENGTH_SLACK_S = 0.06
#: Ears notice sound that is early by 45 ms (ITU-R BT.1359-1, detectability); in seconds.
SYNC_S = 0.04
#: Each second begins with a tenth of white and of a tone.
FLASH = "color=black:s=320x180:r=25,drawbox=c=white:t=fill:enable='lt(mod(t,1),0.1)'"
BEEP = "aevalsrc='0.8*sin(2*PI*1000*t)*lt(mod(t,1),0.1)':s=48000"


@dataclass(frozen=True, slots=True)
class Case:
    """A source's sound, and the containers that cannot hold it as it is: there it becomes AAC."""

    end: str
    options: str
    recoded: frozenset[str] = frozenset()
    channels: int = 1


CASES = {
    "aac": Case("mp4", "-c:a aac"),
    "aac_from_ts": Case("ts", "-c:a aac"),
    "mp3": Case("mp4", "-c:a libmp3lame"),
    "ac3": Case("mkv", "-c:a ac3"),
    "opus": Case("mkv", "-c:a libopus"),
    "flac": Case("mkv", "-c:a flac", frozenset({".ts"})),
    "pcm_5.1": Case("mkv", "-c:a pcm_s16le -ac 6", frozenset({".mp4", ".ts"}), 6),
    "mu_law": Case("avi", "-c:a pcm_mulaw -ar 8000", frozenset({".mp4", ".mkv", ".ts"})),
}


@pytest.fixture(scope="module", params=always(CASES, "aac_from_ts", "opus", "pcm_5.1", "mu_law"))
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, Path, list[Path]]:
    """The case, its source, and MP4, MKV and TS of one run."""
    case = CASES[request.param]
    folder = tmp_path_factory.mktemp("sound")
    source = folder / f"source.{case.end}"
    ffmpeg(
        "-f", "lavfi", "-i", FLASH, "-f", "lavfi", "-i", BEEP, "-t", "2.4",
        "-c:v", "libx264", "-preset", "ultrafast", *case.options.split(), source,
    )  # fmt: skip
    outputs = [folder / f"out.{end}" for end in ("mp4", "mkv", "ts")]
    done = headrace(
        "run", source, "--model", "echo", "--preset", "ultrafast", *[text for path in outputs for text in ("-o", path)]
    )
    assert done.code == 0, done.err
    return case, source, outputs


def test_sound_is_copied_or_becomes_aac(ran: tuple[Case, Path, list[Path]]) -> None:
    case, source, outputs = ran
    with av.open(str(source)) as container:
        wanted = container.streams.audio[0].codec_context.name
    for output in outputs:
        recoded = output.suffix in case.recoded
        with av.open(str(output)) as container:
            (track,) = container.streams.audio
            assert track.codec_context.name == ("aac" if recoded else wanted), output.suffix
            assert track.codec_context.channels == case.channels
        if not recoded:
            copies = [without_adts(packet) for packet in sound_packets(output)]
            assert copies == [without_adts(packet) for packet in sound_packets(source)], output.suffix


def test_flash_and_beep_stay_together(ran: tuple[Case, Path, list[Path]]) -> None:
    _, source, outputs = ran
    wanted = gaps(source)
    assert len(wanted) == 3
    for output in outputs:
        found = gaps(output)
        assert len(found) == 3, output.suffix
        worst = max(abs(one - other) for one, other in zip(found, wanted, strict=True))
        assert worst <= SYNC_S, f"{output.suffix}: sound has moved by {worst * 1000:.0f} ms"


def test_sound_lasts_as_long(ran: tuple[Case, Path, list[Path]]) -> None:
    _, source, outputs = ran
    for output in outputs:
        assert length(output) == pytest.approx(length(source), abs=LENGTH_SLACK_S), output.suffix
        # As long as the longer of picture and sound.
        assert seconds(output) == pytest.approx(max(length(source), 2.4), abs=0.1), output.suffix
        assert complaints(output) == "", output.suffix


def gaps(path: Path) -> list[float]:
    """From each flash to its beep, in seconds."""
    return [beep - flash for flash, beep in zip(flashes(path), beeps(path), strict=True)]


def length(path: Path) -> float:
    """From the first sample that is heard to the last, in seconds."""
    with av.open(str(path)) as container:
        frames = [(frame.time or 0.0, frame.samples / frame.sample_rate) for frame in container.decode(audio=0)]
    return frames[-1][0] + frames[-1][1] - max(frames[0][0], float(frame_times(path)[0]))

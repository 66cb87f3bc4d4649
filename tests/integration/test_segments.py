"""``headrace run`` into segments: each plays by itself, together they are the stream, also when the sink is killed."""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest

from tests.integration.faulty import Run
from tests.integration.judge import beeps, complaints, flashes, without_adts
from tests.integration.test_sound import BEEP, FLASH, SYNC_S
from tests.marks import slow
from tests.support import Place, ffmpeg, frame_times, ledger, lines, numbered_clip, numbers, sound_packets

FRAMES, RATE = 200, 25


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return numbered_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", FRAMES)


def segments(run: Run, pattern: str) -> list[Path]:
    """The files whose names match, as the ledger lists them; no other may lie there."""
    folder = run.place.folder
    named = [folder / part for part in ledger(run.outputs[0])["parts"]]
    found = [path for path in named if re.fullmatch(pattern, str(path.relative_to(folder)))]
    there = [path for path in folder.rglob("*") if re.fullmatch(pattern, str(path.relative_to(folder)))]
    assert set(found) == set(there), "the ledger names other files than there are"
    return found


@pytest.mark.slow
def test_a_row_of_files(place: Place, clip: Path) -> None:
    outputs = ("whole.mkv", "rec.mp4", "%Y-%m-%d/rec-%H%M%S.ts")
    run = Run(place, clip, "--model", "echo", "--segment", "2s", outputs=outputs)
    assert run.finish() == 0, run.err
    assert ledger(run.outputs[0])["states"] == {"annotated": FRAMES}
    sound = [without_adts(data) for data in sound_packets(clip)]
    for pattern in (r"whole-\d{6}\.mkv", r"rec-\d{6}\.mp4", r"\d{4}-\d\d-\d\d/rec-\d{6}(-\d+)?\.ts"):
        paths = segments(run, pattern)
        assert len(paths) == FRAMES // (2 * RATE)
        assert [number for path in paths for number in numbers(path)] == list(range(FRAMES))
        assert [without_adts(data) for path in paths for data in sound_packets(path)] == sound
        for path in paths:
            assert complaints(path) == ""
            times = frame_times(path)
            assert times[0] == 0
            assert all(abs(b - a - Fraction(1, RATE)) <= Fraction(1, 900) for a, b in pairwise(times))
    clock = [int(path.stem[4:6]) * 3600 + int(path.stem[6:8]) * 60 + int(path.stem[8:10]) for path in paths]
    assert all((b - a) % 86400 < 60 for a, b in pairwise(clock)), "named by the time of day, in order"


@pytest.mark.parametrize(("kind", "other"), [("mp4", "ts"), slow("mkv", "mp4")])
def test_a_killed_sink_goes_on_with_the_next_segment(place: Place, clip: Path, kind: str, other: str) -> None:
    run = Run(
        place, clip, "--model", "echo:20", "--segment", "1s",
        outputs=("out.jsonl", f"%Y/rec-%H%M%S.{kind}", f"cut.{other}"),
    )  # fmt: skip
    run.until_durable(60)
    run.kill("sink")
    run.until(lambda: run.resume["epoch"] == 2 and run.durable >= 110, "the next segments")
    run.kill("sink")
    assert run.finish() == 0, run.err
    assert ledger(run.outputs[0])["states"] == {"annotated": FRAMES}
    assert [line["index"] for line in lines(run.outputs[0])] == list(range(FRAMES))
    for pattern in (rf"\d{{4}}/rec-\d{{6}}(-\d+)?\.{kind}", rf"cut-\d{{6}}\.{other}"):
        paths = segments(run, pattern)
        assert 8 <= len(paths) <= 12
        assert [number for path in paths for number in numbers(path)] == list(range(FRAMES))
        assert all(frame_times(path)[0] == 0 for path in paths)
        assert complaints(paths[1]) == ""


@pytest.mark.slow
def test_flash_and_beep_stay_together_in_each_segment(place: Place) -> None:
    source = place.folder / "source.mkv"
    ffmpeg(
        "-f", "lavfi", "-i", FLASH, "-f", "lavfi", "-i", BEEP, "-t", "8.5",
        "-c:v", "libx264", "-preset", "ultrafast", "-g", "50", "-c:a", "pcm_s16le", source,
    )  # fmt: skip
    wanted = beeps(source)[0] - flashes(source)[0]
    run = Run(place, source, "--model", "echo", "--segment", "2s", outputs=("a.mp4", "b.mkv", "c.ts"))
    assert run.finish() == 0, run.err
    for pattern in (r"a-\d{6}\.mp4", r"b-\d{6}\.mkv", r"c-\d{6}\.ts"):
        found = 0
        for path in segments(run, pattern):
            heard = beeps(path)
            for flash in flashes(path):
                nearest = min(heard, key=lambda beep: abs(beep - flash - wanted))
                assert abs(nearest - flash - wanted) <= SYNC_S, path.name
                found += 1
        assert found == len(flashes(source))

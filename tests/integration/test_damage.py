"""Damaged streams: nothing that is known to be damaged goes to the model, good pictures follow the next keyframe, and
every run comes to its end. What is called good is compared with the whole stream's pictures."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from deploy.faults.clip import Clip, make, numbers
from tests.damaged import Judged, cut_short, join_late, judged, left_out, lose, moving_clip, remake, score
from tests.marks import slow
from tests.producer.test_resume import Walk, notices
from tests.support import Place, ffmpeg, ledger, lines

FRAMES = 75
#: Pictures from one keyframe to the next.
GROUP = 25
#: Shares of the transport packets that the run with numbers loses: of large pictures and of small ones.
LOSS = {"h264": 0.0005, "hevc": 0.002}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damage")


@pytest.fixture(scope="module")
def clip_of(folder: Path) -> Callable[[str], tuple[Path, list[Judged]]]:
    """A codec's clip, whole, and its pictures."""
    made: dict[str, tuple[Path, list[Judged]]] = {}

    def of(codec: str) -> tuple[Path, list[Judged]]:
        if codec not in made:
            clip = moving_clip(folder / f"{codec}.ts", codec, FRAMES)
            made[codec] = clip, judged(clip)
        return made[codec]

    return of


Clips = Callable[[str], tuple[Path, list[Judged]]]


@pytest.mark.parametrize("codec", ["h264", "hevc", "mpeg2"])
def test_whole_streams_have_no_damage(clip_of: Clips, codec: str) -> None:
    _, whole = clip_of(codec)
    assert len(whole) == FRAMES
    assert not any(one.damaged for one in whole)


@pytest.mark.parametrize(("share", "burst"), [(0.01, 1), (0.03, 7)])
@pytest.mark.parametrize("codec", ["h264", "hevc", "mpeg2"])
def test_lost_transport_packets(clip_of: Clips, tmp_path: Path, codec: str, share: float, burst: int) -> None:
    """No picture that is called good shows the loss, and there are good ones again behind it."""
    clip, whole = clip_of(codec)
    bad = tmp_path / "bad.ts"
    visible = recovered = 0
    for seed in range(2):
        bad.write_bytes(lose(clip.read_bytes(), share, seed, burst))
        pictures = judged(bad)
        found = score(whole, pictures)
        assert found.missed == 0, found
        visible += found.visible
        verdicts = [one.damaged for one in pictures]
        recovered += (True, False) in pairwise(verdicts)
    assert visible > 10, "the loss was too small to prove anything"
    assert recovered


@pytest.mark.parametrize("codec", ["h264", "hevc", "mpeg2"])
def test_joined_late(clip_of: Clips, tmp_path: Path, codec: str) -> None:
    """No grey picture before the first keyframe, and none that refers to what was before it."""
    clip, whole = clip_of(codec)
    late = tmp_path / "late.ts"
    late.write_bytes(join_late(clip.read_bytes(), 0.4))
    pictures = judged(late)
    assert FRAMES / 2 - GROUP < len(pictures) < FRAMES * 0.6
    found = score(whole, pictures)
    assert (found.visible, found.damaged) == (0, 0)


@pytest.mark.parametrize("codec", ["h264", "mpeg2"])
@pytest.mark.parametrize("ending", ["mkv", "ts"])
def test_packets_cut_short(clip_of: Clips, tmp_path: Path, codec: str, ending: str) -> None:
    """The decoder tells, but of B-frames that it shows before the damaged picture to which they refer, too late."""
    clip, whole = clip_of(codec)
    bad = remake(clip, tmp_path / f"bad.{ending}", cut_short(0.05, 1))
    pictures = judged(bad)
    found = score(whole, pictures, same_start=True)
    assert found.visible > 5
    assert found.missed_share < 0.1, found
    assert found.missed <= 4, found


@pytest.mark.parametrize("ending", ["mp4", "ts"])
def test_pictures_that_were_left_out_of_h264(clip_of: Clips, tmp_path: Path, ending: str) -> None:
    """By a server between: the container is whole, the decoder conceals it."""
    clip, whole = clip_of("h264")
    bad = remake(clip, tmp_path / f"bad.{ending}", left_out(0.05, 1))
    pictures = judged(bad)
    assert not any(one.flagged for one in pictures)
    found = score(whole, pictures, same_start=True)
    assert found.visible > 5
    assert found.missed == 0, found
    assert found.damaged < found.pictures


def test_pictures_that_were_left_out_of_hevc(clip_of: Clips, tmp_path: Path) -> None:
    """Its decoder gives no picture of which a reference is missing."""
    clip, whole = clip_of("hevc")
    pictures = judged(remake(clip, tmp_path / "bad.ts", left_out(0.05, 1)))
    found = score(whole, pictures, same_start=True)
    assert (found.visible, found.damaged) == (0, 0)
    assert 10 < found.pictures < FRAMES - 5


@pytest.mark.parametrize(("codec", "most"), [("h264", 0), ("mpeg2", 0), ("hevc", 2)])
def test_joined_recordings(clip_of: Clips, tmp_path: Path, codec: str, most: int) -> None:
    """The counters of the transport stream begin anew, which looks like loss. HEVC's decoder cannot say it was none."""
    clip, _ = clip_of(codec)
    both = tmp_path / "both.ts"
    both.write_bytes(clip.read_bytes() * 2)
    pictures = judged(both)
    assert len(pictures) == 2 * FRAMES
    assert sum(one.damaged for one in pictures) <= most


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_what_the_model_is_sent(clip_of: Clips, tmp_path: Path, codec: str) -> None:
    """All but what is damaged; and when the sink begins anew, everything is what it was."""
    bad = tmp_path / "bad.ts"
    bad.write_bytes(lose(clip_of(codec)[0].read_bytes(), 0.01, 1))
    damaged = {index for index, one in enumerate(judged(bad)) if one.damaged}
    walk = Walk(bad)
    walk.begin()
    told = notices(walk.run())
    assert {one[0] for one in told if one[5:7] == ("corrupt", "corrupt")} == damaged != set()
    sent = [frame.index for frame in walk.frames]
    assert sent == [one[0] for one in told if one[0] not in damaged]
    for resume in (3, 30, 55):
        walk.frames.clear()
        assert walk.restart(resume)
        assert notices(walk.run()) == told[resume:]
        assert [frame.index for frame in walk.frames] == [index for index in sent if index >= resume]


def run(place: Place, name: str) -> tuple[dict[str, int], dict[str, int]]:
    """Run the command over a damaged file. Returns the ledger's states and reasons, of which what must hold holds."""
    ran = place.run("run", name, "-o", "out.mp4", "-o", "out.jsonl", "--model", "echo")
    found = ledger(place.folder / "out.mp4")
    told = lines(place.folder / "out.jsonl")
    assert [one["index"] for one in told] == list(range(found["frames"]))
    corrupt = [one for one in told if one.get("reason") == "corrupt"]
    assert {one["state"] for one in corrupt} <= {"failed"}
    assert len(corrupt) == found["reasons"].get("corrupt", 0)
    assert ran.code == (1 if found["states"].get("failed") else 0), ran
    assert found["states"].get("skipped", 0) + found["states"].get("late", 0) + found["states"].get("lost", 0) == 0
    return found["states"], found["reasons"]


@pytest.mark.parametrize("codec", ["h264", slow("hevc")])
def test_a_run_shows_what_it_annotated(place: Place, codec: str) -> None:
    """Each annotated picture is the one that it should be: it shows its number."""
    clip = make(place.folder / "whole.mp4", Clip(FRAMES, sound=False, noise=60))
    track = ["-c", "copy"] if codec == "h264" else ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params"]
    more = [] if codec == "h264" else ["keyint=25:bframes=0:log-level=none"]
    ffmpeg("-i", clip, *track, *more, place.folder / "whole.ts")
    whole = (place.folder / "whole.ts").read_bytes()
    (place.folder / "bad.ts").write_bytes(lose(whole, LOSS[codec], 1))
    states, reasons = run(place, "bad.ts")
    assert reasons["corrupt"] > 3
    assert states["annotated"] > 20
    told = [one for one in lines(place.folder / "out.jsonl") if one.get("reason") != "no_picture"]
    shown = numbers([place.folder / "out.mp4"])
    assert len(shown) == len(told)
    first = told[0]["pts"]
    for one, number in zip(told, shown, strict=True):
        if one["state"] == "annotated":
            assert number == round((one["pts"] - first) * 25), one


#: Names of what is done to a stream, and how; the container.
SPOILERS: dict[str, tuple[str, Callable[[Path, Path], object]]] = {
    "loss": ("ts", lambda clip, bad: bad.write_bytes(lose(clip.read_bytes(), 0.02, 3))),
    "bursts": ("ts", lambda clip, bad: bad.write_bytes(lose(clip.read_bytes(), 0.1, 4, 7))),
    "heavy": ("ts", lambda clip, bad: bad.write_bytes(lose(clip.read_bytes(), 0.3, 5))),
    "late": ("ts", lambda clip, bad: bad.write_bytes(join_late(clip.read_bytes(), 0.45))),
    "cut": ("mkv", lambda clip, bad: remake(clip, bad, cut_short(0.2, 6))),
    "all_cut": ("mp4", lambda clip, bad: remake(clip, bad, cut_short(0.9, 7))),
    "left_out": ("ts", lambda clip, bad: remake(clip, bad, left_out(0.2, 8))),
}


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("name", SPOILERS)
def test_every_run_comes_to_its_end(place: Place, clip_of: Clips, codec: str, name: str) -> None:
    ending, spoil = SPOILERS[name]
    spoil(clip_of(codec)[0], place.folder / f"bad.{ending}")
    states, _ = run(place, f"bad.{ending}")
    assert sum(states.values()) > 5

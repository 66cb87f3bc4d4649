"""An HLS folder: a playlist that players can follow, old segments removed, and a way on after sudden ends."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from sink.sender.playlist import REACH, Before, clear, parse, segment_name, segment_pattern
from tests.builders import TICK
from tests.sink.sent import RATE, Sending, noise, read
from tests.sink.test_network import PATIENCE, connected, consecutive, counts, senders
from tests.support import wait_for


def playlist(path: Path) -> list[str]:
    return path.read_text().splitlines()


def segments(folder: Path) -> list[int]:
    return sorted(int(found[1]) for one in folder.iterdir() if (found := re.fullmatch(r"live-(\d{6})\.ts", one.name)))


def listed(path: Path) -> list[int]:
    return parse(path.read_text(), path)[0]


def sequence(path: Path) -> int:
    (line,) = [line for line in playlist(path) if line.startswith("#EXT-X-MEDIA-SEQUENCE:")]
    return int(line.split(":")[1])


def removed(folder: Path) -> bool:
    """Remove a folder that somebody writes to."""
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


def test_old_segments_go_and_the_playlist_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "new" / "live.m3u8"
    with Sending(path, mode="lossless", segment=1.0, speed=16) as sending:
        sending.begin()
        sending.until(
            lambda: path.exists() and sequence(path) >= 4, PATIENCE, "four segments that are no longer listed"
        )
        assert len(listed(path)) == 6
        assert "#EXT-X-ENDLIST" not in path.read_text()
        sending.close()
    assert playlist(path)[-1] == "#EXT-X-ENDLIST"
    assert "#EXT-X-INDEPENDENT-SEGMENTS" in playlist(path)
    lengths = [float(line[8:-1]) for line in playlist(path) if line.startswith("#EXTINF:")]
    assert all(length == pytest.approx(2.0) for length in lengths[:-1]), "cut at keyframes: one every two seconds"
    assert listed(path)[0] == sequence(path)
    kept = segments(path.parent)
    assert kept[-len(listed(path)) :] == listed(path)
    assert len(kept) <= 6 + 3
    assert kept[0] > 0, "the first ones are removed"
    assert not list(path.parent.glob("*.tmp"))
    seen = read(path)
    assert consecutive(seen.numbers)
    assert seen.numbers[-1] == sending.position - 1
    assert counts(sending)["dropped"] == 0


def test_after_a_sudden_end_players_can_stay(tmp_path: Path) -> None:
    path = tmp_path / "live.m3u8"
    with Sending(path, mode="lossless", speed=4) as sending:
        sending.until(lambda: path.exists() and len(listed(path)) >= 2, PATIENCE, "two segments")
        before, last = sequence(path), listed(path)[-1]
        senders()[0].kill()
        sending.until(connected(sending, times=2), PATIENCE, "another sender")
        sending.until(lambda: "#EXT-X-DISCONTINUITY" in playlist(path), PATIENCE, "where the new one begins")
        assert playlist(path).count("#EXT-X-DISCONTINUITY") == 1
        sending.until(lambda: listed(path)[-1] > last + 1, PATIENCE, "more segments")
        assert sequence(path) >= before
        assert listed(path) == list(range(sequence(path), sequence(path) + len(listed(path))))
        sending.close()
    assert len(segments(tmp_path)) <= 6 + 3
    assert not list(tmp_path.glob("*.tmp"))


def test_players_stay_where_another_one_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "live.m3u8"
    with Sending(path, mode="lossless", speed=8) as sending:
        sending.begin()
        sending.play(120 - sending.position)
        sending.close(goes_on=True)
    before = listed(path)
    assert len(before) == 3
    assert "#EXT-X-ENDLIST" not in playlist(path)
    with Sending(path, mode="lossless", speed=8, again=True) as sending:
        sending.begin()
        sending.play(60 - sending.position)
        sending.close()
    assert listed(path) == list(range(5)), "numbers go on, and nothing was removed"
    assert playlist(path).count("#EXT-X-DISCONTINUITY") == 1
    assert playlist(path)[-1] == "#EXT-X-ENDLIST"
    assert playlist(path).count("#EXT-X-ENDLIST") == 1
    assert segments(tmp_path) == listed(path)


def test_an_outage_makes_no_segment_longer(tmp_path: Path) -> None:
    path = tmp_path / "live.m3u8"
    with Sending(path, sounds=[noise(4)]) as sending:
        sending.begin()
        sending.play(110 - sending.position)
        sending.away = 600 * RATE * TICK
        sending.until(lambda: "#EXT-X-DISCONTINUITY" in playlist(path), PATIENCE, "where it goes on")
        sending.until(lambda: len(listed(path)) >= 4, PATIENCE, "segments after that")
        assert "#EXT-X-ENDLIST" not in path.read_text()
        sending.close()
    assert "#EXT-X-TARGETDURATION:2" in playlist(path)
    assert playlist(path).count("#EXT-X-DISCONTINUITY") == 1
    assert counts(sending)["connections"] == 2


def test_another_stream_takes_nothing_over_but_the_number(tmp_path: Path) -> None:
    path = tmp_path / "live.m3u8"
    for _ in range(2):
        before = listed(path) if path.exists() else []
        with Sending(path, mode="lossless", sounds=[noise(5)], speed=8) as sending:
            sending.begin()
            sending.play(120 - sending.position)
            sending.close()
        assert "#EXT-X-DISCONTINUITY" not in playlist(path)
        assert segments(tmp_path) == listed(path)
        assert not before or listed(path)[0] > before[-1]
        seen = read(path)
        assert seen.numbers == list(range(120))
        assert seen.offset(sending.sound_times) <= 0.04


@pytest.mark.slow
def test_a_folder_that_is_removed_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "live.m3u8"
    with Sending(path, mode="lossless", speed=8) as sending:
        sending.until(path.exists, PATIENCE, "a playlist")
        wait_for(lambda: removed(path.parent), PATIENCE, "no folder")
        sending.until(lambda: path.exists() and counts(sending)["connections"] == 2, PATIENCE, "another playlist")
        sending.close()
    assert playlist(path)[-1] == "#EXT-X-ENDLIST"


@pytest.mark.slow
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with Sending(tmp_path / "file" / "live.m3u8", tmp_path / "a.mkv") as sending:
        told = lambda: "".join(sending.rack.troubles().values())  # noqa: E731
        sending.until(lambda: "Not a directory" in told() or "File exists" in told(), PATIENCE, "the reason")
        sending.close()
        assert "nothing could be sent to" in sending.rack.error


def test_names_that_mean_something_to_ffmpeg(tmp_path: Path) -> None:
    name = "cam:1 %05d 100%-000001"
    path = tmp_path / name / f"{name}.m3u8"
    with Sending(path, mode="lossless", speed=8) as sending:
        sending.begin()
        sending.play(60 - sending.position)
        sending.close()
        assert sending.rack.error == ""
    assert {one.name for one in path.parent.iterdir()} == {path.name, *(segment_name(path, one) for one in (0, 1))}
    assert read(f"file:{path}").numbers == list(range(60))


def test_what_is_left_over_is_removed_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "live.m3u8"
    path.write_text("#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:40\n#EXTINF:2,\nlive-000040.ts\n#EXTINF:2,\nlive-000041.ts\n")
    ours = [segment_name(path, number) for number in (40 - REACH, 39, 40, 41, 42)] + ["live-000042.ts.tmp"]
    others = ["live-000001.ts", "live-000042.tsx", "other-000041.ts", "live-41.ts", "notes.txt"]
    for name in ours + others:
        (tmp_path / name).touch()
    assert clear(path, again=False) == Before(42, goes_on=True)
    assert {one.name for one in tmp_path.iterdir()} == {path.name, "live-000040.ts", "live-000041.ts", *others}
    path.write_text(path.read_text() + "#EXT-X-ENDLIST\n")
    assert clear(path, again=True) == Before(42, goes_on=True)
    assert clear(path, again=False) == Before(42, goes_on=False)
    assert {one.name for one in tmp_path.iterdir()} == set(others)
    assert clear(path, again=False) == Before(0, goes_on=False)


@pytest.mark.parametrize(
    "text", ["", "\0\xff", "#EXTM3U\n../../live-000001.ts\n/etc/live-000001.ts\nhttp://x/live-000001.ts\n", "live-1.ts"]
)
def test_a_playlist_of_somebody_else_says_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "live.m3u8"
    path.write_text(text)
    assert clear(path, again=False) == Before(0, goes_on=False)


def test_the_pattern_is_a_name() -> None:
    assert segment_pattern(Path("/a%b/c%: d.m3u8")) == "c___d-%06d.ts"
    assert segment_name(Path("/x/live.m3u8"), 7) == "live-000007.ts"
    assert segment_name(Path("/x/live.m3u8"), 1234567) == "live-1234567.ts"

"""HLS over deaths of parts: players stay, and lose no segment that they have been told of."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from sink.sender.playlist import parse
from tests.marks import slow
from tests.support import Place, numbered_clip, wait_for

#: Seconds for what takes two on an idle machine.
PATIENCE = 60.0


@pytest.mark.parametrize("part", ["producer", slow("sink")])
def test_a_part_that_is_killed_does_not_end_the_playlist(place: Place, tmp_path: Path, part: str) -> None:
    clip = numbered_clip(tmp_path / "clip.mp4", 100)
    path = place.folder / "live" / "index.m3u8"
    seen: list[str] = []

    def text() -> str:
        if path.exists():
            seen.append(path.read_text())
        return seen[-1] if seen else ""

    process = place.start(
        "run", clip, "--loop", "-o", "live/", "--model", "echo", "--preset", "ultrafast", err=tmp_path / "err.txt"
    )
    try:
        wait_for(lambda: "index-000000.ts" in text(), PATIENCE, "a segment")
        place.parts(part)[0].kill()
        wait_for(lambda: "#EXT-X-DISCONTINUITY" in text(), PATIENCE, "where it goes on")
        assert not [one for one in seen if "#EXT-X-ENDLIST" in one], "players leave at its sight"
        assert "index-000000.ts" in text(), "what was told of is not taken back"
        listed = parse(text(), path)[0]
        assert listed == list(range(len(listed)))
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE)
    assert parse(text(), path)[1], "the end of the run is the end of the playlist"

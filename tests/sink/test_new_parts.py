"""``on_change = "part"``: a source that comes back with another size or sound begins new files, one that does not goes
on in the old ones."""

from __future__ import annotations

from pathlib import Path

import av

from tests.integration.changing import Camera, Look, look_at, make, plays_through
from tests.sink.test_changes import watch

SMALL = Look(size=(320, 180))
LARGE = Look(size=(480, 270), first=200)
MUTE = Look(size=(320, 180), sound=(), first=300)
SAME = Look(size=(320, 180), first=100)


def shape(path: Path) -> tuple[int, int, int]:
    """Width, height and sound tracks."""
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        return context.width, context.height, len(container.streams.audio)


def test_only_what_differs_begins_a_new_part(tmp_path: Path) -> None:
    clips = [make(tmp_path / f"{number}.ts", look) for number, look in enumerate((SMALL, SAME, LARGE, MUTE))]
    camera = Camera(clips[0]).play()
    for clip in clips[1:]:
        camera.away(0.5).back(clip).play()
    camera.end()
    outputs = tmp_path / "out.mkv", tmp_path / "out.mp4", tmp_path / "out.jsonl"
    stream = watch(camera, *outputs, on_change="part")
    assert stream.closed is not None
    assert not stream.closed.error
    for kind in ("mkv", "mp4"):
        parts = [tmp_path / name for name in (f"out.{kind}", f"out.part2.{kind}", f"out.part3.{kind}")]
        assert [shape(part) for part in parts] == [(320, 180, 1), (480, 270, 1), (320, 180, 0)]
        assert not (tmp_path / f"out.part4.{kind}").exists()
        seen: list[int] = []
        for part, looks in zip(parts, ((SMALL, SAME), (LARGE,), (MUTE,)), strict=True):
            plays_through(part)
            seen += [one.number for one in look_at(part, *(look.shape for look in looks)) if one.number is not None]
        assert seen == sorted(seen)
        assert len(set(seen)) == len(seen)
        assert len(seen) == stream.ledger.announced
    assert len(outputs[2].read_text().splitlines()) == stream.ledger.announced

"""A stream's life as its parts tell it, and its end."""

from __future__ import annotations

import pytest

from common.errors import Exit
from deploy.streams import MAX_ENDED, RATE_S, STALLED_S, WORD_S, StreamLife, Streams, part_of, stream_in
from tests.deploy.lives import Scene, result, stream


@pytest.fixture
def scene() -> Scene:
    return Scene("a", "b")


def life(scene: Scene, name: str = "a") -> StreamLife:
    found = scene.streams.get(name)
    assert found is not None
    return found


def end(scene: Scene, code: int, why: str = "why", name: str = "a", sink: bool = True) -> tuple[Exit, str]:
    """The producer has ended; the verdict."""
    life(scene, name).exited(code, why, scene.now)
    scene.now += WORD_S
    assert [one.name for one in scene.streams.settle(scene.now, sink)] == [name]
    assert scene.streams.settle(scene.now, sink) == [], "an end comes once"
    scene.streams.check()
    ended = life(scene, name).ended
    assert ended is not None
    return ended.code, ended.why


def test_names_of_parts() -> None:
    assert stream_in(part_of("a: b")) == "a: b"
    assert stream_in("worker-1") is None


def test_a_life(scene: Scene) -> None:
    one = life(scene)
    assert (one.state, one.share, one.rate(scene.now)) == ("starting", None, 0.0)
    scene.produce("a", state="opening", why="refused")
    assert (one.state, one.why) == ("starting", "refused")
    scene.open("a")
    scene.produce("a")
    assert (one.state, one.total, one.in_flight) == ("starting", 100, 7)
    scene.show("a", 10, annotated=6, skipped=2, pending=2)
    assert (one.state, one.frames, one.share) == ("running", 10, 0.75)
    scene.produce("a", state="away", why="it said nothing")
    assert (one.state, one.why, one.since(scene.now)) == ("away", "it said nothing", 5.0)
    scene.produce("a")
    assert (one.state, one.why) == ("running", "")
    one.leaving = True
    assert one.state == "leaving"
    scene.say("sink", result("a", 12))
    assert end(scene, 0) == (Exit.OK, "")
    scene.now += 3
    assert (one.state, one.frames, one.since(scene.now), one.rate(scene.now)) == ("ended", 12, 3.0, 0.0)
    assert life(scene, "b").state == "starting", "the other one heard nothing of it"
    assert not scene.streams.over


def test_rate_follows_the_frames_and_falls_when_none_come(scene: Scene) -> None:
    one = life(scene)
    for frames in range(0, 121, 3):  # 12 a second
        scene.show("a", frames)
        assert frames < 12 or one.rate(scene.now) == pytest.approx(12.0)
        scene.now += 0.25
    scene.now += STALLED_S
    assert one.rate(scene.now) < 12
    scene.now += 100 * RATE_S
    assert one.rate(scene.now) < 0.1
    scene.show("a", 50)  # from the last durable frame on
    assert 0 <= one.rate(scene.now) < 1


@pytest.mark.parametrize(
    ("code", "closed", "verdict"),
    [
        (0, result("a"), (Exit.OK, "")),
        (0, result("a", 2, failed=2, reasons={"poison": 2}), (Exit.INCOMPLETE, "2 failed of 2 frames (poison 2)")),
        (0, result("a", error="disk full"), (Exit.OUTPUT, "disk full")),
        (3, result("a", error="disk full"), (Exit.OUTPUT, "disk full")),
        (3, None, (Exit.SOURCE, "why")),
        (3, result("a"), (Exit.SOURCE, "why")),
        (1, result("a", 3, lost=3), (Exit.INCOMPLETE, "3 lost of 3 frames")),
        (0, None, (Exit.INCOMPLETE, "stopped before the outputs were closed: what was written before stays playable")),
        (77, None, (Exit.LINK, "why")),
    ],
)  # fmt: skip
def test_how_it_ended(scene: Scene, code: int, closed: object, verdict: tuple[Exit, str]) -> None:
    if closed is not None:
        scene.say("sink", closed)  # type: ignore[arg-type]
    assert end(scene, code) == verdict
    assert scene.streams.code == verdict[0]


def test_the_sinks_last_word_is_waited_for(scene: Scene) -> None:
    one = life(scene)
    one.exited(0, "", scene.now)
    assert scene.streams.settle(scene.now + WORD_S - 0.1, sink=True) == []
    scene.say("sink", result("a"))
    assert scene.streams.settle(scene.now + WORD_S - 0.1, sink=True) == [one]
    other = life(scene, "b")
    other.exited(0, "", scene.now)
    assert scene.streams.settle(scene.now, sink=False) == [other], "nobody is there to say it"
    assert scene.streams.over
    assert scene.streams.code == Exit.INCOMPLETE


@pytest.mark.parametrize("code", [-15, -9, 130, 3])
def test_one_that_was_told_to_leave_is_judged_by_its_ledger(scene: Scene, code: int) -> None:
    life(scene).leaving = life(scene, "b").leaving = True
    scene.say("sink", result("a", 5))
    assert end(scene, code) == (Exit.OK, "")
    scene.show("b", 5)
    assert end(scene, code, name="b")[0] == Exit.INCOMPLETE, "nobody has closed it"


def test_one_that_had_not_begun_leaves_nothing_undone(scene: Scene) -> None:
    life(scene).leaving = True
    assert end(scene, -15) == (Exit.OK, "")


def test_the_highest_code_counts_without_those_that_were_removed() -> None:
    scene = Scene("a", "b", "c")
    life(scene, "b").removed = True
    assert end(scene, 3, name="a")[0] == Exit.SOURCE
    assert end(scene, 6, name="b")[0] == Exit.LINK
    assert scene.streams.code == Exit.SOURCE
    scene.say("sink", result("c", error="no space"))
    assert end(scene, 0, name="c")[0] == Exit.OUTPUT
    assert scene.streams.code == Exit.OUTPUT


def test_what_need_not_be_done_again_only_grows(scene: Scene) -> None:
    scene.show("a", 50, durable=20)
    assert life(scene).reached == 50, "live frames are not done again"
    scene.show("b", 10)
    assert scene.streams.reached == 60
    scene.show("a", 40, durable=40)
    scene.streams.drop("b")
    assert scene.streams.reached == 60
    lossless = Scene("a", mode="lossless")
    lossless.show("a", 50, durable=20)
    assert lossless.streams.reached == 20


def test_several_and_too_many() -> None:
    scene = Scene("a")
    assert not scene.streams.several
    scene.streams.add(stream("b"), scene.now)
    assert scene.streams.several
    scene.streams.drop("b")
    assert scene.streams.several, "it has been so"
    for number in range(MAX_ENDED + 2):
        name = str(number)
        scene.streams.add(stream(name), scene.now)
        life(scene, name).exited(3, "", scene.now)
    scene.streams.settle(scene.now, sink=True)
    assert scene.streams.stale() == ["0", "1"]


def test_strangers_words_are_no_matter(scene: Scene) -> None:
    for child in ("sink", "broker", "producer:x", "worker-1"):
        scene.say(child, {"event": "progress", "stream": "x"})
        scene.say(child, {"event": "nonsense"})
    assert life(scene).state == "starting"
    assert Streams([], 0.0).over

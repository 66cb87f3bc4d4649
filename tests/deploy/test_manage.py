"""What a fleet makes of the wish to list, add or remove streams."""

from __future__ import annotations

import errno
import os
from typing import Any

import msgspec
import pytest

from common import config
from common.errors import Exit
from deploy.children import Said
from deploy.control import Add, Answer, List, Remove, Request
from deploy.manage import FORGET_S, MAX_STREAMS, WRITE_S, Manager
from deploy.streams import MAX_ENDED, StreamLife, part_of
from tests.deploy.lives import Scene, result, stream, trouble


class Line:
    """Stands for the socket: what is asked, and what was answered."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, Request]] = []
        self.answers: dict[Any, Answer] = {}
        self.closed = False

    def poll(self, now: float) -> list[tuple[Any, Request]]:
        asked, self.asked = self.asked, []
        return asked

    def answer(self, peer: Any, answer: Answer) -> None:
        assert peer not in self.answers, "one answer each"
        self.answers[peer] = answer

    def close(self) -> None:
        self.closed = True


class Fleet(Scene):
    """The run, as far as the manager sees it: what it was told to do is in ``done``."""

    def __init__(self, *names: str) -> None:
        super().__init__(*names)
        self.stopping, self.has_sink = False, True
        self.done: list[str] = []
        self.notes: list[str] = []
        self.no_space = self.no_room = False  # nothing can be written, or started
        self.line = Line()
        known = config.Fleet(
            broker=config.Broker(frames="a", workers="b", news="c"), sink=config.Sink(media="d", results="e"),
            workers=config.Workers(model="echo"), streams=[stream("x")],
        )  # fmt: skip
        self.manager = Manager(self, known, "farm", self.line)  # type: ignore[arg-type]
        self._peers = iter(range(1000))

    def note(self, text: str) -> None:
        self.notes.append(text)

    def write(self) -> None:
        if self.no_space:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = [life.name for life in self.streams if not life.dropped]
        self.done.append(f"write {' '.join(written)}".strip())

    def start(self, name: str) -> None:
        if self.no_room:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        self.done.append(f"start {name}")

    def drain(self, life: StreamLife) -> None:
        life.leaving = True
        self.done.append(f"drain {life.name}")

    def kill(self, *names: str) -> None:
        self.done.append(f"kill {' '.join(names)}")

    def forget(self, life: StreamLife) -> None:
        self.streams.drop(life.name)
        self.done.append(f"forget {life.name}")

    def ask(self, request: Request) -> int:
        """Who has asked; see :meth:`answer`."""
        peer = next(self._peers)
        self.line.asked.append((peer, request))
        self.go()
        return peer

    def answer(self, request: Request) -> Answer:
        return self.line.answers[self.ask(request)]

    def told(self, peer: int) -> str | None:
        answer = self.line.answers.get(peer)
        return None if answer is None else answer.error or answer.done

    def go(self, seconds: float = 0.0) -> None:
        """One turn of the run's loop, ``seconds`` later."""
        self.now += seconds
        self.manager.serve(self.now)
        self.streams.settle(self.now, self.has_sink)
        self.manager.tidy(self.now)

    def leave(self, name: str, code: int = 0, closed: bool = True) -> None:
        """Its producer has ended, and the sink with it."""
        if closed:
            self.say("sink", result(name))
        life = self.streams.get(name)
        assert life is not None
        life.exited(code, "gone", self.now)
        self.go()

    def forgotten(self, name: str) -> None:
        """The sink's word."""
        self.manager.hear(Said("sink", "status", {"event": "forgotten", "stream": name}))
        self.go()


@pytest.fixture
def fleet() -> Fleet:
    return Fleet("a", "b")


def test_the_list(fleet: Fleet) -> None:
    fleet.show("a", 20, trouble("output_away a rtmp://x", "rtmp://x is away", 4), annotated=5, skipped=15)
    fleet.produce("b", state="away", why="rtsp://u:secret@host/b refused")
    answer = fleet.answer(List())
    assert (answer.fleet, answer.error) == ("farm", "")
    a, b = answer.streams
    assert (a.name, a.state, a.frames, a.annotated, a.mode, a.model) == ("a", "running", 20, 0.25, "live", "echo")
    assert a.source == "rtsp://***@host/a"
    assert [(one.path, one.kind) for one in a.outputs] == [("a.mp4", "mp4")]
    assert a.troubles == ["rtmp://x is away (4 s)"]
    assert (b.state, b.since, b.annotated, b.troubles) == ("away", 5.0, None, [])
    assert b.why == "rtsp://***@host/b refused"
    assert fleet.done == []


def test_added_ones_are_written_before_they_start(fleet: Fleet) -> None:
    assert fleet.answer(Add([stream("c"), stream("d")])).done == "added c, d"
    assert fleet.done == ["write a b c d", "start producer:c", "start producer:d"]
    assert [row.name for row in fleet.answer(List()).streams] == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("new", "words", "code"),
    [
        ([stream("a")], "there is a stream 'a' already", 2),
        ([stream("c"), stream("c")], "there is a stream 'c' already", 2),
        ([stream("c", outputs=[config.Output(path="./a.mp4", kind="mp4")])], "is an output of stream 'a' already", 2),
        ([stream("c"), stream("d", outputs=[config.Output(path="c.mp4", kind="mp4")])], "c.mp4 is an output of", 2),
        ([stream("c", model="objects")], "no worker of this fleet serves 'objects', but echo", 5),
        ([stream(str(number)) for number in range(MAX_STREAMS)], f"at most {MAX_STREAMS} streams, this one has 2", 2),
    ],
)
def test_all_or_none(fleet: Fleet, new: list[config.Stream], words: str, code: int) -> None:
    answer = fleet.answer(Add(new))
    assert words in answer.error
    assert answer.exit_code == code
    assert fleet.done == []
    assert len(fleet.streams) == 2


def test_a_model_that_somebody_else_serves(fleet: Fleet) -> None:
    fleet.manager.hear(Said("broker", "status", {"event": "progress", "models": ["echo", "objects"]}))
    assert fleet.answer(Add([stream("c", model="objects")])).done
    assert "serves 'face', but echo, objects" in fleet.answer(Add([stream("d", model="face")])).error


def test_removed_when_it_is_at_its_end_and_forgotten(fleet: Fleet) -> None:
    peer = fleet.ask(Remove("a", 30.0))
    other = fleet.ask(Remove("a", 60.0))
    assert fleet.done == ["drain a"]
    assert "there is a stream 'a' already" in fleet.answer(Add([stream("a")])).error
    fleet.leave("a")
    fleet.go(0.1)
    assert fleet.done == ["drain a", "write b"]
    assert fleet.told(peer) is None, "the sink has not forgotten it"
    fleet.forgotten("b")
    assert fleet.told(peer) is None
    fleet.forgotten("a")
    assert fleet.told(peer) == fleet.told(other) == "removed a, 9 frames"
    assert fleet.done[2:] == ["forget a"]
    assert fleet.answer(Add([stream("a")])).done == "added a"
    assert fleet.streams.code == Exit.OK


def test_one_that_does_not_come_to_its_end_is_killed(fleet: Fleet) -> None:
    peer = fleet.ask(Remove("a", 30.0))
    fleet.go(29.9)
    assert fleet.done == ["drain a"]
    fleet.go(0.2)
    assert fleet.done == ["drain a", "kill producer:a"]
    fleet.show("a", 5)
    fleet.leave("a", -9, closed=False)
    fleet.go(5.0)  # the sink's word is waited for
    fleet.say("sink", result("a", 7, annotated=6, lost=1, reasons={"shutdown": 1}))
    fleet.forgotten("a")
    assert fleet.told(peer) == "removed a, 7 frames; 1 lost of 7 frames (shutdown 1)"


@pytest.mark.parametrize("sink", [True, False])
def test_a_sink_that_says_nothing_is_not_waited_for_for_ever(fleet: Fleet, sink: bool) -> None:
    peer = fleet.ask(Remove("a", 30.0))
    fleet.leave("a")
    fleet.has_sink = sink
    fleet.go(0.1)
    assert (fleet.told(peer) is None) == sink
    fleet.go(FORGET_S)
    assert fleet.told(peer) == "removed a, 9 frames"


def test_what_has_ended_by_itself(fleet: Fleet) -> None:
    fleet.leave("a", 3, closed=False)
    answer = fleet.answer(Add([stream("a")]))
    assert answer.error.endswith("it has ended: headrace streams remove a")
    (a, _) = fleet.answer(List()).streams
    assert (a.state, a.why) == ("ended", "gone")
    peer = fleet.ask(Remove("a", 30.0))
    fleet.go()
    fleet.forgotten("a")
    assert fleet.told(peer) == "removed a, 0 frames; gone"
    assert fleet.streams.code == Exit.OK, "how one that was removed has ended is nobody's business any more"


def test_unknown_names_and_a_fleet_that_ends(fleet: Fleet) -> None:
    assert fleet.answer(Remove("c", 1.0)).error == "there is no stream 'c': there are a, b"
    peer = fleet.ask(Remove("a", 30.0))
    fleet.leave("a")
    last = fleet.ask(Remove("b", 30.0))
    fleet.leave("b")
    for request in (Add([stream("c")]), Remove("a", 1.0)):
        answer = fleet.answer(request)
        assert (answer.error, answer.exit_code) == ("the fleet is ending", 6)
    fleet.manager.close()
    assert fleet.told(peer) == "removed a, 9 frames; it was the last one, the fleet ends"
    assert fleet.told(last) == "removed b, 9 frames; it was the last one, the fleet ends"
    assert fleet.line.closed
    other = Fleet("a")
    other.stopping = True
    assert other.answer(Add([stream("c")])).error == "the fleet is ending"
    assert other.answer(List()).streams


def test_one_that_cannot_be_started_is_as_if_it_had_never_been_added(fleet: Fleet) -> None:
    fleet.no_room = True
    answer = fleet.answer(Add([stream("c"), stream("d")]))
    assert (answer.error, answer.exit_code) == ("c, d cannot be added now: Too many open files", 6)
    assert fleet.done == ["write a b c d", "kill producer:c producer:d", "forget c", "forget d", "write a b"]
    fleet.no_room, fleet.no_space = False, True
    answer = fleet.answer(Add([stream("c")]))
    assert (answer.error, answer.exit_code) == ("c cannot be added now: No space left on device", 6)
    assert [row.name for row in fleet.answer(List()).streams] == ["a", "b"]
    fleet.no_space = False
    assert fleet.answer(Add([stream("c")])).done == "added c"


def test_a_full_disk_puts_off_a_removal(fleet: Fleet) -> None:
    """Who asks is told so, the others go on, and it is done as soon as it can be."""
    fleet.no_space = True
    peer = fleet.ask(Remove("a", 30.0))
    fleet.leave("a")
    assert fleet.line.answers[peer].exit_code == 4
    assert "a has ended, but is not forgotten yet" in (fleet.told(peer) or "")
    assert "No space left on device" in (fleet.told(peer) or "")
    for _ in range(9):
        fleet.go(WRITE_S)
    assert len(fleet.notes) == 1, "it is said once"
    assert "there is a stream 'a' already" in fleet.answer(Add([stream("a")])).error
    again = fleet.ask(Remove("a", 30.0))
    assert "is not forgotten yet" in (fleet.told(again) or "")
    fleet.no_space = False
    fleet.go(WRITE_S)
    assert fleet.done[-1] == "write b"
    last = fleet.ask(Remove("a", 30.0))
    fleet.forgotten("a")
    assert fleet.told(last) == "removed a, 9 frames"
    assert fleet.streams.get("a") is None


def test_the_last_one_is_said_to_be_only_where_it_is(fleet: Fleet) -> None:
    peer = fleet.ask(Remove("a", 30.0))
    fleet.leave("a")
    other = fleet.ask(Remove("b", 30.0))
    fleet.manager.close()
    assert fleet.told(peer) == "removed a, 9 frames; the fleet ends"
    assert fleet.told(other) == "the fleet ends, and b with it"


def test_one_that_ended_badly_and_was_removed_is_nobodys_business(fleet: Fleet) -> None:
    fleet.leave("a", 3, closed=False)
    assert fleet.streams.code == Exit.SOURCE
    fleet.ask(Remove("a", 30.0))
    fleet.forgotten("a")
    fleet.leave("b")
    assert fleet.streams.code == Exit.OK


def test_one_that_is_forgotten_by_itself_still_counts() -> None:
    fleet = Fleet(*map(str, range(MAX_ENDED + 1)))
    for number in range(MAX_ENDED + 1):
        fleet.leave(str(number), 0 if number else 3, closed=bool(number))
    fleet.go(FORGET_S + 1)
    assert fleet.streams.get("0") is None
    assert fleet.streams.code == Exit.SOURCE


def test_the_oldest_of_many_that_have_ended_are_forgotten() -> None:
    fleet = Fleet("a", *map(str, range(MAX_ENDED + 1)))
    for number in range(MAX_ENDED + 1):
        fleet.leave(str(number))
    fleet.forgotten("0")
    assert fleet.streams.get("0") is None
    assert len(fleet.streams) == MAX_ENDED + 1
    assert fleet.done[-1] == "forget 0"


def test_fifty_times(fleet: Fleet) -> None:
    """Nothing is kept of streams that have come and gone."""
    for number in range(50):
        for name in ("same", f"other {number}"):
            assert fleet.answer(Add([stream(name)])).done
            fleet.show(name, 3, trouble(f"disk_full {name}"))
            peer = fleet.ask(Remove(name, 9.0))
            fleet.leave(name)
            fleet.forgotten(name)
            assert fleet.told(peer) == f"removed {name}, 9 frames"
    assert not fleet.manager._leaving
    assert len(fleet.streams) == 2
    assert msgspec.json.encode(fleet.answer(List()))
    assert part_of("same") not in fleet.done[-1]

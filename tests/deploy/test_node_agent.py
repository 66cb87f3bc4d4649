"""What the agent makes of its parts' lines and of supervisor's table. No process runs here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deploy.agent.model import LOOP, Model
from deploy.node.endings import WORD_S, Endings
from deploy.node.folder import Ended, NodeFolder, State
from deploy.node.plan import parts_of
from deploy.node.revive import PAUSE_MAX_S, PAUSE_S, STEADY_S, Revive
from deploy.node.supervisor import Process
from deploy.roles import ALL, ROLES
from tests.deploy.test_node_plan import FLEET

PARTS = {part.program: part for part in parts_of(FLEET, ALL, [])}
STATE = State(run="r", file="/f/headrace.toml", roles=list(ROLES))
CLOSED = {"event": "closed", "stream": "a", "states": {"annotated": 3}, "error": ""}


def process(program: str, state: str = "RUNNING", pid: int = 100, started: int = 1, code: int = 0) -> Process:
    return Process(program, state, pid if state in ("RUNNING", "STARTING") else 0, started, 0, code, "")


def model(state: State = STATE) -> Model:
    found = Model(pid=9)
    found.configure(FLEET, state, PARTS, 0.0)
    return found


def row(of: Model, name: str, now: float = 0.0) -> dict[str, Any]:
    return next(one for one in of.snapshot(now, 1000.0)["parts"] if one["name"] == name)


def test_a_worker_is_ready_with_its_model_and_another_part_when_it_speaks() -> None:
    node = model()
    for name in ("worker-1", "sink"):
        node.parts[name].seen(process(name), False, 0.0)
        node.hear(name, {"event": "hello"}, 100, 0.0)
        assert not row(node, name)["ready"]
    node.hear("worker-1", {"event": "ready"}, 100, 0.0)
    node.hear("sink", {"event": "troubles", "troubles": []}, 100, 0.0)
    assert row(node, "worker-1")["ready"]
    assert row(node, "sink")["ready"]
    assert node.unready() == ["broker does not work: it is starting"]
    node.parts["worker-1"].seen(process("worker-1", pid=101, started=5), False, 1.0)
    assert not row(node, "worker-1")["ready"], "that is another process"


def test_deaths_are_counted_and_stops_on_purpose_are_not() -> None:
    node = model()
    life = node.parts["broker"]
    assert not life.seen(process("broker"), False, 0.0)
    assert life.seen(process("broker", pid=101, started=5), False, 5.0)
    assert not life.seen(process("broker", pid=102, started=9), True, 9.0)
    assert life.restarts == 1
    for number in range(LOOP - 1):
        assert not row(node, "broker", 10.0)["crash_loop"]
        life.seen(process("broker", pid=200 + number, started=10 + number), False, 10.0 + number)
    assert row(node, "broker", 20.0)["crash_loop"]
    assert not row(node, "broker", 2000.0)["crash_loop"]


def test_a_part_that_does_not_start_is_looked_into() -> None:
    life = model().parts["broker"]
    assert life.seen(process("broker", "BACKOFF", code=6), False, 0.0)
    assert not life.seen(process("broker", "BACKOFF", code=6), False, 1.0), "once is enough"
    assert life.seen(process("broker", "FATAL", code=6), False, 2.0)
    assert life.loops(2.0)


def test_states_of_streams() -> None:
    node = model(State(run="r", file="f", roles=list(ROLES), paused=["a"], ended={"door 1": Ended(code=0, why="over")}))
    shown = {one["name"]: (one["state"], one["why"]) for one in node.snapshot(0.0, 0.0)["streams"]}
    assert shown == {"a": ("paused", ""), "door 1": ("ended", "over")}
    node = model()
    node.parts["producer:a"].why = "no such file"
    node.parts["producer:a"].seen(process("producer-a", "FATAL", code=3), False, 0.0)
    node.hear(
        "producer:door 1", {"event": "progress", "source": {"state": "away", "why": "mute", "since": 4.0}}, 7, 0.0
    )
    shown = {one["name"]: (one["state"], one["why"]) for one in node.snapshot(0.0, 0.0)["streams"]}
    assert shown == {"a": ("failing", "no such file"), "door 1": ("away", "mute")}


def test_what_the_sink_has_is_known_until_it_forgets() -> None:
    node = model()
    progress = {
        "event": "progress",
        "stream": "a",
        "resolved": 5,
        "frames": 6,
        "durable": 4,
        "states": {"annotated": 5},
    }
    node.hear("sink", progress, 7, 1.0)
    found = node.snapshot(1.0, 0.0)
    assert found["sink_knows"] == ["a"]
    assert found["streams"][0]["annotated"] == 1.0
    node.hear("sink", {"event": "forgotten", "stream": "a"}, 7, 2.0)
    assert node.snapshot(2.0, 0.0)["sink_knows"] == []
    node.check()


def test_garbage_changes_nothing() -> None:
    node = model()
    for record in ({}, {"event": 7}, {"event": "progress", "troubles": 3}, {"event": "ready", "stream": None}):
        node.hear("stranger", record, 1, 0.0)
        node.hear("broker", record, 1, 0.0)
    node.snapshot(0.0, 0.0)
    node.check()


def test_a_clock_that_is_set_back_makes_no_negative_ages() -> None:
    node = model()
    node.parts["broker"].seen(process("broker", started=5000), False, 0.0)
    assert row(node, "broker")["uptime"] == 0.0


def test_ends_of_streams_are_told_once() -> None:
    node, endings = model(), Endings()
    life = node.parts["producer:a"]
    endings.hear("sink", CLOSED, 50.0)
    for state, code in (("RUNNING", 0), ("EXITED", 75)):  # it has handed over
        life.seen(process("producer-a", state, code=code), False, 1.0)
        assert endings.look(node.parts.values(), 1.0, 50.0) == []
    life.seen(process("producer-a", "EXITED", code=0), False, 2.0)
    assert endings.look(node.parts.values(), 2.0, 50.0) == ["a"]
    assert endings.look(node.parts.values(), 2.0, 50.0) == []


def test_who_was_given_up_is_tried_again_ever_more_seldom() -> None:
    revive, now, tries = Revive(), 0.0, []
    given_up = [process("worker-1", "FATAL")]
    while now < 2000:
        if revive.due(given_up, now):
            tries.append(now)
        now += 0.5
    pauses = [after - before for before, after in zip([0.0, *tries], tries, strict=False)]
    assert pauses[:3] == [PAUSE_S, 2 * PAUSE_S + 0.5, 4 * PAUSE_S + 0.5]
    assert pauses[-1] <= PAUSE_MAX_S + 1
    running = [process("worker-1")]
    revive.due(running, now)
    revive.due(running, now + STEADY_S + 1)
    assert revive.due(given_up, now + 100) == []
    assert revive.due(given_up, now + 100 + PAUSE_S) == ["worker-1"]


def test_only_the_sinks_word_ends_what_supervisor_could_not_start() -> None:
    """Supervisor forgets with what code a process has ended that did not live long enough."""
    node, endings = model(), Endings()
    life = node.parts["producer:a"]
    endings.hear("sink", CLOSED, 4.0)  # of a process before
    life.seen(process("producer-a", "BACKOFF", code=0, started=5), False, 1.0)
    for now in (1.0, 1.0 + 2 * WORD_S):
        assert endings.look(node.parts.values(), now, 50.0) == []
    endings.hear("sink", CLOSED, 6.0)
    assert endings.look(node.parts.values(), 2.0, 50.0) == ["a"]


def test_the_sinks_word_on_an_end_is_waited_for_a_while() -> None:
    for word in (True, False):
        node, endings = model(), Endings()
        node.parts["producer:a"].seen(process("producer-a", "EXITED", code=0), False, 1.0)
        assert endings.look(node.parts.values(), 1.0, 50.0) == []
        if word:
            endings.hear("sink", CLOSED, 50.2)
            assert endings.look(node.parts.values(), 1.5, 50.5) == ["a"]
        else:
            assert endings.look(node.parts.values(), 1.0 + WORD_S, 53.0) == ["a"]


class Written:
    """A node in a folder, whose supervisor says what it is told to."""

    def __init__(self, path: Path, *there: Process) -> None:
        self.folder = NodeFolder(path / "n")
        self.folder.make()
        self.folder.write_state(STATE)
        self._there = there

    @property
    def state(self) -> State:
        found = self.folder.state()
        assert found is not None
        return found

    @property
    def supervisor(self) -> Written:
        return self

    def processes(self) -> dict[str, Process]:
        return {one.program: one for one in self._there}

    @staticmethod
    def fleet() -> object:
        return FLEET


def test_an_end_is_written_for_the_process_that_has_ended_alone(tmp_path: Path) -> None:
    """Another stream may have the name by now."""
    for number, (there, known) in enumerate(
        [(process("producer-a", "EXITED"), True), (process("producer-a", started=9), False)]
    ):
        node, endings = model(), Endings()
        endings.hear("sink", CLOSED, 50.0)
        node.parts["producer:a"].seen(process("producer-a", "EXITED"), False, 1.0)
        assert endings.look(node.parts.values(), 1.0, 51.0) == ["a"]
        written: Any = Written(tmp_path / str(number), there)
        with written.folder.changing():
            endings.write(written)  # somebody else changes it just now
            assert written.state.ended == {}
        endings.write(written)
        assert written.state.ended == ({"a": Ended(code=0, states={"annotated": 3}, at=51.0)} if known else {})

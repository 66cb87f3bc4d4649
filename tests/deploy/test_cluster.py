"""Placing workers on a cluster: what is to be placed, what is remembered, one worker kept. No Ray cluster here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from common.errors import UsageError
from deploy.cluster import order as o
from deploy.cluster.keeper import Keeper, Seen
from deploy.cluster.notebook import MOST_S, WELL_S, Notebook, Page
from deploy.cluster.rows import Row, row_of
from deploy.cluster.table import count
from tests.support import headrace, wait_for

FILE = """
[broker]
workers = "tcp://127.0.0.1:7602"
[sink]
results = "tcp://127.0.0.1:7605"
[workers]
model = "echo"
[page]
token = "a-token-that-is-nobody's-business"
[[streams]]
name = "door"
source = "rtsp://user:secret@camera/door"
outputs = ["door.jsonl"]
"""


def node(cpus: float = 4, gpus: float = 0, address: str = "10.0.0.1", alive: bool = True) -> dict[str, Any]:
    resources = {"CPU": float(cpus), **({"GPU": float(gpus)} if gpus else {})}
    return {"Alive": alive, "Resources": resources, "NodeManagerAddress": address, "NodeID": address}


def written(folder: Path, more: str = "", model: str = "echo") -> Path:
    path = folder / "headrace.toml"
    path.write_text(FILE.replace('model = "echo"\n', f'model = "{model}"\n{more}\n'))
    return path


# -- order -----------------------------------------------------------------------------------------------------------


def test_an_order_holds_what_workers_need_and_no_secret(tmp_path: Path) -> None:
    order, fleet = o.order_of(written(tmp_path, "threads = 3"), None, [node()])
    assert "secret" not in order.config
    assert "token" not in order.config or "nobody" not in order.config
    assert json.loads(order.config)["workers"]["model"] == "echo"
    assert (order.cpus, order.gpus, order.threads) == (3.0, 0.0, 3)
    assert order.base == str(tmp_path)
    assert fleet.streams == []


@pytest.mark.parametrize(
    ("more", "nodes", "gpus"),
    [
        ("", [node(gpus=2)], 1.0),
        ("per_gpu = 3", [node(gpus=2)], 0.3333),
        ('device = "cpu"', [node(gpus=2)], 0.0),
        ("", [node(gpus=2, alive=False), node()], 0.0),
    ],
)
def test_the_share_of_a_gpu(tmp_path: Path, more: str, nodes: list[dict[str, Any]], gpus: float) -> None:
    assert o.order_of(written(tmp_path, more), None, nodes)[0].gpus == gpus


@pytest.mark.parametrize(
    ("more", "nodes", "given", "expected"),
    [
        ("", [node(gpus=2), node(gpus=4), node()], {}, 6),
        ("per_gpu = 2", [node(gpus=2), node(gpus=1)], {}, 6),
        ("", [node(), node(), node(cpus=0)], {}, 2),  # one a node that has room
        ("", [node(gpus=2), node()], {"per_node": 2}, 2),  # only the one with GPUs counts
        ("", [node(), node()], {"per_node": 3}, 6),
        ("", [node(gpus=2)], {"workers": 5}, 5),
        ("", [], {}, 0),
    ],
)
def test_how_many(tmp_path: Path, more: str, nodes: list[dict[str, Any]], given: dict[str, int], expected: int) -> None:
    order, fleet = o.order_of(written(tmp_path, more), None, nodes)
    assert o.count_of(order, fleet.workers, nodes, **given) == expected


def test_numbers_that_make_no_sense(tmp_path: Path) -> None:
    order, fleet = o.order_of(written(tmp_path), None, [node()])
    with pytest.raises(UsageError, match="exclude each other"):
        o.count_of(order, fleet.workers, [node()], workers=1, per_node=1)
    with pytest.raises(UsageError, match="1024"):
        o.count_of(order, fleet.workers, [node()], workers=2000)
    for text in ("workers", "workers=", "workers=-1", "wrokers=3", "workers=3.5", "workers=²"):
        with pytest.raises(UsageError, match="workers=N"):
            o.target_of(text)
    assert o.target_of("workers=12") == 12
    for name in ("", "-x", "a/b", "a b", "x" * 64):
        with pytest.raises(UsageError, match="--fleet"):
            o.check_name(name)


def test_sockets_that_only_this_machine_has_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "headrace.toml"
    path.write_text('[workers]\nmodel = "echo"\n')
    with pytest.raises(UsageError, match=r"broker\.workers"):
        o.order_of(path, None, [node()])


def test_loopback_is_told_of_where_there_are_several_machines(tmp_path: Path) -> None:
    _, fleet = o.order_of(written(tmp_path), None, [node()])
    assert "broker.workers" in o.unreachable(fleet, [node(), node(address="10.0.0.2")])
    assert o.unreachable(fleet, [node(), node(address="10.0.0.2", alive=False)]) == ""


def test_free_names() -> None:
    assert o.free_names(["worker-2", "notebook"], 3) == ["worker-1", "worker-3", "worker-4"]
    assert [o.number_of(name) for name in ("worker-12", "worker-0", "notebook", "worker-1x")] == [12, None, None, None]


# -- notebook --------------------------------------------------------------------------------------------------------


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def notebook() -> tuple[Notebook, Clock]:
    clock = Clock()
    return Notebook(o.Order("{}", "/", 1.0, 0.0, 1), clock), clock


def test_pauses_get_longer_and_end_with_a_worker_that_is_well() -> None:
    book, clock = notebook()
    assert book.begun("worker-1", "a", "host").pause == 0.0
    pauses = []
    for _ in range(10):
        book.ended("worker-1", "exit code 5", 0.5)
        pauses.append(book.begun("worker-1", "a", "host").pause)
        clock.now += pauses[-1]
    assert 0.1 < pauses[0] < 0.5, "a worker that was killed is back soon"
    assert MOST_S / 2 <= pauses[-1] <= MOST_S
    past = book.begun("worker-2", "a", "host")
    assert (past.restarts, past.pause) == (0, 0.0), "slots are counted one by one"
    book.ended("worker-1", "killed by SIGKILL", WELL_S)
    past = book.begun("worker-1", "a", "host")
    assert past.pause < 0.5
    assert (past.restarts, past.error) == (11, "killed by SIGKILL")


def test_a_lost_node_is_named_by_the_next_one() -> None:
    book, _ = notebook()
    book.begun("worker-1", "a", "first")
    assert book.pages()["worker-1"] == Page("a", "first", True, 0, "")
    assert book.begun("worker-1", "b", "second").error == "its node first was lost"
    assert book.begun("worker-1", "b", "second").error == "its actor was killed"
    book.forget("worker-1")
    assert book.pages() == {}


# -- keeper ----------------------------------------------------------------------------------------------------------


class Kept:
    """A keeper whose thread lasts as long as the test."""

    def __init__(self, order: o.Order, pause: float = 0.0) -> None:
        self.heard: list[str] = []
        self.keeper = Keeper(order, "worker-1@here", self.heard.append)
        self.why = ""
        self._leave = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(pause,))
        self.thread.start()

    def _run(self, pause: float) -> None:
        self.why = self.keeper.run(pause)
        self._leave.wait(30)

    def seen(self, condition: Callable[[Seen], bool], what: str) -> Seen:
        wait_for(lambda: condition(self.keeper.look()), 30, what)
        return self.keeper.look()

    def close(self) -> None:
        self.keeper.stop(0)
        self._leave.set()
        self.thread.join()


@pytest.fixture
def keep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Kept]]:
    made: list[Kept] = []
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.chdir(tmp_path)

    def make(model: str = "echo", pause: float = 0.0) -> Kept:
        order, _ = o.order_of(written(tmp_path, model=model), None, [node()])
        made.append(Kept(order, pause))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_worker_is_kept_and_ends_in_peace(keep: Callable[..., Kept], tmp_path: Path) -> None:
    kept = keep()
    seen = kept.seen(lambda seen: seen.state == "running", "the worker")
    worker = psutil.Process(seen.pid)
    assert " ".join(worker.cmdline()).find("--name worker-1@here") > 0
    assert worker.environ()["OMP_NUM_THREADS"] == "1", "as many as the slot's CPUs, whatever Ray has set"
    assert worker.environ()["CUDA_VISIBLE_DEVICES"] == "", "a slot without a GPU sees none"
    (folder,) = tmp_path.glob("headrace-*")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "fleet.json").stat().st_mode & 0o777 == 0o600
    # Nobody is there to work for, and the status says so.
    kept.seen(lambda seen: "the broker at tcp://127.0.0.1:7602 is not there" in seen.remark, "the remark")
    assert kept.keeper.stop(10)
    assert not psutil.pid_exists(seen.pid)
    assert kept.keeper.look().state == "over"
    assert not list(tmp_path.glob("headrace-*"))


def test_why_a_worker_ended(keep: Callable[..., Kept]) -> None:
    kept = keep()
    pid = kept.seen(lambda seen: seen.state == "running", "the worker").pid
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: kept.why, 20, "the end")
    assert kept.why == "killed by SIGKILL"
    assert kept.keeper.lived > 0
    assert not kept.keeper.told
    broken = keep("no.such.module:Model")
    wait_for(lambda: broken.why, 30, "the end")
    assert "no.such.module" in broken.why
    assert any("no.such.module" in line for line in broken.heard)


def test_a_pause_can_be_cut_short(keep: Callable[..., Kept]) -> None:
    kept = keep(pause=60.0)
    assert kept.keeper.look().state == "waiting"
    kept.keeper.stop(5)
    assert kept.why == "told to end"
    assert kept.keeper.look().pid == 0


def test_no_worker_outlives_a_killed_keeper(tmp_path: Path) -> None:
    order, _ = o.order_of(written(tmp_path), None, [node()])
    code = (
        "import sys, threading, json\n"
        "from deploy.cluster.keeper import Keeper\nfrom deploy.cluster.order import Order\n"
        f"keeper = Keeper(Order({order.config!r}, '/', 1.0, 0.0, 1), 'worker-1')\n"
        "threading.Thread(target=keeper.run, args=(0.0,), daemon=True).start()\n"
        "while keeper.look().state != 'running': threading.Event().wait(0.05)\n"
        "print(keeper.look().pid, flush=True)\nthreading.Event().wait(60)\n"
    )
    environment = os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    assert psutil.pid_exists(pid)
    process.kill()
    process.wait()
    process.stdout.close()
    wait_for(lambda: not psutil.pid_exists(pid), 15, "the worker's end")
    wait_for(lambda: not list(tmp_path.glob("headrace-*")), 5, "the folder's end")


# -- what is shown ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "page", "state", "error"),
    [
        ("", None, "pending", "not placed yet: where that lasts, no node has room"),
        ("", Page("a", "host", True, 1, ""), "restarting", "it does not answer"),
        ("", Page("a", "host", False, 1, "exit code 5"), "restarting", "exit code 5"),
        ("", Page("b", "gone", True, 1, ""), "pending", "its node gone was lost"),
        ("ModuleNotFoundError: No module named 'deploy'", None, "failed", "No module named 'deploy'"),
    ],
)
def test_a_slot_that_does_not_answer(answer: str, page: Page | None, state: str, error: str) -> None:
    row = row_of("worker-1", answer, page, [node(address="a"), node(address="b", alive=False)])
    assert row.state == state
    assert error in row.error


def test_a_slot_that_answers() -> None:
    answer = {"node": "a", "host": "h", "gpus": ["1"], "actor": 1, "state": "running", "pid": 7, "device": "cuda:0",
              "done": 5, "remark": "the sink is away"}  # fmt: skip
    row = row_of("worker-1", answer, Page("a", "h", True, 2, "killed by SIGKILL"), [node(address="a")])
    assert row == Row("worker-1", "running", "h", "a", ["1"], 7, "cuda:0", 5, 2, "the sink is away")
    assert count([row, Row("worker-2", "pending")]) == "2 workers: 1 pending, 1 running"


# -- the command -----------------------------------------------------------------------------------------------------


def test_without_ray_one_line_says_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "ray.py").write_text("raise ImportError('not installed')\n")
    path = f"{tmp_path}{os.pathsep}{Path(__file__).resolve().parents[2]}"
    done = headrace("cluster", "status", env={"PYTHONPATH": path})
    assert (done.code, done.out, done.err) == (2, "", "headrace: clusters need Ray: pip install headrace[cluster]\n")


def test_no_cluster_at_that_address() -> None:
    pytest.importorskip("ray")
    done = headrace("cluster", "status", "--address", "127.0.0.1:1")
    assert (done.code, done.err) == (6, "headrace: no Ray cluster answers at 127.0.0.1:1: Connection refused\n")

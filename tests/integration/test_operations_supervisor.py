"""The files of deploy/supervisor, in the hands of a supervisord that is nobody's node."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deploy.node.plan import ORDER, parts_of
from tests.deploy.test_node_plan import FLEET
from tests.guide import ROOT
from tests.servers import free_port
from tests.support import family, ledger, numbered_clip, numbers, part_files, so_far, wait_for

FILES = ROOT / "deploy" / "supervisor"
FRAMES = 250
CONTROL = """\
[unix_http_server]
file = {home}/supervisor.sock
[supervisord]
nodaemon = true
logfile = {home}/supervisord.log
pidfile = {home}/supervisord.pid
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl = unix://{home}/supervisor.sock
[include]
files = {home}/conf.d/*.conf
"""
#: A command to supervisord, and a part's start, on a busy machine, in seconds.
COMMAND_S, START_S = 60.0, 120.0


class Machine:
    """A folder in which everything lies that the files name, and its supervisord."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._config = home / "supervisord.conf"
        self._config.write_text(CONTROL.format(home=home))
        for folder in ("conf.d", "log", "lib", "lib/sockets"):
            (home / folder).mkdir(mode=0o700)
        for path in FILES.glob("*.conf"):
            (home / "conf.d" / path.name).write_text(self._here(path.read_text()))
        fleet = self._here((FILES / "fleet.toml").read_text())
        fleet = fleet.replace("rtsp://camera/stream", str(home / "clip.mp4")).replace('"live"', '"lossless"')
        fleet = fleet.replace('"face"', '"echo"').replace("9751", str(free_port())).replace("9752", str(free_port()))
        fleet = fleet.replace('name = "door"', 'name = "door"\nrealtime = true\nencoding = {preset = "ultrafast"}')
        (home / "fleet.toml").write_text(fleet)
        self.process: subprocess.Popen[bytes] | None = None

    def _here(self, text: str) -> str:
        places = {
            "/opt/headrace/bin/python": sys.executable,
            "/etc/headrace": self.home,
            "/var/log/headrace": self.home / "log",
            "/var/lib/headrace": self.home / "lib",
        }
        for place, ours in places.items():
            text = text.replace(place, str(ours))
        return re.sub(r"^user = .*\n", "", text, flags=re.MULTILINE)

    def start(self) -> None:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("HEADRACE")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(self._config)],
            env=environment | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def control(self, *words: str) -> str:
        command = [sys.executable, "-m", "supervisor.supervisorctl", "-c", str(self._config), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_S).stdout

    def begin_anew(self) -> None:
        """As the file says: with another name of the run."""
        file = self.home / "fleet.toml"
        file.write_text(file.read_text().replace('run = "first"', 'run = "second"'))
        for path in (self.home / "lib").glob("door*"):
            path.unlink()

    def reached(self) -> int:
        """Frames that have come out in all parts of the stream's lines."""
        return sum(len(path.read_text().splitlines()) for path in (self.home / "lib").glob("door*.jsonl"))

    def logs(self) -> str:
        paths = [self.home / "supervisord.log", *(self.home / "log").iterdir()]
        return "\n".join(f"-- {path.name}\n{path.read_text()[-1500:]}" for path in paths if path.exists())

    def end(self) -> None:
        if self.process is not None:
            parts = family(self.process.pid)
            for one in (self.process, *parts):
                if one.poll() is None if isinstance(one, subprocess.Popen) else one.is_running():
                    os.kill(one.pid, signal.SIGKILL)
            self.process.wait(timeout=COMMAND_S)


@pytest.fixture
def machine() -> Iterator[Machine]:
    with tempfile.TemporaryDirectory(prefix="hs-") as short:  # sockets lie in it
        machine = Machine(Path(short))
        numbered_clip(machine.home / "clip.mp4", FRAMES)
        try:
            yield machine
        except AssertionError as error:
            raise AssertionError(f"{error}\n{machine.logs()}") from None
        finally:
            machine.end()


@pytest.mark.slow
def test_a_clip_goes_through(machine: Machine) -> None:
    """First supervisord is killed in the middle. In the next run, sink and producer are started again under way, as for
    an upgrade."""
    machine.start()
    assert machine.process is not None
    wait_for(lambda: machine.reached() > 12, START_S, "frames")
    status = machine.control("status")
    assert set(re.findall(r"^(\S+) +(?:RUNNING|STARTING)", status, re.MULTILINE)) == {
        "headrace-broker", "headrace-producer-door", "headrace-sink",
        "headrace-worker:headrace-worker-1", "headrace-worker:headrace-worker-2",
    }, status  # fmt: skip
    parts = family(machine.process.pid)
    assert len(parts) >= 5
    machine.process.kill()
    machine.process.wait()
    psutil.wait_procs(parts, timeout=30)
    left = [one for one in parts if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    assert not left, "no part outlives supervisord"

    machine.begin_anew()
    machine.start()
    wait_for(lambda: machine.reached() > 12, START_S, "frames")
    assert "started" in machine.control("restart", "headrace-sink", "headrace-producer-door")
    wait_for(lambda: "EXITED" in machine.control("status", "headrace-producer-door"), START_S, "the stream's end")
    wait_for(lambda: machine.reached() == FRAMES, 60, "all frames")
    found = ledger(machine.home / "lib" / "door.ts")
    assert found["states"] == {"annotated": FRAMES}
    shown = [number for path in part_files(found, machine.home / "lib", "door.ts") for number in numbers(path)]
    assert shown == list(range(FRAMES))
    for name in ("broker", "sink", "worker-1", "worker-2", "producer-door"):
        assert all(line["part"] for line in so_far(machine.home / "log" / f"{name}.log"))
    assert so_far(machine.home / "log" / "broker.log"), "the broker has spoken of its workers"


def test_the_files_agree_with_what_a_node_does() -> None:
    """Signals, times, order and exit codes are those of headrace up."""
    parts = {part.module: part for part in parts_of(FLEET, ("broker", "sink", "workers", "producers"), [])}
    orders = {"broker": "broker", "sink": "sink", "workers": "worker", "producer": "producer"}
    for module, name in orders.items():
        text = (FILES / f"{name}.conf").read_text()
        keys = dict(re.findall(r"^(\w+) = (.*)$", text, re.MULTILINE))
        part = parts[module]
        assert f"-m {module} " in keys["command"]
        assert keys["stopsignal"] == part.stop_signal
        assert int(keys["stopwaitsecs"]) == part.stop_s
        assert int(keys["startsecs"]) == part.start_s
        assert int(keys["priority"]) == part.priority == ORDER["workers" if name == "worker" else name]
        assert keys.get("exitcodes", "") == ",".join(map(str, part.final))
        assert keys["autorestart"] == ("unexpected" if part.final else "true")
        assert 'HEADRACE_PARENT="supervisor"' in keys["environment"]

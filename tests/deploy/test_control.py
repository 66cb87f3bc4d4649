"""The socket over which a fleet is asked and told: who asks is answered, whatever others do."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from common.errors import LinkError, ModelError, UsageError
from common.lifecycle import FOLDER_MARK
from deploy import control
from deploy.ask import ask, find
from deploy.control import MAX_PEERS, PATIENCE_S, Add, Answer, List, Peer, Remove, Request, Server
from deploy.folder import CONTROL, PREFIX
from tests.deploy.lives import stream
from tests.support import wait_for


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where fleets have their folders; its path is short."""
    with tempfile.TemporaryDirectory(prefix="hr-") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", None)
        monkeypatch.setattr("deploy.folder.bases", lambda: [Path(folder)])
        yield Path(folder)


class Fleet:
    """A server in a thread of its own. ``answer``: what it says to a request, None: nothing."""

    def __init__(self, base: Path, name: str, answer: Callable[[Request], Answer | None] | None = None) -> None:
        self.folder = base / f"{PREFIX}{name}"
        self.folder.mkdir(mode=0o700)
        (self.folder / FOLDER_MARK).touch()
        self._answer = answer or (lambda request: Answer(fleet=name, pid=os.getpid()))
        self.server = Server(self.folder)
        self.asked: list[tuple[Peer, Request]] = []
        self.ahead = 0.0  # of the clock, in seconds
        self._over = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over:
            for peer, request in self.server.poll(time.monotonic() + self.ahead):
                self.asked.append((peer, request))
                if (answer := self._answer(request)) is not None:
                    self.server.answer(peer, answer)
            time.sleep(0.002)

    def close(self) -> None:
        self._over = True
        self._thread.join(10)
        self.server.close()


@pytest.fixture
def fleets(base: Path) -> Iterator[Callable[..., Fleet]]:
    made: list[Fleet] = []

    def make(name: str, answer: Callable[[Request], Answer | None] | None = None) -> Fleet:
        made.append(Fleet(base, name, answer))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_requests_and_answers(fleets: Callable[..., Fleet]) -> None:
    fleet = fleets("one")
    requests = [List(), Add([stream("a"), stream("b")]), Remove("a", 3.0)]
    for request in requests:
        assert ask(fleet.folder, request).fleet == "one"
    assert [request for _, request in fleet.asked] == requests


@pytest.mark.parametrize(("code", "kind"), [(2, UsageError), (5, ModelError), (6, LinkError), (99, LinkError)])
def test_a_refusal_is_raised_as_what_it_is(fleets: Callable[..., Fleet], code: int, kind: type[Exception]) -> None:
    fleet = fleets("one", lambda request: Answer(error="no such thing", exit_code=code))
    with pytest.raises(kind, match=r"^no such thing$"):
        ask(fleet.folder, List())


def test_one_that_does_not_answer_or_is_gone(fleets: Callable[..., Fleet]) -> None:
    fleet = fleets("one", lambda request: None)
    with pytest.raises(LinkError, match="does not answer"):
        ask(fleet.folder, List(), 0.2)
    fleet.close()
    with pytest.raises(LinkError, match="is gone, or is ending"):
        ask(fleet.folder, List(), 0.2)


@pytest.mark.parametrize(
    "line",
    [
        b"\n", b"x\n", b"{}\n", b'{"type": "list"', b'{"type": "destroy"}\n', b'{"type": "add", "streams": []}\n',
        b"[[[[" * 9999,
        b'{"type": "remove", "stream": "", "wait": 1}\n', b'{"type": "remove", "stream": "a", "wait": -1}\n',
        b'{"type": "add", "streams": [{"name": "a"}]}\n', b"\xff\xfe\n", b"x" * 200_000,
    ],
)  # fmt: skip
def test_nonsense_is_refused_and_harms_nobody(fleets: Callable[..., Fleet], line: bytes) -> None:
    fleet = fleets("one")
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(str(fleet.folder / CONTROL))
        stranger.settimeout(10)
        stranger.sendall(line)
        assert ask(fleet.folder, List()).fleet == "one"
        if line.endswith(b"\n"):
            answer = msgspec.json.decode(stranger.recv(65536), type=Answer)
            assert answer.exit_code == 6
            assert "does not understand" in answer.error
        else:
            fleet.ahead = PATIENCE_S + 1
            with contextlib.suppress(ConnectionResetError):
                assert stranger.recv(65536) == b"", "it has had its time"
    assert [request for _, request in fleet.asked] == [List()]


def test_a_request_without_end(fleets: Callable[..., Fleet], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "MAX_BYTES", 1_000_000)
    fleet = fleets("one")
    with socket.socket(socket.AF_UNIX) as stranger, pytest.raises(OSError):
        stranger.connect(str(fleet.folder / CONTROL))
        stranger.settimeout(10)
        for _ in range(1000):
            stranger.sendall(b"x" * 65536)
    assert ask(fleet.folder, List()).fleet == "one"


def test_too_many_at_a_time(fleets: Callable[..., Fleet]) -> None:
    fleet = fleets("one", lambda request: None)
    crowd = [socket.socket(socket.AF_UNIX) for _ in range(MAX_PEERS)]
    try:
        for one in crowd:
            one.connect(str(fleet.folder / CONTROL))
            one.sendall(msgspec.json.encode(List()) + b"\n")
        wait_for(lambda: len(fleet.asked) == MAX_PEERS, 10, "all of them")
        with pytest.raises(LinkError):
            ask(fleet.folder, List(), 1.0)
    finally:
        for one in crowd:
            one.close()
    wait_for(lambda: not fleet.server._peers, 10, "their leaving")


def test_those_who_wait_keep_nobody_out(fleets: Callable[..., Fleet]) -> None:
    """A stream that is removed takes its time."""
    fleet = fleets("one", lambda request: Answer(fleet="one") if isinstance(request, List) else None)
    line = msgspec.json.encode(Remove("a", 9.0)) + b"\n"
    crowd = [socket.socket(socket.AF_UNIX) for _ in range(2 * MAX_PEERS)]
    try:
        for number, one in enumerate(crowd):
            one.connect(str(fleet.folder / CONTROL))
            one.sendall(line)
            wait_for(lambda: len(fleet.asked) > number, 10, "its question")  # noqa: B023
        assert ask(fleet.folder, List()).fleet == "one"
    finally:
        for one in crowd:
            one.close()


def test_too_many_who_wait_are_told_so(fleets: Callable[..., Fleet], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "MAX_WAITING", 1)
    fleet = fleets("one", lambda request: None)
    with socket.socket(socket.AF_UNIX) as first:
        first.connect(str(fleet.folder / CONTROL))
        first.sendall(msgspec.json.encode(List()) + b"\n")
        wait_for(lambda: fleet.asked, 10, "the first one")
        with pytest.raises(LinkError, match="too many questions to answer: ask again"):
            ask(fleet.folder, List())


def test_all_at_the_same_time(fleets: Callable[..., Fleet]) -> None:
    """The kernel turns away who comes while too many wait at the door."""
    fleet = fleets("one")
    fleet.server._listener.listen(1)
    answers: list[Answer] = []
    crowd = [threading.Thread(target=lambda: answers.append(ask(fleet.folder, List()))) for _ in range(20)]
    for one in crowd:
        one.start()
    for one in crowd:
        one.join(20)
    assert len(answers) == 20


def test_without_a_descriptor_it_waits_for_one(base: Path) -> None:
    """It neither dies of it nor wakes its caller for ever."""
    (folder := base / "fleet").mkdir()
    server, held = Server(folder), list[int]()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket(socket.AF_UNIX) as peer:
        try:
            peer.connect(str(folder / CONTROL))
            peer.sendall(msgspec.json.encode(List()) + b"\n")
            resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 8, hard))
            with contextlib.suppress(OSError):
                while True:
                    held.append(os.dup(0))
            assert server.poll(0.0) == []
            assert select.select([server], [], [], 0)[0] == [], "nothing is to be done now"
        finally:
            for fd in held:
                os.close(fd)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert server.poll(control.DEAF_S / 2) == []
        asked: list[tuple[Peer, Request]] = []
        wait_for(lambda: asked.extend(server.poll(control.DEAF_S)) or asked, 10, "the question")
        assert asked[0][1] == List()
    server.close()


def test_a_socket_that_was_removed_is_made_again(base: Path) -> None:
    (folder := base / "fleet").mkdir()
    server = Server(folder)
    assert not server.mend()
    (folder / CONTROL).unlink()
    assert server.mend()
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(folder / CONTROL))
        peer.sendall(msgspec.json.encode(List()) + b"\n")
        wait_for(lambda: server.poll(0.0), 10, "the question")
    server.close()


def test_a_long_answer_to_a_slow_reader(fleets: Callable[..., Fleet]) -> None:
    fleet = fleets("one", lambda request: Answer(done="x" * 2_000_000))
    with socket.socket(socket.AF_UNIX) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(str(fleet.folder / CONTROL))
        slow.sendall(msgspec.json.encode(List()) + b"\n")
        wait_for(lambda: fleet.asked, 10, "the question")
        assert len(ask(fleet.folder, List()).done) == 2_000_000, "others are served meanwhile"
        slow.settimeout(10)
        read = b"".join(iter(lambda: slow.recv(65536), b""))
    assert len(msgspec.json.decode(read, type=Answer).done) == 2_000_000


def test_which_fleet(base: Path, fleets: Callable[..., Fleet]) -> None:
    with pytest.raises(LinkError, match="no fleet is running: start one with headrace up, or headrace run"):
        find(None)
    dead = base / f"{PREFIX}dead"
    dead.mkdir()
    (dead / FOLDER_MARK).touch()
    (base / f"{PREFIX}other").mkdir()
    one = fleets("one")
    assert find(None) == one.folder
    two = fleets("two")
    assert find("one") == one.folder
    assert find(f"{PREFIX}two") == find(str(two.folder)) == two.folder
    with pytest.raises(UsageError, match=r"say which one with --fleet: .*headrace-one \(one, 0 streams\), .*-two"):
        find(None)
    with pytest.raises(UsageError, match=r"no fleet 'three' is running, but .*headrace-one"):
        find("three")

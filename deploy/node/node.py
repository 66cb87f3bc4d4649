"""A node that can be changed while it runs: its files are written, and supervisor follows them.

Who changes it holds the folder's lock, be it the command or the agent for the page. Only what is to change is touched.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from common import config
from common.errors import LinkError
from deploy.node.folder import NodeFolder, State
from deploy.node.lastwords import last_words
from deploy.node.plan import Part, parts_of
from deploy.node.programs import program_file, supervisor_file
from deploy.node.ready import wait_ready
from deploy.node.supervisor import Supervisor

#: What a part is given beside its own time to stop, in seconds, until supervisor has killed and buried it.
BURY_S = 10.0
Tell = Callable[[str], None]


class Node:
    """The node in ``folder``, whose state is there. ``tell`` hears of each step."""

    def __init__(self, folder: NodeFolder, tell: Tell = lambda text: None) -> None:
        self.folder = folder
        self.tell = tell
        #: The descriptor by which the folder is held for a supervisord that is about to start; -1: it is not.
        self.held = -1
        self.supervisor = Supervisor(folder)

    @property
    def state(self) -> State:
        """Raises LinkError where nothing was ever started."""
        state = self.folder.state()
        if state is None:
            raise LinkError(f"no fleet was started in {self.folder.path}: headrace up")
        return state

    def fleet(self) -> config.Fleet:
        """What the parts read."""
        return config.load(self.folder.config)

    def parts(self) -> dict[str, Part]:
        """Those that are planned now, by program."""
        try:
            parts = msgspec.json.decode(self.folder.parts.read_bytes(), type=list[Part])
        except (OSError, msgspec.MsgspecError):
            return {}
        return {part.program: part for part in parts}

    def plan(self, fleet: config.Fleet, state: State) -> dict[str, Part]:
        resting = {*state.paused, *state.ended}
        return {part.program: part for part in parts_of(fleet, state.roles, state.gpus, resting)}

    def write(
        self, fleet: config.Fleet, state: State, parts: dict[str, Part], running: dict[str, Part] | None = None
    ) -> None:
        """All files. ``running``: ``parts`` with the digests of what they were started with, where that is something
        else. Raises OutputError."""
        folder = self.folder
        folder.write_state(state)
        folder.write(folder.config, config.dump(fleet))
        folder.write(folder.supervisor_config, supervisor_file(folder, fleet.node).encode())
        self._note(running or parts)
        directory = Path(state.file).parent
        for part in parts.values():
            path = folder.programs / f"{part.program}.conf"
            data = program_file(part, folder, fleet.node, directory).encode()
            if not path.exists() or path.read_bytes() != data:
                folder.write(path, data)
        for path in folder.programs.glob("*.conf"):
            if path.stem not in parts:
                path.unlink(missing_ok=True)

    def follow(self, fleet: config.Fleet, state: State) -> list[str]:
        """Make the running node what ``fleet`` and ``state`` say: parts that are no more are stopped, new ones started,
        and those that depend on what has changed are started again, one after the other. Returns the names of all that
        were touched. Raises HeadraceError."""
        there, planned, new = self.supervisor.processes(), self.parts(), self.plan(fleet, state)
        # What an earlier change was to bring and did not, or has left, is part of this one.
        old = {program: part for program, part in planned.items() if program in there}
        strays = [program for program in there if program not in planned and program not in new]
        gone = [old[program] for program in old if program not in new]
        came = [new[program] for program in new if program not in old]
        other = [new[program] for program in new if program in old and new[program].digest != old[program].digest]
        # Producers of streams that have changed leave first: the sink goes on with whoever comes then.
        anew = [part for part in other if part.name.startswith("producer")]
        rest = [part for part in other if part not in anew]
        self.stop([*gone, *anew])
        self.supervisor.stopped(strays, BURY_S)
        # If we are cut short, the next change goes on.
        before = {part.program: msgspec.structs.replace(part, digest=old[part.program].digest) for part in rest}
        running = {**new, **before}
        self.write(fleet, state, new, running)
        self.supervisor.remove([*(part.program for part in (*gone, *anew)), *strays])
        self.supervisor.add([part.program for part in (*came, *anew)])
        self.wait_ready([*came, *anew])
        for part in sorted(rest, key=lambda one: one.priority):
            self._start_again(part, anew=True)
            running[part.program] = part
            self._note(running)
        return [part.name for part in (*gone, *came, *other)]

    def _note(self, parts: dict[str, Part]) -> None:
        """What runs, with the digests of what it was started with."""
        self.folder.write(self.folder.parts, msgspec.json.encode(list(parts.values())))

    def restart(self, parts: Sequence[Part]) -> list[Part]:
        """One after the other, each when the one before works again, but for streams that have ended. Returns those
        that were. Raises LinkError where one does not come back: the rest is left as it is."""
        done: list[Part] = []
        for part in parts:
            process = self.supervisor.processes().get(part.program)
            if part.final and process is not None and process.state == "EXITED":
                self.tell(f"{part.name} has ended: there is nothing to start again")
                continue
            self._start_again(part)
            done.append(part)
        return done

    def _start_again(self, part: Part, anew: bool = False) -> None:
        """``anew``: supervisor reads its file again."""
        self.tell(f"{part.name} is started again")
        self.stop([part])
        if anew:
            self.supervisor.remove([part.program])
            self.supervisor.add([part.program])
        else:
            self.supervisor.start(part.program)
        self.wait_ready([part])

    def stop(self, parts: Sequence[Part]) -> None:
        """As each is to be stopped, all at once. Raises LinkError."""
        if not parts:
            return
        self.tell(f"stopping {names_of(parts)}")
        programs = [part.program for part in parts]
        for program in programs:
            self.folder.tell(program)
        if not self.supervisor.stopped(programs, max(part.stop_s for part in parts) + BURY_S):
            raise LinkError(f"{names_of(parts)} cannot be stopped: see {self.folder.logs}")

    def finish(self, parts: Sequence[Part], seconds: float) -> None:
        """Have producers bring their streams to an end, all at once; who has not after ``seconds`` is killed."""
        programs = [part.program for part in parts]
        for program in programs:
            self.supervisor.signal(program, "TERM")
        if not self.supervisor.wait(lambda now: not any(now[one].alive for one in programs if one in now), seconds):
            self.supervisor.stop(programs)  # who is killed then is not started again
            for program in programs:
                self.supervisor.signal(program, "KILL")
        self.stop(parts)

    def wait_ready(self, parts: Sequence[Part]) -> None:
        """Raises LinkError with the reason where one of them does not start."""
        wait_ready(self.folder, self.supervisor, parts)

    def why(self, part: Part) -> str:
        return last_words(self.folder.logs / f"{part.program}.log")

    def forget(self) -> None:
        """Sockets of parts that are gone: another start makes them anew."""
        for path in (self.folder.supervisor_socket, self.folder.agent_socket):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def names_of(parts: Sequence[Part]) -> str:
    names = [part.name for part in parts]
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")

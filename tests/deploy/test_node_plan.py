"""What a node consists of, and what of the configuration each part depends on."""

from __future__ import annotations

from configparser import RawConfigParser
from pathlib import Path
from typing import Any

import msgspec
import pytest

from common import config
from common.config import Fleet
from deploy.node.folder import NodeFolder
from deploy.node.gpus import choose, visible_gpus
from deploy.node.plan import parts_of, program_of
from deploy.node.programs import program_file, supervisor_file
from deploy.roles import ALL

FLEET = Fleet(
    run="r",
    broker=config.Broker(frames="ipc:///n/f", workers="ipc:///n/w", news="ipc:///n/n"),
    sink=config.Sink(media="ipc:///n/m", results="ipc:///n/r"),
    workers=config.Workers(model="echo", count=2),
    streams=[
        config.Stream(name=name, source="a.mp4", outputs=[config.Output(path=f"{name}.mp4", kind="mp4")], model="echo")
        for name in ("a", "door 1")
    ],
)


def changed(**sections: Any) -> Fleet:
    """FLEET with other values: ``workers={"batch": 4}``."""
    parts = {
        name: msgspec.structs.replace(getattr(FLEET, name), **values) if isinstance(values, dict) else values
        for name, values in sections.items()
    }
    return msgspec.structs.replace(FLEET, **parts)


def digests(fleet: Fleet) -> dict[str, str]:
    return {part.name: part.digest for part in parts_of(fleet, ALL, [])}


def differing(fleet: Fleet) -> set[str]:
    """Parts that are there in both and are to be started again."""
    before, after = digests(FLEET), digests(fleet)
    return {name for name in before if name in after and before[name] != after[name]}


def test_each_role_brings_its_parts() -> None:
    assert [part.name for part in parts_of(FLEET, ALL, [])] == [
        "agent", "sink", "broker", "worker-1", "worker-2", "producer:a", "producer:door 1",
    ]  # fmt: skip
    assert [part.name for part in parts_of(FLEET, {"workers"}, [])] == ["agent", "worker-1", "worker-2"]
    assert "producer:a" not in [part.name for part in parts_of(FLEET, ALL, [], without={"a"})]


def test_workers_of_several_nodes_have_names_that_differ() -> None:
    named = changed(node={"name": "gpu 7"})
    (worker,) = [part for part in parts_of(changed(workers={"count": 1}), ALL, []) if part.name == "worker-1"]
    assert worker.arguments == ["--name", "worker-1"]
    worker = next(part for part in parts_of(named, {"workers"}, []) if part.name == "worker-1")
    assert worker.arguments == ["--name", "gpu 7/worker-1"]


def test_workers_share_the_gpus() -> None:
    parts = parts_of(changed(workers={"count": 5}), {"workers"}, ["GPU-x", "GPU-y"])
    own = [part.environment.get("CUDA_VISIBLE_DEVICES") for part in parts if part.name.startswith("worker")]
    assert own == ["GPU-x", "GPU-y", "GPU-x", "GPU-y", "GPU-x"]


OTHER = msgspec.structs.replace(FLEET.streams[1], latency=0.2)


@pytest.mark.parametrize(
    ("fleet", "touched"),
    [
        (changed(workers={"count": 6}), set()),
        (changed(workers={"batch": 4}), {"worker-1", "worker-2"}),
        (changed(broker={"max_attempts": 9}), {"broker"}),
        (changed(broker={"workers": "ipc:///n/x"}), {"broker", "worker-1", "worker-2"}),
        (changed(broker={"frames": "ipc:///n/x"}), {"broker", "producer:a", "producer:door 1"}),
        (changed(sink={"disk_wait": 1.0}), {"sink"}),
        (changed(sink={"results": "ipc:///n/x"}), {"sink", "broker", "worker-1", "worker-2"}),
        (changed(streams=[FLEET.streams[0], OTHER]), {"producer:door 1"}),
        (changed(streams=FLEET.streams[:1]), set()),
        (changed(page={"enabled": False}), {"agent"}),
        (changed(security={"insecure": True}), set(digests(FLEET)) - {"agent"}),
    ],
)
def test_only_what_depends_on_a_change_is_touched(fleet: Fleet, touched: set[str]) -> None:
    assert differing(fleet) == touched


def test_names_of_programs_are_plain_and_differ() -> None:
    names = [
        "producer:a b",
        "producer:a-b",
        "producer:a:b",
        "producer:ä",
        "producer:a;b",
        "worker-1",
        "producer:x" * 30,
    ]
    programs = [program_of(name) for name in names]
    assert len(set(programs)) == len(names)
    assert all(set(one) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") for one in programs)
    assert program_of("worker-1") == "worker-1"


def test_supervisor_reads_what_is_written(tmp_path: Path) -> None:
    """With odd names in the path, too; only what supervisor cannot have is refused elsewhere."""
    folder = NodeFolder(tmp_path / "a folder, really")
    for part in parts_of(FLEET, ALL, []):
        text = program_file(part, folder, FLEET.node, tmp_path / "100% mine")
        found = RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)
        found.read_string(text)
        section = found[f"program:{part.program}"]
        assert section["stopsignal"] == ("USR1" if part.name.startswith(("producer", "sink")) else "TERM")
        assert section["autorestart"] == ("unexpected" if part.name.startswith("producer") else "true")
        assert "75" not in section["exitcodes"].split(","), "who hands over is started again"
        assert str(folder.path) in section["command"].replace("'", "")
    found = RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)
    found.read_string(supervisor_file(folder, FLEET.node))
    assert found["supervisord"]["nodaemon"] == "true"


GPUS = "0, GPU-aaaa\n1, GPU-bbbb\n2, GPU-cccc\n"


@pytest.mark.parametrize(
    ("allowed", "found"),
    [
        (None, ["GPU-aaaa", "GPU-bbbb", "GPU-cccc"]),
        ("", []),
        ("-1", []),
        ("2,0", ["GPU-cccc", "GPU-aaaa"]),
        ("1,7,0", ["GPU-bbbb"]),
        ("GPU-b", ["GPU-bbbb"]),
        ("0,0", ["GPU-aaaa"]),
        ("MIG-1234", ["MIG-1234"]),
    ],
)
def test_gpus_that_may_be_had(allowed: str | None, found: list[str]) -> None:
    assert choose(GPUS, allowed) == found


def test_gpus_are_asked_of_the_driver(tmp_path: Path) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\nprintf '{GPUS}'\n")
    program.chmod(0o755)
    assert visible_gpus({"PATH": str(tmp_path), "CUDA_VISIBLE_DEVICES": "1"}) == ["GPU-bbbb"]
    program.write_text("#!/bin/sh\nexit 9\n")
    assert visible_gpus({"PATH": str(tmp_path)}) == []
    assert visible_gpus({"PATH": str(tmp_path / "nowhere")}) == []

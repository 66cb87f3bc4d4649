"""What deploy/ ships for systemd and logrotate, as these programs judge it. That a node works as they run it:
tests/integration/test_operations_boot.py."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.node.plan import ORDER, parts_of
from tests.deploy.test_node_plan import FLEET
from tests.guide import ROOT, check_call, commands
from tests.unitfile import UNITS, read_unit

SYSTEMD = shutil.which("systemd-analyze")
LOGROTATE = shutil.which("logrotate", path="/usr/sbin:/usr/bin")
needs_systemd = pytest.mark.skipif(SYSTEMD is None, reason="there is no systemd-analyze (Debian's package systemd)")


def here(unit: Path, folder: Path) -> Path:
    """The unit, with the program where it is on this machine."""
    copy = folder / unit.name
    copy.write_text(unit.read_text().replace("/opt/headrace/bin/", f"{Path(sys.executable).parent}/"))
    return copy


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_reads_it(unit: Path, tmp_path: Path) -> None:
    assert SYSTEMD is not None
    done = subprocess.run([SYSTEMD, "verify", here(unit, tmp_path)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
def test_systemd_tells_of_mistakes(tmp_path: Path) -> None:
    """The judge above can say no."""
    assert SYSTEMD is not None
    copy = here(UNITS[0], tmp_path)
    copy.write_text(copy.read_text().replace("ProtectSystem=strict", "ProtectSytem=strict"))
    done = subprocess.run([SYSTEMD, "verify", copy], capture_output=True, text=True)
    assert "ProtectSytem" in done.stderr


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_it_is_hardened(unit: Path, tmp_path: Path) -> None:
    """By systemd's own measure of 0 to 10, where a service without a line about it has 9.6."""
    assert SYSTEMD is not None
    words = [SYSTEMD, "security", "--offline=true", "--threshold=25", "--no-pager", here(unit, tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr


def test_devices_are_not_shut_out() -> None:
    """GPUs and cameras, and the code that CUDA makes. ProtectClock= implies a DeviceAllow=."""
    for unit in UNITS:
        keys = read_unit(unit).keys()
        assert not keys & {
            "PrivateDevices", "DevicePolicy", "DeviceAllow", "ProtectClock", "MemoryDenyWriteExecute", "ProcSubset"
        }  # fmt: skip


def test_it_waits_for_all_parts_to_leave() -> None:
    """TimeoutStopSec is longer than all that supervisord waits for, one kind of part after the other."""
    parts = parts_of(FLEET, ("broker", "sink", "workers", "producers"), [])
    longest = {part.priority: 0 for part in parts}
    for part in parts:
        longest[part.priority] = max(longest[part.priority], part.stop_s)
    assert len(longest) == len(ORDER)
    for unit in UNITS:
        keys = read_unit(unit)
        assert int(keys["TimeoutStopSec"][0]) > sum(longest.values()) + 10
        assert keys["KillMode"] == ["mixed"]
        assert keys["OOMPolicy"] == ["continue"]


def test_its_commands_exist() -> None:
    for unit in UNITS:
        keys = read_unit(unit)
        for key in ("ExecStart", "ExecReload", "ExecStop"):
            (line,) = keys[key]
            (words,) = commands(line.lstrip("-"))
            assert check_call(words) == ""
            assert words[0] == {"ExecStart": "up", "ExecReload": "reload", "ExecStop": "down"}[key]


def test_the_template_differs_by_its_name_alone() -> None:
    one, many = (read_unit(unit) for unit in UNITS)
    for key in many:
        of_one = ["headrace/%i" if value == "headrace" and key == "StateDirectory" else value for value in one[key]]
        of_one = [re.sub(r"/var/lib/headrace$", "/var/lib/headrace/%i", value) for value in of_one]
        of_one = [re.sub(r"/etc/headrace/headrace\.toml$", "/etc/headrace/%i.toml", value) for value in of_one]
        of_one = [value.replace("/etc/headrace/secrets.env", "/etc/headrace/%i.env") for value in of_one]
        assert many[key] == ([f"{one[key][0]}: %i"] if key == "Description" else of_one)
    assert one.keys() == many.keys()


@pytest.mark.skipif(LOGROTATE is None, reason="there is no logrotate")
def test_logrotate_reads_it(tmp_path: Path) -> None:
    assert LOGROTATE is not None
    (tmp_path / "log").mkdir(mode=0o750)
    log = tmp_path / "log" / "sink.log"
    log.write_text("{}\n" * 4_000_000)
    rules = tmp_path / "headrace"
    text = (ROOT / "deploy" / "logrotate" / "headrace").read_text()
    rules.write_text(text.replace("/var/log/headrace/", f"{log.parent}/").replace("    su headrace headrace\n", ""))
    rules.chmod(0o644)
    words = [LOGROTATE, "--state", str(tmp_path / "state"), str(rules)]
    done = subprocess.run([*words, "--debug"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "error" not in done.stderr
    # Whoever has it open goes on in the same file.
    with log.open("ab") as writer:
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        writer.write(b'{"message": "later"}\n')
    assert log.read_bytes() == b'{"message": "later"}\n'
    assert log.with_name("sink.log.1").stat().st_size == 12_000_000

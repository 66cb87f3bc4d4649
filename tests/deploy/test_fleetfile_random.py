"""Whatever stands in the file, it is taken or refused in single lines, and what is taken the parts can read."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common import config
from common.errors import HeadraceError, UsageError
from deploy.file import template
from deploy.fleetfile import FleetFile
from deploy.roles import ROLES

VALUES = (
    "0", "1", "-1", "2", "8750", "1.5", "nan", "inf",
    "1e300", "9223372036854775807", "true", "false", '""', '"x"', '"auto"', '"*"',
    '"10ms"', '"tcp://127.0.0.1:7000"', '"tcp://h:0"', '"tcp://:"',
    '"ipc://x"', '"127.0.0.1:8750"', '"[::1]:0"', '"a:99999"',
    "[]", "[1]", "[640, 360]", '["a.ts"]', '["a.ts", "a.ts"]', "[{}]", '[{path = "x", kind = "hls"}]', "{}", "{a = 1}",
    "1979-05-27", "07:32:00", '"${PW}"', '"${NONE}"', '"\\u0000"',
    '"\\n"', '"é😀"', "'" + "x" * 300 + "'", '"-"', '"/dev/null"',
    '"/dev/video0?x=1"', '"file:x"', '"a%Y"', '"live/"',
    '"*.jpg"', '"rtsp://u:p@h/x"', '"udp://h:1"', '"live"', '"mkv"',
)  # fmt: skip


def mangled(random: Random) -> str:
    text = template.filled("face", "cam", "rtsp://cam/1", ["a.ts"], "./headrace.schema.json")
    lines = []
    for line in text.splitlines():
        if (found := re.fullmatch(r"(# )?(\[[\w.\[\]]+\]|\w+ = )(.*)", line)) is not None:
            if found[1] and random.random() < 0.85:
                continue
            line = found[2] + found[3]
            if "=" in found[2] and random.random() < 0.3:
                line = found[2] + random.choice(VALUES)
        lines += [line] * (2 if random.random() < 0.01 else 1)
    if random.random() < 0.2:
        lines[random.randrange(len(lines))] = random.choice(
            ("x", "[", "x = ", "= 1", '"""', "[[workers]]", "streams.x = 1")
        )
    return "\n".join(lines)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(random=st.randoms(use_true_random=False), roles=st.sets(st.sampled_from(ROLES), min_size=1))
def test_a_mangled_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, random: Random, roles: set[str]) -> None:
    folder = tmp_path / "empty"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    monkeypatch.chdir(folder)
    path = Path("headrace.toml")
    path.write_text(text := mangled(random))
    environment = {"PW": "Zq7secret", "HEADRACE_TOKEN": "t" * 16}
    try:
        file = FleetFile(path, environment)
    except UsageError as error:
        one_line(error)
        return
    fleet, book = file.check(frozenset(roles), 2)
    config.dump(fleet)
    for mistake in book.sorted():
        one_line(mistake)
        assert 0 <= mistake.line <= text.count("\n") + 1
    try:
        made = file.node(folder, frozenset(roles), 2)
    except HeadraceError as error:
        one_line(error)
        assert book.sorted(), "check found nothing"
    else:
        assert book.sorted() == [], "check is stricter"
        Path("fleet.json").write_bytes(config.dump(made))
        assert config.load(Path("fleet.json")) == made
    for take in (lambda: file.fleet(folder), lambda: file.only_streams(config.Workers(model="face"), folder)):
        try:
            take()
        except HeadraceError as error:
            one_line(error)


def one_line(said: object) -> None:
    assert not re.search(r"[\x00-\x1f]", str(said))
    assert str(said).startswith(("headrace.toml:", "cannot read headrace.toml"))
    assert "Zq7secret" not in str(said)

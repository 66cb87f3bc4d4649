"""The documentation names everything that a user or another implementation can meet."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
import typer

from common import config
from common import messages as m
from common.messages import Part
from deploy import cli
from tests.strategies import HEADERS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def parts() -> list[type[Any]]:
    """The pieces of messages."""
    return [one for one in vars(m).values() if isinstance(one, type) and issubclass(one, Part) and one is not Part]


def sections() -> list[type[Any]]:
    return [one for one in vars(config).values() if isinstance(one, type) and issubclass(one, config.Section)]


def code(page: Path) -> set[str]:
    """Words that stand in code: in backticks or in a fenced block."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL)
    return set(re.findall(r"[A-Za-z_][\w-]*", " ".join(found)))


def section_of(page: Path, name: str) -> str:
    """The page's text from the first heading that names ``name`` to the next heading of that level or above."""
    lines = page.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        heading = re.match(r"(#+) ", line)
        if heading and re.search(rf"(?<![\w]){re.escape(name)}(?![\w])", line):
            level = len(heading[1])
            rest = lines[number + 1 :]
            end = next((at for at, one in enumerate(rest) if re.match(rf"#{{1,{level}}} ", one)), len(rest))
            return "\n".join(rest[:end])
    return ""


@pytest.mark.parametrize("kind", [*HEADERS, *parts()], ids=lambda kind: kind.__name__)
def test_every_message_and_field_is_in_the_protocol(kind: type[Any]) -> None:
    page = ROOT / "docs" / "protocol.md"
    text = section_of(page, kind.__name__)
    assert text, f"docs/protocol.md has no heading for {kind.__name__}"
    fields = [field.encode_name for field in msgspec.structs.fields(kind) if field.encode_name != "v"]
    missing = [name for name in fields if not re.search(rf"`[^`\n]*\b{name}\b[^`\n]*`", text)]
    assert not missing, f"docs/protocol.md does not explain {', '.join(missing)} of {kind.__name__}"


def test_the_protocol_names_every_tag_and_the_version() -> None:
    words = code(ROOT / "docs" / "protocol.md")
    missing = {str(kind.__struct_config__.tag) for kind in HEADERS} - words
    assert not missing
    assert {"t", "v"} <= words


@pytest.mark.parametrize("section", sections(), ids=lambda section: section.__name__)
def test_every_configuration_key_is_documented(section: type[Any]) -> None:
    words = code(ROOT / "docs" / "configuration.md")
    missing = {field.encode_name for field in msgspec.structs.fields(section)} - words
    assert not missing, f"docs/configuration.md does not name {', '.join(sorted(missing))}"


def options(command: Any, path: str = "headrace") -> Iterator[tuple[str, str]]:
    """Each verb's options as they are typed."""
    for parameter in command.params:
        if parameter.name != "help":
            names = [name for name in parameter.opts if name.startswith("--")]
            yield from ((path, name) for name in names[:1])
    for name, sub in getattr(command, "commands", {}).items():
        yield path, name
        yield from options(sub, f"{path} {name}")


def test_every_verb_and_option_is_documented() -> None:
    command = typer.main.get_command(cli.app)
    assert isinstance(command, click.Command) or hasattr(command, "params")
    found = list(options(command))
    assert len(found) > 20
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    missing = [
        f"{path} {name}" for path, name in found if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text)
    ]
    assert not missing, f"neither README.md nor docs/ name {missing}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    local = [target for target in targets if "://" not in target and not target.startswith("mailto:")]
    missing = [target for target in local if not (page.parent / target).exists()]
    assert not missing

"""The documentation names everything that a user or another implementation can meet."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


def verbs(command: Any, path: str = "headrace") -> Iterator[tuple[str, Any]]:
    """Each command that does something, and how it is called."""
    subs = getattr(command, "commands", {})
    if not subs:
        yield path, command
    for name, sub in subs.items():
        yield from verbs(sub, f"{path} {name}")


def options(command: Any) -> set[str]:
    """As they are typed, in their long form."""
    known = [*command.opts, *command.secondary_opts] if hasattr(command, "opts") else []
    found = {name for name in known if name.startswith("--") and name != "--help"}
    for one in [*getattr(command, "params", ()), *getattr(command, "commands", {}).values()]:
        found |= options(one)
    return found


CLI = ROOT / "docs" / "cli.md"
VERBS = dict(verbs(typer.main.get_command(cli.app)))


@pytest.mark.parametrize("path", VERBS)
def test_every_verb_and_option_is_in_the_page_of_commands(path: str) -> None:
    assert len(VERBS) > 20
    section = section_of(CLI, path) or section_of(CLI, " ".join(path.split()[:2]))
    assert f"{path}" in CLI.read_text(encoding="utf-8")
    assert section, f"docs/cli.md has no heading for {path}"
    if "in `headrace run`" in section:  # whose options they share
        section += section_of(CLI, "headrace run")
    missing = [name for name in sorted(options(VERBS[path])) if not re.search(rf"`[^`\n]*{name}(?![\w-])", section)]
    assert not missing, f"docs/cli.md does not name {', '.join(missing)} of {path}"


def test_the_page_of_commands_names_nothing_else() -> None:
    """Options in the tables of a command are its own, and every command that is named is there."""
    text = CLI.read_text(encoding="utf-8")
    wrong = []
    for heading in re.findall(r"^#+ `headrace (\w+)", text, re.MULTILINE):
        known = set().union(*(options(verb) for path, verb in VERBS.items() if path.split()[1] == heading))
        cells = re.findall(r"^\| (`-[^|]*) \|", section_of(CLI, f"headrace {heading}"), re.MULTILINE)
        wrong += [f"{heading} {name}" for cell in cells for name in re.findall(r"--[\w-]+", cell) if name not in known]
    for page in (CLI, ROOT / "docs" / "operations.md"):
        called = set(re.findall(r"`headrace ([a-z]+)", page.read_text(encoding="utf-8")))
        wrong += [f"{page.name}: headrace {name}" for name in called - {path.split()[1] for path in VERBS}]
    assert not wrong


def anchors(page: Path) -> set[str]:
    """What a link to the page may have after ``#``: its headings, as GitHub writes them."""
    body = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    heads = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", head) for head in re.findall(r"^#+ (.*)$", body, re.MULTILINE)]
    return {re.sub(r"[^\w\- ]", "", head.strip().lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", text)
    local = [(target, anchor) for target, anchor in found if "://" not in target and not target.startswith("mailto:")]
    missing = [target for target, _ in local if target and not (page.parent / target).exists()]
    pages = {one.resolve(): anchors(one) for one in PAGES}
    for target, anchor in local:
        to = (page.parent / target).resolve() if target else page.resolve()
        if anchor and to in pages and anchor not in pages[to]:
            missing.append(f"{target}#{anchor}")
    assert not missing

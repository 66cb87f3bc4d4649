"""Which parts of a fleet a node runs, and what that asks of the addresses. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from common import config
from common.errors import UsageError

#: What a node may run; ``all`` stands for the four.
ROLES = ("broker", "workers", "sink", "producers")
ALL = frozenset(ROLES)
#: Who listens at an address, and who calls there: (section, key) → (listener, callers).
LINKS = {
    ("broker", "frames"): ("broker", ("producers",)),
    ("broker", "workers"): ("broker", ("workers",)),
    ("broker", "news"): ("broker", ("producers",)),
    ("sink", "media"): ("sink", ("producers",)),
    ("sink", "results"): ("sink", ("broker", "workers")),
}


def roles_of(given: Iterable[str]) -> frozenset[str]:
    """The roles that ``given`` names, each a role or several with commas between. Raises UsageError."""
    names = [name.strip() for text in given for name in text.split(",")]
    for name in names:
        if name not in (*ROLES, "all"):
            raise UsageError(f"--role {name}: there is no such role; allowed are all, {', '.join(ROLES)}")
        if names.count(name) > 1:
            raise UsageError(f"--role {','.join(names)}: {name} is named twice")
    if not names:
        raise UsageError(f"no role is named: allowed are all, {', '.join(ROLES)}")
    if "all" in names and len(names) > 1:
        others = ", ".join(name for name in names if name != "all")
        raise UsageError(f"--role {','.join(names)}: all includes {others}: write --role all, or leave all out")
    return ALL if "all" in names else frozenset(names)


def parts_of_link(section: str, key: str) -> tuple[str, ...]:
    """Which roles have to do with an address."""
    listener, callers = LINKS[section, key]
    return (listener, *callers)


def split_links(fleet: config.Fleet, roles: frozenset[str]) -> Iterator[tuple[str, str, str]]:
    """Addresses by which parts of this node and of others would meet, and cannot: (section, key, what is wrong)."""
    for (section, key), (listener, callers) in LINKS.items():
        if getattr(getattr(fleet, section), key).startswith("tcp://"):
            continue
        here = [caller for caller in callers if caller in roles]
        away = [caller for caller in callers if caller not in roles]
        if listener not in roles and here:
            who, where = " and ".join(here), f"the {listener}"
        elif listener in roles and away:
            who, where = f"the {listener}", " and ".join(away)
        else:
            continue
        verb = "run" if " and " in who or who.endswith("s") else "runs"
        more = "run" if " and " in where or where.endswith("s") else "runs"
        text = f"{who} {verb} on this node and {where} {more} on another: write an address, tcp://HOST:PORT"
        yield section, key, text

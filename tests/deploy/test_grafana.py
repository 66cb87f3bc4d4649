"""Dashboard, alert rules and docs/metrics.md speak of the families that are exported, by their names and labels."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml

import broker.gauges
import deploy.agent.metrics
import producer.gauges
import sink.gauges
import workers.gauges
from common.metrics import COMMON, Family
from common.process import usage

FOLDER = Path("deploy/grafana")
DOCS = Path("docs/metrics.md")
#: What Prometheus adds to each series, and the node's agent.
ADDED = {"instance", "job", "part"}
PARTS = (COMMON, sink.gauges.FAMILIES, producer.gauges.FAMILIES, broker.gauges.FAMILIES, workers.gauges.FAMILIES)
ALL = [family for families in (*PARTS, deploy.agent.metrics.FAMILIES) for family in families]


def series() -> dict[str, set[str]]:
    """Every series that Prometheus sees → its labels."""
    known: dict[str, set[str]] = {"up": {"instance", "job"}}
    for family in ALL:
        labels = {*family.labels, *ADDED}
        if family.kind == "histogram":
            known |= {f"{family.exported}_bucket": labels | {"le"}}
            known |= dict.fromkeys((f"{family.exported}_sum", f"{family.exported}_count"), labels)
        else:
            known[family.exported] = labels
    return known | {f"{name}_total" if kind == "counter" else name: ADDED for name, kind, _, _ in usage()}


def nodes(node: Any) -> Iterator[Any]:
    """All parts of an expression."""
    if node is None or isinstance(node, (str, float, int)):
        return
    yield node
    for name in ("expr", "lhs", "rhs", "param", "vector_selector", "vs"):
        yield from nodes(getattr(node, name, None))
    for argument in getattr(node, "args", ()):
        yield from nodes(argument)


def wrong(expression: str, known: dict[str, set[str]]) -> list[str]:
    """What an expression speaks of that nobody exports."""
    found: list[str] = []
    read = re.sub(r"\$(stream|node)", ".*", expression)
    here: set[str] = set()
    for node in nodes(promql.parse(read)):
        if isinstance(node, promql.VectorSelector):
            if node.name not in known:
                found.append(f"{node.name} is not exported")
                continue
            here |= known[node.name]
            labels = {matcher.name for matcher in node.matchers.matchers}
            found += [f"{node.name} has no label {label}" for label in labels - known[node.name]]
    for node in nodes(promql.parse(read)):
        modifier = getattr(node, "modifier", None)
        grouped = getattr(modifier, "labels", None) or getattr(getattr(modifier, "matching", None), "labels", None)
        found += [f"nothing there has a label {label} to group by" for label in set(grouped or ()) - here]
    return found


def test_what_is_wrong_is_found() -> None:
    known = {"a_total": {"x"}, "b_bucket": {"le", "y"}}
    assert wrong('sum by (x) (rate(a_total{x=~"$stream"}[5m])) > 0', known) == []
    assert wrong("sum(rate(c_total[5m])) / sum(a_total)", known) == ["c_total is not exported"]
    assert wrong('1 - (a_total{y="1"})', known) == ["a_total has no label y"]
    assert wrong("histogram_quantile(0.9, sum by (le, x) (rate(b_bucket[1m])))", known) == [
        "nothing there has a label x to group by"
    ]
    assert wrong("max(a_total) by (z) unless b_bucket offset 5m", known) == ["nothing there has a label z to group by"]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((FOLDER / "dashboard.json").read_text())["panels"]
    return found


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_names_and_labels_of_the_dashboard_are_exported() -> None:
    known, asked = series(), 0
    for panel in panels():
        for target in panel.get("targets", ()):
            asked += 1
            assert wrong(target["expr"], known) == [], panel["title"]
            shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            assert shown <= set().union(*known.values()), panel["title"]
            assert all(re.search(rf"\b{label}\b", target["expr"]) or "by (" not in target["expr"] for label in shown)
    assert asked > 50
    for one in json.loads((FOLDER / "dashboard.json").read_text())["templating"]["list"]:
        if one["type"] == "query":
            name, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", one["definition"]).groups()  # type: ignore[union-attr]
            assert label in known[name]


def test_the_dashboard_has_a_row_for_each_side_and_its_panels_do_not_overlap() -> None:
    rows = [panel["title"] for panel in panels() if panel["type"] == "row"]
    assert rows == ["Streams", "Latency", "Workers", "Broker", "Sources", "Outputs", "Node"]
    taken: dict[tuple[int, int], str] = {}
    for panel in panels():
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        for cell in ((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])):
            assert taken.setdefault(cell, panel["title"]) == panel["title"], cell
    assert len({panel["id"] for panel in panels()}) == len(panels())


def test_names_and_labels_of_the_alerts_are_exported() -> None:
    known = series()
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names)) > 20
    for rule in rules():
        assert wrong(rule["expr"], known) == [], rule["alert"]
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert set(rule["annotations"]) == {"summary", "action"}
        left = {label for group in re.findall(r"by \(([^)]*)\)", rule["expr"]) for label in group.split(", ")}
        left |= known["up"] if rule["expr"].startswith("up") else set()
        said = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
        assert said <= left, f"{rule['alert']} speaks of labels that are gone when it is raised"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not here (Debian: prometheus)")
def test_promtool_finds_no_fault_and_the_alerts_are_raised_as_told() -> None:
    for command in (("check", "config", "prometheus.yml"), ("test", "rules", "alerts.test.yml")):
        done = subprocess.run(["promtool", *command], cwd=FOLDER, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr


def documented() -> list[tuple[str, tuple[str, ...], str]]:
    """Name, labels and kind of each family in the tables of docs/metrics.md."""
    rows = re.findall(r"^\| `(headrace_\w+)(?:{([\w,]*)})?` \| (\w+) \| .{10,} \|$", DOCS.read_text(), re.MULTILINE)
    return [(name, tuple(labels.split(",")) if labels else (), kind) for name, labels, kind in rows]


def test_every_family_is_documented_and_every_documented_one_is_exported() -> None:
    exported = {(family.exported, family.labels, family.kind) for family in ALL}
    assert set(documented()) == exported
    assert len(documented()) == len(exported), "one is documented twice"


def test_families_follow_the_conventions() -> None:
    for family in ALL:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", family.name)
        assert len(family.help) > 15, family.name
        assert family.help[0].isupper() or family.help[0].isdigit()
        assert family.help.endswith(".")
        assert not family.name.endswith(("_total", "_count", "_sum", "_bucket", "_ms", "_kb")), family.name
        if family.kind == "histogram":
            assert family.name.endswith(("_seconds", "_frames"))
            assert list(family.bounds) == sorted(set(family.bounds))
    shared: dict[str, Family] = {}
    for family in ALL:
        assert shared.setdefault(family.name, family) == family, "two parts mean other things by one name"


def test_words_of_the_docs_are_those_of_the_code() -> None:
    text = DOCS.read_text()
    for word in (*producer.gauges.STATES, *deploy.agent.metrics.STATES[:-1]):
        assert f"`{word}`" in text, word
    told = set(re.findall(r"\bfiles?|`(alerts\.yml|dashboard\.json|prometheus\.yml)`", text)) - {""}
    assert told == {path.name for path in FOLDER.iterdir()} - {"alerts.test.yml"}

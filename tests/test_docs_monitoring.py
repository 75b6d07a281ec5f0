"""docs/monitoring.md and docs/grafana.json: what they name is there, in a server that runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.pages import WebTests
from tests.support import Limits, make_message
from wschat.testing import NOW

DOCS = Path(__file__).parent.parent / "docs"
MONITORING = (DOCS / "monitoring.md").read_text("utf-8")
DASHBOARD = json.loads((DOCS / "grafana.json").read_text("utf-8"))

_METRIC = re.compile(r"\b(?:wschat|process)_[a-z_]+")


def expressions() -> list[str]:
    """What the dashboard asks Prometheus for."""
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]


class _ServerTests(WebTests):
    limits = Limits(administrators=frozenset({"alice"}))

    def samples(self) -> dict[str, set[str]]:
        """The names of all samples, and of all labels that each has."""
        self.server.upgrade("/ws?token=x")  # or there is nobody who was refused
        text = self.server.request("GET", "/metrics", address="127.0.0.1").text
        names: dict[str, set[str]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                names.setdefault(sample.name, set()).update(sample.labels)
        return names


class DashboardTests(_ServerTests):
    """docs/grafana.json."""

    def test_metrics(self) -> None:
        """Every metric that it shows exists, with the labels that it shows."""
        samples = self.samples()
        self.assertGreater(len(expressions()), 20)
        for panel in DASHBOARD["panels"]:
            for target in panel.get("targets", ()):
                names = set(_METRIC.findall(target["expr"]))
                self.assertTrue(names, target)
                self.assertLessEqual(names, samples.keys(), panel["title"])
                labels = set().union(*(samples[name] for name in names)) | {"instance"}
                shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
                by = re.findall(r"by \(([a-z, ]+)\)", target["expr"])
                grouped = {label for part in by for label in part.split(", ")}
                self.assertLessEqual(shown | grouped, labels, panel["title"])

    def test_everything_is_shown(self) -> None:
        """Nothing that the server counts is left out."""
        shown = {name for text in expressions() for name in _METRIC.findall(text)}
        families = {re.sub("_(bucket|count|sum|created)$", "", name) for name in self.samples()}
        wanted = {name for name in families if name.startswith("wschat_")}
        self.assertEqual({re.sub("_(bucket|count|sum)$", "", n) for n in shown} & wanted, wanted)

    def test_layout(self) -> None:
        """Panels have ids of their own, fit the grid of 24, and do not lie on one another."""
        taken: set[tuple[int, int]] = set()
        for panel in DASHBOARD["panels"]:
            at = panel["gridPos"]
            self.assertLessEqual(at["x"] + at["w"], 24)
            cells = {
                (x, y)
                for x in range(at["x"], at["x"] + at["w"])
                for y in range(at["y"], at["y"] + at["h"])
            }
            self.assertFalse(taken & cells, panel["title"])
            taken |= cells
        ids = [panel["id"] for panel in DASHBOARD["panels"]]
        self.assertEqual(len(set(ids)), len(ids))

    def test_any_prometheus(self) -> None:
        """It names no data source, job or host of anybody's."""
        for panel in DASHBOARD["panels"]:
            for target in panel.get("targets", ()):
                self.assertEqual(target["datasource"]["uid"], "${datasource}")
                for selector in re.findall(r"{(.*?)}", target["expr"]):
                    self.assertIn('job=~"$job",instance=~"$instance"', selector)


class MonitoringTests(_ServerTests):
    """docs/monitoring.md."""

    def test_metrics(self) -> None:
        """Its table has every metric, with its labels, and no other."""
        row = re.compile(r"^\|((?:,? `wschat_\w+`)+) \|(.*?)\|.*\|$", re.MULTILINE)
        rows = row.findall(MONITORING)
        listed = {
            name: set(re.findall(r"`(\w+)`", labels))
            for names, labels in rows
            for name in re.findall(r"`(wschat_\w+)`", names)
        }
        there: dict[str, set[str]] = {}
        for name, labels in self.samples().items():
            if name.startswith("wschat_"):
                family = re.sub("_(bucket|count|sum|created)$", "", name)
                there.setdefault(family, set()).update(labels - {"le"})
        self.assertEqual(listed, there)

    def test_alerts(self) -> None:
        """What is worth waking somebody is there."""
        section = MONITORING.partition("Worth waking")[2].partition("\n## ")[0]
        names = set(_METRIC.findall(section))
        self.assertGreater(len(names), 2)
        families = {re.sub("_(bucket|count|sum)$", "", name) for name in self.samples()}
        self.assertLessEqual(names, families)

    def test_analytics(self) -> None:
        """The answers are as they are shown, but for the days that are left out."""
        self.server.add_users("alice", "bob")
        self.server.store.users._seen({"alice": NOW - 2 * 86400})
        self.connect("bob", "bob")
        for when, topics in ((NOW - 2 * 86400, ("alice",)), (NOW - 1, ("alice", "broadcast"))):
            batch = [make_message("bob", topic, "word") for topic in topics]
            self.server.store.stream._append(batch, {}, frozenset(), when)
        authorization = f"Bearer {self.server.token('alice')}"
        (block,) = re.findall(r"## Analytics\n.*?```json\n(.*?)```", MONITORING, re.DOTALL)
        examples = [json.loads(line) for line in block.splitlines()]
        paths = ("summary", "users/daily", "messages/stats")
        for path, example in zip(paths, examples, strict=True):
            told = self.get(f"/analytics/{path}", authorization=authorization).json
            self.assertEqual(_shape(told), _shape(example), path)


def _shape(value: Any) -> Any:
    """Keys and types; of a list those of its first."""
    if isinstance(value, dict):
        return {key: _shape(inner) for key, inner in value.items()}
    return [_shape(value[0])] if isinstance(value, list) else type(value)

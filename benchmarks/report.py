"""The results as Markdown."""

from __future__ import annotations

from pathlib import Path

from benchmarks.results import WORKS, Results, verdicts


def text(results: Results) -> str:
    """Everything, as Markdown."""
    lines = []
    for verdict in verdicts(results):
        measured = "–" if verdict.measured is None else f"{verdict.measured:.2f}"
        lines.append(f"| {verdict.target.what} | {verdict.target.wanted} | {measured} | {verdict.text} |")
    return "\n".join(lines)


def write(results: Results, directory: Path) -> None:
    (directory / "benchmark.md").write_text(text(results), "utf-8")

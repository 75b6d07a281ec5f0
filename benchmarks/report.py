"""The results as Markdown: docs/benchmark.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import plots
from benchmarks.plan import FLAT_OUT_DIRECT
from benchmarks.results import LOAD_LIMIT, Measurement, Results
from benchmarks.targets import WSCHAT, verdicts

_NOTHING: Final = "-"
_ABOUT: Final = Path(__file__).with_name("about.md")


@dataclass(frozen=True)
class Column:
    """A value of measurements: how it is headed, and how many digits it has."""

    key: str
    heading: str
    scale: float = 1
    digits: int = 0
    #: Whether the ratio to wschat's is told as well.
    ratio: bool = False


_P50: Final = Column("p50", "p50, ms", digits=1)
_P99: Final = Column("p99", "p99, ms", digits=1)
_SHARES: Final = (
    Column("server", "server busy, %", 100),
    Column("load", "load busy, %", 100),
)
_CPU: Final = Column("cpu", "CPU, µs", digits=1, ratio=True)
_RATE: Final = Column("rate", "a second", ratio=True)
_FLAT_OUT: Final = (_RATE, _CPU, _P50, _P99, *_SHARES)
_AT_FULL_SPEED: Final = ("flood", *FLAT_OUT_DIRECT)


@dataclass(frozen=True)
class Section:
    """A kind of work: its table, and what its plot shows."""

    work: str
    title: str
    columns: tuple[Column, ...]
    plots: tuple[plots.Plot, ...] = ()


SECTIONS: Final = (
    Section(
        "paced",
        "Broadcasts, paced",
        (_CPU, _P50, _P99, *_SHARES),
        (
            plots.Plot("paced", "paced", "cpu", "CPU a delivery, paced broadcasts (µs)"),
            plots.Plot("p99", "paced", "p99", "p99 of a broadcast, paced (ms)"),
        ),
    ),
    Section(
        "flood",
        "Broadcasts, flat out",
        _FLAT_OUT,
        (plots.Plot("flood", "flood", "rate", "broadcasts flat out, deliveries a second"),),
    ),
    Section(
        "direct",
        "Direct messages, flat out: 50 users, each to the others in turn, sixteen on their way",
        _FLAT_OUT,
        (plots.Plot("direct", "direct", "rate", "direct messages flat out, a second"),),
    ),
    Section(
        "paired",
        "Direct messages, flat out: 50 pairs, sixteen on their way in each",
        _FLAT_OUT,
        (plots.Plot("paired", "paired", "rate", "direct messages in pairs, 16 at once, a second"),),
    ),
    Section(
        "single",
        "Direct messages: 50 pairs, one on its way in each",
        _FLAT_OUT,
        (plots.Plot("single", "single", "rate", "direct messages in pairs, one each, a second"),),
    ),
    Section(
        "connect",
        "Connecting, beside those who are connected",
        (_CPU, _RATE, _P50, _P99, *_SHARES),
        (plots.Plot("connect", "connect", "cpu", "CPU a connection made (µs)"),),
    ),
    Section("storm", "Everybody connecting at once", _FLAT_OUT),
    Section(
        "mixed",
        "Mixed",
        (_CPU, _P50, _P99, Column("direct_p99", "direct p99, ms", digits=1), *_SHARES),
        (plots.Plot("mixed", "mixed", "cpu", "CPU a delivery, mixed traffic (µs)"),),
    ),
    Section(
        "memory",
        "Memory an idle connection",
        (Column("memory", "KB (1000 bytes)", digits=1, ratio=True),),
        (plots.Plot("memory", "memory", "memory", "memory an idle connection (KB)"),),
    ),
    Section("idle", "Processor time of idle connections", _SHARES),
)


def write(results: Results, directory: Path) -> None:
    """Write benchmark.md and its plots."""
    for section in SECTIONS:
        for plot in section.plots:
            (directory / plot.file).write_text(plots.svg(results, plot), "utf-8")
    (directory / "benchmark.md").write_text(document(results), "utf-8")


def document(results: Results) -> str:
    """The whole document: what is measured, and what came out."""
    return _ABOUT.read_text("utf-8").rstrip() + "\n\n" + text(results, with_plots=True)


def text(results: Results, *, with_plots: bool = False) -> str:
    """What came out."""
    parts = [_targets(results), _conditions(results), _missing(results), _calibration(results)]
    measured = [section for section in SECTIONS if results.sizes(section.work)]
    parts += [_section(results, section, with_plots=with_plots) for section in measured]
    return "\n\n".join(part for part in parts if part) + "\n"


def _targets(results: Results) -> str:
    rows = []
    for verdict in verdicts(results):
        target = verdict.target
        of = results.labels.get(target.peer, target.peer) if target.peer else _NOTHING
        found = (verdict.measured, verdict.by_time, verdict.classic)
        numbers = [_number(value, 2) for value in found]
        connections = f"{target.connections:,}"
        rows.append((target.what, connections, of, target.wanted, *numbers, verdict.text))
    headings = ("", "connections", "by that of", "target", "measured", "by CPU time")
    return "## Targets\n\n" + _table((*headings, "classic clients", ""), rows)


def _conditions(results: Results) -> str:
    rows = list(results.conditions.items())
    rows += [(results.labels[name], version) for name, version in results.versions.items()]
    return "## Conditions\n\n" + _table(("", ""), rows)


def _missing(results: Results) -> str:
    if not results.missing:
        return ""
    return "## Not measured\n\n" + _table(("", "why"), list(results.missing.items()))


def _calibration(results: Results) -> str:
    """Whether the load was the limit anywhere, and what it can do."""
    limited = [
        f"{results.labels[_server(m)]} ({m.work}, {m.connections:,})"
        for m in results.measurements
        if m.load_limited and m.work in _AT_FULL_SPEED
    ]
    rows = []
    for work in _AT_FULL_SPEED:
        busiest = max(
            (m for m in results.measurements if m.work == work and m.values.get("load")),
            key=lambda m: m.values["rate"],
            default=None,
        )
        if busiest is not None:
            rate, share = busiest.values["rate"], busiest.values["load"]
            label = _label(results, busiest.server)
            cells = (work, label, f"{rate:,.0f}", f"{share * 100:.0f}", f"{rate / share:,.0f}")
            rows.append(cells)
    if not rows:
        return ""
    headings = ("", "fastest server", "a second", "load busy, %", "the load could do, about")
    said = f"It took more than {LOAD_LIMIT * 100:.0f} % of its processor with: "
    said += "; ".join(limited) + "." if limited else "none."
    return f"## Is the load the limit?\n\n{said}\n\n" + _table(headings, rows)


def _section(results: Results, section: Section, *, with_plots: bool) -> str:
    columns = [c for c in section.columns if _has(results, section.work, c.key)]
    headings = ["connections", "server"]
    for column in columns:
        headings += [column.heading, "by wschat's"] if column.ratio else [column.heading]
    rows = [
        _row(results, m, columns)
        for size in results.sizes(section.work)
        for m in results.measurements
        if (m.work, m.connections) == (section.work, size)
    ]
    title = f"## {section.title}\n\n"
    images = [f"![{plot.title}]({plot.file})\n\n" for plot in section.plots if with_plots]
    return title + "".join(images) + _table([*headings, ""], rows)


def _has(results: Results, work: str, key: str) -> bool:
    return any(m.work == work and key in m.values for m in results.measurements)


def _row(results: Results, measured: Measurement, columns: Sequence[Column]) -> list[str]:
    cells = [f"{measured.connections:,}", _label(results, measured.server)]
    for column in columns:
        value = measured.values.get(column.key)
        cells.append(_number(None if value is None else value * column.scale, column.digits))
        if column.ratio:
            ours = results.value(WSCHAT, measured.work, measured.connections, column.key)
            ratio = None if value is None or not ours else value / ours
            cells.append(_number(ratio, 2))
    notes = [measured.fault] if measured.fault else []
    if measured.load_limited and measured.work not in ("connect", "storm"):
        notes.append("the load was the limit")
    if measured.disturbed:
        notes.append("other programs ran")
    return [*cells, "; ".join(notes)]


def _server(measured: Measurement) -> str:
    return measured.server.removesuffix("-lean")


def _label(results: Results, server: str) -> str:
    """A server's name for people; that of a variant says what it does without."""
    bare = server.removesuffix("-lean")
    label = results.labels.get(bare, bare)
    return label if bare == server else f"{label}, no receipts, acks each second"


def _number(value: float | None, digits: int) -> str:
    return _NOTHING if value is None else f"{value:,.{digits}f}"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    """A text that ends no cell and no line."""
    return text.replace("|", "\\|").replace("\n", " ")

"""Plots as SVG: bars, one panel for each number of connections."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Final

from benchmarks.results import Results
from benchmarks.targets import WSCHAT

_WIDTH: Final = 760
_LEFT: Final = 250
_RIGHT: Final = 90
_BAR: Final = 16
_STEP: Final = 22
_TOP: Final = 44
_HEADING: Final = 26
_OURS: Final = "#c2410c"
_THEIRS: Final = "#64748b"
_STYLE: Final = "font-family:sans-serif;font-size:12px;fill:#1e293b"


@dataclass(frozen=True)
class Plot:
    """What a plot shows: a value of a kind of work."""

    name: str
    work: str
    key: str
    title: str

    @property
    def file(self) -> str:
        return f"benchmark-{self.name}.svg"


def svg(results: Results, plot: Plot) -> str:
    """The plot; a panel is there for each number of connections that was measured."""
    parts: list[str] = []
    y = _TOP
    for size in results.sizes(plot.work):
        bars = _bars(results, plot, size)
        if not bars:
            continue
        parts.append(_text(12, y, f"{size:,} connections", weight="bold"))
        y += 8
        most = max(value for _, value, _ in bars) or 1
        for label, value, ours in bars:
            length = (_WIDTH - _LEFT - _RIGHT) * value / most
            color = _OURS if ours else _THEIRS
            parts.append(_text(_LEFT - 8, y + 13, label, anchor="end"))
            parts.append(
                f'<rect x="{_LEFT}" y="{y}" width="{length:.1f}" height="{_BAR}" fill="{color}"/>'
            )
            parts.append(_text(_LEFT + length + 6, y + 13, _short(value)))
            y += _STEP
        y += _HEADING
    title = _text(12, 20, plot.title, weight="bold", size=15)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y}" '
        f'viewBox="0 0 {_WIDTH} {y}" role="img">'
    )
    back = f'<title>{escape(plot.title)}</title><rect width="{_WIDTH}" height="{y}" fill="#fff"/>'
    return "\n".join([head, back, title, *parts, "</svg>"]) + "\n"


def _bars(results: Results, plot: Plot, size: int) -> list[tuple[str, float, bool]]:
    """Label, value, and whether it is wschat's, of each server that has the value."""
    bars = []
    for name, label in results.labels.items():
        value = results.value(name, plot.work, size, plot.key)
        if value is not None:
            bars.append((label, value, name == WSCHAT))
    return bars


def _short(value: float) -> str:
    """Three digits or so."""
    if value >= 10_000:
        return f"{value / 1000:,.0f} k"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _text(
    x: float, y: float, text: str, *, weight: str = "normal", anchor: str = "start", size: int = 12
) -> str:
    style = f"{_STYLE};font-weight:{weight};font-size:{size}px;text-anchor:{anchor}"
    return f'<text x="{x:.1f}" y="{y:.1f}" style="{style}">{escape(text)}</text>'

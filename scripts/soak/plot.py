"""A curve, of characters.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

_EIGHTHS: Final = " ▁▂▃▄▅▆▇█"


def plot(title: str, values: Sequence[float], unit: str, columns: int = 72, rows: int = 8) -> str:
    """Values over time, from 0 up, as lines of text; a column is the highest of its stretch."""
    if not values:
        return f"{title}: nothing was measured"
    columns = min(columns, len(values))
    edges = [len(values) * n // columns for n in range(columns + 1)]
    peaks = [max(values[a:b]) for a, b in pairwise(edges)]
    top = max(*peaks, 1e-9)
    heights = [round(8 * rows * peak / top) for peak in peaks]
    lines = [
        "".join(_EIGHTHS[max(0, min(8, height - 8 * row))] for height in heights)
        for row in reversed(range(rows))
    ]
    labels = [f"{top:,.1f} {unit}", *[""] * (rows - 2), f"0 {unit}"]
    width = max(map(len, labels))
    shown = [f"{label:>{width}} │{line}" for label, line in zip(labels, lines, strict=True)]
    return "\n".join([title, *shown])

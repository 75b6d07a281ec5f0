"""Text in the cells of a terminal, of which some characters take two and some none.  Pure."""

from __future__ import annotations

from itertools import accumulate

from prompt_toolkit.utils import get_cwidth as width

__all__ = ["fit", "pad", "width", "wrap"]


def fit(text: str, cells: int) -> str:
    """As much of a text as has room; what is cut off has an ellipsis in its place."""
    if width(text) <= cells:
        return text
    kept = _cut(text, cells - 1)
    return f"{text[:kept]}…" if cells > 0 else ""


def pad(text: str, cells: int) -> str:
    """Exactly as many cells of text."""
    fitting = fit(text, cells)
    return fitting + " " * (cells - width(fitting))


def wrap(text: str, cells: int) -> list[str]:
    """
    A text in lines of at most so many cells, broken at spaces where that can be.

    There is at least one line, and in each at least one character.
    """
    lines = []
    room = max(1, cells)
    start = used = 0
    for end, character in enumerate(text):  # once, however long: it is others who write it
        used += width(character)
        while used > room and end > start:
            space = text.rfind(" ", start, end + 1)
            if space > start:
                lines.append(text[start:space])
                start = space + 1
            else:
                lines.append(text[start:end])
                start = end
            used = width(text[start : end + 1])
    return [*lines, text[start:]]


def _cut(text: str, cells: int) -> int:
    """How many characters of a text that has more than so many cells have room."""
    return next(n for n, used in enumerate(accumulate(map(width, text))) if used > cells)

"""How a line that is being typed could go on: names and commands.  Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from wschat.client.console import COMMANDS


class Candidate(NamedTuple):
    """What could stand from `start` on, and what it is."""

    start: int
    text: str
    meaning: str = ""


def complete(line: str, people: Iterable[str]) -> list[Candidate]:
    """How a line could go on, in order; `people` in the order in which they are offered."""
    first, space, rest = line.partition(" ")
    if not space and first.startswith("/"):
        return [
            Candidate(0, f"/{name} " if behind else f"/{name}", meaning)
            for name, (behind, meaning) in COMMANDS.items()
            if name.startswith(first[1:])
        ]
    if not space and first.startswith("@"):
        return [Candidate(0, f"@{name} ") for name in people if name.startswith(first[1:])]
    behind, _ = COMMANDS.get(first[1:], ("", ""))
    if first.startswith("/") and behind.startswith("USER") and " " not in rest:
        start = len(line) - len(rest.removeprefix("@"))
        return [Candidate(start, name) for name in people if name.startswith(line[start:])]
    return []

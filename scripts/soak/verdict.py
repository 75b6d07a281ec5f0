"""What a soak has to show: nothing lost, and nothing that grows without end.  Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from statistics import median
from typing import Final

#: How far memory may be above what it was after the beginning.
_GROWTH: Final = 1.10

#: Memory that Python and its libraries take for what they do for the first time, in MiB.
_SLACK: Final = 8.0

#: How long 99 of 100 answers may take, in milliseconds …
_PROMPT: Final = 100.0

#: … and how much longer at the end than at the beginning they may take, and by how much.
_SLOWER: Final = 3.0
_SLOWER_BY: Final = 25.0


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The faults, a line each; none when all was well."""

    faults: list[str]

    @property
    def good(self) -> bool:
        return not self.faults


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of all values do not exceed; 0.0 of none."""
    ordered = sorted(values)
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]


def growth(memory: Sequence[float]) -> tuple[float, float]:
    """The median of the first fifth of the samples, and of the last."""
    part = max(1, len(memory) // 5)
    return median(memory[:part]), median(memory[-part:])


def judge(
    memory: Sequence[float], answers: Sequence[Sequence[float]], counts: dict[str, int]
) -> Verdict:
    """
    Judge samples of memory (MiB), answers' times (ms) by sample, and counts.

    The samples are those after the beginning, in which the crowd arrives.
    """
    faults = [
        f"{name}: {counts[name]:,}" for name in ("lost", "repeated", "foreign") if counts[name]
    ]
    if counts["unsettled"]:
        faults.append(f"{counts['unsettled']:,} messages have no answer")
    if not memory or not any(answers):
        return Verdict([*faults, "nothing was measured"])
    first, last = growth(memory)
    if last > _GROWTH * first + _SLACK:
        faults.append(f"memory grew from {first:.0f} to {last:.0f} MiB")
    every = [time for sample in answers for time in sample]
    if percentile(every, 0.99) > _PROMPT:
        faults.append(f"99 % of the pings were answered within {percentile(every, 0.99):.0f} ms")
    third = max(1, len(answers) // 3)
    early, late = (
        percentile([time for sample in part for time in sample], 0.99)
        for part in (answers[:third], answers[-third:])
    )
    if late > _SLOWER * early and late > early + _SLOWER_BY:
        faults.append(f"answers became slower: 99 % within {early:.0f} ms, then {late:.0f} ms")
    return Verdict(faults)

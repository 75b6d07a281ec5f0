"""Who should have heard what, and who did."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping

from scripts.chaos.journal import Record

BROADCAST = "broadcast"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """
    Counts of messages, and of deliveries: a broadcast has as many as it has recipients.

    `lost` had a receipt and did not reach somebody; `foreign` reached
    somebody who should not have it, or was never said; `unknown` has no
    answer at all.
    """

    sent: int = 0
    stored: int = 0
    refused: int = 0
    unknown: int = 0
    delivered: int = 0
    duplicates: int = 0
    lost: int = 0
    out_of_order: int = 0
    foreign: int = 0

    @property
    def complete(self) -> bool:
        """Whether everything has its answer, and has arrived."""
        return not (self.lost or self.unknown)

    @property
    def good(self) -> bool:
        """Whether every promise was kept."""
        return not (
            self.lost or self.duplicates or self.out_of_order or self.foreign or self.unknown
        )

    def __str__(self) -> str:
        return "\n".join(
            f"{name.replace('_', ' '):>14} {count:>9,}"
            for name, count in dataclasses.asdict(self).items()
        )


def judge(records: Mapping[str, Record]) -> Verdict:
    """Compare the journals of all, by user id."""
    stored = {(user, number) for user, record in records.items() for number in record.stored}
    duplicates = lost = out_of_order = foreign = delivered = 0
    for user, record in records.items():
        heard = Counter(record.got)
        delivered += len(heard)
        duplicates += sum(heard.values()) - len(heard)
        meant = {
            (sender, number)
            for sender, theirs in records.items()
            for number, to in theirs.sent.items()
            if to == user or (to == BROADCAST and sender != user)
        }
        foreign += len(heard.keys() - meant)
        lost += len((meant & stored) - heard.keys())
        out_of_order += _out_of_order(record)
    return Verdict(
        sent=sum(len(record.sent) for record in records.values()),
        stored=len(stored),
        refused=sum(len(record.refused) for record in records.values()),
        unknown=sum(1 for record in records.values() for _ in record.unsettled),
        delivered=delivered,
        duplicates=duplicates,
        lost=lost,
        out_of_order=out_of_order,
        foreign=foreign,
    )


def _out_of_order(record: Record) -> int:
    """How many messages came after a later one of the same sender."""
    latest: dict[str, int] = {}
    count = 0
    for sender, number in record.got:
        count += number < latest.get(sender, 0)
        latest[sender] = max(number, latest.get(sender, 0))
    return count

"""History: what was said, and what became of it, for who asks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from twisted.internet.defer import Deferred

from wschat import statements, wire
from wschat.store import Store

#: How many messages of a topic one page looks at, and how much content it has, in bytes.
SCAN: Final = 5000
PAGE_BYTES: Final = 256 * 1024

#: What a message has on the wire beside its content, in bytes, at most but for keys.
_HEADER_BYTES: Final = 1024


class HistoryPage(msgspec.Struct, frozen=True):
    """Part of a conversation, in order; when there may be `more`, it goes on from `next`."""

    messages: list[wire.Message]
    more: bool
    next: int


class Fate(msgspec.Struct, frozen=True):
    """What became of a message: its id, and whether its recipient has acknowledged it."""

    id: int
    delivered: bool


class History:
    """Reads the messages that are kept, conversation by conversation and one by one."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def page(
        self, user_id: str, peer: str, before: int | None, after: int | None, limit: int
    ) -> Deferred[HistoryPage]:
        """
        A page of what `user_id` and `peer` said to each other, or of the broadcasts.

        The newest messages `before` an id, or the oldest `after` one; without
        either, the newest.  It may have fewer than there are, and say that
        there are more.
        """
        return self._store.read(self._page, user_id, peer, before, after, limit)

    def _page(
        self, user_id: str, peer: str, before: int | None, after: int | None, limit: int
    ) -> HistoryPage:
        forward = after is not None
        topics = [wire.BROADCAST] if peer == wire.BROADCAST else sorted({user_id, peer})
        with self._store.connect() as connection:
            row = connection.execute(statements.SELECT_CURSOR, {"user": user_id}).one_or_none()
            first = row.start if row is not None and peer == wire.BROADCAST else 0
            low = max(after or 0, first)
            high = statements.NEWEST if before is None else before
            edges = [
                connection.execute(
                    statements.history_edge(forward),
                    {"topic": topic, "after": low, "before": high, "skip": SCAN},
                ).scalar()
                for topic in topics
            ]
            found = [edge for edge in edges if edge is not None]
            if found and forward:
                high = min(found)
            elif found:
                low = max(found)
            rows = connection.execute(
                statements.history(peer == wire.BROADCAST, forward),
                {"user": user_id, "peer": peer, "after": low, "before": high, "limit": limit},
            ).all()
        page = self._fitting(rows)
        more = len(page) == limit or len(page) < len(rows)
        if page and (more or not found):
            last = page[-1].id
        elif found:  # nothing else is within the edge; what is beyond it has not been looked at
            more, last = True, high - 1 if forward else low + 1
        else:  # there is nothing; whoever asks again, later, asks from here
            last = (after or 0) if forward else (before or 0)
        return HistoryPage(page if forward else page[::-1], more, last)

    def _fitting(self, rows: Sequence[sa.Row[Any]]) -> list[wire.Message]:
        """As many as one frame can hold, but one at least."""
        fitting: list[wire.Message] = []
        room = PAGE_BYTES
        for row in rows:
            message = self._store.dialect.message(row)
            room -= len(msgspec.json.encode(message.content)) + _HEADER_BYTES
            if fitting and room < 0:
                break
            fitting.append(message)
        return fitting

    def fates(self, sender: str, client_ids: Collection[str]) -> Deferred[dict[str, Fate]]:
        """What became of a sender's messages, by client id; without those that are not stored."""
        return self._store.read(self._fates, sender, list(client_ids))

    def _fates(self, sender: str, client_ids: list[str]) -> dict[str, Fate]:
        with self._store.connect() as connection:
            rows = connection.execute(
                statements.SELECT_FATES, {"sender": sender, "client_ids": client_ids}
            )
            return {row.client_id: Fate(row.id, row.id <= (row.position or 0)) for row in rows}

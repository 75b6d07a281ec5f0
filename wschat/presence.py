"""
Who came and who went, told once for all that happens close together.  Pure; times are seconds.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Generic, NamedTuple, TypeVar

#: Whoever is told: a session.
Watcher = TypeVar("Watcher", bound=Hashable)


class Change(NamedTuple):
    """Users who came; users who went, with the time when they were last there."""

    joined: list[str]
    left: dict[str, float]

    def only(self, users: frozenset[str]) -> Change:
        """The part of it that is about some users."""
        return Change(
            [user_id for user_id in self.joined if user_id in users],
            {user_id: seen for user_id, seen in self.left.items() if user_id in users},
        )


class Presence(Generic[Watcher]):
    """
    Who is there, who was, and who wants to know.

    Somebody who goes and comes back before the news is told is no news.
    """

    def __init__(self, last_seen: dict[str, float]) -> None:
        """`last_seen` has the users who were there before, and is kept up to date."""
        self.last_seen = last_seen
        self._before: dict[str, bool] = {}  # whether they were there when it was last told
        self._now: dict[str, bool] = {}
        self._watchers: dict[Watcher, frozenset[str] | None] = {}
        self._fresh: set[Watcher] = set()  # who began to watch since it was last told

    def watch(self, session: Watcher, users: Iterable[str] | None) -> None:
        """Tell a session of some users, or of all."""
        self._watchers[session] = None if users is None else frozenset(users)
        if self._now:
            self._fresh.add(session)

    def unwatch(self, session: Watcher) -> None:
        """Tell a session no more; one that is not told is no error."""
        self._watchers.pop(session, None)
        self._fresh.discard(session)

    def came(self, user_id: str) -> bool:
        """A user's first session is there; True when `changes` should be asked for soon."""
        return self._changed(user_id, there=True)

    def went(self, user_id: str, now: float) -> bool:
        """A user's last session is gone; True when `changes` should be asked for soon."""
        self.last_seen[user_id] = now
        return self._changed(user_id, there=False)

    def _changed(self, user_id: str, *, there: bool) -> bool:
        first = not self._now
        self._before.setdefault(user_id, not there)
        self._now[user_id] = there
        return first

    def changes(self) -> Iterator[tuple[Change, list[Watcher]]]:
        """
        What has changed since this was last asked, and the sessions that it is told.

        Who began to watch meanwhile saw some of it already, perhaps what did
        not last: they are told of everybody who came or went.
        """
        news = [user for user, there in self._now.items() if there != self._before[user]]
        change, everybody = self._change(news), self._change(self._now)
        watchers = {s: users for s, users in self._watchers.items() if s not in self._fresh}
        fresh = {s: users for s, users in self._watchers.items() if s in self._fresh}
        for collection in (self._before, self._now, self._fresh):
            collection.clear()
        yield from _parts(change, watchers)
        yield from _parts(everybody, fresh)

    def _change(self, users: Iterable[str]) -> Change:
        """What is now so of some users."""
        change = Change([], {})
        for user_id in users:
            if self._now[user_id]:
                change.joined.append(user_id)
            else:
                change.left[user_id] = self.last_seen[user_id]
        return change


def _parts(
    change: Change, watchers: Mapping[Watcher, frozenset[str] | None]
) -> Iterator[tuple[Change, list[Watcher]]]:
    """What each of them is told, those who watch all together."""
    everything = [session for session, users in watchers.items() if users is None]
    if everything and any(change):
        yield change, everything
    for session, users in watchers.items():
        part = change.only(users) if users is not None else Change([], {})
        if any(part):
            yield part, [session]

"""
`/analytics/...`: how much a server is used, for administrators (docs/monitoring.md).

Numbers alone, of what is kept: nobody's name, and not who talks to whom.
What is asked reads many messages, so it is asked once a minute at most.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import Request

from wschat import statements, wire
from wschat.accounts import Accounts
from wschat.database import messages, users
from wschat.http import Answer, Endpoint, Tree
from wschat.hub import Registry
from wschat.monitoring import Administrators
from wschat.store import Store

#: How many days are told of when nobody says, and at most.
DAYS: Final = 30
MAX_DAYS: Final = 366

#: How long an answer is good for, in seconds.
FRESH: Final = 60.0

_DAY: Final = 86400

_broadcasts = sa.func.count().filter(messages.c.topic == wire.BROADCAST)
_after = messages.c.id > sa.bindparam("after")

_SELECT_COUNTS: Final = sa.select(sa.func.count(), _broadcasts).where(_after)

# By whole seconds, which PostgreSQL rounds and SQLite cuts off: half a second is nobody's day.
_stored_on = sa.cast(messages.c.stored_at, sa.BigInteger) // _DAY
_SELECT_DAYS: Final = (
    sa.select(
        _stored_on.label("day"),
        sa.func.count().label("count"),
        _broadcasts.label("broadcasts"),
        sa.func.count(messages.c.sender.distinct()).label("senders"),
    )
    .where(_after)
    .group_by("day")
)

_Read = Callable[[sa.Connection, float, int], dict[str, Any]]


def _dates(now: float, days: int) -> dict[int, str]:
    """The last days, today included, in order: by their number since the epoch."""
    today = int(now // _DAY)
    epoch = datetime.date(1970, 1, 1)
    return {
        day: (epoch + datetime.timedelta(days=day)).isoformat()
        for day in range(today - days + 1, today + 1)
    }


class _Day(NamedTuple):
    """What was said on one day."""

    direct: int = 0
    broadcast: int = 0
    senders: int = 0


def _by_day(connection: sa.Connection, now: float, days: int) -> Mapping[int, _Day]:
    after = statements.until(connection, (now // _DAY - days + 1) * _DAY)
    rows = connection.execute(_SELECT_DAYS, {"after": after})
    return {
        day: _Day(total - broadcasts, broadcasts, senders)
        for day, total, broadcasts, senders in rows
    }


def read_summary(connection: sa.Connection, now: float, days: int) -> dict[str, Any]:
    """Of all, and of the last day."""
    seen = [row.seen_at for row in connection.execute(statements.SELECT_SEEN)]
    counts = {}
    for name, after in (("kept", 0), ("last_day", statements.until(connection, now - _DAY))):
        total, broadcasts = connection.execute(_SELECT_COUNTS, {"after": after}).one()
        counts[name] = {"direct": total - broadcasts, "broadcast": broadcasts}
    return {
        "seen": {
            name: sum(seen_at >= now - days * _DAY for seen_at in seen)
            for name, days in (("last_day", 1), ("last_week", 7), ("last_month", 30))
        },
        "messages": counts,
    }


def read_users(connection: sa.Connection, now: float, days: int) -> dict[str, Any]:
    """Day by day: who registered, and how many said something that is kept."""
    dates = _dates(now, days)
    registered = dict.fromkeys(dates, 0)
    since = sa.select(users.c.created_at).where(users.c.created_at >= min(dates) * _DAY)
    for created_at in connection.execute(since).scalars():
        day = int(created_at // _DAY)
        if day in registered:
            registered[day] += 1
    rows = _by_day(connection, now, days)
    return {
        "days": [
            {
                "date": date,
                "registered": registered[day],
                "senders": rows.get(day, _Day()).senders,
            }
            for day, date in dates.items()
        ]
    }


def read_messages(connection: sa.Connection, now: float, days: int) -> dict[str, Any]:
    """Day by day and together: messages that are kept."""
    rows = _by_day(connection, now, days)
    told = {date: rows.get(day, _Day()) for day, date in _dates(now, days).items()}
    return {
        "days": [
            {"date": date, "direct": day.direct, "broadcast": day.broadcast}
            for date, day in told.items()
        ],
        "direct": sum(day.direct for day in told.values()),
        "broadcast": sum(day.broadcast for day in told.values()),
    }


class Analytics:
    """Answers administrators, out of the database."""

    def __init__(
        self,
        store: Store,
        accounts: Accounts,
        registry: Registry,
        wall: Callable[[], float],
        administrators: Administrators,
    ) -> None:
        """`wall` gives seconds since the epoch."""
        self._store = store
        self._accounts = accounts
        self._registry = registry
        self._wall = wall
        self._administrators = administrators
        self._known: dict[tuple[_Read, int], tuple[float, dict[str, Any]]] = {}
        self._asking: dict[tuple[_Read, int], list[Deferred[dict[str, Any]]]] = {}

    def resource(self) -> Resource:
        """The pages below `/analytics`."""
        return Tree(
            {
                "summary": Endpoint(GET=self._summary),
                "users": Tree({"daily": Endpoint(GET=self._users)}),
                "messages": Tree({"stats": Endpoint(GET=self._messages)}),
            }
        )

    async def _summary(self, request: Request) -> Answer:
        kept = await self._read(read_summary, request)
        there = {
            "registered": len(self._accounts.users),
            "online": len(self._registry.users),
            "sessions": len(self._registry),
        }
        return Answer({"time": kept["time"], "users": there | kept["seen"]} | _rest(kept))

    async def _users(self, request: Request) -> Answer:
        return Answer(await self._read(read_users, request))

    async def _messages(self, request: Request) -> Answer:
        return Answer(await self._read(read_messages, request))

    async def _read(self, read: _Read, request: Request) -> dict[str, Any]:
        """What a function reads, or has read of late.  Raises `Answer`, `AccountError`."""
        self._administrators.check(request)
        now = self._wall()
        wanted = (read, _days(request))
        known = self._known.get(wanted)
        if known is not None and 0 <= now - known[0] < FRESH:
            return known[1]
        answer: Deferred[dict[str, Any]] = Deferred()
        waiting = self._asking.setdefault(wanted, [])
        waiting.append(answer)
        if len(waiting) == 1:
            reading = self._store.read(self._query, read, now, wanted[1])
            reading.addBoth(self._have_read, wanted, now)
        return await answer

    def _query(self, read: _Read, now: float, days: int) -> dict[str, Any]:
        with self._store.connect() as connection:
            return read(connection, now, days)

    def _have_read(
        self, result: dict[str, Any] | Failure, wanted: tuple[_Read, int], now: float
    ) -> None:
        if not isinstance(result, Failure):
            result = {"time": wire.format_time(now)} | result
            self._known = {k: v for k, v in self._known.items() if now - v[0] < FRESH}
            self._known[wanted] = (now, result)
        for answer in self._asking.pop(wanted):
            answer.callback(result)


def _rest(kept: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in kept.items() if name not in ("time", "seen")}


def _days(request: Request) -> int:
    """What `?days=` says.  Raises `Answer` (400)."""
    text = request.args.get(b"days", [str(DAYS).encode()])[0]
    if text.isdigit() and len(text) <= 3 and 1 <= int(text) <= MAX_DAYS:
        return int(text)
    raise Answer(f"days is a number from 1 to {MAX_DAYS}.", HTTPStatus.BAD_REQUEST)

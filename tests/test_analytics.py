"""`/analytics`: who may ask, and whether the numbers are right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from tests.pages import WebTests
from tests.stores import OnPostgreSQL, StoreTests
from tests.support import (
    Limits,
    Response,
    Server,
    make_message,
    make_user,
    parse_response,
    request_head,
)
from wschat.analytics import FRESH, read_messages, read_summary, read_users
from wschat.testing import NOW

DAY = 86400
PATHS = ("/analytics/summary", "/analytics/users/daily", "/analytics/messages/stats")

#: When the day of NOW, 2026-11-22, began.
MIDNIGHT = NOW - 10 * 3600


class AnalyticsTests(WebTests):
    """A few days of a few users; the clock says 10 o'clock of 2026-11-22."""

    limits = Limits(administrators=frozenset({"alice"}))

    def setUp(self) -> None:
        super().setUp()
        self.server.add_users("alice", "bob")

    def ask(self, path: str, user_id: str = "alice") -> Response:
        return self.get(path, authorization=f"Bearer {self.server.token(user_id)}")

    def store(self, when: float, *topics: str, sender: str = "bob") -> None:
        """Messages that were stored then, to each of these."""
        batch = [make_message(sender, topic, "quokka") for topic in topics]
        self.server.store.stream._append(batch, {}, frozenset(), when)

    def test_who_may_ask(self) -> None:
        """Administrators, with their token in the header; nobody else, from wherever."""
        token = self.server.token("alice")
        for path in PATHS:
            self.check(self.ask(path), 200)
            self.check(self.ask(path, "bob"), 403)
            for where in ("203.0.113.5", "127.0.0.1"):
                answer = self.check(self.get(path, address=where), 401)
                self.assertEqual(answer.headers["www-authenticate"], "Bearer")
            self.check(self.get(f"{path}?token={token}"), 401)
            plain = self.server.request("GET", path, site=self.server.plain, address="127.0.0.1")
            self.assertEqual(plain.status, 308)

    def test_no_administrators(self) -> None:
        """Unless some are named nobody is one."""
        self.server = Server()
        self.server.add_user("alice")
        for path in PATHS:
            self.check(self.ask(path), 403)

    def test_messages(self) -> None:
        """By day, from midnight to midnight, the days without any as well."""
        self.store(MIDNIGHT - DAY - 1, "alice")
        self.store(MIDNIGHT - DAY, "alice", "broadcast", "broadcast")
        self.store(MIDNIGHT - 1, "alice")
        self.store(MIDNIGHT, "broadcast")
        self.store(NOW - 1, "alice", "alice")
        told = self.ask("/analytics/messages/stats?days=4").json
        self.assertEqual(told["time"], "2026-11-22T10:00:00.000000Z")
        days = [tuple(day.values()) for day in told["days"]]
        self.assertEqual(
            days,
            [
                ("2026-11-19", 0, 0),
                ("2026-11-20", 1, 0),
                ("2026-11-21", 2, 2),
                ("2026-11-22", 2, 1),
            ],
        )
        self.assertEqual((told["direct"], told["broadcast"]), (5, 3))

    def test_days(self) -> None:
        """As many days as are asked for, thirty unless told; what came before does not count."""
        self.store(MIDNIGHT - 30 * DAY, "alice")
        for query, count in (("", 30), ("?days=1", 1), ("?days=31", 31), ("?days=366", 366)):
            told = self.ask(f"/analytics/messages/stats{query}").json
            self.assertEqual(len(told["days"]), count)
            self.assertEqual(told["direct"], int(count > 30))
        for wrong in ("0", "367", "-1", "1e2", "x", "", "%D9%A3", "9999999999"):
            for path in PATHS:
                self.check(self.ask(f"{path}?days={wrong}"), 400)

    def test_users(self) -> None:
        """Who registered on a day, and how many said something on it, once each."""
        self.server.store.users._add(make_user("carol", created_at=MIDNIGHT - 1))
        self.store(MIDNIGHT - 1, "alice", "alice")
        self.store(MIDNIGHT - 1, "broadcast", sender="carol")
        self.store(MIDNIGHT + 1, "alice")
        told = self.ask("/analytics/users/daily?days=2").json
        days = [tuple(day.values()) for day in told["days"]]
        self.assertEqual(days, [("2026-11-21", 1, 2), ("2026-11-22", 2, 1)])

    def test_summary(self) -> None:
        """Who there is, who was there lately, and what is kept."""
        self.connect("bob", "bob")
        self.server.store.users._seen({"alice": NOW - 2 * DAY})
        self.store(NOW - 2 * DAY, "alice", "broadcast")
        self.store(NOW - DAY + 1, "alice")
        told = self.ask("/analytics/summary").json
        self.assertEqual(
            told,
            {
                "time": "2026-11-22T10:00:00.000000Z",
                "users": {
                    "registered": 2,
                    "online": 1,
                    "sessions": 2,
                    "last_day": 0,
                    "last_week": 1,
                    "last_month": 1,
                },
                "messages": {
                    "kept": {"direct": 2, "broadcast": 1},
                    "last_day": {"direct": 1, "broadcast": 0},
                },
            },
        )

    def test_nobodys_name(self) -> None:
        """There are numbers alone."""
        self.connect("bob")
        self.store(NOW, "alice")
        for path in PATHS:
            text = self.ask(path).text
            for word in ("alice", "bob", "quokka"):
                self.assertNotIn(word, text)

    def test_asked_once_a_minute(self) -> None:
        """The database is asked once for whoever asks, and again when that is a minute old."""
        reader = self.server.store.reader
        path = "/analytics/messages/stats"

        def asked() -> tuple[int, Any]:
            before = reader.calls
            return self.ask(path).json["direct"], reader.calls - before

        self.store(NOW - 1, "alice")
        self.assertEqual(asked(), (1, 1))
        self.store(NOW - 1, "alice")
        self.server.clock.advance(FRESH - 1)
        self.assertEqual(asked(), (1, 0))
        self.server.clock.advance(1)
        self.assertEqual(asked(), (2, 1))

    def test_several_at_once(self) -> None:
        """Those who ask while the database is being read get the same, also when that fails."""
        reader = self.server.store.reader
        for fails in (True, False):
            authorization = f"Bearer {self.server.token('alice')}"
            reader.held = True
            wires = [self.server.open_wire() for _ in range(3)]
            for wire in wires:
                wire.feed(request_head("GET", PATHS[0], 0, {"authorization": authorization}))
            self.assertEqual(len(reader), 1)
            if fails:
                reader.fail(OSError("gone"))
            reader.held = False
            reader.release()
            statuses = [parse_response(b"".join(wire.writes)).status for wire in wires]
            self.assertEqual(statuses, [500 if fails else 200] * 3)
            for wire in wires:
                wire.lose()
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 3)


class ReadTests(StoreTests):
    """What is read of the database, whichever it is."""

    def setUp(self) -> None:
        super().setUp()
        self.add_users("alice", "bob")

    def read(
        self, function: Callable[[sa.Connection, float, int], dict[str, Any]], days: int = 2
    ) -> dict[str, Any]:
        with self.store.connect() as connection:
            return function(connection, NOW, days)

    def test_all(self) -> None:
        """Messages, senders and registrations by day, and the summary."""
        self.fill(3, topic="bob", now=MIDNIGHT - 1)
        self.fill(2, topic="broadcast", now=MIDNIGHT - 1)
        self.fill(4, sender="bob", topic="alice", now=MIDNIGHT)
        days = [tuple(day.values()) for day in self.read(read_messages)["days"]]
        self.assertEqual(days, [("2026-11-21", 3, 2), ("2026-11-22", 4, 0)])
        days = [tuple(day.values()) for day in self.read(read_users)["days"]]
        self.assertEqual(days, [("2026-11-21", 0, 1), ("2026-11-22", 2, 1)])
        summary = self.read(read_summary)
        self.assertEqual(summary["messages"]["kept"], {"direct": 7, "broadcast": 2})
        self.assertEqual(summary["seen"], {"last_day": 0, "last_week": 0, "last_month": 0})

    def test_empty(self) -> None:
        """An empty database has nothing to tell."""
        self.assertEqual(self.read(read_messages)["direct"], 0)
        none = {"direct": 0, "broadcast": 0}
        self.assertEqual(self.read(read_summary)["messages"], {"kept": none, "last_day": none})


class ReadPostgreSQLTests(OnPostgreSQL, ReadTests):
    """The same over PostgreSQL."""

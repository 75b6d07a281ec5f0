"""`/ready` and `/metrics`: who may ask, and what is said when the database does not answer."""

from __future__ import annotations

from typing import Any

from tests.pages import WebTests
from tests.support import Limits, Response, Server, parse_response, request_head
from wschat.addresses import Networks
from wschat.codes import CloseCode
from wschat.monitoring import PATIENCE


class ReadyTests(WebTests):
    """Whether the server takes clients."""

    def ready(self, **where: Any) -> Response:
        return self.server.request("GET", "/ready", **where)

    def test_ready(self) -> None:
        """It is, for whoever asks, on both listeners."""
        for site in (self.server.secure, self.server.plain):
            answer = self.check(self.ready(site=site), 200)
            self.assertEqual(answer.json, {"status": "ready"})

    def refused(self, answer: Response, reason: str) -> None:
        self.assertEqual(answer.status, 503)
        self.assertEqual(answer.json, {"status": "not ready", "reason": reason})
        self.assertEqual(answer.headers["retry-after"], "5")

    def test_draining(self) -> None:
        """A server that is about to end is not ready, and lives."""
        self.server.factory.connections.close_all(CloseCode.SHUTDOWN)
        self.refused(self.ready(), "draining")
        self.check(self.get("/health"), 200)

    def test_database_fails(self) -> None:
        """A server whose database does not answer is not ready; what is wrong is in the log."""
        self.server.store.reader.held = True
        wire = self.server.open_wire()
        wire.feed(request_head("GET", "/ready", 0, {}))
        self.server.store.reader.fail(OSError("postgresql://user:secret@host"))
        answer = parse_response(b"".join(wire.writes))
        self.refused(answer, "the database does not answer")
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        wire.lose()

    def test_database_hangs(self) -> None:
        """One that says nothing is waited for, not for long, and asked once at a time."""
        reader = self.server.store.reader
        reader.held = True
        wires = [self.server.open_wire() for _ in range(5)]
        for wire in wires:
            wire.feed(request_head("GET", "/ready", 0, {}))
        self.assertEqual(len(reader), 1)
        self.server.advance(int(PATIENCE))
        for wire in wires:
            answer = parse_response(b"".join(wire.writes))
            self.refused(answer, "the database does not answer")
            wire.lose()
        reader.held = False
        reader.release()
        self.check(self.ready(), 200)

    def test_without_a_database(self) -> None:
        """The metrics are there when the database is not, and say so."""
        self.server.store.reader.held = True
        wire = self.server.open_wire(address="127.0.0.1")
        wire.feed(request_head("GET", "/metrics", 0, {}))
        self.server.advance(int(PATIENCE))
        text = parse_response(b"".join(wire.writes)).text
        self.assertIn("\nwschat_database_up 0.0\n", text)
        self.assertNotIn("wschat_database_bytes", text)
        wire.lose()


class ReadersTests(WebTests):
    """Who may read the metrics."""

    limits = Limits(
        metrics_from=Networks.parse("127.0.0.1,::1,192.0.2.0/24"),
        administrators=frozenset({"alice"}),
        trusted_proxies=Networks.parse("10.0.0.1"),
    )

    def metrics(self, address: str, **headers: Any) -> int:
        return self.server.request("GET", "/metrics", address=address, **headers).status

    def test_networks(self) -> None:
        """Those in the networks named, on both listeners."""
        for address in ("127.0.0.1", "::1", "192.0.2.77", "::ffff:192.0.2.77"):
            for site in (self.server.secure, self.server.plain):
                self.assertEqual(self.metrics(address, site=site), 200)

    def test_others(self) -> None:
        """Others are asked for a token, where that is not read by whoever listens."""
        for address in ("203.0.113.5", "127.0.0.2", "2001:db8::1", ""):
            answer = self.server.request("GET", "/metrics", address=address)
            self.check(answer, 401)
            self.assertEqual(answer.headers["www-authenticate"], "Bearer")
            self.assertEqual(self.metrics(address, site=self.server.plain), 308)

    def test_relayed(self) -> None:
        """A proxy on this host that is not trusted lets nobody in; one that is, whom it heard."""
        for name in ("x_forwarded_for", "forwarded", "x_real_ip"):
            self.assertEqual(self.metrics("127.0.0.1", **{name: "127.0.0.1"}), 401)
        self.assertEqual(self.metrics("10.0.0.1", x_forwarded_for="192.0.2.1"), 200)
        self.assertEqual(self.metrics("10.0.0.1", x_forwarded_for="203.0.113.5"), 401)
        self.assertEqual(self.metrics("10.0.0.1"), 401)

    def test_administrators(self) -> None:
        """An administrator's token opens them, from anywhere; nobody else's does."""
        self.server.add_users("alice", "bob")
        for user_id, status in (("alice", 200), ("bob", 403)):
            authorization = f"Bearer {self.server.token(user_id)}"
            self.assertEqual(self.metrics("203.0.113.5", authorization=authorization), status)
        token = self.server.token("alice")
        self.check(self.get(f"/metrics?token={token}"), 401)

    def test_nobody(self) -> None:
        """With no networks at all it takes a token."""
        self.server = Server(Limits(metrics_from=Networks()))
        self.assertEqual(self.metrics("127.0.0.1"), 401)

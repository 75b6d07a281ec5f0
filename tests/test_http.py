"""What all HTTP has in common: methods, bodies, headers, time, and how many connections."""

from __future__ import annotations

from typing import cast

from twisted.logger import ILogObserver, LogEvent, globalLogPublisher

from tests.pages import WebTests
from tests.support import (
    Executor,
    Limits,
    Server,
    Wire,
    parse_response,
    request_head,
)
from wschat.addresses import Networks
from wschat.identity import PrivateKey

ORIGIN = "https://chat.example"


class MethodTests(WebTests):
    """Methods that a path does not have, and HEAD."""

    def test_wrong_method(self) -> None:
        """It is a 405 that says which methods there are."""
        for method, path, allowed in (
            ("POST", "/health", {"GET", "HEAD"}),
            ("DELETE", "/active-users", {"GET", "HEAD"}),
            ("GET", "/auth/register", {"POST"}),
            ("HEAD", "/auth/login", {"POST"}),
            ("PUT", "/auth/login", {"POST"}),
            ("POST", "/auth/users/alice", {"GET", "HEAD"}),
            ("PATCH", "/auth/check-userid/alice", {"GET", "HEAD"}),
            ("OPTIONS", "/health", {"GET", "HEAD"}),
            ("BREW", "/health", {"GET", "HEAD"}),
        ):
            response = self.server.request(method, path)
            self.assertEqual(response.status, 405, (method, path))
            self.assertEqual(set(response.headers["allow"].split(", ")), allowed)

    def test_wrong_method_for_a_websocket(self) -> None:
        """`/ws` is no exception."""
        for method in ("POST", "BREW"):
            response = self.check(self.server.request(method, "/ws"), 405)
            self.assertIn("GET", response.headers["allow"])

    def test_head(self) -> None:
        """HEAD is GET without the body."""
        self.server.add_user("alice")
        for path in ("/health", "/auth/users/alice", "/auth/users/nobody", "/nothing"):
            get, head = (self.server.request(method, path) for method in ("GET", "HEAD"))
            self.assertEqual((head.status, head.body), (get.status, b""))
            self.assertEqual(head.headers["content-length"], str(len(get.body)))
            self.assertEqual(head.headers["content-type"], get.headers["content-type"])


class BodyTests(WebTests):
    """Bodies that are not what they should be."""

    def test_unreadable(self) -> None:
        """What is not JSON, or not of the right shape, is a 400."""
        for path in ("/auth/register", "/auth/login", "/auth/login?verify=true"):
            for body in (
                b"", b"junk", b"{", b"[]", b"{}", b"null", b'{"user_id": 1}',
                b'{"user_id": "\xff"}',
                b'{"user_id": "\\ud800", "signature": "", "public_key": ""}',
            ):  # fmt: skip
                self.check(self.post(path, body), 400)

    def test_nested_deeply(self) -> None:
        """Neither does deep nesting bring the server down."""
        for body in (b"[" * 60_000, b'{"a":' * 10_000, b'{"user_id": ' + b"[" * 50_000):
            self.check(self.post("/auth/register", body), 400)

    def test_too_long(self) -> None:
        """A body longer than 64 KiB is a 413, and it is not looked at."""
        body = b" " * (64 * 1024 + 1)
        self.check(self.post("/auth/register", body), 413)
        self.check(self.post("/nothing", body), 413)

    def test_longest(self) -> None:
        """A body of 64 KiB is read."""
        key = PrivateKey.generate()
        body = b'{"user_id":"alice","public_key":"%b"}' % key.public_key.encode()
        self.check(self.post("/auth/register", body.ljust(64 * 1024)), 201)

    def test_chunked(self) -> None:
        """The limit holds for a body that does not say how long it is."""
        wire = self.server.open_wire()
        headers = {"transfer-encoding": "chunked"}
        wire.feed(request_head("POST", "/auth/register", 0, headers))
        for _ in range(5):
            wire.feed(b"4000\r\n" + b" " * 0x4000 + b"\r\n")
        wire.feed(b"0\r\n\r\n")
        self.check(parse_response(b"".join(wire.writes)), 413)
        wire.lose()

    def test_endless(self) -> None:
        """Who goes on and on sending is dropped."""
        wire = self.server.open_wire()
        wire.feed(request_head("POST", "/auth/register", 1 << 30, {}))
        for _ in range(40):
            wire.feed(b" " * 65536)
        self.assertTrue(wire.aborted)  # over TLS an end in good order may be waited for

    def test_endless_line(self) -> None:
        """… be it in a header, at once: over TLS it would be read for as long as it comes."""
        wire = self.server.open_wire()
        wire.feed(b"GET /health HTTP/1.1\r\nA: " + b"x" * 20_000)
        self.assertTrue(wire.aborted)
        self.assertEqual(wire.writes, [])

    def test_answers_that_nobody_reads(self) -> None:
        """Who asks on, and reads no answer, gets one and no more; else all are answered."""
        asked = request_head("GET", "/health", 0, {}) * 3
        for stalled, answers in ((False, 3), (True, 1)):
            wire = self.server.open_wire()
            if stalled:
                wire.stall()
            wire.feed(asked)
            self.assertEqual(b"".join(wire.writes).count(b"HTTP/1.1 200 "), answers)
            self.server.turn()
            self.assertEqual(wire.connected, not stalled)
        wire = self.server.open_wire()
        wire.stall()
        wire.feed(request_head("GET", "/health", 0, {}))
        wire.flow()
        wire.feed(request_head("GET", "/health", 0, {}))
        self.assertEqual(b"".join(wire.writes).count(b"HTTP/1.1 200 "), 2)

    def test_after_a_bad_request(self) -> None:
        """What comes behind a bad request is not looked at, as long as TLS still hands it on."""
        for behind in (b"A: b\r\n\r\n", b"\r\n\r\n", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"):
            wire = self.server.open_wire()
            wire.feed(request_head("GET", "/health", 0, {}))
            wire.feed(b"PRI * HTTP/2.0\r\n")
            wire.feed(behind)
            statuses = [parse_response(data).status for data in wire.writes if b"HTTP/1.1" in data]
            self.assertEqual(statuses, [200, 400])
            self.server.turn()
            self.assertFalse(wire.connected)

    def test_slow_request(self) -> None:
        """Who does not finish a request within ten seconds is dropped."""
        wire = self.server.open_wire()
        wire.feed(b"GET /health HT")
        self.server.advance(9)
        self.assertTrue(wire.connected)
        self.server.advance(1)
        self.server.turn()
        self.assertFalse(wire.connected)

    def test_late_request(self) -> None:
        """Silence before the first byte is a part of those ten seconds, and only of those."""
        wire = self.server.open_wire()
        self.server.advance(8)
        wire.feed(b"GET /health HT")
        self.server.advance(1)
        self.assertTrue(wire.connected)
        self.server.advance(1)
        self.server.turn()
        self.assertFalse(wire.connected)
        wire = self.server.open_wire()
        self.server.advance(8)
        wire.feed(request_head("GET", "/health", 0, {}))
        for seconds, connected in ((9, True), (1, False)):
            self.server.advance(seconds)
            self.server.turn()
            self.assertEqual(wire.connected, connected)

    def test_trickle(self) -> None:
        """Nor do bytes that come now and then, of a header or a body, give anybody more time."""
        for head in (
            b"GET /health HTTP/1.1\r\n",
            b"POST /x HTTP/1.1\r\ncontent-length: 99\r\n\r\n",
        ):
            wire = self.server.open_wire()
            wire.feed(head)
            for _ in range(10):
                self.assertTrue(wire.connected)
                wire.feed(b"a: b\r\n")
                self.server.advance(1)
            self.server.turn()
            self.assertFalse(wire.connected)

    def test_timed_out_in_silence(self) -> None:
        """Whoever opens connections without end writes nothing into the log by that."""
        events: list[LogEvent] = []
        observer = cast(ILogObserver, events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        for _ in range(3):
            self.server.open_wire()
        self.server.advance(11)
        self.assertEqual(len(self.server.http_places), 0)
        self.assertEqual(events, [])

    def test_each_request_has_its_time(self) -> None:
        """Who goes on asking may stay."""
        wire = self.server.open_wire()
        for _ in range(5):
            self.server.advance(8)
            wire.feed(request_head("GET", "/health", 0, {}))
        self.assertEqual(b"".join(wire.writes).count(b"HTTP/1.1 200 OK"), 5)
        wire.lose()

    def registering(self) -> tuple[Executor, Wire]:
        """Alice has asked to be registered, and the store has not answered yet."""
        writer = self.server.store.writer
        writer.held = True
        wire = self.server.open_wire()
        key = PrivateKey.generate()
        body = b'{"user_id":"alice","public_key":"%b"}' % key.public_key.encode()
        wire.feed(request_head("POST", "/auth/register", len(body), {}) + body)
        return writer, wire

    def test_gone_before_the_answer(self) -> None:
        """Who goes before the answer costs nothing, and is registered."""
        writer, wire = self.registering()
        wire.lose()
        writer.release()
        self.assertEqual(self.flushLoggedErrors(), [])
        self.check(self.get("/auth/users/alice"), 200)

    def test_store_fails(self) -> None:
        """A fault of the server's is a 500 that says nothing of its insides, and is logged."""
        writer, wire = self.registering()
        writer.fail(OSError("/var/lib/secret is full"))
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        response = self.check(parse_response(b"".join(wire.writes)), 500)
        self.assertNotIn("secret", response.text)
        wire.lose()


class HeaderTests(WebTests):
    """What every answer has, and what pages of other origins get."""

    limits = Limits(allowed_origins=frozenset({ORIGIN}))

    def test_every_answer(self) -> None:
        """No answer is kept by caches or guessed at by browsers."""
        for path in ("/health", "/nothing", "/ws", "/auth/register"):
            headers = self.get(path).headers
            self.assertEqual(headers["cache-control"], "no-store")
            self.assertEqual(headers["x-content-type-options"], "nosniff")
            self.assertTrue(headers["server"].startswith("wschat"))

    def test_nothing_is_a_page(self) -> None:
        """Whatever a browser is made to load, it shows, runs, frames and leaks nothing."""
        for path in ("/health", "/nothing", "/ws", "/auth/register", "/metrics"):
            headers = self.get(path).headers
            policy = headers["content-security-policy"]
            self.assertEqual(policy, "default-src 'none'; frame-ancestors 'none'")
            self.assertEqual(headers["x-frame-options"], "DENY")
            self.assertEqual(headers["referrer-policy"], "no-referrer")
            self.assertEqual(headers["cross-origin-resource-policy"], "same-origin")

    def test_lasting_tls(self) -> None:
        """Browsers are told to use TLS for good where the certificate is no makeshift, over TLS."""
        self.assertNotIn("strict-transport-security", self.get("/health").headers)
        self.server = Server(Limits(lasting_tls=True))
        self.assertIn("max-age=", self.get("/health").headers["strict-transport-security"])
        plain = self.server.request("GET", "/health", site=self.server.plain)
        self.assertNotIn("strict-transport-security", plain.headers)

    def test_pages_of_other_origins_change_nothing(self) -> None:
        """What a page posts that is not listed is refused; others, and no pages, may."""
        key = PrivateKey.generate()
        body = {"user_id": "alice", "public_key": key.public_key}
        for origin in ("https://evil.example", "null"):
            self.check(self.post("/auth/register", body, origin=origin), 403)
        self.assertEqual(self.server.accounts.users, {})
        self.check(self.post("/auth/register", body, origin=ORIGIN), 201)
        self.check(self.post("/auth/register", body | {"user_id": "bob"}), 201)

    def test_listed_origin(self) -> None:
        """A listed page may read answers, whatever they are."""
        for path in ("/health", "/nothing"):
            headers = self.get(path, origin=ORIGIN).headers
            self.assertEqual(headers["access-control-allow-origin"], ORIGIN)
            self.assertEqual(headers["vary"].lower(), "origin")

    def test_other_origins(self) -> None:
        """Pages that are not listed may not, nor is anything said without an origin."""
        for origin in ("", "https://evil.example", f"{ORIGIN}.evil.example", "null", "*"):
            headers = self.get("/health", origin=origin).headers
            self.assertNotIn("access-control-allow-origin", headers)

    def test_preflight(self) -> None:
        """A listed page is told what it may send."""
        response = self.server.request(
            "OPTIONS", "/auth/login", origin=ORIGIN, access_control_request_method="POST"
        )
        self.assertEqual((response.status, response.body), (204, b""))
        headers = response.headers
        self.assertEqual(headers["access-control-allow-origin"], ORIGIN)
        self.assertIn("POST", headers["access-control-allow-methods"])
        self.assertIn("content-type", headers["access-control-allow-headers"].lower())
        self.assertIn("authorization", headers["access-control-allow-headers"].lower())

    def test_preflight_of_others(self) -> None:
        """A page that is not listed is told nothing."""
        response = self.server.request("OPTIONS", "/auth/login", origin="https://evil.example")
        self.assertEqual(response.status, 405)
        self.assertNotIn("access-control-allow-methods", response.headers)

    def test_every_origin(self) -> None:
        """When all origins are allowed, each is told so by its name."""
        self.server = Server(Limits(allowed_origins=frozenset({"*"})))
        headers = self.get("/health", origin="https://any.example").headers
        self.assertEqual(headers["access-control-allow-origin"], "https://any.example")


class PlaceTests(WebTests):
    """How many connections there may be that are no WebSockets."""

    limits = Limits(max_connections=5, max_connections_per_host=2)

    def open(self, address: str) -> Wire:
        return self.server.open_wire(address=address)

    def test_one_address(self) -> None:
        """The third of one host is dropped; when one ends there is room again."""
        first, second, third = (self.open("203.0.113.5") for _ in range(3))
        self.server.turn()
        self.assertEqual([w.connected for w in (first, second, third)], [True, True, False])
        self.assertTrue(self.open("203.0.113.6").connected)
        first.lose()
        again = self.open("203.0.113.5")
        self.server.turn()
        self.assertTrue(again.connected)
        self.assertEqual(self.server.meters.limited["connections"], 1)

    def test_one_network(self) -> None:
        """A host of IPv6 has not as many as it has addresses."""
        wires = [self.open(f"2001:db8::{number}") for number in range(3)]
        self.server.turn()
        self.assertEqual([wire.connected for wire in wires], [True, True, False])

    def test_everybody(self) -> None:
        """All together have a limit as well, whoever they are."""
        wires = [self.open(f"203.0.113.{number}") for number in range(6)]
        self.server.turn()
        self.assertEqual([wire.connected for wire in wires], [True] * 5 + [False])

    def test_this_host(self) -> None:
        """This host and Unix sockets are counted together with everybody alone."""
        wires = [self.open(address) for address in ("127.0.0.1", "::1", "127.0.0.1", "", "")]
        self.server.turn()
        self.assertEqual([wire.connected for wire in wires], [True] * 5)

    def test_proxies(self) -> None:
        """The connections of a trusted proxy are many people's."""
        self.server = Server(
            Limits(max_connections_per_host=2, trusted_proxies=Networks.parse("10.0.0.0/8"))
        )
        wires = [self.open("10.0.0.1") for _ in range(4)]
        self.server.turn()
        self.assertEqual([wire.connected for wire in wires], [True] * 4)

    def test_websockets_are_none(self) -> None:
        """A connection that has become a WebSocket makes room, and its end makes no more."""
        self.server.add_user("alice")
        path = f"/ws?token={self.server.token('alice')}"
        wire, response = self.server.upgrade(path)
        self.assertEqual(response.status, 101)
        self.assertEqual(len(self.server.http_places), 0)
        wire.lose()
        self.assertEqual(len(self.server.http_places), 0)
        wire, response = self.server.upgrade("/ws?token=x")
        self.assertEqual((response.status, len(self.server.http_places)), (401, 1))
        wire.lose()
        self.assertEqual(len(self.server.http_places), 0)

    def test_dropped_ones_leave_nothing(self) -> None:
        """Those that were dropped at once take no place, and free none."""
        wires = [self.open("203.0.113.5") for _ in range(4)]
        self.server.turn()
        self.assertEqual(len(self.server.http_places), 2)
        for wire in wires:
            wire.lose()
        self.assertEqual(len(self.server.http_places), 0)

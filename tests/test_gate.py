"""Tests of `wschat.gate`: who may open a WebSocket."""

from __future__ import annotations

from typing import Any, cast

from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher

from tests.support import (
    ADDRESS,
    TEXT,
    UPGRADE,
    Limits,
    Response,
    Server,
    ServerTests,
    client_frame,
    parse_response,
    request_head,
    submission,
)
from wschat.addresses import Networks
from wschat.codes import CloseCode
from wschat.identity import PrivateKey, decode_base64

ORIGIN = "https://chat.example"


class GateTests(ServerTests):
    """Refusals before the upgrade, and the ways in."""

    limits = Limits(allowed_origins=frozenset({ORIGIN}))

    def setUp(self) -> None:
        super().setUp()
        self.server.add_users("alice", "bob")
        self.token = self.server.token("alice")

    def upgrade(self, path: str | None = None, **headers: str) -> Response:
        if path is None:
            path = f"/ws?token={self.token}"
        _, response = self.server.upgrade(path, **headers)
        return response

    def refused(self, status: int, path: str | None = None, **headers: str) -> Response:
        """It is refused with that status and one line, and nobody is on line for it."""
        before = len(self.server.hub.registry)
        response = self.upgrade(path, **headers)
        self.assertEqual(response.status, status, response)
        self.assertRegex(response.text, r"\A[^\n<>]+\n\Z")
        self.assertEqual(len(self.server.hub.registry), before)
        return response

    def test_token_in_the_query(self) -> None:
        """`?token=` opens a WebSocket; the accept key is that of RFC 6455 section 1.3."""
        response = self.upgrade()
        self.assertEqual(response.status, 101)
        self.assertEqual(response.headers["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        self.assertEqual(self.server.hub.registry.users, ["alice"])

    def test_token_in_a_header(self) -> None:
        """So does `Authorization: Bearer`."""
        for scheme in ("Bearer", "bearer"):
            response = self.upgrade("/ws", authorization=f"{scheme} {self.token}")
            self.assertEqual(response.status, 101)

    def test_bad_tokens(self) -> None:
        """A token that is missing, wrong, or of another scheme is a 401."""
        self.refused(401, "/ws")
        for token in ("", "junk", self.token[:-2], "%ff", "a.b.c"):
            self.refused(401, f"/ws?token={token}")
        self.refused(401, "/ws", authorization=f"Basic {self.token}")
        self.refused(401, "/ws", authorization="Bearer")

    def test_expired(self) -> None:
        """A token is a 401 after 24 hours."""
        self.server.clock.advance(86399)
        self.assertEqual(self.upgrade().status, 101)
        self.server.clock.advance(1)
        self.refused(401)

    def test_user_gone(self) -> None:
        """A token whose user is gone is a 401."""
        del self.server.accounts.users["alice"]
        self.refused(401)

    def test_origins(self) -> None:
        """Only pages that are listed may connect; clients that are no page may."""
        self.assertEqual(self.upgrade(origin=ORIGIN).status, 101)
        for origin in ("https://evil.example", "null", "http://chat.example"):
            self.refused(403, origin=origin)

    def test_every_origin(self) -> None:
        """All pages may when that is allowed."""
        self.server = Server(Limits(allowed_origins=frozenset({"*"})))
        self.server.add_user("alice")
        path = f"/ws?token={self.server.token('alice')}"
        for origin in ("https://any.example:8443", "app://wschat"):
            self.assertEqual(self.upgrade(path, origin=origin).status, 101)

    def test_null_origin(self) -> None:
        """A page without an origin (a local file, say) may when that is listed."""
        for origins in ({"null"}, {"*"}):
            self.server = Server(Limits(allowed_origins=frozenset(origins)))
            self.server.add_user("alice")
            path = f"/ws?token={self.server.token('alice')}"
            self.assertEqual(self.upgrade(path, origin="null").status, 101)

    def test_no_upgrade(self) -> None:
        """A plain request with a good token is a 426 that says to what."""
        path = f"/ws?token={self.token}"
        others: list[dict[str, Any]] = [{}, {"upgrade": "h2c", "connection": "Upgrade"}]
        for headers in others:
            response = self.server.request("GET", path, **headers)
            self.assertEqual(response.status, 426)
            self.assertEqual(response.headers["upgrade"], "websocket")

    def test_head(self) -> None:
        """A HEAD request never becomes a WebSocket."""
        wire = self.server.open_wire()
        wire.feed(request_head("HEAD", f"/ws?token={self.token}", 0, UPGRADE))
        self.assertNotEqual(parse_response(b"".join(wire.writes)).status, 101)
        wire.lose()

    def test_full(self) -> None:
        """When there are as many connections as may be, it is a 503; one less, and it is not."""
        self.server = Server(Limits(max_connections=2))
        first, _ = self.connect("alice", "bob")
        self.server.add_user("charlie")
        self.token = self.server.token("charlie")
        self.refused(503)
        first.goodbye()
        self.assertEqual(self.upgrade().status, 101)

    def test_too_many_sessions(self) -> None:
        """When a user has as many sessions as one may, it is a 429; others are not concerned."""
        self.server = Server(Limits(max_sessions_per_user=2))
        first, _ = self.connect("alice", "alice")
        self.token = self.server.token("alice")
        self.refused(429)
        self.connect("bob")
        first.wire.lose()
        self.assertEqual(self.upgrade().status, 101)

    def test_too_many_of_an_address(self) -> None:
        """When an address has as many connections as one may, it is a 429, with a time to wait."""
        self.server = Server(Limits(max_connections_per_host=2, max_sessions_per_user=9))
        self.server.add_user("alice")
        path = f"/ws?token={self.server.token('alice')}"
        wires = [self.server.upgrade(path, address="203.0.113.5")[0] for _ in range(2)]
        _, response = self.server.upgrade(path, address="203.0.113.5")
        self.assertEqual((response.status, response.headers["retry-after"]), (429, "10"))
        self.assertEqual(self.server.upgrade(path, address="203.0.113.6")[1].status, 101)
        wires[0].lose()
        self.assertEqual(self.server.upgrade(path, address="203.0.113.5")[1].status, 101)
        for _ in range(3):
            self.assertEqual(self.server.upgrade(path, address="127.0.0.1")[1].status, 101)
        self.assertEqual(self.server.meters.limited["connections"], 1)
        self.assertEqual(self.server.meters.refused, {429: 1})

    def test_addresses_behind_a_proxy(self) -> None:
        """Behind a trusted proxy it is whom that heard; what others say is nothing."""
        proxies = Networks.parse("10.0.0.0/8")
        self.server = Server(Limits(max_connections_per_host=1, trusted_proxies=proxies))
        self.server.add_user("alice")
        path = f"/ws?token={self.server.token('alice')}"

        def status(peer: str, forwarded: str) -> int:
            _, response = self.server.upgrade(path, address=peer, x_forwarded_for=forwarded)
            return response.status

        self.assertEqual(status("10.0.0.1", "203.0.113.5"), 101)
        self.assertEqual(status("10.0.0.1", "127.0.0.1, 203.0.113.5"), 429)
        self.assertEqual(status("10.0.0.1", "203.0.113.6"), 101)
        self.assertEqual(status("203.0.113.7", "203.0.113.8"), 101)
        self.assertEqual(status("203.0.113.7", "203.0.113.9"), 429)

    def test_refusals_say_when(self) -> None:
        """Who is refused for want of room is told how long to wait."""
        for limits in (Limits(max_connections=1), Limits(max_sessions_per_user=1)):
            self.server = Server(limits)
            self.connect("alice")
            self.token = self.server.token("alice")
            self.assertEqual(self.upgrade().headers["retry-after"], "10")

    def test_keep_alive(self) -> None:
        """A connection that was used for other requests can become a WebSocket, and works."""
        (bob,) = self.connect("bob")
        wire = self.server.open_wire()
        for path in ("/health", "/auth/users/alice"):
            wire.feed(request_head("GET", path, 0, {}))
        wire.feed(request_head("GET", f"/ws?token={self.token}", 0, UPGRADE))
        self.assertEqual(self.server.hub.registry.sessions("alice"), 1)
        wire.feed(client_frame(TEXT, submission("bob", "same wire")))
        self.server.turn()
        self.assertEqual(bob.contents(), ["same wire"])

    def test_outlives_the_http_timeout(self) -> None:
        """The time-out of HTTP connections does not concern a WebSocket."""
        client = self.server.connect("alice")
        self.server.advance(50)
        self.assertTrue(client.wire.connected)

    def test_extensions_and_subprotocols_are_declined(self) -> None:
        """What a client offers beyond the classic protocol is left alone (RFC 6455 section 4.2)."""
        response = self.upgrade(
            sec_websocket_protocol="chat, other",
            sec_websocket_extensions="permessage-deflate; client_max_window_bits",
        )
        self.assertEqual(response.status, 101)
        self.assertNotIn("sec-websocket-protocol", response.headers)
        self.assertNotIn("sec-websocket-extensions", response.headers)

    def test_version(self) -> None:
        """A version that is not spoken is a 426 that says which is (RFC 6455 section 4.4)."""
        for version in ("99", "12", "", "13, 8"):
            response = self.upgrade(sec_websocket_version=version)
            self.assertEqual(response.status, 426)
            self.assertEqual(response.headers["sec-websocket-version"], "13")

    def test_key(self) -> None:
        """A key that is not 16 bytes in base64 is a 400 (RFC 6455 section 4.2.1)."""
        for key in ("", "short", "x" * 24, "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZQ=x"):
            self.assertEqual(self.upgrade(sec_websocket_key=key).status, 400, key)


class LogTests(ServerTests):
    """Nothing secret reaches the log."""

    def setUp(self) -> None:
        super().setUp()
        self.events: list[LogEvent] = []
        observer = cast(ILogObserver, self.events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def written(self) -> str:
        """All that any observer could write of what was logged."""
        return "\n".join(f"{formatEvent(event)} {_plain(event)}" for event in self.events)

    def test_no_token(self) -> None:
        """However a token comes, and whether it is accepted or not, it is in no event."""
        self.server.add_users("alice", "bob")
        token = self.server.token("alice")
        forged = token[:-5] + "AAAAA"
        for secret in (token, forged):
            for method in ("GET", "HEAD", "POST", "OPTIONS", "BREW"):
                for site in (self.server.secure, self.server.plain):
                    self.server.request(method, f"/ws?token={secret}", site=site)
                    self.server.request(method, "/ws", site=site, authorization=f"Bearer {secret}")
            self.server.upgrade(f"/ws?token={secret}")
            self.server.upgrade(f"/ws?token={secret}", sec_websocket_version="99")
        # Not `assertNotIn`, whose message would be long.
        self.assertFalse([e for e in self.written().split("\n") if token[:-5] in e][:1])

    def test_no_contents(self) -> None:
        """Nor are what people write, keys, challenges, and signatures."""
        alice, bob = self.connect("alice", "bob")
        alice.say("bob", "a private word", signature="c2lnbmF0dXJl")
        alice.say("nobody", "a private word")
        alice.send(TEXT, b"a private word")
        bob.wire.stall()
        challenge = self.server.request("POST", "/auth/login", {"user_id": "alice"}).json
        body = {"user_id": "alice", "signature": "c2lnbmF0dXJl"}
        self.server.request("POST", "/auth/login?verify=true", body)
        keys = [PrivateKey.generate().public_key for _ in range(2)]
        for key in (*keys, "a2V5"):
            body = {"user_id": "charlie", "public_key": key, "x25519_public_key": keys[0]}
            self.server.request("POST", "/auth/register", body)
        alice.send(0x2, b"a private word")
        self.server.factory.connections.close_all(CloseCode.SHUTDOWN)
        written = self.written()
        for secret in ("private word", challenge["challenge"], "c2lnbmF0dXJl", *keys, "a2V5"):
            self.assertNotIn(secret, written)

    def test_security_events(self) -> None:
        """Registrations, logins and refusals are logged: what, who, from where, and why not."""
        key = self.server.add_user("alice")
        body = {"user_id": "bob", "public_key": key.public_key}
        self.server.request("POST", "/auth/register", body)
        self.server.request("POST", "/auth/register", body)
        challenge = self.server.request("POST", "/auth/login", {"user_id": "alice"}).json
        signature = key.sign(decode_base64(challenge["challenge"]))
        for text in (signature, signature):
            body = {"user_id": "alice", "signature": text}
            self.server.request("POST", "/auth/login?verify=true", body)
        self.server.upgrade("/ws?token=x")
        for page in ("/metrics", "/analytics/summary"):
            self.server.request("GET", page, authorization="Bearer x")
        events = [
            (event["event"], event["user_id"], event.get("reason"), event["address"])
            for event in self.events
            if event["log_namespace"] == "wschat.security"
        ]
        nothing = "No challenge outstanding: ask for one, then answer it."
        self.assertEqual(
            events,
            [
                ("registration", "bob", None, ADDRESS),
                ("registration", "bob", "The user id bob is taken.", ADDRESS),
                ("login", "alice", None, ADDRESS),
                ("login", "alice", nothing, ADDRESS),
                ("websocket", "", "The token is not valid.", ADDRESS),
                *[("administrator", "", "The token is not valid.", ADDRESS)] * 2,
            ],
        )


def _plain(event: LogEvent) -> dict[str, Any]:
    """An event without the objects that logged it."""
    return {
        name: value
        for name, value in event.items()
        if name not in ("log_source", "log_logger", "log_trace")
    }

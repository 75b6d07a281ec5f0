"""Tests of `wschat.web`: the HTTP table of the contract, and what guards it."""

from __future__ import annotations

from typing import Any

import msgspec

from tests.support import (
    Executor,
    Limits,
    Response,
    Server,
    ServerTests,
    Wire,
    parse_response,
    request_head,
)
from wschat import rotation
from wschat.identity import PrivateKey, decode_base64

ORIGIN = "https://chat.example"


class _WebTests(ServerTests):
    def get(self, path: str, **headers: Any) -> Response:
        return self.server.request("GET", path, **headers)

    def post(self, path: str, body: Any, **headers: Any) -> Response:
        return self.server.request("POST", path, body, **headers)

    def check(self, response: Response, status: int) -> Response:
        """It has that status, and anything but a success is one readable line."""
        self.assertEqual(response.status, status, response)
        if status >= 400:
            self.assertEqual(response.headers["content-type"], "text/plain; charset=utf-8")
            self.assertRegex(response.text, r"\A[^\n<>]+\n\Z")
        return response

    def register(self, user_id: str, **fields: Any) -> Response:
        key = self.server.keys[user_id] = PrivateKey.generate()
        return self.post("/auth/register", registration(user_id, key, **fields))


def registration(user_id: str, key: PrivateKey, **fields: Any) -> dict[str, Any]:
    return {"user_id": user_id, "username": "", "public_key": key.public_key, **fields}


class TableTests(_WebTests):
    """Every row of the contract's table of requests."""

    def test_health(self) -> None:
        """`/health` says that the service is healthy, and which service it is."""
        answer = self.check(self.get("/health"), 200)
        self.assertEqual(answer.headers["content-type"], "application/json")
        self.assertEqual(answer.json["status"], "healthy")
        self.assertTrue(answer.json["service"])

    def test_active_users(self) -> None:
        """`/active-users` has who is connected, once each, and who is registered and is not."""
        self.assertEqual(self.get("/active-users").json, {"online": [], "offline": []})
        self.connect("alice", "bob", "alice")
        self.server.add_user("carol")
        answer = self.check(self.get("/active-users"), 200).json
        self.assertEqual(answer, {"online": ["alice", "bob"], "offline": ["carol"]})

    def test_check_userid(self) -> None:
        """`/auth/check-userid/{id}` says whether a user exists."""
        self.server.add_user("alice")
        for user_id, exists in (("alice", True), ("bob", False), ("a%20b", False), ("", False)):
            answer = self.check(self.get(f"/auth/check-userid/{user_id}"), 200)
            self.assertEqual(answer.json, {"exists": exists})

    def test_register(self) -> None:
        """`/auth/register` is a 201 with a text, and the user can be asked about."""
        key = PrivateKey.generate()
        body = registration("alice", key, username="Alice", x25519_public_key=key.x25519_public_key)
        answer = self.check(self.post("/auth/register", body), 201)
        self.assertEqual(answer.headers["content-type"], "text/plain; charset=utf-8")
        self.assertIn("alice", answer.text)
        self.assertEqual(
            self.check(self.get("/auth/users/alice"), 200).json,
            {**body, "created_at": "2026-11-22T10:00:00.000000Z"},
        )

    def test_user_without_sealing_key(self) -> None:
        """A user without an X25519 key has no such field; without a name, it is the id."""
        self.register("bob")
        answer = self.get("/auth/users/bob").json
        self.assertEqual(answer["username"], "bob")
        self.assertNotIn("x25519_public_key", answer)
        self.assertNotIn("rotations", answer)

    def test_unknown_user(self) -> None:
        """`/auth/users/{id}` of an unknown user is a 404."""
        for user_id in ("nobody", "", "%ff"):
            self.check(self.get(f"/auth/users/{user_id}"), 404)

    def test_taken(self) -> None:
        """A taken id is refused with one line."""
        self.register("alice")
        self.check(self.register("alice"), 409)

    def test_bad_registration(self) -> None:
        """Names and keys that are none are a 400."""
        key = PrivateKey.generate()
        for body in (
            registration("broadcast", key),
            registration("a b", key),
            registration("alice", key, public_key="bm9uZQ=="),
            registration("alice", key, x25519_public_key="junk"),
            {"user_id": "alice"},
        ):
            self.check(self.post("/auth/register", body), 400)

    def test_registration_closed(self) -> None:
        """When registration is closed, it is a 403."""
        self.server = Server(Limits(registration_open=False))
        self.check(self.register("alice"), 403)

    def test_rotate(self) -> None:
        """`/auth/rotate` is a 200 with a text, and the new keys can be asked for, with the way."""
        self.register("alice")
        old, new = self.server.keys["alice"], PrivateKey.generate()
        made = rotation.rotate("alice", old, new, "2026-11-22T10:00:00Z")
        step = msgspec.structs.asdict(made)
        body = {"user_id": "alice", "step": step}
        self.assertIn("alice", self.check(self.post("/auth/rotate", body), 200).text)
        user = self.get("/auth/users/alice").json
        self.assertEqual(user["public_key"], new.public_key)
        self.assertEqual(user["x25519_public_key"], new.x25519_public_key)
        self.assertEqual(user["rotations"], [step])
        self.check(self.post("/auth/rotate", body), 409)
        self.check(self.post("/auth/rotate", {"user_id": "alice"}), 400)
        self.check(self.get("/auth/rotate"), 405)

    def test_login(self) -> None:
        """A challenge of 32 bytes, signed, gives a token that opens a WebSocket."""
        self.register("alice")
        answer = self.check(self.post("/auth/login", {"user_id": "alice"}), 200).json
        self.assertEqual(answer.keys(), {"challenge"})
        challenge = decode_base64(answer["challenge"], 32)
        signature = self.server.keys["alice"].sign(challenge)
        body = {"user_id": "alice", "signature": signature}
        token = self.check(self.post("/auth/login?verify=true", body), 200).json
        self.assertEqual(token.keys(), {"token", "expires_at"})
        self.assertEqual(token["expires_at"], "2026-11-23T10:00:00.000000Z")
        _, response = self.server.upgrade(f"/ws?token={token['token']}")
        self.assertEqual(response.status, 101)

    def test_challenge_is_used_once(self) -> None:
        """An answer that was accepted is a 400 the second time."""
        self.register("alice")
        challenge = self.post("/auth/login", {"user_id": "alice"}).json["challenge"]
        signature = self.server.keys["alice"].sign(decode_base64(challenge))
        body = {"user_id": "alice", "signature": signature}
        self.check(self.post("/auth/login?verify=true", body), 200)
        self.check(self.post("/auth/login?verify=true", body), 400)

    def test_login_with_challenge(self) -> None:
        """The challenge may be in the answer, as some clients send it."""
        self.register("alice")
        challenge = self.post("/auth/login", {"user_id": "alice"}).json["challenge"]
        signature = self.server.keys["alice"].sign(decode_base64(challenge))
        body = {"user_id": "alice", "signature": signature, "challenge": challenge}
        self.check(self.post("/auth/login?verify=true", body), 200)

    def test_login_refused(self) -> None:
        """No challenge is a 400; an unknown user and a bad signature are a 401."""
        self.register("alice")
        body = {"user_id": "alice", "signature": "bm9uZQ=="}
        self.check(self.post("/auth/login?verify=true", body), 400)
        self.post("/auth/login", {"user_id": "alice"})
        self.check(self.post("/auth/login?verify=true", body), 401)
        self.check(self.post("/auth/login", {"user_id": "nobody"}), 401)
        self.check(self.post("/auth/login?verify=true", body | {"user_id": "nobody"}), 401)

    def test_elsewhere(self) -> None:
        """Every other path is a 404, whatever the method."""
        for path in ("/", "/auth", "/auth/", "/nothing", "/health2", "/auth/users", "/auth/x/y"):
            for method in ("GET", "POST", "BREW"):
                self.check(self.server.request(method, path), 404)

    def test_below(self) -> None:
        """There is nothing below a path that answers."""
        self.server.add_user("alice")
        for path in (
            "/health/x",
            "/active-users/",
            "/auth/users/alice/x",
            "/auth/login/x",
            "/ws/x",
        ):
            self.check(self.get(path), 404)


class MethodTests(_WebTests):
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


class BodyTests(_WebTests):
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
        self.server.turn()
        self.assertFalse(wire.connected)

    def test_endless_line(self) -> None:
        """… be it in a header, at once: over TLS it would be read for as long as it comes."""
        wire = self.server.open_wire()
        wire.feed(b"GET /health HTTP/1.1\r\nA: " + b"x" * 20_000)
        self.assertIsNone(wire.producer)  # nothing more is awaited before the end
        wire.feed(b"\r\n\r\n")
        self.assertEqual(wire.writes, [])
        self.server.turn()
        self.assertFalse(wire.connected)

    def test_slow_request(self) -> None:
        """Who does not finish a request is dropped after a while."""
        wire = self.server.open_wire()
        wire.feed(b"GET /health HT")
        self.server.advance(60)
        self.assertFalse(wire.connected)

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


class HeaderTests(_WebTests):
    """What every answer has, and what pages of other origins get."""

    limits = Limits(allowed_origins=frozenset({ORIGIN}))

    def test_every_answer(self) -> None:
        """No answer is kept by caches or guessed at by browsers."""
        for path in ("/health", "/nothing", "/ws", "/auth/register"):
            headers = self.get(path).headers
            self.assertEqual(headers["cache-control"], "no-store")
            self.assertEqual(headers["x-content-type-options"], "nosniff")
            self.assertTrue(headers["server"].startswith("wschat"))

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


class RateTests(_WebTests):
    """Requests that come too often."""

    limits = Limits(login_rate=6, registration_rate=3)

    def login(self, address: str) -> Response:
        return self.server.request("POST", "/auth/login", {"user_id": "alice"}, address=address)

    def test_logins(self) -> None:
        """After as many as a minute allows, it is a 429 that says when to come again."""
        self.server.add_user("alice")
        for _ in range(6):
            self.check(self.login("198.51.100.1"), 200)
        response = self.check(self.login("198.51.100.1"), 429)
        self.assertEqual(response.headers["retry-after"], "10")
        self.check(self.login("198.51.100.2"), 200)
        self.server.advance(9)
        self.check(self.login("198.51.100.1"), 429)
        self.server.advance(1)
        self.check(self.login("198.51.100.1"), 200)

    def answer(self, address: str) -> Response:
        wrong = {"user_id": "alice", "signature": "A" * 86 + "=="}
        return self.server.request("POST", "/auth/login?verify=true", wrong, address=address)

    def test_both_halves(self) -> None:
        """A login is a challenge and its answer: as many of each as a minute allows."""
        self.server.add_user("alice")
        for _ in range(6):
            self.check(self.login("198.51.100.1"), 200)
            self.check(self.answer("198.51.100.1"), 401)
        self.check(self.login("198.51.100.1"), 429)
        self.check(self.answer("198.51.100.1"), 429)

    def test_one_address_in_two_spellings(self) -> None:
        """An IPv4 peer is the same when it comes in over IPv6."""
        self.server.add_user("alice")
        for _ in range(3):
            self.check(self.login("198.51.100.1"), 200)
            self.check(self.login("::ffff:198.51.100.1"), 200)
        self.check(self.login("198.51.100.1"), 429)

    def test_registrations(self) -> None:
        """Registrations have a limit of their own."""
        for n in range(3):
            self.check(self.register(f"user{n}"), 201)
        response = self.check(self.register("user3"), 429)
        self.assertEqual(response.headers["retry-after"], "20")
        self.check(self.login("203.0.113.5"), 401)

    def test_reading_is_free(self) -> None:
        """Other requests are not counted."""
        for _ in range(20):
            self.check(self.get("/health"), 200)
            self.check(self.get("/auth/check-userid/alice"), 200)


class PlainTests(_WebTests):
    """The plain listener: health, loopback's active users, and the way to TLS."""

    def plain(
        self, path: str, method: str = "GET", address: str = "203.0.113.5", **headers: str
    ) -> Response:
        return self.server.request(method, path, site=self.server.plain, address=address, **headers)

    def test_health(self) -> None:
        """Health is for everybody."""
        self.assertEqual(self.plain("/health").json["status"], "healthy")

    def test_active_users_of_loopback(self) -> None:
        """Active users are for peers on the same host."""
        for address in ("127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"):
            answer = self.check(self.plain("/active-users", address=address), 200)
            self.assertEqual(answer.json, {"online": [], "offline": []})

    def test_active_users_of_others(self) -> None:
        """Others are sent to TLS, whatever their headers say."""
        for address in ("203.0.113.5", "2001:db8::1", "::ffff:203.0.113.5"):
            answer = self.plain("/active-users", address=address, x_forwarded_for="127.0.0.1")
            self.assertEqual(answer.status, 308)

    def test_unix_socket(self) -> None:
        """A peer without an address is not a loopback one, and is served all the same."""
        self.assertEqual(self.plain("/active-users", address="").status, 308)
        self.server.add_user("alice")
        body = {"user_id": "alice"}
        self.check(self.server.request("POST", "/auth/login", body, address=""), 200)

    def test_redirect(self) -> None:
        """Everything else is a 308 to the same path and query on https, whatever the method."""
        for method in ("GET", "POST", "HEAD", "DELETE"):
            for path in ("/", "/auth/login?verify=true", "/ws?x=%20y", "//other.example/x"):
                answer = self.plain(path, method)
                self.assertEqual(answer.status, 308)
                self.assertEqual(answer.headers["location"], f"https://chat.example:8443{path}")

    def test_hosts(self) -> None:
        """The host is the one asked for, without its port."""
        for host, expected in (
            ("chat.example:8080", "chat.example:8443"),
            ("127.0.0.1", "127.0.0.1:8443"),
            ("[::1]:8080", "[::1]:8443"),
        ):
            answer = self.plain("/x", host=host)
            self.assertEqual(answer.headers["location"], f"https://{expected}/x")

    def test_default_port(self) -> None:
        """The port of https is not spelt out."""
        self.server = Server(Limits(tls_port=443))
        self.assertEqual(self.plain("/x").headers["location"], "https://chat.example/x")

    def test_bad_hosts(self) -> None:
        """What is no host is not sent anywhere."""
        for host in (
            "",
            "evil.example/",
            "user@evil.example",
            "a b",
            "a:b",
            "x:999999",
            "?",
            "[::1",
        ):
            answer = self.check(self.plain("/x", host=host), 400)
            self.assertNotIn("location", answer.headers)

    def test_absolute_form(self) -> None:
        """A request line that names another host leads to this one."""
        answer = self.plain("http://evil.example/x")
        self.assertEqual(answer.status, 308)
        self.assertTrue(answer.headers["location"].startswith("https://chat.example:8443/"))

"""Tests of `wschat.web`: the HTTP table of the contract, and what guards it."""

from __future__ import annotations

from typing import Any

import msgspec

from tests.pages import WebTests, registration
from tests.support import (
    Limits,
    Response,
    Server,
)
from wschat import rotation, web
from wschat.addresses import Networks
from wschat.identity import PrivateKey, decode_base64

ORIGIN = "https://chat.example"


class TableTests(WebTests):
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
        self.server.add_user("charlie")
        answer = self.check(self.get("/active-users"), 200).json
        self.assertEqual(answer, {"online": ["alice", "bob"], "offline": ["charlie"]})

    def test_active_users_of_many(self) -> None:
        """Of many users the list is made anew only when it is old for that many."""
        self.patch(web, "_FEW_USERS", 3)
        self.patch(web, "_LISTED_FOR", 1.0)
        self.server.add_users("alice", "bob")
        self.assertEqual(self.get("/active-users").json["online"], [])
        self.connect("charlie")
        for seconds, online in ((0, []), (2, []), (1, ["charlie"])):
            self.server.advance(seconds)
            self.assertEqual(self.get("/active-users").json["online"], online)

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
        files = ("/../jwt-secret", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/..%2fjwt-secret")
        paths = ("/", "/auth", "/auth/", "/nothing", "/health2", "/auth/users", "/auth/x/y")
        for path in (*paths, *files):
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


class RateTests(WebTests):
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
        """An IPv4 peer is the same when it comes in over IPv6, and so is all of a /64."""
        self.server.add_user("alice")
        for _ in range(3):
            self.check(self.login("198.51.100.1"), 200)
            self.check(self.login("::ffff:198.51.100.1"), 200)
        self.check(self.login("198.51.100.1"), 429)
        for number in range(6):
            self.check(self.login(f"2001:db8::{number}:1"), 200)
        self.check(self.login("2001:db8::1"), 429)
        self.check(self.login("2001:db8:0:1::1"), 200)

    def test_registrations(self) -> None:
        """Registrations have a limit of their own."""
        for n in range(3):
            self.check(self.register(f"user{n}"), 201)
        response = self.check(self.register("user3"), 429)
        self.assertEqual(response.headers["retry-after"], "20")
        self.check(self.login("203.0.113.5"), 401)

    def test_behind_a_proxy(self) -> None:
        """Behind a trusted proxy each of its clients has a limit of their own."""
        proxies = Networks.parse("10.0.0.1")
        self.server = Server(Limits(login_rate=1, trusted_proxies=proxies))
        self.server.add_user("alice")

        def status(peer: str, forwarded: str) -> int:
            body = {"user_id": "alice"}
            headers: dict[str, Any] = {"address": peer, "x_forwarded_for": forwarded}
            return self.server.request("POST", "/auth/login", body, **headers).status

        self.assertEqual([status("10.0.0.1", "203.0.113.5") for _ in range(2)], [200, 429])
        self.assertEqual(status("10.0.0.1", "203.0.113.6"), 200)
        self.assertEqual(status("10.0.0.2", "203.0.113.7"), 200)
        self.assertEqual(status("10.0.0.2", "203.0.113.8"), 429)

    def test_counted(self) -> None:
        """What was too much is counted by its limit, and logins by how they ended."""
        self.server.add_user("alice")
        for _ in range(7):
            self.login("198.51.100.1")
        self.answer("198.51.100.2")
        for number in range(4):
            self.register(f"user{number}")
        meters = self.server.meters
        self.assertEqual(meters.limited, {"logins": 1, "registrations": 1})
        self.assertEqual(meters.logins, {"failure": 2})
        self.assertEqual(meters.registrations, {"success": 3, "failure": 1})

    def test_reading_is_free(self) -> None:
        """Other requests are not counted."""
        for _ in range(20):
            self.check(self.get("/health"), 200)
            self.check(self.get("/auth/check-userid/alice"), 200)


class PlainTests(WebTests):
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

    def test_relayed_by_anybody(self) -> None:
        """What a proxy on this host relays that is not trusted is not from this host."""
        for name in ("x_forwarded_for", "x_real_ip", "forwarded"):
            headers = {name: "127.0.0.1"}
            answer = self.plain("/active-users", address="127.0.0.1", **headers)
            self.assertEqual(answer.status, 308)

    def test_administrators_ids(self) -> None:
        """Nobody can take an administrator's id; who has it keeps it."""
        self.server = Server(Limits(administrators=frozenset({"alice"})))
        answer = self.check(self.register("alice"), 403)
        self.assertEqual(answer.text, "This user id is an administrator's.\n")
        self.server.add_user("alice")
        self.check(self.register("alice"), 409)

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

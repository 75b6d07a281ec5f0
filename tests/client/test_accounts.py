"""Tests of `wschat.client.accounts`: what is asked over HTTP, and what may be answered."""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet import defer, reactor
from twisted.internet import error as errors
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from tests.client.support import ClientTests, Script, settings
from wschat import envelope, identity, rotation, wire
from wschat.client import accounts as module
from wschat.client.accounts import Accounts, ConnectionProblem, RequestRefused, problem
from wschat.identity import PrivateKey, encode_base64


class ServerTests(ClientTests):
    """A whole server."""

    def accounts(self, user_id: str = "alice", **given: Any) -> Accounts:
        """A user's view of the server that was started last."""
        self.key = given.pop("key", None) or PrivateKey.generate()
        return Accounts(reactor, settings(self.port, user_id, **given), self.key)

    async def test_registers_if_new(self) -> None:
        """A new user is registered, with both keys; a known one just logs in."""
        self.start()
        accounts = self.accounts()
        self.assertEqual((await accounts.login()).count("."), 2)
        user = await accounts.user("alice")
        assert user is not None
        self.assertEqual((user.user_id, user.username, user.rotations), ("alice", "Alice", []))
        self.assertEqual(user.public_key, self.key.public_key)
        self.assertEqual(user.x25519_public_key, self.key.x25519_public_key)
        again = self.accounts(key=self.key)
        self.assertEqual((await again.login()).count("."), 2)
        self.assertEqual((await accounts.active_users()).offline, ["alice"])
        self.assertEqual((await accounts.active_users()).online, [])

    async def test_wrong_key(self) -> None:
        """Who has another key than the registered one is refused."""
        self.start()
        await self.accounts().login()
        error = await self.assertFailure(
            defer.Deferred.fromCoroutine(self.accounts().login()), RequestRefused
        )
        self.assertNotEqual(str(error), "")
        self.assertNotIn("\n", str(error))

    async def test_closed_registration(self) -> None:
        """When nobody may register, the server's line says so."""
        self.start(registration="closed")
        login = defer.Deferred.fromCoroutine(self.accounts().login())
        error = await self.assertFailure(login, RequestRefused)
        self.assertNotIn("\n", str(error))

    async def test_unknown_key(self) -> None:
        """There is no unknown user, nor one of a name that nobody can have."""
        self.start()
        accounts = self.accounts()
        self.assertIsNone(await accounts.user("nobody"))
        self.assertIsNone(await accounts.user("a/../b"))

    async def fails(self, **given: Any) -> str:
        """The line of a login that finds no server it trusts."""
        login = defer.Deferred.fromCoroutine(self.accounts(**given).login())
        error = await self.assertFailure(login, ConnectionProblem)
        self.assertNotIn("\n", str(error))
        return str(error)

    async def test_untrusted(self) -> None:
        """A certificate that nobody vouches for: the line names both ways out."""
        self.start()
        self.environ("SSL_CERT_FILE", "/dev/null")
        line = await self.fails()
        for part in ("localhost", "not trusted", "SSL_CERT_FILE", "INSECURE_TLS"):
            self.assertIn(part, line)

    async def test_insecure(self) -> None:
        """Without the check neither trust nor name matters."""
        self.start(listen="0.0.0.0:0")
        self.environ("SSL_CERT_FILE", "/dev/null")
        self.assertNotEqual(await self.accounts(host="127.0.0.2", insecure_tls=True).login(), "")

    async def test_wrong_address(self) -> None:
        """An address that the certificate has not is another name, too."""
        self.start(listen="0.0.0.0:0")
        self.assertIn("another name", await self.fails(host="127.0.0.2"))

    async def test_nobody_there(self) -> None:
        """Where nobody listens, the line says so."""
        server = self.start()
        await self.stop_server(server)
        self.assertIn("refused", await self.fails())


class ScriptedTests(ClientTests):
    """A server that answers what no good one would."""

    def setUp(self) -> None:
        super().setUp()
        self.script = Script(self)
        self.key = PrivateKey.generate()
        self.accounts = Accounts(reactor, settings(self.script.port), self.key)

    def login(self) -> defer.Deferred[str]:
        return defer.Deferred.fromCoroutine(self.accounts.login())

    async def test_requests(self) -> None:
        """A new user's three steps are the contract's."""
        challenge = bytes(range(32))
        paths = self.script.answers
        paths["/auth/check-userid/alice"] = (200, {"exists": False})
        paths["/auth/register"] = (201, b"Registered.")
        answer = {"challenge": encode_base64(challenge), "token": "t"}
        paths["/auth/login"] = (200, answer)
        self.assertEqual(await self.login(), "t")
        _, register, login, verify = self.script.requests
        body = {
            "user_id": "alice",
            "username": "Alice",
            "public_key": self.key.public_key,
            "x25519_public_key": self.key.x25519_public_key,
        }
        self.assertEqual(register, ("POST", "/auth/register", body))
        self.assertEqual(login, ("POST", "/auth/login", {"user_id": "alice"}))
        self.assertEqual(verify[:2], ("POST", "/auth/login?verify=true"))
        self.assertEqual(verify[2]["signature"], self.key.sign(challenge))

    async def test_somebody_was_first(self) -> None:
        """When another session registers the user meanwhile, the login tells whose it is."""
        self.script.answers["/auth/check-userid/alice"] = (200, {"exists": False})
        self.script.answers["/auth/register"] = (409, b"Taken.")
        self.assertEqual(await self.login(), "t.o.k")

    async def test_refusals(self) -> None:
        """A refusal is the first line of the body, or the status when there is none."""
        exists = "/auth/check-userid/alice"
        for path, answer, line in (
            ("/auth/register", (400, b"public_key: no.\nmore"), "public_key: no."),
            ("/auth/register", (500, b""), "The server answered 500."),
            ("/auth/login", (401, b"No such user.\n"), "No such user."),
            ("/auth/login", (503, b""), "The server answered 503."),
        ):
            self.script.answers = {exists: (200, {"exists": False}), path: answer}
            self.script.answers.setdefault("/auth/register", (201, b""))
            error = await self.assertFailure(self.login(), RequestRefused)
            self.assertEqual(str(error), line)

    async def test_nonsense(self) -> None:
        """Answers that cannot be read are a problem of the server, not a refusal."""
        for answer in (b"{", {"challenge": 7}, {}, {"challenge": "?"}):
            self.script.answers["/auth/login"] = (200, answer)
            await self.assertFailure(self.login(), ConnectionProblem)

    async def test_challenges_that_are_none(self) -> None:
        """Nothing that means something is signed to log in: who asks could use that elsewhere."""
        message = wire.Message("alice", "bob", "I resign.", "2026-11-22T10:00:00Z", client_id="a1")
        stranger = PrivateKey.generate()
        step = rotation.rotate("alice", self.key, stranger, "2026-11-22T10:00:00Z")
        for meaning in (
            envelope.envelope(message),
            rotation.statement("alice", step),
            identity.go_json("I shall pay bob every week ..."),  # 32 bytes, as a challenge has
            b'{"command":"delete_my_account"} ',
            bytes(range(31)),
            b"",
        ):
            self.script.requests.clear()
            self.script.answers["/auth/login"] = (
                200,
                {"challenge": encode_base64(meaning)},
            )
            error = await self.assertFailure(self.login(), ConnectionProblem)
            self.assertIn("challenge", str(error))
            self.assertNotIn("/auth/login?verify=true", self.script.paths())

    async def test_too_long(self) -> None:
        """An answer without end is not read to its end."""
        self.patch(module, "_MAX_BODY", 1000)
        self.script.answers["/active-users"] = (200, b"x" * 100_000)
        asked = defer.Deferred.fromCoroutine(self.accounts.active_users())
        error = await self.assertFailure(asked, ConnectionProblem)
        self.assertIn("too long", str(error))

    async def key_of(self, user_id: str = "bob") -> str | None:
        user = await self.accounts.user(user_id)
        return None if user is None else user.public_key

    async def fails(self, error: type[Exception]) -> str:
        """Why bob cannot be asked about."""
        asked = defer.Deferred.fromCoroutine(self.accounts.user("bob"))
        return str(await self.assertFailure(asked, error))

    async def test_key_asked_again(self) -> None:
        """A user who could not be asked about now is asked about again; a known one is not."""
        self.script.answers["/auth/users/bob"] = (200, b"{")
        await self.fails(ConnectionProblem)
        del self.script.answers["/auth/users/bob"]
        self.assertEqual(await self.key_of(), self.script.bob.public_key)
        await self.key_of()
        self.assertEqual(len(self.script.requests), 2)

    async def test_forgotten(self) -> None:
        """Whom the program wants to know anew is asked about again, or everybody."""
        for user_id in ("bob", "charlie", None):
            await self.key_of()
            self.accounts.forget(user_id)
        await self.key_of()
        self.assertEqual(self.script.paths(), ["/auth/users/bob"] * 3)

    async def test_keys_that_are_none(self) -> None:
        """What is no key is not taken for one."""
        good = self.script.bob
        for keys in (
            {"public_key": "no key"},
            {"public_key": encode_base64(bytes(32))},
            {"public_key": good.public_key, "x25519_public_key": encode_base64(bytes(32))},
            {"public_key": good.public_key, "x25519_public_key": "a b"},
        ):
            self.script.answers["/auth/users/bob"] = (200, {"user_id": "bob", **keys})
            self.assertIn("cannot be used", await self.fails(ConnectionProblem))

    async def test_busy_server(self) -> None:
        """A server that is busy has not said that there is no key: it is asked again."""
        self.script.answers["/auth/users/bob"] = (503, b"Busy.")
        self.assertEqual(await self.fails(RequestRefused), "Busy.")
        del self.script.answers["/auth/users/bob"]
        self.assertEqual(await self.key_of(), self.script.bob.public_key)

    async def test_forgets(self) -> None:
        """Only so many users are remembered; the oldest is forgotten first."""
        self.patch(module, "_REMEMBERED", 1)
        charlie = {"user_id": "charlie", "public_key": PrivateKey.generate().public_key}
        self.script.answers["/auth/users/charlie"] = (200, charlie)
        for user_id in ("bob", "charlie", "charlie", "bob"):
            await self.key_of(user_id)
        expected = [f"/auth/users/{user_id}" for user_id in ("bob", "charlie", "bob")]
        self.assertEqual(self.script.paths(), expected)

    async def test_nobody(self) -> None:
        """Who has no account may have one soon: it is asked again."""
        for _ in range(2):
            self.assertIsNone(await self.accounts.user("charlie"))
        self.assertEqual(self.script.paths(), ["/auth/users/charlie"] * 2)


class ProblemTests(SynchronousTestCase):
    """What went wrong on the way, in one line."""

    def test_lines(self) -> None:
        """Each sort of failure has its words, behind the server's name."""
        for error, words in (
            (errors.DNSLookupError(), "no such host"),
            (errors.ConnectionRefusedError(), "refused"),
            (errors.NoRouteError(), "no way"),
            (errors.TimeoutError(), "no answer within 10 s"),
            (defer.TimeoutError(), "no answer within 10 s"),
            (SSL.Error([("", "", "wrong version number")]), "does not speak TLS"),
            (SSL.Error([("", "", "certificate verify failed")]), "not trusted"),
            (OSError("one\ntwo"), "one"),
            (OSError(), "the connection was lost"),
        ):
            line = str(problem("chat.example:443", error))
            self.assertTrue(line.startswith("chat.example:443: "), line)
            self.assertIn(words, line)
            self.assertNotIn("\n", line)

    def test_no_answer(self) -> None:
        """A server that does not answer is given up after the time-out."""
        memory: Any = MemoryReactorClock()
        accounts = Accounts(
            memory, settings(443, host="127.0.0.1", insecure_tls=True), PrivateKey.generate()
        )
        asked = defer.Deferred.fromCoroutine(accounts.active_users())
        self.assertNoResult(asked)
        memory.advance(module.TIMEOUT + 1)
        error = self.failureResultOf(asked, ConnectionProblem).value
        self.assertIn("no answer within 10 s", str(error))

    def test_cancelled(self) -> None:
        """Whoever cancels a request is told that, and of no problem."""
        memory: Any = MemoryReactorClock()
        accounts = Accounts(
            memory, settings(443, host="127.0.0.1", insecure_tls=True), PrivateKey.generate()
        )
        asked = defer.Deferred.fromCoroutine(accounts.active_users())
        asked.cancel()
        self.failureResultOf(asked, defer.CancelledError)

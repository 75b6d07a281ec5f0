"""Tests of `wschat.client.slash`: what commands answer, from a client that a test wrote."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from wschat import wire
from wschat.client import slash as module
from wschat.client.accounts import ActiveUsers, RequestRefused
from wschat.client.console import HELP, NotUnderstood, Slash
from wschat.client.listener import Counters, Heard, History
from wschat.client.slash import Commands, Reply, amount, metrics_line, milliseconds, size
from wschat.client.trust import Whois
from wschat.envelope import Authenticity

OLD, NEW = "11111 22222", "33333 44444"


class FakeClient:
    """Answers what a test says."""

    def __init__(self) -> None:
        self.counters = Counters(sent=1, received=2, refused=0, reconnects=3)
        self.who = Whois("bob", "Bob\x1b", OLD, True, True, "2026-11-22T10:00:00Z\x1b")
        self.answer = wire.CommandAnswer(True)
        self.trusted: list[str] = []
        self.after = NEW  # the fingerprint that is trusted in the end

    @property
    def accounts(self) -> FakeClient:
        return self

    async def active_users(self) -> ActiveUsers:
        return ActiveUsers(["alice", "ev\x1bil"], [])

    async def history(self, peer: str, limit: int) -> History:
        message = wire.Message("bob", peer, "hi", "2026-11-22T10:00:00Z")
        return History([Heard(message, f"{limit}", Authenticity.NONE)], True, 1)

    async def whois(self, user_id: str) -> Whois:
        return self.who

    async def fingerprint(self, user_id: str) -> str:
        return OLD

    async def trust(self, user_id: str) -> tuple[str, str]:
        self.trusted.append(user_id)
        return OLD, self.after

    def command(self, name: str) -> Deferred[wire.CommandAnswer]:
        return succeed(self.answer)


class CommandTests(SynchronousTestCase):
    """Commands and their answers."""

    def setUp(self) -> None:
        self.client = FakeClient()
        ticks = iter((10.0, 10.25))
        self.commands = Commands(cast(Any, self.client), lambda: next(ticks))

    def ask(self, name: str, rest: str = "") -> Reply:
        """The answer to a command."""
        answer = self.commands.answer(Slash(name, rest))
        return self.successResultOf(Deferred.fromCoroutine(answer))

    def refusal(self, name: str, rest: str = "") -> str:
        """Why a command has no answer."""
        work = Deferred.fromCoroutine(self.commands.answer(Slash(name, rest)))
        return str(self.failureResultOf(work, NotUnderstood, RequestRefused).value)

    def test_help(self) -> None:
        """/help shows all there is; what is not a command points to it."""
        self.assertEqual(self.ask("help").lines, HELP)
        self.assertIn("/help", self.refusal("nonsense"))

    def test_users(self) -> None:
        """/users has who is there and who is not, and no name controls the terminal."""
        reply = self.ask("users")
        self.assertEqual(reply.lines, (r"Online: alice, ev\x1bil", "Offline: -"))
        self.assertEqual(reply.data["online"], ["alice", "ev\x1bil"])

    def test_history(self) -> None:
        """/history has the messages, and whether there are more."""
        reply = self.ask("history", "bob 7")
        self.assertEqual([heard.text for heard in reply.heard or ()], ["7"])
        self.assertEqual(reply.notes, ("1 messages, and there are more.",))
        self.assertEqual(reply.data, {"with": "bob", "more": True})
        self.assertIn("/history USER", self.refusal("history", "a/b"))

    def test_whois(self) -> None:
        """/whois has the account, and says what their key is worth."""
        for trusted, pinned, worth in (
            (True, True, "the key you know"),
            (True, False, "seen for the first time, now known"),
            (False, True, "NOT the key you know: /trust bob"),
        ):
            self.client.who = Whois("bob", "Bob\x1b", OLD, trusted, pinned, "2026\x1b")
            who, key = self.ask("whois", "@bob").lines
            self.assertEqual(who, r"bob (Bob\x1b), since 2026\x1b")
            self.assertEqual(key, f"fingerprint {OLD}, {worth}")
        self.client.who = Whois("bob", "Bob", OLD, True, True, "")
        reply = self.ask("whois", "bob")
        self.assertEqual(reply.lines[0], "bob (Bob)")
        self.assertEqual((reply.data["username"], reply.data["pinned"]), ("Bob", True))

    def test_fingerprint(self) -> None:
        """/fingerprint has the code."""
        self.assertEqual(self.ask("fingerprint", "bob").lines, (f"bob: {OLD}",))
        self.assertIn("/fingerprint USER", self.refusal("fingerprint"))

    def test_trusted(self) -> None:
        """/trust of somebody whose key is known changes nothing."""
        reply = self.ask("trust", "bob")
        self.assertEqual((reply.data["trusted"], self.client.trusted), (True, []))
        self.assertIn(OLD, reply.lines[0])

    def changed(self) -> None:
        """The server has another key."""
        self.client.who = Whois("bob", "Bob", NEW, False, True, "")
        self.commands.key_changed("bob", OLD, NEW)

    def test_trust(self) -> None:
        """/trust shows both fingerprints, and takes the key when the new one is said as well."""
        self.changed()
        reply = self.ask("trust", "bob")
        self.assertEqual(reply.data, {"user_id": "bob", "trusted": False, "old": OLD, "new": NEW})
        self.assertIn(OLD, reply.lines[1])
        self.assertEqual((reply.lines[-1], self.client.trusted), (f"  /trust bob {NEW}", []))
        reply = self.ask("trust", "bob 3333344444")
        self.assertEqual((reply.data["trusted"], self.client.trusted), (True, ["bob"]))
        self.assertEqual(reply.lines, (f"bob is trusted. Old: {OLD}  New: {NEW}",))

    def test_not_taken(self) -> None:
        """With any other fingerprint the key is not taken."""
        self.changed()
        for said in (OLD, "3", "33333"):
            self.assertIn("Not taken", self.refusal("trust", f"bob {said}"))
        self.assertEqual(self.client.trusted, [])

    def test_changed_again(self) -> None:
        """When it is yet another key at that moment, that is said."""
        self.changed()
        self.client.after = "55555"
        self.assertIn("changed again", self.refusal("trust", f"bob {NEW}"))

    def test_forgotten(self) -> None:
        """Of too many changes the oldest is known by its new fingerprint alone."""
        self.patch(module, "_REMEMBERED", 1)
        self.changed()
        self.commands.key_changed("charlie", "1", "2")
        self.assertEqual(self.ask("trust", "bob").data["old"], "")

    def test_metrics(self) -> None:
        """/metrics has all that is counted."""
        reply = self.ask("metrics")
        self.assertEqual(reply.lines[0].split(), ["sent", "1"])
        self.assertEqual(reply.data["reconnects"], 3)
        self.assertTrue(metrics_line(self.client.counters).startswith("sent 1, received 2"))

    def test_ping(self) -> None:
        """/ping says how long it took, or why there is no answer."""
        reply = self.ask("ping")
        self.assertEqual(reply.lines, ("The server answered within 250 ms.",))
        self.assertEqual(reply.data, {"round_trip": 0.25})

    def test_no_ping(self) -> None:
        """A server that refuses to answer is quoted."""
        self.client.answer = wire.CommandAnswer(False, error="busy")
        self.assertEqual(self.refusal("ping"), "busy")

    def test_amounts(self) -> None:
        """Amounts are written as people read them."""
        self.assertEqual([milliseconds(s) for s in (0.0012, 1.5)], ["1.2 ms", "1500 ms"])
        self.assertEqual([size(n) for n in (5, 2048, 3 << 20)], ["5 B", "2.0 KiB", "3.0 MiB"])
        self.assertEqual(amount("round_trip", None), "-")
        self.assertEqual(amount("round_trip", 0.01), "10.0 ms")
        self.assertEqual(amount("bytes_sent", 7), "7 B")
        self.assertEqual(amount("sent", 7), "7")

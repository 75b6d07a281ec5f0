"""Tests of `wschat.service` for clients of `wschat.v1`: once, in turn, and what is refused."""

from __future__ import annotations

from tests.support import Limits, ServerTests
from tests.test_service_v1 import contents, errors, ids, receipt
from wschat import commits
from wschat.store import DiskFull


class IdempotenceTests(ServerTests):
    """The same client id again: stored once, delivered once, answered with the first id."""

    def setUp(self) -> None:
        super().setUp()
        self.server.add_users("alice", "bob")
        self.alice, self.bob = self.server.connect_v1("alice"), self.server.connect_v1("bob")

    def test_again(self) -> None:
        """Sent again, whatever its content says now, it is the first one."""
        self.alice.submit("bob", "once", "m-1")
        self.alice.submit("bob", "another", "m-2")
        self.alice.submit("bob", "once more", "m-1")
        stored = [receipt("stored", *known) for known in (("m-1", 1), ("m-2", 2), ("m-1", 1))]
        self.assertEqual(self.alice.frames("stored"), stored)
        self.assertEqual(contents(self.bob), ["once", "another"])

    def test_in_one_commit(self) -> None:
        """Twice in the same commit is once, and what comes after it keeps its own id."""
        self.server.store.writer.held = True
        self.alice.submit("alice", "occupies the writer", "m-0")
        for client_id in ("m-1", "m-1", "m-2"):
            self.alice.submit("bob", client_id, client_id)
        self.server.store.writer.release()
        self.server.store.writer.release()
        self.server.turn()
        stored = {(frame["client_id"], frame["id"]) for frame in self.alice.frames("stored")}
        came = [(f["header"]["client_id"], f["id"]) for f in self.bob.frames("message")]
        self.assertEqual([client_id for client_id, _ in came], ["m-1", "m-2"])
        self.assertEqual(stored, {("m-0", 1), *came})

    def test_after_a_lost_connection(self) -> None:
        """Whoever does not know whether it arrived sends it again, on another session even."""
        self.server.store.writer.held = True
        self.alice.submit("bob", "hi", "m-1")
        self.alice.wire.lose()
        self.server.store.writer.release()
        self.server.store.writer.held = False
        self.server.store.writer.release()
        alice = self.server.connect_v1("alice", "other")
        alice.submit("bob", "hi", "m-1")
        self.assertEqual(alice.frames("stored"), [receipt("stored", "m-1", 1)])
        self.assertEqual(contents(self.bob), ["hi"])

    def test_after_a_restart(self) -> None:
        """The server knows it after it was killed, too."""
        self.alice.submit("bob", "hi", "m-1")
        again = self.server.after_crash()
        alice, bob = again.connect_v1("alice"), again.connect_v1("bob")
        alice.submit("bob", "hi", "m-1")
        alice.submit("bob", "new", "m-2")
        first, second = alice.frames("stored")
        self.assertEqual(first, receipt("stored", "m-1", 1))
        self.assertEqual(second, receipt("stored", "m-2", second["id"]))
        self.assertGreater(second["id"], 1)
        self.assertEqual(contents(bob), ["hi", "new"])

    def test_after_a_failure(self) -> None:
        """What was beside a repeat when a commit failed is delivered when it is sent again."""
        writer = self.server.store.writer
        self.alice.submit("bob", "hi", "m-1")
        writer.held = True
        self.alice.submit("alice", "occupies the writer", "m-0")
        self.alice.submit("bob", "hi", "m-1")
        self.alice.submit("bob", "new", "m-2")

        def fails(*_: object) -> None:
            raise OSError("no such luck")

        patch = self.patch(self.server.store.dialect, "first_ids", fails)
        writer.release()
        writer.release()
        self.server.turn()
        patch.restore()
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        writer.held = False
        self.alice.submit("bob", "new", "m-2")
        self.alice.submit("bob", "later", "m-3")
        self.server.turn()
        self.assertEqual(contents(self.bob), ["hi", "new", "later"])

    def test_by_sender(self) -> None:
        """Two senders may use the same client id."""
        self.alice.submit("bob", "alice's", "m-1")
        self.bob.submit("bob", "bob's", "m-1")
        self.assertEqual(contents(self.bob), ["alice's", "bob's"])


class FollowsTests(ServerTests):
    """A sender's order holds, whatever is refused in between."""

    limits = Limits(message_rate=1, message_burst=4, offline_limit=2)

    def setUp(self) -> None:
        super().setUp()
        self.server.add_users("alice", "bob", "charlie")
        self.alice, self.bob = self.server.connect_v1("alice"), self.server.connect_v1("bob")
        self.server.advance(1)  # everybody's place is saved, and may send four frames
        self.alice.frames()

    def disk_full(self) -> None:
        self.server.store.writer.fail(DiskFull())
        self.server.turn()

    def test_not_stored(self) -> None:
        """What follows a message that was not stored is refused until that is sent again."""
        writer = self.server.store.writer
        writer.held = True
        self.alice.submit("bob", "1", "m-1")
        self.alice.submit("bob", "2", "m-2", follows="m-1")
        self.disk_full()
        self.assertEqual(errors(self.alice), [(123, "m-1"), (124, "m-2")])
        writer.held = False
        self.server.advance(10)
        self.alice.submit("bob", "3", "m-3", follows="m-2")
        self.assertEqual(errors(self.alice), [(124, "m-3")])
        for number in (1, 2, 3):
            self.alice.submit("bob", str(number), f"m-{number}", follows=f"m-{number - 1}")
        self.assertEqual(errors(self.alice), [])
        self.assertEqual(contents(self.bob), ["1", "2", "3"])

    def test_same_commit(self) -> None:
        """What was in the same commit was not stored either, and each says so itself."""
        self.server.store.writer.held = True
        self.alice.submit("alice", "occupies the writer", "m-0")
        self.alice.submit("bob", "1", "m-1", follows="m-0")
        self.alice.submit("bob", "2", "m-2", follows="m-1")
        self.server.store.writer.release()
        self.disk_full()
        self.assertEqual(errors(self.alice), [(123, "m-1"), (123, "m-2")])

    def test_rate_limited(self) -> None:
        """What was sent too fast holds up what follows it, which may come later than allowed."""
        for number in range(1, 6):
            self.alice.submit("bob", str(number), f"m-{number}", follows=f"m-{number - 1}")
        self.assertEqual(errors(self.alice), [(120, "m-5")])
        self.server.advance(3)
        self.alice.submit("bob", "6", "m-6", follows="m-5")
        self.assertEqual(errors(self.alice), [(124, "m-6")])
        self.alice.submit("bob", "5", "m-5", follows="m-4")
        self.alice.submit("bob", "6", "m-6", follows="m-5")
        self.assertEqual(errors(self.alice), [])
        self.assertEqual(contents(self.bob), ["1", "2", "3", "4", "5", "6"])

    def test_wait(self) -> None:
        """Who is too fast is told how long to wait: a second, to send one more."""
        for number in range(1, 6):
            self.alice.submit("bob", str(number), f"m-{number}")
        (error,) = self.alice.frames("error")
        self.assertEqual((error["again"], error["retry_after_ms"]), (True, 1000))
        self.assertEqual(error["reason"], "Rate limit exceeded. Please slow down.")

    def test_busy(self) -> None:
        """So does what the server had no room for."""
        self.patch(commits, "QUEUE_BYTES", 1000)
        self.server.store.writer.held = True
        self.alice.submit("bob", "x", "m-1")
        self.alice.submit("bob", "y" * 1000, "m-2", follows="m-1")
        self.alice.submit("bob", "z", "m-3", follows="m-2")
        self.assertEqual(errors(self.alice), [(121, "m-2")])
        self.server.store.writer.release()
        self.server.turn()
        self.assertEqual(errors(self.alice), [(124, "m-3")])
        self.assertEqual(contents(self.bob), ["x"])

    def test_other_refusals(self) -> None:
        """What can never be sent holds up what followed it until its sender knows that."""
        self.alice.submit("nobody", "1", "m-1")
        self.alice.submit("not a user", "2", "m-2", follows="m-1")
        self.alice.submit("bob", "3", "m-3", follows="m-2")
        self.assertEqual(errors(self.alice), [(110, "m-1"), (100, "m-2"), (124, "m-3")])
        self.server.advance(4)
        self.alice.submit("bob", "3", "m-3")
        self.assertEqual((errors(self.alice), contents(self.bob)), ([], ["3"]))

    def test_refused_in_between(self) -> None:
        """Nothing overtakes what was not stored, whatever was refused between the two."""
        self.server.store.writer.held = True
        self.alice.submit("bob", "1", "m-1")
        self.alice.submit("nobody", "2", "m-2", follows="m-1")
        self.alice.submit("bob", "3", "m-3", follows="m-2")
        self.disk_full()
        self.server.store.writer.held = False
        self.assertEqual(errors(self.alice), [(110, "m-2"), (123, "m-1"), (124, "m-3")])
        self.assertEqual(contents(self.bob), [])

    def test_recipient_full(self) -> None:
        """So does what its recipient has no room for."""
        for number in (1, 2):
            self.alice.submit("charlie", str(number), f"m-{number}", follows=f"m-{number - 1}")
        self.server.advance(4)
        self.alice.submit("charlie", "3", "m-3", follows="m-2")
        self.alice.submit("bob", "4", "m-4", follows="m-3")
        self.assertEqual(errors(self.alice), [(122, "m-3"), (124, "m-4")])
        self.alice.submit("bob", "4", "m-4")
        self.assertEqual((errors(self.alice), contents(self.bob)), ([], ["4"]))

    def test_recipient_full_at_once(self) -> None:
        """… also when both come in one commit."""
        for number in (1, 2):
            self.alice.submit("charlie", str(number), f"m-{number}")
        self.server.advance(4)
        self.server.store.writer.held = True
        self.alice.submit("bob", "first", "m-2b")
        self.alice.submit("charlie", "3", "m-3", follows="m-2b")
        self.alice.submit("bob", "4", "m-4", follows="m-3")
        self.alice.submit("bob", "5", "m-5")
        self.server.store.writer.held = False
        while len(self.server.store.writer):
            self.server.store.writer.release()
        self.server.turn()
        self.assertEqual(errors(self.alice), [(122, "m-3"), (124, "m-4")])
        self.assertEqual(contents(self.bob), ["first", "5"])

    def test_other_senders(self) -> None:
        """Nobody waits for another, and no connection for another of the same user."""
        other = self.server.connect_v1("alice", "other")
        self.server.advance(4)
        self.server.store.writer.held = True
        self.alice.submit("bob", "1", "m-1")
        self.disk_full()
        self.server.store.writer.held = False
        other.submit("bob", "2", "m-2", follows="m-1")
        self.bob.submit("bob", "3", "m-3", follows="m-1")
        self.assertEqual((errors(other), contents(self.bob)), ([], ["2", "3"]))


class OfflineLimitTests(ServerTests):
    """The queue of a user who is away is bounded, and a sender who meets the bound is told."""

    limits = Limits(offline_limit=3)

    def setUp(self) -> None:
        super().setUp()
        self.server.add_users("alice", "bob", "charlie")

    def test_v1(self) -> None:
        """A client of v1 gets the code, the wait and the client id; no receipt."""
        alice = self.server.connect_v1("alice")
        for number in range(1, 5):
            alice.submit("bob", str(number), f"m-{number}")
        self.assertEqual(
            [frame.get("client_id") for frame in alice.frames("stored", "error")],
            ["m-1", "m-2", "m-3", "m-4"],
        )
        alice.submit("bob", "5", "m-5")
        (error,) = alice.frames()
        self.assertEqual((error["code"], error["client_id"]), (122, "m-5"))
        self.assertEqual((error["again"], error["retry_after_ms"]), (True, 60_000))
        self.assertIn("Too many messages wait", error["reason"])
        self.assertEqual(contents(self.server.connect_v1("bob")), ["1", "2", "3"])

    def test_classic(self) -> None:
        """A classic client gets the text."""
        alice = self.server.connect("alice")
        for number in range(1, 5):
            alice.say("bob", str(number))
        (error,) = alice.messages()
        self.assertEqual((error["header"]["from"], error["status"]), ("system", "error"))
        self.assertIn("Too many messages wait", error["body"]["content"])
        self.assertEqual(self.server.connect("bob").contents(), ["1", "2", "3"])

    def test_others(self) -> None:
        """Others' queues are their own, and broadcasts do not count."""
        alice = self.server.connect_v1("alice")
        for number in range(4):
            alice.submit("broadcast", str(number), f"b-{number}")
        for number in range(3):
            alice.submit("bob", str(number), f"m-{number}")
        alice.submit("charlie", "hi", "c-1")
        self.assertEqual(errors(alice), [])

    def test_room_again(self) -> None:
        """Sent again when there is room, it is stored, and is the first of its client id."""
        alice = self.server.connect_v1("alice")
        for number in range(1, 5):
            alice.submit("bob", str(number), f"m-{number}")
        bob = self.server.connect_v1("bob")
        bob.ack(3)
        alice.frames()
        alice.submit("bob", "4", "m-4")
        (stored,) = alice.frames("stored")
        self.assertEqual(stored["client_id"], "m-4")
        self.assertEqual(contents(bob), ["1", "2", "3", "4"])

    def test_there(self) -> None:
        """A user who is there has no such bound."""
        alice, bob = self.server.connect_v1("alice"), self.server.connect_v1("bob")
        for number in range(5):
            alice.submit("bob", str(number), f"m-{number}")
        self.assertEqual(errors(alice), [])
        self.assertEqual(len(ids(bob)), 5)

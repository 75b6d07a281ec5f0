"""Tests of `wschat.delivery`: nothing before it is stored, and who is told when it is not."""

from __future__ import annotations

import json
from typing import cast

from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher

from tests.support import TEXT, Client, ServerTests, client_frame, make_message, submission
from tests.test_service_v1 import contents, errors, receipt
from wschat import commits
from wschat.store import DiskFull


class CommitTests(ServerTests):
    """Nothing goes out before it is stored."""

    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob = self.connect("alice", "bob")
        self.writer = self.server.store.writer
        self.writer.held = True

    def ping(self) -> None:
        text = json.dumps({"command": "ping"})
        signature = self.server.keys["alice"].sign(text.encode())
        self.alice.say("server", text, signature=signature)

    def test_stored_before_it_is_delivered(self) -> None:
        """A recipient sees nothing until the commit is reported, and then it is on disk."""
        self.alice.say("bob", "durable")
        self.server.advance(5)
        self.assertEqual(self.bob.messages(), [])
        self.writer.run()
        self.server.turn()
        self.assertEqual(self.bob.messages(), [])
        self.writer.report()
        self.server.turn()
        self.assertEqual(self.bob.contents(), ["durable"])

    def test_group_commit(self) -> None:
        """What comes during a commit goes into the next one: all of it, from everybody."""
        self.alice.say("bob", "first")
        before = self.writer.calls
        for n in range(5):
            self.alice.say("bob", f"alice {n}")
            self.bob.say("alice", f"bob {n}")
        self.assertEqual((self.writer.calls, len(self.writer)), (before, 1))
        self.writer.release()
        self.server.turn()
        self.assertEqual(self.bob.contents(), ["first"])
        self.assertEqual((self.writer.calls, len(self.writer)), (before + 1, 1))
        self.writer.release()
        self.server.turn()
        self.assertEqual(self.bob.contents(), [f"alice {n}" for n in range(5)])
        self.assertEqual(self.alice.contents(), [f"bob {n}" for n in range(5)])
        self.assertEqual(len(self.writer), 0)

    def test_answers_come_after_what_was_sent_before(self) -> None:
        """A command's answer says that the sender's earlier messages are on disk."""
        self.alice.say("alice", "earlier")
        self.ping()
        self.assertEqual(self.alice.messages(), [])
        self.writer.release()
        self.server.turn()
        senders = [message["header"]["from"] for message in self.alice.messages()]
        self.assertEqual(senders, ["alice", "server"])

    def test_answer_in_its_place(self) -> None:
        """Among messages of one commit, an answer comes in the order of sending."""
        self.alice.say("bob", "occupies the writer")
        for content in ("1", "2"):
            self.alice.say("alice", content)
            self.ping()
        self.writer.release()
        self.writer.release()
        self.server.turn()
        senders = [message["header"]["from"] for message in self.alice.messages()]
        self.assertEqual(senders, ["alice", "server", "alice", "server"])

    def test_commands_alone_store_nothing(self) -> None:
        """With nothing to be stored before it, a command is answered at once."""
        before = self.writer.calls
        self.ping()
        self.assertEqual(len(self.alice.messages()), 1)
        self.assertEqual(self.writer.calls, before)

    def test_store_fails(self) -> None:
        """Every sender is told, nobody gets the message, commands are answered, life goes on."""
        self.alice.say("bob", "first")
        self.bob.say("alice", "second")
        self.ping()
        self.writer.fail(OSError("disk full"))
        self.writer.fail(OSError("disk full"))
        self.server.turn()
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)  # however long it lasts
        for client, senders in ((self.alice, ["system", "server"]), (self.bob, ["system"])):
            messages = client.messages()
            self.assertEqual([message["header"]["from"] for message in messages], senders)
            self.assertEqual(messages[0]["status"], "error")
            self.assertNotIn("disk", messages[0]["body"]["content"])
        self.alice.say("bob", "again")
        self.writer.release()
        self.server.turn()
        self.assertEqual(self.bob.contents(), ["again"])

    def test_full_queue(self) -> None:
        """When too much waits to be stored, senders are told, and what was accepted is kept."""
        self.patch(commits, "QUEUE_BYTES", 1000)
        self.alice.say("bob", "occupies the writer")
        self.alice.say("bob", "x" * 600)
        self.alice.say("bob", "y" * 600)
        (error,) = self.alice.messages()
        self.assertEqual((error["header"]["from"], error["status"]), ("system", "error"))
        self.writer.held = False
        self.writer.release()
        self.server.turn()
        self.assertEqual(self.bob.contents(), ["occupies the writer", "x" * 600])
        self.alice.say("bob", "room again")
        self.assertEqual(self.bob.contents(), ["room again"])

    def test_sender_gone(self) -> None:
        """A message is delivered when its sender has gone meanwhile."""
        self.alice.say("bob", "goodbye")
        self.alice.wire.lose()
        self.writer.release()
        self.server.turn()
        self.assertEqual(self.bob.contents(), ["goodbye"])

    def test_one_fault_costs_no_other_message(self) -> None:
        """When the turn of one message fails, those behind it are delivered."""
        del self.server.accounts.users["alice"]
        self.bob.say("broadcast", "occupies the writer")
        self.ping()
        self.bob.say("bob", "behind it")
        self.writer.release()
        self.writer.release()
        self.server.turn()
        self.assertEqual(len(self.flushLoggedErrors()), 1)
        self.assertEqual(self.bob.contents(), ["behind it"])

    def test_one_recipients_fault(self) -> None:
        """When one recipient cannot be written to, the others get the message."""
        (charlie,) = self.connect("charlie")
        (faulty,) = self.server.hub.registry.of("bob")
        self.patch(faulty, "outbox", None)
        self.alice.say("broadcast", "all")
        self.writer.release()
        self.server.turn()
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 1)
        self.assertEqual(charlie.contents(), ["all"])

    def test_a_turn_of_many(self) -> None:
        """Frames that come in one read are stored in two commits at most, in order."""
        before = self.writer.calls
        frames = (client_frame(TEXT, submission("bob", str(n))) for n in range(50))
        self.alice.send_raw(b"".join(frames))
        self.writer.release()
        self.writer.release()
        self.server.turn()
        self.assertEqual(self.bob.contents(), [str(n) for n in range(50)])
        self.assertLessEqual(self.writer.calls - before, 2)


class StoredTests(ServerTests):
    """What the store has when a message was delivered."""

    def test_nothing_in_between(self) -> None:
        """The stored message is the delivered one."""
        alice, bob = self.connect("alice", "bob")
        alice.say("bob", "hi", signature="c2ln")
        page = self.successResultOf(self.server.store.stream.page("bob", 0))
        expected = make_message("alice", "bob", "hi")
        expected.timestamp, expected.signature, expected.id = "2026-11-22T10:00:00.5Z", "c2ln", 1
        self.assertEqual(page.messages, [expected])
        self.assertEqual(len(bob.messages()), 1)


class DiskFullTests(ServerTests):
    """A disk without room: nobody is told that a message is stored that is not."""

    def setUp(self) -> None:
        super().setUp()
        self.server.add_users("alice", "bob", "charlie")
        self.alice, self.bob = self.server.connect_v1("alice"), self.server.connect_v1("bob")
        self.classic = self.server.connect("charlie")
        self.server.advance(1)  # everybody's place is saved
        self.alice.frames()
        self.writer = self.server.store.writer
        self.events: list[LogEvent] = []
        observer = cast(ILogObserver, self._observe)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def _observe(self, event: LogEvent) -> None:
        if event.get("log_namespace") == "wschat.delivery":
            self.events.append(event)

    def fill(self) -> None:
        """Whatever is to be written now fails."""
        self.writer.held = True

    def fails(self) -> None:
        """… as what waits does."""
        while len(self.writer):
            self.writer.fail(DiskFull())
        self.server.turn()

    def make_room(self) -> None:
        self.writer.held = False

    def logged(self) -> list[tuple[str, str]]:
        """What was logged since the last time: levels and texts."""
        events, self.events = self.events, []
        return [(event["log_level"].name, event["log_format"]) for event in events]

    def told(self, client: Client) -> str:
        (message,) = client.messages()
        self.assertEqual((message["header"]["from"], message["status"]), ("system", "error"))
        return str(message["body"]["content"])

    def test_senders_are_told(self) -> None:
        """Each sender gets an error that says so, and when to try again; nobody the message."""
        self.fill()
        self.alice.submit("bob", "1", "m-1")
        self.classic.say("bob", "2")
        self.fails()
        (error,) = self.alice.frames()
        self.assertEqual((error["type"], error["code"], error["client_id"]), ("error", 123, "m-1"))
        self.assertEqual((error["again"], error["retry_after_ms"]), (True, 1000))
        self.assertIn("disk is full", error["reason"])
        self.assertIn("disk is full", self.told(self.classic))
        self.assertEqual(contents(self.bob), [])

    def test_other_failures(self) -> None:
        """Another fault is the same code, whose text says nothing of the server's insides."""
        self.fill()
        self.alice.submit("bob", "1", "m-1")
        self.writer.fail(OSError("/var/lib is on fire"))
        self.server.turn()
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        (error,) = self.alice.frames()
        self.assertEqual((error["code"], error["client_id"]), (123, "m-1"))
        self.assertEqual(error["reason"], "The message could not be stored. Please try again.")

    def test_goes_on(self) -> None:
        """When there is room, what is sent again is stored and delivered, once."""
        self.fill()
        self.alice.submit("bob", "1", "m-1")
        self.fails()
        self.make_room()
        self.alice.submit("bob", "1", "m-1")
        self.assertEqual(contents(self.bob), ["1"])
        self.assertEqual(len(self.alice.frames("stored")), 1)

    def test_one_line(self) -> None:
        """It is logged once when it begins, without a traceback, and once when it is over."""
        self.fill()
        for number in range(3):
            self.alice.submit("bob", str(number), f"m-{number}")
            self.fails()
        full = ("error", "the disk is full: nothing is stored until there is room")
        self.assertEqual(self.logged(), [full])
        self.make_room()
        for number in range(3):
            self.alice.submit("bob", str(number), f"n-{number}")
        self.assertEqual(self.logged(), [("info", "messages are stored again")])
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_a_question_is_no_room(self) -> None:
        """That a question was answered meanwhile does not mean that there is room."""
        self.fill()
        self.alice.submit("bob", "1", "m-1")
        self.fails()
        self.alice.send_json({"type": "status", "client_ids": ["m-1"]})
        self.assertIn((111, "m-1"), errors(self.alice))
        self.alice.submit("bob", "1", "m-1")
        self.fails()
        self.assertEqual([level for level, _ in self.logged()], [LogLevel.error.name])

    def test_questions_are_answered(self) -> None:
        """What waited with a message that is not stored is answered all the same."""
        self.fill()
        self.alice.submit("bob", "1", "m-1")
        self.alice.send_json({"type": "presence", "watch": False})
        self.alice.submit("bob", "2", "m-2")
        self.fails()
        found = [(frame["type"], frame.get("client_id")) for frame in self.alice.frames()]
        self.assertEqual(found, [("error", "m-1"), ("presence", None), ("error", "m-2")])

    def test_acknowledgements(self) -> None:
        """A place that was not saved is saved when there is room, and only then told."""
        self.alice.submit("bob", "1", "m-1")
        self.alice.frames()
        self.fill()
        self.bob.ack(1)
        self.fails()
        self.assertEqual(self.alice.frames(), [])
        self.make_room()
        self.server.advance(1)
        self.assertEqual(self.alice.frames(), [receipt("delivered", "m-1", 1)])
        self.assertEqual(self.server.cursor("bob"), 1)

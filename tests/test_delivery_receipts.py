"""Tests of `wschat.delivery` for clients of `wschat.v1`: what senders are told."""

from __future__ import annotations

from typing import Any

from tests.support import TEXT, ServerTests, encode, v1_submission
from tests.test_service_v1 import ids, receipt
from wschat.stream import PAGE_MESSAGES


class ReceiptTests(ServerTests):
    """What senders are told of their messages."""

    def setUp(self) -> None:
        super().setUp()
        self.server.add_users("alice", "bob")
        self.alice = self.server.connect_v1("alice")
        self.writer = self.server.store.writer
        self.alice.frames()

    def receipts(self) -> list[dict[str, Any]]:
        return self.alice.frames("stored", "delivered", "error")

    def test_stored(self) -> None:
        """The sender is told when the message is on disk, with its id, and not before."""
        bob = self.server.connect_v1("bob")
        bob.frames()
        self.writer.held = True
        self.alice.submit("bob", "hi", "m-1")
        self.server.advance(5)
        self.assertEqual((self.alice.frames(), bob.frames()), ([], []))
        self.writer.run()
        self.server.turn()
        self.assertEqual((self.alice.frames(), bob.frames()), ([], []))
        self.writer.report()
        self.server.turn()
        self.assertEqual(self.alice.frames(), [receipt("stored", "m-1", 1)])
        self.assertEqual(ids(bob), [1])

    def test_message(self) -> None:
        """The recipient's frame has the sender's name for it, and not what it follows."""
        bob = self.server.connect_v1("bob")
        self.alice.submit("bob", "hi", "m-2", follows="m-1")
        (frame,) = bob.frames("message")
        self.assertEqual(
            frame,
            {
                "type": "message",
                "id": 1,
                "header": {
                    "from": "alice",
                    "to": "bob",
                    "message_type": "direct",
                    "timestamp": "2026-11-22T10:00:00.5Z",
                    "client_id": "m-2",
                },
                "body": {"content": "hi"},
                "status": "delivered",
            },
        )

    def test_without_a_name(self) -> None:
        """A message without a client id is routed, and there are no receipts for it."""
        bob = self.server.connect_v1("bob")
        frame = v1_submission("bob", "hi", "")
        del frame["header"]["client_id"]
        self.alice.send_json(frame)
        self.assertEqual(ids(bob), [1])
        bob.ack(1)
        self.server.advance(1)
        self.assertEqual(self.alice.frames(), [])

    def test_delivered(self) -> None:
        """The sender is told when the recipient's acknowledgement is on disk, and not before."""
        bob = self.server.connect_v1("bob")
        self.alice.submit("bob", "hi", "m-1")
        self.server.advance(2)
        self.assertEqual(self.receipts(), [receipt("stored", "m-1", 1)])
        self.writer.held = True
        bob.ack(1)
        self.writer.run()
        self.server.turn()
        self.assertEqual(self.receipts(), [])
        self.assertEqual(self.server.cursor("bob"), 1)
        self.writer.report()
        self.server.turn()
        self.assertEqual(self.receipts(), [receipt("delivered", "m-1", 1)])

    def test_delivered_during_a_commit(self) -> None:
        """An acknowledgement that comes during a commit is in the next one, which is at once."""
        bob = self.server.connect_v1("bob")
        self.alice.submit("bob", "hi", "m-1")
        self.writer.held = True
        self.alice.submit("alice", "occupies the writer", "m-2")
        bob.ack(1)
        self.writer.release()
        self.writer.release()
        self.server.turn()
        self.assertIn(receipt("delivered", "m-1", 1), self.receipts())

    def test_delivered_all_at_once(self) -> None:
        """One acknowledgement is of all before it, of every sender."""
        bob, charlie = self.server.connect_v1("bob"), self.server
        charlie.add_user("charlie")
        other = charlie.connect_v1("charlie")
        other.frames()
        self.alice.submit("bob", "1", "m-1")
        other.submit("bob", "2", "m-1")
        self.alice.submit("bob", "3", "m-2")
        self.alice.submit("bob", "4", "m-3")
        bob.ack(3)
        delivered = [receipt("delivered", "m-1", 1), receipt("delivered", "m-2", 3)]
        self.assertEqual(self.alice.frames("delivered"), delivered)
        self.assertEqual(other.frames("delivered"), [receipt("delivered", "m-1", 2)])

    def test_delivered_later(self) -> None:
        """A message that waited for its recipient is acknowledged when they are there."""
        self.alice.submit("bob", "hi", "m-1")
        bob = self.server.connect_v1("bob")
        self.assertEqual(ids(bob), [1])
        bob.ack(1)
        self.assertEqual(self.alice.frames("delivered"), [receipt("delivered", "m-1", 1)])

    def test_delivered_after_what_came_meanwhile(self) -> None:
        """… and so it is when another message came before the first was read from the store."""
        self.alice.submit("bob", "1", "m-1")
        bob = self.server.connect_v1("bob", session=None)
        self.alice.submit("bob", "2", "m-2")
        bob.send_json({"type": "resume"})
        self.assertEqual(ids(bob), [1, 2])
        bob.ack(2)
        delivered = [receipt("delivered", "m-1", 1), receipt("delivered", "m-2", 2)]
        self.assertEqual(self.alice.frames("delivered"), delivered)

    def test_delivered_to_all_sessions(self) -> None:
        """All sessions of the sender are told, so that each can show it; `stored` only the one."""
        other = self.server.connect_v1("alice", "other")
        early = self.server.connect_v1("alice", session=None)
        bob = self.server.connect_v1("bob")
        self.alice.submit("bob", "hi", "m-1")
        bob.ack(1)
        stored, delivered = receipt("stored", "m-1", 1), receipt("delivered", "m-1", 1)
        self.assertEqual(self.receipts(), [stored, delivered])
        self.assertEqual(other.frames("stored", "delivered"), [delivered])
        self.assertEqual(early.frames(), [])

    def test_delivered_to_the_senders_next_connection(self) -> None:
        """Who sent it and came back is told on the new connection."""
        bob = self.server.connect_v1("bob")
        self.alice.submit("bob", "hi", "m-1")
        self.alice.wire.lose()
        self.alice = self.server.connect_v1("alice")
        bob.ack(1)
        self.assertEqual(self.receipts(), [receipt("delivered", "m-1", 1)])

    def test_recipient_goes_at_once(self) -> None:
        """A recipient may acknowledge and go before that is saved."""
        bob = self.server.connect_v1("bob")
        self.alice.submit("bob", "hi", "m-1")
        self.writer.held = True
        bob.ack(1)
        bob.goodbye()
        self.writer.release()
        self.server.turn()
        self.assertEqual(self.alice.frames("delivered"), [receipt("delivered", "m-1", 1)])

    def test_acknowledged_on_a_lost_connection(self) -> None:
        """What a recipient's `after` says is delivered as well, and only that."""
        bob = self.server.connect_v1("bob")
        for number in (1, 2, 3):
            self.alice.submit("bob", str(number), f"m-{number}")
        bob.wire.lose()
        bob = self.server.connect_v1("bob", after=2)
        delivered = [receipt("delivered", "m-1", 1), receipt("delivered", "m-2", 2)]
        self.assertEqual(self.alice.frames("delivered"), delivered)
        self.assertEqual(ids(bob), [3])
        bob.ack(3)
        self.assertEqual(self.alice.frames("delivered"), [receipt("delivered", "m-3", 3)])

    def test_acknowledged_on_a_lost_connection_pages(self) -> None:
        """… however many they are."""
        count = 2 * PAGE_MESSAGES + 1
        for number in range(count):
            self.alice.submit("bob", str(number), f"m-{number}")
        self.server.connect_v1("bob", after=count - 1)
        found = [frame["id"] for frame in self.alice.frames("delivered")]
        self.assertEqual(found, list(range(1, count)))

    def test_broadcast(self) -> None:
        """A broadcast is stored; nobody is told who has read it."""
        bob = self.server.connect_v1("bob")
        self.alice.submit("broadcast", "all", "m-1")
        self.assertEqual(ids(bob), [1])
        bob.ack(1)
        self.server.advance(1)
        self.assertEqual(self.receipts(), [receipt("stored", "m-1", 1)])

    def test_to_oneself(self) -> None:
        """A note to oneself is delivered when one acknowledges it."""
        self.alice.submit("alice", "note", "m-1")
        self.alice.ack(1)
        kinds = [frame["type"] for frame in self.alice.frames()]
        self.assertEqual(kinds, ["stored", "message", "delivered"])

    def test_command(self) -> None:
        """A command is answered, and is nothing that is stored."""
        frame = v1_submission("server", '{"command":"ping"}', "m-1")
        signature = self.server.keys["alice"].sign(b'{"command":"ping"}')
        frame["header"]["signature"] = signature
        self.alice.send(TEXT, encode(frame))
        (answer,) = self.alice.frames()
        self.assertEqual((answer["type"], answer["id"]), ("message", 0))
        self.assertEqual(answer["header"]["from"], "server")
        self.assertIn('"success":true', answer["body"]["content"])

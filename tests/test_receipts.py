"""Who waits to hear that a message was acknowledged."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from wschat import receipts
from wschat.receipts import Awaited, Receipts
from wschat.wire import Message


def message(message_id: int, topic: str = "bob", client_id: str | None = "c") -> Message:
    """A message of alice's, as it is when it was handed to its recipient."""
    name = None if client_id is None else f"{client_id}{message_id}"
    return Message("alice", topic, "hi", "", id=message_id, client_id=name)


class ReceiptsTests(SynchronousTestCase):
    """From the hand-over to the acknowledgement."""

    def setUp(self) -> None:
        self.receipts = Receipts()

    def sent(self, *ids: int, topic: str = "bob") -> None:
        for message_id in ids:
            self.receipts.sent(message(message_id, topic))

    def arrived(self, position: int, user_id: str = "bob") -> list[int]:
        return [awaited.id for awaited in self.receipts.arrived(user_id, position)]

    def test_arrived(self) -> None:
        """An acknowledgement is of all messages up to it, in order, and each is told once."""
        self.sent(1, 3, 7)
        found = [self.arrived(position) for position in (0, 3, 3, 6, 9, 9)]
        self.assertEqual(found, [[], [1, 3], [], [], [7], []])
        self.assertEqual(len(self.receipts), 0)

    def test_who_is_told(self) -> None:
        """It says which message it was: its id, its sender, and the sender's own name for it."""
        self.sent(5)
        self.assertEqual(self.receipts.arrived("bob", 5), [Awaited(5, "alice", "c5")])

    def test_by_recipient(self) -> None:
        """One user's acknowledgement says nothing of another's messages."""
        self.sent(1)
        self.sent(2, topic="charlie")
        self.assertEqual(len(self.receipts), 2)
        self.assertEqual([self.arrived(9, "charlie"), self.arrived(9, "david")], [[2], []])
        self.assertEqual(self.arrived(9), [1])

    def test_nobody_waits(self) -> None:
        """Nobody waits for what has no client id, nor for broadcasts and commands."""
        self.receipts.sent(message(1, client_id=None))
        self.sent(2, topic="broadcast")
        self.sent(3, topic="server")
        self.assertEqual(len(self.receipts), 0)
        found = [self.receipts.waits_for(user, 9) for user in ("bob", "broadcast", "server")]
        self.assertEqual(found, [False] * 3)

    def test_handed_over_again(self) -> None:
        """What is handed to a second session of the recipient is no news."""
        self.sent(1, 2, 1, 2, 3)
        self.assertEqual(self.arrived(9), [1, 2, 3])

    def test_waits_for(self) -> None:
        """Whether an acknowledgement matters to anybody, before it is saved."""
        self.assertFalse(self.receipts.waits_for("bob", 9))
        self.sent(3, 4)
        found = [self.receipts.waits_for("bob", position) for position in (2, 3, 4)]
        self.assertEqual(found, [False, True, True])
        self.assertEqual(self.arrived(4), [3, 4])
        self.assertFalse(self.receipts.waits_for("bob", 9))

    def test_left(self) -> None:
        """When the recipient goes, what was on its way is forgotten; a stranger is no error."""
        self.sent(1)
        self.sent(2, topic="charlie")
        self.receipts.left("bob", 0)
        self.receipts.left("david", 0)
        self.assertEqual([self.arrived(9), self.arrived(9, "charlie")], [[], [2]])

    def test_after_left(self) -> None:
        """What is handed to them when they come back counts, though its id was there before."""
        self.sent(1, 2)
        self.receipts.left("bob", 0)
        self.sent(2)
        self.assertEqual(self.arrived(9), [2])

    def test_left_with_a_place_to_save(self) -> None:
        """What they had acknowledged before they went is told when that is saved."""
        self.sent(1, 2, 3)
        self.receipts.left("bob", 2)
        self.assertEqual(self.arrived(9), [1, 2])

    def test_read_from_the_store(self) -> None:
        """What was missed is handed over after what came meanwhile: each counts, once, in order."""
        self.sent(5, 7)
        self.sent(1, 2, 5, 6)
        found = [self.receipts.waits_for("bob", position) for position in (0, 1)]
        self.assertEqual(found, [False, True])
        self.assertEqual([self.arrived(2), self.arrived(9)], [[1, 2], [5, 6, 7]])

    def test_most_remembered(self) -> None:
        """Only so many are remembered of one recipient: of more, the earliest go."""
        self.patch(receipts, "REMEMBERED", 3)
        self.sent(1, 2, 3, 4)
        self.assertFalse(self.receipts.waits_for("bob", 1))
        self.assertEqual(self.arrived(9), [2, 3, 4])

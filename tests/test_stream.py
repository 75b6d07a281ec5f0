"""Tests of `wschat.stream`: messages in."""

from __future__ import annotations

import random
import sqlite3

import sqlalchemy as sa

from tests.stores import OnFile, OnPostgreSQL, StoreTests, named
from tests.support import NOW, make_message
from wschat import stream
from wschat.wire import Message

#: What a text may hold that a database, or a way to it, could trip over.
ODD_TEXTS = (
    "",
    " ",
    "\0",
    "a\0b\0\0",
    "\ue000",
    "\ue0000",
    "\ue000e",
    "\ue000\0\ue0000\ue000e\0e0",
    "\ue000\ue000",
    "\u2028 <\U0001f600> \ufeff\uffff",
    "e\u0301 \u00e9 I\u0307",
    "'; DROP TABLE messages; -- \\ %s ? :user {}",
    "\r\n\t\x7f\x1b[0m",
    "x" * 65536,
)


def _broken(content: str = "broken") -> Message:
    """A message that the database does not take."""
    message = make_message("alice", "bob", content)
    message.timestamp = None  # type: ignore[assignment]  # so that a column that needs one fails
    return message


class AppendTests(StoreTests):
    """Storing messages."""

    def test_ids_ascend(self) -> None:
        """Ids begin at 1, are consecutive within a batch, and go on in the next."""
        self.assertEqual(self.fill(3), [1, 2, 3])
        self.assertEqual(self.fill(1), [4])
        self.assertEqual(self.fill(2), [5, 6])

    def test_ids_fit_the_messages(self) -> None:
        """The n-th id is the n-th message's."""
        ids = self.fill(3)
        kept = {message.id: message.content for message in self.page("bob").messages}
        self.assertEqual(kept, dict(zip(ids, ["0", "1", "2"], strict=True)))

    def test_nothing(self) -> None:
        """An empty batch has no ids."""
        appended = self.append()
        self.assertEqual(list(appended.ids), [])
        self.assertEqual(set(appended.repeats) | set(appended.full), set())

    def test_everything_is_kept(self) -> None:
        """A message comes back as it was, client id, signature and encryption fields included."""
        message = Message(
            "alice", "bob", "content", "2026-11-22T10:00:00.123456789+05:30",
            "signature", "wrapped key", "nonce", client_id="c" * 64,
            envelope_signature="of all", sender_key="own",
        )  # fmt: skip
        self.append(message)
        (kept,) = self.page("bob").messages
        message.id = 1
        self.assertEqual(kept, message)

    def test_each_field(self) -> None:
        """What one message of a batch has is kept, whatever the others have not."""
        fields = (
            "signature",
            "encrypted_key",
            "encryption_nonce",
            "envelope_signature",
            "sender_key",
        )
        for position, field in enumerate(fields):
            plain, other = (make_message("alice", "bob", field) for _ in range(2))
            setattr(other, field, "its value")
            self.append(plain, other, make_message("alice", "bob", field))
            kept = self.page("bob").messages[3 * position :]
            self.assertEqual([getattr(m, field) for m in kept], [None, "its value", None], field)

    def test_odd_texts(self) -> None:
        """Whatever a text holds, it comes back as it was, in every field that is free text."""
        self.append(
            *(
                Message("alice", "bob", text, "2026-11-22T10:00:00Z", text, text, text)
                for text in ODD_TEXTS
            )
        )
        kept = self.page("bob").messages
        for message, text in zip(kept, ODD_TEXTS, strict=True):
            fields = (message.content, message.signature)
            self.assertEqual(fields, (text, text))
            self.assertEqual((message.encrypted_key, message.encryption_nonce), (text, text))
        (again,) = self.successResultOf(self.store.history.page("alice", "bob", 5, 3, 10)).messages
        self.assertEqual(again.content, ODD_TEXTS[3])

    def test_all_or_nothing(self) -> None:
        """When one message cannot be stored, none is, and no place moves."""
        self.add_users("bob")
        batch = [make_message("alice", "bob", "good"), _broken()]
        places: dict[stream.Place, int] = {("bob", None): 7, ("bob", "phone"): 7}
        failed = self.store.stream.append(batch, places, (), NOW)
        self.failureResultOf(failed, sa.exc.IntegrityError, sqlite3.IntegrityError)
        self.assertEqual(self.page("bob"), stream.Page([], 0, True))
        self.assertEqual(self.start("bob", "phone"), stream.Start(0, True, 0, known=False))

    def test_goes_on_after_failure(self) -> None:
        """After a batch that failed, the next one is stored."""
        self.failureResultOf(self.store.stream.append([_broken()], {}, (), NOW))
        self.fill(1)
        self.assertEqual(self.contents("bob"), ["0"])


class AppendFileTests(OnFile, AppendTests):
    pass


class AppendPostgreSQLTests(OnPostgreSQL, AppendTests):
    pass


class IdempotenceTests(StoreTests):
    """A sender's client id names one message, however often it is sent."""

    def test_across_batches(self) -> None:
        """A message that was stored before is answered with the first one's id; that one stays."""
        self.append(named("x", "first"))
        appended = self.append(named("x", "second"))
        self.assertEqual((list(appended.ids), set(appended.repeats)), ([1], {0}))
        self.assertEqual(self.contents("bob"), ["first"])

    def test_within_a_batch(self) -> None:
        """Of two messages with one client id in one batch, the first is stored."""
        appended = self.append(named("x", "first"), named("x", "second"), named("y", "third"))
        self.assertEqual(list(appended.ids), [1, 1, 3])
        self.assertEqual(set(appended.repeats), {1})
        self.assertEqual(self.contents("bob"), ["first", "third"])

    def test_mixed(self) -> None:
        """Old, new, and messages without a client id: each has its own id, in order."""
        self.append(named("a"), named("b"))
        appended = self.append(
            named("b"), named("c", "c"), make_message("alice", "bob", "-"), named("c"), named("a")
        )
        self.assertEqual(list(appended.ids), [2, 4, 5, 4, 1])
        self.assertEqual(set(appended.repeats), {0, 3, 4})
        kept = [(message.id, message.content) for message in self.page("bob", 2).messages]
        self.assertEqual(kept, [(4, "c"), (5, "-")])

    def test_ids_after_repeats(self) -> None:
        """What is stored after a batch of repeats has an id that no other message has."""
        self.append(named("x"))
        self.append(named("x"), named("x"))
        (new,) = self.append(named("y")).ids
        self.assertEqual([message.id for message in self.page("bob").messages], [1, new])
        self.assertGreater(new, 1)

    def test_any(self) -> None:
        """Whatever comes again, in one batch or later, has the first one's id; ids ascend."""
        chance = random.Random(5)
        first: dict[tuple[str, str], int] = {}
        kept: list[int] = []
        for size in (1, 2, 3, 5, 8, 13, 21, 34, 49, 50, 51, 89, 120):
            batch = [
                named(str(chance.randrange(200)), sender=chance.choice(["alice", "charlie"]))
                for _ in range(size)
            ]
            for message in chance.sample(batch, size // 4):
                message.client_id = None
            places: dict[stream.Place, int] = {("alice", None): 1} if size % 2 else {}
            appended = self.append(*batch, places=places)
            for index, message in enumerate(batch):
                message_id = appended.ids[index]
                name = message.sender, message.client_id or f"none: {size} {index}"
                self.assertEqual(index in appended.repeats, name in first)
                if name not in first:
                    self.assertGreater(message_id, max(kept, default=0))
                    kept.append(message_id)
                self.assertEqual(message_id, first.setdefault(name, message_id))
        self.assertLess(len(kept), 446)  # some did come again
        self.assertEqual([message.id for message in self.page("bob").messages], kept)

    def test_only_the_senders_own(self) -> None:
        """Two senders may use the same client id."""
        appended = self.append(named("x"), named("x", sender="charlie"))
        self.assertEqual((list(appended.ids), set(appended.repeats)), ([1, 2], set()))

    def test_whoever_it_is_for(self) -> None:
        """A client id that was used for one recipient names that message for all."""
        self.append(named("x"))
        appended = self.append(named("x", topic="charlie"), named("x", topic="broadcast"))
        self.assertEqual((list(appended.ids), set(appended.repeats)), ([1, 1], {0, 1}))
        self.assertEqual(self.contents("charlie"), [])

    def test_exact(self) -> None:
        """Client ids that differ in case only are two."""
        self.assertEqual(set(self.append(named("x"), named("X")).repeats), set())

    def test_without_one(self) -> None:
        """The same message twice, without a client id, is two."""
        self.append(make_message("alice", "bob", "hi"), make_message("alice", "bob", "hi"))
        self.assertEqual(self.contents("bob"), ["hi", "hi"])

    def test_places_move_with_repeats(self) -> None:
        """A batch of nothing but repeats moves places all the same."""
        self.add_users("bob")
        self.append(named("x"))
        self.append(named("x"), places={("bob", None): 1})
        self.assertEqual(self.cursor("bob"), 1)


class IdempotenceFileTests(OnFile, IdempotenceTests):
    pass


class IdempotencePostgreSQLTests(OnPostgreSQL, IdempotenceTests):
    pass


class OfflineLimitTests(StoreTests):
    """How much may wait for a user who is away."""

    offline_limit = 3

    def setUp(self) -> None:
        super().setUp()
        self.add_users("alice", "bob", "charlie")

    def send(self, *batch: Message, away: tuple[str, ...] = ("bob",)) -> tuple[list[int], set[int]]:
        """The ids, and which of the batch found no room."""
        appended = self.append(*batch, away=away)
        return list(appended.ids), set(appended.full)

    def test_within_a_batch(self) -> None:
        """What fits of a batch is stored, in order; the rest is not."""
        batch = [make_message("alice", "bob", str(n)) for n in range(5)]
        self.assertEqual(self.send(*batch), ([1, 2, 3, 0, 0], {3, 4}))
        self.assertEqual(self.contents("bob"), ["0", "1", "2"])

    def test_across_batches(self) -> None:
        """What waits already counts."""
        self.fill(2)
        batch = [make_message("alice", "bob", str(n)) for n in range(2)]
        self.assertEqual(self.send(*batch), ([3, 0], {1}))
        self.assertEqual(self.send(batch[0]), ([0], {0}))

    def test_acknowledged(self) -> None:
        """What the user has read with any session does not count."""
        self.fill(3)
        self.move("bob", 2)
        batch = [make_message("alice", "bob", str(n)) for n in range(3)]
        self.assertEqual(self.send(*batch)[1], {2})

    def test_only_who_is_away(self) -> None:
        """The inbox of a user who is connected has no bound, nor have the broadcasts."""
        batch = [make_message("alice", ("bob", "broadcast")[n % 2], str(n)) for n in range(10)]
        self.assertEqual(self.send(*batch, away=()), (list(range(1, 11)), set()))
        self.assertEqual(self.send(*batch[1::2], away=("bob",))[1], set())

    def test_each_recipient_has_their_own(self) -> None:
        """An inbox that is full costs other recipients nothing."""
        self.fill(3)
        ids, full = self.send(
            make_message("alice", "charlie", "1"),
            make_message("alice", "bob", "2"),
            make_message("alice", "charlie", "3"),
            away=("bob", "charlie"),
        )
        self.assertEqual((ids, full), ([4, 0, 5], {1}))
        self.assertEqual(self.contents("charlie"), ["1", "3"])

    def test_repeat_to_a_full_inbox(self) -> None:
        """A message that was stored while there was room is answered with its id."""
        self.append(named("x"), named("y"), named("z"))
        appended = self.append(named("y"), named("new"), away=["bob"])
        self.assertEqual(list(appended.ids), [2, 0])
        self.assertEqual((set(appended.repeats), set(appended.full)), ({0}, {1}))

    def test_repeats_take_no_room(self) -> None:
        """What is sent again, in this batch or after another, leaves the room to what is new."""
        self.append(named("x"))
        batch = [named("x"), named("y"), named("y"), named("x"), named("z"), named("more")]
        appended = self.append(*batch, away=["bob"])
        self.assertEqual(list(appended.ids), [1, 3, 3, 1, 6, 0])
        self.assertEqual((set(appended.repeats), set(appended.full)), ({0, 2, 3}, {5}))

    def test_twice_too_many(self) -> None:
        """Of a message that found no room, the repeat in the same batch finds none either."""
        self.fill(3)
        appended = self.append(named("x"), named("x"), away=["bob"])
        self.assertEqual((list(appended.ids), set(appended.full)), ([0, 0], {0, 1}))

    def test_room_again(self) -> None:
        """A message that found no room is stored when it is sent again and there is."""
        self.fill(3)
        self.append(named("x"), away=["bob"])
        self.move("bob", 1)
        appended = self.append(named("x", "late"), away=["bob"])
        self.assertEqual((len(appended.repeats), len(appended.full)), (0, 0))
        self.assertEqual(self.contents("bob", 3), ["late"])


class OfflineLimitFileTests(OnFile, OfflineLimitTests):
    pass


class OfflineLimitPostgreSQLTests(OnPostgreSQL, OfflineLimitTests):
    pass

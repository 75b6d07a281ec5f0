"""Tests of `wschat.service` for clients of `wschat.v1`: status, history and presence."""

from __future__ import annotations

from typing import Any

from tests.support import Client, Limits, ServerTests
from tests.test_service_v1 import errors, receipt


class EnvelopeTests(ServerTests):
    """What `wschat.v1` adds to a header is relayed to its readers, and to nobody else."""

    def test_relayed(self) -> None:
        """
        The envelope's signature goes to those who read it, and not to classic clients.

        The sender's own key for it goes to the sender alone.
        """
        self.server.add_users("alice", "bob")
        alice, bob = self.server.connect_v1("alice"), self.server.connect_v1("bob")
        classic = self.server.connect("bob")
        alice.submit("bob", "hi", "m-1", envelope_signature="c2ln", sender_key="a2V5")
        (live,) = bob.frames("message")
        (plain,) = classic.messages()
        self.assertEqual(live["header"]["envelope_signature"], "c2ln")
        for header in (live["header"], plain["header"]):
            self.assertNotIn("sender_key", header)
        self.assertNotIn("envelope_signature", plain["header"])
        for client, peer, key in ((alice, "bob", "a2V5"), (bob, "alice", None)):
            client.send_json({"type": "history", "with": peer})
            (page,) = client.frames("history")
            (kept,) = page["messages"]
            self.assertEqual(kept["header"]["envelope_signature"], "c2ln")
            self.assertEqual(kept["header"].get("sender_key"), key)
        again = self.server.connect_v1("bob", "another")
        (replayed,) = again.frames("message")
        self.assertEqual(replayed["header"], live["header"])


class StatusTests(ServerTests):
    """What became of messages that were sent earlier."""

    def setUp(self) -> None:
        super().setUp()
        self.server.add_users("alice", "bob")
        self.alice, self.bob = self.server.connect_v1("alice"), self.server.connect_v1("bob")
        self.alice.submit("bob", "1", "m-1")
        self.alice.submit("bob", "2", "m-2")
        self.bob.ack(1)
        self.alice.frames()

    def ask(self, client: Client, *client_ids: str) -> list[dict[str, Any]]:
        client.frames()
        client.send_json({"type": "status", "client_ids": client_ids})
        return client.frames()

    def test_all(self) -> None:
        """In the order of asking: stored, and delivered if it is, or that it is not known."""
        frames = self.ask(self.alice, "m-2", "m-3", "m-1")
        self.assertEqual(
            [frame for frame in frames if frame["type"] != "error"],
            [
                receipt("stored", "m-2", 2),
                receipt("stored", "m-1", 1),
                receipt("delivered", "m-1", 1),
            ],
        )
        (error,) = [frame for frame in frames if frame["type"] == "error"]
        self.assertEqual((error["code"], error["client_id"], error["again"]), (111, "m-3", True))
        self.assertEqual(frames.index(error), 1)

    def test_own(self) -> None:
        """Another's messages are nobody's business."""
        frames = self.ask(self.bob, "m-1")
        self.assertEqual([(frame["type"], frame.get("code")) for frame in frames], [("error", 111)])

    def test_nonsense(self) -> None:
        """What can be no client id is not stored, either."""
        asked = ("", "a b", "x" * 65)
        answers = self.ask(self.alice, *asked)
        found = [(answer["code"], answer.get("client_id", "")) for answer in answers]
        self.assertEqual(found, [(111, name) for name in asked])

    def test_in_its_turn(self) -> None:
        """It is answered after what was sent before it is stored."""
        self.server.store.writer.held = True
        self.alice.submit("bob", "3", "m-3")
        self.assertEqual(self.ask(self.alice, "m-3"), [])
        self.server.store.writer.release()
        self.server.turn()
        stored = receipt("stored", "m-3", 3)
        self.assertEqual(self.alice.frames(), [stored, stored])

    def test_after_a_restart(self) -> None:
        """The answer is the store's."""
        self.server.advance(1)
        alice = self.server.after_crash().connect_v1("alice")
        alice.frames()
        self.assertEqual(
            self.ask(alice, "m-1"), [receipt("stored", "m-1", 1), receipt("delivered", "m-1", 1)]
        )

    def test_store_fails(self) -> None:
        """Who cannot be told is told that; the fault is logged, and life goes on."""
        reader = self.server.store.reader
        reader.held = True
        self.assertEqual(self.ask(self.alice, "m-1"), [])
        reader.fail(OSError("disk gone"))
        self.server.turn()
        reader.held = False
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.assertEqual(errors(self.alice), [(130, None)])
        self.assertEqual(len(self.ask(self.alice, "m-2")), 1)


class HistoryTests(ServerTests):
    """Pages of a conversation, or of the broadcasts."""

    limits = Limits(outbox_bytes=8192)

    def setUp(self) -> None:
        super().setUp()
        self.server.add_users("alice", "bob", "charlie")
        self.alice, self.bob = self.server.connect_v1("alice"), self.server.connect_v1("bob")
        self.frames: list[dict[str, Any]] = []

    def talk(self, count: int, size: int = 1) -> None:
        """Messages of the two, in turns, which both acknowledge."""
        for number in range(1, count + 1):
            sender, to = ((self.bob, "alice"), (self.alice, "bob"))[number % 2]
            sender.submit(to, str(number) * size, f"m-{number}")
            for client in (self.alice, self.bob):
                for frame in client.frames("message"):
                    client.ack(frame["id"])

    def ask(self, peer: str = "bob", **fields: Any) -> dict[str, Any]:
        self.alice.frames()
        self.alice.send_json({"type": "history", "with": peer, **fields})
        (page,) = self.alice.frames()
        return page

    def texts(self, page: dict[str, Any]) -> list[str]:
        return [message["body"]["content"] for message in page["messages"]]

    def test_page(self) -> None:
        """Both sides of the conversation, as messages come, and what was asked."""
        self.talk(2)
        page = self.ask(request_id="r-1")
        self.assertEqual(
            (page["type"], page["with"], page["request_id"]), ("history", "bob", "r-1")
        )
        self.assertEqual(page["more"], False)
        first, second = page["messages"]
        self.assertEqual(
            first,
            {
                "type": "message",
                "id": 1,
                "header": {
                    "from": "alice",
                    "to": "bob",
                    "message_type": "direct",
                    "timestamp": "2026-11-22T10:00:00.5Z",
                    "client_id": "m-1",
                },
                "body": {"content": "1"},
                "status": "delivered",
            },
        )
        self.assertEqual((second["id"], second["header"]["from"]), (2, "bob"))

    def test_backwards(self) -> None:
        """The newest first, then page by page to the beginning, each in order."""
        self.talk(5)
        pages = [self.ask(limit=2)]
        while pages[-1]["more"]:
            pages.append(self.ask(limit=2, before=pages[-1]["next"]))
        self.assertEqual([self.texts(p) for p in pages], [["4", "5"], ["2", "3"], ["1"]])

    def test_forwards(self) -> None:
        """From an id on, page by page to the end."""
        self.talk(5)
        pages = [self.ask(limit=2, after=0)]
        while pages[-1]["more"]:
            pages.append(self.ask(limit=2, after=pages[-1]["next"]))
        self.assertEqual([self.texts(p) for p in pages], [["1", "2"], ["3", "4"], ["5"]])

    def test_broadcasts(self) -> None:
        """The broadcasts, one's own too."""
        self.alice.submit("broadcast", "mine", "b-1")
        self.alice.submit("bob", "direct", "m-1")
        self.bob.submit("broadcast", "bob's", "b-1")
        self.assertEqual(self.texts(self.ask("broadcast")), ["mine", "bob's"])

    def test_private(self) -> None:
        """Nobody reads what two others say to each other."""
        charlie = self.server.connect_v1("charlie")
        charlie.submit("bob", "secret", "c-1")
        self.bob.submit("charlie", "secret", "b-1")
        self.assertEqual(self.texts(self.ask("bob")), [])
        self.assertEqual(self.texts(self.ask("charlie")), [])

    def test_not_handed_over(self) -> None:
        """A page is no delivery: what was not acknowledged still comes, and is not confirmed."""
        self.bob.submit("alice", "1", "m-1")
        self.assertEqual(self.texts(self.ask()), ["1"])
        self.alice.wire.lose()
        alice = self.server.connect_v1("alice")
        self.assertEqual([frame["id"] for frame in alice.frames("message")], [1])

    def test_two_at_once(self) -> None:
        """A second one before the first is answered is refused for now, by its request id."""
        self.talk(1)
        reader = self.server.store.reader
        reader.held = True
        for request_id in (1, 2):
            self.alice.send_json({"type": "history", "with": "bob", "request_id": request_id})
        (error,) = self.alice.frames("error", "history")
        self.assertEqual((error["type"], error["code"], error["request_id"]), ("error", 121, 2))
        self.assertEqual((error["again"], error["retry_after_ms"]), (True, 1000))
        self.bob.frames()
        self.bob.send_json({"type": "history", "with": "alice"})
        self.assertEqual(self.bob.frames("error"), [])  # whom it does not concern
        reader.held = False
        reader.release()
        self.server.turn()
        (page,) = self.alice.frames()
        self.assertEqual((page["type"], page["request_id"]), ("history", 1))
        self.assertEqual(self.ask(request_id=3)["request_id"], 3)

    def test_longer_than_half_an_outbox(self) -> None:
        """A page may be longer than what an outbox leaves to one: it comes when that is empty."""
        self.talk(6, size=1000)
        self.alice.frames()
        self.alice.wire.stall()
        self.bob.submit("alice", "before it", "b-1")
        self.alice.send_json({"type": "history", "with": "bob", "limit": 6, "before": 7})
        self.bob.submit("alice", "meanwhile", "b-2")
        self.server.advance(2)
        self.assertEqual(self.alice.frames(), [])
        self.alice.wire.flow()
        self.server.turn()
        frames = self.alice.frames()
        self.assertEqual([frame["type"] for frame in frames], ["message", "message", "history"])
        self.assertEqual(self.texts(frames[2]), [str(number) * 1000 for number in range(1, 7)])
        self.assertIsNone(self.alice.closed_with())

    def test_leaves_meanwhile(self) -> None:
        """Who goes before the page could be sent is no fault."""
        self.talk(6, size=1000)
        self.alice.wire.stall()
        self.bob.submit("alice", "before it", "b-1")
        self.alice.send_json({"type": "history", "with": "bob"})
        self.alice.wire.lose()
        self.assertEqual(self.flushLoggedErrors(), [])
        self.alice = self.server.connect_v1("alice")
        self.assertEqual(len(self.ask()["messages"]), 7)

    def test_gone_before_it_was_read(self) -> None:
        """Nor is who goes while the store is read."""
        reader = self.server.store.reader
        reader.held = True
        self.alice.send_json({"type": "history", "with": "bob"})
        self.alice.wire.lose()
        reader.release()
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_store_fails(self) -> None:
        """Who cannot be told is told that, by the request id, and may ask again."""
        reader = self.server.store.reader
        reader.held = True
        self.alice.frames()
        self.alice.send_json({"type": "history", "with": "bob", "request_id": "r"})
        reader.fail(OSError("disk gone"))
        reader.held = False
        self.server.turn()
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        (error,) = self.alice.frames()
        self.assertEqual((error["code"], error["request_id"]), (130, "r"))
        self.assertEqual(self.ask()["type"], "history")


class PresenceCase(ServerTests):
    """Alice asks who is there."""

    def setUp(self) -> None:
        super().setUp()
        self.server.add_users("alice", "bob", "charlie")
        self.alice = self.server.connect_v1("alice")
        self.later()

    def later(self) -> None:
        """Until all news are told."""
        self.server.advance(1)
        self.alice.frames()

    def news(self) -> list[dict[str, Any]]:
        """What alice is told within a second."""
        self.server.advance(1)
        return self.alice.frames()

    def ask(self, client: Client | None = None, **fields: Any) -> dict[str, Any]:
        client = client or self.alice
        client.frames()
        client.send_json({"type": "presence", **fields})
        (answer,) = client.frames()
        self.assertEqual(answer.pop("type"), "presence")
        return answer

    def changed(self, joined: list[str], left: dict[str, str]) -> dict[str, Any]:
        return {"type": "presence_changed", "joined": joined, "left": left}


class PresenceTests(PresenceCase):
    """Who is there, and of whom one is told."""

    def test_answer(self) -> None:
        """Everybody who is there, classic clients as well."""
        self.server.connect("charlie")
        self.assertEqual(self.ask(), {"online": ["alice", "charlie"], "last_seen": {}})
        answer = self.ask(request_id=7, watch=False)
        self.assertEqual(answer, {"online": ["alice", "charlie"], "last_seen": {}, "request_id": 7})

    def test_named(self) -> None:
        """Of those who are named: who is there, and when the others were last, if ever."""
        bob = self.server.connect("bob")
        self.server.advance(3)
        bob.wire.lose()  # at 10:00:04
        answer = self.ask(users=["alice", "bob", "charlie", "nobody"])
        self.assertEqual(
            answer, {"online": ["alice"], "last_seen": {"bob": "2026-11-22T10:00:04.000000Z"}}
        )

    def test_asked_in_between(self) -> None:
        """Who asks while somebody is gone for a moment is told that they are back."""
        bob = self.server.connect("bob")
        self.later()
        bob.wire.lose()
        self.assertEqual(self.ask()["online"], ["alice"])
        self.server.connect("bob")
        self.assertEqual(self.news(), [self.changed(["bob"], {})])

    def test_only_those_named(self) -> None:
        """Who asks about some users is told of those."""
        self.ask(users=["charlie"])
        self.server.connect("bob")
        self.server.connect("charlie")
        self.assertEqual(self.news(), [self.changed(["charlie"], {})])

    def test_not_any_more(self) -> None:
        """Asking without `watch` ends it; who never asked is told nothing."""
        self.ask()
        self.ask(watch=False)
        self.server.connect("bob")
        self.assertEqual(self.news(), [])

    def test_watcher_gone(self) -> None:
        """Who is gone is told nothing, and keeps nobody else from being told."""
        other = self.server.connect_v1("alice", "other")
        self.later()
        self.ask()
        self.ask(other)
        other.wire.lose()
        self.server.connect("bob")
        self.assertEqual(self.news(), [self.changed(["bob"], {})])

    def test_gone_before_the_answer(self) -> None:
        """Who goes before they are answered does not become a watcher."""
        self.server.store.writer.held = True
        charlie = self.server.connect_v1("charlie")
        charlie.submit("charlie", "occupies the writer", "m-1")
        charlie.send_json({"type": "presence"})
        charlie.wire.lose()
        self.server.store.writer.release()
        self.server.advance(1)
        self.assertEqual(self.server.chat._presence._watchers, {})

    def test_answer_and_news_in_order(self) -> None:
        """While a client catches up, the answer comes before the news that follow it."""
        bob = self.server.connect("bob")
        self.later()
        self.server.store.reader.held = True
        charlie = self.server.connect_v1("charlie")
        charlie.send_json({"type": "presence"})
        bob.wire.lose()
        self.server.advance(1)
        answer, news = charlie.frames()
        self.assertEqual(
            (answer["online"], news["left"].keys()), (["alice", "bob", "charlie"], {"bob"})
        )

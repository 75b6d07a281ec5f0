"""Tests of `wschat.history`: conversations page by page, and what became of messages."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.stores import OnFile, OnPostgreSQL, StoreTests, named
from tests.support import NOW, MemoryStore, make_message
from wschat import history
from wschat.history import HistoryPage
from wschat.wire import Message

_PEOPLE = ("alice", "bob", "charlie")


def conversation(messages: list[Message], user_id: str, peer: str) -> list[str]:
    """What two users said to each other, or the broadcasts, told apart by hand."""
    if peer == "broadcast":
        return [m.content for m in messages if m.topic == peer]
    ways = {(user_id, peer), (peer, user_id)}
    return [m.content for m in messages if (m.sender, m.topic) in ways]


class _Walks(StoreTests):
    def history(
        self,
        peer: str,
        before: int | None = None,
        after: int | None = None,
        limit: int = 100,
        user_id: str = "bob",
    ) -> HistoryPage:
        return self.successResultOf(self.store.history.page(user_id, peer, before, after, limit))

    def said(self, page: HistoryPage) -> list[str]:
        return [message.content for message in page.messages]

    def walk(self, user_id: str, peer: str, limit: int, *, forward: bool) -> list[str]:
        """All that there is, page by page, from one end to the other, in order."""
        said: list[str] = []
        at = 0 if forward else None
        for _ in range(1000):
            page = (
                self.history(peer, after=at, limit=limit, user_id=user_id)
                if forward
                else self.history(peer, before=at, limit=limit, user_id=user_id)
            )
            self.assertLessEqual(len(page.messages), limit)
            said = said + self.said(page) if forward else self.said(page) + said
            if not page.more:
                return said
            at = page.next
        raise AssertionError("it never ends")

    def check_walks(self, messages: list[Message], scan: int, limit: int) -> None:
        """However pages are cut, each conversation is walked through, each message once."""
        self.patch(history, "SCAN", scan)
        for user_id, peer in (("bob", "alice"), ("bob", "bob"), ("alice", "broadcast")):
            expected = conversation(messages, user_id, peer)
            for forward in (True, False):
                said = self.walk(user_id, peer, limit, forward=forward)
                self.assertEqual(said, expected, (user_id, peer, scan, limit, forward))


class HistoryTests(_Walks):
    """Conversations."""

    def talk(self, count: int) -> None:
        """Alice and bob in turn, numbered; each message is followed by two others' ones."""
        for n in range(count):
            sender, topic = ("alice", "bob") if n % 2 == 0 else ("bob", "alice")
            self.append(
                make_message(sender, topic, str(n)),
                make_message("charlie", "bob", "from charlie"),
                make_message("alice", "broadcast", "for all"),
            )

    def test_both_ways(self) -> None:
        """A conversation is what each of the two said to the other, in order, whole messages."""
        self.talk(4)
        page = self.history("alice")
        self.assertEqual(self.said(page), ["0", "1", "2", "3"])
        self.assertEqual([m.id for m in page.messages], [1, 4, 7, 10])
        self.assertEqual([m.sender for m in page.messages], ["alice", "bob"] * 2)
        self.assertFalse(page.more)
        self.assertEqual(self.history("bob", user_id="alice").messages, page.messages)

    def test_newest(self) -> None:
        """Without an id, the newest come, in order, and it goes on before them."""
        self.talk(5)
        page = self.history("alice", limit=2)
        self.assertEqual((self.said(page), page.more), (["3", "4"], True))
        page = self.history("alice", before=page.next, limit=2)
        self.assertEqual((self.said(page), page.more), (["1", "2"], True))
        page = self.history("alice", before=page.next, limit=2)
        self.assertEqual((self.said(page), page.more), (["0"], False))

    def test_oldest(self) -> None:
        """After an id, the oldest come, and it goes on after them."""
        self.talk(5)
        page = self.history("alice", after=0, limit=2)
        self.assertEqual((self.said(page), page.more), (["0", "1"], True))
        page = self.history("alice", after=page.next, limit=2)
        self.assertEqual((self.said(page), page.more), (["2", "3"], True))
        page = self.history("alice", after=page.next, limit=2)
        self.assertEqual((self.said(page), page.more), (["4"], False))

    def test_neither_end_is_in_it(self) -> None:
        """Neither the message before which nor the one after which it is asked is in it."""
        self.talk(5)
        self.assertEqual(self.said(self.history("alice", before=10)), ["0", "1", "2"])
        self.assertEqual(self.said(self.history("alice", after=4)), ["2", "3", "4"])
        self.assertEqual(self.said(self.history("alice", before=10, after=4)), ["2"])
        self.assertEqual(self.said(self.history("alice", before=4, after=10)), [])

    def test_nothing(self) -> None:
        """A conversation that never was is empty, and there is no more of it."""
        self.talk(2)
        for page in (self.history("ghost"), self.history("ghost", after=0)):
            self.assertEqual((page.messages, page.more), ([], False))

    def test_with_oneself(self) -> None:
        """What a user wrote to themselves is a conversation too, and only that."""
        self.talk(2)
        self.append(make_message("bob", "bob", "a note"), make_message("bob", "bob", "another"))
        self.assertEqual(self.said(self.history("bob")), ["a note", "another"])
        self.assertEqual(self.walk("bob", "bob", 1, forward=False), ["a note", "another"])

    def test_broadcasts(self) -> None:
        """Everybody's broadcasts are a conversation, one's own among them."""
        self.talk(1)
        self.append(make_message("bob", "broadcast", "mine"))
        self.assertEqual(self.said(self.history("broadcast")), ["for all", "mine"])

    def test_broadcasts_since_registration(self) -> None:
        """Of the broadcasts, a user sees what came after they registered; direct ones all."""
        self.fill(3, topic="broadcast")
        self.fill(1)
        self.add_users("bob")
        self.append(make_message("alice", "broadcast", "later"))
        for page in (
            self.history("broadcast"),
            self.history("broadcast", after=0),
            self.history("broadcast", after=2, before=9),
        ):
            self.assertEqual((self.said(page), page.more), (["later"], False))
        self.assertEqual(self.said(self.history("broadcast", before=4)), [])
        self.assertEqual(self.said(self.history("alice")), ["0"])

    def test_scan(self) -> None:
        """A page looks at so many messages of an inbox only, and says that there may be more."""
        self.patch(history, "SCAN", 2)
        self.append(
            make_message("alice", "bob", "found"),
            *(make_message("charlie", "bob", "other") for _ in range(5)),
        )
        sizes, at = [], None
        while True:
            page = self.history("alice", before=at)
            sizes.append(len(page.messages))
            if not page.more:
                break
            at = page.next
        self.assertEqual(sizes, [0, 0, 1])
        page = self.history("alice", after=1)
        self.assertEqual((page.messages, page.more, page.next), ([], True, 3))

    def test_content_is_bounded(self) -> None:
        """A page has so many bytes on the wire, but one message at least."""
        self.patch(history, "PAGE_BYTES", 14)
        self.patch(history, "_HEADER_BYTES", 0)
        texts = ["1234", "12345", "\u20ac\u20ac\u20ac", "1", "\0" * 8, "y"]
        self.append(*(make_message("alice", "bob", text) for text in texts))
        pages, at = [], 0
        while True:
            page = self.history("alice", after=at)
            pages.append(self.said(page))
            if not page.more:
                break
            at = page.next
        self.assertEqual(pages, [texts[:2], texts[2:4], texts[4:5], texts[5:]])
        self.assertEqual(self.walk("bob", "alice", 9, forward=False), texts)

    def test_every_message_once(self) -> None:
        """With pages and scans of any size, both ways, every message is visited once, in order."""
        choose = random.Random(7)
        messages = [
            make_message(choose.choice(_PEOPLE), choose.choice((*_PEOPLE, "broadcast")), str(n))
            for n in range(40)
        ]
        self.append(*messages)
        for scan in (1, 2, 5, 39, 5000):
            for limit in (1, 2, 3, 40):
                self.check_walks(messages, scan, limit)


class HistoryFileTests(OnFile, HistoryTests):
    pass


class HistoryPostgreSQLTests(OnPostgreSQL, HistoryTests):
    pass


class AnyHistoryTests(_Walks):
    """Conversations of any kind, over SQLite in memory."""

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(
            st.tuples(st.sampled_from(_PEOPLE), st.sampled_from((*_PEOPLE, "broadcast"))),
            max_size=12,
        ),
        st.integers(1, 4),
        st.integers(1, 4),
    )
    def test_every_message_once(self, ways: list[tuple[str, str]], scan: int, limit: int) -> None:
        """Whoever wrote to whom: every message is visited once, in order, both ways."""
        self.store = MemoryStore()
        messages = [make_message(*way, str(n)) for n, way in enumerate(ways)]
        self.append(*messages)
        self.check_walks(messages, scan, limit)
        self.store.engine.dispose()


class FateTests(StoreTests):
    """What became of messages."""

    def fates(self, *client_ids: str, sender: str = "alice") -> dict[str, history.Fate]:
        return self.successResultOf(self.store.history.fates(sender, client_ids))

    def test_stored_and_delivered(self) -> None:
        """A message is stored under its id, and delivered once its recipient has it."""
        self.add_users("alice", "bob")
        self.append(named("x"), named("y"))
        self.move("bob", 1, "phone")
        expected = {"x": history.Fate(1, True), "y": history.Fate(2, False)}
        self.assertEqual(self.fates("x", "y"), expected)

    def test_unknown(self) -> None:
        """A message that is not stored has no fate, nor has another sender's."""
        self.append(named("x"), named("z", sender="charlie"))
        self.assertEqual(self.fates("y", "z", "x"), {"x": history.Fate(1, False)})
        self.assertEqual(self.fates(), {})

    def test_broadcast(self) -> None:
        """A broadcast is never delivered to everybody."""
        self.add_users("alice", "bob")
        self.append(named("x", topic="broadcast"))
        self.move("bob", 1)
        self.assertEqual(self.fates("x"), {"x": history.Fate(1, False)})

    def test_first(self) -> None:
        """A message that was sent again is stored under its first id."""
        self.append(named("x"))
        self.append(named("x"), now=NOW + 1)
        self.assertEqual(self.fates("x"), {"x": history.Fate(1, False)})


class FateFileTests(OnFile, FateTests):
    pass


class FatePostgreSQLTests(OnPostgreSQL, FateTests):
    pass

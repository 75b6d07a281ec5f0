"""Who is connected, where a message goes, and catching up."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wschat.hub import HELD_ANSWERS, HELD_BYTES, Hub, Refused, Registry, Session
from wschat.wire import Message

#: How many of the frames of these tests fit into what a session holds.
HELD_MESSAGES = 64


def frame(message_id: int) -> bytes:
    """A frame that says which message it is."""
    return (b"frame %d" % message_id).ljust(HELD_BYTES // HELD_MESSAGES)


class Peer:
    """A session, and what was written to it."""

    def __init__(self, user_id: str = "alice", position: int = 0, live: bool = True) -> None:
        self.written: list[tuple[bytes, int]] = []
        self.session = Session(user_id, lambda *written: self.written.append(written))
        self.session.position = position
        self.session.live = live

    def deliver(self, *ids: int) -> None:
        for message_id in ids:
            self.session.deliver(frame(message_id), message_id)

    def replay(self, *ids: int) -> None:
        for message_id in ids:
            self.session.replay(frame(message_id), message_id)

    @property
    def ids(self) -> list[int]:
        """The ids that were written, each with its own frame."""
        assert all(data == frame(message_id) for data, message_id in self.written)
        return [message_id for _, message_id in self.written]


class SessionTests(SynchronousTestCase):
    """One connection."""

    def test_send(self) -> None:
        """What is not of the stream goes out at once, while catching up too, and moves nothing."""
        for live in (True, False):
            peer = Peer(position=5, live=live)
            peer.session.send(b"no")
            self.assertEqual((peer.written, peer.session.position), ([(b"no", 0)], 5))

    def test_new(self) -> None:
        """A new session has had nothing and is not live."""
        session = Session("alice", lambda data, message_id: None)
        self.assertEqual((session.user_id, session.position, session.live), ("alice", 0, False))

    def test_live(self) -> None:
        """A live session gets a message as it comes, and never one that it had."""
        peer = Peer(position=3)
        peer.deliver(2, 3, 4, 4, 7, 6)
        self.assertEqual((peer.ids, peer.session.position), ([4, 7], 7))

    def test_held(self) -> None:
        """While it catches up, new messages wait, and come after the old ones."""
        peer = Peer(live=False)
        peer.session.start_page()
        peer.replay(1, 2)
        peer.deliver(4, 5)
        self.assertEqual(peer.ids, [1, 2])
        peer.replay(3)
        self.assertTrue(peer.session.finish_page(3))
        peer.deliver(6)
        self.assertEqual((peer.ids, peer.session.live), ([1, 2, 3, 4, 5, 6], True))

    def test_held_and_in_page(self) -> None:
        """A message that was held and is in the page as well comes once."""
        peer = Peer(live=False)
        peer.session.start_page()
        peer.deliver(1, 2, 3)
        peer.replay(1, 2)
        self.assertTrue(peer.session.finish_page(2))
        self.assertEqual(peer.ids, [1, 2, 3])

    def test_answer(self) -> None:
        """A live session gets an answer at once; it is not of the stream."""
        peer = Peer(position=5)
        peer.session.answer(b"pong")
        self.assertEqual((peer.written, peer.session.position), ([(b"pong", 0)], 5))

    def test_held_answers(self) -> None:
        """While it catches up answers wait, for what was missed and for what came meanwhile."""
        peer = Peer(live=False)
        peer.session.start_page()
        peer.session.answer(b"first")
        peer.deliver(2)
        peer.session.answer(b"second")
        peer.replay(1)
        self.assertTrue(peer.session.finish_page(1))
        peer.deliver(3)
        stream = [(frame(number), number) for number in (1, 2, 3)]
        answers = [(b"first", 0), (b"second", 0)]
        self.assertEqual(peer.written, [*stream[:2], *answers, stream[2]])

    def test_answers_outlast_pages(self) -> None:
        """Another page forgets what was held of the stream, but no answer; each comes once."""
        peer = Peer(live=False)
        peer.session.start_page()
        peer.session.answer(b"pong")
        peer.deliver(*range(1, HELD_MESSAGES + 2))
        self.assertFalse(peer.session.finish_page(0))
        self.assertEqual(peer.written, [])
        for _ in range(2):
            peer.session.start_page()
            self.assertTrue(peer.session.finish_page(HELD_MESSAGES + 1))
        self.assertEqual(peer.written, [(b"pong", 0)])

    def test_most_answers(self) -> None:
        """Only so many answers are held; the next ones come early rather than not at all."""
        peer = Peer(live=False)
        answers = [b"%d" % number for number in range(HELD_ANSWERS + 2)]
        for answer in answers:
            peer.session.answer(answer)
        self.assertEqual(peer.written, [(answer, 0) for answer in answers[HELD_ANSWERS:]])
        peer.session.finish_page(0)
        self.assertEqual(peer.written[2:], [(answer, 0) for answer in answers[:HELD_ANSWERS]])

    def test_head(self) -> None:
        """The page's head counts as had, though its message was for others."""
        peer = Peer(live=False)
        peer.session.start_page()
        peer.replay(1)
        self.assertTrue(peer.session.finish_page(9))
        peer.deliver(9, 10)
        self.assertEqual((peer.ids, peer.session.position), ([1, 10], 10))

    def test_head_behind(self) -> None:
        """A head that is behind, of an empty store say, takes nothing back."""
        peer = Peer(position=5, live=False)
        peer.session.start_page()
        self.assertTrue(peer.session.finish_page(0))
        peer.deliver(5, 6)
        self.assertEqual(peer.ids, [6])

    def test_start_page(self) -> None:
        """What was held before the store is read is left to the page."""
        peer = Peer(live=False)
        peer.deliver(1, 2)
        peer.session.start_page()
        peer.deliver(3)
        peer.replay(1, 2)
        self.assertTrue(peer.session.finish_page(2))
        self.assertEqual(peer.ids, [1, 2, 3])

    def test_most_held(self) -> None:
        """As many as it may hold are no overflow."""
        peer = Peer(live=False)
        peer.session.start_page()
        peer.deliver(*range(1, HELD_MESSAGES + 1))
        self.assertTrue(peer.session.finish_page(0))
        self.assertEqual(peer.ids, list(range(1, HELD_MESSAGES + 1)))

    def test_overflow(self) -> None:
        """One more, and it reads another page: with that, all are had once, in order."""
        peer = Peer(live=False)
        last = HELD_MESSAGES + 1
        peer.session.start_page()
        peer.deliver(*range(1, last + 1))
        self.assertFalse(peer.session.finish_page(0))
        self.assertEqual((peer.ids, peer.session.live), ([], False))
        peer.session.start_page()
        peer.deliver(last + 1)
        peer.replay(*range(1, last + 1))
        self.assertTrue(peer.session.finish_page(last))
        self.assertEqual(peer.ids, list(range(1, last + 2)))


class Stream:
    """
    A store, those who dispatch from it, and one session that catches up, a step at a time.

    A message is in the store when it is committed, and is dispatched later,
    in order.  The store may be read at any moment in between.
    """

    def __init__(self, cursor: int, page_size: int) -> None:
        self.stored: list[tuple[int, bool]] = []  # each message's id, and whether it is ours
        self.page_size = page_size
        self.peer = Peer(live=False)
        self.undispatched: deque[int] = deque()
        self.commit(cursor, True)
        self.undispatched.clear()  # nobody was there to get the first ones
        self.peer.session.position = cursor
        self._catching_up = self._catch_up()

    def commit(self, count: int, ours: bool) -> None:
        head = len(self.stored)
        self.stored += [(head + number, ours) for number in range(1, count + 1)]
        if ours:
            self.undispatched.extend(self.ours(head))

    def ours(self, after: int) -> list[int]:
        return [message_id for message_id, ours in self.stored if ours and message_id > after]

    def dispatch(self, count: int) -> None:
        for _ in range(min(count, len(self.undispatched))):
            self.peer.deliver(self.undispatched.popleft())

    def _catch_up(self) -> Iterator[None]:
        session = self.peer.session
        live = False
        while not live:
            session.start_page()
            yield
            ids = self.ours(session.position)
            page, complete, head = (
                ids[: self.page_size],
                len(ids) <= self.page_size,
                len(self.stored),
            )
            yield
            for message_id in page:
                self.peer.replay(message_id)
                yield
            live = complete and session.finish_page(head)

    def catch_up(self, steps: int) -> None:
        for _ in range(steps):
            next(self._catching_up, None)

    def finish(self) -> None:
        """Let everything that is under way come to its end, should it have one."""
        self.catch_up(100 + 4 * len(self.stored))
        self.dispatch(len(self.undispatched))


SIZES = st.sampled_from([1, 2, 3, 10, HELD_MESSAGES, HELD_MESSAGES + 1, 2 * HELD_MESSAGES])
ACTIONS = st.one_of(
    st.tuples(st.just("ours"), SIZES),
    st.tuples(st.just("others"), st.integers(1, 3)),
    st.tuples(st.just("dispatch"), SIZES),
    st.tuples(st.just("catch up"), st.integers(1, 12)),
)


class CatchingUpTests(SynchronousTestCase):
    """Pages of the store and live messages, in every interleaving."""

    @settings(deadline=None, max_examples=300)
    @given(st.integers(0, 3), st.integers(1, 400), st.lists(ACTIONS, max_size=25))
    def test_once_and_in_order(
        self, cursor: int, page_size: int, actions: list[tuple[str, int]]
    ) -> None:
        """A session gets each of its messages exactly once, and in order."""
        stream = Stream(cursor, page_size)
        for action, count in actions:
            if action == "dispatch":
                stream.dispatch(count)
            elif action == "catch up":
                stream.catch_up(count)
            else:
                stream.commit(count, action == "ours")
            had = stream.peer.ids
            self.assertEqual(had, stream.ours(cursor)[: len(had)])
        stream.finish()
        self.assertTrue(stream.peer.session.live)
        self.assertEqual(stream.peer.ids, stream.ours(cursor))

    def test_overflows(self) -> None:
        """The same by hand, with a page between and an overflow in each of two pages."""
        stream = Stream(0, 100)
        stream.commit(150, True)
        stream.catch_up(2)
        for _ in range(2):
            stream.commit(HELD_MESSAGES + 1, True)
            stream.commit(1, False)
            stream.dispatch(2 * HELD_MESSAGES)
            stream.catch_up(300)
        stream.finish()
        self.assertEqual(stream.peer.ids, stream.ours(0))
        self.assertEqual(len(stream.peer.ids), 150 + 2 * (HELD_MESSAGES + 1))


class RegistryTests(SynchronousTestCase):
    """Sessions, users and topics."""

    def setUp(self) -> None:
        self.registry = Registry()
        self.sessions = {
            name: Session(name[:-1], lambda data, message_id: None)
            for name in ("alice1", "alice2", "bob1")
        }

    def add(self, *names: str) -> None:
        for name in names:
            self.registry.add(self.sessions[name])

    def names(self, sessions: list[Session]) -> list[str]:
        return [name for s in sessions for name, known in self.sessions.items() if known is s]

    def test_added_twice(self) -> None:
        """A session that is added twice is there once, and gone when it is discarded once."""
        registry = Registry()
        session = self.sessions["alice1"]
        registry.add(session)
        registry.add(session)
        self.assertEqual((len(registry), registry.sessions("alice")), (1, 1))
        registry.discard(session)
        self.assertEqual((len(registry), registry.users), (0, []))

    def test_empty(self) -> None:
        """Nobody is there at first."""
        registry = self.registry
        self.assertEqual((len(registry), list(registry), registry.users), (0, [], []))
        self.assertEqual((registry.sessions("alice"), registry.subscribers("alice")), (0, []))
        self.assertNotIn("alice", registry)

    def test_add(self) -> None:
        """A user may have several sessions; each listens to their inbox and to broadcasts."""
        self.add("alice2", "bob1", "alice1")
        registry = self.registry
        self.assertEqual((len(registry), sorted(registry.users)), (3, ["alice", "bob"]))
        self.assertEqual([registry.sessions(u) for u in ("alice", "bob", "carol")], [2, 1, 0])
        self.assertEqual([u in registry for u in ("alice", "bob", "carol")], [True, True, False])
        self.assertEqual(sorted(self.names(list(registry))), ["alice1", "alice2", "bob1"])

    def test_subscribers(self) -> None:
        """Those who listen, the earliest first."""
        self.add("alice2", "bob1", "alice1")
        found = {
            t: self.names(self.registry.subscribers(t)) for t in ("alice", "bob", "broadcast", "x")
        }
        self.assertEqual(
            found,
            {
                "alice": ["alice2", "alice1"],
                "bob": ["bob1"],
                "broadcast": ["alice2", "bob1", "alice1"],
                "x": [],
            },
        )

    def test_subscribers_are_a_copy(self) -> None:
        """Whoever goes through them may let sessions go meanwhile."""
        self.add("alice1", "alice2")
        for session in self.registry.subscribers("alice"):
            self.registry.discard(session)
        self.assertEqual(len(self.registry), 0)

    def test_discard(self) -> None:
        """A session that ends takes nothing from its user's others."""
        self.add("alice1", "alice2", "bob1")
        self.registry.discard(self.sessions["alice1"])
        self.assertEqual((len(self.registry), self.registry.sessions("alice")), (2, 1))
        self.assertEqual(self.names(self.registry.subscribers("alice")), ["alice2"])
        self.assertEqual(self.names(self.registry.subscribers("broadcast")), ["alice2", "bob1"])

    def test_discard_last(self) -> None:
        """When the last one ends, the user is not there any more, and nothing is left."""
        self.add("alice1", "bob1")
        self.registry.discard(self.sessions["alice1"])
        self.assertEqual(("alice" in self.registry, self.registry.users), (False, ["bob"]))
        self.registry.discard(self.sessions["bob1"])
        self.assertEqual((len(self.registry), self.registry.users), (0, []))
        for topic in ("alice", "bob", "broadcast"):
            self.assertEqual(self.registry.subscribers(topic), [])

    def test_discard_stranger(self) -> None:
        """A session that is not registered, or no more, is no error."""
        self.add("alice1")
        self.registry.discard(self.sessions["bob1"])
        self.registry.discard(self.sessions["alice2"])
        self.assertEqual(len(self.registry), 1)
        self.registry.discard(self.sessions["alice1"])
        self.registry.discard(self.sessions["alice1"])
        self.assertEqual(len(self.registry), 0)


class HubTests(SynchronousTestCase):
    """May they, and where to."""

    def setUp(self) -> None:
        self.hub = Hub({"alice", "bob", "carol"}, message_rate=10, message_burst=20)
        self.sessions = {}
        for name in ("alice1", "bob1", "alice2", "bob2", "carol1"):
            session = self.sessions[name] = Session(name[:-1], lambda data, message_id: None)
            self.hub.registry.add(session)

    def recipients(self, sender: str, topic: str) -> list[str]:
        found = self.hub.recipients(Message(sender, topic, "hi", ""))
        return [name for s in found for name, known in self.sessions.items() if known is s]

    def test_direct(self) -> None:
        """All sessions of the user named, and nobody else's."""
        self.assertEqual(self.recipients("alice", "bob"), ["bob1", "bob2"])

    def test_offline(self) -> None:
        """Nobody, when the user is not there."""
        self.assertEqual(self.recipients("alice", "dave"), [])

    def test_broadcast(self) -> None:
        """Everybody but the sender, whose other sessions do not get it either."""
        self.assertEqual(self.recipients("alice", "broadcast"), ["bob1", "bob2", "carol1"])
        self.assertEqual(len(self.recipients("dave", "broadcast")), 5)

    def test_to_oneself(self) -> None:
        """A message to oneself goes to all one's sessions."""
        self.assertEqual(self.recipients("alice", "alice"), ["alice1", "alice2"])

    def test_command(self) -> None:
        """A command goes to no session."""
        self.assertEqual(self.recipients("alice", "server"), [])

    def test_admit(self) -> None:
        """To registered users, to everybody, to the server; whether anybody is there or not."""
        hub = Hub({"bob"}, 1, 1)
        for topic in ("bob", "broadcast", "server"):
            hub.admit(Message("alice", topic, "hi", ""))
        error = self.assertRaises(Refused, hub.admit, Message("alice", "mallory", "hi", ""))
        self.assertEqual(str(error), "Unknown recipient: mallory.")

    def test_users_are_looked_up(self) -> None:
        """Whoever registers later can be written to."""
        users: set[str] = set()
        hub, message = Hub(users, 1, 1), Message("alice", "bob", "hi", "")
        self.assertRaises(Refused, hub.admit, message)
        users.add("bob")
        hub.admit(message)

    def test_rate(self) -> None:
        """The classic rate: 20 at once, 10 a second after that, each user for themselves."""
        allowed = [sum(self.hub.within_rate("alice", now) for _ in range(50)) for now in (0, 1, 9)]
        self.assertEqual(allowed, [20, 10, 20])
        self.assertTrue(self.hub.within_rate("bob", 0))

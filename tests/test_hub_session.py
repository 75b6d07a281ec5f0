"""One session: what it gets, in which order, and catching up."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support import Taken
from wschat.codes import CloseCode
from wschat.hub import HELD_ANSWERS, HELD_BYTES, REMEMBERED_REFUSALS, Session
from wschat.v1 import DIALECT
from wschat.wire import CLASSIC, Message

#: How many of the frames of these tests fit into what a session holds.
HELD_MESSAGES = 64


def frame(message_id: int) -> bytes:
    """A frame that says which message it is."""
    return (b"frame %d" % message_id).ljust(HELD_BYTES // HELD_MESSAGES)


class Peer:
    """A session, and what was written to it."""

    def __init__(self, user_id: str = "alice", position: int = 0, live: bool = True) -> None:
        taken = Taken()
        self.written = taken.frames
        self.closed: list[CloseCode] = []
        self.session = Session(user_id, taken, self.closed.append)
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
        session = Peer("alice", live=False).session
        self.assertEqual((session.user_id, session.position, session.live), ("alice", 0, False))
        self.assertEqual((session.name, session.confirmed), (None, 0))

    def test_dialect(self) -> None:
        """A session is written to as a classic client, unless it is known to be another."""
        self.assertIs(Peer().session.dialect, CLASSIC)
        session = Session("alice", Taken(), lambda code: None, DIALECT)
        self.assertIs(session.dialect, DIALECT)

    def test_probe(self) -> None:
        """A session that nobody can ask is there."""
        answers: list[str] = []
        Peer().session.probe(lambda: answers.append("there"))
        self.assertEqual(answers, ["there"])

    def test_close(self) -> None:
        """A session is closed by what it was made with."""
        peer = Peer()
        peer.session.close(CloseCode.REPLACED)
        self.assertEqual(peer.closed, [CloseCode.REPLACED])

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

    def test_confirm(self) -> None:
        """What was handed over can be confirmed, once, and nothing beyond it."""
        session = Peer(position=5).session
        found = [session.confirm(position) for position in (0, 3, 3, 2, 6, 5, 5)]
        self.assertEqual(found, [False, True, False, False, False, True, False])
        self.assertEqual(session.confirmed, 5)

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


def submission(client_id: str | None, follows: str | None = None) -> Message:
    return Message("alice", "bob", "hi", "", client_id=client_id, follows=follows)


class TurnTests(SynchronousTestCase):
    """What follows a refused message waits until that is sent again."""

    def setUp(self) -> None:
        self.session = Peer("alice").session

    def in_turn(self, client_id: str | None, follows: str | None = None) -> bool:
        return self.session.in_turn(submission(client_id, follows))

    def test_nothing_refused(self) -> None:
        """Without a refusal everything is in turn, whatever it follows."""
        found = [self.in_turn(None), self.in_turn("a"), self.in_turn("b", "a")]
        self.assertEqual([*found, self.in_turn("x", "never sent")], [True] * 4)

    def test_follower(self) -> None:
        """Only what follows the refused message is held up, not what follows something else."""
        self.session.refused("a")
        self.assertFalse(self.in_turn("b", "a"))
        self.assertEqual([self.in_turn("c"), self.in_turn("d", "c")], [True, True])

    def test_sent_again(self) -> None:
        """When the refused message is sent again, those that follow it may come."""
        self.session.refused("a")
        self.assertFalse(self.in_turn("b", "a"))
        self.assertEqual([self.in_turn("a"), self.in_turn("b", "a")], [True, True])

    def test_chain(self) -> None:
        """A follower that is itself refused holds up its own, until it is sent again as well."""
        self.session.refused("a")
        self.assertFalse(self.in_turn("b", "a"))
        self.session.refused("b")
        self.assertTrue(self.in_turn("a"))
        self.assertFalse(self.in_turn("c", "b"))
        self.assertEqual([self.in_turn("b", "a"), self.in_turn("c", "b")], [True, True])

    def test_not_in_turn_is_not_sent_again(self) -> None:
        """A message that is out of turn itself does not stop being refused."""
        for client_id in ("a", "b"):
            self.session.refused(client_id)
        self.assertFalse(self.in_turn("b", "a"))
        self.assertFalse(self.in_turn("c", "b"))

    def test_most_refused(self) -> None:
        """Only so many are remembered: of more, the earliest is forgotten."""
        for number in range(REMEMBERED_REFUSALS + 1):
            self.session.refused(str(number))
        self.assertTrue(self.in_turn("x", "0"))
        self.assertFalse(self.in_turn("y", "1"))


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

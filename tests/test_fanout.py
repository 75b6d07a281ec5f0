"""Tests of `wschat.fanout`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.support import Taken, make_message
from wschat import fanout, v1, wire
from wschat.fanout import Fanout
from wschat.hub import Session


class FanoutTests(SynchronousTestCase):
    """The broadcasts of one turn."""

    def setUp(self) -> None:
        self.got: dict[str, list[tuple[bytes, int]]] = {}
        self.sessions: list[Session] = []
        self.failures: list[int] = []
        self.fanout = Fanout(lambda: list(self.sessions), self.sessions_of, self.failures.append)
        self.next_id = 1

    def session(
        self, user_id: str, dialect: wire.Dialect = wire.CLASSIC, live: bool = True
    ) -> Session:
        taken = Taken()
        self.got[user_id] = taken.frames
        session = Session(user_id, taken, lambda code: None, dialect)
        session.live = live
        self.sessions.append(session)
        return session

    def sessions_of(self, user_id: str) -> list[Session]:
        return [session for session in self.sessions if session.user_id == user_id]

    def say(self, sender: str, content: str) -> bytes:
        """Broadcast; the frame as classic clients get it."""
        message = make_message(sender, wire.BROADCAST, content)
        message.id, self.next_id = self.next_id, self.next_id + 1
        self.fanout.add(message)
        return wire.CLASSIC.delivery(message)

    def test_joined_once(self) -> None:
        """All get the same bytes: one object, however many they are."""
        for user_id in ("alice", "bob", "charlie"):
            self.session(user_id)
        frames = self.say("bot", "one") + self.say("bot", "two")
        self.fanout.finish()
        self.assertEqual(self.got["alice"], [(frames, 2)])
        self.assertIs(self.got["alice"][0][0], self.got["bob"][0][0])
        self.assertEqual([s.position for s in self.sessions], [2, 2, 2])

    def test_written_through(self) -> None:
        """It is at once, but for who sent one of them or gets something else in this turn."""
        alice, bob, charlie = (Taken() for _ in range(3))
        for user_id, taken in (("alice", alice), ("bob", bob), ("charlie", charlie)):
            session = Session(user_id, taken, lambda code: None)
            session.live = True
            self.sessions.append(session)
        self.say("alice", "one")
        self.fanout.bring(self.sessions[1])
        self.say("bot", "two")
        self.fanout.finish()
        self.assertEqual([taken.through for taken in (alice, bob, charlie)], [0, 0, 1])
        self.assertEqual([len(taken.frames) for taken in (alice, bob, charlie)], [1, 2, 1])

    def test_dialects(self) -> None:
        """Each dialect has bytes of its own."""
        self.session("alice")
        self.session("bob", v1.DIALECT)
        classic = self.say("bot", "one")
        self.fanout.finish()
        self.assertEqual(self.got["alice"], [(classic, 1)])
        self.assertIn(b'"type":"message"', self.got["bob"][0][0])

    def test_senders(self) -> None:
        """Nobody gets their own, on any of their connections, but those of the others."""
        self.session("alice")
        self.session("bob")
        one, two, three = self.say("alice", "1"), self.say("bob", "2"), self.say("alice", "3")
        self.fanout.finish()
        self.assertEqual(self.got["alice"], [(two, 2)])
        self.assertEqual(self.got["bob"], [(one, 1), (three, 3)])

    def test_in_between(self) -> None:
        """What comes between broadcasts for one session is between them."""
        alice, _ = self.session("alice"), self.session("bob")
        one = self.say("bot", "1")
        self.fanout.bring(alice)
        alice.deliver(b"direct", 2)
        self.next_id = 3
        two = self.say("bot", "2")
        self.fanout.finish()
        self.assertEqual(self.got["alice"], [(one, 1), (b"direct", 2), (two, 3)])
        self.assertEqual(self.got["bob"], [(one + two, 3)])

    def test_catching_up(self) -> None:
        """A session that is not there yet holds each for itself, and has none twice."""
        alice = self.session("alice", live=False)
        bob = self.session("bob")
        bob.position = 1
        one, two = self.say("bot", "1"), self.say("bot", "2")
        self.fanout.finish()
        self.assertEqual((self.got["alice"], self.got["bob"]), ([], [(two, 2)]))
        alice.finish_page(0)
        self.assertEqual(self.got["alice"], [(one, 1), (two, 2)])

    def test_pieces(self) -> None:
        """What is joined is no more than one write takes."""
        self.patch(fanout, "_JOINED_BYTES", 1000)
        self.session("alice")
        frames = [self.say("bot", "x" * 300) for _ in range(4)]
        frames.append(self.say("bot", "y" * 2000))
        self.fanout.finish()
        self.assertEqual(b"".join(piece for piece, _ in self.got["alice"]), b"".join(frames))
        self.assertEqual([last for _, last in self.got["alice"]], [2, 4, 5])

    def test_faults(self) -> None:
        """One session's fault costs no other session anything."""

        class Broken:
            def write(self, frame: bytes, message_id: int) -> None:
                raise ZeroDivisionError

            write_through = write

        for user_id in ("alice", "bob"):
            self.sessions.append(Session(user_id, Broken(), lambda code: None))
            self.sessions[-1].live = True
        self.session("charlie")
        one, two = self.say("bob", "1"), self.say("bot", "2")
        self.fanout.finish()
        self.assertEqual(self.got["charlie"], [(one + two, 2)])
        self.assertEqual(self.failures, [2, 2])

    def test_nothing(self) -> None:
        """Without broadcasts there is nothing to do."""
        alice = self.session("alice")
        self.fanout.bring(alice)
        self.fanout.finish()
        self.assertEqual(self.got["alice"], [])

"""Tests of `wschat.client.sealing`: keys that messages wait for."""

from __future__ import annotations

from typing import cast

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.support import NOW
from wschat import identity, wire
from wschat.client.accounts import ConnectionProblem
from wschat.client.people import People
from wschat.client.sealing import Sealing
from wschat.client.session import SealingKey, Session
from wschat.client.session_events import Delayed
from wschat.client.settings import Encryption


class Keys:
    """`People` that are asked for keys, and answer when a test does."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Deferred[SealingKey]]] = []
        #: What they fail with at once.
        self.fault: Exception | None = None

    async def sealing_key(self, user_id: str) -> SealingKey:
        if self.fault is not None:
            raise self.fault
        answer: Deferred[SealingKey] = Deferred()
        self.asked.append((user_id, answer))
        return await answer


class SealingTests(SynchronousTestCase):
    """What alice says to others waits for their keys."""

    def setUp(self) -> None:
        key = identity.PrivateKey(bytes(range(32)))
        self.session = Session("alice", key, encryption=Encryption.PREFERRED)
        self.session.opened(is_v1=False)
        self.people = Keys()
        self.sent: list[wire.Message] = []
        self.later: list[float] = []
        self.delays: list[Delayed] = []
        self.sealing = Sealing(
            self.session,
            cast(People, self.people),
            flush=self.flush,
            flush_within=self.later.append,
            delayed=self.delays.append,
        )

    def flush(self) -> None:
        frames = self.session.data_to_send(NOW)
        self.sent += [wire.decode_submission(frame, "alice", NOW) for frame in frames]
        self.sealing.find()

    def say(self, to: str) -> str:
        name = self.session.send(to, "hello", NOW)
        self.flush()
        return name

    def silent(self) -> None:
        """The server does not say what it was asked last."""
        self.people.asked[-1][1].errback(ConnectionProblem("gone"))

    def test_found(self) -> None:
        """A key is asked for once, and what waited for it is sealed and sent."""
        self.say("bob")
        self.say("bob")
        ((user_id, answer),) = self.people.asked
        self.assertEqual((user_id, self.sent), ("bob", []))
        answer.callback(SealingKey(identity.PrivateKey(bytes(32)).x25519_public_key))
        self.assertEqual([message.encrypted for message in self.sent], [True, True])
        self.assertEqual(len(self.people.asked), 1)

    def test_not_found(self) -> None:
        """A server that does not say is asked again later; that a message waits is told once."""
        name = self.say("bob")
        self.silent()
        self.assertEqual((self.later, len(self.people.asked)), ([0.5], 1))
        self.flush()
        self.silent()
        self.assertEqual(self.later, [0.5, 0.5])
        ((text, waiting),) = [(event.text, event.client_id) for event in self.delays]
        self.assertEqual(waiting, name)
        self.assertIn("which keys bob has", text)

    def test_at_once(self) -> None:
        """Who could not ask at all asks again, too."""
        self.people.fault = ConnectionProblem("nobody there")
        self.say("bob")
        self.assertEqual((self.later, self.people.asked), ([0.5], []))
        self.people.fault = None
        self.flush()
        self.assertEqual(len(self.people.asked), 1)

    def test_fault(self) -> None:
        """A fault is logged, and it can be asked again."""
        self.say("bob")
        self.people.asked[-1][1].errback(ZeroDivisionError())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.flush()
        self.assertEqual(len(self.people.asked), 2)

    def test_stopped(self) -> None:
        """Who stops waits for no answer."""
        self.say("bob")
        self.sealing.stop()
        self.people.asked[-1][1].callback(SealingKey())
        self.assertEqual((self.sent, self.later, self.delays), ([], [], []))

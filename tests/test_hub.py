"""Who is connected, and where a message goes."""

from __future__ import annotations

import contextlib

from twisted.trial.unittest import SynchronousTestCase

from tests.support import Taken
from wschat.codes import ErrorCode, Refused
from wschat.hub import Hub, Registry, Session
from wschat.wire import Message


def make_session(user_id: str) -> Session:
    """A session that nobody reads."""
    return Session(user_id, Taken(), lambda code: None)


class RegistryTests(SynchronousTestCase):
    """Sessions, users and topics."""

    def setUp(self) -> None:
        self.registry = Registry()
        self.sessions = {name: make_session(name[:-1]) for name in ("alice1", "alice2", "bob1")}

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
        self.assertEqual([registry.sessions(u) for u in ("alice", "bob", "charlie")], [2, 1, 0])
        self.assertEqual([u in registry for u in ("alice", "bob", "charlie")], [True, True, False])
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

    def test_of(self) -> None:
        """A user's own sessions, as a copy: whoever goes through them may let them go."""
        self.add("alice1", "bob1", "alice2")
        self.assertEqual(sorted(self.names(self.registry.of("alice"))), ["alice1", "alice2"])
        self.assertEqual(self.registry.of("charlie"), [])
        for session in self.registry.of("alice"):
            self.registry.discard(session)
        self.assertEqual(self.registry.users, ["bob"])

    def test_namesakes(self) -> None:
        """A user's other connections of the same name; nobody's names are in another's way."""
        self.add("alice1", "alice2", "bob1")
        alice1, alice2, bob1 = (self.sessions[name] for name in ("alice1", "alice2", "bob1"))
        alice1.name = bob1.name = "phone"
        for session in (alice1, bob1):
            self.assertEqual(self.registry.namesakes(session), ([], []))
        alice2.name = "phone"
        self.assertEqual(self.registry.namesakes(alice1), ([], [alice2]))
        self.assertEqual(self.registry.namesakes(alice2), ([alice1], []))
        self.registry.discard(alice2)
        self.assertEqual(self.registry.namesakes(alice1), ([], []))

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
        self.hub = Hub({"alice", "bob", "charlie"}, message_rate=10, message_burst=20)
        self.sessions = {}
        for name in ("alice1", "bob1", "alice2", "bob2", "charlie1"):
            session = self.sessions[name] = make_session(name[:-1])
            self.hub.registry.add(session)

    def recipients(self, sender: str, topic: str) -> list[str]:
        found = self.hub.recipients(Message(sender, topic, "hi", ""))
        return [name for s in found for name, known in self.sessions.items() if known is s]

    def test_direct(self) -> None:
        """All sessions of the user named, and nobody else's."""
        self.assertEqual(self.recipients("alice", "bob"), ["bob1", "bob2"])

    def test_offline(self) -> None:
        """Nobody, when the user is not there."""
        self.assertEqual(self.recipients("alice", "david"), [])

    def test_broadcast(self) -> None:
        """Everybody but the sender, whose other sessions do not get it either."""
        self.assertEqual(self.recipients("alice", "broadcast"), ["bob1", "bob2", "charlie1"])
        self.assertEqual(len(self.recipients("david", "broadcast")), 5)

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
        error = self.assertRaises(Refused, hub.admit, Message("alice", "bot", "hi", ""))
        self.assertEqual(str(error), "Unknown recipient: bot.")
        self.assertEqual(error.code, ErrorCode.UNKNOWN_RECIPIENT)

    def test_users_are_looked_up(self) -> None:
        """Whoever registers later can be written to."""
        users: set[str] = set()
        hub, message = Hub(users, 1, 1), Message("alice", "bob", "hi", "")
        self.assertRaises(Refused, hub.admit, message)
        users.add("bob")
        hub.admit(message)

    def test_rate(self) -> None:
        """The classic rate: 20 at once, 10 a second after that, each user for themselves."""

        def allowed(user_id: str, now: float) -> int:
            count = 0
            with contextlib.suppress(Refused):
                for _ in range(50):
                    self.hub.count(user_id, now)
                    count += 1
            return count

        self.assertEqual([allowed("alice", now) for now in (0, 1, 9)], [20, 10, 20])
        self.assertEqual(allowed("bob", 9), 20)
        error = self.assertRaises(Refused, self.hub.count, "bob", 9)
        self.assertEqual((error.code, error.wait), (ErrorCode.RATE_LIMITED, 100))

    def test_bytes(self) -> None:
        """Bytes have a rate of their own: ten seconds' at once, each user for themselves."""
        hub = Hub({"alice", "bob"}, 1e6, 1e6, byte_rate=1000)
        for _ in range(5):
            hub.count("alice", 0, 2000)
        error = self.assertRaises(Refused, hub.count, "alice", 0, 500)
        self.assertEqual((error.code, error.wait), (ErrorCode.TOO_MANY_BYTES, 500))
        hub.count("bob", 0, 500)
        hub.count("alice", 0.5, 500)
        error = self.assertRaises(Refused, hub.count, "alice", 0.5, 1)
        self.assertEqual(error.wait, 1)

    def test_other_limits(self) -> None:
        """From now on others hold, with a rate of bytes or without one."""
        hub = Hub({"alice"}, 1e6, 1e6)
        hub.set_limits(1e6, 1e6, 100)
        hub.count("alice", 0, 1000)
        self.assertRaises(Refused, hub.count, "alice", 0, 100)
        hub.set_limits(1e6, 1e6, 1000)
        hub.count("alice", 100, 10_000)
        error = self.assertRaises(Refused, hub.count, "alice", 100, 500)
        self.assertEqual(error.wait, 500)
        hub.set_limits(1, 3, None)
        for _ in range(3):
            hub.count("alice", 200, 10**9)
        self.assertRaises(Refused, hub.count, "alice", 200, 1)

    def test_longer_than_the_rate(self) -> None:
        """A message that is longer than all that may come at once has to wait, not for ever."""
        hub = Hub({"alice"}, 1e6, 1e6, byte_rate=1000)
        hub.count("alice", 0, 30_000)
        error = self.assertRaises(Refused, hub.count, "alice", 0, 1)
        self.assertEqual(error.wait, 20_001)

    def test_wait(self) -> None:
        """Who is refused is told how long to wait, in whole milliseconds, and waits that long."""
        hub = Hub({"alice"}, message_rate=8, message_burst=1)
        hub.count("alice", 0)
        error = self.assertRaises(Refused, hub.count, "alice", 0)
        self.assertEqual((error.code, error.wait), (ErrorCode.RATE_LIMITED, 125))
        error = self.assertRaises(Refused, hub.count, "alice", 0.0625)
        self.assertEqual(error.wait, 63)  # 62.5, and not too early
        hub.count("alice", 0.0625 + 0.063)

"""Tests of `wschat.client.outgoing`: what is sent when, and what is sent again in which order."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support import NOW
from wschat import v1, wire
from wschat.client.outgoing import QUEUE_MESSAGES, Item, Outgoing, QueueFull


def message(name: str, to: str = "bob") -> Item:
    """Something to say, with its name for a content."""
    return Item(name, wire.Message("alice", to, name, "2026-11-22T10:00:00Z", client_id=name))


def command(name: str) -> Item:
    said = wire.Message("alice", "server", name, "2026-11-22T10:00:00Z", client_id=name)
    return Item(name, said, command=True)


def question(name: str) -> Item:
    return Item(name, v1.AskStatus([name]))


class _OutgoingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.outgoing = Outgoing(self.prepare)
        #: What preparing comes to, by name; what was prepared.
        self.verdicts: dict[str, bool | None] = {}
        self.prepared: list[str] = []

    def prepare(self, item: Item) -> bool | None:
        self.prepared.append(item.name)
        verdict = self.verdicts.get(item.name, True)
        item.ready = verdict is True
        return verdict

    def open(self, *items: Item, is_v1: bool = True) -> None:
        """A connection is open, and there are things to send."""
        self.outgoing.opened(is_v1=is_v1)
        for item in items:
            self.outgoing.put(item)

    def frames(self, now: float = NOW) -> list[Any]:
        return [json.loads(frame) for frame in self.outgoing.take(now)]

    def follows(self, now: float = NOW) -> list[tuple[str, str | None]]:
        """What is sent now: each one's client id, and whom it follows."""
        headers = [frame["header"] for frame in self.frames(now)]
        return [(header["client_id"], header.get("follows")) for header in headers]

    def sends(self, *names: str, now: float = NOW) -> None:
        """Assert what is sent now, whatever it follows."""
        self.assertEqual([name for name, _ in self.follows(now)], list(names))


class FollowsTests(_OutgoingTests):
    """Each message says which one has to be stored before it."""

    def test_chain(self) -> None:
        """A message follows the one that was said before it, the first follows none."""
        self.open(message("a"), message("b"), message("c"))
        self.assertEqual(self.follows(), [("a", None), ("b", "a"), ("c", "b")])

    def test_settled(self) -> None:
        """What the server has dealt with is not followed."""
        self.open(message("a"), message("b"))
        self.frames()
        self.outgoing.settled("a")
        self.outgoing.settled("b")
        self.outgoing.put(message("c"))
        self.assertEqual(self.follows(), [("c", None)])

    def test_settled_between(self) -> None:
        """A message follows the last one that is not settled, though another is in between."""
        self.open(message("a"), message("b"))
        self.frames()
        self.outgoing.settled("b")  # refused for good: "a" is not, and still comes first
        self.outgoing.put(message("c"))
        self.assertEqual(self.follows(), [("c", "a")])

    def test_settled_later(self) -> None:
        """The same when what is in between is settled after the message was said."""
        self.open(message("a"), message("b"), message("c"))
        self.frames()
        self.outgoing.settled("b")
        self.outgoing.lost()
        self.open()
        self.assertEqual(self.follows(), [("a", None), ("c", "a")])

    def test_forgotten_between(self) -> None:
        """A command that is not sent any more leaves what is around it in its order."""
        self.open(message("a"), command("ping"), message("c"))
        self.assertEqual(self.follows(), [("a", None), ("ping", "a"), ("c", "ping")])
        self.outgoing.lost()
        self.outgoing.forget({"ping"})
        self.open()
        self.assertEqual(self.follows(), [("a", None), ("c", "a")])

    def test_not_remembered(self) -> None:
        """What is settled is not kept for the sake of what follows it."""
        items = [message(str(number)) for number in range(5)]
        self.open(*items)
        self.frames()
        for number in (3, 1, 2, 0):
            self.outgoing.settled(str(number))
        self.assertEqual([item.previous for item in items[:3]], [None, items[0], items[0]])
        self.assertIsNone(items[4].earlier())
        self.assertIsNone(items[4].previous)

    def test_unsettled(self) -> None:
        """Messages are unsettled until they are known to have arrived; nothing else is."""
        for item in (message("a"), question("q"), command("c")):
            self.outgoing.put(item)
        self.assertEqual((self.outgoing.waiting, self.outgoing.unsettled), (3, 1))
        self.open()
        self.frames()
        self.assertEqual((self.outgoing.waiting, self.outgoing.unsettled), (0, 1))
        self.outgoing.stored("a")
        self.assertEqual(self.outgoing.unsettled, 0)

    def test_questions(self) -> None:
        """A question follows nothing, is followed by nothing, and is asked once."""
        self.open(message("a"), question("q"), message("c"))
        first, asked, last = self.frames()
        self.assertEqual(asked, {"type": "status", "client_ids": ["q"]})
        self.assertEqual(first["header"]["client_id"], "a")
        self.assertEqual(last["header"]["follows"], "a")
        self.assertEqual((self.outgoing.sent, self.outgoing.unanswered), (2, 2))
        self.outgoing.lost()
        self.open()
        self.sends("a", "c")


class PreparingTests(_OutgoingTests):
    """What has to be prepared before it is sent."""

    def test_order(self) -> None:
        """What cannot be prepared yet is waited for, and so is all that was said after it."""
        self.verdicts["b"] = False
        self.open(message("a"), message("b"), command("c"), message("d"))
        self.sends("a")
        self.sends()
        self.assertIsNone(self.outgoing.wait(NOW))
        self.assertEqual(self.outgoing.waiting, 3)
        self.verdicts["b"] = True
        self.assertEqual(self.outgoing.wait(NOW), 0.0)
        self.assertEqual(self.follows(), [("b", "a"), ("c", "b"), ("d", "c")])

    def test_dropped(self) -> None:
        """What is not to be sent at all is followed by nothing, and known no more."""
        self.verdicts["b"] = None
        self.open(message("a"), message("b"), message("c"))
        self.assertEqual(self.follows(), [("a", None), ("c", "a")])
        self.assertFalse(self.outgoing.knows("b"))
        self.assertEqual((self.outgoing.waiting, self.outgoing.unanswered), (0, 2))

    def test_once(self) -> None:
        """It is prepared once, however often it is sent; commands and questions are ready."""
        self.open(message("a"), command("c"))
        self.sends("a", "c")
        self.outgoing.refused_for_now("a", 0.0, NOW)
        self.sends("a")
        self.outgoing.lost()
        self.open(question("q"))
        self.assertEqual(len(self.frames()), 3)
        self.assertEqual(self.prepared, ["a"])

    def test_not_before_its_time(self) -> None:
        """Nothing is prepared without a connection, nor while the server wants silence."""
        self.outgoing.put(message("a"))
        self.assertIsNone(self.outgoing.wait(NOW))
        self.open()
        self.outgoing.hold(2.0, NOW)
        self.assertEqual((self.frames(), self.outgoing.wait(NOW)), ([], 2.0))
        self.assertEqual(self.prepared, [])
        self.sends("a", now=NOW + 2.0)


class AgainTests(_OutgoingTests):
    """What has no receipt is sent again, in its order."""

    def test_refused(self) -> None:
        """What is refused for now is sent again before what waits, when its time has come."""
        self.open(*(message(name) for name in "abc"))
        self.sends("a", "b", "c")
        self.outgoing.put(message("d"))
        self.outgoing.refused_for_now("c", 0.0, NOW)  # in whatever order the refusals come
        self.outgoing.refused_for_now("b", 0.5, NOW)
        self.assertEqual((self.outgoing.waiting, self.outgoing.unanswered), (3, 1))
        self.assertEqual(self.frames(NOW + 0.4), [])
        self.assertEqual(self.outgoing.wait(NOW + 0.25), 0.25)
        self.outgoing.settled("a")
        self.assertEqual(self.follows(NOW + 0.5), [("b", None), ("c", "b"), ("d", "c")])
        self.assertEqual(self.outgoing.sent, 6)

    def test_refused_at_once(self) -> None:
        """Without a time to wait it is sent again at once."""
        self.open(message("a"))
        self.frames()
        self.outgoing.refused_for_now("a", 0.0, NOW)
        self.assertEqual(self.outgoing.wait(NOW), 0.0)
        self.sends("a")

    def test_refused_unknown(self) -> None:
        """A refusal of what is not known, or known to wait already, changes nothing."""
        self.open(message("a"), message("b"))
        self.sends("a", "b")
        self.outgoing.refused_for_now("x", 5.0, NOW)
        self.outgoing.refused_for_now("b", 0.0, NOW)
        self.outgoing.refused_for_now("b", 5.0, NOW)
        self.sends("b")

    def test_lost(self) -> None:
        """After a lost connection all without a receipt is sent again, under the same names."""
        self.open(*(message(name) for name in "abcd"))
        self.sends("a", "b", "c", "d")
        self.outgoing.settled("b")
        self.outgoing.put(message("e"))
        self.assertEqual(self.outgoing.lost(), 0)
        self.assertEqual((self.frames(), self.outgoing.wait(NOW)), ([], None))
        self.assertEqual(self.outgoing.waiting, 4)
        self.open()
        self.assertEqual([item.name for item in self.outgoing.sent_again], ["a", "c", "d"])
        expected = [("a", None), ("c", "a"), ("d", "c"), ("e", "d")]
        self.assertEqual(self.follows(), expected)

    def test_lost_held(self) -> None:
        """A new connection does not wait for what was asked for on the last one."""
        self.open(message("a"))
        self.frames()
        self.outgoing.refused_for_now("a", 30.0, NOW)
        self.outgoing.lost()
        self.open()
        self.sends("a")

    def test_settled(self) -> None:
        """What is settled is known once, and not sent again."""
        self.open(message("a"), message("b"))
        self.frames()
        settled = self.outgoing.settled("a")
        assert settled is not None
        self.assertEqual((settled.name, settled.settled), ("a", True))
        self.assertIsNone(self.outgoing.settled("a"))
        self.assertIsNone(self.outgoing.settled("never said"))
        self.outgoing.lost()
        self.open()
        self.sends("b")

    def test_forget(self) -> None:
        """Commands and questions that nobody waits for are not sent; the rest is."""
        self.open(command("sent"), message("a"))
        self.frames()
        self.outgoing.put(command("waits"))
        self.outgoing.put(question("q"))
        self.outgoing.put(message("b"))
        self.outgoing.lost()
        self.outgoing.forget({"sent", "waits", "q"})
        self.open()
        self.assertEqual(self.follows(), [("a", None), ("b", "a")])

    def test_command_answered(self) -> None:
        """An answer settles a command, which then is not sent again."""
        self.open(command("ping"), message("a"))
        self.frames()
        self.assertEqual(self.outgoing.unanswered, 1)  # commands are none that may be lost
        self.outgoing.answered("ping")
        self.outgoing.answered("another's")
        self.outgoing.lost()
        self.open()
        self.assertEqual(self.follows(), [("a", None)])

    def test_knows(self) -> None:
        """A name is known while its message waits, is on its way, or has to be sent again."""
        self.assertFalse(self.outgoing.knows("a"))
        self.outgoing.put(message("a"))
        self.assertTrue(self.outgoing.knows("a"))
        self.open()
        self.sends("a")
        self.assertTrue(self.outgoing.knows("a"))
        self.outgoing.lost()
        self.assertTrue(self.outgoing.knows("a"))
        self.open()
        self.sends("a")
        self.outgoing.settled("a")
        self.assertFalse(self.outgoing.knows("a"))

    def test_direct(self) -> None:
        """Only a message to a user is direct."""
        items = (message("a"), message("b", "broadcast"), command("c"), question("d"))
        self.assertEqual([item.direct for item in items], [True, False, False, False])


class PaceTests(_OutgoingTests):
    """How much goes out, and when."""

    def many(self, count: int) -> None:
        self.open(*(message(str(number)) for number in range(count)))

    def test_rate(self) -> None:
        """Seventeen go out at once, and nine a second after that."""
        self.many(30)
        self.assertEqual(len(self.frames()), 17)
        wait = self.outgoing.wait(NOW)
        assert wait is not None
        self.assertAlmostEqual(wait, 1 / 9)
        self.assertEqual(len(self.frames(NOW + 1.0)), 9)
        self.assertEqual(len(self.frames(NOW + 2.0)), 4)
        self.assertIsNone(self.outgoing.wait(NOW + 2.0))

    def test_counted(self) -> None:
        """What is sent by the way counts as well."""
        self.many(20)
        self.outgoing.count(NOW)
        self.assertEqual(len(self.frames()), 16)

    def test_lower(self) -> None:
        """At a server's lower limits nine tenths of them go out; what was sent before counts."""
        self.many(30)
        self.assertEqual(len(self.frames()), 17)
        self.outgoing.pace(5.0, 10.0, NOW)
        self.assertEqual(self.frames(), [])
        self.assertEqual(len(self.frames(NOW + 2.0)), 9)  # 4.5 a second, and 9 at once

    def test_higher(self) -> None:
        """The same of higher limits: at once goes what has not gone yet."""
        self.many(200)
        self.assertEqual(len(self.frames()), 17)
        self.outgoing.pace(100.0, 100.0, NOW)
        self.assertEqual(len(self.frames()), 90 - 17)
        self.assertEqual(len(self.frames(NOW + 0.5)), 45)

    def test_same(self) -> None:
        """To be told the same limits again is no new allowance."""
        self.many(60)
        self.outgoing.pace(10.0, 20.0, NOW)
        self.assertEqual(len(self.frames()), 18)
        self.outgoing.pace(10.0, 20.0, NOW)
        self.assertEqual(self.frames(), [])

    def test_tiny(self) -> None:
        """Limits of nearly nothing let one go out now and then."""
        self.many(20)
        self.outgoing.pace(0.001, 1.0, NOW)
        self.assertEqual(len(self.frames()), 1)
        self.assertEqual(len(self.frames(NOW + 2.0)), 1)

    def test_slow_down(self) -> None:
        """Each time that a classic server refuses, half as much goes out, but not for ever."""
        self.many(30)
        self.outgoing.slow_down()
        self.assertEqual(len(self.frames()), 1)
        self.assertAlmostEqual(self.outgoing.wait(NOW) or 0, 1 / 4.5)
        for _ in range(10):
            self.outgoing.slow_down()
        self.assertEqual(len(self.frames(NOW + 1)), 1)
        self.assertEqual(self.frames(NOW + 2.9), [])
        self.assertEqual(len(self.frames(NOW + 3)), 1)  # one in two seconds

    def test_hold(self) -> None:
        """The longer of two waits is kept, and none longer than a minute."""
        self.many(1)
        self.outgoing.hold(2.0, NOW)
        self.outgoing.hold(1.0, NOW)
        self.assertEqual(self.outgoing.held(NOW), 2.0)
        self.outgoing.hold(3600.0, NOW)
        self.assertEqual(self.outgoing.held(NOW), 60.0)
        self.assertEqual(self.outgoing.wait(NOW + 20), 40.0)
        self.assertEqual(self.outgoing.held(NOW + 61), 0.0)

    def test_clock_set_back(self) -> None:
        """When the clock is set back by far, a wait is over; neither does it come again later."""
        self.many(1)
        self.outgoing.hold(30.0, NOW)
        self.assertEqual(self.outgoing.wait(NOW - 3600), 0.0)
        self.assertEqual(self.outgoing.held(NOW), 0.0)
        self.sends("0", now=NOW - 3600)

    def test_shortest_wait(self) -> None:
        """A wait is never so short that the clock does not move in it."""
        self.many(1)
        self.outgoing.hold(0.0001, NOW)
        self.assertEqual(self.outgoing.wait(NOW), 0.001)

    def test_not_a_matter_of_time(self) -> None:
        """Without anything to send, or without a connection, there is nothing to wait for."""
        self.assertIsNone(self.outgoing.wait(NOW))
        self.outgoing.put(message("a"))
        self.assertIsNone(self.outgoing.wait(NOW))
        self.open()
        self.assertEqual(self.outgoing.wait(NOW), 0.0)


class BoundTests(_OutgoingTests):
    """The queue is bounded."""

    def test_full(self) -> None:
        """A thousand may wait; what is sent counts until there is a receipt."""
        for number in range(QUEUE_MESSAGES):
            self.outgoing.put(message(str(number)))
        self.assertRaises(QueueFull, self.outgoing.put, message("more"))
        self.open()
        self.assertEqual(len(self.frames()), 17)
        self.assertRaises(QueueFull, self.outgoing.put, message("more"))
        self.outgoing.settled("0")
        self.outgoing.put(message("more"))
        self.assertRaises(QueueFull, self.outgoing.put, question("q"))

    def test_not_bounded(self) -> None:
        """What the client itself has to ask has room always."""
        for number in range(QUEUE_MESSAGES):
            self.outgoing.put(message(str(number)))
        self.outgoing.put(question("q"), bounded=False)
        self.assertEqual(self.outgoing.waiting, QUEUE_MESSAGES + 1)


class ClassicTests(_OutgoingTests):
    """A classic server gets each message once, and in its own form."""

    def test_frames(self) -> None:
        """There are no names in a classic frame."""
        self.open(message("a"), message("b"), is_v1=False)
        for frame in self.frames():
            self.assertEqual(frame.keys(), {"header", "body"})
            self.assertEqual(frame["header"].keys() & {"client_id", "follows"}, set())

    def test_lost(self) -> None:
        """How much may not have arrived is known, and it is not sent again."""
        self.open(message("a"), command("ping"), message("b"), is_v1=False)
        self.frames()
        self.assertEqual((self.outgoing.unanswered, self.outgoing.unasked), (2, True))
        self.assertEqual(self.outgoing.lost(), 2)
        self.assertEqual((self.outgoing.unanswered, self.outgoing.unasked), (0, False))
        self.open(message("c"), is_v1=False)
        self.assertEqual([frame["body"]["content"] for frame in self.frames()], ["c"])

    def test_answered(self) -> None:
        """An answer covers what was sent before its command, and all earlier commands."""
        self.open(message("a"), command("one"), message("b"), command("two"), is_v1=False)
        self.outgoing.put(message("c"))
        self.frames()
        self.outgoing.answered("two")
        self.assertEqual(self.outgoing.unanswered, 1)
        self.outgoing.answered("one")
        self.assertEqual(self.outgoing.lost(), 1)

    def test_afterwards(self) -> None:
        """What a classic server got is not followed when there is `wschat.v1` the next time."""
        self.open(message("a"), is_v1=False)
        self.frames()
        self.outgoing.lost()
        self.open(message("b"))
        self.assertEqual(self.follows(), [("b", None)])

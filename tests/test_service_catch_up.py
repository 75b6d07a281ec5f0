"""Tests of `wschat.service`: what users missed, restarts, and the drain."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from tests.support import (
    TEXT,
    Client,
    Limits,
    ServerTests,
    client_frame,
    submission,
)
from wschat import hub
from wschat.codes import CloseCode
from wschat.stream import PAGE_MESSAGES


def numbers(count: int, start: int = 0) -> list[str]:
    return [str(n) for n in range(start, start + count)]


class OfflineTests(ServerTests):
    """Messages for users who are off line."""

    def setUp(self) -> None:
        super().setUp()
        (self.alice,) = self.connect("alice")
        self.server.add_user("bob")

    def say(self, *contents: str, to: str = "bob") -> None:
        for content in contents:
            self.alice.say(to, content)

    def read_and_leave(self) -> list[str]:
        """What bob gets on connecting; he reads it all and says goodbye."""
        client = self.server.connect("bob")
        contents = client.contents()
        client.pong()
        client.goodbye()
        return contents

    def test_kept_in_order(self) -> None:
        """Direct messages and broadcasts come on connecting, in the order they were sent."""
        self.say("1")
        self.say("2", to="broadcast")
        self.say("3")
        self.assertEqual(self.read_and_leave(), ["1", "2", "3"])

    def test_once(self) -> None:
        """What was read does not come again."""
        self.say("1")
        self.read_and_leave()
        self.assertEqual(self.read_and_leave(), [])
        self.say("2")
        self.assertEqual(self.read_and_leave(), ["2"])

    def test_same_as_live(self) -> None:
        """A kept message is the same frame as the one that would have come at once."""
        live = self.server.connect("bob")
        self.alice.say("bob", "hi", signature="c2ln", encrypted_key="a2V5", encryption_nonce="bm8=")
        self.alice.say("broadcast", "all")
        texts = live.texts()
        self.assertEqual(len(texts), 2)
        live.wire.lose()
        self.assertEqual(self.server.connect("bob").texts(), texts)

    def test_broadcast_before_registration(self) -> None:
        """A broadcast that was sent before a user registered is not for them."""
        self.say("before", to="broadcast")
        self.server.add_user("charlie")
        self.say("after", to="broadcast")
        self.assertEqual(self.server.connect("charlie").contents(), ["after"])

    def test_nobody_else_gets_it_again(self) -> None:
        """What one user gets on connecting, others do not get again."""
        (charlie,) = self.connect("charlie")
        self.say("1", to="broadcast")
        self.assertEqual(charlie.contents(), ["1"])
        self.assertEqual(self.read_and_leave(), ["1"])
        self.assertEqual(charlie.contents(), [])

    def test_own_broadcasts(self) -> None:
        """Nobody gets their own broadcasts on connecting."""
        self.say("mine", to="broadcast")
        self.alice.wire.lose()
        self.assertEqual(self.server.connect("alice").messages(), [])

    def test_many(self) -> None:
        """More than a page comes whole, in order, each once, and then what is new."""
        count = 2 * PAGE_MESSAGES + 1
        self.say(*numbers(count))
        bob = self.server.connect("bob")
        self.say("new")
        self.assertEqual(bob.contents(), [*numbers(count), "new"])

    def test_just_a_page(self) -> None:
        """A page that is full to the last message is followed by nothing twice."""
        self.say(*numbers(PAGE_MESSAGES))
        bob = self.server.connect("bob")
        self.say("new")
        self.assertEqual(bob.contents(), [*numbers(PAGE_MESSAGES), "new"])


class SmallOutboxTests(ServerTests):
    """What was missed may be far more than an outbox holds."""

    limits = Limits(outbox_bytes=4096)

    def test_waits_for_the_reader(self) -> None:
        """It comes as fast as it is read, and nobody is too slow for it."""
        (alice,) = self.connect("alice")
        self.server.add_user("bob")
        contents = [f"{n:3}" * 100 for n in range(60)]
        for content in contents:
            alice.say("bob", content)
        bob = self.server.connect("bob", reading=False)
        seen: list[str] = []
        rounds = 0
        while len(seen) < 60 and rounds < 60:
            bob.wire.flow()
            bob.wire.stall()
            self.server.turn()
            seen += bob.contents()
            rounds += 1
        self.assertGreater(rounds, 5)
        self.assertEqual(seen, contents)
        self.assertIsNone(bob.closed_with())

    def test_leaves_meanwhile(self) -> None:
        """A reader who leaves in the middle gets the rest the next time, and no fault is logged."""
        (alice,) = self.connect("alice")
        self.server.add_user("bob")
        contents = [f"{n:3}" * 100 for n in range(30)]
        for content in contents:
            alice.say("bob", content)
        bob = self.server.connect("bob", reading=False)
        bob.wire.flow()
        bob.wire.stall()
        seen = bob.contents()
        self.assertLess(len(seen), 30)
        bob.pong()
        bob.wire.lose()
        self.server.turn()
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertEqual(self.server.connect("bob").contents(), contents[len(seen) :])


class MeanwhileTests(ServerTests):
    """Messages that come while a user catches up."""

    def setUp(self) -> None:
        super().setUp()
        (self.alice,) = self.connect("alice")
        self.server.add_user("bob")
        self.reader = self.server.store.reader
        self.writer = self.server.store.writer

    def say(self, *contents: str) -> None:
        for content in contents:
            self.alice.say("bob", content)

    def connect_slowly(self) -> Client:
        self.reader.held = True
        return self.server.connect("bob")

    def finish(self) -> None:
        """Let the store answer until nobody asks it any more."""
        self.reader.held = False
        while len(self.reader):
            self.reader.release()
        self.server.turn()

    def test_before_the_place_is_known(self) -> None:
        """What comes while the cursor is read is not lost and not doubled."""
        self.say("1")
        bob = self.connect_slowly()
        self.say("2")
        self.assertEqual(bob.messages(), [])
        self.finish()
        self.say("3")
        self.assertEqual(bob.contents(), ["1", "2", "3"])

    def test_while_the_page_is_read(self) -> None:
        """What comes after the page was read and before it arrives is held, and comes after it."""
        self.say("1")
        bob = self.connect_slowly()
        self.reader.release()  # the cursor
        self.reader.run()  # the page
        self.say("2", "3")
        self.assertEqual(bob.messages(), [])
        self.reader.report()
        self.server.turn()
        self.assertEqual(bob.contents(), ["1", "2", "3"])

    def test_in_the_page_and_held(self) -> None:
        """What is in the page and was delivered meanwhile comes once."""
        self.say("1")
        bob = self.connect_slowly()
        self.reader.release()
        self.say("2")  # delivered after the page was asked for, and read before it
        self.finish()
        self.say("3")
        self.assertEqual(bob.contents(), ["1", "2", "3"])

    def test_stored_but_not_reported(self) -> None:
        """What the page has and whose commit is reported only later comes once."""
        self.writer.held = True
        self.say("1")
        bob = self.connect_slowly()
        self.reader.release()
        self.writer.run()
        self.finish()
        self.writer.report()
        self.server.turn()
        self.assertEqual(bob.contents(), ["1"])

    def test_between_two_pages(self) -> None:
        """What comes between two pages comes once, in its place."""
        self.say(*numbers(PAGE_MESSAGES))
        bob = self.connect_slowly()
        self.reader.release()
        self.reader.release()
        self.say("new")
        self.finish()
        self.say("newer")
        self.assertEqual(bob.contents(), [*numbers(PAGE_MESSAGES), "new", "newer"])

    def test_more_than_is_held(self) -> None:
        """What is too much to hold is read from the store instead."""
        bob = self.connect_slowly()
        self.reader.release()
        self.reader.run()
        long = [number.rjust(hub.HELD_BYTES // 10) for number in numbers(11)]
        self.say(*long)
        self.reader.report()
        self.finish()
        self.say("new")
        self.assertEqual(bob.contents(), [*long, "new"])

    def test_just_what_is_held(self) -> None:
        """What can be held is held, and the store is not read again."""
        bob = self.connect_slowly()
        self.reader.release()
        self.reader.run()
        self.say(*numbers(300))
        self.reader.report()
        self.server.turn()
        self.assertEqual(len(self.reader), 0)
        self.assertEqual(bob.contents(), numbers(300))

    def test_gone_meanwhile(self) -> None:
        """Who goes while the store is read gets nothing and loses nothing."""
        self.say("1")
        bob = self.connect_slowly()
        bob.wire.lose()
        self.finish()
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertEqual(self.server.connect("bob").contents(), ["1"])

    def test_store_fails(self) -> None:
        """Who cannot be told what they missed is closed with 4004, and loses nothing."""
        self.say("1")
        bob = self.connect_slowly()
        self.reader.fail(OSError("disk gone"))
        self.server.turn()
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.assertEqual((bob.closed_with(), int(CloseCode.INTERNAL)), (4004, 4004))
        self.assertNotIn("disk", bob.close_reason)
        bob.goodbye(4004)
        self.reader.held = False
        self.assertEqual(self.server.connect("bob").contents(), ["1"])

    def test_an_error_does_not_wait(self) -> None:
        """What is not part of the stream does not wait for it."""
        bob = self.connect_slowly()
        bob.say("nobody", "hello?")
        (error,) = bob.messages()
        self.assertEqual(error["status"], "error")
        self.finish()


class PlaceTests(ServerTests):
    """Places in the stream: when they are saved, and what they save."""

    def test_saved_every_second(self) -> None:
        """A place is saved within a second, without any message, and once."""
        alice, bob = self.connect("alice", "bob")
        alice.say("bob", "1")
        bob.pong()
        calls = self.server.store.writer.calls
        self.server.advance(5)
        self.assertEqual(self.server.cursor("bob"), 1)
        self.assertEqual(self.server.store.writer.calls, calls + 1)

    def test_known_before_it_is_saved(self) -> None:
        """Who comes back before their place is saved does not get things again."""
        alice, bob = self.connect("alice", "bob")
        alice.say("bob", "1")
        bob.pong()
        bob.wire.lose()
        self.assertEqual(self.server.connect("bob").messages(), [])

    def test_known_while_it_is_saved(self) -> None:
        """Nor who comes back while it is being saved."""
        alice, bob = self.connect("alice", "bob")
        alice.say("bob", "1")
        bob.pong()
        self.server.store.writer.held = True
        self.server.advance(1)
        bob.wire.lose()
        again = self.server.connect("bob")
        self.server.store.writer.release()
        self.assertEqual(again.messages(), [])

    def test_store_fails(self) -> None:
        """A place that could not be saved is saved later."""
        alice, bob = self.connect("alice", "bob")
        alice.say("bob", "1")
        bob.pong()
        self.server.store.writer.held = True
        self.server.advance(1)
        self.server.store.writer.fail(OSError("disk full"))
        self.server.store.writer.held = False
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.server.advance(1)
        self.assertEqual(self.server.cursor("bob"), 1)

    def test_failure_does_not_set_back(self) -> None:
        """A save that failed does not undo what was confirmed meanwhile."""
        alice, bob = self.connect("alice", "bob")
        for content in ("1", "2"):
            alice.say("bob", content)
        bob.pong()
        self.server.store.writer.held = True
        self.server.advance(1)  # saves 1, and asks about 2
        bob.pong()
        self.server.store.writer.fail(OSError("disk full"))
        self.server.store.writer.held = False
        self.flushLoggedErrors(OSError)
        self.server.advance(1)
        self.assertEqual(self.server.cursor("bob"), 2)


class RestartTests(ServerTests):
    """A server that stops and starts again with the same database."""

    def test_nothing_comes_again(self) -> None:
        """After a clean stop, what was read does not come again, though no pong was sent."""
        alice, bob = self.connect("alice", "bob")
        alice.say("bob", "read")
        self.assertEqual(bob.contents(), ["read"])
        again = self.server.restart()
        self.assertEqual(again.connect("bob").messages(), [])

    def test_users_and_offline_messages_stay(self) -> None:
        """Users can connect again, and what they missed is there."""
        (alice,) = self.connect("alice")
        self.server.add_user("bob")
        alice.say("bob", "missed")
        again = self.server.restart()
        bob = again.connect("bob")
        self.assertEqual(bob.contents(), ["missed"])
        again.connect("alice").say("bob", "new")
        self.assertEqual([message["id"] for message in bob.messages()], [2])

    def test_tokens_stay_valid(self) -> None:
        """A token from before the restart still opens a WebSocket."""
        self.server.add_user("alice")
        token = self.server.token("alice")
        _, response = self.server.restart().upgrade(f"/ws?token={token}")
        self.assertEqual(response.status, 101)


class DrainTests(ServerTests):
    """Stopping: all that was received is stored, and every place saved."""

    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob = self.connect("alice", "bob")
        self.writer = self.server.store.writer

    def drain(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.server.chat.drain())

    def kept(self) -> list[str]:
        page = self.successResultOf(self.server.store.stream.page("bob", 0))
        return [message.content for message in page.messages]

    def test_idle(self) -> None:
        """With nothing to do it is over at once, and the timer is gone; twice is no error."""
        self.successResultOf(self.drain())
        self.successResultOf(self.drain())
        self.server.factory.connections.stop()
        self.assertEqual(self.server.clock.getDelayedCalls(), [])

    def test_waits_for_the_queue(self) -> None:
        """It waits for the commit under way and for the one after it."""
        self.writer.held = True
        for content in ("1", "2", "3"):
            self.alice.say("bob", content)
        draining = self.drain()
        self.writer.release()
        self.assertNoResult(draining)
        self.writer.release()
        self.successResultOf(draining)
        self.assertEqual(self.kept(), ["1", "2", "3"])

    def test_saves_places(self) -> None:
        """Places that were confirmed and not saved yet are saved."""
        self.alice.say("bob", "1")
        self.bob.pong()
        self.successResultOf(self.drain())
        self.assertEqual(self.server.cursor("bob"), 1)

    def test_saves_places_that_came_during_a_commit(self) -> None:
        """… even when they were confirmed while a commit was under way."""
        self.alice.say("bob", "1")
        self.writer.held = True
        self.alice.say("bob", "2")
        self.bob.pong()  # for 1, while 2 is being stored
        draining = self.drain()
        for _ in range(2):
            self.writer.release()
        self.successResultOf(draining)
        self.assertEqual(self.server.cursor("bob"), 1)

    def test_ends_when_the_store_fails(self) -> None:
        """A store that fails does not keep the server from stopping."""
        self.writer.held = True
        self.alice.say("bob", "1")
        self.bob.send_raw(client_frame(TEXT, submission("alice", "2")))
        draining = self.drain()
        for _ in range(5):
            self.writer.fail(OSError("disk full"))
        self.successResultOf(draining)
        self.assertTrue(self.flushLoggedErrors(OSError))

    def test_ends_catching_up(self) -> None:
        """Who is catching up is left at that, without a fault and without a close."""
        self.server.store.reader.held = True
        second = self.server.connect("bob")
        self.successResultOf(self.drain())
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertIsNone(second.closed_with())

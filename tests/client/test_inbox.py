"""Tests of `wschat.client.inbox`."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.client.test_handlers import make
from wschat.client.inbox import Inbox
from wschat.testing import MemoryClock


class InboxTests(SynchronousTestCase):
    """Messages for loops."""

    def setUp(self) -> None:
        self.clock = MemoryClock()
        self.inbox = Inbox(self.clock)

    def next(self, messages: Any) -> Deferred[Any]:
        return Deferred.fromCoroutine(messages.__anext__())

    def test_loop(self) -> None:
        """A message is done when the next one is asked for."""
        messages = self.inbox.reader()
        self.assertIs(aiter(messages), messages)
        one, two = make("1"), make("2")
        first = self.next(messages)
        self.assertNoResult(first)
        done = self.inbox.put(one)
        self.assertIs(self.successResultOf(first), one)
        self.assertNoResult(done)
        second = self.next(messages)
        self.successResultOf(done)
        self.inbox.put(two)
        self.assertIs(self.successResultOf(second), two)

    def test_left(self) -> None:
        """A loop that is left is done with what it had, and counts no more."""
        done = [self.inbox.put(make(text)) for text in ("1", "2")]
        messages = self.inbox.reader()
        self.successResultOf(self.next(messages))
        self.assertEqual((self.inbox.readers, len(self.inbox)), (1, 1))
        del messages
        self.clock.advance(0)
        self.successResultOf(done[0])
        self.assertNoResult(done[1])
        self.assertEqual((self.inbox.readers, len(self.inbox)), (0, 1))

    def test_several(self) -> None:
        """Loops share: each message goes to one of them."""
        loops = [self.inbox.reader(), self.inbox.reader()]
        waiting = [self.next(messages) for messages in loops]
        for text in ("1", "2"):
            self.inbox.put(make(text))
        self.assertEqual([self.successResultOf(each).text for each in waiting], ["1", "2"])

    def test_cancelled(self) -> None:
        """Who waits no more loses nothing."""
        messages = self.inbox.reader()
        waiting = self.next(messages)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.inbox.put(make("1"))
        self.assertEqual(self.successResultOf(self.next(messages)).text, "1")

    def test_close(self) -> None:
        """At the end what is in hand is done, and what waits is given up."""
        messages = self.inbox.reader()
        done = [self.inbox.put(make(text)) for text in ("1", "2")]
        self.successResultOf(self.next(messages))
        self.inbox.close()
        self.successResultOf(done[0])
        for given_up in (done[1], self.inbox.put(make("3"))):
            self.failureResultOf(given_up, CancelledError)
        self.failureResultOf(self.next(messages), StopAsyncIteration)

    def test_close_with_error(self) -> None:
        """Loops that wait are told why there is nothing more."""
        waiting = self.next(self.inbox.reader())
        self.inbox.close(ZeroDivisionError())
        self.failureResultOf(waiting, ZeroDivisionError)

"""Tests of `wschat.client.listener`: what a program gets when it listens to nothing."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from wschat import wire
from wschat.client import Counters, Heard, Listener, SessionOver, State
from wschat.client.accounts import ConnectionProblem, RequestRefused
from wschat.envelope import Authenticity


class ListenerTests(SynchronousTestCase):
    """A base class for listeners."""

    def test_nothing(self) -> None:
        """A listener that overrides nothing takes everything, and does nothing."""
        listener: Any = Listener()
        message = wire.Message("bob", "alice", "hello", "")
        for result in (
            listener.heard(Heard(message, "hello", Authenticity.NONE)),
            listener.refused("no", None),
            listener.refused("no", "a.client.id"),
            listener.changed(State.DISCONNECTED, ConnectionProblem("gone")),
            listener.stored("a.client.id", 7),
            listener.delivered("a.client.id", 7),
            listener.incomplete(),
            listener.presence_changed(["bob"], {"charlie": "2026-11-22T10:00:00Z"}),
            listener.key_changed("bob", "12345", "54321"),
            listener.key_rotated("bob", "12345", "54321"),
        ):
            self.assertIsNone(result)

    def test_verified(self) -> None:
        """A signature that is good, over whatever, verifies a message."""
        message = wire.Message("bob", "alice", "hello", "")
        verdicts = [Heard(message, "hello", worth).verified for worth in Authenticity]
        self.assertEqual(list(Authenticity), ["envelope", "content", "invalid", "none"])
        self.assertEqual(verdicts, [True, True, False, False])

    def test_over(self) -> None:
        """The end of a session is a refusal: to try again is no use."""
        self.assertIsInstance(SessionOver("gone"), RequestRefused)

    def test_states(self) -> None:
        """The states have the names of docs/protocol.md."""
        self.assertEqual(
            [state.value for state in State],
            ["disconnected", "connecting", "connected", "reconnecting"],
        )

    def test_counters(self) -> None:
        """Counters are compared by what they count."""
        self.assertEqual(Counters(1, 2, 3, 4), Counters(1, 2, refused=3, reconnects=4))

"""Tests of `wschat.client.session_events`."""

from __future__ import annotations

import typing

from twisted.trial.unittest import SynchronousTestCase

from wschat.client import session_events


class EventTests(SynchronousTestCase):
    """What a session tells."""

    def test_values(self) -> None:
        """Events that say the same are the same, and cannot be changed."""
        one, other = (session_events.Stored("m-1", 7) for _ in range(2))
        self.assertEqual(one, other)
        self.assertNotEqual(one, session_events.Delivered("m-1", 7))
        with self.assertRaises(AttributeError):
            one.id = 8  # type: ignore[misc]  # it has to fail

    def test_all(self) -> None:
        """`Event` is each of those that there are."""
        there = {
            value
            for value in vars(session_events).values()
            if isinstance(value, type) and value.__module__ == session_events.__name__
        }
        self.assertEqual(set(typing.get_args(session_events.Event)), there)

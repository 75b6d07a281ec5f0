"""Tests of `wschat.wiring`; that it all works together is what those of `wschat.server` show."""

from __future__ import annotations

from typing import cast

from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.support import NOW, SECRET, MemoryStore
from wschat import config
from wschat.testing import MemoryClock
from wschat.wiring import Parts


class PartsTests(SynchronousTestCase):
    """The parts of a server that does not listen."""

    def setUp(self) -> None:
        self.clock = MemoryClock()

    def parts(self, **options: str) -> Parts:
        kept = MemoryStore()
        return Parts(
            self.settings(**options),
            self.clock,
            lambda: NOW,
            kept,
            secret=SECRET,
            certificate_ends=lambda: NOW,
        )

    def settings(self, **options: str) -> config.Config:
        return config.load({name.replace("_", "-"): text for name, text in options.items()}, {})

    def test_nothing_runs(self) -> None:
        """The clock has nothing to do for it before it starts."""
        parts = self.parts()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        parts.start()
        self.assertNotEqual(self.clock.getDelayedCalls(), [])

    def test_limits(self) -> None:
        """Every site that was made learns of other limits."""
        parts = self.parts()
        sites = [parts.secure(), parts.plain(443)]
        now = self.settings(
            allowed_origins="https://chat.example",
            max_connections="5",
            max_connections_per_host="2",
        )
        parts.set_limits(now)
        for site in sites:
            self.assertEqual(site.allowed_origins, now.allowed_origins)
            self.assertEqual((site.places.everybody, site.places.each), (5, 2))

    def test_unknown_administrator(self) -> None:
        """An administrator who has no account yet is said, and no fault."""
        said: list[LogEvent] = []
        observer = cast(ILogObserver, said.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.parts(administrators="alice")
        self.assertIn("alice", [event.get("user_id") for event in said])

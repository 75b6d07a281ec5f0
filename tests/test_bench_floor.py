"""The benchmark's floors: what each does with a message."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.cache import Cache
from benchmarks.load import LOAD_SOURCES, Load
from benchmarks.servers import Floor, Running, StoringFloor
from tests.endtoend import need_compiler


class FloorTests(SynchronousTestCase):
    """Four connections that write to each other."""

    def setUp(self) -> None:
        need_compiler("openssl/ssl.h")
        self.directory = Path(self.mktemp()).absolute()
        self.cache = Cache(self.directory)
        self.processor = min(os.sched_getaffinity(0))

    def run_load(self, running: Running) -> dict[str, int]:
        """Broadcasts and direct messages of 100 bytes for a moment; the load's counts."""
        identities = self.directory / "identities"
        identities.write_text("".join(f"u{n} /?id=u{n}\n" for n in range(4)))
        load = Load(
            self.cache.native("load", *LOAD_SOURCES),
            self.processor,
            protocol="json",
            port=running.port,
            identities=identities,
            seconds=20,
            pids=[running.process.pid],
        )
        with load:
            self.assertEqual(load.command("connect", count=4)["made"], 4)
            sending = {"window": 2, "writers": 4, "writer_window": 2, "paired": 0}
            counts: dict[str, int] = load.command(
                "work", members=4, size=100, warm=0, seconds=0.2, **sending
            )
        faults = (counts["errors"], counts["lost"], counts["undelivered"])
        self.assertEqual(faults, (0, 0, 0), counts)
        counts["sent_directs"] += 4 * 2  # those that fill the windows are sent before it counts
        return counts

    def test_at_once(self) -> None:
        """Everything arrives, and nothing is stored."""
        floor = Floor(self.cache)
        floor.prepare(4)
        with floor.start(self.processor, self.directory) as running:
            counts = self.run_load(running)
        self.assertGreater(counts["sent_directs"], 0)
        self.assertGreater(counts["sent_broadcasts"], 0)
        self.assertEqual(list(self.directory.glob("messages.db*")), [])

    def test_stored(self) -> None:
        """Everything arrives, and every message is a row."""
        need_compiler("sqlite3.h")
        floor = StoringFloor(self.cache)
        floor.prepare(4)
        with floor.start(self.processor, self.directory) as running:
            counts = self.run_load(running)
        database = sqlite3.connect(self.directory / "messages.db")
        self.addCleanup(database.close)
        query = "SELECT topic = 'broadcast', count(*) FROM messages WHERE {} GROUP BY 1"
        whole = "length(content) = 100 AND sender IN ('u0', 'u1', 'u2', 'u3') AND topic != sender"
        rows = dict(database.execute(query.format(whole)).fetchall())
        self.assertEqual(rows, {1: counts["sent_broadcasts"], 0: counts["sent_directs"]})

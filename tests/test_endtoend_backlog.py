"""A long absence: a hundred thousand messages come in pages, and nobody else waits for them."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from contextlib import closing
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.utils import getProcessOutputAndValue

from scripts.processes import Server
from tests.endtoend import ROOT, WORD, Classic, EndToEnd, Socket

COUNT = 100_000


def store(server: Server, sender: str, recipient: str, count: int) -> None:
    """Put messages into a server's database, as if they had been sent."""
    path = server.data_dir / "wschat.sqlite3"
    row = (recipient, sender, "2026-11-22T10:00:00Z", f"{WORD} " + "." * 300, 1795341600.0)
    with closing(sqlite3.connect(path, timeout=30)) as database, database:
        database.executemany(
            "INSERT INTO messages (topic, sender, timestamp, content, stored_at)"
            " VALUES (?, ?, ?, ?, ?)",
            [row] * count,
        )


class BacklogTests(EndToEnd):
    """What a user missed is far more than anybody's outbox holds."""

    timeout = 180

    async def test_backlog(self) -> None:
        """
        All of it comes, in order, while another user's pings are answered.

        What a ping takes is printed; no ping takes a tenth of what the whole
        takes, which it would if the others had to wait for it.
        """
        server = await self.serve("--message-rate=100000", "--message-burst=100000")
        ann = await self.in_thread(Classic.entered, server, "ann")
        ben = await self.in_thread(Classic.entered, server, "ben")
        await self.in_thread(store, server, "ann", "ben", COUNT)
        token = await self.in_thread(ben.login)
        socket = await self.in_thread(ann.open)
        self.addCleanup(self.in_thread, socket.close)
        url = f"wss://localhost:{server.tls_port}/ws?token={token}"
        reading = getProcessOutputAndValue(
            sys.executable,
            ["-m", "tests.backlog", url, str(server.certificate)],
            {"PATH": os.environ["PATH"]},
            str(ROOT),
            reactor,
        )
        pings = await self.in_thread(self._ping, socket, reading)
        out, err, status = await reading
        self.assertEqual(status, 0, err)
        found = json.loads(out)
        self.assertEqual((found["count"], found["ascending"]), (COUNT, True))
        pings.sort()
        p99 = pings[len(pings) * 99 // 100]
        print(
            f"\n{COUNT:,} messages resumed in {found['seconds']:.1f} s; meanwhile {len(pings)} "
            f"pings, of which 99 % took up to {p99 * 1000:.0f} ms, the longest "
            f"{pings[-1] * 1000:.0f} ms"
        )
        self.assertGreater(len(pings), 50)
        self.assertLess(p99, found["seconds"] / 10)

    @staticmethod
    def _ping(socket: Socket, reading: Deferred[Any]) -> list[float]:
        """Ask, again and again, until the reader is done; how long each took, in seconds."""
        took = []
        while not reading.called:
            begun = time.monotonic()
            socket.ping()
            took.append(time.monotonic() - begun)
        return took


class BacklogUvloopTests(BacklogTests):
    """… on uvloop."""

    server_reactor = "uvloop"

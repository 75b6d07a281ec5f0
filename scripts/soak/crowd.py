"""
The crowd, a process: python -m scripts.soak.crowd PORT CERTIFICATE CLIENTS RATE.

It says `ready` when everybody is connected, then a line of counts at an
interval, and when its input ends it settles what is on its way and says
`counts` and a JSON object.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
from collections import Counter
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import uvloop

from scripts.soak.babble import babble
from scripts.soak.ledger import BROADCAST, Ledger
from scripts.soak.person import Account, Person, Place

#: One in so many messages is for everybody.
_BROADCASTS: Final = 100

#: How long somebody stays connected, on average, and how long somebody dawdles, in seconds.
_STAY: Final = 300.0
_DAWDLE: Final = (20.0, 60.0)

#: How many dawdle at once, and how many babble.
_DAWDLERS: Final = 5
_BABBLERS: Final = 10

#: How long everything that was said may take to arrive at the end, in seconds.
_SETTLING: Final = 120.0

#: How many are let in at once, at the beginning.
_ARRIVING: Final = 20

#: A text is as long as in the benchmarks.
_TEXT: Final = "x" * 300


class Crowd:
    """Everybody, and what they do."""

    def __init__(self, place: Place, clients: int, rate: float) -> None:
        self._place = place
        self._rate = rate
        self._ledger = Ledger()
        self._ending = asyncio.Event()
        self._counts: Counter[str] = Counter()
        self._accounts = [Account(place, f"user{number:05}") for number in range(clients)]
        self._people = [Person(account, self._ledger, self._ending) for account in self._accounts]
        self._works: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """All of it, until standard input ends."""
        babblers = [Account(self._place, f"babbler{number}") for number in range(_BABBLERS)]
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(8) as threads:
            making = [
                loop.run_in_executor(threads, account.make)
                for account in (*self._accounts, *babblers)
            ]
            await asyncio.gather(*making)
        await self._arrive()
        say("ready")
        self._start(self._talk(), self._dawdle(), self._report())
        self._start(*(babble(self._place, account, self._count) for account in babblers))
        await loop.run_in_executor(None, sys.stdin.read)
        await self._settle()

    def _start(self, *works: Coroutine[Any, Any, None]) -> None:
        self._works += map(asyncio.create_task, works)

    def _count(self, name: str) -> None:
        self._counts[name] += 1

    async def _arrive(self) -> None:
        """A few at a time, so that the beginning is no storm."""
        for first in range(0, len(self._people), _ARRIVING):
            arriving = self._people[first : first + _ARRIVING]
            self._start(*(person.live(self._leave) for person in arriving))
            while not all(person.connected for person in arriving):
                await asyncio.sleep(0.02)

    async def _leave(self) -> None:
        """Comes back when somebody has had enough; at the end nobody has."""
        staying = random.expovariate(1 / _STAY)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ending.wait(), staying)
            await asyncio.Event().wait()

    async def _talk(self) -> None:
        while not self._ending.is_set():
            await asyncio.sleep(random.expovariate(self._rate))
            speaker, listener = random.sample(self._people, 2)
            if speaker.socket is not None:
                to = BROADCAST if random.random() < 1 / _BROADCASTS else listener.name
                speaker.say(to, _TEXT)

    async def _dawdle(self) -> None:
        """Some demand much and read nothing, until the server has had enough of them."""
        while not self._ending.is_set():
            dawdlers = random.sample(self._people, min(_DAWDLERS, len(self._people)))
            for person in dawdlers:
                person.dawdling = True
            lasting = random.uniform(*_DAWDLE)
            while lasting > 0 and not self._ending.is_set():
                for person in dawdlers:
                    person.demand(40_000)
                await asyncio.sleep(0.25)
                lasting -= 0.25
            for person in dawdlers:
                person.dawdling = False
            self._counts["readers that dawdled"] += len(dawdlers)

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(30)
            there = sum(person.socket is not None for person in self._people)
            ledger = self._ledger
            say(f"{there:,} connected, {ledger.stored:,} stored, {ledger.heard:,} heard")

    async def _settle(self) -> None:
        """Everybody comes back, and hears what is left."""
        self._ending.set()
        names = [person.name for person in self._people]
        for _ in range(int(2 * _SETTLING)):
            unsettled = sum(len(person.unsettled) for person in self._people)
            lost = self._ledger.lost(names)
            if not unsettled and not lost:
                break
            await asyncio.sleep(0.5)
        self._counts["connections"] = sum(person.connected for person in self._people)
        told = {
            "stored": self._ledger.stored,
            "heard": self._ledger.heard,
            "repeated": self._ledger.repeated,
            "foreign": self._ledger.foreign,
            "lost": self._ledger.lost(names),
            "unsettled": sum(len(person.unsettled) for person in self._people),
            **self._counts,
        }
        for line in [fault for person in self._people for fault in person.faults][:20]:
            say(f"fault {line}")
        say(f"counts {json.dumps(told)}")


def say(text: str) -> None:
    print(text, flush=True)


async def main(port: str, certificate: str, clients: str, rate: str) -> None:
    crowd = Crowd(Place(int(port), certificate), int(clients), float(rate))
    await crowd.run()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))

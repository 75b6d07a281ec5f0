"""
One client: says something again and again, and writes down what it says and hears.

It is killed at any moment, and goes on from its journal: what has no receipt
is said again under the same client id, and what was heard is not asked for.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, react

from scripts.chaos.journal import Journal, Reader
from scripts.chaos.verdict import BROADCAST
from wschat.client import Client, Heard, Listener, Settings, State, keyring

#: How often the server is pinged, and how long it may take, in seconds: shorter than is usual.
KEEPALIVE = (1.5, 3.0)

#: What may have no answer before nothing more is said.
_UNSETTLED = 300

#: Of a hundred messages, how many are for everybody, and how many are long.
_BROADCASTS = 5
_LONG = 10
_LONG_BYTES = 20_000


def text_of(user_id: str, number: int) -> str:
    """What a user says as the n-th: the same, however often it is said."""
    padding = _LONG_BYTES if random.Random(f"{user_id} {number}").random() * 100 < _LONG else 100
    return f"{user_id} {number} " + "." * padding


class Talker(Listener):
    """What happens goes to the journal, before anything else happens."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def changed(self, state: State, error: Exception | None) -> None:
        if state is State.CONNECTED:
            self._journal.write("connected")
        print(state, error or "", flush=True)

    def heard(self, heard: Heard) -> None:
        sender, number, _ = (heard.text or f"{heard.message.sender} 0 ").split(" ", 2)
        self._journal.write("got", heard.message.id, sender, number)

    def stored(self, client_id: str, message_id: int) -> None:
        self._journal.write("stored", client_id, message_id)

    def refused(self, text: str, client_id: str | None) -> None:
        if client_id is not None:
            self._journal.write("refused", client_id, text.replace(" ", "_"))


def main() -> None:
    environ = os.environ
    settings = Settings.from_environ(environ)
    key, _ = keyring.own_key(settings)
    directory = Path(environ["CHAOS_DIRECTORY"])
    recipients = environ["CHAOS_RECIPIENTS"].split()
    rate = float(environ["CHAOS_RATE"])  # 0: only listen
    path = directory / f"{settings.user_id}.journal"
    record = Reader(path).read().record
    journal = Journal(path)

    async def talk(reactor: Any) -> None:
        client = Client(
            reactor,
            settings,
            key,
            Talker(journal),
            after=record.last_id,
            keepalive=KEEPALIVE,
        )
        client.startService()
        reactor.addSystemEventTrigger("before", "shutdown", client.stopService)
        for number in record.unsettled:
            client.send(record.sent[number], text_of(settings.user_id, number), str(number))
        said = len(record.sent)

        def say() -> None:
            nonlocal said
            talking = (directory / "talk").exists() and client.unsettled < _UNSETTLED
            if not (talking and client.connected):
                return
            said += 1
            everybody = random.random() * 100 < _BROADCASTS
            to = BROADCAST if everybody else random.choice(recipients)
            journal.write("sent", said, to)
            client.send(to, text_of(settings.user_id, said), str(said))

        if rate:
            saying = LoopingCall(say)
            saying.clock = reactor
            await saying.start(1 / rate)
        await Deferred()

    react(lambda reactor: Deferred.fromCoroutine(talk(reactor)))


if __name__ == "__main__":
    main()

"""
The automated client: what a terminal does in lines, and more by itself.

It says what it has done at an interval, answers programs that ask it
something, and stays when its input ends.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, NoReturn

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.task import LoopingCall
from zope.interface import implementer

from wschat.client.handlers import Filter, Handlers, Message, Threads
from wschat.client.listener import Heard
from wschat.client.program import open_streams, prepare, seconds
from wschat.client.session import QueueFull
from wschat.client.settings import Settings
from wschat.client.slash import metrics_line
from wschat.client.terminal import Terminal, run
from wschat.identity import PrivateKey

#: How often it says what it has done, in seconds.
METRICS_INTERVAL: Final = 30.0

#: Kinds of messages that are counted by name, of which so much; all others count as one.
_KINDS: Final = 20
_KIND_LENGTH: Final = 20

#: At the end: how long the server may take to store what is left, in seconds.
_GRACE: Final = 5.0


@implementer(IHalfCloseableProtocol)
class Automated(Terminal):
    """One user without a person."""

    def __init__(
        self, reactor: Any, settings: Settings, key: PrivateKey, interval: float = METRICS_INTERVAL
    ) -> None:
        super().__init__(reactor, settings, key)
        self._interval = interval
        self._telling = LoopingCall(self._tell_metrics)
        self._telling.clock = reactor
        self._kinds: Counter[str] = Counter()
        self._pool = Threads(reactor)
        self._handlers = Handlers(self._pool)
        self._handlers.add(self._count, Filter())
        self._handlers.add(self._answer_ping, Filter(of_type="ping", direct=True))
        self._handlers.add(self._answer_metrics, Filter(of_type="metrics", direct=True))

    # What happens.

    def connectionMade(self) -> None:
        super().connectionMade()
        self._telling.start(self._interval, now=False)

    def heard(self, heard: Heard) -> Deferred[None] | None:
        super().heard(heard)
        if heard.message.sender == self._settings.user_id:
            return None
        return self._handlers.handle(Message(heard, self._reply))

    def readConnectionLost(self) -> None:
        """Nobody types: it stays all the same."""
        rest = self.clearLineBuffer()
        if rest:
            self.lineReceived(rest)

    def interrupt(self) -> None:
        """It is to end: with what is left, if the server is there to take it."""
        if self._client.connected and self._client.unsettled and not self._ending:
            self._end()
            if self._away is None:
                self._away = self._reactor.callLater(_GRACE, self._give_up)
        else:
            super().interrupt()

    async def close(self) -> None:
        if self._telling.running:
            self._telling.stop()
        await super().close()
        self._pool.stop()

    # What it does by itself.

    def _tell_metrics(self) -> None:
        kinds = ", ".join(f"{kind} {number}" for kind, number in self._kinds.items())
        handled = f"; handled: {kinds}" if kinds else ""
        self._narrator.noted(f"metrics: {metrics_line(self._client.counters)}{handled}")

    def _reply(self, to: str, text: str) -> Deferred[None]:
        try:
            self._client.send(to, text)
        except (QueueFull, ValueError) as error:  # who asked for that has no say in how it ends
            self._narrator.noted(f"No answer to {to}: {error}")
        return succeed(None)

    async def _count(self, message: Message) -> None:
        kind = (message.type or "text")[:_KIND_LENGTH]
        known = kind in self._kinds or len(self._kinds) < _KINDS
        self._kinds[kind if known else "others"] += 1

    async def _answer_ping(self, message: Message) -> None:
        asked = message.content or {}
        await message.reply(json.dumps({"type": "pong", "id": asked.get("id")}))

    async def _answer_metrics(self, message: Message) -> None:
        asked, counted = message.content or {}, msgspec.structs.asdict(self._client.counters)
        report = {"type": "metrics_report", "id": asked.get("id"), **counted}
        await message.reply(json.dumps(report))


def run_automated(environ: Mapping[str, str]) -> NoReturn:
    """Be there until it is told to end; the exit status says how it went."""
    interval = seconds(environ, "WS_METRICS_INTERVAL", METRICS_INTERVAL)
    open_streams()
    settings, key = prepare(environ)
    run(lambda reactor: Automated(reactor, settings, key, interval))
